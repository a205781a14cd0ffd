"""What does not add up between the broker's activities, its orders, the journal and the account. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from scripts.console import format_count
from scripts.export.lots import PLACES, Ledger
from scripts.export.statement import Entry, Fill, Group, Statement
from scripts.run.reconciliation import RecordedOrders
from trader.audit.fills import Why, name_of_parent, walk
from trader.broker.base import OrderId
from trader.model import NEW_YORK, Order

HALF_A_CENT = Decimal("0.005")
CENT = Decimal("0.01")


class Kind(StrEnum):
    """Kinds of differences."""

    NO_RECORD = "NO RECORD"
    NO_ORDER = "NO ORDER"
    NO_FILL = "NO FILL"
    UNREADABLE = "UNREADABLE"
    NO_BUY = "NO BUY"
    SPLIT = "SPLIT"
    SHARES = "SHARES MOVED"
    UNKNOWN = "UNKNOWN"
    HOLDING = "HOLDING"
    CASH = "CASH"


REMEDIES: Mapping[Kind, str] = {
    Kind.NO_RECORD: "the bot's own order, and no record has it: see make reconcile; a record may have been removed.",
    Kind.NO_ORDER: "neither the broker's orders nor a record say who placed it.",
    Kind.NO_FILL: "an order is filled, and the activities lack it: look for it at the broker, and export again later.",
    Kind.UNREADABLE: "a record that cannot be read: the bucket may hold an older version of it.",
    Kind.NO_BUY: "the shares came from somewhere else: write what they cost into lots.csv yourself.",
    Kind.SPLIT: "a split found other shares than the lots have.",
    Kind.SHARES: "shares moved without a trade: correct the lots of this symbol yourself.",
    Kind.UNKNOWN: "activities.csv has the entry as the broker wrote it; ask the broker what it is.",
    Kind.HOLDING: "the lots are not complete, or shares moved without a trade.",
    Kind.CASH: "an activity is missing, or still to come: fees are entered a day later. Export again later.",
}
"""What a kind means and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that does not add up."""

    kind: Kind
    day: date | None = None
    symbol: str = ""
    usd: Decimal | None = None
    reference: str = ""  # the fill, order or entry that it is about
    words: str


def about(kind: Kind, fill: Fill, words: str, usd: Decimal | None = None) -> Difference:
    """Return a difference about a fill; `usd` is the part of its amount that it is about."""
    amount_usd = fill.cash_usd if usd is None else usd
    return Difference(kind=kind, day=fill.day, symbol=fill.symbol, usd=amount_usd, reference=fill.fill_id, words=words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a fill came from: `why`, and the bot's own client order id and slot if it has them."""

    why: str
    client_order_id: str = ""
    slot: datetime | None = None


UNKNOWN_ORIGIN = "unknown"


def find_origins(statement: Statement, runs: Sequence[RecordedOrders], strategy: str) -> Mapping[str, Origin]:
    """Return the origin of each fill by its id: of the broker's order or, if that is gone, of the record's."""
    found = {
        order.order_id: _tell(why, order, strategy)
        for orders in ([each for run in runs for each in (*run.orders, *run.stops)], statement.orders)
        for why, order in walk(orders, strategy)
        if order.order_id
    }
    return {each.fill_id: _find_origin(each, found) for each in statement.fills}


def _find_origin(fill: Fill, found: Mapping[str, Origin]) -> Origin:
    if not fill.order_id:
        return Origin(why="split")  # the fraction of a share that a split left over
    return found.get(fill.order_id, Origin(why=UNKNOWN_ORIGIN))


def _tell(why: Why, order: Order, strategy: str) -> Origin:
    parts = OrderId.parse(name_of_parent(order) or order.client_order_id)
    if parts is None:
        return Origin(why=why, client_order_id="" if why is Why.HAND else order.client_order_id)
    if parts.strategy != strategy:
        return Origin(why=f"strategy {parts.strategy}", client_order_id=order.client_order_id, slot=parts.slot)
    return Origin(why=why, client_order_id=order.client_order_id, slot=parts.slot)


