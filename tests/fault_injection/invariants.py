"""The invariants, checked after every slot in the broker's books, the journal and the answers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.fault_injection.faulty_services import Accepted
from tests.fault_injection.harness import LIMITS, STRATEGY, Answer, Harness
from trader.schedule.base import parse_slot_id

INVARIANTS: Mapping[str, str] = {
    "twice": "a slot is run once, by the run that claimed it",
    "doubled": "no two orders for one slot, symbol and side",
    "oversold": "no sale of more than is held",
    "short": "no short position",
    "cap": "each buy within MAX_ORDER_USD, MAX_POSITION_FRACTION, the cash buffer and the available cash",
    "count": "no more than MAX_ORDERS_PER_RUN orders in a run",
    "halted": "no buy while the switch is on",
    "closed": "no order while the market is closed",
    "blocked": "no buy while the account is blocked",
    "loss": "no buy after a daily loss of MAX_DAILY_LOSS_FRACTION or more",
    "lost": "every order in the books is in the journal, or is found by the next run",
    "silent": "every slot ends with a record or with an alarm",
    "disagree": "report and books agree",
    "guessed": "no order is left unknown if the broker could have told its fate",
}
NO_RUN = ("ALREADY_RAN", "NOT_DUE")
DEAD = ("rejected", "canceled", "expired")
RECENT = 200
"""The number of recent orders that are checked; no slot has more."""

LOOK_UP = "alpaca GET /orders:by_client_order_id"
KEPT = 100
"""The number of reports that are kept; older ones add nothing new."""

CENT = Decimal("0.01")


@dataclass(slots=True)
class Audit:
    """The books as far as they have been checked; `after` returns the violations of a slot."""

    harness: Harness
    looked_at: int = 0  # accepted orders
    unrecorded: set[str] = field(default_factory=set)  # client order ids
    records: dict[datetime, Mapping[str, Any]] = field(default_factory=dict)  # reports by slot
    ran: set[datetime] = field(default_factory=set)  # slots

    def after(self, answers: Sequence[Answer]) -> list[str]:
        """Return every violation in the events just delivered."""
        new = self.harness.alpaca.accepted[self.looked_at :]
        self.looked_at += len(new)
        self._read(answers)
        found = [
            *self._find_repeats(answers),
            *find_doubles(new),
            *(problem for each in new for problem in find_unlawful(each)),
            *self._find_short(),
            *find_too_many(new),
            *self._find_losses(new, answers),
            *self._find_silent(answers),
            *self._find_disagreeing(answers),
        ]
        return [f"{name}: {words}" for name, words in found]

    def _read(self, answers: Sequence[Answer]) -> None:
        """Read the records of these slots, and those of earlier slots with unrecorded orders."""
        earlier = filter(None, map(slot_of, self.unrecorded))
        for slot in {*(answer.event.slot for answer in answers), *earlier}:
            record = self.harness.record(slot)
            if record is not None:
                self.records[slot] = record["report"]
        for old in sorted(self.records)[:-KEPT]:
            del self.records[old]

    def _find_repeats(self, answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
        for answer in answers:
            if answer.report is None or answer.status in NO_RUN:
                continue
            if answer.event.slot in self.ran:
                yield "twice", f"{answer.event.slot:%H:%M} was run before, but again with {answer.status}"
            if not self.harness.is_claimed(answer.event.slot):
                yield "twice", f"{answer.event.slot:%H:%M} was run without a claim"
            self.ran.add(answer.event.slot)

    def _find_short(self) -> Iterator[tuple[str, str]]:
        for symbol, position in self.harness.alpaca.positions.items():
            if position.quantity < 0:
                yield "short", f"{symbol} {position.quantity}"

    def _find_losses(self, new: Sequence[Accepted], answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
        """Yield unrecorded orders: a run that returns has recorded its own and those of earlier runs that failed."""
        if any(answer.report and answer.status not in NO_RUN for answer in answers):
            yield from (("lost", f"{name} is on no record") for name in self._find_unknown(self.unrecorded))
            self.unrecorded.clear()
        self.unrecorded.update(self._find_unknown([each.order.client_order_id for each in new]))
        returned = {a.event.slot for a in answers if a.report and a.status not in NO_RUN}
        for name in self.unrecorded:
            if slot_of(name) in returned:
                yield "lost", f"{name} is in the books but not in its run's record"

    def _find_unknown(self, ids: Iterable[str]) -> list[str]:
        """Return the ids without a record; an order that was dead on arrival may be recorded as a refusal instead."""
        known = {order["client_order_id"] for report in self.records.values() for order in report["orders"]}
        refused = {
            (slot, denial["symbol"])
            for slot, report in self.records.items()
            for denial in report["denials"]
            if denial["code"] == "ORDER_REJECTED"
        }
        stillborn = {
            each.order.client_order_id
            for each in self.harness.alpaca.accepted[-RECENT:]
            if each.order.status in DEAD
            and not each.order.filled_quantity
            and (slot_of(each.order.client_order_id), each.order.symbol) in refused
        }
        return [name for name in ids if name not in known | stillborn]

    def _find_silent(self, answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
        for answer in answers:
            if answer.error or answer.status in NO_RUN:
                continue
            record = self.records.get(answer.event.slot)
            if answer.report and any(order["status"] == "unknown" for order in answer.report["orders"]):
                yield "silent", f"{answer.event.slot:%H:%M} leaves an order unknown, but raises no alarm"
            if record is None or record["status"] != answer.status:
                kept = record["status"] if record else "nothing"
                yield "silent", f"{answer.event.slot:%H:%M} answered {answer.status}, but the record has {kept}"

    def _find_disagreeing(self, answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
        books = {each.order.client_order_id: each.order for each in self.harness.alpaca.accepted[-RECENT:]}
        told: dict[str, Any] = {}
        for answer in answers:
            record = self.records.get(answer.event.slot)
            for report in filter(None, (answer.report, record)):
                told |= {order["client_order_id"]: order for order in report["orders"]}
        for name, order in told.items():
            if order["status"] == "unknown":
                may_be = name in self.harness.alpaca.late_ids or any(
                    call.startswith(LOOK_UP) for call in self.harness.met
                )
                if name in books and not may_be:
                    yield "guessed", f"{name} is unknown in the report, but {books[name].status} in the books"
                continue
            there = books.get(name)
            if there is None:
                yield "disagree", f"{name} is {order['status']} in the report, but not in the books"
            elif (order["symbol"], order["side"], Decimal(str(order["quantity"]))) != (
                there.symbol,
                there.side,
                there.quantity,
            ):
                yield "disagree", f"{name} is another order in the books: {there.side} {there.quantity} {there.symbol}"


def find_doubles(new: Sequence[Accepted]) -> Iterator[tuple[str, str]]:
    """Yield each symbol and side with more than one new order, whatever the orders' ids are."""
    for (symbol, side), times in Counter((each.order.symbol, each.order.side) for each in new).items():
        if times > 1:
            yield "doubled", f"{side} {symbol} {times} times"


