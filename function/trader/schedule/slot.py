"""Slots: the moment a run is for. At most one run of a strategy trades in a slot."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from trader.model import BAR_LENGTH, NEW_YORK, YEARS
from trader.prices.file import FilePrices
from trader.schedule import sessions
from trader.settings import Settings

MAX_EVENT_DELAY_S = 300.0
"""An event that is later is not for now any more, and its run could meet the one of the next slot."""

MAX_EVENT_LEAD_S = 60.0
"""Clocks differ a little; an event from further ahead is a mistake."""


DUE_WITHIN = timedelta(minutes=7)
"""A schedule in UTC for one time in New York fires at two hours, and one of them is meant; no other slot is near it."""


class EventError(ValueError):
    """The event's time is no time, or not now."""


def present() -> datetime:
    """The time it is, by this machine's clock."""
    return datetime.now(UTC)


def slot_id(slot: datetime) -> str:
    """A slot as it stands in order ids and in the journal: 20221228T2045Z."""
    return slot.astimezone(UTC).strftime("%Y%m%dT%H%MZ")


def slot_from(text: str) -> datetime | None:
    """The slot that such an id stands for; None if it stands for none."""
    try:
        slot = datetime.strptime(text, "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return slot if slot_id(slot) == text else None  # strptime takes fewer digits as well


def slot_and_now(event: object, settings: Settings, clock: datetime) -> tuple[datetime, datetime]:
    """The slot, cut to the minute, and the moment that prices and accounts are looked at as of. Raises EventError.

    With the embedded broker nothing outside depends on the hour, so the slot is the present, whenever it was; without
    an event's time it is the clock's, or the end of the price file if that is the only source. With a real broker the
    present is the clock, and an event for another time is refused.
    """
    time = event_time(event)
    if settings.broker == "embedded":
        if time is None and settings.price_sources == ("file",):
            time = file_end(settings)
        slot = (time or clock).replace(second=0, microsecond=0)
        return slot, slot
    if time is not None and not -MAX_EVENT_LEAD_S <= (clock - time).total_seconds() <= MAX_EVENT_DELAY_S:
        raise EventError(
            f"the event's time {time.isoformat()} is not now ({clock.isoformat()}); a real account trades on the "
            "present only: send the scheduled event in time, or for a test an event without time"
        )
    return (time or clock).replace(second=0, microsecond=0), clock


def event_time(event: object) -> datetime | None:
    """The time in a scheduled event; None if there is none, as in a manual test."""
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
    """Whether a scheduled event is for the hour of DAILY_AT; one without a time, sent by hand, always is."""
    when = event_time(event)
    if not settings.daily_at or when is None:
        return True
    here = when.astimezone(NEW_YORK)
    return abs(here - datetime.combine(here, time.fromisoformat(settings.daily_at), NEW_YORK)) <= DUE_WITHIN


def file_end(settings: Settings) -> datetime:
    """When the last bar of the price file was news."""
    last_bar = FilePrices(Path(settings.price_file), settings.bar_interval).last_bar()
    if settings.bar_interval == "1d":
        return sessions.last_slot_of(last_bar.astimezone(NEW_YORK).date()).astimezone(UTC)
    return last_bar + BAR_LENGTH[settings.bar_interval]
