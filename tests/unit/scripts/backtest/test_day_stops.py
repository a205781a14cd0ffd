"""The stop of a part of a share lasts for a day: in a backtest within the day, it has the gap that it has in a run."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from scripts.backtest import prices
from scripts.backtest.compare import compare, is_same
from scripts.backtest.engine import backtest
from scripts.backtest.options import from_env
from tests.unit.scripts.backtest.slots import DAY, NEXT_DAY, bar_at, fills, lines, market, options, wandering, write

BOUGHT = ("10:00", "A", "buy", 100.0)
STOP_USD = 97.0
"""3 % below what was paid."""

CALM = [100.0]


def sold(
    next_day: list[float], within: Mapping[str, float], *, at: str, on: date = NEXT_DAY, shares: str
) -> list[float]:
    """Buy at 100 on the first day, return the prices of the sales; the bar that ends `at` has the prices `within`."""
    panel = market((DAY, NEXT_DAY), A=[CALM, next_day])
    for column, price_usd in within.items():
        frame = {"open": panel.open, "low": panel.low}[column]
        frame.loc[bar_at(at, on), "A"] = price_usd
    bought = lines(panel, A={"10:00": 1.1})
    first, *others = fills(backtest(panel, options(panel, SHARES=shares, MAX_POSITION_FRACTION=0.09555), table=bought))
    assert first == BOUGHT
    assert {kind for _, _, kind, _ in others} <= {"stop-loss"}
    return [price_usd for *_, price_usd in others]


def test_a_dip_before_the_first_run_of_a_day_sells_nothing() -> None:
    assert sold([99.0], {"open": 99.0, "low": 95.0}, at="09:45", shares="fractional") == []


def test_what_is_below_its_stop_at_the_first_run_is_sold_at_that_runs_price() -> None:
    assert sold([95.0, 99.0], {"open": 99.0, "low": 94.0}, at="09:45", shares="fractional") == [95.0]


def test_the_first_run_of_a_day_renews_the_stop() -> None:
    assert sold([99.0], {"low": 95.0}, at="10:00", shares="fractional") == [STOP_USD]


def test_on_the_day_of_its_buy_the_stop_works() -> None:
    assert sold([100.0], {"low": 95.0}, at="12:00", on=DAY, shares="fractional") == [STOP_USD]


def test_whole_shares_keep_their_stop_over_the_night() -> None:
    assert sold([99.0], {"open": 99.0, "low": 95.0}, at="09:45", shares="whole") == [STOP_USD]


@pytest.mark.slow
def test_the_backtest_within_the_day_is_that_of_the_runs(tmp_path: Path) -> None:
    history, within = write(wandering(2, NEXT_DAY), tmp_path)
    files = {"PRICE_FILE": str(history), "DECIDE_EVERY": "15m", "INTRADAY_FILE": str(within)}
    small = {"HISTORY_BARS": "30", "UNIVERSE_LOOKBACK_BARS": "5", "ENGINE": "map", "UNIVERSE": "AAPL,MSFT,XOM"}
    near = {"SHARES": "fractional", "STOP_LOSS_FRACTION": "0.01", "SIGNAL_THRESHOLD_FRACTION": "0.001"}
    chosen = from_env({**files, **small, **near})
    days = compare(prices.load(chosen), chosen)
    assert is_same(days)
    assert sum(each.orders for each in days) > 2
