"""What really happened in a period, as the broker and the records have it: trades, deposits, splits. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scripts.owner.shadow import BEFORE, ROUNDING, Course, Flow, Trade
from scripts.owner.tape import Step
from trader.audit.fills import Why, name_of_parent, walk
from trader.broker.base import OrderId
from trader.model import NEW_YORK, Order, OrderType, Side
from trader.prices.jumps import SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What the account received or, with a negative amount, paid beside trades."""

    at: datetime
    kind: str  # "dividend", "fraction" of a share after a split, or what the broker calls it
    usd: float
    symbol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the broker knows of a time; None where it does not say."""

    orders: Sequence[Order] | None
    flows: Sequence[Flow] | None = None
    paid: Sequence[Paid] | None = None


def join_orders(booked: Sequence[Order] | None, steps: Sequence[Step]) -> list[Order]:
    """Return the broker's orders, and those on record that it does not have (any more)."""
    recorded: dict[str, Order] = {}
    for step in steps:
        for each in step.placed:
            known = recorded.get(each.client_order_id)
            at = known.filled_at if known else None
            recorded[each.client_order_id] = replace(each, filled_at=each.filled_at or at)
    there = {each.client_order_id for each in booked or ()}
    return [*(booked or ()), *(each for name, each in recorded.items() if name not in there)]


def list_trades(orders: Iterable[Order], strategy: str, steps: Sequence[Step]) -> list[Trade]:
    """Return the fills of orders and their legs, oldest first, each with what it came from."""
    decided = {each.client_order_id: each.price_usd for step in steps for each in step.decided or ()}
    held = _Held(steps)
    found: dict[str, Trade] = {}
    for why, order in walk(orders, strategy):
        at = order.filled_at or _slot_of(order)
        if not (order.filled_quantity and order.filled_price_usd and at):
            continue
        sign = 1 if order.side is Side.BUY else -1
        at = at - BEFORE if why in {Why.STOP, Why.TARGET} else at
        found[order.order_id or order.client_order_id] = Trade(
            at=at,
            symbol=order.symbol,
            quantity=sign * order.filled_quantity,
            price_usd=order.filled_price_usd,
            name=order.client_order_id,
            why=why,
            decided_usd=decided.get(order.client_order_id, _trigger_usd(order)),
            is_all=sign < 0 and not held.after(order.symbol, at),
        )
    return sorted(found.values(), key=lambda each: each.at)


def _trigger_usd(order: Order) -> float | None:
    return order.take_profit_usd if order.type is OrderType.LIMIT else order.stop_loss_usd


def _slot_of(order: Order) -> datetime | None:
    parts = OrderId.parse(name_of_parent(order) or order.client_order_id)
    return parts.slot if parts else None


class _Held:
    """What was held at each look at the account."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = [each for each in steps if each.is_seen]

    def after(self, symbol: str, at: datetime) -> float:
        """Return the shares held at the first look after a time; 0 if there is none."""
        step = next((each for each in self._steps if each.now > at), None)
        held = step.positions.get(symbol) if step else None
        return held.quantity if held else 0.0


def list_flows(steps: Sequence[Step]) -> list[Flow]:
    """Return the deposits and withdrawals that the accounts of the records count, which begin anew each day."""
    flows: list[Flow] = []
    before: Step | None = None
    for step in steps:
        if step.account is None:
            continue
        counted = step.account.flows_usd or 0.0
        if before is not None and before.account is not None:
            is_same_day = before.now.astimezone(NEW_YORK).date() == step.now.astimezone(NEW_YORK).date()
            new_usd = counted - (before.account.flows_usd or 0.0) * is_same_day
            if abs(new_usd) >= 0.005:
                flows.append(Flow(step.now - BEFORE, new_usd))
        before = step
    return flows


def find_splits(steps: Sequence[Step], trades: Sequence[Trade]) -> dict[int, Mapping[str, float]]:
    """Return the splits of holdings whose closes a record lacks, by step: the account has other shares then."""
    by_symbol: defaultdict[str, list[Trade]] = defaultdict(list)
    for trade in trades:
        by_symbol[trade.symbol].append(trade)
    found: dict[int, Mapping[str, float]] = {}
    before: Step | None = None
    for number, step in enumerate(steps):
        if not step.is_seen:
            continue
        ratios = {}
        for symbol, held in before.positions.items() if before else ():
            assert before is not None, "it has positions"
            if symbol in step.bars:
                continue
            traded = sum(each.quantity for each in by_symbol[symbol] if before.now <= each.at < step.now)
            now = step.positions.get(symbol)
            ratio = now.quantity / (held.quantity + traded) if now and held.quantity + traded > ROUNDING else 1.0
            near = min(SPLITS, key=lambda each: abs(each - ratio))
            if abs(ratio / near - 1) < ROUNDING:
                ratios[symbol] = float(near)
        if ratios:
            found[number] = ratios
        before = step
    return found


def find_exits(steps: Sequence[Step], trades: Sequence[Trade]) -> dict[int, Sequence[Trade]]:
    """Return, by step, the sales by stops and targets since the last look of symbols whose closes a record lacks.

    It has those of what is chosen and held, and live does not hold it any more.
    """
    found: dict[int, Sequence[Trade]] = {}
    waiting = deque(each for each in trades if each.why in {Why.STOP, Why.TARGET})
    for number, step in enumerate(steps):
        if not step.is_seen:
            continue
        past = []
        while waiting and waiting[0].at < step.now:
            past.append(waiting.popleft())
        if lacking := [each for each in past if each.symbol not in step.bars]:
            found[number] = lacking
    return found


def find_adjustments(course: Course, steps: Sequence[Step], paid: Sequence[Paid] | None) -> list[Trade]:
    """Return what the account got of splits and dividends otherwise than a course of its trades says.

    The course is paid a dividend on the ex-date, in full, and cash for a part of a share at once. Without `paid`,
    nobody knows what was received, and only other shares are returned.
    """
    at = {each.now: each for each in steps if each.is_seen}
    found = []
    for each in course.restatements:
        step = at.get(each.at)
        held = step.positions.get(each.symbol) if step else None
        more = held.quantity - each.quantity_after if held and each.ratio != 1 else 0.0
        due_usd = each.fraction_usd if more > ROUNDING or paid is not None else 0.0
        if abs(more) > ROUNDING or due_usd:
            price_usd = held.price_usd if held else 0.0
            found.append(_adjust(each.at, each.symbol, more, due_usd, "split", price_usd))
        if each.dividend_usd and paid is not None:
            found.append(_adjust(each.at, each.symbol, 0.0, each.dividend_usd, "dividend"))
    for one in paid or ():
        if one.kind in {"fraction", "dividend"}:
            why = "split" if one.kind == "fraction" else "dividend"
            found.append(_adjust(one.at, one.symbol, 0.0, -one.usd, why))
    return sorted(found, key=lambda each: each.at)


def _adjust(at: datetime, symbol: str, shares: float, cost_usd: float, why: str, price_usd: float = 0.0) -> Trade:
    return Trade(at=at, symbol=symbol, quantity=shares, price_usd=price_usd, why=why, cost_usd=cost_usd)
