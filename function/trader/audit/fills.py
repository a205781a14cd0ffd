"""Fills of orders: shares bought and sold, each with what it came from. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trader.broker.base import OrderId
from trader.model import Order, OrderType, Side

LEGS = ("-stop-loss", "-take-profit")
"""How the client order ids of the embedded broker's legs end, after those of their orders."""


def name_of_parent(order: Order) -> str:
    """Return the client order id of the order whose leg this is by its own id; empty if it is no such leg."""
    for end in LEGS:
        if order.client_order_id.endswith(end):
            return order.client_order_id.removesuffix(end)
    return ""


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
    client_order_id: str = ""


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
            client_order_id=order.client_order_id,
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
