import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import SLOT, account, buy, daily, every, positions, settings
from trader.codec import decode, encode
from trader.journal.base import Run
from trader.journal.record import build_record, build_report, find_unprotected, read_settings
from trader.model import Code, Decision, Denial, Observation, OpenOrder, OrderStatus, Side

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


def held_with(*sales: OpenOrder, **quantities: float) -> Run:
    seen = dataclasses.replace(OBSERVATION, positions=positions(**quantities), open_orders=sales)
    return Run(settings=settings(), slot=SLOT, now=SLOT, observation=seen)


def stop(symbol: str, quantity: float) -> OpenOrder:
    return OpenOrder(order_id="1", client_order_id="1", symbol=symbol, side=Side.SELL, quantity=quantity, is_leg=True)


def test_a_position_without_a_full_sell_order_is_unprotected() -> None:
    run = held_with(stop("A", 5), stop("B", 4), A=5, B=5, C=1, FRACTION=0.5)
    assert find_unprotected(run) == ("B", "C")


def test_a_position_that_was_sold_is_no_longer_unprotected() -> None:
    run = held_with(A=5)
    run.outcomes.append(dataclasses.replace(buy("A", 5), side=Side.SELL, status=OrderStatus.FILLED))
    assert find_unprotected(run) == ()


def test_a_sale_of_unknown_fate_leaves_its_position_unprotected() -> None:
    run = held_with(A=5)
    run.outcomes.append(dataclasses.replace(buy("A", 5), side=Side.SELL, status=OrderStatus.UNKNOWN))
    assert find_unprotected(run) == ("A",)


def test_a_canceled_partial_sale_leaves_the_rest_unprotected() -> None:
    run = held_with(stop("A", 5), A=5)
    run.outcomes.append(
        dataclasses.replace(buy("A", 5), side=Side.SELL, status=OrderStatus.CANCELED, filled_quantity=2)
    )
    assert find_unprotected(run) == ("A",)
