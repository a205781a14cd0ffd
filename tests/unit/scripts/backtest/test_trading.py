"""How trades ended and what they made, on hand-made fills."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from scripts.backtest.model import Fill, Panel, Result
from scripts.backtest.statistics import figures
from tests.backtest_results import fill, panel, result

FLAT = panel({"AAA": [10.0] * 400, "BBB": [10.0] * 400})


def trading(*fills: Fill, over: Panel = FLAT, **fields: Any) -> Any:
    return figures(result(over, sorted(fills, key=lambda each: each.time), **fields))["trading"]


def trip(begin: int, end: int, price_usd: float, kind: str = "market", symbol: str = "AAA") -> Sequence[Fill]:
    """Return the purchase of ten shares at 10 USD, and their sale at `price_usd`."""
    return fill(FLAT, begin, symbol, 10, 10.0), fill(FLAT, end, symbol, -10, price_usd, kind=kind)


def test_trades_are_counted_by_what_ended_them() -> None:
    found = trading(
        *trip(0, 2, 9.0, "stop-loss"),
        *trip(3, 7, 14.0, "take-profit"),
        *trip(8, 9, 11.0),
        *trip(10, 15, 8.0, "stop-loss"),
        fill(FLAT, 20, "BBB", 5, 10.0),
    )
    assert [(row["kind"], row["trades"], row["pnl_usd"]) for row in found["exits"]] == [
        ("rule", 1, 10.0),
        ("stop-loss", 2, -30.0),
        ("take-profit", 1, 40.0),
        ("open", 1, 0.0),
    ]


def test_an_exit_has_the_mean_return_and_duration_of_its_trades() -> None:
    (stops,) = trading(*trip(0, 2, 9.0, "stop-loss"), *trip(10, 16, 8.0, "stop-loss"))["exits"]
    assert stops["mean_return_fraction"] == pytest.approx(-0.15)
    assert stops["mean_bars_held"] == 4
    assert stops["win_fraction"] == 0


def test_the_profit_factor_is_gains_over_losses() -> None:
    assert trading(*trip(0, 1, 14.0), *trip(2, 3, 12.0), *trip(4, 5, 8.0))["profit_factor"] == pytest.approx(60 / 20)


def test_an_open_trade_is_neither_a_gain_nor_a_loss() -> None:
    over = panel({"AAA": [10.0, 10.0, 30.0]})
    found = trading(fill(over, 0, "AAA", 10, 10.0), over=over)
    assert (found["profit_factor"], found["mean_gain_usd"], found["mean_loss_usd"]) == (None, None, None)


def test_without_a_loss_there_is_no_profit_factor() -> None:
    assert trading(*trip(0, 1, 14.0))["profit_factor"] is None


def test_gains_and_losses_have_their_own_means() -> None:
    found = trading(*trip(0, 1, 14.0), *trip(2, 3, 12.0), *trip(4, 5, 8.0), *trip(6, 7, 10.0))
    assert (found["mean_gain_usd"], found["mean_loss_usd"]) == pytest.approx((30, -20))
    assert (found["mean_gain_fraction"], found["mean_loss_fraction"]) == pytest.approx((0.3, -0.2))


def test_an_account_that_is_replaced_once_a_year_has_a_turnover_of_one() -> None:
    over = panel({"AAA": [10.0] * 262})  # 4 January 2021 to 4 January 2022
    fills = fill(over, 0, "AAA", 100, 10.0), fill(over, 200, "AAA", -100, 10.0)
    found = trading(*fills, over=over)
    assert found["turnover_ratio"] == pytest.approx(1, abs=0.002)
    assert found["is_turnover_yearly"]


def test_a_short_spans_turnover_is_that_of_the_span() -> None:
    over = panel({"AAA": [10.0] * 10})
    found = trading(fill(over, 0, "AAA", 100, 10.0), fill(over, 5, "AAA", -100, 10.0), over=over)
    assert (found["turnover_ratio"], found["is_turnover_yearly"]) == (pytest.approx(1), False)


def test_without_trades_there_is_nothing_to_measure() -> None:
    found = trading()
    assert found.pop("exits") == []
    assert found.pop("turnover_ratio") == 0
    assert {value for name, value in found.items() if name != "is_turnover_yearly"} == {None}


# --- the time under water ---------------------------------------------------------------------------------------------


def under_water(*closes: float) -> Any:
    over: Panel = panel({"AAA": closes})
    made: Result = result(over, [fill(over, 0, "AAA", 100, closes[0])])
    return figures(made)["key_figures"]["strategy"]["longest_under_water_bars"]


def test_the_longest_run_below_an_earlier_peak_counts() -> None:
    assert under_water(10, 9, 11, 10, 10.5, 10.9, 12, 11) == 3


def test_a_fall_that_lasts_to_the_end_counts() -> None:
    assert under_water(10, 12, 11, 10, 9) == 3


def test_a_return_to_the_peak_ends_it() -> None:
    assert under_water(10, 12, 11, 12, 11, 12) == 1


def test_an_account_that_only_rises_was_never_under_water() -> None:
    assert under_water(10, 11, 12, math.nan, 13) == 0
