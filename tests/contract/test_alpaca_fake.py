"""The stand-in for Alpaca answers with the fields of Alpaca's published API description and keeps correct books."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from scripts.testkit.alpaca import AlpacaFake


def names(text: str) -> set[str]:
    return set(text.split())


# The fields in Alpaca's OpenAPI description (2026-06), except those of other kinds of accounts, orders or assets:
# local-currency positions, multi-leg options, and pattern day trading, which was removed from the API in 2026-07.
CLOCK = {"timestamp", "is_open", "next_open", "next_close"}
ACCOUNT = names("""
    account_blocked account_number accrued_fees balance_asof buying_power cash created_at crypto_status currency equity
    id initial_margin intraday_adjustments last_equity last_maintenance_margin long_market_value maintenance_margin
    multiplier non_marginable_buying_power options_approved_level options_buying_power options_trading_level
    pending_reg_taf_fees pending_transfer_in pending_transfer_out portfolio_value regt_buying_power short_market_value
    shorting_enabled sma status trade_suspended_by_user trading_blocked transfers_blocked
""")
POSITION = names("""
    asset_class asset_id asset_marginable avg_entry_price change_today cost_basis current_price exchange lastday_price
    market_value qty qty_available side symbol unrealized_intraday_pl unrealized_intraday_plpc unrealized_pl
    unrealized_plpc
""")
ORDER = names("""
    asset_class asset_id canceled_at client_order_id created_at expired_at expires_at extended_hours failed_at filled_at
    filled_avg_price filled_qty hwm id legs limit_price notional order_class order_type position_intent qty replaced_at
    replaced_by replaces side status stop_price submitted_at symbol time_in_force trail_percent trail_price type
    updated_at
""")
ORDER_NULLABLE = names("""
    canceled_at expired_at failed_at filled_at filled_avg_price hwm legs limit_price notional qty replaced_at
    replaced_by replaces stop_price submitted_at trail_percent trail_price updated_at
