"""Round trips: first in, first out, each with what it came from."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from scripts.owner.trips import Trades, match
from tests.builders import SLOT
from trader.audit.fills import Fill, Why, list_fills
from trader.broker.base import OrderId
from trader.model import Order, OrderStatus, OrderType, Side

BUY, SELL = Side.BUY, Side.SELL


def order(day: int, side: Side, quantity: float, price_usd: float, **values: Any) -> Order:
    """Return a filled order of a day; its own unless it is given another client order id."""
    made = Order(
        client_order_id=str(OrderId("trend", SLOT + timedelta(days=day), "A", side)),
        symbol="A",
        side=side,
        quantity=quantity,
        price_usd=price_usd,
        status=OrderStatus.FILLED,
        filled_quantity=quantity,
        filled_price_usd=price_usd,
        filled_at=SLOT + timedelta(days=day),
        order_id=f"{day}-{side}-{quantity}",
    )
    return replace(made, **values)


def leg(day: int, kind: OrderType, quantity: float, price_usd: float) -> Order:
    return order(day, SELL, quantity, price_usd, client_order_id=f"leg-{day}", order_id=f"leg-{day}", type=kind)


def trade(*orders: Order) -> Trades:
    return match(list_fills(orders, "trend"))


def told(trades: Trades) -> list[tuple[float, object, str, str]]:
    return [(each.quantity, each.gain_usd, each.bought.why, each.sold.why) for each in trades.trips]


@pytest.mark.parametrize(("kind", "why"), [(OrderType.STOP, Why.STOP), (OrderType.LIMIT, Why.TARGET)])
def test_a_leg_of_a_bracket_tells_why_it_was_sold(kind: OrderType, why: Why) -> None:
    entry = order(0, BUY, 10, 100.0, legs=(leg(3, kind, 10, 97.0),))
    assert told(trade(entry)) == [(10, pytest.approx(-30.0), "rule", why)]


@pytest.mark.parametrize(
    ("kind", "end", "why"),
    [(OrderType.STOP, "stop-loss", Why.STOP), (OrderType.LIMIT, "take-profit", Why.TARGET)],
)
def test_so_does_a_leg_that_is_an_order_of_its_own(kind: OrderType, end: str, why: Why) -> None:
    entry = order(0, BUY, 10, 100.0)
    sold = order(2, SELL, 10, 110.0, client_order_id=f"{entry.client_order_id}-{end}", type=kind)
    assert told(trade(entry, sold)) == [(10, pytest.approx(100.0), "rule", why)]


def test_a_stop_that_protection_placed_is_a_stop() -> None:
    name = str(OrderId("trend", SLOT, "A", SELL, 1))
    sold = order(2, SELL, 10, 97.0, client_order_id=name)
    assert told(trade(order(0, BUY, 10, 100.0), sold)) == [(10, pytest.approx(-30.0), "rule", "stop")]


def test_the_oldest_shares_are_sold_first_and_in_parts() -> None:
    trades = trade(order(0, BUY, 10, 100.0), order(1, BUY, 10, 110.0, order_id="2"), order(2, SELL, 15, 120.0))
    assert [(each.quantity, each.bought.price_usd) for each in trades.trips] == [(10, 100.0), (5, 110.0)]
    assert [(each.quantity, each.price_usd) for each in trades.left] == [(5, 110.0)]


def test_the_owners_trades_count_in_the_symbols_of_the_strategy() -> None:
    sold = order(2, SELL, 10, 120.0, client_order_id="by-hand")
    assert told(trade(order(0, BUY, 10, 100.0), sold)) == [(10, pytest.approx(200.0), "rule", "by hand")]
    other = order(2, BUY, 10, 120.0, client_order_id="by-hand", symbol="B")
    assert trade(other).left == []


def test_another_strategys_orders_are_not_its_own() -> None:
    name = str(OrderId("other", SLOT, "A", BUY))
    assert trade(order(0, BUY, 10, 100.0, client_order_id=name)) == Trades()


def test_a_sale_without_its_buy_is_named_and_no_trip() -> None:
    trades = trade(order(0, BUY, 4, 100.0), order(1, SELL, 10, 110.0))
    assert [each.quantity for each in trades.trips] == [4]
    assert [each.quantity for each in trades.unmatched] == [6]


def test_what_was_not_filled_is_none() -> None:
    assert trade(order(0, BUY, 10, 100.0, filled_quantity=0.0, filled_price_usd=None)) == Trades()


def test_the_rounding_of_parts_of_shares_leaves_nothing() -> None:
    trades = trade(order(0, BUY, 0.3, 100.0), order(1, SELL, 0.1 + 0.2, 110.0))
    assert (len(trades.trips), trades.left, trades.unmatched) == (1, [], [])


def test_fills_come_oldest_first() -> None:
    fills: list[Fill] = list_fills([order(3, SELL, 1, 1.0), order(1, BUY, 1, 1.0)], "trend")
    assert [each.side for each in fills] == [BUY, SELL]
