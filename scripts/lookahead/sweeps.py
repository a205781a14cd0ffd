"""The same check for a sweep: the setting chosen on a part must not depend on the parts after it."""

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.backtest import prices
from scripts.backtest.cutting import cuttable
from scripts.backtest.model import Options
from scripts.lookahead.check import InProcess
from scripts.lookahead.leaks import Leak, planted
from scripts.sweep import sweep, walk_forward
from scripts.sweep.executors import Lane, Workers
from scripts.sweep.walk_forward import MIN_DAYS, Figure, Part

FOLDS = 2
METRIC = "total_return_fraction"
THRESHOLDS = (0.5, 1.0, 2.0)
"""The settings of the sweep: multiples of SIGNAL_THRESHOLD_FRACTION."""

BARS = (FOLDS + 1) * MIN_DAYS + 6
"""The number of daily bars that a sweep needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCheck:
    """Whether a sweep on prices that end with a part has the same figures, and chooses the same setting on it."""

    part: int
    is_same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep around some options, the parts of its span, and how many of them the prices have (None: all)."""

    chosen: Options
    parts: Sequence[Part]
    known: int | None = None

    @classmethod
    def plan(cls, chosen: Options) -> "Sweep":
        """Return the sweep on all prices. Raises BacktestError if they are too few."""
        times = sweep.span(prices.load(chosen), _vary(chosen))
        return cls(chosen=chosen, parts=walk_forward.parts(times, FOLDS))

    def cut_off(self) -> "list[Sweep]":
        """Return the sweeps on prices that end with each part but the last."""
        return [replace(self, known=number + 1) for number in range(FOLDS)]

    def run(self) -> list[list[Figure]]:
        """Return the figures of each setting on each part."""
        parts = self.parts[: self.known]
        end = parts[-1].times[-1]
        panel = prices.load(self.chosen) if self.known is None else cuttable(self.chosen).load(end)
        with TemporaryDirectory(prefix="sweep-") as folder:
            workers = Workers(lanes=[Lane(start=InProcess)])
            return sweep.sweep(panel, _vary(self.chosen), parts, workers=workers, folder=Path(folder)).figures(METRIC)


def run_sweeps(chosen: Options, executor: Executor) -> tuple[list[list[Figure]], list[list[list[Figure]]]]:
    """Sweep on all prices, and on prices that end with each part but the last; return the figures of both."""
    whole = Sweep.plan(chosen)
    figures, *cut = executor.map(Sweep.run, [whole, *whole.cut_off()])
    return figures, cut


def check_choices(
    whole: Sequence[Sequence[Figure]], cut: Sequence[Sequence[Sequence[Figure]]], leak: Leak | None = None
) -> list[PartCheck]:
    """Choose a setting for each part by the figures of the whole, and by those of prices that end with it; compare.

    The leak is one of the choice, which is made of the figures.
    """
    with planted(leak) if leak else nullcontext():
        choices = [fold.chosen for fold in walk_forward.walk_forward(whole, None, 1)]
        return [_check_part(figures, whole, choices[number]) for number, figures in enumerate(cut)]


def _check_part(
    figures: Sequence[Sequence[Figure]], whole: Sequence[Sequence[Figure]], choice: int | None
) -> PartCheck:
    """Compare on prices that end with the last part that has figures; the parts after it have none then."""
    known = len(figures[0])
    as_known = [row[:known] for row in whole]
    hidden: list[list[Figure]] = [[*row, None] for row in figures]
    again = walk_forward.walk_forward(hidden, None, 1)[-1].chosen
    return PartCheck(part=known, is_same=figures == as_known and again == choice)


def _vary(chosen: Options) -> list[Options]:
    threshold = chosen.settings.signal_threshold_fraction
    varied = [replace(chosen.settings, signal_threshold_fraction=threshold * each) for each in THRESHOLDS]
    return [replace(chosen, settings=each) for each in varied]
