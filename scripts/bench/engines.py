"""`make bench-engine`: the time for trend lines with Prophet in a loop, on a pool of threads, and with the map engine.

All methods are measured in one run, on the shipped closes and on others made from them. The methods with Prophet are
measured on fewer symbols, because their time is proportional to the number of symbols; map is measured on all.
"""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from scripts import console
from scripts.backtest import prices
from scripts.bench import backtests as backtest_bench
from scripts.bench import harness
from scripts.bench.harness import Measurement
from trader.deadline import Deadline
from trader.forecasting.base import Forecaster, ForecastSpec
from trader.forecasting.map.forecaster import MapForecaster
from trader.forecasting.prophet import ProphetForecaster
from trader.model import SAMPLE_PRICES, Closes, Engine
from trader.prices.file import FilePrices
from trader.progress import Progress

BARS = 250
SPEC = ForecastSpec(bar_interval="1d", min_bars=30)
COUNTS = (20, 100, 500)
LONGER = (125, 250, 500, 1000)
BY_PROPHET = 20
"""The number of symbols on which the methods with Prophet are measured."""

ROUNDS = 3
"""Rounds for map, of which the shortest counts; the slower methods have fewer."""

MIN_RATIO = 100.0
MAX_MB = 300
MAX_GROWTH = 1.2
"""The limit for linear growth: the time for n times the work, divided by n times the time."""

MIN_BACKTEST_RATIO = 50.0
BACKTEST_BARS = 1000
USUAL_BARS = 20
PROPHET_BARS = 20, 80
"""Bars of two backtests with ENGINE=prophet; the difference in time is the time for the additional bars."""


def main() -> None:
    """Measure everything and print it; the exit code is 1 if a target is missed."""
    if symbols := os.environ.get("FIT"):  # for memory(), which runs this module in a process of its own
        ours().forecast(closes(int(symbols), BARS), Deadline.never())
        return
    with harness.measuring() as progress:
        each_s, lines = speed(progress)
        lines += [*growth(), memory(), *backtests(each_s, progress)]
    harness.finish(lines, as_json=console.wants_json())


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
    for name in ("prophet", "prophet.plot", "cmdstanpy"):
        logging.getLogger(name).disabled = True
    from prophet import Prophet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for series in some.values():
            dates = pd.DatetimeIndex(series.index).tz_localize(None)
            model = Prophet(weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0)
            model.fit(pd.DataFrame({"ds": dates, "y": series.to_numpy()}))
            model.predict(pd.DataFrame({"ds": dates[-1:]}))


def speed(progress: Progress) -> tuple[float, list[Measurement]]:
    """Return the loop's seconds per symbol, and the comparison of all methods, each of them warmed up."""
    each_s = prophet_s(progress)
    loop_s = each_s["Prophet in a loop"]
    lines = [
        Measurement(
            what=f"{name}, per symbol of {BARS} bars",
            measured=f"{1000 * time_s:.1f} ms" + (f", {loop_s / time_s:.1f} times as fast" if time_s != loop_s else ""),
        )
        for name, time_s in each_s.items()
    ]
    for count in COUNTS:
        map_s = forecast_s(ours(), closes(count, BARS), ROUNDS) / count
        lines.append(
            harness.is_at_least(
                loop_s / map_s,
                MIN_RATIO if count == COUNTS[-1] else None,
                f"ENGINE=map, {count} symbols x {BARS} bars, per symbol",
                f"{1000 * map_s:.2f} ms, {loop_s / map_s:.0f} times as fast as the loop",
            )
        )
    return loop_s, lines


def prophet_s(progress: Progress) -> Mapping[str, float]:
    """Measure the seconds per symbol of the methods with Prophet: the shorter of two rounds."""
    some = closes(BY_PROPHET, BARS)
    few = dict(list(some.items())[:2])
    alone = ProphetForecaster(SPEC, workers=1)
    together = ProphetForecaster(SPEC)
    ways: dict[str, Callable[[], float]] = {
        "Prophet in a loop": lambda: harness.time_s(lambda: loop(some), 2),
        "the bot's ENGINE=prophet, one thread": lambda: forecast_s(alone, some, 2),
        "the bot's ENGINE=prophet": lambda: forecast_s(together, some, 2),
    }
    loop(few)
    for forecaster in (together, ours()):
        forecaster.forecast(few, Deadline.never())
    found = {}
    for done, (name, measure) in enumerate(ways.items(), 1):
        found[name] = measure() / len(some)
        progress("Prophet", done, len(ways))
    return found


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


def memory() -> Measurement:
    """Measure the peak memory of a process that only fits the largest number of symbols."""
    with tempfile.TemporaryDirectory() as folder:
        peak = harness.run("bench-engine", folder=folder, FIT=str(COUNTS[-1]))
    return harness.is_below(
        peak / 1e6, MAX_MB, f"memory of a process with {COUNTS[-1]} symbols x {BARS} bars", unit="MB"
    )


def backtests(loop_s: float, progress: Progress) -> list[Measurement]:
    """Compare `make backtest` with map over 1,000 bars to the Prophet methods, extrapolated from less work."""
    panel, chosen = backtest_bench.setting(USUAL_BARS, progress)
    times = prices.span(panel, chosen)
    usual = partial(backtest_bench.usual, panel, times, chosen.settings.history_bars, progress)
    in_next_s = harness.time_s(usual) / len(times) * BACKTEST_BARS
    few, more = PROPHET_BARS
    # The first run creates Matplotlib's caches in the new home, and does not count.
    commands = (Engine.MAP, few), (Engine.PROPHET, few), (Engine.PROPHET, more), (Engine.MAP, BACKTEST_BARS)
    took_s = []
    with tempfile.TemporaryDirectory() as home:
        for engine, bars in commands:
            start = str(panel.close.index[-bars].date())
            took_s.append(harness.time_s(lambda: whole_command(engine, start, home)))  # noqa: B023 it is called at once
            progress("make backtest", len(took_s), len(commands))
    _, few_s, more_s, map_s = took_s
    prophet_s = few_s + (BACKTEST_BARS - few) * (more_s - few_s) / (more - few)
    fitted_s = loop_s * BY_PROPHET * BACKTEST_BARS
    return [
        harness.is_at_least(
            fitted_s / map_s,
            MIN_BACKTEST_RATIO,
            "make backtest, 20 symbols x 1,000 bars, refitted at every bar, ENGINE=map",
            f"{map_s:.1f} s, {fitted_s / map_s:.0f} times as fast as the loop's fits alone ({fitted_s:.0f} s)",
        ),
        Measurement(
            what=f"the same with Prophet() in next() of a Backtrader strategy, extrapolated from {USUAL_BARS} bars",
            measured=f"{in_next_s:.0f} s, {in_next_s / map_s:.0f} times as long",
        ),
        Measurement(
            what=f"the same with ENGINE=prophet, all cores, extrapolated from {few} and {more} bars",
            measured=f"{prophet_s:.0f} s, {prophet_s / map_s:.0f} times as long",
        ),
    ]


def whole_command(engine: str, start: str, home: str) -> None:
    """Run a whole backtest command, including its charts."""
    symbols = ",".join(sorted(FilePrices(SAMPLE_PRICES).symbols()))
    harness.run("backtest", folder=home, JSON="1", OUT=home, UNIVERSE=symbols, START=start, ENGINE=engine)
