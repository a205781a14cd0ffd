"""What a report says: read from the journal, the broker's orders and a benchmark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time

from scripts.backtest import benchmark
from scripts.backtest.model import BacktestError, Options
from scripts.cloud.logs import new_york
from scripts.console import format_count
from scripts.owner import books, controls, figures, records
from scripts.owner.figures import Curve
from scripts.owner.gap import Gap, split
from scripts.owner.live import join_orders
from scripts.owner.records import Records, Seen
from scripts.owner.tape import Step
from scripts.owner.trips import Trades, Trip, match
from scripts.report import formatting
from scripts.report.formatting import Holding
from scripts.run.reconcile import ReconcileInputs
from trader.audit.fills import list_fills
from trader.broker.base import OrderId
from trader.deadline import Deadline
from trader.digest.day import count_streak, read_history
from trader.journal.base import JournalError
from trader.journal.entry import Journal
from trader.journal.record import read_settings
from trader.journal.recovery import AFTER, BEFORE
from trader.logs import one_line, printable
from trader.model import NEW_YORK, BrokerError, Engine, Order, PriceSourceName
from trader.progress import Progress
from trader.schedule import sessions
from trader.settings import Settings
from trader.wiring import make_forecaster

MAX_SHOWN = 20
"""The most of a kind that the terminal shows; JSON has all."""

SPY = "SPY"

ACCOUNT = ("broker", "account_file", "apca_api_base_url")
"""The settings that tell one account from another."""

MAX_FITTED: Mapping[Engine, int] = {Engine.PROPHET: 100, Engine.MAP: 10_000}
"""The most forecasts that are fitted for missed slots without being asked for: what takes a few seconds."""


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
    gap: Gap | None = None  # live against its test; None if there are not two looks at the account
    gap_notes: Sequence[str] = ()  # what is not known of it
    equality: str = ""  # what the last digest says of deciding the records again; empty if there is none
    group: Sequence[controls.Comparison] = ()  # the bot's test beside accounts that know no better


@records.without_collection()
def make(
    inputs: ReconcileInputs, named: str, progress: Progress, *, refits: bool = False, trusts_rule: bool = False
) -> Answer:
    """Read the journal, the broker's orders and the benchmark. Raises JournalError if the journal cannot be read.

    `refits` fits every recorded forecast again, and `trusts_rule` runs an own rule as the records have it.
    """
    found = records.read(inputs.journal, inputs.since, progress, trusts_rule=trusts_rule)
    strategy = inputs.settings.strategy
    trades, orders, problem, forgotten = None, None, "", ""
    try:
        progress("the broker's orders", 0, 1)
        orders = inputs.history.list_orders(inputs.since - BEFORE, inputs.now + AFTER)
        forgotten = count_forgotten(orders, found.steps, inputs.since)
        fills = list_fills(join_orders(orders, found.steps), strategy)
        trades = match([each for each in fills if each.at >= inputs.since - BEFORE])
        progress("the broker's orders", 1, 1)
    except BrokerError as error:
        problem = one_line(error)
    curve = figures.draw_curve(found.runs)
    known, unknown = books.read(inputs.history, orders, inputs.since)
    steps, note = keep_account(found.steps)
    gap = split(
        steps,
        found.without,
        known,
        strategy,
        Fitting(refits=refits),
        refits=refits,
        trusts_rule=trusts_rule,
        again=found.again,
        unread=found.unread,
        progress=progress,
    )
    compared = compare(inputs.settings, named, [each.day for each in curve.days] if curve else [])
    return Answer(
        strategy=strategy,
        since=inputs.since,
        until=inputs.now,
        runs=found,
        curve=curve,
        compared=compared,
        equality=read_equality(inputs.journal),
        group=list(compare_controls(steps, strategy, compared)),
        trades=trades,
        problem=problem,
        held=find_held(found.runs),
        bought_at={each.symbol: each.at for each in reversed(trades.left)} if trades else {},
        gap=gap,
        gap_notes=[each for each in (note, forgotten, unknown, *found.untested, *(gap.notes if gap else ())) if each],
    )


def count_forgotten(booked: Sequence[Order], steps: Sequence[Step], since: datetime) -> str:
    """Say how many filled orders of the period's records the broker no longer has; empty if it has all of them."""
    there = {each.client_order_id for each in booked}
    filled = {
        each.client_order_id
        for step in steps
        for each in step.placed
        if each.filled_quantity and (parts := OrderId.parse(each.client_order_id)) and parts.slot >= since
    }
    if not (gone := len(filled - there)):
        return ""
    return (
        f"The broker's books lack {gone:,} of {format_count(len(filled), 'filled order')} on record: these are taken "
        "from the records, and what their stops and targets sold is not known"
    )


