"""How the cost of a backtest grows with its bars and with its symbols: whole commands, and the line through them.

The cost is the processors' time, which the work of others changes least.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from scripts.bench import harness
from scripts.bench.growth_chart import AT, PER
from scripts.bench.harness import Measurement, Usage
from scripts.bench.index_backtests import write_index
from scripts.bench.whole_commands import Command
from trader.progress import Progress
from trader.settings import Settings

ROUNDS = 2
"""Rounds, all points in turns; the lower cost of a point counts."""

BARS, OF_SYMBOLS = (250, 750, 1_250, 1_750, 2_250), 100
SYMBOLS, OF_BARS = (20, 100, 200, 350, 500), 250
MAX_RESIDUAL_FRACTION = 0.05
"""How far a point may lie from the line, as a fraction of the highest cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The straight line through some points by least squares."""

    start: float
    slope: float
    residual_fraction: float  # the largest distance of a point from the line, by the highest point

    @classmethod
    def through(cls, points: Mapping[int, float]) -> "Line":
        """Return the line through points."""
        at, values = np.array(list(points), float), np.array(list(points.values()), float)
        slope, start = np.polyfit(at, values, 1)
        residual = np.abs(values - (start + slope * at)).max() / values.max()
        return cls(start=float(start), slope=float(slope), residual_fraction=float(residual))


def measure(progress: Progress) -> list[Measurement]:
    """Measure both, with the best 20 symbols refitted on every bar, and with all symbols refitted."""
    by_bars = {bars: (OF_SYMBOLS, bars, Settings.universe_size) for bars in BARS}
    by_symbols = {symbols: (symbols, OF_BARS, symbols) for symbols in SYMBOLS}
    return [
        line_of(f"cost by bars, best 20 of {OF_SYMBOLS} symbols", "bar", cost(by_bars, progress)),
        line_of(f"cost by symbols, all refitted, {OF_BARS} bars", "symbol", cost(by_symbols, progress)),
    ]


def cost(sizes: Mapping[int, tuple[int, int, int]], progress: Progress) -> dict[int, float]:
    """Return the CPU seconds of a backtest of each size: symbols, bars, and symbols that are fitted."""
    with TemporaryDirectory() as folder:
        ways: dict[int, Callable[[], Usage]] = {at: make(Path(folder), *size).use for at, size in sizes.items()}
        found = harness.in_turns(ways, ROUNDS, "growth", progress, is_warm=False)
    return {at: min(each.cpu_s for each in uses) for at, uses in found.items()}


def make(folder: Path, symbols: int, bars: int, chosen: int) -> Command:
    """Return the backtest of an index over so many bars, each with a whole history before it."""
    settings, _ = write_index(folder, symbols, Settings.history_bars + bars, chosen)
    return Command("backtest", settings, folder)


def line_of(what: str, unit: str, points: Mapping[int, float]) -> Measurement:
    """Return the measurement of points that should lie on a line."""
    line = Line.through(points)
    ends: Sequence[int] = (min(points), max(points))
    return Measurement(
        what=f"{what}, {ends[0]:,} to {ends[1]:,}",
        measured=(
            f"CPU {line.start:.1f} s and {1000 * line.slope:.1f} ms a {unit}; "
            f"no point further than {line.residual_fraction:.0%} from the line"
        ),
        target=f"linear: ≤ {MAX_RESIDUAL_FRACTION:.0%}",
        is_reached=line.residual_fraction <= MAX_RESIDUAL_FRACTION,
        figures={
            **{f"{AT}{at}": round(cpu_s, 3) for at, cpu_s in points.items()},
            "start_s": round(line.start, 4),
            f"{PER}{unit}": round(line.slope, 6),
            "residual_fraction": round(line.residual_fraction, 4),
        },
    )
