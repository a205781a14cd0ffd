"""The slot of an event: when a run is due, and as of which moment it looks at prices and accounts."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta

from trader.model import BAR_LENGTH, NEW_YORK, YEARS, BrokerName, PriceSourceName
from trader.schedule import sessions
from trader.schedule.base import MAX_EVENT_DELAY_S, MAX_EVENT_LEAD_S, EventError
from trader.settings import Settings

DUE_WITHIN = timedelta(minutes=7)
"""A schedule in UTC for one time in New York fires at two hours, and one of them is meant; no other slot is near it."""


def slot_and_now(
    event: object, settings: Settings, clock: datetime, last_bar: Callable[[], datetime]
) -> tuple[datetime, datetime]:
    """Return the slot, cut to the minute, and the moment as of which prices and accounts are looked at.

    With the embedded broker nothing outside depends on the hour, so the slot is the present, whenever it was; without
    an event's time it is the clock's, or, if a price file is the only source, the end of that file, whose `last_bar` is
    asked for then. With a real broker the present is the clock's. Raises EventError for an event of another time.
    """
    time = event_time(event)
    if settings.broker is BrokerName.EMBEDDED:
        if time is None and settings.price_sources == (PriceSourceName.FILE,):
            time = end_of_bar(last_bar(), settings.bar_interval)
        slot = (time or clock).replace(second=0, microsecond=0)
        return slot, slot
    if time is not None and not -MAX_EVENT_LEAD_S <= (clock - time).total_seconds() <= MAX_EVENT_DELAY_S:
        raise EventError(
            f"the event's time {time.isoformat()} is not now ({clock.isoformat()}); a real account trades on the "
            "present only: send the scheduled event in time, or for a test an event without time"
        )
    return (time or clock).replace(second=0, microsecond=0), clock


def event_time(event: object) -> datetime | None:
    """Return the time in a scheduled event; None if it has none, as in a manual test."""
    text = event.get("time") if isinstance(event, Mapping) else None
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise EventError(f"the event's time {text!r:.100} is not ISO 8601 such as 2026-11-23T15:00:00Z") from None
    if time.tzinfo is None:
        raise EventError(f"the event's time {text!r} has no zone; write it like 2026-11-23T15:00:00Z")
    if time.year not in YEARS:
        raise EventError(f"the event's time {text!r} is of no year from {YEARS[0]} to {YEARS[-1]}")
    return time.astimezone(UTC)


def is_due(event: object, settings: Settings) -> bool:
    """Check whether a scheduled event is for the hour of DAILY_AT; a manual one without a time always is."""
    when = event_time(event)
    if not settings.daily_at or when is None:
        return True
    here = when.astimezone(NEW_YORK)
    return abs(here - datetime.combine(here, time.fromisoformat(settings.daily_at), NEW_YORK)) <= DUE_WITHIN


def end_of_bar(bar: datetime, bar_interval: str) -> datetime:
    """Return when a bar that starts at `bar` was news: a daily one in the last slot of its session."""
    if bar_interval == "1d":
        return sessions.last_slot_of(bar.astimezone(NEW_YORK).date()).astimezone(UTC)
    return bar + BAR_LENGTH[bar_interval]
