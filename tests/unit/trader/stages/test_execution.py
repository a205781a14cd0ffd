import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.testkit.alpaca_api import AlpacaApi, FaultKind
from scripts.testkit.alpaca_books import FakeOrder
from scripts.testkit.alpaca_direct import DirectBroker
from tests.builders import SLOT, buy, sell, settings, target
from trader.broker.base import OrderId, OrderRejectedError
from trader.deadline import ORDER_TIME_S, Deadline
from trader.model import NEW_YORK, BrokerError, Code, Denial, Order, OrderStatus, RunStopped, Side
from trader.stages.execution import BUY_REQUESTS, FREE_TIME_S, SALE_REQUESTS, bracket_usd, close_out, place, plan

KINDS: Mapping[str, FaultKind] = {
    "ok": "ok",
    "lost": "504-accepted",
    "never": "504",
    "refused": "422",
    "no, perhaps taken": "422-id",
    "keys refused": "401",
}
"""The stand-in's fault for each outcome of a submission; a "lost" order is accepted, a "never" order is not."""


class Books(DirectBroker):
    """The real adapter on the stand-in for Alpaca, with books and faults that a test can set. A share costs 100 USD.

    `script` gives the outcome of each submission in turn. With `is_blind`, look-ups fail; with `is_forgetful`, they
    find nothing.
    """

    def __init__(
        self,
        held: Mapping[str, float] | None = None,
        script: Iterable[str] = (),
        *,
        is_blind: bool = False,
        is_forgetful: bool = False,
    ) -> None:
        super().__init__(AlpacaApi(prices=dict.fromkeys("ABCDEF", 100)))
        for symbol, quantity in (held or {}).items():
            self.alpaca.hold(symbol, quantity)
        for what in script:
            self.alpaca.fault("POST", "/v2/orders", KINDS[what])
        if is_blind or is_forgetful:
            kind: FaultKind = "503-html" if is_blind else "404-order"
            self.alpaca.fault("GET", "/v2/orders:by_client_order_id", kind, times=1_000)

    @classmethod
    def with_bracket(cls, script: Iterable[str] = (), *, is_blind: bool = False, **quantities: float) -> Self:
        """Return books with holdings, each in a bracket with a stop loss and a take profit."""
        books = cls(is_blind=is_blind)
        for symbol, quantity in quantities.items():
            books.alpaca.hold_in_bracket(symbol, quantity)
        for what in script:
            books.alpaca.fault("POST", "/v2/orders", KINDS[what])
        return books

    @property
    def sent(self) -> list[str]:
        """The ids of all submissions."""
        return [request.body["client_order_id"] for request in self.alpaca.asked("POST")]

    @property
    def taken(self) -> dict[str, FakeOrder]:
        """The submitted orders that were accepted, by id."""
        sent = {*self.sent}
        return {order.client_order_id: order for order in self.alpaca.orders if order.client_order_id in sent}

    @property
    def legs(self) -> list[FakeOrder]:
        """The open legs of brackets."""
        return [order for order in self.alpaca.open_orders() if order.parent]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.broker.sending.PAUSE_S", 0.0)
    monkeypatch.setattr("trader.broker.waiting.PAUSES_S", (0.01,))
    monkeypatch.setattr("trader.broker.waiting.CANCEL_TIME_S", 0.05)


def begin(
    orders: Sequence[Order], books: Books, deadline: Deadline, may_go_on: Callable[[], None] = lambda: None
) -> Iterator[Order | Denial]:
    return place(orders, books, deadline, max_drift_fraction=0.01, begin_gates=lambda _: may_go_on)


def placed(books: Books, *orders: Order, deadline: Deadline | None = None) -> list[Order | Denial]:
    return list(begin(orders, books, deadline or Deadline.never()))


def codes(outcomes: Sequence[Order | Denial]) -> list[str]:
    return [each.code if isinstance(each, Denial) else each.status for each in outcomes]


