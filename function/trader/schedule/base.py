"""What a slot is: the moment a run is for. At most one run of a strategy trades in a slot."""

from datetime import UTC, datetime

MAX_EVENT_DELAY_S = 300.0
"""An event that comes later than this is stale, and its run could overlap with the next slot's."""

MAX_EVENT_LEAD_S = 60.0
"""Clocks differ a little; an event from further ahead is a mistake."""


class EventError(ValueError):
    """The event's time is not a time, or not the present."""


def present() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


def slot_id(slot: datetime) -> str:
    """Format a slot as it stands in order ids and in the journal: 20221228T2045Z."""
    return slot.astimezone(UTC).strftime("%Y%m%dT%H%MZ")


def parse_slot_id(text: str) -> datetime | None:
    """Return the slot that an id stands for; None if it is not a slot's id."""
    try:
        slot = datetime.strptime(text, "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return slot if slot_id(slot) == text else None  # strptime takes fewer digits as well
