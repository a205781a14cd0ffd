"""The forecast stage of a run, against the method of the function from which this project began.

The times are compared as ratios: both methods run alternately in one process.
"""

from collections.abc import Callable, Mapping
from functools import partial

import pandas as pd

from scripts.bench import harness
from scripts.bench.harness import Measurement
from trader.alpha import loader
from trader.deadline import Deadline
from trader.forecasting.prophet import ProphetForecaster
from trader.model import SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices
from trader.progress import Progress
from trader.settings import Settings

BARS = 250
ROUNDS = 5
MIN_RATIO = 2.5


def measure(progress: Progress) -> list[Measurement]:
    """Compare the stage's median time for each signal with the original method's, measured in turns."""
    closes = read_closes()
    ways: dict[str, Callable[[], object]] = {signal: partial(ours, closes, signal) for signal in loader.names()}
    ways["original"] = partial(original, closes)
    median_s = harness.median_s(ways, ROUNDS, "forecast stage", progress)
    return [
        harness.is_at_least(
            median_s["original"] / median_s[signal],
            MIN_RATIO if signal == loader.DEFAULT else None,
            f"forecast stage, {len(closes)} symbols x {BARS} bars, SIGNAL={signal}",
            f"{median_s[signal]:.2f} s against {median_s['original']:.2f} s: "
            f"{median_s['original'] / median_s[signal]:.1f} times faster",
        )
        for signal in loader.names()
    ]


def ours(closes: Mapping[str, Closes], signal: str) -> None:
    """Run the stage as the bot runs it."""
    forecaster = ProphetForecaster(loader.RULES[signal].from_settings(Settings(signal=signal)).forecast_spec)
    forecaster.forecast(closes, Deadline.never())


def original(closes: Mapping[str, Closes]) -> None:
    """Run the original method: Prophet's defaults, the history and 15 steps predicted, one symbol after another."""
    from prophet import Prophet

    for series in closes.values():
        model = Prophet()
        model.fit(pd.DataFrame({"ds": pd.DatetimeIndex(series.index).tz_localize(None), "y": series.to_numpy()}))
        model.predict(model.make_future_dataframe(periods=15))


def read_closes() -> Mapping[str, Closes]:
    """Return the last bars of the shipped closes."""
    source = FilePrices(SAMPLE_PRICES)
    return {symbol: series.closes.iloc[-BARS:] for symbol, series in source.bars().clean.series.items()}


def default_s() -> float:
    """Return the shortest time of the stage with the default rule, once everything is imported and running."""
    closes = read_closes()
    ours(closes, loader.DEFAULT)
    return harness.time_s(partial(ours, closes, loader.DEFAULT), ROUNDS)