def find_too_many(new: Sequence[Accepted]) -> Iterator[tuple[str, str]]:
    """Yield slots with more orders than MAX_ORDERS_PER_RUN allows."""
    for slot, orders in Counter(slot_of(each.order.client_order_id) for each in new).items():
        if orders > LIMITS["MAX_ORDERS_PER_RUN"]:
            yield "count", f"{orders} orders in the slot {slot}"


def find_unlawful(each: Accepted) -> Iterator[tuple[str, str]]:
    """Yield the rules that an order broke at the moment it was accepted."""
    order, cost = each.order, each.order.quantity * each.price
    words = f"{order.side} {order.quantity} {order.symbol}"
    if order.side == "sell" and order.quantity > each.held:
        yield "oversold", f"{words}, but {each.held} are held"
    if not each.is_open:
        yield "closed", words
    if order.side == "sell":
        return
    if each.is_halted:
        yield "halted", words
    if each.is_blocked:
        yield "blocked", words
    max_usd, min_usd = max(each.equities), min(each.equities)
    if max_usd <= each.last_equity * (1 - Decimal(str(LIMITS["MAX_DAILY_LOSS_FRACTION"]))):
        yield "loss", f"{words}, equity {max_usd:.2f} after {each.last_equity:.2f}"
    most = {
        "MAX_ORDER_USD": Decimal(LIMITS["MAX_ORDER_USD"]),
        "MAX_POSITION_FRACTION": Decimal(str(LIMITS["MAX_POSITION_FRACTION"])) * max_usd - each.held * each.price,
        "CASH_BUFFER_FRACTION": each.cash - Decimal(str(LIMITS["CASH_BUFFER_FRACTION"])) * min_usd,
        "the cash": each.cash,
    }
    for name, usd in most.items():
        if cost > usd + CENT:
            yield "cap", f"{words} for {cost:.2f}, but {name} leaves {usd:.2f}"


def slot_of(client_order_id: str) -> datetime | None:
    """Return the slot in one of the bot's own ids; None for any other id."""
    return parse_slot_id(client_order_id.removeprefix(f"{STRATEGY}-").partition("-")[0])
