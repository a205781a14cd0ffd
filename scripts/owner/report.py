"""`make report [SINCE=90d]`: how the bot did, what it traded and why, what it holds, and what it left undone.

It reads the journal and the broker's orders, and changes nothing. DEPLOYED=1 reports on a deployed strategy.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta

from rich.padding import Padding
from rich.text import Text

from scripts import console
from scripts.backtest import benchmark
from scripts.backtest.model import BacktestError, Options
from scripts.cloud.logs import new_york
from scripts.console import format_count
from scripts.owner import figures, records
from scripts.owner.figures import Curve
from scripts.owner.records import Records, Seen
from scripts.owner.trips import Trades, Trip, list_fills, match
from scripts.report import formatting
from scripts.report.formatting import Holding
from scripts.run.reconcile import ReconcileInputs, inputs_of, local, read_deployed_settings, to_standard_error
from trader.codec import encode
from trader.journal.recovery import AFTER, BEFORE
from trader.logs import one_line, printable
from trader.model import NEW_YORK, BrokerError, PriceSourceName
from trader.progress import Progress
from trader.schedule import sessions
from trader.settings import Settings

SINCE = "90d"
MAX_SHOWN = 20
"""The most round trips that the terminal shows; JSON has all."""

SPY = "SPY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What could have been bought instead: its name, and its closes by day; or why they are not known."""

    name: str
    closes_usd: Mapping[date, float]
    problem: str = ""

    def measure(self, days: Sequence[date]) -> float | None:
        """Return its return over days, from the close before the first of them; None if a close is not known."""
        before = previous_session(days[0])
        first, last = self.closes_usd.get(before), self.closes_usd.get(days[-1])
        return last / first - 1 if first and last else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All that a report says."""

    strategy: str
    since: datetime
    until: datetime
    runs: Records
    curve: Curve | None
    compared: Compared
    trades: Trades | None  # None if the broker's orders could not be read
    problem: str  # why not
    held: Sequence[Holding]
    bought_at: Mapping[str, datetime]


def main() -> None:
    """Print the report."""
    with console.plain_errors(interrupted="interrupted; nothing was changed"):
        to_standard_error()
        settings = read_deployed_settings(os.environ) if console.flag("DEPLOYED") else local(os.environ)
        inputs = inputs_of(settings, {**os.environ, "SINCE": os.environ.get("SINCE") or SINCE}, datetime.now(UTC))
        with console.progress() as progress:
            answer = make(inputs, os.environ.get("BENCHMARK", "").strip(), progress)
    if console.wants_json():
        console.print_json(write_json(answer))
    else:
        show(answer)


# --- what it says ----------------------------------------------------------------------------------------------------


def make(inputs: ReconcileInputs, named: str, progress: Progress) -> Answer:
    """Read the journal, the broker's orders and the benchmark. Raises JournalError if the journal cannot be read."""
    found = records.read(inputs.journal, inputs.since, progress)
    strategy = inputs.settings.strategy
    trades, problem = None, ""
    try:
        progress("the broker's orders", 0, 1)
        fills = list_fills(inputs.history.list_orders(inputs.since - BEFORE, inputs.now + AFTER), strategy)
        trades = match([each for each in fills if each.at >= inputs.since - BEFORE])
        progress("the broker's orders", 1, 1)
    except BrokerError as error:
        problem = one_line(error)
    curve = figures.draw_curve(found.runs)
    return Answer(
        strategy=strategy,
        since=inputs.since,
        until=inputs.now,
        runs=found,
        curve=curve,
        compared=compare(inputs.settings, named, [each.day for each in curve.days] if curve else []),
        trades=trades,
        problem=problem,
        held=find_held(found.runs),
        bought_at={each.symbol: each.at for each in reversed(trades.left)} if trades else {},
    )


def compare(settings: Settings, named: str, days: Sequence[date]) -> Compared:
    """Return the benchmark's closes on the days and on the one before them."""
    daily = replace(settings, bar_interval="1d")
    options = Options(settings=daily, benchmark=named)
    if not benchmark.is_chosen(options) and settings.price_sources != (PriceSourceName.FILE,):
        options = replace(options, benchmark=SPY)
    if not benchmark.is_chosen(options):
        how = "BENCHMARK=spy.csv names a price file with its closes, or a symbol of PRICE_FILE"
        return Compared(name="", closes_usd={}, problem=f"no benchmark: {how}")
    name = options.benchmark or "S&P 500"
    if not days:
        return Compared(name=name, closes_usd={}, problem="no day to compare")
    bars = [datetime.combine(day, datetime.min.time(), NEW_YORK) for day in (previous_session(days[0]), *days)]
    try:
        found = benchmark.load(options, bars)
    except BacktestError as error:
        return Compared(name=name, closes_usd={}, problem=one_line(error))
    assert found is not None, "a benchmark is chosen"
    closes = dict(zip((previous_session(days[0]), *days), map(float, found.closes), strict=True))
    return Compared(name=found.name, closes_usd=closes)


