"""The invariants, checked after every slot in the broker's books, the journal and the answers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from scripts.testkit.alpaca_books import FakeOrder
from tests.fault_injection.faulty_services import BOOKS, OF_SYMBOLS, Accepted
from tests.fault_injection.harness import (
    MAX_PRICE_DRIFT_FRACTION,
    STOP_LOSS_FRACTION,
    STRATEGY,
    Answer,
    Harness,
)
from trader.schedule.base import parse_slot_id

INVARIANTS: Mapping[str, str] = {
    "twice": "a slot is run once, by the run that claimed it",
    "doubled": "no two orders for one slot, symbol and side, and no two stops for the same shares",
    "oversold": "no sale of more than is held",
    "short": "no short position",
    "cap": "each buy within MAX_ORDER_USD, MAX_POSITION_FRACTION, the cash buffer and the available cash",
    "count": "no more than MAX_ORDERS_PER_RUN orders in a run",
    "halted": "no buy while the switch is on",
    "closed": "no order but a stop while the market is closed",
    "blocked": "no buy while the account is blocked",
    "loss": "no buy after a daily loss of MAX_DAILY_LOSS_FRACTION or more",
    "lost": "every order in the books is in the journal, or is found by the next run",
    "silent": "every slot ends with a record or with an alarm",
    "disagree": "report and books agree",
    "guessed": "no order is left unknown if the broker could have told its fate",
    "stop": "every buy has, as far as it was filled, a working stop within STOP_LOSS_FRACTION of its price, good till "
    "canceled (of a part of a share: for the day), when its slot ends",
    "fewer": "no slot ends with fewer protected holdings than it began with, except those sold or named",
    "bare": "every holding that the bot bought is protected or named when a slot ends",
    "outlived": "no entry or sale of an earlier slot is open when a slot ends",
    "unwanted": "only a symbol with a DOWN insight is sold",
}
NO_RUN = ("ALREADY_RAN", "NOT_DUE")
NOT_BEGUN = (*NO_RUN, "UNDER_WAY", "EventError", "SettingsError", "ParametersError")
"""The statuses of a run that did not get as far as the broker, or gave way to another."""

CUT_OFF = ("killed", "timed out")
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
    repeated: set[datetime] = field(default_factory=set)  # slots with a second run that could not read the claim

    def after(self, answers: Sequence[Answer]) -> list[str]:
        """Return every violation in the events just delivered."""
        new = self.harness.alpaca.accepted[self.looked_at :]
        self.looked_at += len(new)
        self._read(answers)
        found = [
            *self._find_repeats(answers),
            *find_doubles(new),
            *self._find_stacked(),
            *(problem for each in new for problem in find_unlawful(each, self.harness.limits)),
            *self._find_short(),
            *find_too_many(new, self.harness.limits["MAX_ORDERS_PER_RUN"]),
            *self._find_unwanted(new),
            *self._find_bare(answers),
            *self._find_outlived(answers),
            *self._find_losses(new, answers),
            *self._find_silent(answers),
            *self._find_disagreeing(answers),
        ]
        return [f"{name}: {words}" for name, words in found]

    def _read(self, answers: Sequence[Answer]) -> None:
        """Read the records of these slots, and those of earlier slots with unrecorded orders."""
        times = Counter(answer.event.slot for answer in answers)
        self.repeated |= {
            answer.event.slot for answer in answers if times[answer.event.slot] > 1 and answer.status == "JournalError"
        }
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

    def _find_stacked(self) -> Iterator[tuple[str, str]]:
        alpaca = self.harness.alpaca
        for symbol, position in alpaca.positions.items():
            stops = alpaca.working_stops(symbol)
            if (stopped := sum(stop.remaining for stop in stops)) > position.quantity and len(stops) > 1:
                yield "doubled", f"stops for {stopped} {symbol}, but {position.quantity} are held"

    def _find_unwanted(self, new: Sequence[Accepted]) -> Iterator[tuple[str, str]]:
        for each in new:
            slot = slot_of(each.order.client_order_id)
            if each.order.side != "sell" or each.is_stop or slot is None:
                continue
            plan = self.harness.plan(slot) or self.harness.record(slot) or {}
            insights = (plan.get("decision") or {}).get("insights") or []
            if each.order.symbol not in {one["symbol"] for one in insights if one["direction"] == "DOWN"}:
                yield "unwanted", f"{each.order.symbol} is sold without a DOWN insight"

    def _find_bare(self, answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
        """Yield holdings without their stop, if a run got as far as looking after them."""
        if all(answer.status in NOT_BEGUN for answer in answers) or any(each.status in CUT_OFF for each in answers):
            return
        alpaca = self.harness.alpaca
        named = self._find_named(answers)
        with alpaca.lock:
            for symbol in sorted(alpaca.covered_at_first.keys() & alpaca.positions.keys()):
                shares = min(alpaca.covered_at_first[symbol], alpaca.positions[symbol].quantity)
                if not alpaca.is_covered(symbol, shares) and symbol not in named | alpaca.disturbed:
                    yield "fewer", f"{symbol} had a stop at first, but has none at the end, and is not named"
            if self._is_blind(answers):
                return
            for symbol in sorted(alpaca.positions.keys() - named - alpaca.disturbed):
                entry, left = find_own(alpaca.orders, symbol, alpaca.positions[symbol].quantity)
                if entry is None or left <= 0:
                    continue
                if not alpaca.is_covered(symbol, left):
                    yield "bare", f"{left} {symbol} have no working stop, and are not named"
                    continue
                # The stop belongs to the price of the decision, which an order that is filled late need not get.
                paid = min(entry.filled_price or Decimal(0), alpaca.decided.get(entry.id, Decimal("inf")))
                paid /= entry.split_ratio
                least = paid * Decimal(str((1 - STOP_LOSS_FRACTION) * (1 - MAX_PRICE_DRIFT_FRACTION))) - CENT
                for stop in alpaca.working_stops(symbol) if symbol not in alpaca.moved else ():
                    lasting = "day" if stop.quantity % 1 else "gtc"
                    if (stop.stop_price or 0) < least or stop.time_in_force != lasting:
                        words = f"at {stop.stop_price}, {stop.time_in_force}"
                        yield "stop", f"{symbol} was bought at {paid:.2f}, but its stop is {words}"

    def _find_named(self, answers: Sequence[Answer]) -> set[str]:
        """Return the symbols that the report and the log name as unprotected.

        An ERROR is required, unless the broker did not tell what the bot had bought.
        """
        levels = ("ERROR", "WARNING") if any(OF_SYMBOLS in call for call in self.harness.met) else ("ERROR",)
        lines = [line for line in self.harness.records if line.get("message") == "held without a stop loss"]
        logged = {name for line in lines if line.get("level") in levels for name in str(line["symbols"]).split(",")}
        reports = [answer.report for answer in answers if answer.report and answer.status not in NOT_BEGUN]
        reported = {symbol for report in reports for symbol in report["unprotected"]}
        return logged & reported if reports else logged

    def _is_blind(self, answers: Sequence[Answer]) -> bool:
        """Tell whether the services kept the run from seeing the holdings, or told it something else."""
        lies = [f"alpaca GET {name}: {kind}" for name in ("/positions", "/orders") for kind in ("stale", "empty")]
        lies.append(f"alpaca GET {OF_SYMBOLS}: stale")
        is_lied_to = any(lie in self.harness.met for lie in lies)
        is_kept_off = any(call.startswith(("alpaca", "ssm")) for call in self.harness.met) or "CredentialsError" in {
            answer.status for answer in answers
        }
        failed = ("the orders and holdings could not be checked", "the holdings could not be checked")
        says_so = any(answer.error for answer in answers) or any(
            line.get("level") == "ERROR" and line.get("message") in failed for line in self.harness.records
        )
        return is_lied_to or (is_kept_off and says_so)

    def _find_outlived(self, answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
        """Yield orders of earlier slots that are still open, and those of these slots whose runs did not say so."""
        runs = [answer for answer in answers if answer.status not in NOT_BEGUN]
        if not runs or any(answer.error for answer in runs):
            return
        hides = ("s3 LIST", f"alpaca GET {BOOKS}", "alpaca DELETE")
        if any(call.startswith(hides) for call in self.harness.met):
            return
        told = {denial["symbol"] for each in runs if each.report for denial in each.report["denials"]}
        for order in self.harness.alpaca.open_orders():
            slot = slot_of(order.client_order_id)
            if slot is None or "-stop" in order.client_order_id or order.status == "pending_cancel":
                continue
            if order.client_order_id not in self.harness.alpaca.late_ids and (
                slot < min(answer.event.slot for answer in runs) or order.symbol not in told
            ):
                yield "outlived", f"{order.client_order_id} is still {order.status}"

    def _find_losses(self, new: Sequence[Accepted], answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
        """Yield unrecorded orders: a run that returns has recorded its own and those of earlier runs that failed."""
        sees_earlier = not any(call.startswith("s3 LIST") for call in self.harness.met)
        if sees_earlier and any(answer.report and answer.status not in NO_RUN for answer in answers):
            yield from (("lost", f"{name} is on no record") for name in self._find_unknown(self.unrecorded))
            self.unrecorded.clear()
        self.unrecorded.update(self._find_unknown([each.order.client_order_id for each in new]))
        returned = {a.event.slot for a in answers if a.report and a.status not in NO_RUN}
        for name in self.unrecorded:
            if slot_of(name) in returned:
                yield "lost", f"{name} is in the books but not in its run's record"

    def _find_unknown(self, ids: Iterable[str]) -> list[str]:
        """Return the ids without a record; an order that was dead on arrival may be recorded as a refusal instead."""
        known = {order["client_order_id"] for report in self.records.values() for order in orders_in(report)}
        refused = {
            (slot, denial["symbol"])
            for slot, report in self.records.items()
            for denial in report["denials"]
            if denial["code"] in ("ORDER_REJECTED", "UNPROTECTED")
        }
        stillborn = {
            each.order.client_order_id
            for each in self.harness.alpaca.accepted[-RECENT:]
            if each.order.status in DEAD
            and not each.order.filled_quantity
            and (slot_of(each.order.client_order_id), each.order.symbol) in refused
        }
        unknown = [name for name in ids if name not in known | stillborn]
        return [name for name in unknown if not self._is_without_journal(name)]

    def _is_without_journal(self, client_order_id: str) -> bool:
        """Tell whether an order is a stop of a run that could not claim its slot: only log and alarm tell of it."""
        slot = slot_of(client_order_id)
        if "-stop" not in client_order_id or slot is None:
            return False
        return slot in self.repeated or not self.harness.is_claimed(slot)

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
                told |= {order["client_order_id"]: order for order in orders_in(report)}
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


def orders_in(report: Mapping[str, Any]) -> list[Any]:
    """Return the orders in a report, with those that protect holdings."""
    return [*report["orders"], *report["stops"]]


def find_own(orders: Sequence[FakeOrder], symbol: str, held: Decimal) -> tuple[FakeOrder | None, Decimal]:
    """Return the bot's last buy of a symbol, and how many of its shares are left.

    What somebody else has sold since is first of what he has bought since.
    """
    of_symbol = [order for order in orders if order.symbol == symbol]
    entries = [
        order
        for order in of_symbol
        if order.side == "buy" and order.filled_quantity and slot_of(order.client_order_id) is not None
    ]
    if not entries:
        return None, Decimal(0)
    entry = max(entries, key=lambda order: order.submitted_at)
    left, of_others = entry.filled_quantity * entry.split_ratio, Decimal(0)
    for order in sorted(of_symbol, key=lambda order: order.submitted_at):
        shares = order.filled_quantity * order.split_ratio
        if order.parent is not entry and order.submitted_at <= entry.submitted_at:
            continue
        if order.side == "buy":
            of_others += shares
            continue
        is_own = order.parent is entry or slot_of(order.client_order_id) is not None
        taken = Decimal(0) if is_own else min(of_others, shares)
        of_others -= taken
        left -= shares - taken
    return entry, min(held, left)


def find_doubles(new: Sequence[Accepted]) -> Iterator[tuple[str, str]]:
    """Yield each symbol and side with more than one new order besides stops, whatever the orders' ids are."""
    orders = [each.order for each in new if not each.is_stop]
    for (symbol, side), times in Counter((order.symbol, order.side) for order in orders).items():
        if times > 1:
            yield "doubled", f"{side} {symbol} {times} times"


