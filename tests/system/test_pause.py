"""PAUSE_AFTER_STOP_BARS: when a symbol is bought again after its stop, which every broker must see in the same way."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from scripts.backtest.engine import backtest
from scripts.backtest.model import Options, Panel
from scripts.testkit.alpaca import AlpacaFake
from tests.builders import settings
from tests.several_days import BARS, FIRST, RISE, SeveralDays, at, bars_before

BOUGHT, STOPPED = 104.0, 98.0  # the stop is at 100.88

type DaysBought = Callable[[Sequence[float], int], list[int]]
"""Runs once a day at these prices, with a pause of some bars, and returns the days on which the bot bought."""


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


@pytest.fixture(params=["embedded", "alpaca", "backtest"])
def days_bought(request: pytest.FixtureRequest, tmp_path: Path) -> DaysBought:
    """Return how to find the days on which the bot buys, at each broker."""

    def in_backtest(prices: Sequence[float], pause: int) -> list[int]:
        days = bars_before(at(len(prices) - 1), "1d", BARS + len(prices))
        closes = pd.DataFrame({"A": [*RISE, *prices]}, index=pd.DatetimeIndex(days).tz_convert("UTC"))
        panel = Panel(open=closes, high=closes, low=closes, close=closes, has_ohlc=False, source="a test")
        chosen = settings(
            ENGINE="map", UNIVERSE="A", UNIVERSE_LOOKBACK_BARS=1, HISTORY_BARS=BARS, PAUSE_AFTER_STOP_BARS=pause
        )
        result = backtest(panel, Options(settings=chosen, start=FIRST, fills_at_close=True, slippage_fraction=0.0))
        return [day for day, bar in enumerate(result.bars) if bar.decision and bar.decision.orders]

    def in_runs(prices: Sequence[float], pause: int) -> list[int]:
        fake = request.getfixturevalue("fake") if request.param == "alpaca" else None
        strategy = SeveralDays(tmp_path, fake, PAUSE_AFTER_STOP_BARS=pause)
        reports = [strategy.run(at(day), price_usd) for day, price_usd in enumerate(prices)]
        return [day for day, report in enumerate(reports) if report["investments"].get("A", 0) > 0]

    return in_backtest if request.param == "backtest" else in_runs


@pytest.mark.parametrize(("pause", "again"), [(0, 1), (1, 2), (2, 3)])
def test_with_daily_bars_a_stopped_symbol_is_bought_again_so_many_days_later(
    days_bought: DaysBought, pause: int, again: int
) -> None:
    assert days_bought([BOUGHT, STOPPED, STOPPED, STOPPED, STOPPED], pause) == [0, again]
