"""Tests of waiting for the broker."""

from dataclasses import replace

import pytest

from scripts.testkit.alpaca_api import AlpacaApi
from scripts.testkit.alpaca_direct import DirectBroker
from tests.builders import buy
from tests.fake_time import FakeTime
from trader.broker.waiting import await_end, cancel, looks
from trader.model import Order, OrderStatus


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """A clock that only the pauses move."""
    time = FakeTime()
    monkeypatch.setattr("trader.broker.waiting.time.monotonic", time.clock)
    monkeypatch.setattr("trader.broker.waiting.sleep", time.sleep)
    return time


@pytest.fixture
def broker() -> DirectBroker:
    alpaca = AlpacaApi(prices={"A": 100.0, "B": 100.0})
    alpaca.fills = "never"
    return DirectBroker(alpaca)


def statuses(orders: tuple[Order, ...]) -> list[OrderStatus]:
    return [order.status for order in orders]


def test_the_pauses_between_looks_grow(time: FakeTime) -> None:
    assert len(list(looks(10.0))) == 7
    assert time.sleeps_s == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]


def test_no_look_is_later_than_its_time(time: FakeTime) -> None:
    begun_s = time.now_s
    list(looks(3.0))
    assert time.now_s <= begun_s + 3.0


def test_there_is_always_one_look(time: FakeTime) -> None:
    assert len(list(looks(0.0))) == 1


def test_many_orders_cost_one_request_a_look(time: FakeTime, broker: DirectBroker) -> None:
    orders = [broker.submit(buy(symbol)) for symbol in "AB"]
    broker.alpaca.fill_waiting()
    assert statuses(await_end(orders, broker, 10.0)) == [OrderStatus.FILLED, OrderStatus.FILLED]
    assert len(broker.alpaca.asked("GET")) == 1


def test_nothing_is_waited_for_once_all_orders_have_ended(time: FakeTime, broker: DirectBroker) -> None:
    order = broker.submit(buy("A"))
    broker.alpaca.fill_waiting()
    await_end([order], broker, 10.0)
    assert time.sleeps_s == []


def test_an_order_that_does_not_end_is_returned_as_it_is(time: FakeTime, broker: DirectBroker) -> None:
    order = broker.submit(buy("A"))
    assert statuses(await_end([order], broker, 10.0)) == [OrderStatus.NEW]


def test_a_look_that_fails_is_repeated(time: FakeTime, broker: DirectBroker) -> None:
    order = broker.submit(buy("A"))
    broker.alpaca.fill_waiting()
    broker.alpaca.fault("GET", "/v2/orders", "500-html")
    assert statuses(await_end([order], broker, 10.0)) == [OrderStatus.FILLED]


def test_without_orders_nothing_is_asked(broker: DirectBroker) -> None:
    assert cancel((), broker) == ()
    assert broker.alpaca.requests == []


def test_an_order_is_returned_once_it_is_canceled(time: FakeTime, broker: DirectBroker) -> None:
    broker.alpaca.cancel_polls = 2
    order = broker.submit(buy("A"))
    assert statuses(cancel([order], broker)) == [OrderStatus.CANCELED]


def test_what_has_ended_is_not_canceled(time: FakeTime, broker: DirectBroker) -> None:
    filled = replace(broker.submit(buy("A")), status=OrderStatus.FILLED)
    cancel([filled], broker)
    assert broker.alpaca.asked("DELETE") == []


def test_an_order_that_cannot_be_canceled_does_not_keep_the_others_open(time: FakeTime, broker: DirectBroker) -> None:
    orders = [broker.submit(buy(symbol)) for symbol in "AB"]
    broker.alpaca.fault("DELETE", "/v2/orders", "500-html")
    assert statuses(cancel(orders, broker)) == [OrderStatus.NEW, OrderStatus.CANCELED]
