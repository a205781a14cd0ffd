"""Settlement with the real adapter on the stand-in for Alpaca: what became of the orders of earlier slots."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scripts.testkit.alpaca_api import AlpacaApi
from scripts.testkit.alpaca_direct import DirectBroker
from tests.builders import SLOT, buy, daily, sell
from trader.broker.base import LiveBroker, OrderId
from trader.broker.embedded import EmbeddedBroker
from trader.deadline import Deadline
from trader.model import BrokerError, Order, OrderStatus, OrderType, Settled, Side
from trader.prices.series import Series
from trader.stages.settlement import DOUBT, MAX_SLOTS, find_differences, settle

EARLIER = SLOT - timedelta(minutes=15)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.broker.waiting.PAUSES_S", (0.01,))
    monkeypatch.setattr("trader.broker.waiting.CANCEL_TIME_S", 0.05)


@dataclass
class Records:
    """The journal's records of orders, by slot, and the slots noted as settled."""

    recorded: dict[datetime, list[Order]] = field(default_factory=dict)
    settled: dict[datetime, list[str]] = field(default_factory=dict)

    def planned_orders(self, slot: datetime) -> Sequence[Order]:  # noqa: ARG002 settlement does not ask for them
        return ()

    def recorded_orders(self, slot: datetime) -> Sequence[Order] | None:
        return self.recorded.get(slot)

    def note_settled(self, slot: datetime, orders: Sequence[Order]) -> None:
        self.settled[slot] = [order.client_order_id for order in orders]


class Books(DirectBroker):
    """An account whose clock is at SLOT."""

    def __init__(self) -> None:
        super().__init__(AlpacaApi(prices=dict.fromkeys("ABC", 100.0)))
        self.alpaca.now = EARLIER
        self.records = Records()

    def run_earlier(self, order: Order, slot: datetime = EARLIER) -> Order:
        """Place an order in an earlier slot, whose record has the broker's first answer."""
        mine = replace(order, client_order_id=str(OrderId("trend", slot, order.symbol, order.side)))
        placed = self.submit(mine)
        self.records.recorded.setdefault(slot, []).append(placed)
        return placed

    def settle(self, slots: Sequence[datetime] = (EARLIER,), now: datetime = SLOT) -> list[Settled]:
        self.alpaca.now = now
        return settle(slots, self, self, self.records, "trend", now, Deadline.never())


def ends(settled: Sequence[Settled]) -> list[tuple[str, str, float]]:
    return [(each.symbol, each.status, each.filled_quantity) for each in settled]


@pytest.mark.parametrize("status", ["rejected", "expired", "canceled"])
def test_a_sale_that_came_to_nothing_after_its_run_is_settled(status: str) -> None:
    books = Books()
    books.alpaca.hold("A", 10)
    books.alpaca.fills = "never"
    books.run_earlier(sell("A"))
    books.alpaca.end(books.alpaca.orders[-1], status)
    assert ends(books.settle()) == [("A", status, 0)]


def test_a_suspended_buy_is_canceled_since_it_may_yet_be_filled() -> None:
    books = Books()
    books.alpaca.fills = "never"
    books.run_earlier(buy("A"))
    books.alpaca.orders[-1].status = "suspended"
    assert ends(books.settle()) == [("A", "canceled", 0)]


def test_a_buy_filled_after_its_run_is_settled() -> None:
    books = Books()
    books.run_earlier(buy("A"))
    assert ends(books.settle()) == [("A", "filled", 10)]


def test_an_order_that_ended_as_recorded_is_not_reported() -> None:
    books = Books()
    placed = books.run_earlier(buy("A"))
    books.records.recorded[EARLIER] = list(books.refresh([placed]))
    assert books.settle() == []


