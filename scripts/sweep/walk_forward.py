"""Walk-forward evaluation: cut the span into parts, and judge the best setting of each part on the next part."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise

from scripts.backtest.model import BacktestError
from scripts.backtest.yearly import is_long_enough
from trader.model import NEW_YORK

MIN_DAYS = 20
"""Minimum trading days in a part: about a month. Key figures of a shorter part say nothing."""

BETTER = {
    "sharpe_ratio": 1,
    "sortino_ratio": 1,
    "calmar_ratio": 1,
    "total_return_fraction": 1,
    "annual_return_fraction": 1,
    "final_equity_usd": 1,
    "max_drawdown_fraction": 1,  # negative: the closer to 0, the better
    "win_fraction": 1,
    "annual_volatility_fraction": -1,
}
"""Key figures by which settings can be chosen: 1 if higher is better, -1 if lower is better."""

WITHOUT_A_YEAR = {
    "annual_return_fraction": "total_return_fraction",
    "annual_volatility_fraction": "bar_volatility_fraction",
    "sharpe_ratio": "bar_sharpe_ratio",
    "sortino_ratio": "bar_sortino_ratio",
    "calmar_ratio": "return_over_drawdown_ratio",
}
"""What each yearly figure is without the year, for parts that are too short to be annualized.

Within a part, the bars and dates of all settings are the same, so the order of the settings is that of the yearly
figures. Only the Calmar ratio can have another order, because the return in it is compounded.
"""

type Figure = float | None
"""A key figure; None if it is undefined, such as the Sharpe ratio of a setting that never traded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Consecutive days of the span; `start` and `end` are its first and last trading day in New York."""

    number: int  # from 1
    start: date
    end: date
    times: tuple[datetime, ...]  # start times of its bars


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """The setting chosen on one part, and its result on the next part."""

    number: int  # from 1: chosen on the part with this number, judged on the next part
    chosen: int | None  # index of the setting; None if no setting has a figure in sample
    in_sample: Figure
    out_of_sample: Figure
    rank: int | None  # out of sample; 1 is the best of all settings
    default: Figure  # out of sample, of the setting without a grid
    median: Figure  # out of sample, over all settings that have the figure


def choose_criterion(metric: str, parts: Sequence[Part]) -> str:
    """Return the key figure that settings are ranked by: `metric`, or the same without a year if a part is too short.

    All parts have the same criterion, so that their figures can be compared.
    """
    if all(is_long_enough(part.start, part.end) for part in parts):
        return metric
    return WITHOUT_A_YEAR.get(metric, metric)


def parts(span: Sequence[datetime], folds: int) -> tuple[Part, ...]:
    """Cut the span into `folds` + 1 consecutive parts of whole days, whose lengths differ by at most one day.

    Raises BacktestError if the parts would be shorter than MIN_DAYS.
    """
    by_day: dict[date, list[datetime]] = {}
    for time in span:
        by_day.setdefault(time.astimezone(NEW_YORK).date(), []).append(time)
    days, count = list(by_day), folds + 1
    if len(days) < count * MIN_DAYS:
        most = len(days) // MIN_DAYS - 1
        remedy = f"set FOLDS={most} or less, or an earlier START" if most >= 1 else "set an earlier START"
        raise BacktestError(
            f"FOLDS={folds} needs {count} parts of at least {MIN_DAYS} trading days, but the span has only "
            f"{len(days)}, {days[0]} to {days[-1]}; {remedy}"
        )
    cuts = [len(days) * number // count for number in range(count + 1)]
    return tuple(
        Part(
            number=number,
            start=days[begin],
            end=days[end - 1],
            times=tuple(time for day in days[begin:end] for time in by_day[day]),
        )
        for number, (begin, end) in enumerate(pairwise(cuts), start=1)
    )


def walk_forward(figures: Sequence[Sequence[Figure]], default: Sequence[Figure] | None, better: int) -> list[Fold]:
    """Return the folds. `figures` are by setting, then by part; `default` are those of the default setting, by part.

    `better` is 1 if higher is better and -1 if lower is better. In a tie, the first setting is chosen.
    """
    score = score_by(better)
    number_of_parts = len(figures[0])
    folds = []
    for part in range(number_of_parts - 1):
        inside = [row[part] for row in figures]
        outside = [row[part + 1] for row in figures]
        best = max(range(len(figures)), key=lambda setting: score(inside[setting]))
        chosen = None if inside[best] is None else best
        known = [figure for figure in outside if figure is not None]
        folds.append(
            Fold(
                number=part + 1,
                chosen=chosen,
                in_sample=inside[best],
                out_of_sample=None if chosen is None else outside[chosen],
                rank=None if chosen is None else 1 + sum(score(each) > score(outside[chosen]) for each in outside),
                default=default[part + 1] if default else None,
                median=statistics.median(known) if known else None,
            )
        )
    return folds


def score_by(better: int) -> Callable[[Figure], float]:
    """Return a function that maps figures to scores: higher is better, and a missing figure is the worst."""
    return lambda figure: -math.inf if figure is None else better * figure


def out_of_sample(row: Sequence[Figure]) -> Figure:
    """Return the mean of one setting's figures over all parts but the first; None if one is missing."""
    figures = [figure for figure in row[1:] if figure is not None]
    return statistics.fmean(figures) if len(figures) == len(row) - 1 else None
