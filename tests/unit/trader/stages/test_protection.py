"""Protection with the real adapter on the stand-in for Alpaca: a share of A cost 100 USD, so its stop is at 97."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scripts.testkit.alpaca_api import AlpacaApi
from scripts.testkit.alpaca_books import FakeOrder
from scripts.testkit.alpaca_direct import DirectBroker
from tests.builders import SLOT, buy, daily, sell, settings
from trader.broker.base import Broker, OrderId, UnreadablePositionsError
from trader.broker.embedded import EmbeddedBroker
from trader.deadline import Deadline
from trader.journal.base import JournalError, Run
from trader.model import (
    BrokerError,
    Code,
    Denial,
    OpenOrder,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    Unprotected,
)
from trader.prices.series import Series
from trader.stages.protection import Holdings, Plans, are_protected, find_split, is_working_stop, protect

EARLIER = SLOT - timedelta(days=1)
PAID, STOP = 100.0, 97.0
OWN_STOP = str(OrderId("trend", EARLIER, "A", Side.SELL, 1))[:-1]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.broker.sending.PAUSE_S", 0.0)
    monkeypatch.setattr("trader.broker.waiting.PAUSES_S", (0.01,))
    monkeypatch.setattr("trader.stages.protection.CANCEL_TIME_S", 0.05)
    monkeypatch.setattr("trader.stages.protection.SALE_TIME_S", 0.05)


@dataclass
class Guarded:
    """An account, and what runs at SLOT have noted about it."""

    alpaca: AlpacaApi = field(default_factory=lambda: AlpacaApi(prices=dict.fromkeys(("A", "B", "C"), PAID)))
    stops: dict[str, Order] = field(default_factory=dict)
    unprotected: dict[str, Unprotected] = field(default_factory=dict)
    held: dict[str, Position] = field(default_factory=dict)
    outcomes: list[Order | Denial] = field(default_factory=list)

    @classmethod
    def bought(cls, *symbols: str, quantity: float = 90) -> "Guarded":
        """Return an account whose holdings the bot bought a day earlier, each in its bracket."""
        guarded = cls()
        for symbol in symbols:
            entry = str(OrderId("trend", EARLIER, symbol, Side.BUY))
            guarded.alpaca.hold_in_bracket(symbol, quantity, stop_fraction=0.03, client_order_id=entry)
        return guarded

    @classmethod
    def bare(cls, *symbols: str, quantity: float = 90) -> "Guarded":
        """Return such an account in which all brackets have been canceled."""
        guarded = cls.bought(*symbols, quantity=quantity)
        for order in guarded.alpaca.open_orders():
            guarded.alpaca.end(order, "canceled")
        return guarded

    @classmethod
    def bought_in_parts(cls, *symbols: str) -> "Guarded":
        """Return an account with 0.9 shares of each symbol that the bot bought a day earlier, without a bracket."""
        guarded = cls()
        for symbol in symbols:
            entry = str(OrderId("trend", EARLIER, symbol, Side.BUY))
            guarded.alpaca.fill_part(
                guarded.add("market", Decimal("0.9"), "buy", symbol=symbol, client_order_id=entry), Decimal("0.9")
            )
        return guarded

    def protect(
        self,
        *,
        broker: Broker | None = None,
        held_back: str = "",
        is_open: bool = True,
        deadline: Deadline | None = None,
        planned: Plans | None = None,
        **variables: object,
    ) -> Holdings:
        run = Run(settings=settings(**variables), slot=SLOT, now=SLOT)
        run.stops, run.unprotected, run.held = list(self.stops.values()), self.unprotected, self.held
        run.outcomes = self.outcomes
        try:
            return protect(
                run,
                broker or DirectBroker(self.alpaca),
                deadline or Deadline.never(),
                held_back=held_back,
                is_open=is_open,
                planned=planned,
            )
        finally:
            self.stops = {order.client_order_id: order for order in run.stops}

    def stop(self, symbol: str = "A") -> FakeOrder:
        """Return the stop of the holding's bracket."""
        return next(order for order in self.alpaca.orders if order.symbol == symbol and order.type == "stop")

    def limit(self, symbol: str = "A") -> FakeOrder:
        """Return the take profit of the holding's bracket."""
        return next(order for order in self.alpaca.orders if order.symbol == symbol and order.type == "limit")

    def add(self, kind: str, quantity: int | Decimal, side: str = "sell", **fields: Any) -> FakeOrder:
        """Add an order that the owner placed by hand."""
        order = self.alpaca._new_order("A", side, kind, Decimal(quantity), f"by-hand-{len(self.alpaca.orders)}")
        order.status = "new"
        for name, value in fields.items():
            setattr(order, name, value)
        self.alpaca.orders.append(order)
        return order

    def trade_by_hand(self, side: str, quantity: int | Decimal) -> None:
        """Let the owner buy or sell some shares."""
        self.alpaca.fill_part(self.add("market", quantity, side), quantity)

    @property
    def sent(self) -> list[tuple[str, str, float, float | None]]:
        """The orders that were accepted at SLOT: symbol, type, quantity and stop price."""
        ids = [request.body["client_order_id"] for request in self.alpaca.asked("POST")]
        accepted = {order.client_order_id: order for order in self.alpaca.orders}
        taken = [accepted[each] for each in dict.fromkeys(ids) if each in accepted]
        prices = [None if order.stop_price is None else float(order.stop_price) for order in taken]
        return [
            (order.symbol, order.type, float(order.quantity), price) for order, price in zip(taken, prices, strict=True)
        ]


