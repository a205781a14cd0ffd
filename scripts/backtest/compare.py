"""`make compare`: check that `make run` and the backtest make the same decisions on the same days.

One side runs lambda_function.run() at each bar, with the embedded broker, the price file and a journal, as `make run`
does. The other side is the backtest without costs, on closes only, with orders filled at the close that was used for
the decision, as in the embedded broker. The backtest reads the whole source once; each run reads the source's rows up
to its bar, on its own.
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from lambda_function import run
from scripts import console
from scripts.backtest import options, prices
from scripts.backtest.cutting import cuttable
from scripts.backtest.engine import backtest
from scripts.backtest.model import Bar, Options, Panel
from scripts.backtest.workers import pool
from scripts.console import format_count
from scripts.data import members
from scripts.run import replay
from trader import logs
from trader.codec import encode
from trader.model import NEW_YORK, Code, Mode
from trader.progress import Progress, no_progress
from trader.wiring import open_journal

BARS = 60
"""The number of bars compared if START is not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The comparison of one bar: how the run ended on both sides, what was compared, and all differences."""

    slot: datetime
    run: str
    backtest: str
    insights: int
    orders: int
    differences: tuple[replay.Difference, ...]


def main() -> None:
    """Compare both sides; exit with 0 only if there were decisions and all are the same."""
    with console.plain_errors("interrupted; there is no result"):
        chosen = options.from_env(os.environ)
        with console.progress() as progress:
            panel = prices.load(chosen, progress)
            days = compare(panel, prices.starting(panel, chosen, BARS) if chosen.start is None else chosen, progress)
    if console.wants_json():
        console.print_json(answer(days))
    else:
        show(days)
    sys.exit(console.USABLE if is_same(days) else console.FAILED)


def is_same(days: Sequence[Day]) -> bool:
    """Check that something was compared and nothing differs."""
    return any(each.insights for each in days) and not any(each.differences for each in days)


def answer(days: Sequence[Day]) -> dict[str, Any]:
    """Return the result as JSON-serializable data."""
    return {
        "days": len(days),
        "insights": sum(each.insights for each in days),
        "orders": sum(each.orders for each in days),
        "is_same": is_same(days),
        "differing": encode([each for each in days if each.differences]),
    }


def compare(panel: Panel, chosen: Options, progress: Progress = no_progress) -> list[Day]:
    """Compare both sides over the options' span, without costs and with a refit at every bar, as in a run."""
    same = replace(chosen, fills_at_close=True, commission_fraction=0.0, slippage_fraction=0.0, refit_every_bars=1)
    with pool(chosen.settings.engine) as executor:
        result = backtest(panel, same, executor=executor, progress=progress)
    if not result.is_complete:
        raise KeyboardInterrupt
    due = [bar for bar in result.bars if bar.status != Code.NOT_DUE]  # of which no run has a record
    with tempfile.TemporaryDirectory() as folder:
        records = list(runs(same, due, Path(folder), progress))
    return [_day(bar, record) for bar, record in zip(due, records, strict=True)]


def runs(chosen: Options, bars: Sequence[Bar], folder: Path, progress: Progress) -> Iterator[Mapping[str, Any]]:
    """Run the bot at each bar, as `make run AT=...` does, and yield the journal's records.

    Each run gets the source's own rows up to its bar and no later one, so that whatever the backtest's loading does
    with later rows is a difference.
    """
    env = environment(chosen, folder)
    journal = open_journal(env["JOURNAL"], env["STRATEGY"])
    logs.configure(logging.NullHandler())
    for number, bar in enumerate(bars, start=1):
        known = cuttable(chosen).settings_at(bar.time, folder)
        report = run({"time": bar.slot.isoformat()}, env=env | known, members=members.on)
        progress("runs of the bot", number, len(bars))
        yield journal.entry(bar.slot, is_dry=report["mode"] == Mode.DRY_RUN).load()


