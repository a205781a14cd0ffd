"""`make reconcile STRATEGY=... [SINCE=7d]`: compare the journal with the broker's books, order by order.

Runs that were cut off get the record that the next run would write. Nothing is placed, canceled or sold. LOCAL=1
compares the runs of `make run` on this machine, with its settings.
"""

import logging
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import boto3
from rich.text import Text

from scripts import console
from scripts.cloud.aws import ALIAS, CONFIG, UsageError, connect, translate_errors
from scripts.cloud.logs import moment, new_york
from scripts.cloud.tables import TableRow, show_table
from scripts.console import CommandError, format_count
from scripts.run.reconciliation import (
    REMEDIES,
    Comparison,
    Finding,
    Kind,
    RecordedOrders,
    compare,
    read_record,
)
from trader import logs
from trader.audit.fills import name_of_parent
from trader.broker.base import OrderHistory, OrderId
from trader.codec import encode
from trader.deadline import Deadline
from trader.journal.base import JournalError
from trader.journal.entry import MAX_RUN_TIME, REMEMBERED, Journal
from trader.journal.recovery import AFTER, BEFORE, find_unlisted, recover_slot
from trader.logs import printable
from trader.model import BrokerName, Order, OrderType
from trader.parameters import Parameters
from trader.progress import Progress
from trader.settings import Settings
from trader.wiring import make_order_history, open_journal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SINCE = "7d"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileInputs:
    """A strategy's settings, its journal, its order history at the broker, the current time, and the period's start."""

    settings: Settings
    journal: Journal
    history: OrderHistory
    now: datetime
    since: datetime


def main() -> None:
    """Recover runs, compare, and show both; the exit code is 0 only if journal and broker agree."""
    with console.plain_errors(
        interrupted="interrupted; runs recovered so far are on record; make reconcile can be run again"
    ):
        to_standard_error()
        settings = local(os.environ) if console.flag("LOCAL") else read_deployed_settings(os.environ)
        inputs = inputs_of(settings, os.environ, datetime.now(UTC))
        with console.progress() as progress:
            comparison = reconcile(inputs, progress)
    if console.wants_json():
        console.print_json(result(inputs, comparison))
    else:
        show(inputs, comparison)
    sys.exit(console.FAILED if comparison.differences else console.USABLE)


def to_standard_error() -> None:
    """Print the trader's warnings and errors, which a run would write to its log."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    logs.configure(handler)


# --- the inputs ----------------------------------------------------------------------------------------------------


def local(env: Mapping[str, str]) -> Settings:
    """Return the settings of `make run`."""
    return Settings.from_env(env, Parameters().fetch)


def read_deployed_settings(env: Mapping[str, str]) -> Settings:
    """Return the settings of a strategy's live function. Raises CommandError if the account or journal is inside it."""
    cloud = connect(env)
    strategy = cloud.choose_strategy(env.get("STRATEGY"))
    function = cloud.function(strategy)
    boto3.setup_default_session(region_name=cloud.region)  # for the journal and the secrets
    with translate_errors(f"the settings of {function}"):
        client = cloud.session.client("lambda", config=CONFIG)
        answer = client.get_function_configuration(FunctionName=function, Qualifier=ALIAS)
        settings = Settings.from_env(answer.get("Environment", {}).get("Variables", {}), Parameters().fetch)
    for variable, value in (("BROKER", settings.broker), ("JOURNAL", settings.journal)):
        if value.startswith(("embedded", "folder:")):
            raise CommandError(
                f"{function} has {variable}={value}, which is in the function's own file system and cannot be read "
                "from here; to compare the runs of `make run` on this machine, use make reconcile LOCAL=1"
            )
    return settings


def inputs_of(settings: Settings, env: Mapping[str, str], clock: datetime) -> ReconcileInputs:
    """Return the journal, order history and period to compare. Raises UsageError if SINCE is not in the past."""
    journal = open_journal(settings.journal, settings.strategy)
    now = present(settings, journal, clock)
    since = moment("SINCE", env.get("SINCE") or SINCE, now)
    if since >= now:
        raise UsageError(f"SINCE={env.get('SINCE')} is not before {new_york(now)} New York; set an earlier SINCE")
    return ReconcileInputs(
        settings=settings, journal=journal, history=make_order_history(settings, now), now=now, since=since
    )


def present(settings: Settings, journal: Journal, clock: datetime) -> datetime:
    """Return the current time. The embedded broker's clock stands still between runs, at the end of the last run."""
    if settings.broker is BrokerName.ALPACA:
        return clock
    slots = [slot for each in journal.list_slots(EPOCH).values() for slot in each]
    return min(clock, max(slots) + MAX_RUN_TIME + timedelta(seconds=1)) if slots else clock


# --- the comparison ------------------------------------------------------------------------------------------------


def reconcile(inputs: ReconcileInputs, progress: Progress) -> Comparison:
    """Record the runs that were cut off, then compare. The records are read first: the books are never behind them."""
    claims = inputs.journal.list_unfinished(inputs.now, max(REMEMBERED, inputs.now - inputs.since))
    over = [claim.slot for claim in claims if claim.is_over(inputs.now)]
    recovered = {}
    for done, slot in enumerate(over):
        progress("recovering", done, len(over))
        record = recover_slot(inputs.journal.entry(slot), inputs.settings, inputs.history)
        if record is not None:
            recovered[slot] = record["report"]["detail"]
    run_orders = list(read_records(inputs, progress))
    under_way = {claim.slot for claim in claims} - set(over) - {each.slot for each in run_orders}
    progress("the broker's books", 0, 1)
    listed = inputs.history.list_orders(inputs.since - BEFORE, inputs.now + AFTER)
    recorded = [order for each in run_orders for order in (*each.orders, *each.stops)]
    booked = [*listed, *find_unlisted(recorded, listed, inputs.history, Deadline.never())]
    progress("the broker's books", 1, 1)
    found = compare(run_orders, [order for order in booked if is_looked_at(order, inputs, run_orders, under_way)])
    findings = [
        *(Finding(kind=Kind.RECOVERED, slot=slot, words=words) for slot, words in recovered.items()),
        *(Finding(kind=Kind.UNDER_WAY, slot=slot, words="it has no record yet") for slot in under_way),
        *(each for each in found.findings if each.kind is not Kind.INTERRUPTED or each.slot not in recovered),
    ]
    return replace(found, findings=sorted(findings, key=lambda each: each.slot))


