"""Comparison of a strategy's journal with the broker's books for `make reconcile`, without side effects."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trader.audit.fills import name_of_parent
from trader.broker.base import OrderId
from trader.codec import decode
from trader.model import Code, Order, OrderStatus, OrderType, Outcome

ROUNDING = 1e-9
"""The largest difference between two quantities that are the same."""


class Kind(StrEnum):
    """Kinds of findings about an order or a run."""

    RECOVERED = "RECOVERED"  # the run was cut off, and its record has just been written
    NO_RECORD = "NO RECORD"  # in the books, but in no record
    NOT_IN_BOOKS = "NOT IN BOOKS"  # placed according to a record, but not in the books
    DIFFERENT = "DIFFERENT"  # symbol, side or quantity differ, or less is filled than recorded
    FILLED_LATER = "FILLED LATER"  # filled, or filled further, after its run had ended
    CAME_TO_NOTHING = "CAME TO NOTHING"  # accepted, and later rejected, expired or canceled without a fill
    UNREADABLE = "UNREADABLE"  # a record that cannot be read
    UNKNOWN = "unknown"  # the order's fate was unknown when the run ended
    INTERRUPTED = "interrupted"  # the run was cut off, and its record was written earlier
    UNDER_WAY = "may be under way"  # the run may not have ended


REMEDIES: Mapping[Kind, str] = {
    Kind.RECOVERED: "Its record is written; check the log for what ended the run, such as too little memory or time.",
    Kind.NO_RECORD: "Check the order at the broker. Another bot, or another journal, may use the same STRATEGY name.",
    Kind.NOT_IN_BOOKS: "Look for the order at the broker; the record may be from another account.",
    Kind.DIFFERENT: "Check the order at the broker: its books are authoritative.",
    Kind.UNREADABLE: "Check the record in the journal; the bucket may hold an older version of it.",
    Kind.UNKNOWN: "Nothing: this is the order's state now, and the next run starts from the shares held.",
    Kind.FILLED_LATER: "Check the holding and its stop loss; the next run starts from the shares held.",
    Kind.CAME_TO_NOTHING: "If it was a sale, check that the holding has a stop loss. The next run decides again.",
    Kind.UNDER_WAY: "Run make reconcile again later.",
}
"""Remedies by kind of finding; interrupted needs none."""

DIFFERENCES = frozenset(
    {
        Kind.RECOVERED,
        Kind.NO_RECORD,
        Kind.NOT_IN_BOOKS,
        Kind.DIFFERENT,
        Kind.FILLED_LATER,
        Kind.CAME_TO_NOTHING,
        Kind.UNREADABLE,
    }
)
"""Kinds on which journal and broker disagree; the others are notes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A difference or a note, about an order or about a whole run."""

    kind: Kind
    slot: datetime
    order: Order | None = None
    words: str

    @property
    def is_difference(self) -> bool:
        """True if journal and broker disagree."""
        return self.kind in DIFFERENCES


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOrders:
    """The orders in a run's record; `problem` says why a record cannot be read.

    `stops` are those that protect holdings. They wait, so only their rejection or expiry is a difference.
    """

    slot: datetime
    status: str = ""
    detail: str = ""
    orders: Sequence[Order] = ()
    stops: Sequence[Order] = ()
    refused: frozenset[str] = frozenset()  # symbols
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """An order as it is in the record and in the books."""

    recorded: Order
    booked: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of a comparison: its findings, and the orders found on both sides.

    `exits` are the sales by the broker itself, when a price reached the stop loss or the take profit of an order found
    on both sides. No record lists them when they happen.
    """

    findings: Sequence[Finding]
    pairs: Sequence[Pair]
    runs: int  # number of runs with a record
    exits: Sequence[Order] = ()

    @property
    def differences(self) -> Sequence[Finding]:
        """The findings on which journal and broker disagree."""
        return [each for each in self.findings if each.is_difference]