# --- planning ---


def test_an_order_id_names_strategy_slot_symbol_and_side_and_nothing_else() -> None:
    assert str(OrderId("trend", SLOT, "BRK.B", Side.BUY)) == "trend-20221228T2045Z-BRK.B-buy"


def test_the_longest_order_id_fits_alpacas_128_characters() -> None:
    assert len(str(OrderId("a" * 32, SLOT, "ABCDEF.WS", Side.SELL))) <= 128


def test_two_slots_never_share_an_order_id() -> None:
    assert str(OrderId("t", SLOT, "A", Side.BUY)) != str(OrderId("t", SLOT + timedelta(minutes=1), "A", Side.BUY))


@pytest.mark.parametrize(
    ("price_usd", "stop_loss", "take_profit", "legs"),
    [
        (125.674, 0.03, 0.4, (121.9, 175.94)),
        (0.98765, 0.03, 0.4, (0.958, 1.38)),  # below a dollar the tick is finer
        (1.005, 0.01, 0.01, (0.9949, 1.02)),
        (5.0, 0.0001, 0.0001, (4.99, 5.01)),  # at least one tick away
        (0.01, 0.999, 9, (0.0001, 0.1)),  # and never zero
    ],
)
def test_the_legs_of_a_bracket_are_rounded_to_the_tick(
    price_usd: float, stop_loss: float, take_profit: float, legs: tuple[float, float]
) -> None:
    assert bracket_usd(price_usd, stop_loss, take_profit) == legs


def test_a_buy_is_planned_with_its_bracket() -> None:
    (order,) = plan([target(wanted=3, price_usd=125.674)], SLOT, settings())
    assert (order.side, order.quantity, order.stop_loss_usd, order.take_profit_usd) == (Side.BUY, 3, 121.9, 175.94)


def test_a_sale_is_planned_without_a_bracket_and_for_all_that_is_held() -> None:
    (order,) = plan([target(held=2.5, wanted=0)], SLOT, settings())
    assert (order.side, order.quantity, order.is_bracket) == (Side.SELL, 2.5, False)


def test_brackets_can_be_turned_off() -> None:
    (order,) = plan([target()], SLOT, settings(STOP_LOSS_FRACTION=0, TAKE_PROFIT_FRACTION=0))
    assert not order.is_bracket


# --- placing ---


def test_an_accepted_order_is_sent_once() -> None:
    books = Books()
    assert codes(placed(books, buy("A"))) == ["pending_new"]
    assert len(books.sent) == 1


def test_a_lost_answer_is_looked_up_and_not_sent_again() -> None:
    books = Books(script=["lost"])
    assert codes(placed(books, buy("A"))) == ["filled"]
    assert len(books.sent) == 1


def test_an_order_that_never_arrived_is_resent_under_the_same_id() -> None:
    books = Books(script=["never"])
    assert codes(placed(books, buy("A"))) == ["pending_new"]
    assert len(books.sent) == 2
    assert len(set(books.sent)) == 1


def test_an_order_without_an_answer_to_any_attempt_is_of_unknown_fate() -> None:
    books = Books(script=["never"] * 9)
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError, match="a lookup did not find it, but it may yet be accepted"):
        seen.extend(begin([buy("A"), buy("B")], books, Deadline.never()))
    assert (codes(seen), len(books.sent)) == (["unknown"], 3)


def test_an_order_without_time_for_a_retry_is_of_unknown_fate() -> None:
    books = Books(script=["never"] * 9)
    left_s = iter([200.0, 50.0])
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError, match="may yet be accepted"):
        seen.extend(begin([buy("A")], books, Deadline(lambda: next(left_s))))
    assert (codes(seen), len(books.sent)) == (["unknown"], 1)