def read_records(inputs: ReconcileInputs, progress: Progress) -> Iterator[RecordedOrders]:
    """Yield the recorded orders of each run in the period."""
    slots = sorted(inputs.journal.list_slots(inputs.since)["json"])
    for done, slot in enumerate(slots):
        progress("records", done + 1, len(slots))
        try:
            yield read_record(slot, inputs.journal.entry(slot).load())
        except JournalError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            yield RecordedOrders(slot=slot, problem=str(error))


def is_looked_at(
    order: Order, inputs: ReconcileInputs, run_orders: Sequence[RecordedOrders], under_way: Collection[datetime]
) -> bool:
    """Check that an order belongs to the strategy and the period, and that its run is over or has a record.

    A leg of a bracket with an id of its own belongs to the slot of its order.
    """
    parts = OrderId.parse(name_of_parent(order) or order.client_order_id)
    if parts is None or parts.strategy != inputs.settings.strategy or parts.slot < inputs.since:
        return False
    may_run = parts.slot in under_way or inputs.now - parts.slot <= MAX_RUN_TIME
    return not may_run or any(each.slot == parts.slot for each in run_orders)


# --- the output ----------------------------------------------------------------------------------------------------


def result(inputs: ReconcileInputs, comparison: Comparison) -> dict[str, object]:
    """Return the comparison as JSON-serializable data."""
    return {
        "strategy": inputs.settings.strategy,
        "since": encode(inputs.since),
        "until": encode(inputs.now),
        "runs": comparison.runs,
        "agrees": not comparison.differences,
        "findings": [
            {**encode(each), "kind": each.kind.lower(), "is_difference": each.is_difference}
            for each in comparison.findings
        ],
        "orders": [{**encode(pair.booked), "recorded_status": pair.recorded.status} for pair in comparison.pairs],
        "exits": [encode(each) for each in comparison.exits],
    }


def show(inputs: ReconcileInputs, comparison: Comparison) -> None:
    """Print the findings with their remedies, the orders' outcomes, and the verdict."""
    settings, out = inputs.settings, console.OUT
    period = f"{new_york(inputs.since)[:16]} to {new_york(inputs.now)[:16]} New York"
    what = f"{settings.strategy}: {settings.journal} and the books of {settings.broker}, {period}"
    out.print(Text(f" {what}\n", style="dim"), soft_wrap=True)
    if not (comparison.runs or comparison.findings):
        out.print(Text(f" {nothing_to_compare(inputs)}"), soft_wrap=True)
        return
    if comparison.findings:
        show_findings(comparison.findings)
        for kind in dict.fromkeys(each.kind for each in comparison.findings if each.kind in REMEDIES):
            out.print(Text(f" {kind}: {REMEDIES[kind]}", style="dim"), soft_wrap=True)
        out.print()
    became = Counter((pair.recorded.status, pair.booked.status) for pair in comparison.pairs)
    for (before, now), count in became.most_common():
        words = f"{format_count(count, 'order')} recorded as {before}, {'still' if before == now else 'now'} {now}"
        out.print(Text(f" {printable(words)}", style="dim"), soft_wrap=True)
    at_stop = sum(each.type is OrderType.STOP for each in comparison.exits)
    for count, what in ((at_stop, "stop loss"), (len(comparison.exits) - at_stop, "take profit")):
        if count:
            out.print(Text(f" {format_count(count, 'sale')} by the broker at a {what}, after the run", style="dim"))
    compared = f"{format_count(comparison.runs, 'run')}, {format_count(len(comparison.pairs), 'order')} in both"
    compared += f", {format_count(len(comparison.exits), 'sale')} at a stop or take profit" if comparison.exits else ""
    if not comparison.runs and not comparison.findings:
        out.print(Text(" No run on record in this time, and no order of one in the books: nothing to compare."))
    elif count := len(comparison.differences):
        out.print(Text(f" {compared}: {format_count(count, 'difference').upper()}.", style="bold red"))
    else:
        out.print(Text(f" {compared}: journal and broker agree.", style="green"))


def nothing_to_compare(inputs: ReconcileInputs) -> str:
    """Say that the period has no run, and what to do."""
    name = inputs.settings.strategy
    is_local = inputs.settings.journal.startswith("folder:")
    start = "make run" if is_local else f"make invoke STRATEGY={name}"
    return (
        f"{name} has no run on record since {new_york(inputs.since)[:16]}, so there is nothing to compare: "
        f"{start} makes a run, and SINCE=30d looks further back."
    )


def show_findings(findings: Sequence[Finding]) -> None:
    """Print a table with a row for each finding, differences in red."""
    rows = []
    for each in findings:
        order = f"{each.order.side} {each.order.quantity:g} {each.order.symbol}" if each.order else ""
        cells = (new_york(each.slot), each.kind, printable(order), printable(each.words))
        rows.append(TableRow(cells=cells, style="red" if each.is_difference else ""))
    show_table(("Slot", "What", "Order", "Details"), rows)
