"""What engines are timed on, and how: the shipped closes and others made from them, fitted by ENGINE=map or in a loop.

The comparison itself is in engine_times.py.
"""

import logging
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from scripts.bench import harness
from scripts.bench.harness import Measurement
from trader.deadline import Deadline
from trader.forecasting.base import Forecaster, ForecastSpec
from trader.forecasting.map.forecaster import MapForecaster
from trader.model import SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices

BARS = 250
SPEC = ForecastSpec(bar_interval="1d", min_bars=30)
LONGER = (125, 250, 500, 1000)
BY_PROPHET = 20
"""The number of symbols on which the methods with Prophet are measured."""

ROUNDS = 3
"""Rounds for map, of which the shortest counts."""

MAX_GROWTH = 1.2
"""The limit for linear growth: the time for n times the work, divided by n times the time."""


def closes(count: int, bars: int) -> dict[str, Closes]:
    """Return closes of `count` symbols: the shipped ones, then others drawn from their returns."""
    source = FilePrices(SAMPLE_PRICES)
    table = source.bars().clean.tables["close"].iloc[-2 * bars :]
    returns = table.pct_change().iloc[1:]
    chance = np.random.default_rng(20)
    found: dict[str, Closes] = {symbol: table[symbol].iloc[-bars:] for symbol in table.columns[:count]}
    while len(found) < count:
        symbol = table.columns[len(found) % len(table.columns)]
        drawn = chance.choice(returns[symbol].to_numpy(), bars)
        found[f"MADE{len(found)}"] = pd.Series(100 * np.cumprod(1 + drawn), index=table.index[-bars:])
    return found


def ours() -> MapForecaster:
    """Return the bot's own forecaster with the map engine."""
    return MapForecaster(SPEC)


def forecast_s(forecaster: Forecaster, some: Mapping[str, Closes], rounds: int = 1) -> float:
    """Return the seconds for the forecasts of these closes: the shortest of several rounds."""

    def forecast() -> None:
        made = forecaster.forecast(some, Deadline.never())
        assert len(made.forecasts) == len(some), "every symbol has a trend line"

    return harness.time_s(forecast, rounds)


def loop(some: Mapping[str, Closes]) -> None:
    """Run the usual method with the bot's model: Prophet's package, one symbol after another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for series in some.values():
            by_package(series, 0)


def by_package(series: Closes, ahead: int) -> float:
    """Fit the bot's model with Prophet's package, and forecast the close so many business days after the last one."""
    for name in ("prophet", "prophet.plot", "cmdstanpy"):
        logging.getLogger(name).disabled = True
    from prophet import Prophet

    dates = pd.DatetimeIndex(series.index).tz_localize(None)
    model = Prophet(weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0)
    model.fit(pd.DataFrame({"ds": dates, "y": series.to_numpy()}))
    at = dates[-1] + ahead * pd.offsets.BDay()
    return float(model.predict(pd.DataFrame({"ds": [at]}))["yhat"].iloc[0])


def growth() -> list[Measurement]:
    """Measure how map's time grows with the number of symbols and of bars."""

    def line(what: str, factor: float, times: str) -> Measurement:
        measured, target = f"{factor:.2f} ({times})", f"≤ {MAX_GROWTH:g}: linear"
        return Measurement(what=what, measured=measured, target=target, is_reached=factor <= MAX_GROWTH)

    some_s, more_s = (forecast_s(ours(), closes(count, BARS), ROUNDS) for count in (500, 2000))
    by_bars = [forecast_s(ours(), closes(200, bars), ROUNDS) for bars in LONGER]
    shown = ", ".join(f"{1000 * each / 200:.2f}" for each in by_bars)
    longer = "8 times the bars (125 to 1,000), 200 symbols: time relative to linear growth"
    return [
        line(
            "4 times the symbols (500 to 2,000): time relative to linear growth",
            more_s / some_s / 4,
            f"{some_s:.2f} s, {more_s:.2f} s",
        ),
        line(longer, by_bars[-1] / by_bars[0] / (LONGER[-1] / LONGER[0]), f"{shown} ms per symbol"),
    ]