def test_a_halt_between_two_attempts_leaves_the_order_on_record() -> None:
    def halt_after_the_first() -> None:
        if books.sent:
            raise RunStopped(Code.HALTED, "halted")

    books = Books(script=["never"] * 9)
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError, match="is unknown; halted"):
        seen.extend(begin([buy("A")], books, Deadline.never(), may_go_on=halt_after_the_first))
    assert (codes(seen), len(books.sent)) == (["unknown"], 1)


def test_an_order_of_unknown_fate_has_the_quantity_sent() -> None:
    books = Books(held={"A": 6}, script=["lost"], is_blind=True)
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError):
        seen.extend(begin([sell("A", 10)], books, Deadline.never()))
    (order,) = seen
    assert isinstance(order, Order)
    assert (order.status, order.quantity) == ("unknown", 6)


def test_an_ambiguous_refusal_counts_if_the_order_is_not_found() -> None:
    books = Books(script=["no, perhaps taken"])
    assert codes(placed(books, buy("A"), buy("B"))) == [Code.ORDER_REJECTED, "pending_new"]


def test_an_ambiguous_refusal_after_no_answer_is_of_unknown_fate() -> None:
    books = Books(script=["never", "no, perhaps taken"])
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError, match="may yet be accepted"):
        seen.extend(begin([buy("A")], books, Deadline.never()))
    assert codes(seen) == ["unknown"]


def test_an_order_of_an_earlier_attempt_is_found_by_its_id() -> None:
    books = Books()
    books.submit(buy("A", bracket=False))
    books.alpaca.sell_by_hand("A")
    assert codes(placed(books, buy("A"))) == ["filled"]


def test_an_earlier_attempt_that_was_canceled_counts_as_rejected() -> None:
    books = Books()
    books.alpaca.fills = "never"
    books.submit(buy("A"))
    books.alpaca.cancel(books.alpaca.orders[0])
    assert codes(placed(books, buy("A"))) == [Code.ORDER_REJECTED]


def test_a_refusal_does_not_hold_back_the_next_order() -> None:
    books = Books(script=["refused"])
    assert codes(placed(books, buy("A"), buy("B"))) == [Code.ORDER_REJECTED, "pending_new"]


def test_an_order_of_unknown_fate_is_reported_and_ends_the_run() -> None:
    books = Books(script=["lost"], is_blind=True)
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError, match=r"^trend-20221228T2045Z-A-buy: .*no usable answer"):
        seen.extend(begin([buy("A"), buy("B")], books, Deadline.never()))  # keeps the outcomes before the error
    assert codes(seen) == ["unknown"]
    assert books.sent == ["trend-20221228T2045Z-A-buy"]


def test_an_order_not_found_under_a_taken_id_is_of_unknown_fate() -> None:
    books = Books(script=["lost"], is_forgetful=True)
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError, match=r"must be unique: .*; a lookup did not find it"):
        seen.extend(begin([buy("A")], books, Deadline.never()))
    assert codes(seen) == ["unknown"]


def test_a_refusal_after_no_answer_is_of_unknown_fate() -> None:
    books = Books(script=["never", "refused"])
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError, match=r"no usable answer.*; sent again: .*order refused; a lookup did not find it"):
        seen.extend(begin([buy("A")], books, Deadline.never()))
    assert codes(seen) == ["unknown"]


@pytest.mark.parametrize(("left_s", "expected"), [(2 * ORDER_TIME_S, "pending_new"), (199, Code.OUT_OF_TIME)])
def test_a_buy_that_a_stop_must_follow_is_not_started_without_time_for_both(left_s: float, expected: str) -> None:
    parts = replace(buy("A", 0.5), take_profit_usd=None)
    assert codes(placed(Books(), parts, deadline=Deadline(lambda: left_s))) == [expected]


def test_an_order_without_enough_time_left_is_not_started() -> None:
    books = Books()
    times = iter([ORDER_TIME_S, ORDER_TIME_S - 0.1])
    assert codes(placed(books, buy("A"), buy("B"), deadline=Deadline(lambda: next(times)))) == [
        "pending_new",
        Code.OUT_OF_TIME,
    ]
    assert len(books.sent) == 1


