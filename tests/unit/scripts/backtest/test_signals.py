"""The rule `horizon`, compared with a plain reimplementation of Sean Kelley's strategy (2018)."""

from datetime import date, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from scripts.backtest import options
from scripts.backtest.engine import backtest
from scripts.backtest.model import Bar, Panel
from tests.builders import daily
from trader.forecasting.prophet import SEED
from trader.model import Direction

FIRST = 90  # bars in the first fit of Kelley's strategy
BARS = 12
LAST = date(2022, 12, 16)
CLOSES = daily(
    [100 + 15 * np.sin(bar / 9) + step for bar, step in enumerate(np.random.default_rng(5).normal(0, 1, FIRST + BARS))],
    LAST,
)
DAYS = pd.DatetimeIndex(CLOSES.index).tz_convert("America/New_York").tz_localize(None)


@pytest.fixture(scope="module")
def bars() -> tuple[Bar, ...]:
    """Run `make backtest SIGNAL=horizon` on one symbol and return the bars."""
    frame = CLOSES.to_frame("AAPL")
    panel = Panel(open=frame, high=frame, low=frame, close=frame, has_ohlc=False, source="a test")
    start = str(CLOSES.index[FIRST - 1].date())
    variables = {"SIGNAL": "horizon", "UNIVERSE": "AAPL", "START": start, "SLIPPAGE": "0"}
    return backtest(panel, options.from_env(variables)).bars


@cache
def fit(refit: int) -> Prophet:
    """Return Prophet with its defaults, fitted to all bars up to this one."""
    model = Prophet()
    model.fit(pd.DataFrame({"ds": DAYS[: refit + 1], "y": CLOSES.to_numpy()[: refit + 1]}))
    return model


def kelleys(bar: int) -> tuple[float, float, float]:
    """Return the close and the forecast's lower and upper end at a bar, as Kelley's strategy computes them.

    It fits Prophet with its defaults to all bars up to the last refit, refits at every fifth bar from the ninetieth on,
    and reads the forecast for the eighth day after the bar.
    """
    refit = bar - (bar - (FIRST - 1)) % 5
    future = [*DAYS[refit + 1 : bar + 1], *(DAYS[bar] + timedelta(days=days) for days in range(1, 9))]
    np.random.seed(SEED)
    forecast = fit(refit).predict(pd.DataFrame({"ds": future})).iloc[-1]
    return float(CLOSES.iloc[bar]), float(forecast["yhat_lower"]), float(forecast["yhat_upper"])


def direction(close: float, lower: float, upper: float) -> Direction:
    """Return UP if the upper end is above the close and farther off than the lower end, DOWN if reversed, or FLAT."""
    most, least = upper / close - 1, lower / close - 1
    if most > 0 and abs(most) > abs(least):
        return Direction.UP
    return Direction.DOWN if least < 0 and abs(least) > abs(most) else Direction.FLAT


def test_the_rule_horizon_forecasts_as_kelleys_strategy_does(bars: tuple[Bar, ...]) -> None:
    for number in (0, 4, 5, 9):
        decision = bars[number].decision
        assert decision is not None
        (made,) = decision.forecasts
        assert (made.price_usd, made.lower_usd, made.upper_usd) == pytest.approx(kelleys(FIRST - 1 + number))


def test_the_rule_horizon_decides_as_kelleys_strategy_does(bars: tuple[Bar, ...]) -> None:
    decided = [each.decision.insights[0].direction for each in bars if each.decision]
    assert decided == [direction(*kelleys(FIRST - 1 + number)) for number in range(len(bars))]


def test_the_rule_horizon_decides_up_and_down_on_these_prices(bars: tuple[Bar, ...]) -> None:
    assert {each.decision.insights[0].direction for each in bars if each.decision} == {Direction.UP, Direction.DOWN}


def test_the_rule_horizon_trades_single_shares_without_a_bracket(bars: tuple[Bar, ...]) -> None:
    orders = [order for each in bars if each.decision for order in each.decision.orders]
    assert {order.quantity for order in orders} == {1.0}
    assert not any(order.is_bracket for order in orders)