# --- a working stop ------------------------------------------------------------------------------------------------


def test_a_healthy_account_costs_two_requests() -> None:
    guarded = Guarded.bought("A", "B")
    guarded.protect()
    assert [request.method for request in guarded.alpaca.requests] == ["GET", "GET"]


def test_a_holding_in_its_bracket_is_not_named() -> None:
    guarded = Guarded.bought("A")
    guarded.protect()
    assert guarded.unprotected == {}


def test_a_lost_stop_comes_back_for_all_shares_at_its_price() -> None:
    guarded = Guarded.bare("A")
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


def test_a_stop_that_came_back_is_good_till_canceled() -> None:
    guarded = Guarded.bare("A")
    guarded.protect()
    assert [order.time_in_force for order in guarded.alpaca.open_orders("A")] == ["gtc"]


def test_a_stop_that_came_back_counts_in_the_next_look() -> None:
    guarded = Guarded.bare("A")
    guarded.protect()
    assert not guarded.protect().is_touched


def test_a_take_profit_is_no_stop() -> None:
    guarded = Guarded.bought("A")
    guarded.stop().status = "rejected"
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


def test_after_part_of_the_take_profit_the_rest_gets_a_stop() -> None:
    guarded = Guarded.bought("A")
    guarded.alpaca.fill_part(guarded.limit(), 40)
    guarded.stop().status = "canceled"
    guarded.protect()
    assert guarded.sent == [("A", "stop", 50, STOP)]


def test_a_stop_reduced_with_the_take_profit_is_enough() -> None:
    guarded = Guarded.bought("A")
    guarded.alpaca.fill_part(guarded.limit(), 40)
    guarded.stop().quantity = Decimal(50)
    assert not guarded.protect().is_touched


def test_legs_that_are_being_canceled_for_ever_are_named() -> None:
    guarded = Guarded.bought("A")
    guarded.alpaca.cancel_polls = 1_000
    guarded.alpaca.cancel(guarded.stop())
    guarded.protect()
    assert "still being canceled" in guarded.unprotected["A"].reason


@pytest.mark.parametrize("kind", ["stop", "stop_limit", "trailing_stop"])
def test_the_owners_stop_is_a_stop(kind: str) -> None:
    guarded = Guarded.bare("A")
    guarded.add(kind, 90, stop_price=Decimal(90))
    assert not guarded.protect().is_touched


def test_the_owners_limit_sale_is_no_stop() -> None:
    guarded = Guarded.bare("A")
    guarded.add("limit", 90, limit_price=Decimal(150))
    guarded.protect()
    assert "did not place" in guarded.unprotected["A"].reason


def test_an_owners_order_is_not_canceled() -> None:
    guarded = Guarded.bare("A")
    by_hand = guarded.add("limit", 90, limit_price=Decimal(150))
    guarded.protect()
    assert by_hand.is_open


def test_the_shares_that_an_owners_order_leaves_get_a_stop() -> None:
    guarded = Guarded.bare("A")
    guarded.add("limit", 40, limit_price=Decimal(150))
    guarded.protect()
    assert guarded.sent == [("A", "stop", 50, STOP)]


def test_shares_without_a_stop_beside_some_with_one_are_named() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.locked = {"A": 40}
    guarded.protect()
    assert guarded.unprotected["A"].reason == "only 50 of 90 shares were free for a stop"


def test_a_stop_that_the_list_of_open_orders_lacks_is_found_in_its_entry() -> None:
    class Forgetful(DirectBroker):
        def open_orders(self) -> tuple[OpenOrder, ...]:
            return tuple(order for order in super().open_orders() if not order.type.is_stop)

    guarded = Guarded.bought("A")
    guarded.protect(broker=Forgetful(guarded.alpaca))
    assert (guarded.sent, guarded.unprotected) == ([], {})


def test_a_stop_in_an_old_answer_is_not_believed_if_its_shares_are_free() -> None:
    guarded = Guarded.bought("A")
    before = DirectBroker(guarded.alpaca).orders_of(["A"])
    for leg in guarded.alpaca.open_orders():
        guarded.alpaca.end(leg, "canceled")

    class Stale(DirectBroker):
        def orders_of(self, symbols: Sequence[str]) -> tuple[Order, ...]:
            return tuple(order for order in before if order.symbol in symbols)

    guarded.protect(broker=Stale(guarded.alpaca))
    assert guarded.sent == [("A", "stop", 90, STOP)]


