"""The time to get the prices of 500 symbols from a Yahoo that takes 150 ms to answer.

Yahoo is the testkit's stand-in in a separate process; everything on this side is real: yfinance, curl, TLS.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

from scripts.bench import harness
from scripts.bench.harness import Measurement
from trader.prices.base import Missing
from trader.prices.series import Series
from trader.prices.yahoo import YahooPrices
from trader.progress import Progress, no_progress

SYMBOLS = 500
BARS = 250
LATENCY_S = 0.15
MAX_S = 10.0


def measure(_progress: Progress) -> list[Measurement]:
    """Measure in a separate process, whose environment points to the stand-in."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        time_s = executor.submit(ask).result()
    what = f"Yahoo's prices, {SYMBOLS} symbols x {BARS} bars, {LATENCY_S * 1000:.0f} ms latency"
    return [harness.is_below(time_s, MAX_S, what, unit="s", digits=1)]


def ask() -> float:
    """Return the seconds for all symbols; a first request beforehand covers imports, cookie and crumb.

    Raises RuntimeError if bars are missing.
    """
    symbols = [f"S{number:03}" for number in range(SYMBOLS)]
    with stand_in() as environment:
        os.environ.update(environment)
        now, prices = datetime.now(UTC), YahooPrices("1d")
        prices.read(symbols[:1], BARS, now, no_progress)
        found: dict[str, Series | Missing] = {}
        time_s = harness.time_s(lambda: found.update(prices.read(symbols, BARS, now, no_progress)))
    bars = {symbol: len(series) for symbol, series in found.items() if isinstance(series, Series)}
    if short := [symbol for symbol in symbols if bars.get(symbol) != BARS]:
        raise RuntimeError(f"the time would mean nothing: {len(short)} symbols lack bars, e.g. {short[0]}")
    return time_s


@contextmanager
def stand_in() -> Iterator[dict[str, str]]:
    """Run the stand-in, and yield the environment variables that point to it."""
    command = [sys.executable, "-m", "scripts.testkit.yahoo"]
    options = ["--symbols", str(SYMBOLS), "--bars", str(BARS), "--latency-s", str(LATENCY_S)]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None, "asked for above"
        assert process.stdout is not None, "asked for above"
        yield json.loads(process.stdout.readline())
        process.stdin.close()  # this ends the stand-in