def test_a_sale_without_enough_time_left_keeps_its_protection() -> None:
    books = Books.with_bracket(A=10)
    assert codes(placed(books, sell("A"), deadline=Deadline(lambda: ORDER_TIME_S + 1))) == [Code.OUT_OF_TIME]
    assert len(books.legs) == 2


def test_a_sale_is_not_given_up_once_its_protection_is_gone() -> None:
    books = Books.with_bracket(A=10)
    times = iter([ORDER_TIME_S + FREE_TIME_S, 1.0, 1.0])
    assert codes(placed(books, sell("A"), deadline=Deadline(lambda: next(times)))) == ["pending_new"]


def test_part_of_a_bracketed_position_is_not_sold() -> None:
    books = Books.with_bracket(A=10)
    assert codes(placed(books, sell("A", 1))) == [Code.ORDER_REJECTED]
    assert (len(books.legs), books.sent) == (2, [])


def test_a_buy_of_a_symbol_held_by_now_is_refused() -> None:
    books = Books(held={"A": 5})
    assert codes(placed(books, buy("A"))) == [Code.POSITION_CAP]
    assert books.sent == []


@pytest.mark.parametrize("order", [buy("A"), sell("A")])
def test_an_order_for_a_symbol_with_an_open_order_is_refused(order: Order) -> None:
    books = Books(held={"A": 10} if order.side is Side.SELL else {})
    books.alpaca.fills = "never"
    books.submit(replace(buy("A", bracket=False), client_order_id="other"))
    assert codes(placed(books, order)) == [Code.OPEN_ORDER_PENDING]
    assert books.sent == ["other"]


def test_the_legs_of_the_bracket_are_gone_before_the_sale() -> None:
    books = Books.with_bracket(A=10)
    assert codes(placed(books, sell("A"))) == ["pending_new"]
    assert books.legs == []


def test_the_legs_of_other_symbols_stay() -> None:
    books = Books.with_bracket(A=10, B=10)
    placed(books, sell("A"))
    assert {leg.symbol for leg in books.legs} == {"B"}


def test_nothing_is_sold_while_the_legs_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.stages.execution.FREE_TIME_S", 0.1)
    books = Books.with_bracket(A=10)
    books.alpaca.cancel_polls = 1_000
    assert codes(placed(books, sell("A"))) == [Code.ORDER_REJECTED]
    assert books.taken == {}


def test_a_leg_filled_while_it_is_canceled_is_no_lost_protection() -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.positions.clear()
    (denial,) = placed(books, sell("A"))
    assert isinstance(denial, Denial)
    assert denial.detail == "sell 10: no shares of this symbol are held any more"


def test_an_order_refused_for_its_keys_is_not_called_unknown() -> None:
    books = Books(script=["keys refused"])
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError):
        seen.extend(begin([buy("A")], books, Deadline.never()))
    assert seen == []


def test_a_position_that_is_gone_by_now_is_not_sold_short() -> None:
    books = Books()
    assert codes(placed(books, sell("A"))) == [Code.ORDER_REJECTED]
    assert books.sent == []


def test_a_position_that_has_shrunk_is_sold_as_it_is() -> None:
    books = Books(held={"A": 4})
    placed(books, sell("A", 10))
    assert [order.quantity for order in books.taken.values()] == [4]


def test_a_sale_that_is_refused_for_another_reason_than_its_bracket_keeps_it() -> None:
    books = Books.with_bracket(["refused"], A=10)
    (denial,) = placed(books, sell("A"))
    assert isinstance(denial, Denial)
    assert (denial.is_unprotected, len(books.legs)) == (False, 2)


def test_a_sale_that_is_refused_without_its_bracket_says_that_its_stop_loss_is_gone() -> None:
    books = Books.with_bracket(["ok", "refused"], A=10)
    (denial,) = placed(books, sell("A"))
    assert isinstance(denial, Denial)
    assert "its stop loss was canceled for the sale" in denial.detail