@pytest.mark.parametrize(
    ("status", "is_working"), [("new", True), ("accepted", True), ("pending_cancel", False), ("suspended", False)]
)
def test_a_stop_works_while_it_can_sell(status: str, is_working: bool) -> None:
    stop = OpenOrder(
        order_id="1",
        client_order_id="s",
        symbol="A",
        side=Side.SELL,
        type=OrderType.STOP,
        status=OrderStatus(status),
    )
    assert is_working_stop(stop, [stop]) is is_working


@pytest.mark.parametrize("is_entry_open", [True, False])
def test_a_held_leg_works_once_its_entry_is_filled(is_entry_open: bool) -> None:
    entry = OpenOrder(order_id="1", client_order_id="b", symbol="A", side=Side.BUY)
    stop = OpenOrder(
        order_id="2",
        client_order_id="s",
        symbol="A",
        side=Side.SELL,
        type=OrderType.STOP,
        status=OrderStatus.HELD,
        parent_id="1",
    )
    assert is_working_stop(stop, [entry, stop] if is_entry_open else [stop]) is not is_entry_open


@pytest.mark.parametrize("status", ["canceled", "expired", "rejected"])
def test_the_held_legs_of_an_entry_that_ended_in_part_are_no_stop(status: str) -> None:
    guarded = Guarded.bought("A")
    entry = guarded.alpaca.orders[0]
    entry.status, entry.filled_quantity = status, Decimal(90)
    for leg in entry.legs:
        leg.status = "held"
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


def test_a_stop_for_the_owners_shares_does_not_protect_the_bots() -> None:
    guarded = Guarded.bare("A")
    guarded.trade_by_hand("buy", 100)
    guarded.add("stop", 100, stop_price=Decimal(60))
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


def test_shares_of_an_earlier_buy_without_a_stop_are_named_as_the_bots() -> None:
    guarded = Guarded.bare("A")
    entry = str(OrderId("trend", EARLIER + timedelta(minutes=15), "A", Side.BUY))
    guarded.alpaca.hold_in_bracket("A", 90, stop_fraction=0.03, client_order_id=entry)
    guarded.protect()
    assert guarded.unprotected["A"].is_ours


# --- the price of the stop -----------------------------------------------------------------------------------------


def test_a_stop_is_never_lower_than_it_was() -> None:
    guarded = Guarded.bought("A")
    guarded.alpaca.end(guarded.alpaca.move_stop("A", 99), "canceled")
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, 99.0)]


def test_a_holding_below_its_stop_is_sold() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.prices["A"] = 90
    guarded.protect()
    assert guarded.sent == [("A", "market", 90, None)]


def test_a_holding_that_falls_below_its_stop_while_that_is_sent_is_sold() -> None:
    class Falling(DirectBroker):
        def submit(self, order: Order) -> Order:
            self.alpaca.prices["A"] = 95
            return super().submit(order)

    guarded = Guarded.bare("A")
    guarded.protect(broker=Falling(guarded.alpaca))
    assert guarded.sent == [("A", "market", 90, None)]


def test_nothing_is_sold_while_the_market_is_closed() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.prices["A"] = 90
    guarded.protect(is_open=False)
    assert "the market is closed" in guarded.unprotected["A"].reason


def test_a_stop_is_placed_while_the_market_is_closed() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.is_open = False
    guarded.protect(is_open=False)
    assert guarded.sent == [("A", "stop", 90, STOP)]


def test_a_sale_below_the_stop_that_is_not_filled_is_named() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.prices["A"], guarded.alpaca.fills = 90, "never"
    guarded.protect()
    assert guarded.unprotected["A"].reason == "its sale below the stop, 97.00, is new"


def test_without_a_price_a_stop_is_placed_nevertheless() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.unpriced = {"A"}
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


@pytest.mark.parametrize(
    ("ratio", "expected"), [(2, (180, 48.5)), (3, (270, 32.33)), (1.5, (135, 64.67)), (0.1, (9, 970))]
)
def test_after_a_split_the_stop_is_as_far_from_the_new_price(ratio: float, expected: tuple[float, float]) -> None:
    guarded = Guarded.bought("A")
    guarded.alpaca.split("A", ratio)
    guarded.protect()
    assert guarded.sent == [("A", "stop", *expected)]


@pytest.mark.parametrize("ratio", [2, 0.1])
def test_a_stop_placed_after_a_split_is_not_split_again(ratio: float) -> None:
    guarded = Guarded.bought("A")
    guarded.alpaca.split("A", ratio)
    guarded.protect()
    for order in guarded.alpaca.open_orders("A"):
        guarded.alpaca.end(order, "canceled")
    guarded.protect()
    first, second = guarded.sent
    assert second == first


