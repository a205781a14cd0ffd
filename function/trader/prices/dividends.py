"""Factors that adjust closes for dividends: from a source's adjusted closes, or from the dividends themselves."""

from collections.abc import Mapping
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.prices.jumps import Flags, Floats

TOLERANCE_FRACTION = 0.001
"""How far a factor may be below an earlier one because of rounding; a dividend of this size does not matter."""

LATE_BARS = 5
"""For so many daily bars a source's adjusted closes may lack a dividend that it already reports."""

MIN_LATE_FRACTION = 0.005
"""The smallest dividend, as a part of the price, that the adjusted closes are searched for."""

type Days = NDArray[np.datetime64]


def follow_adjusted(closes_usd: Floats, adjusted_usd: Floats) -> tuple[Floats, Flags, Flags]:
    """Return the factors from closes to adjusted closes, and where they are not the source's own.

    A factor is the part of a price that later dividends leave of it. It is at most 1, and it only rises: where it
    falls, the source has adjusted these closes for a dividend that is still to come, and those before not yet. The
    first array of flags tells where it fell; there the highest factor so far is used. The second one tells where there
    is a close but no factor, or one that cannot be; there it is that of the close before, or of the first after.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        given = adjusted_usd / closes_usd
        is_given = (given > 0) & (given <= 1 + TOLERANCE_FRACTION)
        is_given[1:-1] &= ~_are_peaks(given)
    factors: Floats = given
    if not is_given.all():
        factors = pd.Series(np.where(is_given, given, np.nan)).ffill().bfill().fillna(1.0).to_numpy(float)
    highest = np.maximum.accumulate(factors)
    is_fallen = factors < highest * (1 - TOLERANCE_FRACTION)
    return np.where(is_fallen, highest, factors), is_fallen & is_given, ~is_given & ~np.isnan(closes_usd)


def _are_peaks(factors: Floats) -> Flags:
    """Return which factors, of all but the first and the last, stand out above two equal ones."""
    before, peak, after = factors[:-2], factors[1:-1], factors[2:]
    are_equal = np.abs(after - before) <= before * TOLERANCE_FRACTION
    return (before < peak * (1 - TOLERANCE_FRACTION)) & are_equal


def follow_dividends(closes_usd: Floats, days: Days, dividends_usd: Mapping[date, float]) -> tuple[Floats, list[date]]:
    """Return the factors from dividends by their ex-dates, and the ex-dates whose dividend cannot be one.

    Each dividend takes its part of the last close before its ex-date from all closes before. `days` are those of the
    bars, in order.
    """
    factors = np.ones(len(closes_usd))
    impossible = []
    for day, dividend_usd in dividends_usd.items():
        row = int(np.searchsorted(days, np.datetime64(day)))
        if (fraction := _fraction(closes_usd, row, dividend_usd)) is None:
            continue
        if 0 <= fraction < 1:
            factors[:row] *= 1 - fraction
        else:
            impossible.append(day)
    return factors, impossible


def find_late(closes_usd: Floats, factors: Floats, days: Days, dividends_usd: Mapping[date, float]) -> list[date]:
    """Return the ex-dates among the last LATE_BARS whose dividends are not in the factors at all."""
    late = []
    for day, dividend_usd in dividends_usd.items():
        row = int(np.searchsorted(days, np.datetime64(day)))
        fraction = _fraction(closes_usd, row, dividend_usd)
        if fraction is None or row < len(days) - LATE_BARS or not MIN_LATE_FRACTION <= fraction < 1:
            continue
        around = factors[max(row - LATE_BARS, 0) : row + LATE_BARS]
        if around[0] > around[-1] * (1 - fraction / 10):
            late.append(day)
    return late


def _fraction(closes_usd: Floats, row: int, dividend_usd: float) -> float | None:
    """Return a dividend as a part of the last close before its bar; None if there is no bar before, or none of it."""
    before_usd = closes_usd[:row][closes_usd[:row] > 0]
    return dividend_usd / float(before_usd[-1]) if len(before_usd) and row < len(closes_usd) else None
