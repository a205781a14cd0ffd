"""Reading records: as text, with the same values as the codec, and nothing that is none."""

import json
from typing import Any

import pytest

from scripts.owner.tape import parse
from tests.run_record import SLOT, record
from trader.codec import decode, encode
from trader.model import Observation, Order, OrderStatus, Settled, Side


def text(**changes: Any) -> str:
    return json.dumps({**record(), **changes})


def test_the_closes_are_those_of_the_codec() -> None:
    _, step = parse(SLOT, text())
    for symbol, closes in decode(Observation, record()["observation"]).closes.items():
        read = step.bars[symbol].to_series(symbol)
        assert read.equals(closes)
        assert read.index.equals(closes.index)


def test_a_record_that_somebody_else_has_written_is_read_too() -> None:
    _, ours = parse(SLOT, text())
    _, step = parse(SLOT, json.dumps(record(), indent=1))
    assert {symbol: bars.usd.tolist() for symbol, bars in step.bars.items()} == {
        symbol: bars.usd.tolist() for symbol, bars in ours.bars.items()
    }


def test_closes_in_another_place_do_not_stand_for_those_of_the_observation() -> None:
    closes = {"AAA": {"times": [1], "usd": [1.0]}}
    with pytest.raises(ValueError, match="closes beside those of its observation"):
        parse(SLOT, json.dumps({"more": {"closes": closes}, **record()}))


def test_the_corners_of_lines_are_left_out_but_for_an_own_rule_which_may_look_at_them() -> None:
    whole = record()
    corners = [["2022-12-27T05:00:00Z", 100.0], ["2022-12-28T05:00:00Z", 1e2]]
    whole["decision"] = {"forecasts": [{**whole["report"]["forecasts"][0], "line": corners}]}
    whole["decision"] |= {name: [] for name in ("insights", "orders", "denials")}
    _, step = parse(SLOT, json.dumps(whole))
    assert step.forecasts["AAA"].line == ()
    whole["settings"]["signal"] = "rules/mine.py"
    _, step = parse(SLOT, json.dumps(whole))
    assert [usd for _, usd in step.forecasts["AAA"].line] == [100.0, 100.0]


def test_a_report_without_the_forecasts_of_its_decision_says_the_rest() -> None:
    whole = record()
    whole["report"] |= {name: whole["report"].pop(name) for name in ("forecasts", "account")}  # in the journal's order
    whole["decision"] = {"forecasts": whole["report"]["forecasts"], "insights": [], "orders": [], "denials": []}
    read, step = parse(SLOT, json.dumps(whole))
    assert read["report"] == {**whole["report"], "forecasts": []}
    assert step.forecasts.keys() == {each["symbol"] for each in whole["decision"]["forecasts"]} != set()


def test_closes_become_a_series_once() -> None:
    bars = parse(SLOT, text())[1].bars["AAA"]
    assert bars.to_series("AAA") is bars.to_series("AAA")


@pytest.mark.parametrize("usd", [[1.0, -2.0], [1.0], [1.0, 0.0]])
def test_closes_that_cannot_be_are_refused(usd: list[float]) -> None:
    changed = record()
    changed["observation"]["closes"] = {"AAA": {"times": [1, 2], "usd": usd}}
    with pytest.raises(ValueError, match="closes of 'AAA'"):
        parse(SLOT, json.dumps(changed))


@pytest.mark.parametrize("version", [0, 2, None])
def test_another_version_is_refused(version: int | None) -> None:
    with pytest.raises(ValueError, match="not a run's record of version 1"):
        parse(SLOT, text(version=version))


def test_an_order_of_an_earlier_run_counts_as_it_was_found_settled() -> None:
    settled = Settled(
        client_order_id="trend-20221227T2045Z-AAA-buy",
        symbol="AAA",
        side=Side.BUY,
        quantity=10,
        recorded_status=OrderStatus.ACCEPTED,
        status=OrderStatus.FILLED,
        filled_quantity=10,
        filled_price_usd=98.5,
    )
    _, step = parse(SLOT, json.dumps(record(orders=[], settled=[encode(settled)])))
    (order,) = step.placed
    assert isinstance(order, Order)
    assert (order.client_order_id, order.filled_price_usd) == ("trend-20221227T2045Z-AAA-buy", 98.5)
