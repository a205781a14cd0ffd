"""Slots. A slot is the moment that a run is for; at most one run of a strategy trades in it."""

from datetime import UTC, datetime

MAX_EVENT_DELAY_S = 300.0
"""The longest delay of an event. A later event is stale, and its run could overlap with the next slot's."""

MAX_EVENT_LEAD_S = 60.0
"""The furthest that an event may lie ahead. Clocks differ a little; an event further ahead is a mistake."""


class EventError(ValueError):
    """The event's time is invalid, or is not the present."""


def present() -> datetime:
    """Return the current time by this machine's clock."""
    return datetime.now(UTC)


def slot_id(slot: datetime) -> str:
    """Format a slot for order ids and for the journal, as in 20221228T2045Z."""
    return slot.astimezone(UTC).strftime("%Y%m%dT%H%MZ")


def parse_slot_id(text: str) -> datetime | None:
    """Return the slot of a slot id; None if the text is not one."""
    try:
        slot = datetime.fromisoformat(text)
    except ValueError:
        return None
    return slot if slot_id(slot) == text else None  # other ways to write a time are none to write a slot