""")
NOT_TEXT = {
    *("account_blocked", "asset_marginable", "extended_hours", "is_open", "legs", "options_approved_level"),
    *("options_trading_level", "shorting_enabled", "trade_suspended_by_user", "trading_blocked", "transfers_blocked"),
}
BARS = {"bars", "next_page_token"}
BAR = {"t", "o", "h", "l", "c", "v", "n", "vw"}


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(prices={"AAPL": 100.0, "MSFT": 50.0}, cash_usd=10_000) as fake:
        yield fake


def ask(fake: AlpacaFake, method: str, path: str, body: Any = None) -> requests.Response:
    headers = {"APCA-API-KEY-ID": fake.key_id, "APCA-API-SECRET-KEY": fake.secret}
    return requests.request(method, fake.url + path, json=body, headers=headers, timeout=5)


def market(side: str = "buy", quantity: str = "10", client_order_id: str = "one", **more: Any) -> dict[str, Any]:
    body = {"symbol": "AAPL", "side": side, "type": "market", "time_in_force": "day", "qty": quantity}
    return body | {"client_order_id": client_order_id} | more


def bracket(client_order_id: str = "one", stop: str = "97", take: str = "140", **more: Any) -> dict[str, Any]:
    legs = {"stop_loss": {"stop_price": stop}, "take_profit": {"limit_price": take}}
    return market(client_order_id=client_order_id) | {"order_class": "bracket", "time_in_force": "gtc"} | legs | more


def statuses(fake: AlpacaFake) -> list[tuple[str, str]]:
    return [(order.type, order.status) for order in fake.orders]


# --- the fields of the answers -----------------------------------------------------------------------------------


def test_the_clock_has_the_fields_of_the_specification(fake: AlpacaFake) -> None:
    assert set(ask(fake, "GET", "/v2/clock").json()) == CLOCK


def test_the_account_has_the_fields_of_the_specification(fake: AlpacaFake) -> None:
    assert set(ask(fake, "GET", "/v2/account").json()) == ACCOUNT


@pytest.mark.parametrize("path", ["/v2/positions", "/v2/positions/AAPL"])
def test_positions_have_the_fields_of_the_specification(fake: AlpacaFake, path: str) -> None:
    fake.hold("AAPL", 3)
    answer = ask(fake, "GET", path).json()
    assert set(answer[0] if isinstance(answer, list) else answer) == POSITION


@pytest.mark.parametrize(
    "path", ["/v2/orders?status=all&nested=true", "/v2/orders:by_client_order_id?client_order_id=one"]
)
def test_orders_and_their_legs_have_the_fields_of_the_specification(fake: AlpacaFake, path: str) -> None:
    ask(fake, "POST", "/v2/orders", bracket())
    answer = ask(fake, "GET", path).json()
    order = answer[0] if isinstance(answer, list) else answer
    assert [set(each) for each in (order, *order["legs"])] == [ORDER] * 3


def test_an_accepted_order_has_the_fields_of_the_specification(fake: AlpacaFake) -> None:
    assert set(ask(fake, "POST", "/v2/orders", market()).json()) == ORDER


def test_only_nullable_fields_of_an_order_are_null(fake: AlpacaFake) -> None:
    fake.fills = "never"
    order = ask(fake, "POST", "/v2/orders", market()).json()
    assert {name for name, value in order.items() if value is None} <= ORDER_NULLABLE


@pytest.mark.parametrize(
    "path", ["/v2/account", "/v2/positions/AAPL", "/v2/orders:by_client_order_id?client_order_id=one"]
)
def test_numbers_are_strings(fake: AlpacaFake, path: str) -> None:
    ask(fake, "POST", "/v2/orders", market())
    answer = ask(fake, "GET", path).json()
    assert {name for name, value in answer.items() if value is not None and not isinstance(value, str)} <= NOT_TEXT


def test_bars_have_the_fields_of_the_specification(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = [(fake.now, 100.0)]
    query = f"symbols=AAPL&timeframe=1Day&start={fake.now:%Y-%m-%dT00:00:00Z}&end={fake.now:%Y-%m-%dT23:00:00Z}"
    answer = ask(fake, "GET", f"/v2/stocks/bars?{query}").json()
    assert (set(answer), set(answer["bars"]["AAPL"][0])) == (BARS, BAR)


def test_a_refusal_has_a_code_and_a_message(fake: AlpacaFake) -> None:
    assert set(ask(fake, "GET", "/v2/positions/NONE").json()) == {"code", "message"}


# --- the books ---------------------------------------------------------------------------------------------------


def test_a_buy_is_accepted_first_and_filled_afterwards(fake: AlpacaFake) -> None:
    answer = ask(fake, "POST", "/v2/orders", market()).json()
    assert (answer["status"], fake.orders[0].status) == ("pending_new", "filled")
    assert (fake.cash, fake.positions["AAPL"].quantity) == (Decimal(9_000), Decimal(10))


def test_a_margin_account_may_spend_borrowed_money(fake: AlpacaFake) -> None:
    fake.multiplier = 2
    ask(fake, "POST", "/v2/orders", market(quantity="150"))
    assert fake.cash == -5_000


def test_open_buys_reduce_both_buying_powers(fake: AlpacaFake) -> None:
    fake.multiplier = 2
    fake.fills = "never"
    ask(fake, "POST", "/v2/orders", market())
    account = ask(fake, "GET", "/v2/account").json()
    assert [account[name] for name in ("multiplier", "buying_power", "non_marginable_buying_power", "cash")] == [
        *("2", "18000", "9000", "10000")
    ]


def test_the_answers_about_a_symbol_can_be_changed(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", market())
    fake.record_overrides["AAPL"] = {"asset_class": None}
    position, (order,) = (ask(fake, "GET", path).json() for path in ("/v2/positions/AAPL", "/v2/orders?status=all"))
    assert (position["asset_class"], order["asset_class"]) == (None, None)


def test_an_order_outside_the_session_waits_for_the_bell(fake: AlpacaFake) -> None:
    fake.is_open = False
    assert ask(fake, "POST", "/v2/orders", market()).json()["status"] == "accepted"
    assert not fake.positions
    fake.fill_waiting()
    assert fake.positions["AAPL"].quantity == 10


def test_an_order_can_be_filled_in_part(fake: AlpacaFake) -> None:
    fake.fills = "partial"
    ask(fake, "POST", "/v2/orders", market())
    assert (fake.orders[0].status, fake.orders[0].filled_quantity) == ("partially_filled", Decimal(5))


def test_an_order_can_be_rejected_after_it_was_accepted(fake: AlpacaFake) -> None:
    fake.rejected_later.add("AAPL")
    assert ask(fake, "POST", "/v2/orders", market()).status_code == 200
    assert (fake.orders[0].status, fake.cash) == ("rejected", Decimal(10_000))


def test_the_legs_of_a_filled_bracket_reserve_its_shares_once(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", bracket())
    assert statuses(fake) == [("market", "filled"), ("limit", "new"), ("stop", "held")]
    assert ask(fake, "GET", "/v2/positions/AAPL").json()["qty_available"] == "0"


def test_canceling_one_leg_cancels_the_other(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", bracket())
    assert ask(fake, "DELETE", f"/v2/orders/{fake.orders[2].id}").status_code == 204
    assert statuses(fake) == [("market", "filled"), ("limit", "canceled"), ("stop", "canceled")]
    assert fake.available("AAPL") == 10


def test_canceling_can_take_several_polls(fake: AlpacaFake) -> None:
    fake.cancel_polls = 2
    ask(fake, "POST", "/v2/orders", bracket())
    ask(fake, "DELETE", f"/v2/orders/{fake.orders[1].id}")
    seen = [{order["status"] for order in ask(fake, "GET", "/v2/orders").json()} for _ in range(3)]
    assert seen == [{"pending_cancel"}, {"pending_cancel"}, set()]


def test_a_finished_order_cannot_be_canceled(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", market())
    assert ask(fake, "DELETE", f"/v2/orders/{fake.orders[0].id}").status_code == 422


def test_a_triggered_stop_sells_and_cancels_the_take_profit(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", bracket())
    fake.trigger_stop("AAPL")
    assert statuses(fake) == [("market", "filled"), ("limit", "canceled"), ("stop", "filled")]
    assert (fake.cash, fake.positions) == (Decimal(10_000 - 1_000 + 970), {})


def test_a_triggered_take_profit_sells_at_its_limit(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", bracket())
    fake.trigger_take_profit("AAPL")
    assert (fake.cash, fake.open_orders()) == (Decimal(10_000 - 1_000 + 1_400), [])


def test_a_sale_by_hand_leaves_no_leg_behind(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", bracket())
    fake.sell_by_hand("AAPL")
    assert (fake.positions, fake.open_orders(), fake.cash) == ({}, [], Decimal(10_000))


def test_the_end_of_the_day_expires_day_orders_and_keeps_the_legs(fake: AlpacaFake) -> None:
    ask(fake, "POST", "/v2/orders", bracket())
    fake.fills = "never"
    ask(fake, "POST", "/v2/orders", market(client_order_id="two", symbol="MSFT"))
    fake.prices["AAPL"] = 110.0
    fake.close_day()
    assert [order.status for order in fake.orders] == ["filled", "new", "held", "expired"]
    assert fake.last_equity == 10_100


def test_hours_can_follow_the_simulated_time(fake: AlpacaFake) -> None:
    fake.is_open = None
    fake.now = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)  # Friday, 16:00 in New York
    clock = ask(fake, "GET", "/v2/clock").json()
    assert (clock["is_open"], clock["next_open"]) == (False, "2026-11-23T09:30:00-05:00")


def test_by_default_the_latest_fifty_orders_are_listed(fake: AlpacaFake) -> None:
    fake.fills = "never"
    for number in range(60):
        ask(fake, "POST", "/v2/orders", market(quantity="1", client_order_id=f"order-{number}"))
    latest = ask(fake, "GET", "/v2/orders").json()
    oldest = ask(fake, "GET", "/v2/orders?limit=500&direction=asc").json()
    assert (len(latest), latest[0]["client_order_id"]) == (50, "order-59")
    assert (len(oldest), oldest[0]["client_order_id"]) == (60, "order-0")


def test_after_and_until_exclude_their_own_moment(fake: AlpacaFake) -> None:
    fake.fills = "never"
    for number in range(3):
        fake.now += timedelta(minutes=1)
        ask(fake, "POST", "/v2/orders", market(quantity="1", client_order_id=f"order-{number}"))
    first, _, last = (order.submitted_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for order in fake.orders)
    between = ask(fake, "GET", f"/v2/orders?after={first}&until={last}").json()
    assert [order["client_order_id"] for order in between] == ["order-1"]


REFUSALS = {
    "a second order with the same id": (market(client_order_id="held"), 422, 40010001, "must be unique"),
    "more than the buying power": (market(quantity="1000"), 403, 40310000, "insufficient buying power"),
    "closing a position that is not open": (
        market("sell", "1") | {"symbol": "MSFT", "position_intent": "sell_to_close"},
        *(422, 42210000, "position intent mismatch, inferred: sell_to_open, specified: sell_to_close"),
    ),
    "more shares than are held": (market("sell", "11"), 403, 40310000, "insufficient qty available"),
    "a take profit finer than a cent": (bracket(take="140.001"), 422, 42210000, "sub-penny"),
    "a stop finer than a cent": (bracket(stop="97.005"), 422, 42210000, "sub-penny"),
    "a fractional bracket": (bracket(qty="1.5"), 422, 42210000, "fractional"),
    "a stop above the price": (bracket(stop="101"), 422, 42210000, "stop_loss"),
    "an unknown symbol": (market(symbol="NONE"), 422, 42210000, "not found"),
    "no quantity": (market(quantity="0"), 422, 40010001, "qty"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_the_fake_refuses(fake: AlpacaFake, what: str) -> None:
    body, status, code, message = REFUSALS[what]
    ask(fake, "POST", "/v2/orders", market(client_order_id="held"))
    answer = ask(fake, "POST", "/v2/orders", body)
    assert (answer.status_code, answer.json()["code"], len(fake.orders)) == (status, code, 1)
    assert message in answer.json()["message"]


def test_the_fake_refuses_to_trade_with_itself(fake: AlpacaFake) -> None:
    fake.fills = "never"
    fake.hold("AAPL", 10)
    ask(fake, "POST", "/v2/orders", market("sell"))
    answer = ask(fake, "POST", "/v2/orders", market("buy", client_order_id="two"))
    assert (answer.status_code, answer.json()["code"]) == (403, 40310000)
    assert "wash trade" in answer.json()["message"]


def test_the_fake_refuses_orders_for_untradable_symbols(fake: AlpacaFake) -> None:
    fake.untradable.add("AAPL")
    answer = ask(fake, "POST", "/v2/orders", market())
    assert (answer.status_code, answer.json()["code"], fake.orders) == (403, 40300000, [])


@pytest.mark.parametrize("symbol", ["BRK-B", "BRK/B", "aapl", ""])
def test_the_fake_refuses_bars_for_invalid_symbols(fake: AlpacaFake, symbol: str) -> None:
    query = {"symbols": f"BRK.B,{symbol}", "timeframe": "1Day", "start": "2026-11-20", "end": "2026-11-21"}
    answer = ask(fake, "GET", f"/v2/stocks/bars?{urlencode(query)}")
    assert (answer.status_code, answer.json()["message"]) == (400, f"invalid symbol: {symbol}")


def test_the_fake_refuses_unknown_keys(fake: AlpacaFake) -> None:
    assert requests.get(f"{fake.url}/v2/account", timeout=5).status_code == 401


# --- the faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "done"),
    [("403-keys", 0), ("408", 0), ("429", 0), ("500-html", 0), ("503-html", 0), ("504", 0), ("504-accepted", 1)],
)
def test_an_error_status_is_answered_once(fake: AlpacaFake, kind: Any, done: int) -> None:
    fake.fault("POST", "/v2/orders", kind)
    assert ask(fake, "POST", "/v2/orders", market()).status_code == int(kind[:3])
    assert len(fake.orders) == done
    assert ask(fake, "GET", "/v2/account").status_code == 200


@pytest.mark.parametrize(("kind", "done"), [("drop", 0), ("drop-accepted", 1), ("hang", 0), ("hang-accepted", 1)])
def test_a_connection_is_closed_without_an_answer(fake: AlpacaFake, kind: Any, done: int) -> None:
    fake.hang_s = 0.1
    fake.fault("POST", "/v2/orders", kind)
    with pytest.raises(requests.ConnectionError):
        ask(fake, "POST", "/v2/orders", market())
    assert len(fake.orders) == done


@pytest.mark.parametrize(("kind", "content"), [("200-html", "<html>"), ("null", "null")])
def test_an_accepted_order_can_get_a_nonsensical_answer(fake: AlpacaFake, kind: Any, content: str) -> None:
    fake.fault("POST", "/v2/orders", kind)
    answer = ask(fake, "POST", "/v2/orders", market())
    assert (answer.status_code, answer.text[: len(content)], len(fake.orders)) == (200, content, 1)


def test_a_named_field_goes_missing(fake: AlpacaFake) -> None:
    fake.fault("GET", "/v2/account", "missing-field", field="cash")
    assert set(ask(fake, "GET", "/v2/account").json()) == ACCOUNT - {"cash"}


def test_requests_are_kept_with_their_query_and_body(fake: AlpacaFake) -> None:
    ask(fake, "GET", "/v2/orders?status=all")
    ask(fake, "POST", "/v2/orders", market())
    assert [tuple(request) for request in fake.requests] == [
        ("GET", "/v2/orders?status=all", None),
        ("POST", "/v2/orders", json.loads(json.dumps(market()))),
    ]


# --- activities ------------------------------------------------------------------------------------------------------

TRADE_FIELDS = {
    *("activity_type", "cum_qty", "id", "leaves_qty", "order_id", "order_status", "price", "qty", "side", "symbol"),
    *("transaction_time", "type"),
}
OTHER_FIELDS = {"id", "activity_type", "date", "created_at", "net_amount", "currency", "status"}


def activities(fake: AlpacaFake, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(fake, "GET", f"/v2/account/activities{query}").json()
    return found


def test_activities_have_the_fields_of_the_specification(fake: AlpacaFake) -> None:
    fake.buy_by_hand("AAPL", 4)
    fill, opening = activities(fake)
    assert (set(fill), set(opening)) == (TRADE_FIELDS, OTHER_FIELDS)
    assert (opening["activity_type"], opening["net_amount"]) == ("JNLC", "10000")


def test_each_part_of_a_fill_is_an_activity(fake: AlpacaFake) -> None:
    fake.fills = "partial"
    order = fake.buy_by_hand("AAPL", 4)
    fake.fill_part(order, 2)
    parts = activities(fake, "?activity_types=FILL&direction=asc")
    assert [(each["type"], each["qty"], each["cum_qty"], each["leaves_qty"]) for each in parts] == [
        ("partial_fill", "2", "2", "2"),
        ("fill", "2", "4", "0"),
    ]
    assert {each["order_id"] for each in parts} == {order.id}


def test_a_late_activity_stands_at_its_day_and_is_found_by_its_entry(fake: AlpacaFake) -> None:
    fake.buy_by_hand("AAPL", 4)
    bought = fake.now
    fake.now = bought + timedelta(days=1)
    fake.book("FEE", -0.07, bought.date())
    assert [each["activity_type"] for each in activities(fake, "?direction=asc")] == ["JNLC", "FEE", "FILL"]
    since = bought.isoformat().replace("+00:00", "Z")
    assert [each["activity_type"] for each in activities(fake, f"?after={since}")] == ["FEE"]


def test_a_page_begins_after_the_activity_of_its_token(fake: AlpacaFake) -> None:
    for _ in range(3):
        fake.book("INT", 1)
    first = activities(fake, "?direction=asc&page_size=2")
    rest = activities(fake, f"?direction=asc&page_size=100&page_token={first[-1]['id']}")
    assert len({each["id"] for each in [*first, *rest]}) == 4


def test_a_split_takes_the_old_shares_and_gives_the_new_ones(fake: AlpacaFake) -> None:
    fake.hold("AAPL", 10)
    fake.split("AAPL", 3)
    parts = activities(fake, "?activity_types=SPLIT&direction=asc")
    assert sorted(each["qty"] for each in parts) == ["-10", "30"]
    assert len({each["group_id"] for each in parts}) == 1
