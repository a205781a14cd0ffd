"""`make run`: one run of the bot on this machine, shown as tables and as a page.

All settings are environment variables, as in Lambda; --at takes the place of the scheduled event's time.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lambda_function import PARAMETERS, run
from scripts import terminal
from scripts.run_page import write_page
from scripts.run_view import show
from trader import logs
from trader.journal import open_journal
from trader.model import Code, Report
from trader.settings import Settings
from trader.slot import event_time

OUT = Path("out")


def main() -> None:
    """Run once, show the record, write the page and the log."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument(
        "--at", default=os.environ.get("AT"), metavar="TIME", help="as of then, such as 2022-12-01T20:45Z"
    )
    parser.add_argument(
        "--json", action="store_true", default=bool(os.environ.get("JSON")), help="print the report as JSON"
    )
    arguments = parser.parse_args()
    env = environment(os.environ)
    OUT.mkdir(exist_ok=True)
    logs.configure(logging.FileHandler(OUT / "run.log"))
    with terminal.plain_errors(), terminal.progress() as progress:
        report = run({"time": arguments.at} if arguments.at else None, env=env, progress=progress)
    if arguments.json:
        sys.stdout.write(json.dumps(report) + "\n")
        return
    record = record_of(report, env)
    show(record, terminal.OUT)
    if report["status"] != Code.ALREADY_RAN:  # the page of the run that had the slot stays
        write_page(record, OUT / "run.html")
    terminal.OUT.print(f" The picture of it: {OUT / 'run.html'}    the log: {OUT / 'run.log'}", style="dim")


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment, with prices of today for a broker that trades today: a file of the past would all be stale."""
    if env.get("BROKER") == "alpaca" and not env.get("PRICE_SOURCES"):
        terminal.ERR.print(
            "PRICE_SOURCES=yahoo,alpaca, because Alpaca trades on the present; set it to choose", style="dim"
        )
        return {**env, "PRICE_SOURCES": "yahoo,alpaca"}
    return dict(env)


def record_of(report: Report, env: Mapping[str, str]) -> Mapping[str, Any]:
    """The journal's record of the run; of one that was refused because the slot had run, only its report."""
    settings = Settings.from_env(env, PARAMETERS.fetch)
    if report["status"] == Code.ALREADY_RAN:
        return {"settings": settings.public(), "observation": None, "decision": None, "report": report}
    slot = event_time({"time": report["slot"]})
    assert slot is not None, "a report has a slot"
    journal = open_journal(settings.journal, settings.strategy)
    return journal.load(journal.record_name(slot, settings.mode == "dry-run"))


if __name__ == "__main__":
    main()