def test_a_failure_after_the_legs_are_gone_is_reported() -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.fault("GET", "/v2/positions", "ok")
    books.alpaca.fault("GET", "/v2/positions", "503-html", times=9)
    seen: list[Order | Denial] = []
    with pytest.raises(BrokerError):
        seen.extend(begin([sell("A")], books, Deadline.never()))
    (denial,) = seen
    assert isinstance(denial, Denial)
    assert "its stop loss was canceled for the sale" in denial.detail


def test_an_interruption_while_an_order_is_sent_leaves_it_on_record() -> None:
    class Interrupted(Books):
        def submit(self, order: Order) -> Order:
            raise KeyboardInterrupt(order.symbol)

    seen: list[Order | Denial] = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(begin([buy("A")], Interrupted(), Deadline.never()))
    assert codes(seen) == ["unknown"]


# --- a refusal beyond the order ---


@pytest.mark.parametrize("flag", ["account_blocked", "trading_blocked"])
def test_after_a_refusal_about_the_account_nothing_further_is_sent(flag: str) -> None:
    books = Books.with_bracket(A=10, B=10)
    books.alpaca.account_overrides = {flag: True}
    assert codes(placed(books, sell("A"), sell("B"), buy("C"))) == [Code.ORDER_REJECTED] * 3
    assert len(books.sent) == 1


def test_a_refusal_about_the_account_costs_no_bracket() -> None:
    books = Books.with_bracket(A=10, B=10)
    books.alpaca.account_overrides = {"account_blocked": True}
    placed(books, sell("A"), sell("B"))
    assert len(books.legs) == 4


def test_after_a_refusal_for_the_request_limit_nothing_further_is_sent() -> None:
    books = Books.with_bracket(A=10, B=10)
    books.alpaca.fault("POST", "/v2/orders", "429", times=9)
    placed(books, sell("A"), sell("B"))
    assert len(books.sent) == 1


def test_a_denial_after_a_general_refusal_names_its_reason() -> None:
    books = Books.with_bracket(A=10, B=10)
    books.alpaca.account_overrides = {"account_blocked": True}
    denial = placed(books, sell("A"), sell("B"))[1]
    assert isinstance(denial, Denial)
    assert "not sent, because an order of this run was refused" in denial.detail


def test_once_a_sale_failed_without_its_bracket_the_other_brackets_stay() -> None:
    books = Books.with_bracket(["ok", "refused"], A=10, B=10)
    placed(books, sell("A"), sell("B"))
    assert {leg.symbol for leg in books.legs} == {"B"}


def test_once_a_sale_failed_without_its_bracket_buys_go_on() -> None:
    books = Books.with_bracket(["ok", "refused"], A=10)
    assert codes(placed(books, sell("A"), buy("B"))) == [Code.ORDER_REJECTED, "pending_new"]


def test_after_a_sale_that_was_accepted_and_then_rejected_no_further_one_is_begun() -> None:
    books = Books.with_bracket(A=10, B=10)
    books.alpaca.rejected_later = {"A"}
    placed(books, sell("A"), sell("B"))
    assert {leg.symbol for leg in books.legs} == {"B"}


# --- shares that are not free ---


def test_shares_that_are_free_late_are_sold() -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.free_delay_s = 0.05
    assert codes(placed(books, sell("A"))) == ["pending_new"]


@pytest.mark.parametrize("available", [None, "", "?", "10"])
def test_shares_free_late_are_sold_whatever_the_broker_says_of_them(available: str | None) -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.free_delay_s = 0.05
    books.alpaca.record_overrides = {"A": {"qty_available": available}}
    assert codes(placed(books, sell("A"))) == ["pending_new"]


