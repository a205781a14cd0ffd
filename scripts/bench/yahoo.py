"""Measure how long the prices of 500 symbols take from a Yahoo that answers after 150 ms.

Yahoo is the stand-in of the tests, in a process of its own; everything on this side is real: yfinance, curl, TLS.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import perf_counter

from rich.console import Console
from rich.table import Table

from trader.prices.yahoo import YahooPrices
from trader.progress import no_progress

SYMBOLS = 500
BARS = 250
LATENCY_S = 0.15
TARGET_S = 10.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """The wall time of one call for all symbols, and of its processor time in this process."""

    symbols: int
    bars: int
    latency_s: float
    wall_s: float
    processor_s: float
    target_s: float

    @property
    def is_reached(self) -> bool:
        """Whether it was fast enough."""
        return self.wall_s < self.target_s


@contextmanager
def stand_in() -> Iterator[dict[str, str]]:
    """Run the stand-in; yields the environment that leads to it."""
    command = [sys.executable, "-m", "scripts.testkit.yahoo"]
    options = ["--symbols", str(SYMBOLS), "--bars", str(BARS), "--latency-s", str(LATENCY_S)]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None, "asked for above"
        assert process.stdout is not None, "asked for above"
        yield json.loads(process.stdout.readline())
        process.stdin.close()  # which ends it


def measure() -> Measurement:
    """Ask for all symbols once, after a first symbol has paid for imports, cookie and crumb.

    The environment of this process leads to the stand-in from then on: use a process of its own.
    """
    symbols = [f"S{number:03}" for number in range(SYMBOLS)]
    with stand_in() as environment:
        os.environ.update(environment)
        now, prices = datetime.now(UTC), YahooPrices("1d")
        prices.closes(symbols[:1], BARS, now, no_progress)
        before, start_s = os.times(), perf_counter()
        closes = prices.closes(symbols, BARS, now, no_progress)
        wall_s, after = perf_counter() - start_s, os.times()
    short = [symbol for symbol in symbols if len(closes.get(symbol, ())) != BARS]
    if short:
        raise RuntimeError(f"the figure would mean nothing: {len(short)} symbols lack bars, such as {short[0]}")
    processor_s = after.user + after.system - before.user - before.system
    return Measurement(SYMBOLS, BARS, LATENCY_S, round(wall_s, 2), round(processor_s, 2), TARGET_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figure; 1 if it misses the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args(argv)
    measured = measure()
    if arguments.json:
        print(json.dumps(asdict(measured) | {"is_reached": measured.is_reached}))
    else:
        table = Table("Prices from Yahoo", "Wall time", "Processor time", "Target")
        work = f"{measured.symbols} symbols, {measured.bars} bars, {measured.latency_s * 1000:.0f} ms latency"
        table.add_row(work, f"{measured.wall_s:.1f} s", f"{measured.processor_s:.1f} s", f"< {measured.target_s:.0f} s")
        Console().print(table)
    return 0 if measured.is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
