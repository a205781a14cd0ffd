"""What a report says: read from the journal, the broker's orders and a benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time

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
from scripts.run.reconcile import ReconcileInputs
from trader.journal.recovery import AFTER, BEFORE
from trader.logs import one_line, printable
from trader.model import NEW_YORK, BrokerError, PriceSourceName
from trader.progress import Progress
from trader.schedule import sessions
from trader.settings import Settings

MAX_SHOWN = 20
"""The most of a kind that the terminal shows; JSON has all."""

SPY = "SPY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What could have been bought instead: its name, and its closes by day; or why they are not known."""

    name: str
    closes_usd: Mapping[date, float]
    problem: str = ""

    def measure(self, before: date, until: date) -> float | None:
        """Return its return from one close to another; None if one of them is not known."""
        first, last = self.closes_usd.get(before), self.closes_usd.get(until)
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
    first = previous_session(days[0])
    listed = sessions.list_days(first, days[-1])
    bars = [datetime.combine(day, time(), NEW_YORK) for day in listed]
    try:
        found = benchmark.load(options, bars)
    except BacktestError as error:
        return Compared(name=name, closes_usd={}, problem=one_line(error))
    assert found is not None, "a benchmark is chosen"
    closes = dict(zip(listed, map(float, found.closes), strict=True))
    return Compared(name=found.name, closes_usd=closes)


def previous_session(day: date) -> date:
    """Return the trading day before a day."""
    return sessions.previous_close(datetime.combine(day, time(), NEW_YORK)).date()


def find_held(runs: Sequence[Seen]) -> Sequence[Holding]:
    """Return the holdings as the last run saw them that looked."""
    last = next((each for each in reversed(runs) if each.observed is not None), None)
    if last is None:
        return []
    return formatting.holdings({"observation": last.observed, "report": {"unprotected": last.unprotected}})


def list_returns(answer: Answer) -> list[tuple[str, float, float | None]]:
    """Return each span with the return of the strategy and, if it is known, of the benchmark."""
    curve = answer.curve
    if curve is None:
        return []
    days = [each.day for each in curve.days]
    spans = [(name, count, days[-count - 1]) for name, count in figures.SPANS.items() if count < len(days)]
    spans.append((f"since {days[0]:%-d %b %Y}", len(days), previous_session(days[0])))
    compared = answer.compared
    return [(name, curve.measure(count), compared.measure(before, days[-1])) for name, count, before in spans]


def sum_up(answer: Answer) -> str:
    """Return the answer in one sentence."""
    runs = format_count(len(answer.runs.runs), "run")
    if answer.curve is None:
        return f"{runs}, and none of them knew the equity"
    _, own, other = list_returns(answer)[-1]
    against = "" if other is None else f", the {answer.compared.name} {formatting.percent(other)}"
    days = format_count(len(answer.curve.days), "day")
    return f"{formatting.percent(own)} in {days} with {runs}{against}"


def sum_up_trips(trips: Sequence[Trip]) -> str:
    """Return the trips in one sentence."""
    gain_usd = sum(each.gain_usd for each in trips)
    won = sum(each.gain_usd > 0 for each in trips)
    counts = {why: sum(each.sold.why == why for each in trips) for why in dict.fromkeys(t.sold.why for t in trips)}
    sold = ", ".join(f"{count} by {why}" for why, count in counts.items()).replace("by by hand", "by hand")
    shown = f" (the last {MAX_SHOWN} are shown)" if len(trips) > MAX_SHOWN else ""
    return f"{format_count(len(trips), 'round trip')}{shown}: {won} gained; {formatting.change(gain_usd)} USD; {sold}"


def list_rest(answer: Answer) -> Sequence[tuple[str, str]]:
    """Return how the runs ended, what was refused, and what is missing, each with its name."""
    runs = answer.runs
    lines = [
        ("Runs", ", ".join(f"{count:,} {status}" for status, count in figures.count_statuses(runs.runs).items())),
        ("Refused", ", ".join(f"{count:,} {code}" for code, count in figures.count_refusals(runs.runs).items())),
        ("No record", ", ".join(new_york(each)[:16] for each in runs.without[:MAX_SHOWN])),
        ("No run", ", ".join(f"{each:%Y-%m-%d}" for each in figures.find_missed(runs.runs)[:MAX_SHOWN])),
        ("Unreadable", "; ".join(map(printable, runs.unreadable[:MAX_SHOWN]))),
    ]
    return [(name, words) for name, words in lines if words]
