import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import SLOT, account, buy, daily, every, positions, settings
from trader.codec import decode, encode
from trader.journal.base import Run
from trader.journal.record import build_record, build_report, find_unprotected, read_settings
from trader.model import (
    Code,
    Decision,
    Denial,
    Observation,
    Ohlv,
    OpenOrder,
    OrderStatus,
    OrderType,
    Side,
    Unprotected,
)

OBSERVATION = Observation(
    slot=SLOT,
    now=SLOT,
    account=account(),
    positions=positions(AAPL=12.345),
    open_orders=(OpenOrder(order_id="1", client_order_id="c", symbol="AAPL", side=Side.SELL, is_leg=True),),
    ranking={"AAPL": 0.1},
    closes={"AAPL": daily([0.1 + 0.2, 1e-9, 1 / 3])},
    denials=(Denial(symbol="X", code=Code.STALE_PRICE, detail="old"),),
)


def through_json(observation: Observation) -> Observation:
    return decode(Observation, json.loads(json.dumps(encode(observation), allow_nan=False)))


def test_an_observation_comes_back_from_json_as_it_was() -> None:
    back = through_json(OBSERVATION)
    assert back.closes["AAPL"].equals(OBSERVATION.closes["AAPL"])
    assert dataclasses.replace(back, closes={}) == dataclasses.replace(OBSERVATION, closes={})


@given(st.lists(st.floats(min_value=1e-9, max_value=1e9), min_size=1, max_size=50), st.sampled_from([1, 5, 15, 60]))
def test_prices_keep_their_last_bit_and_their_time(prices: list[float], minutes: int) -> None:
    closes = every(minutes, prices)
    back = through_json(dataclasses.replace(OBSERVATION, closes={"AAPL": closes})).closes["AAPL"]
    assert back.to_list() == prices
    assert list(back.index) == list(closes.index)


def with_bars(*rows: tuple[float, ...]) -> Observation:
    ohlv: Ohlv = np.array(rows)
    closes = {"AAPL": daily([101.0] * len(rows))}
    return dataclasses.replace(OBSERVATION, closes=closes, ohlv={"AAPL": ohlv})


def test_the_rest_of_the_bars_comes_back_to_the_last_bit() -> None:
    observation = with_bars((0.1 + 0.2, 1 / 3, 1e-9, 5.0), (100.0, 102.5, 99.0, math.nan))
    back = through_json(observation).ohlv["AAPL"]
    assert np.array_equal(back, observation.ohlv["AAPL"], equal_nan=True)


def test_a_record_has_bars_only_if_a_rule_needs_them() -> None:
    assert "ohlv" not in encode(OBSERVATION)
    assert encode(with_bars((100.0, 102.0, 99.0, math.nan)))["ohlv"] == {
        "AAPL": {"open": [100.0], "high": [102.0], "low": [99.0], "volume": [None]}
    }


@pytest.mark.parametrize(
    "change",
    [
        {"low": [99.0]},
        {"low": [99.0, 0.0]},
        {"low": [99.0, None]},
        {"low": [99.0, "98"]},
        {"volume": [5, -1]},
        {"close": [100.0, 100.0]},
        {name: [99.0] for name in ("open", "high", "low", "volume")},
    ],
    ids=["short", "zero", "missing", "text", "negative", "a close", "fewer than closes"],
)
def test_bars_in_a_record_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    data = json.loads(json.dumps(encode(with_bars((100, 102, 99, 5), (100, 102, 99, 5)))))
    data["ohlv"]["AAPL"] |= change
    with pytest.raises((TypeError, ValueError)):
        decode(Observation, data)


def test_settings_come_back_from_a_record_without_their_secrets() -> None:
    original = settings(BROKER="alpaca", ALPACAUSER="id", ALPACAPW="secret", UNIVERSE="AAPL,MSFT")
    back = read_settings(json.loads(json.dumps(original.public())))
    assert back == dataclasses.replace(original, alpacauser="", alpacapw="")


def test_no_secret_is_in_a_record() -> None:
    run = Run(settings=settings(BROKER="alpaca", ALPACAUSER="key-id", ALPACAPW="secret"), slot=SLOT, now=SLOT)
    text = json.dumps(build_record(run, build_report(run, "NOTHING_TO_DO")))
    assert "key-id" not in text
    assert "secret" not in text


def test_investments_include_only_what_was_placed() -> None:
    run = Run(settings=settings(), slot=SLOT, now=SLOT, decision=Decision(orders=(buy("A", 3), buy("B", 4))))
    run.outcomes += [buy("A", 3), Denial(symbol="B", code=Code.ORDER_REJECTED, detail="no")]
    assert build_report(run, "TRADED")["investments"] == {"A": 3}