def test_after_shares_that_stay_reserved_no_further_sale_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trader.stages.execution.FREE_TIME_S", 0.05)
    books = Books.with_bracket(A=10, B=10)
    books.alpaca.free_delay_s = 60.0
    placed(books, sell("A"), sell("B"))
    assert {leg.symbol for leg in books.legs} == {"B"}


def test_a_bracket_stays_if_its_shares_are_not_all_that_is_reserved() -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.buy_by_hand("A", 5)
    books.alpaca.locked = {"A": 5}
    (denial,) = placed(books, sell("A", 15))
    assert isinstance(denial, Denial)
    assert "only 10 of the 15 shares held can be sold" in denial.detail
    assert len(books.legs) == 2


def test_legs_that_are_being_canceled_already_are_not_waited_for() -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.cancel_polls = 1_000
    books.alpaca.cancel(books.legs[0])
    (denial,) = placed(books, sell("A"))
    assert isinstance(denial, Denial)
    assert "not finished canceling" in denial.detail


# --- the age and the price of a decision ---


def asleep() -> None:
    raise RunStopped(Code.OUT_OF_TIME, "asleep")


def test_no_bracket_is_canceled_for_an_old_decision() -> None:
    books = Books.with_bracket(A=10)
    with pytest.raises(RunStopped):
        list(place([sell("A")], books, Deadline.never(), max_drift_fraction=0.01, require_timely=asleep))
    assert len(books.legs) == 2


def test_nothing_is_sold_after_a_sleep_in_the_middle_of_a_sale() -> None:
    def sleep_after_the_cancel() -> None:
        if books.alpaca.asked("DELETE"):
            asleep()

    books = Books.with_bracket(A=10)
    with pytest.raises(RunStopped):
        list(
            place([sell("A")], books, Deadline.never(), max_drift_fraction=0.01, require_timely=sleep_after_the_cancel)
        )
    assert books.taken == {}


@pytest.mark.parametrize(
    ("price_usd", "code"), [(100.9, "pending_new"), (102, Code.STALE_PRICE), (98, Code.STALE_PRICE)]
)
def test_a_buy_far_from_the_latest_trade_is_refused(price_usd: float, code: str) -> None:
    books = Books()
    books.alpaca.prices["A"] = price_usd
    assert codes(placed(books, buy("A"))) == [code]


def test_a_symbol_without_a_latest_trade_is_not_bought() -> None:
    books = Books()
    books.alpaca.unpriced = {"A"}
    assert codes(placed(books, buy("A"), buy("B"))) == [Code.STALE_PRICE, "pending_new"]


NOW = "2026-11-20T15:00:00.086175744Z"


@pytest.mark.parametrize(
    "trade",
    [
        *({"t": NOW, "p": price_usd} for price_usd in (0, -1, "?", None)),
        *({"t": moment, "p": 100} for moment in ("soon", "2026-11-20T15:00:00", "", 1763650800, None)),
        {"t": NOW},
        {"p": 100},
        5,
        None,
    ],
)
def test_a_latest_trade_that_makes_no_sense_concerns_its_symbol_only(trade: object) -> None:
    books = Books()
    real = books.alpaca._trades_json
    books.alpaca._trades_json = lambda query: {  # type: ignore[method-assign]
        "trades": real(query)["trades"] | {"A": trade}
    }
    assert codes(placed(books, buy("A"), buy("B"))) == [Code.STALE_PRICE, "pending_new"]


def test_a_latest_trade_with_nanoseconds_is_read() -> None:
    books = Books()
    real = books.alpaca._trades_json
    books.alpaca._trades_json = lambda query: {  # type: ignore[method-assign]
        "trades": real(query)["trades"] | {"A": {"t": NOW, "p": 100}}
    }
    assert codes(placed(books, buy("A"))) == ["pending_new"]


