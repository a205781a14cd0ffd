"""AlpacaBroker over real HTTP: it reads Alpaca's answers, and no fault makes it guess or place an order twice."""

import os
import re
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from scripts import ROOT
from scripts.testkit.alpaca import AlpacaFake, FaultKind
from tests.fake_time import FakeTime
from tests.warm.python import python
from trader.alpaca.client import AlpacaClient
from trader.broker.alpaca import AlpacaBroker
from trader.broker.base import (
    OrderRejectedError,
    OrderStateUnknownError,
    UnexpectedResponseError,
    UnreadablePositionsError,
)
from trader.model import Account, BrokerError, Code, OpenOrder, Order, OrderStatus, Position, Side
from trader.reading import side_by_side

BUY = Order(client_order_id="trend-1-AAPL-buy", symbol="AAPL", side=Side.BUY, quantity=10, price_usd=100)
SELL = replace(BUY, client_order_id="trend-1-AAPL-sell", side=Side.SELL)
BRACKET = replace(BUY, stop_loss_usd=97.0, take_profit_usd=140.0)

FAULTS_OF_A_READ: tuple[FaultKind, ...] = (
    "408",
    "429",
    "500-html",
    "503-html",
    "504",
    "drop",
    "hang",
    "200-html",
    "null",
)
UNCLEAR_AND_ACCEPTED: tuple[FaultKind, ...] = ("504-accepted", "drop-accepted", "hang-accepted", "200-html", "null")
UNCLEAR_AND_NOT_ACCEPTED: tuple[FaultKind, ...] = ("408", "500-html", "503-html", "504", "drop", "hang")

READS: dict[str, Callable[[AlpacaBroker], object]] = {
    "/v2/clock": lambda broker: broker.clock(),
    "/v2/account": lambda broker: broker.account(),
    "/v2/positions": lambda broker: broker.positions(),
    "/v2/orders": lambda broker: broker.open_orders(),
    "/v2/orders?status=all": lambda broker: broker.list_orders(datetime.now(UTC), datetime.now(UTC)),
    "/v2/orders:by_client_order_id": lambda broker: broker.find(BUY),
}


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(prices={"AAPL": 100.0, "MSFT": 50.0}, cash_usd=10_000) as fake:
        fake.hang_s = 1.0
        yield fake


@pytest.fixture
def broker(fake: AlpacaFake, request: pytest.FixtureRequest) -> AlpacaBroker:
    """Return a broker that waits for a busy machine, but in tests of a silent server only for a moment."""
    is_silent = re.search(r"\bhang|_hung_", request.node.name)  # not "change"
    return AlpacaBroker(client(fake, read_timeout_s=0.2 if is_silent else 10.0), lambda: fake.now)


def client(
    fake: AlpacaFake,
    credentials: Callable[[bool], tuple[str, str]] | None = None,
    *,
    read_timeout_s: float = 0.2,
) -> AlpacaClient:
    credentials = credentials or (lambda _: (fake.key_id, fake.secret))
    waits = FakeTime()  # for the limit on requests
    timeouts_s = (1.0, read_timeout_s)
    return AlpacaClient(
        fake.url, fake.url, credentials, timeouts_s, attempts=3, wait_s=0.01, clock=waits.clock, sleep=waits.sleep
    )


# --- reading -----------------------------------------------------------------------------------------------------


