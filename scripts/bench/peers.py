"""Other programs on the same series: Prophet's package, statsforecast, vectorbt and backtesting.py, in turns with ours.

They are installed apart, by `scripts/setup.sh peers`, as nothing else needs them. What they leave out is on the page
about performance.
"""

import json
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from scripts import ROOT
from scripts.backtest.workers import pool
from scripts.bench import engines, harness
from scripts.bench.harness import Measurement
from scripts.console import CommandError
from trader.deadline import Deadline
from trader.forecasting.base import Forecaster, ForecastSpec
from trader.forecasting.map.forecaster import MapForecaster
from trader.forecasting.prophet import ProphetForecaster
from trader.model import SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices
from trader.prices.jumps import Floats
from trader.progress import Progress

PYTHON = ROOT / ".venv" / "peers" / "bin" / "python"
PROGRAMS = ROOT / "scripts" / "bench" / "peer_programs.py"
RULE = ROOT / "rules" / "moving_averages.py"
FAST, SLOW = 50, 200
"""The closes in the averages of that rule, by default."""

BARS, WINDOWS, APART = 250, 3, 60
"""Closes of a series, windows of each symbol, and bars from one window to the next."""

SYMBOLS, SIGNAL_BARS = 100, 1_000
ROUNDS = 2
TREND = ForecastSpec(bar_interval="1d", min_bars=30)
NEXT = partial(engines.by_package, ahead=1)
AHEAD = ForecastSpec(bar_interval="1d", min_bars=30, ahead_bars=1)
STATSFORECAST = ("AutoETS", "AutoTheta", "AutoCES", "AutoARIMA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a way took, and what it forecast or how many orders it had."""

    took_s: float
    forecasts: Sequence[float] = ()
    orders: int = 0


type Ways = dict[str, Callable[[], Answer]]


def measure(progress: Progress) -> list[Measurement]:
    """Compare forecasts of the next close, and backtests of signals. Raises CommandError if nothing is installed."""
    if not PYTHON.is_file():
        raise CommandError("the other programs are not installed: scripts/setup.sh peers installs them in .venv/peers")
    return [*forecasts(progress), *backtests(progress)]


# --- forecasts --------------------------------------------------------------------------------------------------------


def forecasts(progress: Progress) -> list[Measurement]:
    """Compare time and error of the next close's forecast, for windows of the shipped closes."""
    series, actual = windows()
    values = np.array([closes.to_numpy(float) for closes in series.values()])
    with ExitStack() as stack:
        ask = stack.enter_context(program(series=values))
        executor = stack.enter_context(pool())
        ways: Ways = {
            "Prophet's package, one after another": partial(loop, series),
            "Prophet's package, a pool of processes": partial(in_pool, series, executor),
            "this project, ENGINE=prophet": partial(ours, ProphetForecaster, series),
            "this project, ENGINE=map": partial(ours, MapForecaster, series),
            **{f"statsforecast, {model}": partial(ask, model) for model in STATSFORECAST},
        }
        found = harness.in_turns(ways, ROUNDS, "forecasts", progress)
    last = error_of(values[:, -1], actual)
    return [
        *(line_of(name, answers, values, actual) for name, answers in found.items()),
        Measurement(
            what=f"the last close as the forecast, {len(series)} windows of {BARS} closes",
            measured=f"error {last:.2%}",
            figures={"error_fraction": round(last, 6)},
        ),
    ]


def line_of(name: str, answers: Sequence[Answer], values: Floats, actual: Floats) -> Measurement:
    """Return the time and the error of a way."""
    each_ms = 1000 * statistics.median(answer.took_s for answer in answers) / len(values)
    error = error_of(np.array(answers[0].forecasts), actual)
    return Measurement(
        what=f"{name}, the next close of {len(values)} windows of {BARS}",
        measured=f"{each_ms:.3g} ms each, error {error:.2%}",
        figures={"ms_each": round(each_ms, 5), "error_fraction": round(error, 6)},
    )


def error_of(forecast_usd: Floats, actual_usd: Floats) -> float:
    """Return the mean absolute error, as a fraction of the actual close."""
    return float(np.abs(forecast_usd / actual_usd - 1).mean())


def windows() -> tuple[dict[str, Closes], Floats]:
    """Return windows of the shipped closes, each with a name, and the close after each."""
    found: dict[str, Closes] = {}
    actual = []
    for symbol, series in FilePrices(SAMPLE_PRICES).bars().clean.series.items():
        for number in range(WINDOWS):
            end = len(series.closes) - 1 - number * APART
            found[f"{symbol}-{number}"] = series.closes.iloc[end - BARS : end]
            actual.append(float(series.closes.iloc[end]))
    return found, np.array(actual)


def ours(engine: Callable[[ForecastSpec], Forecaster], series: Mapping[str, Closes]) -> Answer:
    """Time the trend lines, as a run or a backtest asks for them; then forecast the next close, for the error."""
    took_s = engines.forecast_s(engine(TREND), series)
    made = engine(AHEAD).forecast(series, Deadline.never()).forecasts
    return Answer(took_s=took_s, forecasts=[float(each.yhat_usd or np.nan) for each in made])


def loop(series: Mapping[str, Closes]) -> Answer:
    """Run Prophet's package as its documentation does, without the interval."""
    found: list[float] = []
    took_s = harness.time_s(lambda: found.extend(map(NEXT, series.values())))
    return Answer(took_s=took_s, forecasts=found)


def in_pool(series: Mapping[str, Closes], executor: Executor) -> Answer:
    """Run Prophet's package in as many processes as there are cores."""
    found: list[float] = []
    took_s = harness.time_s(lambda: found.extend(executor.map(NEXT, series.values())))
    return Answer(took_s=took_s, forecasts=found)


# --- signals ----------------------------------------------------------------------------------------------------------


def backtests(progress: Progress) -> list[Measurement]:
    """Compare backtests of one rule: here it decides at each bar, there its signals are computed before."""
    table = pd.DataFrame(engines.closes(SYMBOLS, SIGNAL_BARS))
    entries, exits = signals(table)
    with ExitStack() as stack:
        days = pd.DatetimeIndex(table.index).tz_localize(None).to_numpy()
        ask = stack.enter_context(program(close=table.to_numpy(float), entries=entries, exits=exits, days=days))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        ways: Ways = {
            "this project: the rule, orders, stops and checks, the whole command": prepare(folder, table),
            "vectorbt: the signals, one account": partial(ask, "vectorbt"),
            "backtesting.py: the signals, an account for each symbol": partial(ask, "backtesting.py"),
        }
        found = harness.in_turns(ways, ROUNDS, "signals", progress)
    return [
        Measurement(
            what=f"{name}, {SYMBOLS} symbols x {SIGNAL_BARS:,} bars",
            measured=f"{statistics.median(each.took_s for each in answers):.3g} s, {answers[0].orders:,} orders",
            figures={
                "wall_s": round(statistics.median(each.took_s for each in answers), 4),
                "orders": answers[0].orders,
            },
        )
        for name, answers in found.items()
    ]


def signals(table: pd.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return on which bars each symbol is bought and sold by rules/moving_averages.py."""
    gap = table.rolling(FAST).mean() - table.rolling(SLOW).mean()
    is_up = (gap > 0).to_numpy()
    before = np.vstack([np.zeros((1, is_up.shape[1]), bool), is_up[:-1]])
    return is_up & ~before, ~is_up & before


def prepare(folder: Path, table: pd.DataFrame) -> Callable[[], Answer]:
    """Return a way that runs `make backtest` with the rule, over the bars that have enough others before them."""
    path = folder / "prices.csv"
    table.index = pd.DatetimeIndex(table.index).tz_localize(None).normalize()
    table.to_csv(path, index_label="timestamp", date_format="%Y-%m-%d")
    settings = {
        "SIGNAL": f"rules/{RULE.name}",
        "PRICE_FILE": str(path),
        "UNIVERSE": ",".join(table.columns),
        "UNIVERSE_SIZE": str(len(table.columns)),
        "HISTORY_BARS": str(SLOW),
        "START": f"{table.index[SLOW]:%Y-%m-%d}",
        "JSON": "1",
        "HOME": str(folder),
    }

    def run() -> Answer:
        with TemporaryDirectory(dir=folder) as empty:
            rules = Path(empty) / "rules"
            rules.mkdir()
            shutil.copy(RULE, rules)
            used = harness.use("backtest", empty, settings)
        return Answer(took_s=used.wall_s, orders=json.loads(used.printed)["costs"]["fills"])

    return run


# --- the other programs -----------------------------------------------------------------------------------------------


@contextmanager
def program(**arrays: np.ndarray[Any, Any]) -> Iterator[Callable[[str], Answer]]:
    """Start the process of the other programs with some arrays; yield a function that asks it for a way."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, allow_pickle=False, **arrays)
        command = [PYTHON, "-P", PROGRAMS, path]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, cwd=folder, **pipes) as process:  # type: ignore[call-overload]

            def ask(way: str) -> Answer:
                process.stdin.write(f"{way}\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    raise CommandError(f"{way} failed: scripts/setup.sh peers installs the versions that were tried")
                return Answer(**json.loads(answer))

            yield ask
            process.stdin.close()  # this ends it
