"""What a page says has happened since the run before, from both records and the broker's fills."""

from datetime import datetime, timedelta
from typing import Any

from scripts.report.since import Before, describe, list_settings
from tests.run_record import SLOT, order, record
from trader.audit.fills import Fill, Why
from trader.model import NEW_YORK, Side
from trader.settings import Settings

EARLIER = SLOT - timedelta(days=1)


def before(**changes: Any) -> dict[str, Any]:
    """Return the record of the run a day before, which held CCC and DDD."""
    whole = record(slot=EARLIER.isoformat(), orders=[], **changes)
    whole["observation"] |= {"slot": EARLIER.isoformat(), "now": EARLIER.isoformat()}
    whole["observation"]["positions"]["DDD"] = held("DDD", 10, 30.0)
    return whole


def now(**positions: float) -> dict[str, Any]:
    whole = record()
    whole["observation"]["positions"] = {symbol: held(symbol, shares, 40.0) for symbol, shares in positions.items()}
    whole["observation"]["account"] |= {"equity_usd": 99_500.0, "last_equity_usd": 99_900.0, "flows_usd": 0.0}
    return whole


def held(symbol: str, quantity: float, paid_usd: float) -> dict[str, Any]:
    return {"symbol": symbol, "quantity": quantity, "average_price_usd": paid_usd, "price_usd": 33.0}


def fill(symbol: str, quantity: float, price_usd: float, why: Why = Why.STOP, **changes: Any) -> Fill:
    given: dict[str, Any] = {"at": SLOT - timedelta(hours=2), "side": Side.SELL, **changes}
    return Fill(symbol=symbol, quantity=quantity, price_usd=price_usd, why=why, **given)


def words(found: list[tuple[str, str]], name: str) -> list[str]:
    return [each for called, each in found if called == name]


def test_a_sale_at_a_stop_is_told_with_its_gain() -> None:
    found = describe(now(CCC=12.5), Before(record=before(), fills=[fill("DDD", 10, 29.1)]))
    assert words(found, "Sold") == ["10 DDD at 29.10, at its stop: −9.00 USD, −3.0% (Wed 28 Dec, 14:00)"]  # noqa: RUF001
    assert words(found, "Held") == []


def test_a_fill_of_a_daily_bar_has_no_time_of_day() -> None:
    midnight = datetime(2022, 12, 28, tzinfo=NEW_YORK)
    found = describe(now(CCC=12.5), Before(record=before(), fills=[fill("DDD", 10, 31.5, Why.TARGET, at=midnight)]))
    assert words(found, "Sold") == ["10 DDD at 31.50, at its target: +15.00 USD, +5.0% (Wed 28 Dec)"]


def test_equity_and_the_gain_since_the_close_are_told_without_what_was_paid_in() -> None:
    run = now(CCC=12.5, DDD=10)
    run["observation"]["account"]["flows_usd"] = 100.0
    found = describe(run, Before(record=before(), fills=[]))
    assert words(found, "Equity") == ["−481.12 USD, to 99,500.00"]  # noqa: RUF001 as a page prints it
    assert words(found, "Since the close") == ["−500.00 USD, −0.5%"]  # noqa: RUF001 as a page prints it
    assert words(found, "Paid in") == ["100.00 USD"]


def test_nothing_that_happened_is_said_too() -> None:
    found = describe(now(CCC=12.5, DDD=10), Before(record=before(), fills=[]))
    assert found[-1] == ("Held", "the same, and no order was filled")


def test_shares_that_no_fill_explains_are_named_such_as_those_of_a_split() -> None:
    found = describe(now(CCC=12.5, DDD=40), Before(record=before(), fills=[]))
    assert words(found, "Held") == ["DDD: 10 → 40"]


def test_without_the_brokers_fills_the_records_say_what_is_gone_and_that_its_stop_was_filled() -> None:
    run = now(CCC=12.5)
    run["observation"]["stopped_at"] = {"DDD": "2022-12-28T19:00:00Z"}
    found = describe(run, Before(record=before(), fills=None, problem="Alpaca: GET /orders: no answer"))
    assert words(found, "Fills") == ["not known: Alpaca: GET /orders: no answer"]
    assert words(found, "Held") == ["DDD: 10 → none, its stop was filled at Wed 28 Dec, 14:00"]


def test_what_the_run_before_knew_to_be_filled_is_not_told_again_and_the_rest_of_an_order_is() -> None:
    run_before = before()
    bought = {"quantity": 10.0, "client_order_id": "trend-20221227T2100Z-AAA-buy", "symbol": "AAA", "side": "buy"}
    run_before["report"]["orders"] = [order("AAA", "buy", 10.0, 98.0) | bought | {"filled_quantity": 4.0}]
    late = fill("AAA", 10, 98.0, Why.RULE, side=Side.BUY, client_order_id=bought["client_order_id"])
    found = describe(now(CCC=12.5, DDD=10, AAA=10), Before(record=run_before, fills=[late]))
    assert words(found, "Bought") == ["6 AAA at 98.00, by the rule (Wed 28 Dec, 14:00)"]
    assert words(found, "Held") == []


def test_fills_of_the_runs_own_orders_and_those_before_the_last_run_are_not_of_the_time_between() -> None:
    own = fill("EEE", 5, 61.0, Why.RULE, side=Side.BUY, at=SLOT, client_order_id="trend-20221228T2100Z-EEE-buy")
    old = fill("FFF", 5, 70.0, at=EARLIER - timedelta(minutes=1))
    found = describe(now(CCC=12.5, DDD=10), Before(record=before(), fills=[old, own]))
    assert words(found, "Held") == ["the same, and no order was filled"]


def test_a_run_that_did_not_look_at_the_account_says_nothing_of_it() -> None:
    assert describe({**record(), "observation": None}, Before(record=before(), fills=[])) == []


def test_a_record_that_is_none_is_said_to_be_unreadable_and_ends_no_page() -> None:
    ((name, said),) = describe(now(CCC=12.5), Before(record={"report": 3, "observation": {"x": 1}}, fills=[]))
    assert name == "Run before"
    assert said.startswith("its record cannot be read: ")


def test_only_settings_that_are_not_the_defaults_are_named() -> None:
    defaults = Settings().public()
    chosen = {**defaults, "stop_loss_fraction": 0.05, "rule_days": 20, "strategy": "other", "universe": ["KO", "PEP"]}
    assert list_settings(chosen, defaults) == [
        ("UNIVERSE", "KO, PEP"),
        ("STOP_LOSS_FRACTION", "0.05"),
        ("RULE_DAYS", "20"),
    ]
