"""Since when a holding is held: by the strategy's own buy, as far as shares of it are left."""

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from tests.builders import SLOT, buy, sell
from trader.broker.base import OrderId
from trader.model import Order, OrderStatus, Side
from trader.stages.pipeline import RunServices, find_buys


def filled(side: Side, day: int, quantity: float = 10, *, is_own: bool = True) -> Order:
    """Return an order of a day that is filled, of the strategy or by hand."""
    moment = SLOT + timedelta(days=day)
    name = str(OrderId("trend", moment, "A", side)) if is_own else f"by-hand-{day}"
    return replace(
        (buy if side is Side.BUY else sell)("A"),
        client_order_id=name,
        status=OrderStatus.FILLED,
        quantity=quantity,
        filled_quantity=quantity,
        filled_price_usd=100.0,
        filled_at=moment,
    )


def held_since(*orders: Order) -> datetime | None:
    """Return when A was bought, after these orders, oldest first."""
    broker = SimpleNamespace(orders_of=lambda _: tuple(reversed(orders)))
    services = cast("RunServices", SimpleNamespace(broker=broker))
    return find_buys(services, ["A"], "trend").get("A")


BUY, SELL = Side.BUY, Side.SELL


@pytest.mark.parametrize(
    ("orders", "day"),
    [
        ([filled(BUY, 1)], 1),
        ([filled(BUY, 1), filled(BUY, 3, is_own=False)], 1),
        ([filled(BUY, 1), filled(SELL, 2), filled(BUY, 3)], 3),
        ([filled(BUY, 1), filled(SELL, 2), filled(BUY, 3, is_own=False)], 3),
        ([filled(BUY, 1), filled(BUY, 2, is_own=False), filled(SELL, 3, is_own=False)], 1),
        ([filled(BUY, 2, is_own=False)], 2),
        ([filled(SELL, 2)], None),
    ],
)
def test_a_holding_is_held_since_its_own_buy_or_else_the_last_one(orders: list[Order], day: int | None) -> None:
    assert held_since(*orders) == (None if day is None else SLOT + timedelta(days=day))
