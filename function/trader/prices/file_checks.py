"""Checks of what a price file says as a whole: the length of its bars, its weekdays, its hours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.model import BAR_LENGTH, NEW_YORK
from trader.prices.faults import PriceFileError, name_some
from trader.prices.series import say
from trader.schedule.sessions import are_in_session, number_bars

MIN_DISTANCES = 5
"""The fewest distances between bars that say how long the bars are."""

TOO_LONG_FRACTION = 0.75
"""The part of the distances that must be longer than BAR_INTERVAL before the bars are."""

MAX_LONG_RUN = 10
"""So many such distances in succession are enough: files begin with weekly bars and go on with daily ones."""

MIN_DAYS = 5
"""The fewest days that say on which weekdays and in which hours a file has bars."""

WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")

ADJECTIVES = {"1d": "daily", "1h": "hourly", "15m": "15-minute", "5m": "5-minute", "1m": "1-minute"}

_DAY_US = 86_400 * 10**6
_MINUTE_US = 60 * 10**6

_SPANS_OF_DAYS = ((0, 1, "daily"), (5, 9, "weekly"), (26, 35, "monthly"), (80, 100, "quarterly"), (350, 380, "yearly"))

type Flags = NDArray[np.bool_]
type Integers = NDArray[np.int64]


def name_interval(moments: pd.DatetimeIndex) -> str:
    """Name the length of one symbol's bars by their distances, as in 30-minute or weekly."""
    days, times_us = _split(moments)
    distances_us = np.diff(days * _DAY_US + times_us)
    within_us = distances_us[np.diff(days) == 0]
    if 2 * len(within_us) > len(distances_us):
        minutes = round(float(np.median(within_us)) / _MINUTE_US)
        if minutes % 60 == 0 and minutes:
            return "hourly" if minutes == 60 else f"{minutes // 60}-hour"
        return f"{minutes}-minute"
    number = round(float(np.median(np.diff(np.unique(days)))))
    return next((name for first, last, name in _SPANS_OF_DAYS if first <= number <= last), f"{number}-day")


@dataclass(frozen=True, slots=True, kw_only=True)
class BarLengths:
    """The symbols whose bars are too long for BAR_INTERVAL, with the name of their interval."""

    interval: str
    too_long: dict[str, str]

    def require_some_right(self, path: Path, symbols: Sequence[str]) -> str | None:
        """Return a note on the symbols to leave out. Raises PriceFileError if that is all of them."""
        if not self.too_long:
            return None
        names = sorted(set(self.too_long.values()))
        if len(self.too_long) < len(symbols):
            these = f"left out because of {' and '.join(names)} bars, longer than BAR_INTERVAL={self.interval}"
            return f"{these}: {name_some(self.too_long)}"
        raise PriceFileError(
            f"price file {path} has {' and '.join(names)} bars, but BAR_INTERVAL={self.interval}; "
            f"{advise(names, f'use a file of {ADJECTIVES[self.interval]} bars')}"
        )


def find_long(close: pd.DataFrame, interval: str) -> BarLengths:
    """Find the symbols whose bars are longer than BAR_INTERVAL, by the distances between their closes."""
    index = pd.DatetimeIndex(close.index)
    days, times_us = _split(index)
    numbers = _number_sessions(index) if interval == "1d" else None
    length_us = BAR_LENGTH[interval] // timedelta(microseconds=1)
    is_given = ~np.isnan(close.to_numpy(float))
    found = {}
    for column, symbol in enumerate(close.columns):
        (rows,) = np.nonzero(is_given[:, column])
        if len(rows) <= MIN_DISTANCES:
            continue
        if numbers is not None:
            is_longer = np.diff(numbers[rows]) > 1
        else:
            is_same_day = np.diff(days[rows]) == 0
            is_longer = (np.diff(times_us[rows]) > length_us)[is_same_day]
            if len(is_longer) < MIN_DISTANCES:
                is_longer = ~is_same_day
        if len(is_longer) >= MIN_DISTANCES and is_longer.mean() >= TOO_LONG_FRACTION:
            found[str(symbol)] = name_interval(index[rows])
        elif numbers is not None and (run := _find_long_run(is_longer)) is not None:
            found[str(symbol)] = name_interval(index[rows[run]])
    return BarLengths(interval=interval, too_long=found)


def _find_long_run(is_longer: Flags) -> slice | None:
    """Return the bars of the first run of MAX_LONG_RUN distances that are all too long; None if there is none."""
    ends = np.flatnonzero(np.concatenate([[True], ~is_longer, [True]]))
    (places,) = np.nonzero(np.diff(ends) > MAX_LONG_RUN)
    return slice(int(ends[places[0]]), int(ends[places[0] + 1])) if len(places) else None


