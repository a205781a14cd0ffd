"""`make bench`: reading files, the forecast stage against the original, `make run`'s memory, and Yahoo's prices.

The times of the forecast stage are compared as ratios: both methods run alternately in one process.
"""

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import pandas as pd

from scripts import console
from scripts.bench import harness, price_files, yahoo
from scripts.bench.harness import Measurement
from trader.alpha import loader
from trader.deadline import Deadline
from trader.forecasting.prophet import ProphetForecaster
from trader.model import SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices
from trader.progress import Progress
from trader.schedule import sessions
from trader.settings import Settings

BARS = 250
ROUNDS = 5
MIN_RATIO = 2.5
MAX_MB = 300
MAX_LOADING_MS = 100


def main() -> None:
    """Measure everything and print it; the exit code is 1 if a target is missed."""
    with harness.measuring() as progress:
        lines = [sample(), *forecast_stage(progress), memory(), *price_files.measure(), yahoo.measure()]
    harness.finish(lines, as_json=console.wants_json())


def sample() -> Measurement:
    """Time the first read of the shipped prices; call it before anything else reads them.

    The calendar's package is imported before: a run needs it anyway, for the clock of the embedded account.
    """
    sessions.next_open(datetime.now(UTC))
    loading_s = harness.time_s(FilePrices(SAMPLE_PRICES).symbols)
    return harness.is_below(1000 * loading_s, MAX_LOADING_MS, "reading the shipped prices", unit="ms")


def forecast_stage(progress: Progress) -> list[Measurement]:
    """Compare the stage's median time for each signal with the original method's, measured in turns."""
    source = FilePrices(SAMPLE_PRICES)
    closes = {symbol: series.closes.iloc[-BARS:] for symbol, series in source.bars().clean.series.items()}
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


def memory() -> Measurement:
    """Measure the peak memory of `make run`, including its page, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        peak = harness.run("run", folder=folder)
    return harness.is_below(peak / 1e6, MAX_MB, "peak memory of make run", unit="MB")
