"""The regular sessions of the New York Stock Exchange, for the embedded account, which has no market clock to query."""

from datetime import date, datetime, time, timedelta
from functools import cache

from trader.model import NEW_YORK

OPEN, CLOSE, EARLY_CLOSE = time(9, 30), time(16, 0), time(13, 0)


@cache
def _closures(year: int, category: str) -> frozenset[date]:
    import holidays  # imported here because a run with a real broker does not need it

    return frozenset(holidays.financial_holidays("NYSE", years=year, categories=(category,)))


def session(day: date) -> tuple[datetime, datetime] | None:
    """Return the opening and the close of a day's session in New York time; None if the exchange is closed all day."""
    if day.weekday() >= 5 or day in _closures(day.year, "public"):
        return None
    close = EARLY_CLOSE if day in _closures(day.year, "half_day") else CLOSE
    return datetime.combine(day, OPEN, NEW_YORK), datetime.combine(day, close, NEW_YORK)


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


def previous_close(now: datetime) -> datetime:
    """Return the last close before the New York day of `now`, when the previous equity is measured."""
    day = now.astimezone(NEW_YORK).date() - timedelta(days=1)
    while (hours := session(day)) is None:
        day -= timedelta(days=1)
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
