"""One run, from its claim to its record: claim the slot, recover, trade, record."""

import logging
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from trader import wiring
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


def run_slot(
    event: object, env: Mapping[str, str], deadline: Deadline, progress: Progress, clock: Callable[[], datetime]
) -> Report:
    """Claim the event's slot, record what earlier runs left open, trade, and keep the record, a failed run's too."""
    present = clock()
    settings = read_settings(event, env, present)
    run = make_run(event, settings, present)
    journal = wiring.open_journal(settings.journal, settings.strategy)
    if not is_due(event, settings):
        return finish(run, Code.NOT_DUE, f"DAILY_AT={settings.daily_at} in New York is not now; nothing was done")
    if not claim(run, journal, end_of(run, deadline)):
        return finish(run, Code.ALREADY_RAN, "another run has this slot; nothing was done")
    entry = journal.entry(run.slot, is_dry=run.is_dry)
    try:
        report = finish(run, *trade(run, env, journal, deadline, progress, clock))
        entry.save(run, report)
    except BaseException as error:
        try:
            entry.save(run, report_failure(run, error))
        except Exception:
            LOG.exception("no record of the failed run")
        raise
    return report


def read_settings(event: object, env: Mapping[str, str], present: datetime) -> Settings:
    """Return the settings with their secrets. If the secrets cannot be read, the slot gets a record that says so."""
    try:
        return wiring.read_settings(env)
    except SettingsError:
        raise
    except Exception as error:
        try:
            record_failure(event, env, present, error)
        except Exception:
            LOG.exception("no record of the failed run")
        raise


def record_failure(event: object, env: Mapping[str, str], present: datetime, error: Exception) -> None:
    """Keep the record of a run that could not read its secrets, unless the slot, and its record, are another run's."""
    settings = Settings.from_env(env, lambda names: dict.fromkeys(names, "not read"))  # for the record alone
    run = make_run(event, settings, present)
    report = report_failure(run, error)
    journal = wiring.open_journal(settings.journal, settings.strategy)
    if not run.is_dry and claim(run, journal, present):
        journal.entry(run.slot).save(run, report)


def make_run(event: object, settings: Settings, present: datetime) -> Run:
    """Return the run of the event's slot. Raises EventError, and PriceSourceError if the price file cannot be read."""
    slot, now = slot_and_now(event, settings, present, lambda: wiring.last_bar_of_file(settings))
    return Run(settings=settings, slot=slot, now=now)


def claim(run: Run, journal: Journal, until: datetime | None) -> bool:
    """Claim the run's slot; a dry run claims none. Return False if another run has it."""
    # Not the request id: Lambda gives a repeated invocation the same one, and a repetition must not own the claim.
    return run.is_dry or journal.entry(run.slot).claim(uuid4().hex, until)


def end_of(run: Run, deadline: Deadline) -> datetime | None:
    """Return when this run will be over for certain; None if nothing stops it."""
    remaining_s = deadline.remaining_s()
    return None if remaining_s == math.inf else run.now + timedelta(seconds=remaining_s)


def trade(
    run: Run,
    env: Mapping[str, str],
    journal: Journal,
    deadline: Deadline,
    progress: Progress,
    clock: Callable[[], datetime],
) -> tuple[Outcome | Code, str]:
    """Return the pipeline's outcome, with a detail where a gate was closed. What earlier runs left open comes first."""
    services, history = wiring.make_services(run, env, journal, deadline, progress, clock)
    try:
        if not run.is_dry:
            recover(run, journal, history, deadline)
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
