"""`make replay RUN=...`: recompute the decisions of a recorded run, without network access, and compare them."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import console
from scripts.cloud.tables import TableRow, show_table
from scripts.console import format_count
from trader import codec
from trader.alpha import loader
from trader.codec import decode, encode
from trader.deadline import Deadline
from trader.journal.base import JournalError
from trader.journal.record import VERSION, read_settings
from trader.logs import one_line
from trader.model import Code, Decision, Observation
from trader.progress import Progress, no_progress
from trader.settings import Settings
from trader.stages.pipeline import decide
from trader.stages.universe import top_performers
from trader.wiring import make_forecaster, open_journal

FORECAST_TOLERANCE = 1e-6
"""Relative tolerance for trend lines, whose last digits may differ on another machine. Decisions have no tolerance."""

DECIDED = {
    "insights": ("symbol", "direction"),
    "orders": ("client_order_id", "symbol", "side", "quantity", "stop_loss_usd", "take_profit_usd"),
    "denials": ("symbol", "code"),
}
"""Fields that must be identical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference between the record and the replay."""

    what: str
    recorded: str
    replayed: str


def main() -> None:
    """Load the record, decide again and compare; the exit code is 0 only if both agree."""
    with console.plain_errors():
        name, record = find(os.environ.get("RUN") or "latest", os.environ)
        with console.progress() as progress:
            found = compare(name, record, progress)
    if console.wants_json():
        console.print_json({"record": name, "agrees": not found, "differences": encode(found)})
    else:
        show(name, record, found)
    sys.exit(console.FAILED if found else console.USABLE)


def find(run: str, env: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """Return the record that RUN names: a file, an object in S3, the latest of the strategy's journal, or a slot in it.

    Raises UsageError if RUN is an address in S3 but not a record's, and JournalError if there is no such record.
    """
    if run.startswith("s3://"):
        return run, check_version(run, load_from_s3(run))
    if Path(run).is_file():
        try:
            return run, check_version(run, codec.parse_json(Path(run).read_text(encoding="utf-8")))
        except ValueError as error:
            raise JournalError(f"{run} is not JSON: {error}") from error
    settings = Settings.from_env({name: env[name] for name in ("JOURNAL", "STRATEGY") if name in env}, lambda _: {})
    journal = open_journal(settings.journal, settings.strategy)
    records = journal.list_records()
    names = [name for name in records if run == "latest" or run.removesuffix(".json") in name]
    if not names:
        where = f"the journal {settings.journal} of strategy {settings.strategy} has"
        if not records:
            raise JournalError(
                f"RUN={run}: {where} no such record, because it has none at all: make run makes one, and JOURNAL names "
                "another journal"
            )
        latest = Path(records[-1]).stem
        raise JournalError(
            f"RUN={run}: {where} no such record; set RUN to latest, a slot such as {latest}, a file, or "
            f"s3://BUCKET/{records[-1]}"
        )
    return names[-1], check_version(names[-1], journal.load(names[-1]))


def load_from_s3(address: str) -> Mapping[str, Any]:
    """Load the record at an address such as s3://BUCKET/runs/trend/2026-11-27/20261127T1530Z.json."""
    from scripts.cloud.aws import UsageError  # not at the top: it imports boto3, which other records do not need

    place, folder, name = address.partition("/runs/")
    strategy, _, rest = name.partition("/")
    if not (folder and strategy and rest.endswith(".json")) or place == "s3:/":
        raise UsageError(
            f"RUN={address}: must be the whole address of a record, such as "
            "s3://BUCKET/runs/trend/2026-11-27/20261127T1530Z.json; or set JOURNAL=s3://BUCKET, STRATEGY and RUN=latest"
        )
    return open_journal(place, strategy).load(f"runs/{name}")


def check_version(name: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record if this version can read it. Raises JournalError."""
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise JournalError(f"{name} is not a run's record of version {VERSION}")
    return record


def compare(name: str, record: Mapping[str, Any], progress: Progress = no_progress) -> list[Difference]:
    """Recompute the record and return the differences. Raises JournalError if it has no decision or is invalid."""
    try:
        if not record.get("observation") or not record.get("decision"):
            why = one_line(f"{record['report']['status']} {record['report']['detail']}")
            raise JournalError(f"{name} has no decision to recompute: {why}")
        return differences(record["decision"], replay(record, progress))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise JournalError(f"{name} is not a record of a run: {type(error).__name__}: {one_line(error)}") from error


def replay(record: Mapping[str, Any], progress: Progress = no_progress) -> Decision:
    """Decide again from the record's observation, without the symbols that it denied as OUT_OF_TIME."""
    settings = read_settings(record["settings"])
    observation = decode(Observation, record["observation"])
    late = {denial["symbol"] for denial in record["decision"]["denials"] if denial["code"] == Code.OUT_OF_TIME}
    chosen = {*top_performers(observation.ranking, settings.universe_size), *observation.positions}
    closes = {
        symbol: series for symbol, series in observation.closes.items() if symbol in chosen and symbol not in late
    }
    forecasts = make_forecaster(settings).forecast(closes, Deadline.never(), progress)
    return decide(observation, forecasts, loader.load(settings), settings)


def differences(recorded: Mapping[str, Any], replayed: Decision) -> list[Difference]:
    """Return all differences between the two decisions, except for denials as OUT_OF_TIME."""
    again = encode(replayed)
    found = []
    for part, names in DECIDED.items():
        before, after = ([tuple(each[name] for name in names) for each in side[part]] for side in (recorded, again))
        before = [each for each in before if Code.OUT_OF_TIME not in each]
        found += [Difference(what=part, recorded=text(each), replayed="") for each in before if each not in after]
        found += [Difference(what=part, recorded="", replayed=text(each)) for each in after if each not in before]
    trends = {each["symbol"]: each["trend_usd"] for each in again["forecasts"]}
    for each in recorded["forecasts"]:
        trend = trends.get(each["symbol"], math.nan)
        if not math.isclose(trend, each["trend_usd"], rel_tol=FORECAST_TOLERANCE):
            what = f"trend of {one_line(each['symbol'])}"
            found.append(Difference(what=what, recorded=text([each["trend_usd"]]), replayed=text([trend])))
    return found


def text(values: Sequence[object]) -> str:
    """Join the values on one line."""
    return " ".join(one_line(value) for value in values if value is not None)


def show(name: str, record: Mapping[str, Any], found: Sequence[Difference]) -> None:
    """Print the verdict, and a table of the differences."""
    decision, whose = record["decision"], f"{one_line(name)}: recomputed from its record"
    counts = ", ".join(format_count(len(decision[f"{noun}s"]), noun) for noun in ("forecast", "order", "denial"))
    if not found:
        console.OUT.print(f"{whose}, with the same result: {counts}.", style="green")
        return
    console.OUT.print(f"{whose}, with a DIFFERENT result:", style="bold red")
    rows = [TableRow(cells=(each.what, each.recorded, each.replayed)) for each in found]
    show_table(("What", "Recorded", "Replayed"), rows)
