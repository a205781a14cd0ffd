"""`make report [SINCE=90d]`: how the bot did, what it traded and why, what it holds, and what it left undone.

It reads the journal and the broker's orders, and changes nothing but its page. DEPLOYED=1 reports on a deployed
strategy.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from rich.padding import Padding
from rich.text import Text

from scripts import console
from scripts.cloud.logs import new_york
from scripts.console import format_count
from scripts.files import OUT
from scripts.owner import controls, figures, gap_table, page, retention
from scripts.owner.answer import MAX_SHOWN, Answer, list_rest, list_returns, make, sum_up, sum_up_trips
from scripts.owner.trips import Trip
from scripts.report import formatting
from scripts.report.console import table_of_holdings
from scripts.run.reconcile import inputs_of, local, read_deployed_settings, to_standard_error
from trader.codec import encode
from trader.model import NEW_YORK

SINCE = "90d"
PAGE = OUT / "report.html"


def main() -> None:
    """Print the report."""
    with console.plain_errors(interrupted="interrupted; nothing was changed"):
        to_standard_error()
        settings = read_deployed_settings(os.environ) if console.flag("DEPLOYED") else local(os.environ)
        inputs = inputs_of(settings, {**os.environ, "SINCE": os.environ.get("SINCE") or SINCE}, datetime.now(UTC))
        with console.progress() as progress:
            answer = make(
                inputs,
                os.environ.get("BENCHMARK", "").strip(),
                progress,
                refits=console.flag("FORECASTS"),
                trusts_rule=console.flag("RECORDED_RULE"),
            )
        kept = retention.find(settings)
    warning = kept.warn(inputs.now) if kept else ""
    if console.wants_json():
        console.print_json({**write_json(answer), "retention": warning})
    else:
        show(answer)
        if warning:
            console.OUT.print(Text(f"\n {warning}", style="yellow"), soft_wrap=True)
        if answer.runs.runs:
            page.write(answer, PAGE)
            console.OUT.print(Text(f"\n Page: {PAGE.as_posix()}", style="dim"), soft_wrap=True)
    if answer.gap and answer.gap.differences:
        sys.exit(console.FAILED)


# --- how it says it --------------------------------------------------------------------------------------------------


def write_json(answer: Answer) -> Mapping[str, object]:
    """Return the report as JSON."""
    curve, trades = answer.curve, answer.trades
    return {
        "strategy": answer.strategy,
        "since": encode(answer.since),
        "until": encode(answer.until),
        "runs": len(answer.runs.runs),
        "statuses": figures.count_statuses(answer.runs.runs),
        "unreadable": list(answer.runs.unreadable),
        "without_record": [encode(each) for each in answer.runs.without],
        "days_without_run": [each.isoformat() for each in figures.find_missed(answer.runs.runs)],
        "return_fraction": None if curve is None else curve.measure(),
        "returns": [
            {"span": span, "strategy_fraction": own, "benchmark_fraction": other}
            for span, own, other in list_returns(answer)
        ],
        "live_against_test": gap_table.write_json(answer),
        "benchmark": {"name": answer.compared.name, "problem": answer.compared.problem},
        "equity": [] if curve is None else [{**asdict(each), "day": each.day.isoformat()} for each in curve.days],
        "trips": None if trades is None else [write_trip(each) for each in trades.trips],
        "unmatched_sales": None if trades is None else [encode(each) for each in trades.unmatched],
        "problem": answer.problem,
        "held": [
            {
                **asdict(each),
                "gain_fraction": each.gain_fraction,
                "distance_fraction": each.distance_fraction,
                "bought_at": encode(answer.bought_at[each.symbol]) if each.symbol in answer.bought_at else None,
            }
            for each in answer.held
        ],
        "equality": answer.equality,
        "conclusion": controls.conclude(answer.group),
        "controls": [write_control(each) for each in answer.group],
        "refusals": figures.count_refusals(answer.runs.runs),
    }


def write_control(compared: controls.Comparison) -> Mapping[str, object]:
    """Return the bot beside a control as JSON; the bounds hold for the mean daily difference, at all times."""
    interval = compared.interval
    return {
        "control": compared.control,
        "name": compared.name,
        "bot_return_fraction": compared.bot_return,
        "control_return_fraction": compared.control_return,
        "bounds": None if interval is None else asdict(interval),
        "needed_sessions": compared.needed_sessions,
        "words": controls.judge(compared),
    }


def write_trip(trip: Trip) -> Mapping[str, object]:
    """Return a round trip as JSON."""
    return {
        "symbol": trip.symbol,
        "quantity": trip.quantity,
        "bought_at": encode(trip.bought.at),
        "bought_usd": trip.bought.price_usd,
        "bought_why": trip.bought.why,
        "sold_at": encode(trip.sold.at),
        "sold_usd": trip.sold.price_usd,
        "sold_why": trip.sold.why,
        "gain_usd": round(trip.gain_usd, 2),
        "gain_fraction": trip.gain_fraction,
    }


def show(answer: Answer) -> None:
    """Print the report: first how it does, then what it did."""
    out = console.OUT
    period = f"{new_york(answer.since)[:10]} to {new_york(answer.until)[:16]} New York"
    out.print(Text(f" {answer.strategy}, {period}\n", style="dim"), soft_wrap=True)
    if not (answer.runs.runs or answer.runs.unreadable):
        out.print(" No run on record in this time: make run makes one, SINCE=1y looks further back.")
        return
    out.print(Text(f" {sum_up(answer)}", style="bold"), soft_wrap=True)
    out.print()
    show_returns(answer)
    show_gap(answer)
    show_controls(answer)
    show_trades(answer)
    show_held(answer)
    show_rest(answer)


def show_returns(answer: Answer) -> None:
    """Print the returns of several spans."""
    returns = list_returns(answer)
    if not returns:
        return
    name = answer.compared.name or "Benchmark"
    table = console.table("Return", answer.strategy, name, numbers=[answer.strategy, name], whole=["Return"])
    for span, own, other in returns:
        table.add_row(span, formatting.percent(own), "" if other is None else formatting.percent(other))
    console.OUT.print(table)
    if answer.compared.problem:
        console.OUT.print(Text(f" {answer.compared.problem}", style="dim"), soft_wrap=True)
    console.OUT.print()


def show_gap(answer: Answer) -> None:
    """Print live against its test: what each cause makes of the gap, and the largest parts."""
    gap = answer.gap
    if gap:
        table = console.table("Live against the test", "USD", "Of equity", numbers=["USD", "Of equity"])
        rows = gap_table.list_rows(gap)
        for name, usd, fraction in rows:
            table.add_row(
                name,
                formatting.change(usd),
                gap_table.format_fraction(fraction),
                style="bold" if name in {rows[0][0], rows[-1][0]} else "",
            )
        console.OUT.print(table)
        for item in gap.items[: gap_table.MAX_ITEMS]:
            console.OUT.print(Text(f" {gap_table.describe_item(item)}", style="dim"), soft_wrap=True)
        console.OUT.print()
        if gap.differences:
            count = format_count(len(gap.differences), "decision")
            console.OUT.print(Text(f" {count} not as recorded:", style="bold red"), soft_wrap=True)
            for each in gap.differences[: gap_table.MAX_DIFFERENCES]:
                console.OUT.print(Text(f" {gap_table.describe_difference(each)}", style="red"), soft_wrap=True)
            console.OUT.print()
    for name, words in gap_table.list_notes(answer):
        console.OUT.print(console.label(f" {name}", words, width=12))
    console.OUT.print()


def show_controls(answer: Answer) -> None:
    """Print what accounts made of the same slots that know no better, and whether the bot is better than they are."""
    if not answer.group:
        return
    table = console.table("Control group", "Return", "The bot beside it", numbers=["Return"], whole=["Control group"])
    table.add_row("the bot, ideal fills", formatting.percent(answer.group[0].bot_return), "", style="bold")
    for each in answer.group:
        table.add_row(each.name, formatting.percent(each.control_return), controls.judge(each))
    console.OUT.print(table)
    console.OUT.print(Text(f" {controls.conclude(answer.group)}\n", style="dim"), soft_wrap=True)


def show_trades(answer: Answer) -> None:
    """Print the round trips, the latest last."""
    trades = answer.trades
    if trades is None:
        console.OUT.print(Text(f" The trades are not known: {answer.problem}\n", style="red"), soft_wrap=True)
        return
    if not trades.trips:
        console.OUT.print(" Nothing was bought and sold again in this time.\n")
    else:
        table = console.table(
            "Sold", "Symbol", "Shares", "Paid", "Got", "Gain", "USD", "Why",
            numbers=["Shares", "Paid", "Got", "Gain", "USD"], whole=["Sold", "Symbol", "Why"], padding=(0, 0, 0, 0),
        )  # fmt: skip
        for each in trades.trips[-MAX_SHOWN:]:
            table.add_row(
                f"{each.sold.at.astimezone(NEW_YORK):%Y-%m-%d}",
                each.symbol,
                formatting.quantity(each.quantity),
                formatting.usd(each.bought.price_usd),
                formatting.usd(each.sold.price_usd),
                formatting.percent(each.gain_fraction),
                formatting.change(each.gain_usd),
                f"{each.bought.why} → {each.sold.why}" if each.bought.why != "rule" else each.sold.why,
            )
        console.OUT.print(Padding(table, (0, 0, 0, 1), expand=False))
        console.OUT.print(Text(f" {sum_up_trips(trades.trips)}\n", style="dim"), soft_wrap=True)
    for fill in trades.unmatched:
        words = f"{formatting.quantity(fill.quantity)} {fill.symbol} sold on {new_york(fill.at)[:10]}"
        console.OUT.print(Text(f" {words}: bought before this time, or changed by a split", style="dim"))


def show_held(answer: Answer) -> None:
    """Print what the last run held."""
    if not answer.held:
        console.OUT.print(" Nothing is held, as the last run saw it.\n")
        return
    since = [answer.bought_at.get(each.symbol) for each in answer.held]
    first = {
        "Held since": [f"{each.astimezone(NEW_YORK):%Y-%m-%d}" if each else "earlier" for each in since],
        "Symbol": [each.symbol for each in answer.held],
    }
    console.OUT.print(table_of_holdings(first, answer.held, marks=True))
    console.OUT.print()


def show_rest(answer: Answer) -> None:
    """Print how the runs ended, what was refused, and what is missing."""
    for name, words in list_rest(answer):
        console.OUT.print(console.label(f" {name}", words, width=12))
