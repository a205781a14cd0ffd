"""One digest, from its event to its message: read the day, decide it again, keep it, and send it once.

digests/STRATEGY/2026-11-27.json   the digest of a day; the run that creates it is the one that sends it

It only reads at the broker, and touches no claim, record or order. Whatever goes wrong in it is of no consequence for
the runs that trade; the alarm for silence tells that there was no digest.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol
from uuid import uuid4

import pandas as pd

from trader import codec
from trader.app import Invocation
from trader.audit.fills import Fill, list_fills
from trader.broker.base import OrderHistory
from trader.digest import equality, text
from trader.digest.day import (
    MAX_HISTORY,
    SPANS,
    Day,
    Runs,
    count_silent,
    measure_growth,
    measure_span,
    read_history,
    summarize,
)
from trader.digest.text import Digest
from trader.forecasting.base import Forecaster
from trader.journal.base import JournalError
from trader.journal.entry import Journal
from trader.logs import one_line
from trader.messages.base import Channel, Message
from trader.messages.sending import deliver
from trader.model import NEW_YORK, BrokerError, Closes, Json, Mode, Side
from trader.prices.base import PriceSourceError
from trader.problems import measure_fall
from trader.schedule import sessions
from trader.schedule.base import EventError
from trader.schedule.slot import event_time, is_near
from trader.settings import Settings

LOG = logging.getLogger("trader")

AT = time(16, 15)
"""When the digest is due in New York. Its rule fires at two hours in UTC: one is right in summer, one in winter."""

DRY = "-dry-run.json"
"""How the name of a dry run's record ends."""

LOOK_BACK = timedelta(days=30)
"""How far back a buy may be whose stop or target was filled today. An older one is not named; make report has it."""

SEND_TIME_S = 30.0
"""What is left of the function's time for sending, however long it takes to decide the day again."""


class Adapters(Protocol):
    """A factory for the parts that the settings select; the module trader.wiring is one."""

    def read_settings(self, env: Mapping[str, str]) -> Settings:
        """Return the settings with their secrets. Raises SettingsError, or botocore's errors if AWS fails."""

    def open_journal(self, location: str, strategy: str) -> Journal:
        """Open a strategy's journal at `location`, which is spelled as in JOURNAL."""

    def make_order_history(self, settings: Settings, now: datetime) -> OrderHistory:
        """Return the broker, for reading orders only."""

    def make_forecaster(self, settings: Settings) -> Forecaster:
        """Return what fits the trend lines again."""

    def make_channels(self, settings: Settings) -> Sequence[Channel]:
        """Return the channels that messages to the owner go through; none if no address is set."""

    def read_daily_closes(self, symbol: str, settings: Settings, invocation: Invocation) -> Closes | None:
        """Return a symbol's daily closes of the last weeks; None if the sources have none of it."""

    def read_halt_reason(self, settings: Settings) -> str:
        """Return why trading is halted; empty if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a digest: why there was none to send, or the message and whether a channel took it."""

    status: str  # SENT, NOT_SENT, ALREADY_SENT, NOT_DUE, NO_SESSION; of a test message NO_ADDRESS, too
    strategy: str
    day: str
    message: Message | None = None


def run(invocation: Invocation, adapters: Adapters) -> Done:
    """Make the digest of the event's day, keep it and send it, unless that has been done, or it is not due."""
    settings = adapters.read_settings(invocation.env)
    now = event_time(invocation.event) or invocation.clock()
    day = now.astimezone(NEW_YORK).date()
    if event_time(invocation.event) and not is_near(now, AT):
        return Done(status="NOT_DUE", strategy=settings.strategy, day=day.isoformat())
    if sessions.session(day) is None:
        log(settings.strategy, day, None)  # the function is alive, and there is nothing to tell
        return Done(status="NO_SESSION", strategy=settings.strategy, day=day.isoformat())
    journal, name = adapters.open_journal(settings.journal, settings.strategy), name_of(settings.strategy, day)
    if journal.store.read(name) is not None:  # before the day is decided again, which takes minutes
        return Done(status="ALREADY_SENT", strategy=settings.strategy, day=day.isoformat())
    digest = make(invocation, settings, adapters, day)
    message = text.write(digest)
    is_first = journal.store.create(name, to_text(digest, message))
    log(settings.strategy, day, digest)
    if not is_first:
        return Done(status="ALREADY_SENT", strategy=settings.strategy, day=day.isoformat(), message=message)
    channels = adapters.make_channels(settings)
    is_sent = bool(channels) and deliver(channels, message, settings.strategy, invocation.deadline)
    status = "SENT" if is_sent else "NOT_SENT"
    return Done(status=status, strategy=settings.strategy, day=day.isoformat(), message=message)