def previous_session(day: date) -> date:
    """Return the trading day before a day."""
    before = day - timedelta(days=1)
    while not sessions.session(before):
        before -= timedelta(days=1)
    return before


def find_held(runs: Sequence[Seen]) -> Sequence[Holding]:
    """Return the holdings as the last run saw them that looked."""
    last = next((each for each in reversed(runs) if each.observed is not None), None)
    if last is None:
        return []
    return formatting.holdings({"observation": last.observed, "report": {"unprotected": last.unprotected}})


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
        "refusals": figures.count_refusals(answer.runs.runs),
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


def list_returns(answer: Answer) -> list[tuple[str, float, float | None]]:
    """Return each span with the return of the strategy and, if it is known, of the benchmark."""
    curve = answer.curve
    if curve is None:
        return []
    days = [each.day for each in curve.days]
    spans = [(name, count) for name, count in figures.SPANS.items() if count < len(days)]
    found: list[tuple[str, float, float | None]] = [
        (name, curve.measure(count), answer.compared.measure(days[-count:])) for name, count in spans
    ]
    since = f"since {days[0]:%-d %b %Y}"
    return [*found, (since, curve.measure(), answer.compared.measure(days))]


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
    show_trades(answer)
    show_held(answer)
    show_rest(answer)


def sum_up(answer: Answer) -> str:
    """Return the answer in one sentence."""
    runs = format_count(len(answer.runs.runs), "run")
    if answer.curve is None:
        return f"{runs}, and none of them knew the equity"
    _, own, other = list_returns(answer)[-1]
    against = "" if other is None else f", the {answer.compared.name} {formatting.percent(other)}"
    days = format_count(len(answer.curve.days), "day")
    return f"{formatting.percent(own)} in {days} with {runs}{against}"


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


def sum_up_trips(trips: Sequence[Trip]) -> str:
    """Return the trips in one sentence."""
    gain_usd = sum(each.gain_usd for each in trips)
    won = sum(each.gain_usd > 0 for each in trips)
    counts = {why: sum(each.sold.why == why for each in trips) for why in dict.fromkeys(t.sold.why for t in trips)}
    sold = ", ".join(f"{count} by {why}" for why, count in counts.items()).replace("by by hand", "by hand")
    shown = f" (the last {MAX_SHOWN} are shown)" if len(trips) > MAX_SHOWN else ""
    return f"{format_count(len(trips), 'round trip')}{shown}: {won} gained; {formatting.change(gain_usd)} USD; {sold}"


def show_held(answer: Answer) -> None:
    """Print what the last run held."""
    if not answer.held:
        console.OUT.print(" Nothing is held, as the last run saw it.\n")
        return
    names = ("Held since", "Symbol", "Shares", "Paid", "Price", "Gain", "Stop", "To stop")
    table = console.table(*names, numbers=names[2:], whole=names[:2], padding=(0, 0, 0, 0))
    for each in answer.held:
        since = answer.bought_at.get(each.symbol)
        table.add_row(
            f"{since.astimezone(NEW_YORK):%Y-%m-%d}" if since else "earlier",
            each.symbol,
            formatting.quantity(each.quantity),
            "" if each.paid_usd is None else formatting.usd(each.paid_usd),
            formatting.usd(each.price_usd),
            "" if each.gain_fraction is None else formatting.percent(each.gain_fraction),
            "none" if each.stop_usd is None else formatting.usd(each.stop_usd),
            "" if each.distance_fraction is None else formatting.percent(each.distance_fraction),
            style="bold red" if each.is_named else "",
        )
    console.OUT.print(Padding(table, (0, 0, 0, 1), expand=False))
    console.OUT.print()


def show_rest(answer: Answer) -> None:
    """Print how the runs ended, what was refused, and what is missing."""
    runs = answer.runs
    lines = [
        ("Runs", ", ".join(f"{count:,} {status}" for status, count in figures.count_statuses(runs.runs).items())),
        ("Refused", ", ".join(f"{count:,} {code}" for code, count in figures.count_refusals(runs.runs).items())),
        ("No record", ", ".join(new_york(each)[:16] for each in runs.without[:MAX_SHOWN])),
        ("No run", ", ".join(f"{each:%Y-%m-%d}" for each in figures.find_missed(runs.runs)[:MAX_SHOWN])),
        ("Unreadable", "; ".join(map(printable, runs.unreadable[:MAX_SHOWN]))),
    ]
    for name, words in lines:
        if words:
            console.OUT.print(console.label(f" {name}", words, width=12))
