"""`make digest [DAY=...]` and `make test-message`: what the digest of a day says, and whether a message arrives."""

import os
import sys
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from rich.text import Text

from scripts import console
from scripts.cloud.aws import UsageError, connect
from scripts.cloud.invoke import invoke
from scripts.console import CommandError
from scripts.run.reconcile import local, read_deployed_settings, to_standard_error
from trader import wiring
from trader.app import Invocation
from trader.codec import encode
from trader.deadline import Deadline
from trader.digest import run as digest
from trader.digest import text
from trader.journal.base import JournalError
from trader.model import NEW_YORK
from trader.progress import Progress, no_progress
from trader.schedule import sessions
from trader.schedule.base import parse_slot_id, present
from trader.settings import Settings


def main() -> None:
    """Print the digest of a day, without keeping or sending it; exit with 1 if a decision comes out otherwise."""
    with console.plain_errors(interrupted="interrupted; nothing was changed"):
        to_standard_error()
        settings = read_deployed_settings(os.environ) if console.flag("DEPLOYED") else local(os.environ)
        day = choose_day(os.environ.get("DAY", "").strip(), settings)
        with console.progress() as progress:
            made = digest.make(invocation(day, progress), settings, wiring, day)
    message = text.write(made)
    if console.wants_json():
        answer = {"subject": message.subject, "text": message.text, "equality": encode(made.equality)}
        who = {"strategy": made.strategy, "day": made.day.isoformat(), "needs_person": list(made.needs_person)}
        console.print_json({**who, **answer})
    else:
        console.OUT.print(Text(f" {message.subject}\n", style="bold"), soft_wrap=True)
        for line in message.text.splitlines():
            console.OUT.print(Text(f" {line}"), soft_wrap=True)
    sys.exit(console.FAILED if made.equality.differences else console.USABLE)


def invocation(day: date, progress: Progress) -> Invocation:
    """Return the inputs of a digest that is made at its time on a day."""
    at = datetime.combine(day, digest.AT, NEW_YORK)
    return Invocation(event={}, env=os.environ, deadline=Deadline.never(), progress=progress, clock=lambda: at)


def choose_day(wanted: str, settings: Settings) -> date:
    """Return the day that DAY names, or that of the latest record. Raises UsageError or JournalError."""
    if wanted:
        try:
            day = date.fromisoformat(wanted)
        except ValueError:
            raise UsageError(f"DAY={wanted:.100}: must be a day such as 2026-11-27") from None
        if day > (today := present().astimezone(NEW_YORK).date()):
            raise UsageError(f"DAY={wanted} is in the future: it is {today} in New York")
        if sessions.session(day) is None:
            raise UsageError(f"DAY={wanted}: the exchange is closed all day; choose a trading day")
        return day
    journal = wiring.open_journal(settings.journal, settings.strategy)
    for name in reversed(journal.list_records()):
        if slot := parse_slot_id(name.rpartition("/")[2][: len("20221228T2045Z")]):
            return slot.astimezone(NEW_YORK).date()
    raise JournalError(
        f"the journal {settings.journal} of strategy {settings.strategy} has no record, and so no day to tell of: make "
        "run makes one, and JOURNAL and STRATEGY name another journal"
    )


def send_test() -> None:
    """Send a test message, on this machine or by the deployed function; exit with 3 if no channel took it."""
    with console.plain_errors(interrupted="interrupted; a message may have been sent"):
        done = send_deployed() if console.flag("DEPLOYED") else send_local()
        if console.wants_json():
            console.print_json(done)
        elif done["status"] == "SENT":
            console.OUT.print(Text(f" sent: {done['message']['subject']}", style="green"), soft_wrap=True)
        if done["status"] != "SENT" and not console.wants_json():
            raise CommandError(explain(done["status"]))
    sys.exit(console.USABLE if done["status"] == "SENT" else console.COULD_NOT)


def send_local() -> Mapping[str, Any]:
    """Send a test message with the settings of this machine."""
    to_standard_error()
    made = Invocation(event={}, env=os.environ, deadline=Deadline.never(), progress=no_progress, clock=present)
    return digest.describe(digest.send_test(made, wiring))


def send_deployed() -> Mapping[str, Any]:
    """Let a deployed function send a test message. Raises CommandError if it failed."""
    cloud = connect()
    strategy = cloud.choose_strategy(os.environ.get("STRATEGY"))
    answer = invoke(cloud, strategy, {"do": "test-message"})
    if answer.error or not isinstance(answer.payload, dict) or "status" not in answer.payload:
        raise CommandError(f"the function of {strategy} failed: {answer.payload}; make logs QUERY=errors shows more")
    return answer.payload


def explain(status: str) -> str:
    """Say why no message was sent, and what to do."""
    if status == "NO_ADDRESS":
        return (
            "no message was sent, because there is no address: set MESSAGE_URL in the environment, such as "
            "ntfy://ntfy.sh/my-topic, or alarm_email in terraform.tfvars (docs/how-to/messages.md)"
        )
    return (
        "no channel took the message; the lines `message not sent` above, or in the log, say why (make logs "
        "QUERY=errors). docs/how-to/messages.md has the kinds of addresses"
    )