def test_a_reverse_split_that_leaves_a_part_of_a_share_in_cash_is_recognized() -> None:
    assert find_split(0.1, 95, 9) == 0.1


def test_shares_bought_at_another_price_are_no_split() -> None:
    assert find_split(100 / 110, 90, 180) == 1


@pytest.mark.parametrize("factor", [1 / 2, 2 / 3, 1 / 10])
def test_a_split_that_only_the_price_shows_sells_nothing(factor: float) -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.prices["A"] = round(PAID * factor, 2)
    guarded.protect()
    assert (guarded.sent, "a split" in guarded.unprotected["A"].reason) == ([], True)


def test_a_stop_from_before_a_reverse_split_is_named() -> None:
    guarded = Guarded.bought("A")
    held = guarded.alpaca.positions["A"]
    held.quantity, held.average_price, guarded.alpaca.prices["A"] = Decimal(9), Decimal(1000), 1000.0
    guarded.protect()
    assert "a stop at 97.00 is far below what was paid, 1,000.00" in guarded.unprotected["A"].reason


# --- whose shares --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trades", "stopped"),
    [
        ([("buy", 50)], 90),
        ([("sell", 40)], 50),
        ([("buy", 50), ("sell", 50)], 90),  # he sells what he has bought first
        ([("buy", 50), ("sell", 100)], 40),
        ([("sell", 40), ("buy", 40)], 50),
    ],
)
def test_beside_the_owners_trades_the_bots_shares_keep_a_stop(trades: Sequence[tuple[str, int]], stopped: int) -> None:
    guarded = Guarded.bare("A")
    for side, quantity in trades:
        guarded.trade_by_hand(side, quantity)
    guarded.protect()
    assert guarded.sent == [("A", "stop", stopped, STOP)]


def test_shares_that_the_owner_added_are_named_as_his() -> None:
    guarded = Guarded.bought("A")
    guarded.trade_by_hand("buy", 50)
    guarded.protect()
    reason = "50 of 140 shares were not bought by this strategy"
    assert guarded.unprotected == {"A": Unprotected(symbol="A", reason=reason, is_ours=False)}


@pytest.mark.parametrize(
    ("quantity", "fields", "reason"),
    [
        (7, {}, "this strategy did not buy it"),
        (7.5, {}, "this strategy did not buy it"),
        (-7, {}, "it is a short position"),
        (7, {"avg_entry_price": None}, "the broker does not say what was paid for it"),
        (7, {"avg_entry_price": "0"}, "the broker does not say what was paid for it"),
        (7, {"avg_entry_price": "?"}, "the broker does not say what was paid for it"),
        (7, {"asset_class": "crypto"}, "it is not in US stocks"),
    ],
)
def test_what_the_bot_did_not_buy_is_named_and_not_touched(
    quantity: float, fields: Mapping[str, Any], reason: str
) -> None:
    guarded = Guarded()
    guarded.alpaca.hold("A", quantity)
    guarded.alpaca.record_overrides = {"A": dict(fields)}
    guarded.protect()
    assert guarded.sent == []
    assert guarded.unprotected == {"A": Unprotected(symbol="A", reason=reason, is_ours=False)}


def test_an_own_holding_that_can_have_no_stop_is_named_as_the_bots() -> None:
    guarded = Guarded.bare("A")
    real = guarded.alpaca._position_json
    guarded.alpaca._position_json = lambda symbol: {**real(symbol), "avg_entry_price": None}  # type: ignore[method-assign]
    guarded.protect()
    reason = "the broker does not say what was paid for it"
    assert guarded.unprotected == {"A": Unprotected(symbol="A", reason=reason, is_ours=True)}


def test_a_part_of_a_share_that_somebody_else_bought_does_not_keep_the_bots_shares_from_their_stop() -> None:
    guarded = Guarded.bare("A")
    guarded.trade_by_hand("buy", Decimal("0.5"))
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


@pytest.mark.parametrize("average", ["33.333333", "33.3333", "33.33", "33.34"])
def test_after_a_split_whole_shares_stay_whole_however_the_broker_rounds_what_was_paid(average: str) -> None:
    guarded = Guarded.bare("A", quantity=100)
    guarded.alpaca.split("A", 3)
    real = guarded.alpaca._position_json
    guarded.alpaca._position_json = lambda symbol: {**real(symbol), "avg_entry_price": average}  # type: ignore[method-assign]
    guarded.protect()
    assert [(float(each.quantity), each.time_in_force) for each in guarded.alpaca.open_orders("A")] == [(300.0, "gtc")]


