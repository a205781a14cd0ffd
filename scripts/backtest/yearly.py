"""The length of a backtest by its dates, with which its figures are annualized, or by which they are not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pandas as pd

from trader.model import NEW_YORK

MIN_MONTHS = 3
"""Nothing is annualized over fewer months: 1% in a month says nothing about a year."""

TOO_SHORT = "the span is shorter than three months"

DAYS_A_YEAR = 365.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A traded span that is long enough to be annualized: its length, and how many of its bars make a year."""

    years: float  # from the first day to the last
    bars_a_year: float


def measure_span(times: Sequence[datetime]) -> Span | None:
    """Measure the span of bars that start at `times`; return None if it is shorter than MIN_MONTHS.

    The days are those of New York. The first day's bars do not count, because they lie before the years that begin with
    that day's close: 53 weekly bars from 4 January to 3 January are 52 in a year, whatever their interval is called.
    """
    if not times:
        return None
    days = [time.astimezone(NEW_YORK).date() for time in times]
    first, last = days[0], days[-1]
    if not is_long_enough(first, last):
        return None
    years = (last - first).days / DAYS_A_YEAR
    return Span(years=years, bars_a_year=sum(day > first for day in days) / years)


def is_long_enough(first: date, last: date) -> bool:
    """Check that at least MIN_MONTHS of the calendar lie between two days."""
    return pd.Timestamp(first) + pd.DateOffset(months=MIN_MONTHS) <= pd.Timestamp(last)


def annualize(growth: float, years: float) -> float:
    """Compound a growth factor to one year: growth ** (1 / years) - 1; infinite if that is too large a number.

    It is the compound annual growth rate by dates, as in calc_cagr and year_frac of ffn, which also take 365.25 days
    for a year. A count of bars divided by 252 would take weekly bars, or days with gaps, for less time than they cover.
    """
    with np.errstate(all="ignore"):
        return float(np.float64(growth) ** (1 / years)) - 1