def make(invocation: Invocation, settings: Settings, adapters: Adapters, day: date) -> Digest:
    """Make the digest of a trading day, without keeping or sending it."""
    journal = adapters.open_journal(settings.journal, settings.strategy)
    names = journal.store.names(f"runs/{settings.strategy}/{day}/")
    is_dry = settings.mode is Mode.DRY_RUN
    kept = [name for name in names if name.endswith(".json") and name.endswith(DRY) == is_dry]
    records = [(name, read_record(journal, name)) for name in kept]
    runs = summarize(records)
    benchmark, benchmark_problem = read_benchmark(settings, invocation, adapters, day)
    fills, fills_problem = read_fills(settings, invocation, adapters, day, runs)
    before, seen_others = read_before(journal, settings, day)
    halt_reason, unfinished = adapters.read_halt_reason(settings), list_unfinished(journal, invocation.clock(), day)
    # Last, because it takes what time there is.
    compared = equality.compare(records, invocation.deadline.before(SEND_TIME_S), adapters.make_forecaster)
    this = Day(
        day=day.isoformat(),
        equity_usd=runs.equity_usd,
        growth=measure_growth(runs, before[-1] if before else None),
        healthy_runs=runs.healthy,
        is_equal=compared.is_equal,
        watched=tuple(sorted(settings.watch)),
    )
    history = [*before, this]
    silent = count_silent(history)
    return Digest(
        strategy=settings.strategy,
        mode=settings.mode.value,
        day=day,
        runs=runs,
        history=history,
        benchmark=benchmark,
        benchmark_problem=benchmark_problem,
        fills=fills,
        fills_problem=fills_problem,
        halt_reason=halt_reason,
        unfinished=unfinished,
        equality=compared,
        silent_sessions=silent if settings.silent_sessions and silent >= settings.silent_sessions else 0,
        silent_strategies=find_silent(settings, before, seen_others),
        next_run=find_next_run(settings, day),
    )


# --- what it reads ---------------------------------------------------------------------------------------------------


def name_of(strategy: str, day: date) -> str:
    """Return the name of a day's digest in the journal."""
    return f"digests/{strategy}/{day}.json"


def read_record(journal: Journal, name: str) -> Json | None:
    """Return a record; None if it cannot be read, or is none."""
    try:
        record = journal.load(name)
    except (JournalError, ValueError) as error:
        LOG.warning("a record cannot be read", extra={"name_of_record": name, "error": one_line(error)})
        return None
    return record if isinstance(record, dict) else None


def list_unfinished(journal: Journal, now: datetime, day: date) -> list[datetime]:
    """Return the day's slots that were claimed and have no record, though their runs have certainly ended."""
    back = now - datetime.combine(day, time(), NEW_YORK)
    return [claim.slot for claim in journal.list_unfinished(now, back) if claim.is_over(now)]


def read_before(journal: Journal, settings: Settings, day: date) -> tuple[list[Day], set[str]]:
    """Return the days before, from the last digest, and the other strategies that had a digest on the session before.

    A day without a digest is missing in the history; what it was is not guessed.
    """
    previous = sessions.previous_close(datetime.combine(day, time(), NEW_YORK)).date()
    names = journal.store.names(f"digests/{settings.strategy}/")
    earlier = [name for name in names if name < name_of(settings.strategy, day)]
    history = read_history(read_record(journal, earlier[-1]) or {}) if earlier else []
    others = {name for name in settings.watch if journal.store.read(name_of(name, previous)) is not None}
    return fill_gaps(history, day), others


def fill_gaps(history: Sequence[Day], day: date) -> list[Day]:
    """Return the days before `day`, with the sessions that had no digest as days of which nothing is known."""
    if not history:
        return []
    known = {each.day: each for each in history}
    first = max(date.fromisoformat(history[0].day), day - timedelta(days=2 * MAX_HISTORY))
    listed = sessions.list_days(first, day - timedelta(days=1))
    return [known.get(str(each)) or Day(day=str(each)) for each in listed]


def find_silent(settings: Settings, before: Sequence[Day], seen: set[str]) -> list[str]:
    """Return the other strategies that had no digest on the session before, if it is this one that tells.

    The first of those that had one tells. What was not watched then, such as a strategy that is new, is not silent.
    """
    if not before or min({settings.strategy, *seen}) != settings.strategy:
        return []
    return sorted(set(settings.watch) & set(before[-1].watched) - seen)


def read_benchmark(
    settings: Settings, invocation: Invocation, adapters: Adapters, day: date
) -> tuple[dict[str, float], str]:
    """Return SPY's return over each span up to the day, and why it is not known."""
    try:
        closes = adapters.read_daily_closes(text.BENCHMARK, settings, invocation)
    except (PriceSourceError, BrokerError) as error:
        return {}, one_line(error)
    if closes is None:
        return {}, "the price sources have none of it"
    usd = dict(zip(pd.DatetimeIndex(closes.index).tz_convert(NEW_YORK).date, closes.tolist(), strict=True))
    days = [each for each in sorted(usd) if each <= day]
    if not days or days[-1] != day:
        return {}, f"there is no price of {day} yet"
    found = {name: usd[day] / usd[days[-count - 1]] - 1 for name, count in SPANS.items() if count < len(days)}
    return found, ""


