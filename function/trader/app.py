"""One run, from its claim to its record: claim the slot, recover, trade, record."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from trader import problems
from trader.broker.base import OrderHistory
from trader.codec import decode, encode
from trader.deadline import Deadline
from trader.journal.base import Run
from trader.journal.entry import REMEMBERED, Journal, JournalEntry
from trader.journal.record import build_report, find_unprotected
from trader.journal.recovery import recover
from trader.logs import describe_error, one_line
from trader.messages.base import Channel
from trader.messages.sending import deliver
from trader.model import NEW_YORK, Code, Health, Json, Outcome, Report, RunStopped
from trader.progress import Progress
from trader.schedule.slot import is_due, slot_and_now
from trader.settings import Settings, SettingsError
from trader.stages import pipeline

LOG = logging.getLogger("trader")
MAX_ERROR_CHARACTERS = 2_000


type Members = Callable[[date], Sequence[str]]
"""A function that returns the members of the S&P 500 on a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """The inputs of a run: the event, the environment variables, the deadline, the progress callback and the clock.

    `members` returns the S&P 500 of a past day; without it, every run takes the list of today.
    """

    event: object
    env: Mapping[str, str]
    deadline: Deadline
    progress: Progress
    clock: Callable[[], datetime]
    members: Members | None = None


class Adapters(Protocol):
    """A factory for the parts that the settings select; the module trader.wiring is one."""

    def read_settings(self, env: Mapping[str, str]) -> Settings:
        """Return the settings with their secrets. Raises SettingsError, or botocore's errors if AWS fails."""

    def open_journal(self, location: str, strategy: str) -> Journal:
        """Open a strategy's journal at `location`, which is spelled as in JOURNAL."""

    def last_bar_of_file(self, settings: Settings, present: datetime) -> datetime:
        """Return the start of the last bar in the price file, of which none begins after the present."""

    def make_services(
        self, run: Run, invocation: Invocation, journal: Journal
    ) -> tuple[pipeline.RunServices, OrderHistory]:
        """Return the services of a run, and the order history of its broker."""

    def make_channels(self, settings: Settings) -> Sequence[Channel]:
        """Return the channels that messages to the owner go through; none if no address is set."""


def run_slot(invocation: Invocation, adapters: Adapters) -> Report:
    """Claim the event's slot, recover earlier runs, trade, and save the record, even if the run fails."""
    present = invocation.clock()
    time_s = invocation.deadline.remaining_s()
    settings = read_settings(invocation, adapters, present)
    run = make_run(invocation, settings, adapters, present)
    journal = adapters.open_journal(settings.journal, settings.strategy)
    if not is_due(invocation.event, settings):
        return finish(
            run, Code.NOT_DUE, f"the event is not due: DAILY_AT={settings.daily_at} (New York time); nothing was done"
        )
    try:
        is_claimed = claim(run, journal, end_of(run, invocation.deadline))
    except Exception:
        guard(run, invocation, adapters, journal)  # a fault of the journal must not leave a holding without its stop
        name_unprotected(run)  # there will be no report that names them
        raise
    if not is_claimed:
        return finish(run, Code.ALREADY_RAN, "another run has claimed this slot; nothing was done")
    entry = journal.entry(run.slot, is_dry=run.is_dry)
    try:
        report = finish(run, *trade(run, invocation, adapters, journal), measure_time_used(invocation.deadline, time_s))
        entry.save(run, report)
        if run.has_plan and all(order.is_final for order in run.placed):
            journal.note_settled(run.slot, run.placed)
    except BaseException as error:
        try:
            report = report_failure(run, error)
            entry.save(run, report)
            give_back(run, entry)
            tell(run, report, adapters, invocation.deadline)
        except Exception:
            LOG.exception("the record of the failed run could not be saved")
        raise
    give_back(run, entry)
    tell(run, report, adapters, invocation.deadline)
    return report


def read_settings(invocation: Invocation, adapters: Adapters, present: datetime) -> Settings:
    """Return the settings with their secrets. If the secrets cannot be read, record the failure and raise the error."""
    try:
        return adapters.read_settings(invocation.env)
    except SettingsError:
        raise
    except Exception as error:
        try:
            record_failure(invocation, adapters, present, error)
        except Exception:
            LOG.exception("the record of the failed run could not be saved")
        raise


def record_failure(invocation: Invocation, adapters: Adapters, present: datetime, error: Exception) -> None:
    """Save the record of a run that could not read its secrets, unless it is dry or another run has the slot."""
    # For the record only. No message: the address is unknown, and Lambda itself tells of a run that failed.
    settings = Settings.from_env(invocation.env, lambda names: dict.fromkeys(names, "not read"))
    run = make_run(invocation, settings, adapters, present)
    report = report_failure(run, error)
    journal = adapters.open_journal(settings.journal, settings.strategy)
    if not run.is_dry and claim(run, journal, present):
        entry = journal.entry(run.slot)
        entry.save(run, report)
        give_back(run, entry)


def make_run(invocation: Invocation, settings: Settings, adapters: Adapters, present: datetime) -> Run:
    """Return the run of the event's slot. Raises EventError, or PriceSourceError if the price file cannot be read."""
    slot, now = slot_and_now(invocation.event, settings, present, lambda: adapters.last_bar_of_file(settings, present))
    is_index = settings.universe == ("sp500",)
    index = invocation.members(now.astimezone(NEW_YORK).date()) if invocation.members and is_index else None
    return Run(settings=settings, slot=slot, now=now, index=index)


def claim(run: Run, journal: Journal, until: datetime | None) -> bool:
    """Claim the run's slot; a dry run claims none. Return False if another run has it."""
    # Not the request id: Lambda reuses it when it retries an invocation, and the retry must not own the claim.
    return run.is_dry or journal.entry(run.slot).claim(run.claimant, until)