def compare_controls(steps: Sequence[Step], strategy: str, compared: Compared) -> Iterator[controls.Comparison]:
    """Yield the bot's test beside each control, and beside the benchmark, as far as they can be compared."""
    courses = controls.run(steps, strategy)
    bot = courses.pop(controls.Control.BOT, None)
    if bot is None:
        return
    for control, course in courses.items():
        if found := controls.compare(control, str(control), bot, course):
            yield found
    days = controls.last_of_days(bot)
    if found := controls.compare_days(controls.Control.BENCHMARK, compared.name, days, compared.closes_usd):
        yield found


def read_equality(journal: Journal) -> str:
    """Return for how many sessions in a row the digests found each decision the same; empty without a digest."""
    try:
        names = journal.store.names(f"digests/{journal.strategy}/")
        history = read_history(journal.load(names[-1])) if names else []
    except JournalError as error:
        return one_line(error)
    if not history:
        return ""
    streak = format_count(count_streak(history), "session")
    return f"{streak} in a row with each decision the same when decided again, as of {history[-1].day}"


def keep_account(steps: Sequence[Step]) -> tuple[Sequence[Step], str]:
    """Return the steps since the account last changed, and when that was; empty if it did not."""
    accounts = [tuple(step.settings.get(name) for name in ACCOUNT) for step in steps]
    for number in range(len(steps) - 1, 0, -1):
        if steps[number].settings and steps[number - 1].settings and accounts[number] != accounts[number - 1]:
            at = new_york(steps[number].slot)[:16]
            return steps[number:], f"The account has changed: the test begins with the new one, on {at}"
    return steps, ""


class Fitting:
    """Fits forecasts to what a step holds: for slots that were missed not more than MAX_FITTED, unless `refits`."""

    def __init__(self, *, refits: bool) -> None:
        self._refits = refits
        self._left = dict(MAX_FITTED)

    def __call__(self, step: Step) -> Step:
        """Return the step with its forecasts, or with why it has none."""
        try:
            settings = read_settings(step.settings)
            closes = {symbol: bars.to_series(symbol) for symbol, bars in step.bars.items()}
            if not step.forecasts:  # of a slot that was missed
                self._left[settings.engine] -= len(closes)
                if self._left[settings.engine] < 0 and not self._refits:
                    return replace(step, unknown="no forecast of it is on record: FORECASTS=1 fits them, which is slow")
            made = make_forecaster(settings).forecast(closes, Deadline.never())
        except (ValueError, TypeError, AttributeError) as error:
            return replace(step, unknown=one_line(error))
        return replace(step, forecasts={each.symbol: each for each in made.forecasts})


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
    spans = [*figures.list_spans(days), (f"since {days[0]:%-d %b %Y}", len(days), previous_session(days[0]))]
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
        ("Equality", answer.equality),
        ("Runs", ", ".join(f"{count:,} {status}" for status, count in figures.count_statuses(runs.runs).items())),
        ("Refused", ", ".join(f"{count:,} {code}" for code, count in figures.count_refusals(runs.runs).items())),
        ("No record", ", ".join(new_york(each)[:16] for each in runs.without[:MAX_SHOWN])),
        ("No run", ", ".join(f"{each:%Y-%m-%d}" for each in figures.find_missed(runs.runs)[:MAX_SHOWN])),
        ("Unreadable", "; ".join(map(printable, runs.unreadable[:MAX_SHOWN]))),
    ]
    return [(name, words) for name, words in lines if words]
