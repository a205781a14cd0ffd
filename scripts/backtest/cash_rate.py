"""The rate that cash earns: constant, or dated as FRED's series of Treasury bills are."""

import csv
import io
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.backtest.yearly import DAYS_A_YEAR
from trader.model import NEW_YORK
from trader.settings import DECIMAL, Number

RATE = Number(-0.05, 0.5)
"""The annual rates that are allowed, as fractions; bills were below 0 for a few days."""

MISSING = {"", "."}
"""A day without a rate in FRED's files, such as a holiday: the rate before it stays."""


@dataclass(frozen=True, slots=True)
class CashRate:
    """Annual rates from their days on, in order of the days; each stays until the next, and the last to the end."""

    rates: tuple[tuple[date, float], ...] = ((date.min, 0.0),)  # fractions a year
    words: str = "0%"
    text: str = "0"  # as it was given

    def growth(self, times: Sequence[datetime]) -> NDArray[np.float64]:
        """Return the factor by which cash grows up to each of the bars from the bar before; 1 for the first.

        A rate is compounded by calendar day, in New York, so that a year at 4% makes 4%. The first bar must not be
        before the first rate.
        """
        days = [time.astimezone(NEW_YORK).date() for time in times]
        known = [day for day, _ in self.rates]
        logs = np.log1p([rate for _, rate in self.rates]) / DAYS_A_YEAR
        factors = np.ones(len(days))
        for bar, (begin, end) in enumerate(pairwise(days), start=1):
            place = bisect_right(known, begin) - 1
            total = 0.0
            while begin < end:
                until = min(end, known[place + 1]) if place + 1 < len(known) else end
                total += (until - begin).days * float(logs[place])
                begin, place = until, place + 1
            factors[bar] = math.exp(total)
        return factors

    def explain_lack(self, first: datetime) -> str | None:
        """Say what to do if the rates begin after the first bar; None if they do not."""
        day, begin = first.astimezone(NEW_YORK).date(), self.rates[0][0]
        if begin <= day:
            return None
        return (
            f"CASH_RATE: the rates of {self.words} begin on {begin}, after the first bar, {day}; provide earlier "
            f"rates, or set START={begin} or later"
        )


def read(text: str) -> CashRate:
    """Read an annual rate such as 0.04, or the CSV file of that path. Raises ValueError, which names what is wrong."""
    if DECIMAL.fullmatch(text):
        rate = RATE(text)
        return CashRate(((date.min, rate),), f"{rate * 100:.4f}".rstrip("0").rstrip(".") + "%", text)
    path = Path(text)
    try:
        rows = list(_rows(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ValueError(f"an annual rate such as 0.04, or a CSV file of dated rates: {why}") from None
    if not rows:
        raise ValueError("a CSV file with at least one rate; this one has none")
    if any(later <= day for (day, _), (later, _) in pairwise(rows)):
        raise ValueError("a CSV file whose days are in order, each once; sort it")
    return CashRate(tuple(rows), path.name, text)


def _rows(text: str) -> Iterator[tuple[date, float]]:
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row or (number == 1 and not _is_day(row[0])):
            continue
        fault = (
            f"a CSV file with a header, then a day and a rate in percent a year, such as 2022-12-28,4.3; line {number}"
        )
        if number == 1:
            raise ValueError(f"{fault} is no header, but a day")
        if len(row) != 2:
            raise ValueError(f"{fault} has {len(row)} columns")
        day, percent = (cell.strip() for cell in row)
        if percent in MISSING:
            continue
        try:
            yield date.fromisoformat(day), RATE(repr(float(percent) / 100))
        except ValueError:
            raise ValueError(f"{fault} is {','.join(row)!r}") from None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text.strip())
    except ValueError:
        return False
    return True
