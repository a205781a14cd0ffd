"""`make bench-engine`: how long trend lines take with Prophet in a loop, on a pool of threads, and with the map engine.

All in one run, on closes made from the shipped ones. Prophet's ways are measured on fewer symbols, for their time grows
with the number of them; map's on all.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from rich.table import Table

from scripts import console
from scripts.backtest import prices
from scripts.backtest.workers import cores
from scripts.bench import backtests as backtest_bench
from scripts.bench.forecast_stage import Measurement
from trader.deadline import Deadline
from trader.forecasting.base import Forecaster
from trader.forecasting.map.forecaster import MapForecaster
from trader.forecasting.prophet import ProphetForecaster
from trader.model import Closes, Engine
from trader.prices.file import FilePrices
from trader.progress import Progress, no_progress
from trader.settings import SAMPLE_PRICES

BARS = 250
COUNTS = (20, 100, 500)
LONGER = (125, 250, 500, 1000)
BY_PROPHET = 20
"""So many symbols Prophet's ways are measured on."""

ROUNDS = 3
"""The least time of so many counts, for map: the others take long enough for chance to even out."""

MIN_RATIO = 100.0
MAX_MB = 300
MAX_GROWTH = 1.2
"""Time for n times as much over n times the time: more than this is more than linear."""

MIN_BACKTEST_RATIO = 50.0
BACKTEST_BARS = 1000
USUAL_BARS = 20
PROPHET_BARS = 20, 80
"""Bars of two backtests with ENGINE=prophet: what the second takes longer is the time of those that it has more."""


def main() -> None:
    """Measure everything and print it; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="make bench-engine", description=__doc__)
    parser.add_argument("--json", action="store_true", default=console.flag("JSON"), help="print JSON instead")
    parser.add_argument("--peak", type=int, metavar="SYMBOLS", help="only fit so many, and print the memory in bytes")
    arguments = parser.parse_args()
    if arguments.peak:
        ours().forecast(closes(arguments.peak, BARS), Deadline.never())
        sys.stdout.write(f"{peak_bytes()}\n")
        return
    with console.plain_errors("interrupted; nothing was measured"):
        with console.progress() as progress:
            each_s, lines = speed(progress)
            lines += [*growth(), memory()]
        lines += backtests(each_s)
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(line) for line in lines]) + "\n")
    else:
        table = Table("What", "Measured", "Target", title=f"{cores()} cores", title_justify="left")
        for line in lines:
            missed = "" if line.is_reached else "  MISSED"
            table.add_row(line.what, line.measured, f"{line.target}{missed}", style="red" if missed else "")
        console.OUT.print(table)
    sys.exit(console.USABLE if all(line.is_reached for line in lines) else console.FAILED)


def closes(count: int, bars: int) -> dict[str, Closes]:
    """Closes of so many symbols: those that ship with the project, and others drawn from their returns."""
    source = FilePrices(SAMPLE_PRICES)
    table = pd.DataFrame(source.closes(sorted(source.symbols()), 2 * bars, source.last_bar(), no_progress))
    returns = table.pct_change().iloc[1:]
    chance = np.random.default_rng(20)
    found: dict[str, Closes] = {symbol: table[symbol].iloc[-bars:] for symbol in table.columns[:count]}
    while len(found) < count:
        symbol = table.columns[len(found) % len(table.columns)]
        drawn = chance.choice(returns[symbol].to_numpy(), bars)
        found[f"MADE{len(found)}"] = pd.Series(100 * np.cumprod(1 + drawn), index=table.index[-bars:])
    return found


def ours() -> MapForecaster:
    """The bot's own, by the map engine."""
    return MapForecaster(signal="trend", bar_interval="1d", horizon_bars=1)


def seconds(forecaster: Forecaster, some: Mapping[str, Closes], rounds: int = 1) -> float:
    """The least time of some rounds for the forecasts of these closes."""
    times = []
    for _ in range(rounds):
        begun = perf_counter()
        made = forecaster.forecast(some, Deadline.never())
        times.append(perf_counter() - begun)
        assert len(made.forecasts) == len(some), "every symbol has a trend line"
    return min(times)


def loop(some: Mapping[str, Closes]) -> float:
    """The usual way with the bot's model: Prophet's package, a symbol after the other."""
    for name in ("prophet", "prophet.plot", "cmdstanpy"):
        logging.getLogger(name).disabled = True
    from prophet import Prophet

    begun = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for series in some.values():
            dates = pd.DatetimeIndex(series.index).tz_localize(None)
            model = Prophet(weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0)
            model.fit(pd.DataFrame({"ds": dates, "y": series.to_numpy()}))
            model.predict(pd.DataFrame({"ds": dates[-1:]}))
    return perf_counter() - begun


def speed(progress: Progress) -> tuple[float, list[Measurement]]:
    """Seconds a symbol of the loop, and the ways beside each other, for each number of symbols; each begins warm."""
    some = closes(BY_PROPHET, BARS)
    few = dict(list(some.items())[:2])
    alone = ProphetForecaster(signal="trend", bar_interval="1d", horizon_bars=1, workers=1)
    together = ProphetForecaster(signal="trend", bar_interval="1d", horizon_bars=1)
    ways: dict[str, Callable[[], float]] = {
        "Prophet in a loop": lambda: loop(some),
        "the bot's ENGINE=prophet, one thread": lambda: seconds(alone, some),
        "the bot's ENGINE=prophet": lambda: seconds(together, some),
    }
    loop(few), seconds(together, few), seconds(ours(), few)
    each_s = {}
    for done, (name, measure) in enumerate(ways.items(), 1):
        each_s[name] = min(measure() for _ in range(2)) / len(some)
        progress("Prophet", done, len(ways))
    loop_s = each_s["Prophet in a loop"]
    lines = [
        Measurement(
            what=f"{name}, a symbol of {BARS} bars",
            measured=f"{1000 * time_s:.1f} ms" + (f", {loop_s / time_s:.1f} times as fast" if time_s != loop_s else ""),
            target="",
            is_reached=True,
        )
        for name, time_s in each_s.items()
    ]
    for count in COUNTS:
        map_s = seconds(ours(), closes(count, BARS), ROUNDS) / count
        is_last = count == COUNTS[-1]
        lines.append(
            Measurement(
                what=f"ENGINE=map, a symbol of {count} x {BARS} bars",
                measured=f"{1000 * map_s:.2f} ms, {loop_s / map_s:.0f} times as fast as the loop",
                target=f"≥ {MIN_RATIO:g} times" if is_last else "",
                is_reached=not is_last or loop_s / map_s >= MIN_RATIO,
            )
        )
    return loop_s, lines