def find_too_many(new: Sequence[Accepted], most: float) -> Iterator[tuple[str, str]]:
    """Yield slots with more orders than MAX_ORDERS_PER_RUN allows, without stops."""
    for slot, orders in Counter(slot_of(each.order.client_order_id) for each in new if not each.is_stop).items():
        if orders > most:
            yield "count", f"{orders} orders in the slot {slot}"


def find_unlawful(each: Accepted, limits: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield the rules that an order broke at the moment it was accepted."""
    order, cost = each.order, each.order.quantity * each.price
    words = f"{order.side} {order.quantity} {order.symbol}"
    if order.side == "sell" and order.quantity > each.held:
        yield "oversold", f"{words}, but {each.held} are held"
    if slot_of(order.client_order_id) is None:
        yield "lost", f"{words} has the id {order.client_order_id}, by which no other run can find it"
    if not each.is_open and order.type != "stop":
        yield "closed", words
    if order.side == "buy" and {leg.type for leg in order.legs} != {"stop", "limit"} and not order.quantity % 1:
        yield "stop", f"{words} without a bracket"
    if order.side == "sell":
        return
    if each.is_halted:
        yield "halted", words
    if each.is_blocked:
        yield "blocked", words
    max_usd, min_usd = max(each.equities), min(each.equities)
    if max_usd <= each.last_equity * (1 - Decimal(str(limits["MAX_DAILY_LOSS_FRACTION"]))):
        yield "loss", f"{words}, equity {max_usd:.2f} after {each.last_equity:.2f}"
    most = {
        "MAX_ORDER_USD": Decimal(limits["MAX_ORDER_USD"]),
        "MAX_POSITION_FRACTION": Decimal(str(limits["MAX_POSITION_FRACTION"])) * max_usd - each.held * each.price,
        "CASH_BUFFER_FRACTION": each.cash - Decimal(str(limits["CASH_BUFFER_FRACTION"])) * min_usd,
        "the cash": each.cash,
    }
    for name, usd in most.items():
        if cost > usd + CENT:
            yield "cap", f"{words} for {cost:.2f}, but {name} leaves {usd:.2f}"


def slot_of(client_order_id: str) -> datetime | None:
    """Return the slot in one of the bot's own ids; None for any other id."""
    return parse_slot_id(client_order_id.removeprefix(f"{STRATEGY}-").partition("-")[0])
