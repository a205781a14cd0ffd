"""The embedded account's stops for parts of a share last for a day, as at a broker, whatever happens to the shares."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from tests.builders import sell
from tests.unit.trader.broker.test_embedded_restated import account, bought, closes_of, exits, slot
from trader.model import OrderStatus, OrderType

STOP_USD = 970.0

STOP = replace(
    sell(quantity=1.9138, price_usd=STOP_USD),
    client_order_id="trend-20220927T1945Z-AAPL-stop1",
    type=OrderType.STOP,
    stop_loss_usd=STOP_USD,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "account.json"


def protected(file: Path, quantity: float = 1.9138, *, now: datetime | None = None) -> Sequence[float]:
    """Buy a part of a share at 1,000 on day 40, place a stop at 970, and return the closes so far."""
    prices = bought(file, quantity, bracket=False)
    account(file, closes_of(prices), now=now).submit(replace(STOP, quantity=quantity))
    return prices


def fate(file: Path, prices: Sequence[float], now: datetime | None = None) -> tuple[OrderStatus, float | None]:
    """Return what has become of the stop, and the price at which it has sold."""
    broker = account(file, closes_of(prices), now=now)
    broker.account()
    (order,) = [each for each in broker.orders_of(["AAPL"]) if each.client_order_id == STOP.client_order_id]
    return order.status, order.filled_price_usd


def test_a_stop_that_has_ended_sells_on_no_later_day(file: Path) -> None:
    prices = protected(file)
    assert fate(file, [*prices, 950, 1000]) == (OrderStatus.EXPIRED, None)


def test_a_stop_sells_at_the_close_of_its_own_day(file: Path) -> None:
    *before, _ = protected(file)
    assert fate(file, [*before, 950, 1000]) == (OrderStatus.FILLED, 950)


def test_a_stop_from_after_the_close_lasts_through_the_next_day(file: Path) -> None:
    prices = protected(file, now=slot(40, 16))
    assert fate(file, [*prices, 950, 1000]) == (OrderStatus.FILLED, 950)


def test_a_stop_from_after_the_close_ends_with_the_next_day(file: Path) -> None:
    prices = protected(file, now=slot(40, 16))
    assert fate(file, [*prices, 1000, 950]) == (OrderStatus.EXPIRED, None)


def test_a_dividend_leaves_the_stop_its_part_of_a_share_until_the_day_ends(file: Path) -> None:
    prices = protected(file)
    restated = closes_of([each * 0.99 for each in prices])
    on_the_day = account(file, restated, now=slot(40, 15).replace(minute=50))
    assert exits(on_the_day) == [(OrderType.STOP, 1.9138, 960.3)]
    next_day = account(file, closes_of([*(each * 0.99 for each in prices), 990]))
    assert next_day.open_orders() == ()


def test_a_split_that_makes_the_shares_whole_makes_no_lasting_stop_of_it(file: Path) -> None:
    prices = protected(file, 0.5)
    next_day = account(file, closes_of([*(each / 2 for each in prices), 500]))
    assert next_day.positions()["AAPL"].quantity == 1
    assert next_day.open_orders() == ()
