"""`make run`: run the bot once on this machine, and show the result as tables and as a page.

All settings are environment variables, as in Lambda; --at replaces the scheduled event's time.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from lambda_function import run
from scripts import console
from scripts.report.console import show
from scripts.report.html import write_page
from trader import logs, wiring
from trader.model import Code, Mode, Report
from trader.schedule import sessions
from trader.schedule.slot import event_time

OUT = Path("out")

UNRECORDED = {Code.ALREADY_RAN, Code.NOT_DUE}
"""Statuses of a run that leaves the slot, and its record, to another run."""


def main() -> None:
    """Run once, show the record, write the page and the log."""
    with console.plain_errors():
        env = environment(os.environ)
        open_log(OUT / "run.log")
        with console.progress() as progress:
            report = run(event(os.environ.get("AT"), env), env=env, progress=progress)
        if console.wants_json():
            console.print_json(report)
            return
        record = record_of(report, env)
        show(record, console.OUT)
        if report["status"] in UNRECORDED:
            return
        page = OUT / "run.html"
        write_page(record, page)
        console.OUT.print(f" Page: {page}    log: {OUT / 'run.log'}", style="dim")


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
    """Return the event for --at; a date means the last slot of its session.

    Without --at, a run with the embedded broker and online prices uses the last session if the market is closed.
    """
    if at is None:
        now = datetime.now(UTC)
        looks_at_the_present = env.get("BROKER") != "alpaca" and env.get("PRICE_SOURCES", "file") not in {"", "file"}
        if not looks_at_the_present or sessions.is_open(now):
            return None
        slot = sessions.last_minute_before(now)
        console.note(
            f"the market is closed: this run uses the last session, AT={slot.isoformat()}; set AT to choose another"
        )
        return {"time": slot.isoformat()}
    try:
        day = date.fromisoformat(at)
    except ValueError:
        return {"time": at}  # run() reports what is wrong with it
    return {"time": sessions.last_slot_of(day).isoformat()}


def record_of(report: Report, env: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the journal's record of the run, or its report if it has no record."""
    settings = wiring.read_settings(env)
    if report["status"] in UNRECORDED:
        return {"settings": settings.public(), "observation": None, "decision": None, "report": report}
    slot = event_time({"time": report["slot"]})
    assert slot is not None, "a report has a slot"
    journal = wiring.open_journal(settings.journal, settings.strategy)
    return journal.entry(slot, is_dry=settings.mode is Mode.DRY_RUN).load()