def test_a_part_of_a_share_that_a_split_leaves_gets_a_stop_for_the_day() -> None:
    guarded = Guarded.bare("A", quantity=45)
    guarded.alpaca.split("A", 1.5)
    guarded.protect()
    assert guarded.sent == [("A", "stop", 67.5, 64.67)]
    assert [order.time_in_force for order in guarded.alpaca.open_orders("A")] == ["day"]


@pytest.mark.parametrize(("held", "stopped"), [("1.9138", "1"), ("0.9", "0.4"), ("10.5", "10")])
def test_the_part_of_a_holding_that_a_stop_leaves_bare_gets_one_of_its_own(held: str, stopped: str) -> None:
    guarded = Guarded()
    entry = {"symbol": "A", "side": "buy", "type": "market", "time_in_force": "day", "qty": held}
    guarded.alpaca.work(
        guarded.alpaca.accept(entry | {"client_order_id": str(OrderId("trend", EARLIER, "A", Side.BUY))})
    )
    guarded.add("stop", Decimal(stopped), stop_price=Decimal(97), client_order_id=f"{OWN_STOP}1")
    guarded.protect(SHARES="fractional")
    assert guarded.sent == [("A", "stop", float(Decimal(held) - Decimal(stopped)), STOP)]
    assert guarded.unprotected == {}


def test_a_buy_without_a_bracket_gets_the_stop_that_it_was_planned_with() -> None:
    guarded = Guarded.bought_in_parts("A")
    plan = replace(buy("A"), client_order_id=str(OrderId("trend", EARLIER, "A", Side.BUY)), stop_loss_usd=99.0)
    guarded.protect(planned=lambda slot: [plan] if slot == EARLIER else [])
    assert guarded.sent == [("A", "stop", 0.9, 99.0)]


@pytest.mark.parametrize(("price_usd", "said"), [(98, "stop for the day"), (95, "sold below its stop")])
def test_the_log_tells_a_sale_from_a_stop_for_the_day(
    price_usd: float, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    guarded = Guarded.bought_in_parts("A")
    add_stops(guarded, 1)
    guarded.alpaca.prices["A"] = price_usd
    guarded.protect()
    level = logging.INFO if said == "stop for the day" else logging.WARNING
    assert [(each.message, each.levelno) for each in caplog.records if "stop" in each.message] == [(said, level)]


def fail_to_read(_: datetime) -> Sequence[Order]:
    raise JournalError("S3 does not answer")


def test_once_there_has_been_a_stop_no_plan_is_read(caplog: pytest.LogCaptureFixture) -> None:
    guarded = Guarded.bought_in_parts("A")
    add_stops(guarded, 1)
    guarded.protect(planned=fail_to_read)
    assert "the plan of a buy is not known" not in [each.message for each in caplog.records]
    assert guarded.sent == [("A", "stop", 0.9, STOP)]


def test_a_journal_that_fails_leaves_no_holding_bare(caplog: pytest.LogCaptureFixture) -> None:
    guarded = Guarded.bought_in_parts("A", "B")
    guarded.protect(planned=fail_to_read)
    assert guarded.sent == [("A", "stop", 0.9, STOP), ("B", "stop", 0.9, STOP)]
    (warning,) = [each for each in caplog.records if each.message == "the plan of a buy is not known"]
    assert vars(warning)["error"] == "S3 does not answer"


def test_a_part_of_a_share_that_somebody_else_bought_is_his() -> None:
    guarded = Guarded.bought("A")
    guarded.trade_by_hand("buy", Decimal("0.5"))
    guarded.protect()
    assert (guarded.sent, guarded.unprotected) == ([], {})


@pytest.mark.parametrize("ratio", [2, 0.5])
def test_a_closer_stop_is_kept_through_a_split(ratio: float) -> None:
    guarded = Guarded.bought("A")
    guarded.stop().stop_price = Decimal(99)
    guarded.alpaca.split("A", ratio)
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90 * ratio, 99 / ratio)]


def test_a_closer_stop_that_a_split_brings_near_the_price_is_not_rounded_up_to_it() -> None:
    guarded = Guarded.bought("A")
    guarded.stop().stop_price = Decimal("99.99")
    guarded.alpaca.split("A", 2)
    guarded.protect()
    assert guarded.sent == [("A", "stop", 180, 49.99)]


@pytest.mark.parametrize("ratio", [2, 0.5])
def test_a_closer_stop_that_came_back_after_a_split_is_not_split_again(ratio: float) -> None:
    guarded = Guarded.bought("A")
    guarded.stop().stop_price = Decimal(99)
    guarded.alpaca.split("A", ratio)
    guarded.protect()
    guarded.alpaca.end(guarded.alpaca.open_orders("A")[0], "canceled")
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90 * ratio, 99 / ratio)] * 2