def read_fills(
    settings: Settings, invocation: Invocation, adapters: Adapters, day: date, runs: Runs
) -> tuple[list[tuple[Fill, float | None]], str]:
    """Return the day's fills, each sale with its gain in USD if the records have what was paid; and why not."""
    begin = datetime.combine(day, time(), NEW_YORK)
    end = min(begin + timedelta(days=1), max(invocation.clock(), begin))
    try:
        history = adapters.make_order_history(settings, end)
        # Stops and targets that were filled today may belong to buys of weeks ago.
        orders = history.list_orders(begin - LOOK_BACK, end)
    except (BrokerError, JournalError) as error:
        return [], one_line(error)
    paid_usd = dict(runs.paid_usd)
    found: list[tuple[Fill, float | None]] = []
    for fill in list_fills(orders, settings.strategy):  # oldest first
        if fill.side is Side.BUY:
            paid_usd.setdefault(fill.symbol, fill.price_usd)
        if begin <= fill.at < begin + timedelta(days=1):
            found.append((fill, measure_gain(fill, paid_usd.get(fill.symbol))))
        if fill.side is Side.SELL and fill.at < begin and fill.symbol not in runs.paid_usd:
            paid_usd.pop(fill.symbol, None)
    return found, ""


def measure_gain(fill: Fill, paid_usd: float | None) -> float | None:
    """Return the gain of a sale in USD; None for a buy, and if it is not known what was paid."""
    return None if fill.side is Side.BUY or paid_usd is None else fill.quantity * (fill.price_usd - paid_usd)


def find_next_run(settings: Settings, day: date) -> datetime:
    """Return the beginning of the next session, or the time of its only run."""
    opening = sessions.next_open(datetime.combine(day, time(23), NEW_YORK))
    if not settings.daily_at:
        return opening
    return datetime.combine(opening.date(), time.fromisoformat(settings.daily_at), NEW_YORK)


# --- what it keeps and logs ------------------------------------------------------------------------------------------


def to_text(digest: Digest, message: Message) -> str:
    """Return the digest as it is kept: its message, and the days that the next one reads.

    No two texts are the same: S3 counts one that is there already, as after a lost answer, as the same run's own.
    """
    kept = {
        "claimant": uuid4().hex,
        "strategy": digest.strategy,
        "day": digest.day.isoformat(),
        "subject": message.subject,
        "text": message.text,
        "needs_person": list(digest.needs_person),
        "equality": codec.encode(digest.equality),
        "history": codec.encode(digest.history[-MAX_HISTORY:]),
    }
    return json.dumps(kept, allow_nan=False)


def log(strategy: str, day: date, digest: Digest | None) -> None:
    """Log one line, which shows that the strategy's function is alive, and what the dashboard draws."""
    extra: dict[str, object] = {"strategy": strategy, "day": day.isoformat(), "health": "healthy"}
    if digest is not None:
        runs, gained = digest.runs, measure_span(digest.history, 1)
        drawdown = measure_fall(runs.equity_usd, runs.peak_usd)
        extra |= {
            "health": "attention" if digest.needs_person else "healthy",
            "equity_usd": runs.equity_usd,
            "return_fraction": gained,
            "benchmark_fraction": digest.benchmark.get("day"),
            "drawdown_fraction": drawdown,
            "equities": {strategy: runs.equity_usd},
            "returns": {strategy: gained},
            "drawdowns": {strategy: drawdown},
            "differences": len(digest.equality.differences),
        }
        if digest.equality.differences:
            LOG.error("decided otherwise", extra={"strategy": strategy, "differences": digest.equality.differences})
    LOG.info("digest", extra=extra)


def send_test(invocation: Invocation, adapters: Adapters) -> Done:
    """Send a message that says only that it can be sent."""
    settings = adapters.read_settings(invocation.env)
    day = invocation.clock().astimezone(NEW_YORK).date()
    message = Message(
        subject=f"{settings.strategy}: a test",
        text=f"This is how {settings.strategy} sends its messages. Nothing was traded.",
    )
    channels = adapters.make_channels(settings)
    is_sent = bool(channels) and deliver(channels, message, settings.strategy, invocation.deadline)
    status = "SENT" if is_sent else "NOT_SENT" if channels else "NO_ADDRESS"
    return Done(status=status, strategy=settings.strategy, day=day.isoformat(), message=message)


type Task = Callable[[Invocation, Adapters], Done]

TASKS: Mapping[str, Task] = {"digest": run, "test-message": send_test}
"""What an event can ask for by its `do`, beside a run that trades."""


def describe(done: Done) -> dict[str, object]:
    """Return what became of a task, as JSON."""
    message = None if done.message is None else {"subject": done.message.subject, "text": done.message.text}
    return {"strategy": done.strategy, "day": done.day, "status": done.status, "message": message}


def find_task(event: object) -> Task:
    """Return what an event asks for. Raises EventError for a word that is no task."""
    word = event.get("do") if isinstance(event, Mapping) else None
    if not isinstance(word, str) or word not in TASKS:
        raise EventError(f"the event's do={word!r:.100} is not known: it must be one of {', '.join(TASKS)}")
    return TASKS[word]