def growth() -> list[Measurement]:
    """How map's time grows with the symbols and with the bars."""
    by_count = {count: seconds(ours(), closes(count, BARS), ROUNDS) for count in (500, 2000)}
    by_bars = {bars: seconds(ours(), closes(200, bars), ROUNDS) for bars in LONGER}
    shown = ", ".join(f"{1000 * each / 200:.2f}" for each in by_bars.values())
    of_symbols = by_count[2000] / by_count[500] / 4
    of_bars = by_bars[LONGER[-1]] / by_bars[LONGER[0]] / (LONGER[-1] / LONGER[0])
    return [
        Measurement(
            what="4 times the symbols, 500 to 2,000: the time over 4 times the time",
            measured=f"{of_symbols:.2f} ({by_count[500]:.2f} s, {by_count[2000]:.2f} s)",
            target=f"≤ {MAX_GROWTH:g}: linear",
            is_reached=of_symbols <= MAX_GROWTH,
        ),
        Measurement(
            what="8 times the bars, 125 to 1,000, 200 symbols: the time over 8 times the time",
            measured=f"{of_bars:.2f} ({shown} ms a symbol)",
            target=f"≤ {MAX_GROWTH:g}: linear",
            is_reached=of_bars <= MAX_GROWTH,
        ),
    ]


def memory() -> Measurement:
    """The peak of a process of its own that does nothing else."""
    command = [sys.executable, "-m", "scripts.bench.engines", "--peak", str(COUNTS[-1])]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = int(ended.stdout)
    return Measurement(
        what=f"memory of a process with {COUNTS[-1]} symbols x {BARS} bars",
        measured=f"{peak / 1e6:.0f} MB",
        target=f"< {MAX_MB} MB",
        is_reached=peak < MAX_MB * 1e6,
    )


def peak_bytes() -> int:
    """The most memory that this process has had; getrusage's figure may be that of the process that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def backtests(loop_s: float) -> list[Measurement]:
    """`make backtest` over 1,000 bars with map, against Prophet's ways over fewer of the same bars."""
    with console.progress() as progress:
        panel, chosen = backtest_bench.setting(USUAL_BARS, progress)
        times = prices.span(panel, chosen)
        begun = perf_counter()
        backtest_bench.usual(panel, times, chosen.settings.history_bars, progress)
        usual_s = (perf_counter() - begun) / len(times)
        few, more = PROPHET_BARS
        with tempfile.TemporaryDirectory() as home:
            # The first one makes Matplotlib's caches in the new home, and does not count.
            commands = (Engine.MAP, few), (Engine.PROPHET, few), (Engine.PROPHET, more), (Engine.MAP, BACKTEST_BARS)
            took_s = []
            for engine, bars in commands:
                took_s.append(whole_command(engine, str(panel.close.index[-bars].date()), home))
                progress("make backtest", len(took_s), len(commands))
    _, few_s, more_s, map_s = took_s
    prophet_s = few_s + (BACKTEST_BARS - few) * (more_s - few_s) / (more - few)
    fitted_s, in_next_s = loop_s * BY_PROPHET * BACKTEST_BARS, usual_s * BACKTEST_BARS
    return [
        Measurement(
            what="make backtest, 20 symbols x 1,000 bars, refitted at every bar, ENGINE=map",
            measured=f"{map_s:.1f} s, {fitted_s / map_s:.0f} times as fast as the loop's fits alone ({fitted_s:.0f} s)",
            target=f"≥ {MIN_BACKTEST_RATIO:g} times",
            is_reached=fitted_s / map_s >= MIN_BACKTEST_RATIO,
        ),
        Measurement(
            what=f"the same with Prophet() in next() of a Backtrader strategy, by its time for {USUAL_BARS} bars",
            measured=f"{in_next_s:.0f} s, {in_next_s / map_s:.0f} times as long",
            target="",
            is_reached=True,
        ),
        Measurement(
            what=f"the same with ENGINE=prophet, all cores, by its time for {few} and {more} bars",
            measured=f"{prophet_s:.0f} s, {prophet_s / map_s:.0f} times as long",
            target="",
            is_reached=True,
        ),
    ]


def whole_command(engine: str, start: str, home: str) -> float:
    """Seconds from the command to its end, pictures and all."""
    symbols = ",".join(sorted(FilePrices(SAMPLE_PRICES).symbols()))
    variables = {"UNIVERSE": symbols, "START": start, "ENGINE": engine, "OUT": home}
    begun = perf_counter()
    subprocess.run(
        [sys.executable, "-m", "scripts.backtest", "--json"],
        env={"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": os.environ["PYTHONPATH"], **variables},
        check=True,
        capture_output=True,
    )
    return perf_counter() - begun


if __name__ == "__main__":
    main()