def give_back(run: Run, entry: JournalEntry) -> None:
    """Make the slot free again if the run, which has its record, made nothing of it; then it can be repeated."""
    if run.may_give_back:
        entry.give_back(run.claimant)


def end_of(run: Run, deadline: Deadline) -> datetime | None:
    """Return the time by which this run has certainly ended; None if it has no deadline."""
    remaining_s = deadline.remaining_s()
    return None if remaining_s == math.inf else run.now + timedelta(seconds=remaining_s)


def trade(run: Run, invocation: Invocation, adapters: Adapters, journal: Journal) -> tuple[Outcome | Code, str]:
    """Recover earlier runs, then run the pipeline. Return its outcome, or the code and detail of a closed gate."""
    services, history = adapters.make_services(run, invocation, journal)
    try:
        if not run.is_dry:
            look_back(run, journal, history, invocation.deadline)
    except RunStopped as stop:
        return stop.code, str(stop)
    except Exception:
        guard(run, invocation, adapters, journal)
        raise
    try:
        status = pipeline.trade(services, run)
        return status, pipeline.explain(services, run, status)
    except RunStopped as stop:
        return stop.code, str(stop)


def look_back(run: Run, journal: Journal, history: OrderHistory, deadline: Deadline) -> None:
    """Record the runs that were cut off, and note the records before and the slots whose orders are not settled."""
    kept = journal.list_slots(run.now - REMEMBERED)
    recover(run, journal, history, deadline, kept)
    run.previous, run.previous_record = journal.find_previous(run.slot, kept["json"], run.recovered)
    run.unsettled = sorted(slot for slot in kept["started"] - kept["settled"] if slot <= run.now)


def guard(run: Run, invocation: Invocation, adapters: Adapters, journal: Journal) -> None:
    """Protect the holdings although the run cannot trade. A failure is logged; the caller raises the first error."""
    try:
        services, _ = adapters.make_services(run, invocation, journal)
        pipeline.guard(services, run)
    except Exception:
        LOG.exception("the holdings could not be checked")


def name_unprotected(run: Run) -> list[str]:
    """Log the holdings without a stop loss, and return those that the bot bought."""
    foreign = {symbol for symbol, each in run.unprotected.items() if not each.is_ours}
    ours = [symbol for symbol in find_unprotected(run) if symbol not in foreign]
    for level, symbols in ((logging.ERROR, ours), (logging.WARNING, sorted(foreign))):
        if symbols:
            reasons = {symbol: run.unprotected[symbol].reason for symbol in symbols if symbol in run.unprotected}
            extra = {"strategy": run.settings.strategy, "slot": encode(run.slot), "symbols": ",".join(symbols)}
            LOG.log(level, "held without a stop loss", extra={**extra, "reasons": reasons})
    return ours


def finish(run: Run, status: Outcome | Code, detail: str, used_fraction: float = 0.0) -> Report:
    """Build the report of a run, log it in one line and return it. Log an error if a holding has no stop loss.

    `used_fraction` is the part of its time that the run has used.
    """
    report = build_report(run, status, detail)
    report["problems"] = find_problems(run, report, used_fraction)
    ours = name_unprotected(run)
    codes = [denial.code for denial in run.denials]
    account = run.account_after or (run.observation.account if run.observation else None)
    LOG.info(
        "run",
        extra={
            "strategy": report["strategy"],
            "slot": report["slot"],
            "mode": report["mode"],
            "status": report["status"],
            "detail": detail,
            "orders": len(run.orders),
            "denials": {code: codes.count(code) for code in dict.fromkeys(codes)},
            "health": Health.of(report["status"]).value,
            "unprotected": len(ours),
            "settled": len(run.settled),
            "equity_usd": account.equity_usd if account else None,
            # Below the strategy's name once more: a chart by strategy needs a column for each.
            "equities": {report["strategy"]: account.equity_usd} if account else {},
            "cash_usd": account.cash_usd if account else None,
            "drawdown_fraction": problems.measure_drawdown(run),
            "duration_s": round(sum(run.timings_s.values()), 3),
        },
    )
    return report


def find_problems(run: Run, report: Report, used_fraction: float) -> list[Json]:
    """Return what needs a person, as JSON. Nothing that goes wrong here is an error of the run."""
    try:
        previous = problems.read_previous(run.previous_record) if run.previous_record else None
        found: list[Json] = encode(problems.find(run, report, used_fraction, previous))
    except Exception:
        LOG.exception("what needs a person is not known")
        return []
    return found


def measure_time_used(deadline: Deadline, time_s: float) -> float:
    """Return the part of the time, `time_s` at first, that has been used up; 0 if there is no deadline."""
    return 1 - deadline.remaining_s() / time_s if 0 < time_s < math.inf else 0.0


def tell(run: Run, report: Report, adapters: Adapters, deadline: Deadline) -> None:
    """Tell the owner what needs a person and is news. Nothing that goes wrong here is an error of the run.

    A dry run tells nothing: it knows no run before it, so that nothing is news to it, or everything.
    """
    try:
        found = [decode(problems.Problem, each) for each in report.get("problems", ())]
        message = problems.write(run.settings.strategy, run.slot, run.settings.mode, found)
        channels = adapters.make_channels(run.settings) if message and not run.is_dry else ()
        if message and channels:
            deliver(channels, message, run.settings.strategy, deadline)
    except Exception:
        LOG.exception("message not sent")


def report_failure(run: Run, error: BaseException) -> Report:
    """Return the report of a run that ended in an unexpected error."""
    return finish(run, Outcome.FAILED, one_line(describe_error(error), MAX_ERROR_CHARACTERS))
