"""`make run`: run the bot once on this machine, and show the result as tables and as a page.

All settings are environment variables, as in Lambda; AT replaces the scheduled event's time.
"""

import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lambda_function import run
from scripts import console
from scripts.data import members
from scripts.files import OUT, RUN_LOG, RUN_PAGE
from scripts.report.console import show
from scripts.report.html import write_page
from scripts.report.since import Before
from trader import logs, wiring
from trader.audit.fills import list_fills
from trader.codec import decode_time
from trader.forecasting.map import kernel
from trader.journal.base import JournalError
from trader.model import NEW_YORK, YEARS, BrokerError, Code, Engine, Health, Mode, Report
from trader.schedule import sessions
from trader.schedule.base import EventError
from trader.schedule.slot import event_time
from trader.settings import Settings, SettingsError

LOOK_BACK = timedelta(days=60)
"""How far back the run before is looked for, and a buy whose stop or target was filled since then."""

MAX_LOOKED_AT = 10
"""How many earlier records are read at most to find one that looked at the account."""

UNRECORDED = {Code.ALREADY_RAN, Code.NOT_DUE}
"""Statuses of a run that leaves the slot, and its record, to another run."""


def main() -> None:
    """Run once, show the record, write the page and the log; exit with 3 if the run could not do its work."""
    with console.plain_errors(interrupted="interrupted; run it again: a slot that is used up ends it with ALREADY_RAN"):
        env = environment(os.environ)
        chosen = event(os.environ.get("AT"), env)
        check_settings(env)
        open_log(OUT / RUN_LOG)
        with console.progress() as progress:
            report = run(chosen, env=env, progress=progress, members=members.on)
        if console.wants_json():
            console.print_json(report)
        else:
            show_run(report, env)
    sys.exit(console.COULD_NOT if could_not(report) else console.USABLE)


def show_run(report: Report, env: Mapping[str, str]) -> None:
    """Show the run in the terminal and, if it has a record, write its page."""
    settings = wiring.read_settings(env)
    record = record_of(report, settings)
    show(record, console.OUT)
    if record.get("chain", {}).get("engine") == kernel.REFERENCE and report["forecasts"]:
        log = OUT / RUN_LOG
        console.note(
            f"ENGINE={Engine.MAP} used its reference in NumPy, much slower than the compiled one: {log} says why"
        )
    if report["status"] in UNRECORDED:
        return
    page = OUT / RUN_PAGE
    write_page(record, page, find_before(record, settings))
    console.OUT.print(f" Page: {page}    log: {OUT / RUN_LOG}", style="dim")


def find_before(record: Mapping[str, Any], settings: Settings) -> Before | None:
    """Return the last run before a record's that looked at the account, with the fills since then; None without one."""
    if not record.get("observation"):
        return None
    slot, now = decode_time(record["report"]["slot"]), decode_time(record["observation"]["now"])
    journal = wiring.open_journal(settings.journal, settings.strategy)
    try:
        earlier = sorted(each for each in journal.list_slots(slot - LOOK_BACK)["json"] if each < slot)
        records = (journal.entry(each).load() for each in reversed(earlier[-MAX_LOOKED_AT:]))
        before = next((each for each in records if each.get("observation")), None)
    except JournalError as error:
        console.note(f"the run before cannot be read, so the page does not say what happened since: {error}")
        return None
    if before is None:
        return None
    try:
        orders = wiring.make_order_history(settings, now).list_orders(slot - LOOK_BACK, now)
    except BrokerError as error:
        return Before(record=before, fills=None, problem=str(error))
    return Before(record=before, fills=list_fills(orders, settings.strategy))


def could_not(report: Report) -> bool:
    """Tell whether a run could not do its work: it has judged no price, and a person is needed."""
    return Health.of(report["status"]) is Health.ATTENTION and not report["insights"]


def check_settings(env: Mapping[str, str]) -> None:
    """Raise SettingsError if the settings are wrong, before anything is written."""
    try:
        wiring.read_settings(env)
    except SettingsError:
        raise
    except Exception:
        return  # AWS failed, which the run itself records


def open_log(path: Path) -> None:
    """Send the trader's log to a file. Raises UnwritableError if it cannot be written."""
    try:
        path.parent.mkdir(exist_ok=True)
        handler = logging.FileHandler(path)
    except OSError as error:
        raise console.UnwritableError(
            f"{path} cannot be written: {error.strerror}; run make in a folder that you can write to"
        ) from error
    logs.configure(handler)


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, with current price sources for Alpaca if none are set: a file's prices would be stale."""
    if env.get("BROKER") == "alpaca" and not env.get("PRICE_SOURCES"):
        console.note("PRICE_SOURCES=yahoo,alpaca, because Alpaca trades at current prices; set it to choose others")
        return {**env, "PRICE_SOURCES": "yahoo,alpaca"}
    return dict(env)


def event(at: str | None, env: Mapping[str, str]) -> dict[str, str] | None:
    """Return the event for AT; a date means the last slot of its session. Raises EventError if AT cannot be used.

    Without AT, a run with the embedded broker and online prices uses the last session if the market is closed.
    """
    if not at:
        return last_session(env)
    if env.get("BROKER") == "alpaca":
        raise EventError(
            f"AT={at} with BROKER=alpaca: an account at Alpaca trades in the present only; leave AT out, or leave "
            "BROKER out to trade that day in the embedded paper account"
        )
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise EventError(
            f"AT={at!r:.100} is neither a day such as 2022-10-03, for the last slot of its session, nor a time such as "
            "2022-10-03T15:45-04:00"
        ) from None
    if moment.year not in YEARS:
        raise EventError(f"AT={at} is not in the years {YEARS[0]} to {YEARS[-1]}")
    if len(at) <= len("2022-10-03"):
        return {"time": sessions.last_slot_of(moment.date()).isoformat()}
    if moment.tzinfo is None:
        zoned = moment.replace(tzinfo=NEW_YORK).isoformat(timespec="minutes")
        raise EventError(f"AT={at} has no zone; write AT={zoned} for that time in New York")
    return {"time": at}


def last_session(env: Mapping[str, str]) -> dict[str, str] | None:
    """Return the event for the last session if online prices are used while the market is closed; otherwise None."""
    now = datetime.now(UTC)
    looks_at_the_present = env.get("BROKER") != "alpaca" and env.get("PRICE_SOURCES", "file") not in {"", "file"}
    if not looks_at_the_present or sessions.is_open(now):
        return None
    slot = sessions.last_minute_before(now)
    console.note(
        f"the market is closed: this run uses the last session, AT={slot.isoformat()}; set AT to choose another"
    )
    return {"time": slot.isoformat()}


def record_of(report: Report, settings: Settings) -> Mapping[str, Any]:
    """Return the journal's record of the run, or its report if it has no record."""
    if report["status"] in UNRECORDED:
        return {"settings": settings.public(), "observation": None, "decision": None, "report": report}
    slot = event_time({"time": report["slot"]})
    assert slot is not None, "a report has a slot"
    journal = wiring.open_journal(settings.journal, settings.strategy)
    return journal.entry(slot, is_dry=settings.mode is Mode.DRY_RUN).load()
