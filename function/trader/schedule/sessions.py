"""The regular sessions of the New York Stock Exchange, for prices and for an account without a market clock."""

from datetime import date, datetime, time, timedelta
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.model import BAR_LENGTH, NEW_YORK

OPEN, CLOSE, EARLY_CLOSE = time(9, 30), time(16, 0), time(13, 0)

_DAY_NS = 86_400 * 10**9
_OPEN_NS = (OPEN.hour * 60 + OPEN.minute) * 60 * 10**9

FIRST = date(2008, 8, 1)
"""The session with the number 1. Any fixed day would do; this one is the first of Sean Kelley's published backtest."""

type Integers = NDArray[np.int64]


@cache
def _closures(year: int, category: str) -> frozenset[date]:
    return frozenset(_load_calendar()(years=year, categories=(category,)))


@cache
def _load_calendar() -> Any:  # noqa: ANN401 the package has no types
    """Return the calendar that is holidays.NYSE, from its own file.

    By its name, Python would first run holidays/financial/__init__.py, which imports the calendars of all exchanges,
    and these those of all countries: 300 modules, and most of the time that the calendar takes.
    """
    import holidays  # imported here because a run with a real broker does not need it

    name = "holidays.financial.ny_stock_exchange"
    spec = PathFinder.find_spec(name, [f"{folder}/financial" for folder in holidays.__path__])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{name} is not where it was in the package holidays", name=name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NewYorkStockExchange


def session(day: date) -> tuple[datetime, datetime] | None:
    """Return the opening and the close of a day's session in New York time; None if the exchange is closed all day."""
    if day.weekday() >= 5 or day in _closures(day.year, "public"):
        return None
    close = EARLY_CLOSE if day in _closures(day.year, "half_day") else CLOSE
    return datetime.combine(day, OPEN, NEW_YORK), datetime.combine(day, close, NEW_YORK)


def number(day: date) -> int:
    """Return the number of a day's session, the same wherever the prices come from; between two, that of the last."""
    days = _days_around(day)
    return int(np.searchsorted(days, _number(day), "right") - np.searchsorted(days, _number(FIRST)))


def next_divisible(day: date, by: int) -> date:
    """Return the first session after a day whose number is divisible by `by`."""
    days = _days_around(day)
    ahead = by - number(day) % by
    return _date(int(days[np.searchsorted(days, _number(day), "right") - 1 + ahead]))


def _days_around(day: date) -> Integers:
    """Return the days of all sessions from a day, or FIRST, to the end of the next year, as days since 1970."""
    return _session_days(min(day, FIRST).year - 1, max(day, FIRST).year + 1)[0]


def is_open(now: datetime) -> bool:
    """Check whether a session is running at `now`; the moment of the close is not part of it."""
    hours = session(now.astimezone(NEW_YORK).date())
    return hours is not None and hours[0] <= now < hours[1]


def next_open(now: datetime) -> datetime:
    """Return the first opening after `now`."""
    day = now.astimezone(NEW_YORK).date()
    while True:
        hours = session(day)
        if hours is not None and hours[0] > now:
            return hours[0]
        day += timedelta(days=1)


def list_days(first: date, last: date) -> list[date]:
    """Return the days from the first to the last on which the exchange is open."""
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [day for day in days if session(day)]


def previous_close(now: datetime) -> datetime:
    """Return the last close before the New York day of `now`, when the previous equity is measured."""
    day = now.astimezone(NEW_YORK).date() - timedelta(days=1)
    while (hours := session(day)) is None:
        day -= timedelta(days=1)
    return hours[1]


def next_close(moment: datetime) -> datetime:
    """Return the first close after a moment."""
    day = moment.astimezone(NEW_YORK).date()
    while (hours := session(day)) is None or hours[1] <= moment:
        day += timedelta(days=1)
    return hours[1]


def last_slot_of(day: date) -> datetime:
    """Return the last slot of the default schedule: 15 minutes before the day's close, or 15:45 on a holiday."""
    hours = session(day)
    close = hours[1] if hours else datetime.combine(day, CLOSE, NEW_YORK)
    return close - timedelta(minutes=15)


def last_minute_before(now: datetime) -> datetime:
    """Return the last minute of the last session that has ended; no run of that session came later."""
    day = now.astimezone(NEW_YORK).date()
    while (hours := session(day)) is None or hours[1] > now:
        day -= timedelta(days=1)
    return hours[1] - timedelta(minutes=1)


def are_in_session(index: pd.DatetimeIndex, interval: str) -> NDArray[np.bool_]:
    """Return which bars belong to a session: daily bars of its day, shorter ones that share some time with it."""
    if not len(index):
        return np.zeros(0, dtype=np.bool_)
    days, times_ns = _split(index)
    first, last = (_date(int(each)).year for each in (days.min(), days.max()))
    known, closes_ns = _session_days(first, last)
    place = np.minimum(np.searchsorted(known, days), len(known) - 1)
    is_day: NDArray[np.bool_] = known[place] == days
    if interval == "1d":
        return is_day
    length_ns = int(BAR_LENGTH[interval].total_seconds()) * 10**9
    return is_day & (times_ns + length_ns > _OPEN_NS) & (times_ns < closes_ns[place])


def number_bars(index: pd.DatetimeIndex, interval: str) -> Integers:
    """Return a number for each bar's place in its session, which two bars share only if they are of the same interval.

    Bars are counted from the opening at 9:30, or from midnight if they all begin at multiples of the interval from it.
    """
    if not len(index):
        return np.zeros(0, dtype=np.int64)
    days, times_ns = _split(index)
    if interval == "1d":
        return days
    length_ns = int(BAR_LENGTH[interval].total_seconds()) * 10**9
    from_ns = 0 if not (times_ns % length_ns).any() else _OPEN_NS
    return days * 100_000 + (times_ns - from_ns) // length_ns


def _split(index: pd.DatetimeIndex) -> tuple[Integers, Integers]:
    """Return each moment's day in New York, as days since 1970, and the time since its midnight in nanoseconds."""
    local_ns = index.tz_convert(NEW_YORK).tz_localize(None).as_unit("ns").asi8
    days = local_ns // _DAY_NS
    return days, local_ns - days * _DAY_NS


@cache
def _session_days(first_year: int, last_year: int) -> tuple[Integers, Integers]:
    """Return the days of all sessions of these years, as days since 1970, and their closes since midnight."""
    years = [_sessions_of(year) for year in range(first_year, last_year + 1)]
    return np.concatenate([days for days, _ in years]), np.concatenate([closes_ns for _, closes_ns in years])


@cache
def _sessions_of(year: int) -> tuple[Integers, Integers]:
    days = (date(year, 1, 1) + timedelta(days=number) for number in range(366))
    found = [(_number(day), hours[1]) for day in days if day.year == year and (hours := session(day))]
    closes_ns = [(close.hour * 60 + close.minute) * 60 * 10**9 for _, close in found]
    return np.array([day for day, _ in found], dtype=np.int64), np.array(closes_ns, dtype=np.int64)


def _number(day: date) -> int:
    return day.toordinal() - date(1970, 1, 1).toordinal()


def _date(number: int) -> date:
    return date.fromordinal(number + date(1970, 1, 1).toordinal())
