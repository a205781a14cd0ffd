"""An event's slot, the moment for which its run reads prices and accounts, and whether the run is due."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from trader.model import BAR_LENGTH, NEW_YORK, YEARS, BrokerName, PriceSourceName
from trader.schedule import sessions
from trader.schedule.base import MAX_EVENT_DELAY_S, MAX_EVENT_LEAD_S, EventError

if TYPE_CHECKING:
    from trader.settings import Settings

DUE_WITHIN = timedelta(minutes=7)
"""The tolerance around DAILY_AT. The UTC schedule fires at two hours: one is right in summer, the other in winter."""


def slot_and_now(
    event: object, settings: "Settings", clock: datetime, last_bar: Callable[[], datetime]
) -> tuple[datetime, datetime]:
    """Return the slot, cut to the minute, and the moment for which prices and accounts are read.

    With the embedded broker the moment is the slot itself, past or present, because nothing outside depends on the
    time. If the event has no time, the slot is the clock's time or, if a price file is the only source, the end of that
    file; `last_bar` is called only in this case. With a real broker the moment is the clock's time. Raises EventError
    if the event's time is invalid or, with a real broker, is not the present.
    """
    time = event_time(event)
    if settings.broker is BrokerName.EMBEDDED:
        if time is None and settings.price_sources == (PriceSourceName.FILE,):
            time = slot_of(last_bar(), settings.bar_interval).astimezone(UTC)
        slot = (time or clock).replace(second=0, microsecond=0)
        return slot, slot
    if time is not None and not -MAX_EVENT_LEAD_S <= (clock - time).total_seconds() <= MAX_EVENT_DELAY_S:
        raise EventError(
            f"the event's time {time.isoformat()} is not now ({clock.isoformat()}); a real account trades in the "
            "present only: send the scheduled event on time or, for a test, an event without a time"
        )
    return (time or clock).replace(second=0, microsecond=0), clock


def event_time(event: object) -> datetime | None:
    """Return the time of a scheduled event; None if it has none, as in a manual test. Raises EventError if invalid."""
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
        raise EventError(f"the event's time {text!r} is not in the years {YEARS[0]} to {YEARS[-1]}")
    return time.astimezone(UTC)


def is_due(event: object, settings: "Settings") -> bool:
    """Check whether a scheduled event is due at DAILY_AT; a manual event without a time always is."""
    when = event_time(event)
    return not settings.daily_at or when is None or is_near(when, time.fromisoformat(settings.daily_at))


def is_near(when: datetime, wanted: time) -> bool:
    """Check whether it is about this time of the day in New York."""
    here = when.astimezone(NEW_YORK)
    return abs(here - datetime.combine(here, wanted, NEW_YORK)) <= DUE_WITHIN


def slot_of(bar: datetime, bar_interval: str) -> datetime:
    """Return the time at which the bot runs on a bar: the day's last slot, or a shorter bar's last minute.

    The bar's close is taken as the price at that time, in a run on a price file as in a backtest.
    """
    day = bar.astimezone(NEW_YORK).date()
    if bar_interval == "1d":
        return sessions.last_slot_of(day)
    end = bar + BAR_LENGTH[bar_interval]
    hours = sessions.session(day)
    return (min(end, hours[1]) if hours and bar < hours[1] else end) - timedelta(minutes=1)