@pytest.mark.parametrize(
    ("outcome", "is_alarm"),
    [
        (Denial(symbol="A", code=Code.ORDER_REJECTED, detail="its stop is lost", is_unprotected=True), True),
        (replace(sell("A"), status=OrderStatus.REJECTED), True),
        (Denial(symbol="A", code=Code.OPEN_ORDER_PENDING, detail="another order is open"), False),
    ],
)
def test_what_somebody_else_bought_rings_if_the_run_may_have_canceled_its_stop(
    outcome: Order | Denial, is_alarm: bool
) -> None:
    guarded = Guarded(outcomes=[outcome])
    guarded.trade_by_hand("buy", 10)
    guarded.protect()
    assert guarded.unprotected["A"].is_ours is is_alarm


def test_an_entry_older_than_a_page_of_orders_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.broker.alpaca.PAGE_SIZE", 4)
    guarded = Guarded.bare("A")
    for _ in range(3):
        guarded.trade_by_hand("buy", 2)
        guarded.trade_by_hand("sell", 2)
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


def add_stops(guarded: Guarded, count: int, symbol: str = "A") -> None:
    """Add stops of the bot's that have expired, one a day."""
    for number in range(count):
        name = str(OrderId("trend", EARLIER, symbol, Side.SELL, number + 1))
        stop = guarded.add("stop", Decimal(90), stop_price=Decimal(97), client_order_id=name, symbol=symbol)
        stop.status = "expired"


def test_the_stops_of_years_do_not_hide_the_buy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.broker.alpaca.PAGE_SIZE", 4)
    guarded = Guarded.bare("A")
    add_stops(guarded, 24)
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


def test_what_the_bot_sold_years_ago_is_not_its_own_when_somebody_else_buys_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.broker.alpaca.PAGE_SIZE", 4)
    guarded = Guarded.bare("A", "B")
    sold = guarded.add("market", 90, client_order_id=str(OrderId("trend", EARLIER, "A", Side.SELL)))
    guarded.alpaca.fill_part(sold, 90)
    guarded.trade_by_hand("buy", 90)
    add_stops(guarded, 20, "B")
    guarded.protect()
    assert guarded.sent == [("B", "stop", 90, STOP)]
    assert not guarded.unprotected["A"].is_ours


def test_a_holding_whose_buy_is_out_of_reach_is_named_as_the_bots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.broker.alpaca.PAGE_SIZE", 2)
    monkeypatch.setattr("trader.broker.alpaca.MAX_PAGES", 1)
    guarded = Guarded.bare("A")
    for _ in range(3):
        guarded.trade_by_hand("buy", 1)
        guarded.trade_by_hand("sell", 1)
    add_stops(guarded, 3)
    guarded.protect()
    assert guarded.sent == []
    assert guarded.unprotected["A"].is_ours
    assert guarded.unprotected["A"].reason.startswith("the order that bought it is older than the orders that")


def test_a_holding_of_another_strategy_is_not_touched() -> None:
    guarded = Guarded.bare("A")
    guarded.protect(STRATEGY="other")
    assert (guarded.sent, guarded.unprotected["A"].is_ours) == ([], False)


# --- when nothing may or can be placed -----------------------------------------------------------------------------


def test_what_is_held_back_is_named_with_the_reason() -> None:
    guarded = Guarded.bare("A")
    guarded.protect(held_back="trading is halted")
    assert (guarded.sent, guarded.unprotected["A"].reason) == ([], "no stop is placed: trading is halted")


def test_without_brackets_nothing_is_protected_or_named() -> None:
    guarded = Guarded.bare("A")
    guarded.protect(STOP_LOSS_FRACTION=0, TAKE_PROFIT_FRACTION=0)
    assert (guarded.sent, guarded.unprotected) == ([], {})


def test_without_time_for_an_order_the_holding_is_named() -> None:
    guarded = Guarded.bare("A")
    guarded.protect(deadline=Deadline(lambda: 50.0))
    assert guarded.unprotected["A"].reason == "50 s are left, but an order may take 100 s"


def test_a_refused_stop_is_named() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.account_overrides = {"account_blocked": True}
    guarded.protect()
    assert "account is not authorized to trade" in guarded.unprotected["A"].reason


def test_a_refused_stop_does_not_keep_the_others_from_theirs() -> None:
    guarded = Guarded.bare("A", "B")
    guarded.alpaca.untradable = {"A"}
    guarded.protect()
    assert [symbol for symbol, *_ in guarded.sent] == ["B"]


def test_a_stop_rejected_after_it_was_accepted_is_placed_under_another_id() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.rejected_later = {"A"}
    guarded.protect()
    guarded.alpaca.rejected_later = set()
    guarded.protect()
    assert [each.rpartition("-")[2] for each in guarded.stops] == ["stop1", "stop2"]


def test_a_stop_rejected_at_once_is_on_record() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.rejected_later = {"A"}
    guarded.alpaca.fault("POST", "/v2/orders", "504-accepted")
    guarded.protect()
    assert [order.status for order in guarded.stops.values()] == [OrderStatus.REJECTED]