def environment(chosen: Options, folder: Path) -> dict[str, str]:
    """Return the settings as variables, with the account and journal as files in `folder`."""
    variables = {
        name.upper(): ",".join(value) if isinstance(value, list) else str(value)
        for name, value in chosen.settings.public().items()
    }
    return variables | {
        "JOURNAL": f"folder:{folder / 'journal'}",
        "ACCOUNT_FILE": str(folder / "account.json"),
        "STARTING_CASH_USD": repr(chosen.cash_usd),
    }


def _day(bar: Bar, record: Mapping[str, Any]) -> Day:
    """Compare one run: how it ended, the account at its start, and the decision to the last digit."""
    recorded, status = record["decision"], record["report"]["status"]
    decided = encode(bar.decision) if bar.decision else None
    found = []
    if bool(recorded) != bool(decided) or status != bar.status:
        found.append(replay.Difference(what="how it ended", recorded=status, replayed=bar.status))
    if recorded and decided and bar.decision:
        found += replay.differences(recorded, bar.decision)
        if not found and _text(recorded) != _text(decided):
            found.append(replay.Difference(what="the last digits of the decision", recorded="", replayed=""))
        found += _account(bar, record["observation"])
    return Day(
        slot=bar.slot,
        run=status,
        backtest=bar.status,
        insights=len(bar.decision.insights) if bar.decision else 0,
        orders=len(bar.decision.orders) if bar.decision else 0,
        differences=tuple(found),
    )


def _text(decision: Mapping[str, Any]) -> str:
    """Return a decision as text, to the last digit.

    It leaves out the corners of the trend lines, which a backtest does not keep, and the details of denials, which name
    the price source and so differ.
    """
    forecasts = [{**each, "line": []} for each in decision["forecasts"]]
    denials = [{**each, "detail": ""} for each in decision["denials"]]
    return json.dumps({**decision, "forecasts": forecasts, "denials": denials})


def _account(bar: Bar, observation: Mapping[str, Any]) -> Iterator[replay.Difference]:
    """Compare the account at the start of the run: cash and equity to within a cent, and every position."""
    for what, usd in (("cash_usd", bar.cash_usd), ("equity_usd", bar.equity_usd)):
        if abs(recorded := observation["account"][what] - usd) > 0.01:
            yield replay.Difference(what=what, recorded=f"{usd + recorded:,.2f}", replayed=f"{usd:,.2f}")
    held = {symbol: position["quantity"] for symbol, position in observation["positions"].items()}
    if held != dict(bar.positions):
        yield replay.Difference(what="positions", recorded=str(held), replayed=str(dict(bar.positions)))


def show(days: Sequence[Day]) -> None:
    """Print the verdict and the differences."""
    first, last = (f"{each.slot.astimezone(NEW_YORK):%Y-%m-%d}" for each in (days[0], days[-1]))
    insights, orders = sum(each.insights for each in days), sum(each.orders for each in days)
    counts = (
        f"{format_count(len(days), 'run')}, {first} to {last}, with "
        f"{format_count(insights, 'insight')} and {format_count(orders, 'order')}"
    )
    differing = [each for each in days if each.differences]
    if is_same(days):
        text = f"The same: {counts}. Every decision of the backtest matches that of make run to the last digit."
        console.OUT.print(text, style="green")
        return
    if not differing:
        text = (
            f"Nothing was compared: {counts}. The first run ended with {days[0].run}; choose a span with usable prices."
        )
        console.OUT.print(text, style="bold red")
        return
    console.OUT.print(f"NOT the same: {counts}; {len(differing)} runs differ.", style="bold red")
    table = Table("slot", "what", "make run", "backtest")
    for day in differing:
        for each in day.differences:
            table.add_row(f"{day.slot.astimezone(NEW_YORK):%Y-%m-%d %H:%M}", each.what, each.recorded, each.replayed)
    console.OUT.print(table)