def test_the_clock_is_timezone_aware(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.is_open = None
    fake.now = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
    clock = broker.clock()
    assert (clock.is_open, clock.next_open) == (False, datetime(2026, 11, 23, 14, 30, tzinfo=UTC))


def test_the_clock_says_how_much_of_the_session_is_left(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.is_open = None
    fake.now = datetime(2026, 11, 20, 20, 58, 30, tzinfo=UTC)
    assert broker.clock().closes_in_s == 90


def test_a_stale_clock_does_not_extend_the_session(fake: AlpacaFake) -> None:
    fake.is_open = None
    fake.now = datetime(2026, 11, 20, 20, 45, tzinfo=UTC)
    a_minute_after_the_close = datetime(2026, 11, 20, 21, 1, tzinfo=UTC)
    assert AlpacaBroker(client(fake), lambda: a_minute_after_the_close).clock().closes_in_s == -60
    before_the_answer = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
    assert AlpacaBroker(client(fake), lambda: before_the_answer).clock().closes_in_s == 15 * 60


def test_the_account_is_read_in_dollars(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.hold("AAPL", 10, 90.0)
    assert broker.account() == Account(
        equity_usd=11_000, last_equity_usd=10_000, cash_usd=10_000, buying_power_usd=10_000, number="PA0000000000"
    )


@pytest.mark.parametrize(
    ("override", "blocked"),
    [
        ({"trading_blocked": True}, "trading_blocked is true"),
        ({"account_blocked": True}, "account_blocked is true"),
        ({"trade_suspended_by_user": True}, "trade_suspended_by_user is true"),
        ({"status": "ACCOUNT_CLOSED"}, "status is ACCOUNT_CLOSED"),
    ],
)
def test_an_account_that_may_not_trade_says_why(
    fake: AlpacaFake, broker: AlpacaBroker, override: dict[str, Any], blocked: str
) -> None:
    fake.account_overrides = override
    assert broker.account().blocked == blocked


def test_a_margin_loan_is_not_buying_power(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.multiplier = 4
    assert fake.buying_power == 40_000
    assert broker.account().buying_power_usd == 10_000


def test_the_cost_of_open_buys_is_not_buying_power(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.multiplier = 4
    fake.fills = "never"
    broker.submit(BUY)
    assert broker.account().buying_power_usd == 9_000


@pytest.mark.parametrize("powers", [("100", "200"), ("200", "100")])
def test_the_lower_of_the_buying_powers_counts(fake: AlpacaFake, broker: AlpacaBroker, powers: tuple[str, str]) -> None:
    fake.account_overrides = dict(zip(("buying_power", "non_marginable_buying_power"), powers, strict=True))
    assert broker.account().buying_power_usd == 100


@pytest.mark.parametrize("field", ["cash", "equity", "last_equity", "buying_power", "non_marginable_buying_power"])
@pytest.mark.parametrize("value", [None, "NaN", "inf", "a lot", "", True, []])
def test_an_account_without_clear_numbers_is_never_guessed(
    fake: AlpacaFake, broker: AlpacaBroker, field: str, value: object
) -> None:
    fake.account_overrides = {field: value}
    with pytest.raises(BrokerError, match=f"field {field}"):
        broker.account()


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v2/clock", "is_open"),
        ("/v2/clock", "next_open"),
        ("/v2/account", "cash"),
        ("/v2/account", "non_marginable_buying_power"),
        ("/v2/account", "trading_blocked"),
        ("/v2/account", "status"),
        ("/v2/positions", "qty"),
        ("/v2/orders", "type"),
        ("/v2/orders", "side"),
        ("/v2/orders", "qty"),
        ("/v2/orders", "client_order_id"),
        ("/v2/orders:by_client_order_id", "status"),
        ("/v2/orders:by_client_order_id", "qty"),
        ("/v2/orders:by_client_order_id", "order_class"),
        ("/v2/orders:by_client_order_id", "filled_qty"),
        ("/v2/orders:by_client_order_id", "filled_avg_price"),
    ],
)
def test_a_missing_field_is_an_error_that_names_it(
    fake: AlpacaFake, broker: AlpacaBroker, path: str, field: str
) -> None:
    fake.hold("AAPL", 1)
    fake.fills = "never"
    broker.submit(BUY)
    fake.fault("GET", path, "missing-field", field=field)
    with pytest.raises(BrokerError, match=field):
        READS[path](broker)


def test_a_position_is_read_with_its_fraction_and_the_shares_that_are_free(
    fake: AlpacaFake, broker: AlpacaBroker
) -> None:
    fake.hold("AAPL", 2.5, 80.0)
    fake.locked["AAPL"] = 1
    assert broker.positions() == {
        "AAPL": Position(symbol="AAPL", quantity=2.5, average_price_usd=80.0, price_usd=100.0, available=1.5)
    }


def test_a_holding_of_another_asset_class_is_marked(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.prices["BTC/USD"] = 90_000.0
    fake.hold("AAPL", 1)
    fake.hold("BTC/USD", 0.1)
    assert {symbol: held.is_stock for symbol, held in broker.positions().items()} == {"AAPL": True, "BTC/USD": False}


@pytest.mark.parametrize("value", [None, ""])
def test_a_position_without_an_entry_price_has_none(fake: AlpacaFake, broker: AlpacaBroker, value: object) -> None:
    fake.hold("AAPL", 1)
    fake.record_overrides["AAPL"] = {"avg_entry_price": value}
    assert broker.positions()["AAPL"].average_price_usd is None


@pytest.mark.parametrize("fault", [{"qty": None}, {"qty": "many"}, {"qty": ""}, {"asset_class": None}])
def test_the_other_holdings_can_be_read_beside_one_that_cannot(
    fake: AlpacaFake, broker: AlpacaBroker, fault: dict[str, object]
) -> None:
    fake.hold("AAPL", 1)
    fake.hold("MSFT", 1)
    fake.record_overrides["MSFT"] = fault
    with pytest.raises(UnreadablePositionsError, match=f"field {next(iter(fault))} of MSFT") as caught:
        broker.positions()
    assert (list(caught.value.positions), list(caught.value.faults)) == (["AAPL"], ["MSFT"])


def test_an_open_leg_tells_how_its_entry_is(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BRACKET)
    assert {order.parent_status for order in broker.open_orders()} == {OrderStatus.FILLED}


def test_an_order_with_several_option_legs_is_left_out(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fills = "never"
    broker.submit(BUY)
    broker.submit(replace(BUY, client_order_id="by-hand", symbol="MSFT"))
    fake.record_overrides["MSFT"] = {"asset_class": None, "symbol": None, "side": "", "order_class": "mleg"}
    assert [order.symbol for order in broker.open_orders()] == ["AAPL"]


def test_an_order_that_lacks_its_asset_class_is_left_out(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fills = "never"
    broker.submit(BUY)
    fake.fault("GET", "/v2/orders", "missing-field", field="asset_class")
    assert len(broker.open_orders()) == 0
    assert len(broker.open_orders()) == 1


def test_an_open_order_has_its_unfilled_quantity(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fills = "partial"
    broker.submit(BUY)
    assert [order.quantity for order in broker.open_orders()] == [5]


def test_the_unfilled_part_of_a_fraction_is_exact(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fills = "never"
    broker.submit(BUY)
    fake.record_overrides["AAPL"] = {"qty": "0.3", "filled_qty": "0.1"}
    assert [order.quantity for order in broker.open_orders()] == [0.2]


def test_an_open_order_in_dollars_has_no_quantity(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fills = "never"
    broker.submit(BUY)
    fake.record_overrides["AAPL"] = {"qty": None, "notional": "500"}
    assert [order.quantity for order in broker.open_orders()] == [0]


def test_only_the_sales_in_a_bracket_are_legs(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fills = "never"
    broker.submit(BRACKET)
    assert {(order.side, order.is_leg) for order in broker.open_orders()} == {(Side.BUY, False), (Side.SELL, True)}


def test_a_plain_sale_is_not_a_leg(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.hold("AAPL", 10)
    fake.fills = "never"
    broker.submit(SELL)
    assert [order.is_leg for order in broker.open_orders()] == [False]


def test_more_than_five_hundred_open_orders_are_read_page_by_page(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.cash *= 1000
    bracket = {"order_class": "bracket", "stop_loss": {"stop_price": "97"}, "take_profit": {"limit_price": "140"}}
    order = {"symbol": "AAPL", "side": "buy", "type": "market", "time_in_force": "gtc", "qty": "1"}
    for _ in range(340):
        fake.accept(order | bracket)
    assert {order.order_id for order in broker.open_orders()} == {order.id for order in fake.orders}
    assert len(fake.orders) == 1020


# --- listing past orders -----------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_past_orders_are_listed_with_their_outcome_and_legs(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.now = NOON
    broker.submit(BRACKET)
    fake.rejected_later = {"MSFT"}
    broker.submit(replace(BUY, client_order_id="trend-1-MSFT-buy", symbol="MSFT"))
    bought, refused = broker.list_orders(NOON - HOUR, NOON + HOUR)
    assert replace(bought, submitted_at=None, filled_at=None, legs=()) == replace(
        BRACKET, order_id=fake.orders[0].id, status=OrderStatus.FILLED, filled_quantity=10.0, filled_price_usd=100.0
    )
    assert [(leg.type, leg.status) for leg in bought.legs] == [("limit", "new"), ("stop", "held")]
    assert (refused.symbol, refused.status, refused.filled_quantity, refused.price_usd) == ("MSFT", "rejected", 0, 0)


def test_orders_before_or_after_the_period_are_not_listed(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    for hours in (-2, 0, 2):
        fake.now = NOON + hours * HOUR
        broker.submit(replace(BUY, client_order_id=f"order {hours}", quantity=1))
    assert [order.client_order_id for order in broker.list_orders(NOON - HOUR, NOON + HOUR)] == ["order 0"]


def test_a_past_order_in_dollars_has_no_quantity(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.now = NOON
    broker.submit(BUY)
    fake.record_overrides["AAPL"] = {"qty": None, "notional": "500"}
    assert [order.quantity for order in broker.list_orders(NOON - HOUR, NOON + HOUR)] == [0]


@pytest.mark.parametrize("count", [200, 600])  # with their legs, both exceed one page
def test_more_than_five_hundred_placed_orders_are_read_page_by_page(
    fake: AlpacaFake, broker: AlpacaBroker, count: int
) -> None:
    fake.now = NOON
    fake.fills = "never"
    fake.cash *= 1000
    for number in range(count):
        broker.submit(replace(BRACKET, client_order_id=f"order {number}", quantity=1))
    placed = broker.list_orders(NOON - HOUR, NOON + HOUR)
    assert [order.client_order_id for order in placed] == [f"order {number}" for number in range(count)]


# --- reading despite faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("kind", FAULTS_OF_A_READ)
def test_a_read_is_retried_after_a_passing_fault(
    fake: AlpacaFake, broker: AlpacaBroker, path: str, kind: FaultKind
) -> None:
    fake.fault("GET", path, kind)
    READS[path](broker)
    assert len(fake.asked("GET", path)) == 2


@pytest.mark.parametrize("kind", [kind for kind in FAULTS_OF_A_READ if kind != "429"])  # see test_alpaca_client_limit
def test_a_read_is_given_up_after_a_limited_number_of_attempts(
    fake: AlpacaFake, broker: AlpacaBroker, kind: FaultKind
) -> None:
    fake.fault("GET", "/v2/account", kind, times=100)
    with pytest.raises(BrokerError, match="GET /account"):
        broker.account()
    assert len(fake.asked("GET", "/v2/account")) == 3


def test_a_hung_server_is_given_up_after_the_timeout(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.hang_s = 30
    fake.fault("GET", "/v2/account", "hang", times=100)
    started = time.monotonic()
    with pytest.raises(BrokerError, match="Timeout"):
        broker.account()
    assert time.monotonic() - started < 3


def test_no_attempt_is_begun_after_the_deadline(fake: AlpacaFake) -> None:
    keys = (fake.key_id, fake.secret)
    impatient = AlpacaClient(fake.url, fake.url, lambda _: keys, attempts=100, wait_s=0.05, deadline_s=0.3)
    fake.fault("GET", "/v2/account", "503-html", times=100)
    with pytest.raises(BrokerError, match="503"):
        AlpacaBroker(impatient).account()
    assert 2 <= len(fake.asked("GET", "/v2/account")) <= 6


def test_a_wait_that_would_end_after_the_deadline_is_not_begun(fake: AlpacaFake) -> None:
    keys = (fake.key_id, fake.secret)
    impatient = AlpacaClient(fake.url, fake.url, lambda _: keys, wait_s=0.5, deadline_s=0.3)
    fake.fault("GET", "/v2/account", "503-html", times=100)
    with pytest.raises(BrokerError, match="503"):
        AlpacaBroker(impatient).account()
    assert len(fake.asked("GET", "/v2/account")) == 1


def test_an_unreachable_server_is_an_error_that_names_the_call() -> None:
    nowhere = AlpacaClient("http://127.0.0.1:9", "http://127.0.0.1:9", lambda _: ("key", "secret"), wait_s=0.01)
    with pytest.raises(BrokerError, match=r"GET /account.*ConnectionError"):
        AlpacaBroker(nowhere).account()


# --- placing -----------------------------------------------------------------------------------------------------


def test_a_plain_order_is_a_market_order_for_the_day(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    placed = broker.submit(BUY)
    accepted = fake.orders[0]
    assert placed == replace(
        BUY, order_id=accepted.id, status=OrderStatus.PENDING_NEW, submitted_at=accepted.submitted_at
    )
    assert fake.asked("POST")[0].body == {
        "symbol": "AAPL",
        "side": "buy",
        "type": "market",
        "time_in_force": "day",
        "qty": "10",
        "client_order_id": "trend-1-AAPL-buy",
    }


def test_a_bracket_lives_until_it_is_canceled_and_has_both_legs(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BRACKET)
    body = fake.asked("POST")[0].body
    assert (body["time_in_force"], body["order_class"]) == ("gtc", "bracket")
    assert (body["stop_loss"], body["take_profit"]) == ({"stop_price": "97"}, {"limit_price": "140"})


@pytest.mark.parametrize(
    ("quantity", "text"),
    [(0.1 + 0.2, "0.3"), (1e-7, "0.0000001"), (1e6, "1000000"), (2.50, "2.5"), (0.123456789, "0.123456789"), (3, "3")],
)
def test_quantities_are_sent_as_plain_decimals(
    fake: AlpacaFake, broker: AlpacaBroker, quantity: float, text: str
) -> None:
    fake.cash *= 1_000_000
    broker.submit(replace(BUY, quantity=quantity))
    assert fake.asked("POST")[0].body["qty"] == text


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_order_id": ""},
        {"quantity": float("nan")},
        {"quantity": 0.0},
        {"quantity": -1.0},
        {"stop_loss_usd": float("inf"), "take_profit_usd": 140.0},
    ],
)
def test_an_impossible_order_is_never_sent(fake: AlpacaFake, broker: AlpacaBroker, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="order"):
        broker.submit(replace(BUY, **wrong))
    assert not fake.requests


def test_a_fractional_holding_can_be_sold_whole(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.hold("AAPL", 0.123456789)
    broker.submit(replace(SELL, quantity=broker.positions()["AAPL"].quantity))
    assert fake.positions == {}


def test_shares_sold_in_the_meantime_are_not_sold_short(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.may_short = True
    with pytest.raises(OrderRejectedError, match="position intent mismatch"):
        broker.submit(SELL)
    assert fake.orders == []


REFUSED: dict[str, tuple[Order, str, Code]] = {
    "not enough cash": (replace(BUY, quantity=1_000), "buying power", Code.BUYING_POWER_EXCEEDED),
    "more shares than held": (replace(SELL, quantity=11), "insufficient qty available", Code.ORDER_REJECTED),
    "a take profit finer than a cent": (replace(BRACKET, take_profit_usd=140.001), "sub-penny", Code.ORDER_REJECTED),
    "a stop loss finer than a cent": (replace(BRACKET, stop_loss_usd=97.005), "sub-penny", Code.ORDER_REJECTED),
    "a fractional bracket": (replace(BRACKET, quantity=1.5), "fractional", Code.ORDER_REJECTED),
    "an unknown symbol": (replace(BUY, symbol="NONE"), "not found", Code.ORDER_REJECTED),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_definite_no_is_a_rejection_in_alpacas_words(fake: AlpacaFake, broker: AlpacaBroker, what: str) -> None:
    order, words, code = REFUSED[what]
    fake.hold("AAPL", 10)
    with pytest.raises(OrderRejectedError, match=words) as refused:
        broker.submit(order)
    assert (refused.value.code, fake.orders, len(fake.asked("POST"))) == (code, [], 1)


def test_a_wash_trade_is_a_rejection(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.hold("AAPL", 10)
    fake.fills = "never"
    broker.submit(SELL)
    with pytest.raises(OrderRejectedError, match="wash trade") as refused:
        broker.submit(BUY)
    assert refused.value.code is Code.ORDER_REJECTED


def test_an_account_that_may_not_trade_is_a_rejection(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.account_overrides = {"trading_blocked": True}
    with pytest.raises(OrderRejectedError, match="not authorized to trade"):
        broker.submit(BUY)


@pytest.mark.parametrize("status", ["rejected", "canceled", "expired"])
def test_an_order_answered_as_dead_is_a_rejection(fake: AlpacaFake, broker: AlpacaBroker, status: str) -> None:
    fake.record_overrides["AAPL"] = {"status": status}
    with pytest.raises(OrderRejectedError, match=f"was {status}"):
        broker.submit(BUY)


def test_an_order_rejected_after_it_was_accepted_is_found_as_rejected(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.rejected_later.add("AAPL")
    broker.submit(BUY)
    found = broker.find(BUY)
    assert found
    assert found.status == "rejected"


# --- placing despite faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", UNCLEAR_AND_ACCEPTED)
def test_an_order_accepted_without_an_answer_is_unclear(
    fake: AlpacaFake, broker: AlpacaBroker, kind: FaultKind
) -> None:
    fake.fault("POST", "/v2/orders", kind)
    with pytest.raises(OrderStateUnknownError, match=BUY.client_order_id):
        broker.submit(BUY)
    assert [order.client_order_id for order in fake.orders] == [BUY.client_order_id]
    assert len(fake.asked("POST")) == 1


@pytest.mark.parametrize("kind", UNCLEAR_AND_NOT_ACCEPTED)
def test_a_lost_order_is_unclear_and_not_sent_again(fake: AlpacaFake, broker: AlpacaBroker, kind: FaultKind) -> None:
    fake.fault("POST", "/v2/orders", kind)
    with pytest.raises(OrderStateUnknownError):
        broker.submit(BUY)
    assert (fake.orders, len(fake.asked("POST"))) == ([], 1)


@pytest.mark.parametrize("field", ["id", "status", "client_order_id", "symbol", "side", "qty", "filled_qty"])
def test_an_answer_without_a_needed_field_is_unclear(fake: AlpacaFake, broker: AlpacaBroker, field: str) -> None:
    fake.fault("POST", "/v2/orders", "missing-field", field=field)
    with pytest.raises(OrderStateUnknownError, match=field):
        broker.submit(BUY)
    assert (len(fake.orders), len(fake.asked("POST"))) == (1, 1)


def test_a_second_order_with_the_same_id_is_unclear_and_not_placed(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BUY)
    with pytest.raises(OrderStateUnknownError, match="must be unique"):
        broker.submit(BUY)
    assert len(fake.orders) == 1


def test_another_422_is_not_taken_for_a_taken_id(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    with pytest.raises(OrderStateUnknownError) as unclear:
        broker.submit(replace(BUY, client_order_id="x" * 129))
    assert (unclear.value.is_refused, unclear.value.is_taken) == (True, False)


def test_an_order_is_sent_again_after_a_429(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fault("POST", "/v2/orders", "429", times=2)
    broker.submit(BUY)
    assert (len(fake.orders), len(fake.asked("POST"))) == (1, 3)


def test_a_429_that_does_not_pass_is_a_rejection(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fault("POST", "/v2/orders", "429", times=100)
    with pytest.raises(OrderRejectedError, match="too many requests"):
        broker.submit(BUY)
    assert fake.orders == []


# --- looking up --------------------------------------------------------------------------------------------------


def test_an_order_is_found_with_its_outcome(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BUY)
    expected = replace(
        BUY, order_id=fake.orders[0].id, status=OrderStatus.FILLED, filled_quantity=10.0, filled_price_usd=100.0
    )
    assert broker.find(BUY) == replace(expected, submitted_at=fake.orders[0].submitted_at, filled_at=fake.now)


EVENING, MIDNIGHT = "2026-11-20T21:00:00Z", "2026-11-21T05:00:00Z"
NEVER: dict[str, Any] = dict.fromkeys(
    ("filled_at", "updated_at", "canceled_at", "expired_at", "failed_at", "replaced_at")
)


@pytest.mark.parametrize(
    ("times", "filled_at"),
    [
        ({"filled_at": EVENING, "updated_at": MIDNIGHT}, EVENING),
        ({"updated_at": EVENING}, EVENING),
        ({"canceled_at": EVENING}, EVENING),
        ({"expired_at": EVENING, "replaced_at": MIDNIGHT}, MIDNIGHT),
        ({"filled_at": "soon", "updated_at": EVENING}, EVENING),
        ({"updated_at": "soon", "canceled_at": EVENING}, EVENING),
        ({"updated_at": "2026-11-20T21:00:00"}, None),
        ({}, None),
    ],
)
def test_an_order_without_a_time_of_its_fill_has_the_time_of_its_last_change(
    fake: AlpacaFake, broker: AlpacaBroker, times: dict[str, str], filled_at: str | None
) -> None:
    broker.submit(BUY)
    fake.record_overrides["AAPL"] = NEVER | times
    found = broker.find(BUY)
    assert found
    assert found.filled_at == (filled_at and datetime.fromisoformat(filled_at))


def test_an_order_that_was_not_filled_has_no_time_of_its_fill(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.fills = "never"
    broker.submit(BUY)
    found = broker.find(BUY)
    assert found
    assert found.filled_at is None


def test_an_order_is_found_with_alpacas_quantity(broker: AlpacaBroker) -> None:
    broker.submit(replace(BUY, quantity=7))
    found = broker.find(BUY)
    assert found
    assert (found.quantity, found.filled_quantity) == (7, 7)


def test_an_order_in_dollars_keeps_the_intended_quantity(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BUY)
    fake.record_overrides["AAPL"] = {"qty": None, "notional": "500"}
    found = broker.find(BUY)
    assert found
    assert found.quantity == 10


def test_an_order_is_found_with_alpacas_bracket(broker: AlpacaBroker) -> None:
    broker.submit(BRACKET)
    found = broker.find(replace(BRACKET, stop_loss_usd=90.0, take_profit_usd=150.0))
    assert found
    assert (found.stop_loss_usd, found.take_profit_usd) == (97, 140)


def test_a_bracket_without_legs_keeps_the_intended_prices(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BRACKET)
    fake.record_overrides["AAPL"] = {"legs": None}
    found = broker.find(BRACKET)
    assert found
    assert (found.stop_loss_usd, found.take_profit_usd) == (97, 140)


def test_an_order_without_a_bracket_is_never_found_with_one(broker: AlpacaBroker) -> None:
    broker.submit(BUY)
    found = broker.find(BRACKET)
    assert found
    assert (found.stop_loss_usd, found.take_profit_usd) == (None, None)


def test_an_unknown_order_is_not_found(broker: AlpacaBroker) -> None:
    assert broker.find(BUY) is None


def test_a_404_from_a_wrong_address_is_not_a_missing_order(fake: AlpacaFake) -> None:
    elsewhere = AlpacaClient(f"{fake.url}/elsewhere", fake.url, lambda _: (fake.key_id, fake.secret))
    with pytest.raises(UnexpectedResponseError, match=r"404.*not Alpaca's answer for an order that does not exist"):
        AlpacaBroker(elsewhere).find(BUY)


@pytest.mark.parametrize("other", [replace(BUY, symbol="MSFT"), replace(BUY, side=Side.SELL)])
def test_another_order_with_the_same_id_is_an_error(broker: AlpacaBroker, other: Order) -> None:
    broker.submit(BUY)
    with pytest.raises(BrokerError, match="is to buy AAPL"):
        broker.find(other)


# --- the latest trades -------------------------------------------------------------------------------------------


def test_the_latest_trades_of_today_are_the_prices(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.now = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    fake.traded_at["MSFT"] = fake.now - timedelta(days=1)
    assert broker.latest_prices_usd(["AAPL", "MSFT", "TSLA"]) == {"AAPL": 100.0}


def test_a_feed_without_a_trade_of_today_is_an_error(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.now = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    fake.traded_at = dict.fromkeys(("AAPL", "MSFT"), fake.now - timedelta(days=1))
    words = "of AAPL is from 2026-11-19T14:30.*, of MSFT is from 2026-11-19T14:30"
    with pytest.raises(BrokerError, match=words):
        broker.latest_prices_usd(["AAPL", "MSFT"])


def test_without_any_trade_there_are_no_prices(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.unpriced = {"AAPL"}
    assert broker.latest_prices_usd(["AAPL"]) == {}


# --- canceling --------------------------------------------------------------------------------------------------


def leg(broker: AlpacaBroker) -> OpenOrder:
    return next(order for order in broker.open_orders() if order.is_leg)


def test_canceling_a_leg_frees_the_shares(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BRACKET)
    broker.cancel(leg(broker))
    assert (broker.open_orders(), fake.available("AAPL")) == ((), Decimal(10))


def test_an_order_being_canceled_stays_open_until_it_is_gone(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    fake.cancel_polls = 1
    broker.submit(BRACKET)
    broker.cancel(leg(broker))
    assert [len(broker.open_orders()) for _ in range(2)] == [2, 0]


def test_a_canceled_order_can_be_canceled_again(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BRACKET)
    stop = leg(broker)
    broker.cancel(stop)
    broker.cancel(stop)
    assert [request.method for request in fake.requests].count("DELETE") == 2


def test_canceling_an_unknown_order_is_no_error(broker: AlpacaBroker) -> None:
    broker.cancel(OpenOrder(order_id="none", client_order_id="none", symbol="AAPL", side=Side.SELL))


@pytest.mark.parametrize("kind", FAULTS_OF_A_READ)
def test_a_cancellation_is_retried_after_a_passing_fault(
    fake: AlpacaFake, broker: AlpacaBroker, kind: FaultKind
) -> None:
    broker.submit(BRACKET)
    fake.fault("DELETE", "/v2/orders", kind)
    broker.cancel(leg(broker))
    assert fake.available("AAPL") == 10


def test_a_cancellation_that_keeps_failing_is_an_error(fake: AlpacaFake, broker: AlpacaBroker) -> None:
    broker.submit(BRACKET)
    fake.fault("DELETE", "/v2/orders", "503-html", times=100)
    with pytest.raises(BrokerError, match=r"DELETE /orders/.*503"):
        broker.cancel(leg(broker))


# --- keys --------------------------------------------------------------------------------------------------------


class Keys:
    """Rotated credentials: the old pair until a refresh, which returns `fresh`."""

    def __init__(self, fresh: tuple[str, str]) -> None:
        self.fresh = fresh
        self.calls: list[bool] = []

    def __call__(self, refresh: bool) -> tuple[str, str]:
        self.calls.append(refresh)
        return self.fresh if refresh else ("OLDKEY", "old-secret")


@pytest.mark.parametrize("kind", ["401", "403", "403-keys"])
def test_refused_credentials_are_refreshed_once(fake: AlpacaFake, kind: FaultKind) -> None:
    keys = Keys((fake.key_id, fake.secret))
    fake.fault("GET", "/v2/account", kind)
    AlpacaBroker(client(fake, keys)).account()
    assert keys.calls == [False, True]


def test_an_order_is_sent_again_with_fresh_keys(fake: AlpacaFake) -> None:
    AlpacaBroker(client(fake, Keys((fake.key_id, fake.secret)))).submit(BUY)
    assert (len(fake.orders), len(fake.asked("POST"))) == (1, 2)


def test_keys_refused_twice_are_an_error_naming_the_variables(fake: AlpacaFake) -> None:
    keys = Keys(("OTHERKEY", "other-secret"))
    broker = AlpacaBroker(client(fake, keys))
    for _ in range(2):
        with pytest.raises(BrokerError, match="ALPACAUSER and ALPACAPW"):
            broker.account()
    assert (keys.calls, len(fake.requests)) == ([False, True], 3)


def test_keys_rotated_a_second_time_are_fetched_again(fake: AlpacaFake) -> None:
    keys = Keys((fake.key_id, fake.secret))
    broker = AlpacaBroker(client(fake, keys))
    broker.account()
    fake.secret = "newer-secret"
    keys.fresh = (fake.key_id, fake.secret)
    broker.account()
    assert keys.calls == [False, True, True]


def read_at_once(broker: AlpacaBroker) -> None:
    """Read clock, account, open orders and positions side by side, and require an answer of each."""
    with side_by_side() as begin:
        answers = [begin(broker.clock), begin(broker.account), begin(broker.open_orders), begin(broker.positions)]
        for answer in answers:
            answer()


def test_reads_side_by_side_fetch_the_keys_once(fake: AlpacaFake) -> None:
    keys = Keys(("unused", "unused"))
    fake.key_id, fake.secret = "OLDKEY", "old-secret"
    read_at_once(AlpacaBroker(client(fake, keys)))
    assert keys.calls == [False]


def test_reads_side_by_side_that_are_all_refused_fetch_fresh_keys_once(fake: AlpacaFake) -> None:
    keys = Keys((fake.key_id, fake.secret))
    fake.latency_s = 0.05  # so that all are under way with the old keys
    read_at_once(AlpacaBroker(client(fake, keys)))
    assert keys.calls == [False, True]


def test_a_refused_order_is_not_taken_for_refused_keys(fake: AlpacaFake) -> None:
    keys = Keys((fake.key_id, fake.secret))
    broker = AlpacaBroker(client(fake, keys))
    broker.account()
    with pytest.raises(OrderRejectedError, match="buying power"):
        broker.submit(replace(BUY, quantity=1_000))
    assert keys.calls == [False, True]


def test_an_order_for_an_untradable_symbol_is_rejected_once(fake: AlpacaFake) -> None:
    keys = Keys((fake.key_id, fake.secret))
    broker = AlpacaBroker(client(fake, keys))
    broker.account()
    fake.untradable.add("AAPL")
    with pytest.raises(OrderRejectedError, match=r"403, asset \"AAPL\" is not tradable \(code 40300000\)") as refused:
        broker.submit(BUY)
    assert (refused.value.code, len(fake.asked("POST")), keys.calls) == (Code.ORDER_REJECTED, 1, [False, True])


SECRETS = {
    "refused": "wrong-secret",
    "with a line break": "wrong-secret\n",
    "with a space": "wrong secret",
    "not ASCII": "wröng-secret",
    "empty": "",
}


@pytest.mark.parametrize("what", SECRETS)
def test_no_error_shows_the_secret(fake: AlpacaFake, what: str) -> None:
    secret = SECRETS[what]
    with pytest.raises(BrokerError, match="ALPACAPW") as caught:
        AlpacaBroker(client(fake, lambda _: (fake.key_id, secret))).account()
    shown = "".join(traceback.format_exception(caught.value))
    assert secret.strip() not in shown or not secret


@pytest.mark.parametrize("kind", [*FAULTS_OF_A_READ, "401", "403", "403-keys"])
def test_no_fault_shows_the_secret(fake: AlpacaFake, broker: AlpacaBroker, kind: FaultKind) -> None:
    fake.fault("GET", "/v2/account", kind, times=100)
    with pytest.raises(BrokerError) as caught:
        broker.account()
    assert fake.secret not in "".join(traceback.format_exception(caught.value))


# --- the SDK and the environment ---------------------------------------------------------------------------------

OTHER_SETTINGS = {
    "APCA_API_OAUTH_TOKEN": "of-another-account",
    "APCA_API_KEY_ID": "of-another-account",
    "APCA_API_SECRET_KEY": "of-another-account",
    "APCA_API_VERSION": "v1",
    "APCA_RETRY_MAX": "5",
    "APCA_RETRY_CODES": "429,500,504",
}
SUBMIT = """
import sys
from trader.alpaca.client import AlpacaClient
from trader.broker.alpaca import AlpacaBroker
from trader.model import Order, Side
assert "alpaca_trade_api" not in sys.modules
broker = AlpacaBroker(AlpacaClient(sys.argv[1], sys.argv[1], lambda _: (sys.argv[2], sys.argv[3])))
assert "alpaca_trade_api" not in sys.modules
broker.submit(Order(client_order_id="one", symbol="AAPL", side=Side.BUY, quantity=1, price_usd=100))
"""


def in_a_process_with_other_settings(fake: AlpacaFake) -> subprocess.CompletedProcess[str]:
    command = [*python(), "-c", SUBMIT, fake.url, fake.key_id, fake.secret]
    environment = {**os.environ, **OTHER_SETTINGS, "PYTHONPATH": str(ROOT / "function")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_the_sdks_environment_variables_change_nothing(fake: AlpacaFake) -> None:
    done = in_a_process_with_other_settings(fake)
    assert (done.returncode, [order.status for order in fake.orders]) == (0, ["filled"]), done.stderr


def test_the_sdk_never_sends_an_order_again_by_itself(fake: AlpacaFake) -> None:
    fake.fault("POST", "/v2/orders", "504-accepted")
    done = in_a_process_with_other_settings(fake)
    assert ("OrderStateUnknownError" in done.stderr, len(fake.asked("POST"))) == (True, 1), done.stderr


def test_a_holding_that_is_no_longer_traded_does_not_stop_the_run(broker: AlpacaBroker, fake: AlpacaFake) -> None:
    fake.hold("AAPL", 3, average_price_usd=80)
    fake.unpriced = {"AAPL"}
    assert broker.positions()["AAPL"].price_usd == 80
