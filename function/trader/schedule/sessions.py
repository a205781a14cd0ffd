"""The regular sessions of the New York Stock Exchange, for what has no broker to ask: the embedded account."""

from datetime import date, datetime, time, timedelta
from functools import cache

from trader.model import NEW_YORK

OPEN, CLOSE, EARLY_CLOSE = time(9, 30), time(16, 0), time(13, 0)


@cache
def _closures(year: int, category: str) -> frozenset[date]:
    import holidays  # only who has no broker to ask pays for it

    return frozenset(holidays.financial_holidays("NYSE", years=year, categories=(category,)))


def session(day: date) -> tuple[datetime, datetime] | None:
    """The opening and the close of a day's session, New York time; None if the exchange stays closed."""
    if day.weekday() >= 5 or day in _closures(day.year, "public"):
        return None
    close = EARLY_CLOSE if day in _closures(day.year, "half_day") else CLOSE
    return datetime.combine(day, OPEN, NEW_YORK), datetime.combine(day, close, NEW_YORK)


def is_open(now: datetime) -> bool:
    """Whether a session is running; its close is no longer part of it."""
    hours = session(now.astimezone(NEW_YORK).date())
    return hours is not None and hours[0] <= now < hours[1]


def next_open(now: datetime) -> datetime:
    """The first opening after `now`."""
    day = now.astimezone(NEW_YORK).date()
    while True:
        hours = session(day)
        if hours is not None and hours[0] > now:
            return hours[0]
        day += timedelta(days=1)


def previous_close(now: datetime) -> datetime:
    """The last close before the day of `now`, New York time: where yesterday's equity is measured."""
    day = now.astimezone(NEW_YORK).date() - timedelta(days=1)
    while (hours := session(day)) is None:
        day -= timedelta(days=1)
    return hours[1]


def last_slot_of(day: date) -> datetime:
    """15 minutes before a day's close: the last slot of the default schedule. On a holiday, when it would have been."""
    hours = session(day)
    close = hours[1] if hours else datetime.combine(day, CLOSE, NEW_YORK)
    return close - timedelta(minutes=15)


def last_minute_before(now: datetime) -> datetime:
    """The last minute of the last session that is over: no run of that session was later."""
    day = now.astimezone(NEW_YORK).date()
    while (hours := session(day)) is None or hours[1] > now:
        day -= timedelta(days=1)
    return hours[1] - timedelta(minutes=1)
