"""The axes of charts: where they end, which round values they have and how these are written, and where words fit."""

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from scripts.report.formatting import MINUS

type Points = NDArray[np.float64]

DATE_PATTERNS = ((200, "%b %Y"), (5, "%-d %b"), (-1, "%H:%M"))

MIN_DAYS_OF_DATES = 6
"""The fewest days that have dates and no times of the day."""

STEPS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
"""The distances between ticks that are easy to read, times a power of ten: those of Matplotlib."""

MAX_STEPS = 4
"""The most distances between ticks on an axis."""

MAX_DECIMALS = 9


def date_pattern(days: float) -> str:
    """Return the date format for a history of this many days."""
    return next(pattern for least, pattern in DATE_PATTERNS if days > least)


def pick_evenly(count: int, wanted: int) -> list[int]:
    """Return the places of so many of `count` values in even distances, the first and the last with them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(wanted, count)).tolist()})


def find_limits(*shown: Points) -> tuple[float, float]:
    """Return the ends of an axis: the lowest and the highest of these values, and some room. NaN is no value."""
    values = np.concatenate(shown)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    largest = max(abs(low), abs(high))
    room = 0.05 * (high - low) if high - low > 1e-9 * largest else 0.01 * largest or 1.0
    return low - room, high + room


def find_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high, at least two and in at most MAX_STEPS steps, as Matplotlib chooses."""
    middle = (low + high) / 2
    is_far = abs(middle) >= 100 * (high - low)  # from 0: the distance is so small that digits before it only repeat
    base = math.copysign(10 ** (math.log10(abs(middle)) // 1), middle) if is_far else 0.0
    scale = 10 ** (math.log10((high - low) / MAX_STEPS) // 1)
    steps = [each * scale for each in (*(0.1 * step for step in STEPS[:-1]), *STEPS, 10 * STEPS[1])]
    smallest = next(place for place, step in enumerate(steps) if step >= (high - low) / MAX_STEPS)
    found: list[float] = []
    for step in reversed(steps[: smallest + 1]):
        first = (low - base) // step * step
        numbers = range(math.ceil((high - base - first) / step) + 1)
        slack = 1e-10 * step
        found = [tick for each in numbers if low - base - slack <= (tick := each * step + first) <= high - base + slack]
        if len(found) >= 2:
            break
    return [tick + base for tick in found]


def format_ticks(ticks: Sequence[float], *, are_fractions: bool = False) -> list[str]:
    """Format ticks with the decimals that they need, as many for all; fractions in percent."""
    values = [100 * each for each in ticks] if are_fractions else ticks
    slack = 1e-3 * abs(values[-1] - values[0])
    exact = (each for each in range(MAX_DECIMALS) if all(abs(round(value, each) - value) <= slack for value in values))
    decimals = next(exact, MAX_DECIMALS)
    shown = (round(value, decimals) + 0.0 for value in values)  # adding 0 makes -0 a 0
    return [f"{value:,.{decimals}f}{'%' if are_fractions else ''}".replace("-", MINUS) for value in shown]


def spread_out(places: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Return places near these, which ascend, that are at least so far apart, from low to high if they all fit."""
    groups: list[list[float]] = []  # of neighbors that would be too close, each less the distance to the first of all
    for number, place in enumerate(places):
        group = [place - number * apart]
        while groups and fmean(groups[-1]) > fmean(group):
            group = groups.pop() + group
        groups.append(group)
    moved = [fmean(group) for group in groups for _ in group]
    most = high - (len(places) - 1) * apart
    return [max(min(place, most), low) + number * apart for number, place in enumerate(moved)]