def find_unmatched(
    fills: Sequence[Fill],
    origins: Mapping[str, Origin],
    runs: Sequence[RecordedOrders],
    strategy: str,
    oldest: datetime | None,
) -> Iterator[Difference]:
    """Yield the year's fills that no record explains, and the records that cannot be read. `oldest` is the first."""
    recorded = {each.client_order_id for run in runs for each in (*run.orders, *run.stops)}
    unreadable = {run.slot for run in runs if run.problem}
    for run in runs:
        if run.problem:
            yield Difference(kind=Kind.UNREADABLE, day=_day(run.slot), words=run.problem)
    for fill in fills:
        origin = origins[fill.fill_id]
        what = f"{fill.side} {_plain(fill.quantity)} at {_plain(fill.price_usd)}"
        if origin.why == UNKNOWN_ORIGIN:
            yield about(Kind.NO_ORDER, fill, f"{what}: order {fill.order_id} is not known")
            continue
        parts = OrderId.parse(origin.client_order_id)
        if parts is None or parts.strategy != strategy or origin.client_order_id in recorded:
            continue  # a hand trade, another strategy's, or the leg of a bracket, which no record lists
        if parts.slot in unreadable:
            continue
        is_gone = oldest is None or parts.slot < oldest
        begins = f"the journal begins {_day(oldest)}" if oldest else "the journal is empty"
        words = begins if is_gone else "the record of its slot lacks it, or there is none"
        yield about(Kind.NO_RECORD, fill, f"{what}, {origin.client_order_id}: {words}")


def find_missing(
    statement: Statement, runs: Sequence[RecordedOrders], strategy: str, first: date, last: date
) -> Iterator[Difference]:
    """Yield the orders of the year that are filled, as the broker or a record says, and whose fills do not add up."""
    filled: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in statement.fills:
        filled[fill.order_id] += fill.quantity
    booked = {order.order_id: order for _, order in walk(statement.orders, strategy)}
    recorded = {each.order_id: each for run in runs for each in (*run.orders, *run.stops) if each.order_id}
    for order_id, order in {**recorded, **booked}.items():
        at = order.filled_at or order.submitted_at
        day = None if at is None else _day(at)
        if not order.filled_quantity or (day is not None and not first <= day <= last):
            continue
        quantity = Decimal(repr(order.filled_quantity))
        if abs(quantity - filled[order_id]) > PLACES:
            source = "the broker's orders" if order_id in booked else "its record"
            words = f"{order.side} {_plain(quantity)} filled by {source}, {_plain(filled[order_id])} by the activities"
            yield Difference(
                kind=Kind.NO_FILL, day=day, symbol=order.symbol, reference=order.client_order_id, words=words
            )


def find_in_lots(statement: Statement, ledger: Ledger, first: date, last: date) -> Iterator[Difference]:
    """Yield the year's sales without a buy, and the splits and holdings that do not fit the lots."""
    for each in ledger.closed:
        if each.bought is None and first <= each.sold.day <= last:
            words = f"{_plain(each.quantity)} shares sold, and no buy of them is known"
            yield about(Kind.NO_BUY, each.sold, words, each.proceeds_usd)
    for split, held in ledger.misfits:
        words = f"{_plain(split.removed)} became {_plain(split.added)}, but the lots have {_plain(held)}"
        yield Difference(kind=Kind.SPLIT, day=split.day, symbol=split.symbol, words=words)
    lots = ledger.quantities()
    for symbol in sorted({*lots, *statement.holdings}):
        ours, theirs = lots.get(symbol, Decimal(0)), statement.holdings.get(symbol, Decimal(0))
        if abs(ours - theirs) > PLACES:
            words = f"{_plain(ours)} shares by the lots, {_plain(theirs)} by the account as it is now"
            yield Difference(kind=Kind.HOLDING, symbol=symbol, words=words)


def find_in_entries(entries: Sequence[Entry], first: date, last: date) -> Iterator[Difference]:
    """Yield what is not understood: of the year, or of the time before if it changes shares."""
    kinds = {Group.SHARES: Kind.SHARES, Group.UNKNOWN: Kind.UNKNOWN}
    for each in entries:
        is_shown = first <= each.day <= last or (each.group is Group.SHARES and each.day < first)
        if each.group in kinds and is_shown and not each.is_canceled:
            yield Difference(
                kind=kinds[each.group],
                day=each.day,
                symbol=each.symbol,
                usd=each.amount_usd,
                reference=each.entry_id,
                words=f"{each.kind}: {each.words}",
            )


def find_in_cash(statement: Statement) -> Iterator[Difference]:
    """Yield the cash that all activities together do not explain.

    An amount of a fill that is not in whole cents may be rounded by the broker either way, by half a cent.
    """
    expected = statement.opening_usd + statement.moved_usd()
    rounded = sum(bool(each.amount_usd % CENT) for each in statement.fills)
    usd = statement.cash_usd - expected
    if abs(usd) > HALF_A_CENT * rounded:
        words = (
            f"the account has {statement.cash_usd:,.2f} USD, and its activities add up to {expected:,.2f}"
            f"{f'; {format_count(rounded, "fill")} in parts of a cent explain less' if rounded else ''}"
        )
        yield Difference(kind=Kind.CASH, usd=usd, words=words)


def _day(moment: datetime) -> date:
    return moment.astimezone(NEW_YORK).date()


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")