def test_shares_that_are_free_late_get_their_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.stages.protection.CANCEL_TIME_S", 1.0)
    guarded = Guarded.bare("A")
    guarded.alpaca.free_from = {"A": time.monotonic() + 0.05}
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


@pytest.mark.parametrize("available", [None, "", "?"])
def test_shares_free_late_get_their_stop_without_a_word_of_the_broker(
    monkeypatch: pytest.MonkeyPatch, available: str | None
) -> None:
    monkeypatch.setattr("trader.stages.protection.CANCEL_TIME_S", 1.0)
    guarded = Guarded.bare("A")
    guarded.alpaca.free_from = {"A": time.monotonic() + 0.05}
    guarded.alpaca.record_overrides = {"A": {"qty_available": available}}
    guarded.protect()
    assert guarded.sent == [("A", "stop", 90, STOP)]


def test_two_runs_of_a_slot_place_one_stop() -> None:
    guarded = Guarded.bare("A")
    guarded.protect()

    class Behind(DirectBroker):
        """Another run that has read the orders before the first one placed its stop."""

        def open_orders(self) -> tuple[OpenOrder, ...]:
            return ()

        def orders_of(self, symbols: Sequence[str]) -> tuple[Order, ...]:
            return tuple(each for each in super().orders_of(symbols) if each.side is Side.BUY)

    Guarded(guarded.alpaca).protect(broker=Behind(guarded.alpaca))
    assert len([order for order in guarded.alpaca.open_orders("A") if order.type == "stop"]) == 1


# --- answers that cannot be used -----------------------------------------------------------------------------------


def test_if_the_open_orders_cannot_be_read_every_holding_is_named() -> None:
    guarded = Guarded.bought("A", "B")
    guarded.alpaca.fault("GET", "/v2/orders", "500-html")
    with pytest.raises(BrokerError):
        guarded.protect()
    assert sorted(guarded.unprotected) == ["A", "B"]


@pytest.fixture
def half_read() -> Guarded:
    """An account in which A cannot be read, and B has no stop."""
    guarded = Guarded.bare("A", "B")

    class Unreadable(DirectBroker):
        def positions(self) -> Mapping[str, Position]:
            there = super().positions()
            raise UnreadablePositionsError({"B": there["B"]}, {"A": "field qty of A: expected a number"})

    with pytest.raises(UnreadablePositionsError):
        guarded.protect(broker=Unreadable(guarded.alpaca))
    return guarded


def test_a_holding_that_cannot_be_read_does_not_keep_the_others_from_their_stops(half_read: Guarded) -> None:
    assert half_read.sent == [("B", "stop", 90, STOP)]


def test_a_holding_that_cannot_be_read_is_named_as_the_bots(half_read: Guarded) -> None:
    assert half_read.unprotected["A"].is_ours


class Forgetful(DirectBroker):
    """A broker that shows no holdings."""

    def positions(self) -> Mapping[str, Position]:
        return {}


@pytest.fixture
def forgotten() -> Guarded:
    """An account of which the broker has shown a holding, and then neither the holding nor its stop."""
    guarded = Guarded.bought("A")
    guarded.protect()
    guarded.alpaca.end(guarded.stop(), "canceled")
    return guarded


def test_a_holding_that_the_broker_does_not_show_any_more_is_named(forgotten: Guarded) -> None:
    forgotten.protect(broker=Forgetful(forgotten.alpaca))
    assert forgotten.unprotected["A"].is_ours


def test_a_holding_that_the_broker_does_not_show_any_more_is_not_bought_again(forgotten: Guarded) -> None:
    assert list(forgotten.protect(broker=Forgetful(forgotten.alpaca)).positions) == ["A"]


def test_no_stop_is_placed_for_a_holding_that_the_broker_does_not_show_any_more(forgotten: Guarded) -> None:
    forgotten.protect(broker=Forgetful(forgotten.alpaca))
    assert forgotten.sent == []


def test_a_holding_that_was_sold_during_the_run_is_not_named() -> None:
    guarded = Guarded.bought("A")
    guarded.protect()
    guarded.alpaca.trigger_stop("A")
    guarded.protect()
    assert not guarded.unprotected


def test_a_holding_that_the_run_has_sold_costs_no_request() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.prices["A"] = STOP - 1
    guarded.protect()
    guarded.alpaca.requests.clear()
    guarded.protect()
    assert len(guarded.alpaca.requests) == 2


def test_an_entry_without_its_price_is_named_as_the_bots() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.record_overrides["A"] = {"filled_avg_price": None}
    guarded.protect()
    assert guarded.unprotected["A"].is_ours


def test_if_earlier_orders_cannot_be_read_the_bare_holdings_are_named() -> None:
    guarded = Guarded.bought("A", "B")
    guarded.alpaca.end(guarded.stop("A"), "canceled")
    guarded.alpaca.fault("GET", "/v2/orders?status=all", "500-html")
    with pytest.raises(BrokerError):
        guarded.protect()
    assert list(guarded.unprotected) == ["A"]