@pytest.mark.parametrize(
    ("traded_at", "code"),
    [
        (datetime(2026, 11, 19, 23, 59, 59, tzinfo=NEW_YORK), Code.STALE_PRICE),
        (datetime(2026, 11, 20, tzinfo=NEW_YORK), "pending_new"),
        (datetime(2026, 11, 20, 23, 59, 59, tzinfo=NEW_YORK), "pending_new"),
        (datetime(2026, 11, 21, tzinfo=NEW_YORK), Code.STALE_PRICE),
        (datetime(1, 1, 1, tzinfo=UTC), Code.STALE_PRICE),
    ],
)
def test_only_a_trade_of_the_present_day_confirms_a_price(traded_at: datetime, code: str) -> None:
    books = Books()
    books.alpaca.traded_at["A"] = traded_at
    assert codes(placed(books, buy("A"))) == [code]


def test_a_symbol_not_traded_today_does_not_keep_the_others_from_being_bought() -> None:
    books = Books()
    books.alpaca.traded_at["A"] = books.alpaca.now - timedelta(days=3)
    assert codes(placed(books, buy("A"), buy("B"))) == [Code.STALE_PRICE, "pending_new"]


def test_a_buy_refused_for_an_old_trade_says_from_when_it_is() -> None:
    books = Books()
    books.alpaca.traded_at["A"] = books.alpaca.now - timedelta(days=3)
    (denial,) = placed(books, buy("A"))
    assert isinstance(denial, Denial)
    assert denial.detail.endswith("not of today: the latest trade of A is from 2026-11-17T15:00+00:00")


def test_the_latest_trades_of_all_buys_are_one_request() -> None:
    books = Books()
    placed(books, buy("A"), buy("B"), buy("C"))
    assert len(books.alpaca.asked("GET", "/v2/stocks/trades/latest")) == 1


def test_latest_trades_that_cannot_be_read_are_asked_for_once() -> None:
    books = Books()
    books.alpaca.fault("GET", "/v2/stocks/trades/latest", "500-html", times=9)
    assert codes(placed(books, buy("A"), buy("B"))) == [Code.STALE_PRICE] * 2
    assert len(books.alpaca.asked("GET", "/v2/stocks/trades/latest")) == 1


def test_a_sale_needs_no_latest_trade() -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.unpriced = {"A"}
    assert codes(placed(books, sell("A"))) == ["pending_new"]


# --- the budget of requests ---


class Poor(Books):
    """Books whose budget has no room for another order."""

    def reserve_requests(self, count: int) -> None:
        raise OrderRejectedError(f"no room for {count} requests", Code.OUT_OF_TIME, is_general=True)


def test_without_room_for_its_requests_a_sale_is_not_begun() -> None:
    books = Poor.with_bracket(A=10, B=10)
    assert codes(placed(books, sell("A"), sell("B"))) == [Code.OUT_OF_TIME, Code.ORDER_REJECTED]
    assert len(books.legs) == 4


def test_without_room_for_its_requests_a_buy_is_not_begun() -> None:
    books = Poor()
    assert codes(placed(books, buy("A"))) == [Code.OUT_OF_TIME]
    assert books.alpaca.requests == []


@pytest.mark.parametrize("cancel_polls", [0, 1, 2])
def test_a_sale_stays_within_the_requests_reserved_for_it(cancel_polls: int) -> None:
    books = Books.with_bracket(A=10)
    books.alpaca.cancel_polls = cancel_polls
    placed(books, sell("A"))
    assert len(books.alpaca.requests) <= SALE_REQUESTS


def test_a_buy_stays_within_the_requests_reserved_for_it() -> None:
    books = Books()
    placed(books, buy("A"))
    assert len(books.alpaca.requests) <= BUY_REQUESTS


# --- the end of the run ---


def closed_out(books: Books, *orders: Order, fill_time_s: float = 0.05) -> list[Order | Denial]:
    """Place these orders, and return what has become of them at the end of the run."""
    sent = [each for each in placed(books, *orders) if isinstance(each, Order)]
    return list(close_out(sent, books, fill_time_s))