@pytest.mark.parametrize(("order", "level"), [(sell("A"), "ERROR"), (buy("A"), "WARNING")])
def test_a_sale_that_failed_is_an_error_and_a_buy_a_warning(
    order: Order, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    books = Books()
    if order.side is Side.SELL:
        books.alpaca.hold("A", 10)
    books.alpaca.fills = "never"
    books.run_earlier(order)
    books.alpaca.end(next(each for each in books.alpaca.orders if each.type == "market"), "rejected")
    books.settle()
    assert [each.levelname for each in caplog.records if each.message == "settled"] == [level]


def test_an_entry_that_is_still_open_is_canceled() -> None:
    books = Books()
    books.alpaca.fills = "never"
    books.run_earlier(buy("A"))
    assert ends(books.settle()) == [("A", "canceled", 0)]
    assert books.alpaca.open_orders() == []


def test_the_rest_of_an_entry_that_is_filled_in_part_is_canceled() -> None:
    books = Books()
    books.alpaca.fills = "partial"
    books.run_earlier(buy("A"))
    assert ends(books.settle()) == [("A", "canceled", 5)]


def test_the_entry_of_friday_is_canceled_on_monday() -> None:
    books = Books()
    books.alpaca.fills = "never"
    books.run_earlier(buy("A"))
    books.alpaca.close_day()
    assert ends(books.settle(now=SLOT + timedelta(days=3))) == [("A", "canceled", 0)]


def test_settled_slots_are_noted_with_their_orders() -> None:
    books = Books()
    placed = books.run_earlier(buy("A"))
    books.settle()
    assert books.records.settled == {EARLIER: [placed.client_order_id]}


def test_an_entry_that_cannot_be_canceled_keeps_its_slot_open(caplog: pytest.LogCaptureFixture) -> None:
    books = Books()
    books.alpaca.fills, books.alpaca.cancel_polls = "never", 1_000
    books.run_earlier(buy("A"))
    books.settle()
    assert books.records.settled == {}
    assert "an order of an earlier run is still open" in [each.message for each in caplog.records]


def test_an_order_that_cannot_be_canceled_does_not_keep_the_others_open() -> None:
    books = Books()
    books.alpaca.fills = "never"
    for symbol in "AB":
        books.run_earlier(buy(symbol))
    books.alpaca.fault("DELETE", "/v2/orders", "500-html")
    books.settle()
    assert {order.symbol for order in books.alpaca.open_orders()} == {"A"}


def test_an_order_that_the_broker_does_not_list_is_looked_for_again() -> None:
    books = Books()
    books.run_earlier(buy("A"))
    books.alpaca.orders.clear()
    books.settle()
    assert books.records.settled == {}


def test_an_order_that_is_not_listed_for_a_day_is_given_up() -> None:
    books = Books()
    books.run_earlier(buy("A"))
    books.alpaca.orders.clear()
    books.settle(now=EARLIER + DOUBT)
    assert list(books.records.settled) == [EARLIER]


def test_the_orders_of_other_strategies_and_of_the_owner_are_left_alone() -> None:
    books = Books()
    books.alpaca.fills = "never"
    books.submit(replace(buy("A"), client_order_id=str(OrderId("trend-2", EARLIER, "A", Side.BUY))))
    books.alpaca.buy_by_hand("B", 5)
    books.settle()
    assert books.alpaca.asked("DELETE") == []


def test_the_orders_of_the_present_slot_are_left_alone() -> None:
    books = Books()
    books.alpaca.fills = "never"
    books.run_earlier(buy("A"), slot=SLOT)
    books.settle()
    assert books.alpaca.asked("DELETE") == []


def test_a_stop_is_never_canceled_as_a_leftover() -> None:
    books = Books()
    books.alpaca.hold("A", 10)
    stop_id = str(OrderId("trend", EARLIER, "A", Side.SELL, 1))
    books.submit(replace(sell("A"), client_order_id=stop_id, type=OrderType.STOP, stop_loss_usd=97.0))
    books.settle()
    assert books.alpaca.asked("DELETE") == []


def test_a_record_that_cannot_be_read_is_an_error_that_names_its_orders(caplog: pytest.LogCaptureFixture) -> None:
    books = Books()
    placed = books.run_earlier(buy("A"))
    del books.records.recorded[EARLIER]
    books.settle()
    (error,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert vars(error)["orders"] == placed.client_order_id


def test_without_unsettled_slots_nothing_is_asked() -> None:
    books = Books()
    assert books.settle([]) == []
    assert books.alpaca.requests == []


def test_all_slots_are_settled_with_one_list() -> None:
    books = Books()
    slots = [EARLIER - timedelta(minutes=15 * number) for number in range(3)]
    for symbol, slot in zip("ABC", slots, strict=True):
        books.run_earlier(buy(symbol), slot)
    before = len(books.alpaca.asked("GET"))
    books.settle(slots)
    assert len(books.alpaca.asked("GET")) == before + 1


def test_more_slots_than_the_limit_are_left_to_the_next_run() -> None:
    books = Books()
    books.settle([SLOT - timedelta(minutes=number + 1) for number in range(MAX_SLOTS + 5)])
    assert len(books.records.settled) == MAX_SLOTS


def test_a_broker_that_does_not_list_orders_is_an_error() -> None:
    books = Books()
    books.run_earlier(buy("A"))
    books.alpaca.fault("GET", "/v2/orders", "null")
    with pytest.raises(BrokerError):
        books.settle()


def test_a_sale_recorded_as_rejected_is_no_difference() -> None:
    rejected = replace(sell("A"), status=OrderStatus.REJECTED)
    assert find_differences([rejected], [rejected]) == []


def test_at_the_embedded_broker_the_orders_of_a_slot_are_noted(tmp_path: Path) -> None:
    broker: LiveBroker = EmbeddedBroker(
        tmp_path / "account.json",
        now=SLOT,
        starting_cash_usd=10_000,
        series=lambda symbols: {symbol: Series(daily([100, 100], symbol=symbol), interval="1d") for symbol in symbols},
    )
    placed = broker.submit(replace(buy("A"), client_order_id=str(OrderId("trend", EARLIER, "A", Side.BUY))))
    records = Records({EARLIER: [placed]})
    assert settle([EARLIER], broker, broker, records, "trend", SLOT, Deadline.never()) == []
    assert records.settled == {EARLIER: [placed.client_order_id]}
