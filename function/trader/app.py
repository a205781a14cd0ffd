"""One run, from its claim to its record: claim the slot, recover, trade, record."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

from trader.broker.base import OrderHistory
from trader.deadline import Deadline
from trader.journal.base import Run
from trader.journal.entry import Journal
from trader.journal.record import build_report
from trader.journal.recovery import recover
from trader.logs import one_line
from trader.model import Code, Outcome, Report, RunStopped
from trader.progress import Progress
from trader.schedule.slot import is_due, slot_and_now
from trader.settings import Settings, SettingsError
from trader.stages import pipeline

LOG = logging.getLogger("trader")
MAX_ERROR_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What one run is called with: the event, the settings as variables, the time there is, and what tells the time."""

    event: object
    env: Mapping[str, str]
    deadline: Deadline
    progress: Progress
    clock: Callable[[], datetime]


class Adapters(Protocol):
    """Makes what the settings name; trader.wiring is one."""

    def read_settings(self, env: Mapping[str, str]) -> Settings:
        """Return the settings with their secrets. Raises SettingsError, and botocore's errors where AWS fails."""

    def open_journal(self, location: str, strategy: str) -> Journal:
        """Open a strategy's journal at the place that JOURNAL names."""

    def last_bar_of_file(self, settings: Settings) -> datetime:
        """Return the start of the last bar of the price file."""

    def make_services(
        self, run: Run, invocation: Invocation, journal: Journal
    ) -> tuple[pipeline.RunServices, OrderHistory]:
        """Return what a run works with, and the order history of its broker."""


def run_slot(invocation: Invocation, adapters: Adapters) -> Report:
    """Claim the event's slot, record what earlier runs left open, trade, and keep the record, a failed run's too."""
    present = invocation.clock()
    settings = read_settings(invocation, adapters, present)
    run = make_run(invocation.event, settings, adapters, present)
    journal = adapters.open_journal(settings.journal, settings.strategy)
    if not is_due(invocation.event, settings):
        return finish(run, Code.NOT_DUE, f"DAILY_AT={settings.daily_at} in New York is not now; nothing was done")
    if not claim(run, journal, end_of(run, invocation.deadline)):
        return finish(run, Code.ALREADY_RAN, "another run has this slot; nothing was done")
    entry = journal.entry(run.slot, is_dry=run.is_dry)
    try:
        report = finish(run, *trade(run, invocation, adapters, journal))
        entry.save(run, report)
    except BaseException as error:
        try:
            entry.save(run, report_failure(run, error))
        except Exception:
            LOG.exception("no record of the failed run")
        raise
    return report


def read_settings(invocation: Invocation, adapters: Adapters, present: datetime) -> Settings:
    """Return the settings with their secrets. If the secrets cannot be read, the slot gets a record that says so."""
    try:
        return adapters.read_settings(invocation.env)
    except SettingsError:
        raise
    except Exception as error:
        try:
            record_failure(invocation, adapters, present, error)
        except Exception:
            LOG.exception("no record of the failed run")
        raise


def record_failure(invocation: Invocation, adapters: Adapters, present: datetime, error: Exception) -> None:
    """Keep the record of a run that could not read its secrets, unless the slot, and its record, are another run's."""
    settings = Settings.from_env(invocation.env, lambda names: dict.fromkeys(names, "not read"))  # for the record alone
    run = make_run(invocation.event, settings, adapters, present)
    report = report_failure(run, error)
    journal = adapters.open_journal(settings.journal, settings.strategy)
    if not run.is_dry and claim(run, journal, present):
        journal.entry(run.slot).save(run, report)


def make_run(event: object, settings: Settings, adapters: Adapters, present: datetime) -> Run:
    """Return the run of the event's slot. Raises EventError, and PriceSourceError if the price file cannot be read."""
    slot, now = slot_and_now(event, settings, present, lambda: adapters.last_bar_of_file(settings))
    return Run(settings=settings, slot=slot, now=now)


def claim(run: Run, journal: Journal, until: datetime | None) -> bool:
    """Claim the run's slot; a dry run claims none. Return False if another run has it."""
    # Not the request id: Lambda gives a repeated invocation the same one, and a repetition must not own the claim.
    return run.is_dry or journal.entry(run.slot).claim(uuid4().hex, until)


def end_of(run: Run, deadline: Deadline) -> datetime | None:
    """Return when this run will be over for certain; None if nothing stops it."""
    remaining_s = deadline.remaining_s()
    return None if remaining_s == math.inf else run.now + timedelta(seconds=remaining_s)


def trade(run: Run, invocation: Invocation, adapters: Adapters, journal: Journal) -> tuple[Outcome | Code, str]:
    """Return the pipeline's outcome, with a detail where a gate was closed. What earlier runs left open comes first."""
    services, history = adapters.make_services(run, invocation, journal)
    try:
        if not run.is_dry:
            recover(run, journal, history, invocation.deadline)
        return pipeline.trade(services, run), ""
    except RunStopped as stop:
        return stop.code, str(stop)


def finish(run: Run, status: Outcome | Code, detail: str) -> Report:
    """Return the report of a run, and log its one line, and another one if its owner must look."""
    report = build_report(run, status, detail)
    if report["unprotected"]:
        symbols = ",".join(report["unprotected"])
        extra = {"strategy": report["strategy"], "slot": report["slot"], "symbols": symbols}
        LOG.error("held without a stop loss", extra=extra)
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
            "unprotected": len(report["unprotected"]),
            "equity_usd": account.equity_usd if account else None,
            "cash_usd": account.cash_usd if account else None,
            "duration_s": round(sum(run.timings_s.values()), 3),
        },
    )
    return report


def report_failure(run: Run, error: BaseException) -> Report:
    """Return the report of a run that an unexpected error has ended."""
    return finish(run, Outcome.FAILED, one_line(f"{type(error).__name__}: {error}", MAX_ERROR_CHARACTERS))