def test_a_stop_without_an_answer_is_noted_as_unknown() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.fault("POST", "/v2/orders", "504", times=3)
    with pytest.raises(BrokerError):
        guarded.protect()
    assert [order.status for order in guarded.stops.values()] == [OrderStatus.UNKNOWN]


def test_a_stop_without_an_answer_does_not_keep_the_others_from_theirs() -> None:
    guarded = Guarded.bare("A", "B")
    guarded.alpaca.fault("POST", "/v2/orders", "504", times=3)
    with pytest.raises(BrokerError):
        guarded.protect()
    assert guarded.sent == [("B", "stop", 90, STOP)]


def test_a_stop_whose_answer_is_lost_is_found() -> None:
    guarded = Guarded.bare("A")
    guarded.alpaca.fault("POST", "/v2/orders", "504-accepted")
    guarded.protect()
    assert (len(guarded.alpaca.asked("POST")), guarded.unprotected) == (1, {})


# --- orders that an earlier slot left open -------------------------------------------------------------------------


def waiting_entry(strategy: str = "trend", **later: float) -> Guarded:
    """Return an account with an entry that is not filled yet."""
    guarded = Guarded()
    guarded.alpaca.fills = "never"
    entry = str(OrderId(strategy, EARLIER + timedelta(**later), "A", Side.BUY))
    guarded.alpaca.hold_in_bracket("A", 90, client_order_id=entry)
    return guarded


def test_an_entry_that_an_earlier_slot_left_open_is_canceled() -> None:
    guarded = waiting_entry()
    assert guarded.protect().open_orders == ()


def test_an_old_entry_is_canceled_although_trading_is_halted() -> None:
    guarded = waiting_entry()
    guarded.protect(held_back="trading is halted")
    assert guarded.alpaca.open_orders() == []


def test_a_dry_run_cancels_nothing() -> None:
    guarded = waiting_entry()
    guarded.protect(held_back="MODE=dry-run", MODE="dry-run")
    assert guarded.alpaca.asked("DELETE") == []


def test_the_entry_of_another_strategy_is_not_canceled() -> None:
    guarded = waiting_entry("other")
    guarded.protect()
    assert guarded.alpaca.asked("DELETE") == []


def test_the_entry_of_this_slot_is_not_canceled() -> None:
    guarded = waiting_entry(days=1)
    guarded.protect()
    assert guarded.alpaca.asked("DELETE") == []


def test_an_old_entry_that_stays_open_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    guarded = waiting_entry()
    guarded.alpaca.cancel_polls = 1_000
    guarded.protect()
    assert "orders of an earlier run are still open" in [each.message for each in caplog.records]


# --- after this run's orders ---------------------------------------------------------------------------------------

FILLED = OrderStatus.FILLED
LEG = replace(sell("A", 10), type=OrderType.STOP, status=OrderStatus.HELD)


@pytest.mark.parametrize(
    ("outcome", "is_protected"),
    [
        (replace(sell("A"), status=FILLED), True),
        (replace(sell("A"), status=OrderStatus.NEW), False),
        (replace(buy("A", 10), status=FILLED, filled_quantity=10, legs=(LEG,)), True),
        (replace(buy("A", 10), status=FILLED, filled_quantity=10), False),
        (replace(buy("A", 10), status=FILLED, filled_quantity=10, legs=(replace(LEG, quantity=9),)), False),
        (
            replace(buy("A", 10), status=FILLED, filled_quantity=10, legs=(replace(LEG, status=OrderStatus.REJECTED),)),
            False,
        ),
        (Denial(symbol="A", code=Code.ORDER_REJECTED, detail=""), False),
    ],
)
def test_the_holdings_are_looked_at_again_unless_the_orders_show_them_protected(
    outcome: Order | Denial, is_protected: bool
) -> None:
    assert are_protected([outcome]) is is_protected


# --- the embedded broker -------------------------------------------------------------------------------------------


def test_at_the_embedded_broker_a_lost_stop_comes_back(tmp_path: Path) -> None:
    broker = EmbeddedBroker(
        tmp_path / "account.json",
        now=SLOT,
        starting_cash_usd=10_000,
        series=lambda symbols: {
            symbol: Series(daily([PAID, PAID], symbol=symbol), interval="1d") for symbol in symbols
        },
    )
    entry = broker.submit(replace(buy("A"), client_order_id=str(OrderId("trend", EARLIER, "A", Side.BUY))))
    broker.cancel(next(order for order in broker.open_orders() if order.parent_id == entry.order_id))
    Guarded().protect(broker=broker)
    assert [(order.type, order.quantity, order.stop_price_usd) for order in broker.open_orders()] == [
        (OrderType.STOP, 10, STOP)
    ]
