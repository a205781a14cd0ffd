"""The rule `horizon`, compared with a plain reimplementation of Sean Kelley's strategy (2018)."""

from datetime import date
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
from trader.model import Code, Decision, Direction
from trader.schedule import sessions

FIRST = 90  # bars in the first fit of Kelley's strategy
BARS = 27
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
def kelleys(bar: int) -> tuple[float, float, float]:
    """Return the close and the forecast's lower and upper end at a bar, as Kelley's strategy computes them.

    It fits Prophet with its defaults to all bars so far, and reads the forecast for the eighth day after the bar.
    """
    model = Prophet()
    model.fit(pd.DataFrame({"ds": DAYS[: bar + 1], "y": CLOSES.to_numpy()[: bar + 1]}))
    np.random.seed(SEED)
    future = model.make_future_dataframe(periods=8, include_history=False)
    forecast = model.predict(future).iloc[-1]
    return float(CLOSES.iloc[bar]), float(forecast["yhat_lower"]), float(forecast["yhat_upper"])


def deciding(bars: tuple[Bar, ...]) -> list[tuple[int, Decision]]:
    """Return the decisions of the days on which the rule decides, with their places among the closes."""
    found = [(FIRST - 1 + number, each.decision) for number, each in enumerate(bars)]
    return [(bar, decision) for bar, decision in found if decision and decision.forecasts]


def direction(close: float, lower: float, upper: float) -> Direction:
    """Return UP if the upper end is above the close and farther off than the lower end, DOWN if reversed, or FLAT."""
    most, least = upper / close - 1, lower / close - 1
    if most > 0 and abs(most) > abs(least):
        return Direction.UP
    return Direction.DOWN if least < 0 and abs(least) > abs(most) else Direction.FLAT


def test_the_rule_horizon_forecasts_as_kelleys_strategy_does(bars: tuple[Bar, ...]) -> None:
    for bar, decision in deciding(bars):
        (made,) = decision.forecasts
        assert (made.price_usd, made.lower_usd, made.upper_usd) == pytest.approx(kelleys(bar))


def test_the_rule_horizon_decides_as_kelleys_strategy_does(bars: tuple[Bar, ...]) -> None:
    decided = {bar: decision.insights[0].direction for bar, decision in deciding(bars)}
    assert decided == {bar: direction(*kelleys(bar)) for bar in decided}


def test_the_rule_horizon_decides_on_every_fifth_session(bars: tuple[Bar, ...]) -> None:
    days = [DAYS[bar].date() for bar in range(FIRST - 1, FIRST + BARS) if sessions.session(DAYS[bar].date())]
    assert [DAYS[bar].date() for bar, _ in deciding(bars)] == [day for day in days if sessions.number(day) % 5 == 0]


def test_on_other_days_the_rule_horizon_says_when_it_decides_next(bars: tuple[Bar, ...]) -> None:
    before, last = (bar - (FIRST - 1) for bar, _ in deciding(bars)[-2:])
    waits = bars[before + 1 : last]
    assert {each.status for each in waits} == {Code.BETWEEN_DECISIONS}
    said = {denial.detail for each in waits if each.decision for denial in each.decision.denials}
    assert said == {f"its rule decides on one trading day in 5; the next is {DAYS[last + FIRST - 1].date()}"}


def test_the_rule_horizon_trades_single_shares_without_a_bracket(bars: tuple[Bar, ...]) -> None:
    orders = [order for each in bars if each.decision for order in each.decision.orders]
    assert {order.quantity for order in orders} == {1.0}
    assert not any(order.is_bracket for order in orders)
