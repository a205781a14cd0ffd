"""Round trips: what was bought and sold again, first in, first out, each with the reason of both. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from scripts.run.reconciliation import name_of_parent
from trader.broker.base import OrderId
from trader.model import Order, OrderType, Side

LEAST_QUANTITY = 1e-6
"""Less than this part of a share is the rounding of a sum of quantities."""


class Why(StrEnum):
    """What a fill came from."""

    RULE = "rule"
    STOP = "stop"
    TARGET = "target"
    HAND = "by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Shares bought or sold, at the average price of their order."""

    at: datetime
    symbol: str
    side: Side
    quantity: float
    price_usd: float
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """Shares bought and sold again."""

    symbol: str
    quantity: float
    bought: Fill
    sold: Fill

    @property
    def gain_usd(self) -> float:
        """What it gained, without fees."""
        return self.quantity * (self.sold.price_usd - self.bought.price_usd)

    @property
    def gain_fraction(self) -> float:
        """The gain as a fraction of what was paid."""
        return self.sold.price_usd / self.bought.price_usd - 1


@dataclass(slots=True, kw_only=True)
class Trades:
    """All trips, the buys that are left, and the sales of shares whose buy is not among the fills."""

    trips: list[Trip] = field(default_factory=list)
    left: list[Fill] = field(default_factory=list)
    unmatched: list[Fill] = field(default_factory=list)


def list_fills(orders: Iterable[Order], strategy: str) -> list[Fill]:
    """Return the fills of orders and their legs, oldest first, in the symbols that the strategy has traded.

    An order without a price or a time of its fill has none here.
    """
    found = {order.order_id or order.client_order_id: (why, order) for why, order in walk(orders, strategy)}
    own = {order.symbol for why, order in found.values() if why is not Why.HAND}
    fills = [
        Fill(
            at=order.filled_at,
            symbol=order.symbol,
            side=order.side,
            quantity=order.filled_quantity,
            price_usd=order.filled_price_usd,
            why=why,
        )
        for why, order in found.values()
        if order.symbol in own and order.filled_quantity and order.filled_price_usd and order.filled_at
    ]
    return sorted(fills, key=lambda each: each.at)


def walk(orders: Iterable[Order], strategy: str) -> Iterator[tuple[Why, Order]]:
    """Yield orders and their legs, each with what it came from; a leg counts for the strategy of its entry."""
    for order in orders:
        parent = name_of_parent(order)
        parts = OrderId.parse(parent or order.client_order_id)
        if parts is None or parts.strategy != strategy:
            yield Why.HAND, order
            yield from ((Why.HAND, leg) for leg in order.legs)
            continue
        yield (_tell_leg(order) if parent else Why.STOP if parts.stop_number else Why.RULE), order
        yield from ((_tell_leg(leg), leg) for leg in order.legs)


def _tell_leg(leg: Order) -> Why:
    return Why.STOP if leg.type is OrderType.STOP else Why.TARGET


def match(fills: Sequence[Fill]) -> Trades:
    """Match sales with the oldest shares of their symbol. `fills` come oldest first."""
    trades = Trades()
    lots: defaultdict[str, deque[Fill]] = defaultdict(deque)
    for fill in fills:
        if fill.side is Side.BUY:
            lots[fill.symbol].append(fill)
            continue
        left = fill.quantity
        while left > LEAST_QUANTITY and lots[fill.symbol]:
            lot = lots[fill.symbol].popleft()
            quantity = min(left, lot.quantity)
            trades.trips.append(Trip(symbol=fill.symbol, quantity=quantity, bought=lot, sold=fill))
            left -= quantity
            if lot.quantity - quantity > LEAST_QUANTITY:
                lots[fill.symbol].appendleft(replace(lot, quantity=lot.quantity - quantity))
        if left > LEAST_QUANTITY:
            trades.unmatched.append(replace(fill, quantity=left))
    trades.left = [lot for queue in lots.values() for lot in queue]
    return trades
