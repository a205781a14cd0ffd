"""Scoring: the close with which a forecast is compared."""

from datetime import timedelta

import pandas as pd
import pytest

from scripts.backtest.model import Bar, Options, Panel, Result
from scripts.backtest.scoring import score
from tests.builders import settings
from trader.alpha import loader
from trader.forecasting.prophet import path_ahead
from trader.model import NEW_YORK, Decision, Forecast, Outcome


@pytest.mark.parametrize("interval", ["1d", "15m"])
@pytest.mark.parametrize("last", ["2020-10-29", "2020-03-05"], ids=["November", "March"])
def test_the_eighth_day_across_a_clock_change_is_the_one_that_is_scored(last: str, interval: str) -> None:
    days = pd.bdate_range(last, periods=10, tz=NEW_YORK)
    bars = (
        days if interval == "1d" else days.repeat(26) + pd.to_timedelta([570 + 15 * i for i in range(26)] * 10, "min")
    )
    closes = pd.Series(range(1, len(bars) + 1), index=bars.tz_convert("UTC"), dtype=float).to_frame("AAPL")
    rule = settings(SIGNAL="horizon", BAR_INTERVAL=interval, HISTORY_BARS=90)
    begin = closes.index[0]
    forecast = Forecast(
        symbol="AAPL",
        time=begin.to_pydatetime(),
        price_usd=1.0,
        trend_usd=1.0,
        horizon_time=path_ahead(begin, loader.load(rule).forecast_spec)[-1].to_pydatetime(),
        yhat_usd=1.0,
        lower_usd=1.0,
        upper_usd=1.0,
    )
    bar = Bar(
        time=begin.to_pydatetime(),
        slot=begin.to_pydatetime(),
        status=Outcome.NOTHING_TO_DO,
        detail="",
        equity_usd=1.0,
        cash_usd=1.0,
        positions={},
        decision=Decision(forecasts=(forecast,)),
    )
    panel = Panel(open=closes, high=closes, low=closes, close=closes, has_ohlc=False, source="a test")
    (only,) = score(Result(options=Options(settings=rule), panel=panel, bars=(bar,)))
    assert only.actual_time == pd.Timestamp(bars[0].tz_localize(None) + timedelta(days=8), tz=NEW_YORK)