def require_not_short(path: Path, close: pd.DataFrame, interval: str) -> None:
    """Raise PriceFileError if a symbol has two bars in one interval of a session."""
    if interval == "1d":
        return  # two bars of one day are two rows for one time
    index = pd.DatetimeIndex(close.index)
    is_open = are_in_session(index, interval)
    close, index = close.loc[is_open], index[is_open]
    numbers = number_bars(index, interval)
    if not (np.diff(numbers) == 0).any():
        return
    is_given = ~np.isnan(close.to_numpy(float))
    length_us = BAR_LENGTH[interval] // timedelta(microseconds=1)
    for column, symbol in enumerate(close.columns):
        (rows,) = np.nonzero(is_given[:, column])
        times = index[rows]
        (places,) = np.nonzero((np.diff(numbers[rows]) == 0) & (np.diff(times.as_unit("us").asi8) < length_us))
        if len(places):
            first, second = (say(times[place], interval) for place in (places[0], places[0] + 1))
            name = name_interval(times)
            raise PriceFileError(
                f"price file {path}: the bars of {symbol} of {first} and {second} are less than "
                f"BAR_INTERVAL={interval} apart, as in {name} bars; "
                f"{advise([name], 'set BAR_INTERVAL to the length of the bars')}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A fault of all daily bars: they are a day early or late. `bar` is one that shows it, by its number."""

    bar: int
    what: str


def find_shift(index: pd.DatetimeIndex) -> Shift | None:
    """Find out if daily bars are a day early or late: if Sundays stand for Mondays, or Saturdays for Fridays."""
    days, _ = _split(index)
    weekdays = (days + 3) % 7  # 1970-01-01 was a Thursday
    counts = np.bincount(weekdays, minlength=7)
    for there, lacking, is_off in ((6, 4, "early"), (5, 0, "late")):
        is_many = 10 * counts[there] >= len(index) >= MIN_DAYS
        if is_many and 10 * counts[lacking] <= counts[there]:
            bar = int(np.argmax(weekdays == there))
            what = (
                f"{say(index[bar], '1d')} is one of {counts[there]:,} {WEEKDAYS[there]}, but {counts[lacking]:,} bars "
                f"are of {WEEKDAYS[lacking]}: every bar is a day {is_off}, as if midnights of UTC were in another zone"
            )
            return Shift(bar=bar, what=what)
    return None


def require_hours(path: Path, index: pd.DatetimeIndex) -> None:
    """Raise PriceFileError if bars without an offset lie in the exchange's hours of another zone than New York."""
    days, times_us = _split(index)
    starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
    if len(starts) < MIN_DAYS:
        return
    first, last = (
        float(np.median(each)) / (60 * _MINUTE_US) for each in (times_us[starts], times_us[[*(starts[1:] - 1), -1]])
    )
    is_late, is_early = last > 16 and first > 10, first < 9.5 and last < 15
    if is_late or is_early:
        clocks = [f"{int(hours)}:{round(hours % 1 * 60):02}" for hours in (first, last)]
        raise PriceFileError(
            f"price file {path}: its days begin at {clocks[0]} and end at {clocks[1]}, but the exchange is open from "
            f"9:30 to 16:00: times without an offset are those of New York; write the offset, as in "
            f"2022-12-28T15:45:00+01:00"
        )


def advise(names: Sequence[str], otherwise: str) -> str:
    """Return the BAR_INTERVAL that bars of this name have, or else other advice."""
    settings = [interval for interval, name in ADJECTIVES.items() if list(names) == [name]]
    return f"set BAR_INTERVAL={settings[0]}" if settings else otherwise


def _split(index: pd.DatetimeIndex) -> tuple[Integers, Integers]:
    """Return each moment's day in New York, as days since 1970, and the microseconds since its midnight."""
    local_us = index.tz_convert(NEW_YORK).tz_localize(None).as_unit("us").asi8
    days = local_us // _DAY_US
    return days, local_us - days * _DAY_US


def _number_sessions(index: pd.DatetimeIndex) -> Integers:
    """Return the number of sessions from the first bar's day up to the day of each bar."""
    days, _ = _split(index)
    every = pd.date_range(index[0].tz_convert(NEW_YORK), periods=int(days[-1] - days[0]) + 1, freq="D")
    counts = np.cumsum(are_in_session(every, "1d"))
    numbers: Integers = counts[days - days[0]]
    return numbers