def read_record(slot: datetime, record: object) -> RecordedOrders:
    """Return the part of a record that is compared."""
    try:
        report = record["report"]  # type: ignore[index] # anything but a record raises an error below
        return RecordedOrders(
            slot=slot,
            status=str(report["status"]),
            detail=str(report["detail"]),
            orders=[decode(Order, order) for order in report["orders"]],
            stops=[decode(Order, order) for order in report.get("stops", ())],
            refused=frozenset(
                each["symbol"]
                for each in report["denials"]
                if each["code"] != Code.UNPROTECTED and not each.get("is_partial")
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        return RecordedOrders(slot=slot, problem=f"its record cannot be read: {type(error).__name__}: {error}")


def compare(run_orders: Sequence[RecordedOrders], booked: Sequence[Order]) -> Comparison:
    """Find differences, notes and exits by slot. `booked` are the strategy's orders in the compared slots.

    The legs of brackets are in their orders or stand for themselves, as the broker lists them.
    """
    there = {order.client_order_id: order for order in booked}
    recorded = {order.client_order_id: order for each in run_orders for order in (*each.orders, *each.stops)}
    findings = [
        *(finding for each in run_orders for finding in check_recorded(each, there)),
        *check_booked(booked, recorded, {each.slot: each for each in run_orders}),
    ]
    pairs = [Pair(order, there[name]) for name, order in recorded.items() if name in there]
    return Comparison(
        findings=sorted(findings, key=lambda each: each.slot),
        pairs=pairs,
        runs=len(run_orders),
        exits=list(find_exits(booked, recorded)),
    )


def find_exits(booked: Sequence[Order], recorded: Collection[str]) -> Iterator[Order]:
    """Yield the sales by a leg of a recorded order, and by a stop that a run placed for a holding."""
    for order in booked:
        if order.client_order_id in recorded:
            legs = [order] if order.type is OrderType.STOP else order.legs
            yield from (leg for leg in legs if leg.filled_quantity)
        elif name_of_parent(order) in recorded and order.filled_quantity:
            yield order


def check_recorded(of_run: RecordedOrders, there: Mapping[str, Order]) -> Iterator[Finding]:
    """Yield the findings about a run's record and its orders."""
    if of_run.problem:
        yield Finding(kind=Kind.UNREADABLE, slot=of_run.slot, words=of_run.problem)
    if of_run.status == Outcome.INTERRUPTED:
        yield Finding(kind=Kind.INTERRUPTED, slot=of_run.slot, words=of_run.detail)
    for orders, waits in ((of_run.orders, False), (of_run.stops, True)):
        for order in orders:
            if finding := check_order(of_run.slot, order, there.get(order.client_order_id), waits=waits):
                yield finding


def check_order(slot: datetime, order: Order, booked: Order | None, *, waits: bool = False) -> Finding | None:
    """Return the finding about a recorded order, if there is one; a stop `waits` to be filled or canceled."""
    if order.status is OrderStatus.UNKNOWN:
        became = f"it is {in_words(booked)}" if booked else "it is not in the books"
        return Finding(kind=Kind.UNKNOWN, slot=slot, order=order, words=became)
    if booked is None:
        words = f"{order.status} in its record, but not in the books"
        return Finding(kind=Kind.NOT_IN_BOOKS, slot=slot, order=order, words=words)
    different = [
        f"{name} {getattr(order, name)} in the record, {getattr(booked, name)} in the books"
        for name in ("symbol", "side")
        if getattr(order, name) != getattr(booked, name)
    ]
    if abs(order.quantity - booked.quantity) > ROUNDING:
        different.append(f"quantity {order.quantity:g} in the record, {booked.quantity:g} in the books")
    if booked.filled_quantity < order.filled_quantity - ROUNDING:
        different.append(f"{in_words(order)} in the record, {in_words(booked)} in the books")
    if different:
        return Finding(kind=Kind.DIFFERENT, slot=slot, order=order, words="; ".join(different))
    words = f"{in_words(order)} in its record, {in_words(booked)} in the books"
    if booked.came_to_nothing and not order.status.is_dead and not (waits and booked.status is OrderStatus.CANCELED):
        return Finding(kind=Kind.CAME_TO_NOTHING, slot=slot, order=order, words=words)
    if booked.filled_quantity > order.filled_quantity + ROUNDING and not waits:
        return Finding(kind=Kind.FILLED_LATER, slot=slot, order=order, words=words)
    return None


def check_booked(
    booked: Sequence[Order], recorded: Mapping[str, Order], run_orders: Mapping[datetime, RecordedOrders]
) -> Iterator[Finding]:
    """Yield a finding for each booked order that no record lists as an order or, if refused at once, as a denial."""
    for order in booked:
        parts = OrderId.parse(order.client_order_id)
        if parts is None or order.client_order_id in recorded:
            continue
        of_run = run_orders.get(parts.slot)
        if of_run and (of_run.problem or (order.came_to_nothing and parts.symbol in of_run.refused)):
            continue
        words = (
            f"{in_words(order)} in the books; {'its slot has no record' if of_run is None else 'its record lacks it'}"
        )
        yield Finding(kind=Kind.NO_RECORD, slot=parts.slot, order=order, words=words)


def in_words(order: Order) -> str:
    """Format an order's status and fill: `filled, 10 at 99.50`."""
    fill = f", {order.filled_quantity:g} at {order.filled_price_usd:,.2f}" if order.filled_price_usd else ""
    return f"{order.status}{fill}"