def test_orders_are_reported_as_they_were_filled() -> None:
    assert codes(closed_out(Books(), buy("A"))) == ["filled"]


def test_an_order_filled_a_little_later_is_waited_for() -> None:
    books = Books()
    books.alpaca.fill_delay_s = 0.05
    assert codes(closed_out(books, buy("A"), fill_time_s=1.0)) == ["filled"]


def test_an_entry_that_is_not_filled_is_canceled() -> None:
    books = Books()
    books.alpaca.fills = "never"
    assert codes(closed_out(books, buy("A"))) == ["canceled", Code.NOT_FILLED]
    assert books.alpaca.open_orders() == []


def test_the_rest_of_an_order_that_is_filled_in_part_is_canceled() -> None:
    books = Books()
    books.alpaca.fills = "partial"
    (order,) = closed_out(books, buy("A"))
    assert isinstance(order, Order)
    assert (order.status, order.filled_quantity) == ("canceled", 5)


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_an_order_rejected_after_it_was_accepted_is_denied(side: Side) -> None:
    books = Books(held={"A": 10} if side is Side.SELL else {})
    books.alpaca.rejected_later = {"A"}
    order = buy("A") if side is Side.BUY else sell("A")
    assert codes(closed_out(books, order)) == ["rejected", Code.ORDER_REJECTED]


def test_an_order_that_cannot_be_canceled_is_named() -> None:
    books = Books()
    books.alpaca.fills, books.alpaca.cancel_polls = "never", 1_000
    assert codes(closed_out(books, buy("A"))) == ["pending_cancel", Code.OPEN_ORDER_PENDING]


def test_an_order_that_cannot_be_canceled_does_not_keep_the_others_open() -> None:
    books = Books()
    books.alpaca.fills = "never"
    books.alpaca.fault("DELETE", "/v2/orders", "500-html")
    closed_out(books, buy("A"), buy("B"))
    assert {order.symbol for order in books.alpaca.open_orders()} == {"A"}


def test_an_order_of_unknown_fate_is_left_to_the_next_run() -> None:
    books = Books()
    assert list(close_out([replace(buy("A"), status=OrderStatus.UNKNOWN)], books, 0.05)) == []
    assert books.alpaca.requests == []


@given(
    st.lists(
        st.tuples(st.sampled_from("ABCDEF"), st.sampled_from([Side.BUY, Side.SELL])), unique_by=lambda each: each[0]
    ),
    st.lists(st.sampled_from(["ok", "lost", "never", "refused"]), max_size=30),
    st.booleans(),
    st.booleans(),
    st.sampled_from([4.0, 10.0]),
)
def test_no_order_is_taken_twice_or_goes_unreported(
    wishes: list[tuple[str, Side]], script: list[str], is_blind: bool, has_legs: bool, quantity: float
) -> None:
    held = {symbol: quantity for symbol, side in wishes if side is Side.SELL}
    books = (
        Books.with_bracket(script, is_blind=is_blind, **held) if has_legs else Books(held, script, is_blind=is_blind)
    )
    orders = [buy(symbol) if side is Side.BUY else sell(symbol) for symbol, side in wishes]
    reported: list[Order | Denial] = []
    may_fail = is_blind or "refused" in script or script.count("never") >= 3
    with contextlib.suppress(BrokerError) if may_fail else contextlib.nullcontext():
        reported.extend(begin(orders, books, Deadline.never()))
    known = {each.client_order_id for each in reported if isinstance(each, Order)}
    assert set(books.taken) <= known
    assert all(order.quantity <= held.get(order.symbol, 10) for order in books.taken.values()), "more than is held"
    sold = {order.symbol for order in books.taken.values() if order.side == "sell"}
    assert not {leg.symbol for leg in books.legs} & sold, "legs left behind"
    assert all(books.sent.count(each) <= 6 for each in books.sent), "three attempts with its bracket, three without"
    assert len(known) == sum(isinstance(each, Order) for each in reported)