def test_a_dry_run_shows_its_plan_and_invests_nothing() -> None:
    run = Run(settings=settings(MODE="dry-run"), slot=SLOT, now=SLOT, decision=Decision(orders=(buy("A"),)))
    report = build_report(run, "DRY_RUN")
    assert (report["investments"], [order["symbol"] for order in report["orders"]]) == ({}, ["A"])


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_holding_without_a_stop_is_a_denial_that_says_whether_the_bot_bought_it(is_ours: bool) -> None:
    run = Run(settings=settings(), slot=SLOT, now=SLOT)
    run.unprotected["A"] = Unprotected(symbol="A", reason="the market is closed", is_ours=is_ours)
    (denial,) = build_report(run, "TRADED")["denials"]
    assert (denial["code"], denial["is_unprotected"]) == ("UNPROTECTED", is_ours)


def test_a_stopped_run_has_every_field_of_a_report() -> None:
    run = Run(settings=settings(), slot=SLOT, now=SLOT)
    assert set(build_report(run, "HALTED")) >= {
        "strategy", "slot", "status", "investments", "orders", "denials", "forecasts", "account", "timings_s",
    }  # fmt: skip


def test_a_stage_that_fails_is_timed_too() -> None:
    run = Run(settings=settings(), slot=SLOT, now=SLOT)
    with pytest.raises(OSError, match="gone"), run.time_stage("prices"):
        raise OSError("gone")
    assert math.isfinite(run.timings_s["prices"])


def holding(*bare: str, **variables: object) -> Run:
    """Return a run that saw these symbols without a working stop."""
    run = Run(settings=settings(**variables), slot=SLOT, now=SLOT, observation=OBSERVATION)
    run.unprotected = {symbol: Unprotected(symbol=symbol, reason="a test", is_ours=True) for symbol in bare}
    return run


def test_holdings_without_a_working_stop_are_unprotected() -> None:
    assert find_unprotected(holding("B", "A")) == ("A", "B")


def test_nothing_is_called_unprotected_if_brackets_are_off() -> None:
    assert find_unprotected(holding("A", STOP_LOSS_FRACTION=0, TAKE_PROFIT_FRACTION=0)) == ()


DEAD_STOP = dataclasses.replace(buy("A", 5), side=Side.SELL, type=OrderType.STOP, status=OrderStatus.REJECTED)


@pytest.mark.parametrize(
    ("fields", "is_named"),
    [
        ({"side": Side.SELL, "status": OrderStatus.UNKNOWN}, True),
        ({"side": Side.SELL, "status": OrderStatus.NEW}, True),
        ({"side": Side.SELL, "status": OrderStatus.REJECTED}, True),
        ({"side": Side.SELL, "status": OrderStatus.FILLED, "filled_quantity": 5}, False),
        ({"status": OrderStatus.NEW}, False),
        ({"status": OrderStatus.PARTIALLY_FILLED, "filled_quantity": 2}, True),
        ({"status": OrderStatus.FILLED, "filled_quantity": 5}, False),
        ({"status": OrderStatus.FILLED, "filled_quantity": 5, "legs": (DEAD_STOP,)}, True),
        ({"status": OrderStatus.FILLED, "filled_quantity": 5, "take_profit_usd": None}, True),
    ],
)
def test_without_a_look_after_the_last_order_what_may_have_no_stop_is_named(
    fields: dict[str, Any], is_named: bool
) -> None:
    run = holding()
    run.outcomes.append(dataclasses.replace(buy("A", 5), **fields))
    assert find_unprotected(run) == (("A",) if is_named else ())


@pytest.mark.parametrize(("status", "is_named"), [(OrderStatus.ACCEPTED, False), (OrderStatus.REJECTED, True)])
def test_a_buy_without_a_bracket_is_named_unless_a_stop_has_followed(status: OrderStatus, is_named: bool) -> None:
    run = holding()
    bought = dataclasses.replace(buy("A", 0.5), status=OrderStatus.FILLED, filled_quantity=0.5, take_profit_usd=None)
    run.outcomes.append(bought)
    run.stops.append(dataclasses.replace(DEAD_STOP, status=status))
    assert find_unprotected(run) == (("A",) if is_named else ())


def test_a_sale_that_cost_its_stop_leaves_its_position_unprotected() -> None:
    run = holding()
    run.outcomes.append(Denial(symbol="A", code=Code.ORDER_REJECTED, detail="no", is_unprotected=True))
    assert find_unprotected(run) == ("A",)


def test_what_the_broker_showed_after_the_last_order_counts() -> None:
    run = holding()
    run.outcomes.append(Denial(symbol="A", code=Code.ORDER_REJECTED, detail="no", is_unprotected=True))
    run.is_guarded = True
    assert find_unprotected(run) == ()
