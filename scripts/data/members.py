"""The members of the S&P 500 by day, from scripts/data/sp500_members.csv; `make constituents` keeps it up to date.

A symbol is the one by which its company goes today, so that a price source knows it; see scripts.data.member_history.
"""

import csv
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, cached_property
from pathlib import Path

from trader.schedule.base import EventError

FILE = Path(__file__).with_name("sp500_members.csv")
COLUMNS = ("symbol", "joined", "left")
SYMBOL = re.compile(r"[A-Z]{1,5}(\.[A-Z])?")


@dataclass(frozen=True, slots=True)
class Stay:
    """A company's time in the index: from the day on which it joins to the day before it leaves."""

    symbol: str  # in Alpaca's spelling, such as BRK.B
    joined: date
    left: date | None = None  # the first day on which it is no member; None while it is one

    def covers(self, day: date) -> bool:
        """Check whether the company is a member on a day."""
        return self.joined <= day and (self.left is None or day < self.left)

    def meets(self, first: date, last: date) -> bool:
        """Check whether the company is a member on any day from `first` to `last`."""
        return self.joined <= last and (self.left is None or first < self.left)


@dataclass(frozen=True)
class Members:
    """All stays in the index, in the order of their symbols."""

    stays: tuple[Stay, ...]

    @cached_property
    def first_day(self) -> date:
        """The first day for which the members are known."""
        return min(stay.joined for stay in self.stays)

    def on(self, day: date) -> tuple[str, ...]:
        """Return the members on a day, in alphabetical order. Raises EventError if they are not known."""
        if day < self.first_day:
            raise EventError(self.explain_lack(day))
        since = bisect_right(self._changes, day)
        if since not in self._by_change:
            self._by_change[since] = tuple(stay.symbol for stay in self.stays if stay.covers(day))
        return self._by_change[since]

    @cached_property
    def _changes(self) -> list[date]:
        """The days on which a company joins or leaves."""
        return sorted({day for stay in self.stays for day in (stay.joined, stay.left) if day})

    @cached_property
    def _by_change(self) -> dict[int, tuple[str, ...]]:
        """The members by the number of changes until a day, as far as they were asked for: they are few."""
        return {}

    def between(self, first: date, last: date) -> tuple[str, ...]:
        """Return the symbols that are members on any day from `first` to `last`, in alphabetical order."""
        return tuple(dict.fromkeys(stay.symbol for stay in self.stays if stay.meets(first, last)))

    def until(self, day: date) -> "Members":
        """Return the stays as they are known on a day, which knows nothing of later ones."""
        return Members(
            tuple(
                replace(stay, left=None) if stay.left and stay.left > day else stay
                for stay in self.stays
                if stay.joined <= day
            )
        )

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that are members on any day."""
        return tuple(dict.fromkeys(stay.symbol for stay in self.stays))

    def explain_lack(self, day: date) -> str:
        """Say that the members are not known on a day, and what to do."""
        return (
            f"the members of the S&P 500 are known from {self.first_day} on, not for {day}; choose a later day, or "
            "set UNIVERSE to a list of symbols"
        )


def read(path: Path = FILE) -> Members:
    """Read the stays from a file; without the file there are none."""
    if not path.exists():
        return Members(())
    with path.open(encoding="utf-8", newline="") as lines:
        return Members(tuple(_parse(row["symbol"], row["joined"], row["left"]) for row in csv.DictReader(lines)))


@cache
def shipped() -> Members:
    """Return the stays of the file that ships with the project."""
    return read()


def on(day: date) -> tuple[str, ...]:
    """Return the members on a day by the shipped file. Raises EventError if they are not known."""
    return shipped().on(day)


def find(day: date) -> tuple[str, ...] | None:
    """Return the members on a day by the shipped file; None if they are not known."""
    return shipped().on(day) if day >= shipped().first_day else None


def _parse(symbol: str, joined: str, left: str) -> Stay:
    return Stay(symbol, date.fromisoformat(joined), date.fromisoformat(left) if left else None)


def sort(stays: Iterable[Stay]) -> tuple[Stay, ...]:
    """Return the stays in the order of their symbols, then of their days."""
    return tuple(sorted(stays, key=lambda stay: (stay.symbol, stay.joined)))
