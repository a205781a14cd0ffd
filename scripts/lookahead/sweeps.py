"""The same check for a sweep: the setting chosen on a part must not depend on the parts after it."""

from collections.abc import Sequence
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


def check_sweep(chosen: Options, leak: Leak | None = None) -> list[PartCheck]:
    """Sweep, then sweep again on prices that end with each part but the last; compare the figures and the choices."""
    with planted(leak) if leak else nullcontext():
        panel = prices.load(chosen)
        settings = _vary(chosen)
        cut = walk_forward.parts(sweep.span(panel, settings), FOLDS)
        whole = _run(chosen, settings, cut)
        choices = [fold.chosen for fold in walk_forward.walk_forward(whole, None, 1)]
        return [_check_part(chosen, settings, cut[: number + 1], whole, choices[number]) for number in range(FOLDS)]


def _vary(chosen: Options) -> list[Options]:
    threshold = chosen.settings.signal_threshold_fraction
    varied = [replace(chosen.settings, signal_threshold_fraction=threshold * each) for each in THRESHOLDS]
    return [replace(chosen, settings=each) for each in varied]


def _check_part(
    chosen: Options,
    settings: Sequence[Options],
    known: Sequence[Part],
    whole: Sequence[Sequence[Figure]],
    choice: int | None,
) -> PartCheck:
    """Compare on prices that end with the last of the `known` parts; the parts after it have no figures then."""
    figures = _run(chosen, settings, known, ends=True)
    as_known = [row[: len(known)] for row in whole]
    hidden: list[list[Figure]] = [[*row, None] for row in figures]
    again = walk_forward.walk_forward(hidden, None, 1)[-1].chosen
    return PartCheck(part=len(known), is_same=figures == as_known and again == choice)


def _run(
    chosen: Options, settings: Sequence[Options], parts: Sequence[Part], *, ends: bool = False
) -> list[list[Figure]]:
    panel = cuttable(chosen).load(parts[-1].times[-1]) if ends else prices.load(chosen)
    with TemporaryDirectory(prefix="sweep-") as folder:
        workers = Workers(lanes=[Lane(start=InProcess)])
        return sweep.sweep(panel, settings, parts, workers=workers, folder=Path(folder)).figures(METRIC)
