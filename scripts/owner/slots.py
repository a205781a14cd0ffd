"""The slots that a strategy should have run: its rhythm, what it missed, and what became known later. Pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache

import numpy as np

from scripts.cloud.rhythms import describe
from scripts.owner.bars import Bars
from scripts.owner.tape import Step, came_to_nothing, is_of_a_slot
from trader.model import BAR_LENGTH, NEW_YORK
from trader.schedule import sessions
from trader.schedule.slot import slot_of
from trader.settings import Settings

MIN_SHARE = 0.5
"""The share of the days with runs on which a time must have had one to be a time of the rhythm."""

AT_CLOSE = time(15, 45)
"""The time of a run on daily bars, which comes earlier on days that end early; see sessions.last_slot_of."""

MIN_CHANGE_USD, MIN_CHANGE_IF_REWRITTEN_USD = 0.005, 0.0125
"""The smallest change of a close: half a tick; a source that rewrites its past rounds it anew."""

LOOK_AHEAD = 60
"""In how many later records a bar's last close is looked for."""

NO_RUN = "no run"

UNREAD = "its record cannot be read, or is of another version"

type Fit = Callable[[Step], Step]
"""A function that returns a step with forecasts fitted to its bars, or with why there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """The times in New York at which a strategy runs, by the zone's offset: a schedule in UTC moves with the season."""

    times: Mapping[timedelta | None, Sequence[time]]
    daily_at: str = ""

    @property
    def is_daily(self) -> bool:
        """True if there is one slot a day."""
        return bool(self.times) and all(len(each) == 1 for each in self.times.values())

    def describe(self) -> str:
        """Say how often the strategy runs, and how that is known."""
        whence = f"DAILY_AT={self.daily_at}" if self.daily_at else "its records"
        found = [tuple(f"{each:%H:%M}" for each in times) for times in self.times.values()]
        if not any(found):
            return "at no fixed times, by its records; so of the missed slots, only those with a claim are known"
        return f"{describe(max(found, key=len))}, by {whence}"

    def list_slots(self, first: datetime, last: datetime) -> list[datetime]:
        """Return the slots between two times."""
        slots = []
        for day in sessions.list_days(first.astimezone(NEW_YORK).date(), last.astimezone(NEW_YORK).date()):
            noon = datetime.combine(day, time(12), NEW_YORK)
            for each in self.times.get(noon.utcoffset(), ()):
                is_at_close = each == AT_CLOSE and self.is_daily and not self.daily_at
                slot = sessions.last_slot_of(day) if is_at_close else datetime.combine(day, each, NEW_YORK)
                if sessions.is_open(slot) and first < slot < last:
                    slots.append(slot.astimezone(UTC))
        return slots


def find_rhythm(steps: Sequence[Step]) -> Rhythm:
    """Return the rhythm: DAILY_AT of the last run if it has one, otherwise the times that recur on most days."""
    runs = [each for each in steps if is_of_a_slot(each)]
    if not runs:
        return Rhythm(times={})
    daily_at = str(runs[-1].settings.get("daily_at", ""))
    by_offset: defaultdict[timedelta | None, list[datetime]] = defaultdict(list)
    for each in runs:
        local = each.slot.astimezone(NEW_YORK)
        if sessions.is_open(local):
            by_offset[local.utcoffset()].append(local)
    times = {}
    for offset, locals_ in by_offset.items():
        days = len({each.date() for each in locals_})
        counts = Counter(AT_CLOSE if each == sessions.last_slot_of(each.date()) else each.time() for each in locals_)
        usual = sorted(each for each, count in counts.items() if count >= MIN_SHARE * days)
        times[offset] = [time.fromisoformat(daily_at)] if daily_at else usual
    return Rhythm(times=times, daily_at=daily_at)


# --- missed slots ----------------------------------------------------------------------------------------------------


def fill_in(
    steps: Sequence[Step], without: Sequence[datetime], rhythm: Rhythm, unread: Sequence[datetime] = ()
) -> list[Step]:
    """Return the steps from the first look at the account to the last, with the missed slots among them.

    `without` are claimed slots without a record, and `unread` those whose records say nothing for the test. A missed
    slot has the closes that a later record has of its time, unless they do not reach.
    """
    seen = [each for each in steps if each.is_seen]
    if not seen:
        return []
    first, last = seen[0], seen[-1]
    there = {each.slot for each in steps}
    reasons = dict.fromkeys(rhythm.list_slots(first.slot, last.slot), NO_RUN)
    reasons |= dict.fromkeys(without, "claimed, but without a record")
    reasons |= dict.fromkeys(filter(sessions.is_open, unread), UNREAD)
    days = {each.slot.astimezone(NEW_YORK).date() for each in steps if is_of_a_slot(each)} if rhythm.is_daily else set()
    missed = {
        slot: why
        for slot, why in reasons.items()
        if slot not in there and (why != NO_RUN or slot.astimezone(NEW_YORK).date() not in days)
    }
    missed |= {each.slot: why for each in steps if (why := came_to_nothing(each)) and not each.is_seen}
    whole = [
        replace(each, missed=came_to_nothing(each)) if each is not last else each for each in steps if each.is_seen
    ]
    whole += [_rebuild(slot, why, seen) for slot, why in missed.items() if first.slot < slot < last.slot]
    return sorted(whole, key=lambda each: each.slot)


def _rebuild(slot: datetime, why: str, seen: Sequence[Step]) -> Step:
    """Return a slot that nobody ran, with the closes of the next record up to it."""
    before = next(each for each in reversed(seen) if each.slot < slot)
    after = next(each for each in seen if each.slot > slot)
    step = Step(
        slot=slot,
        now=slot,
        settings=before.settings,
        chosen=after.chosen,
        stopped_at=before.stopped_at,
        rule=before.rule,
        missed=why,
    )
    if before.ohlv or after.ohlv:
        return replace(step, unknown="its rule needs more than closes")
    interval = str(before.settings.get("bar_interval", Settings.bar_interval))
    bars = {
        symbol: cut
        for symbol, each in after.bars.items()
        if (cut := _cut(each, before.bars.get(symbol), slot, interval))
    }
    if bars:
        return replace(step, bars=bars)
    begins = min((int(each.times[0]) for each in after.bars.values()), default=None)
    is_before = begins is not None and slot.timestamp() < begins
    return replace(
        step,
        unknown="the closes of the next record begin later" if is_before else "no record has the price at that time",
    )


def _cut(bars: Bars, before: Bars | None, slot: datetime, interval: str) -> Bars | None:
    """Return the closes that a run at a slot would have seen; None if the price of that time is not among them."""
    count = int(np.searchsorted(bars.times, slot.timestamp(), "right"))
    while count and slot < slot_of(_moment(bars.times[count - 1]), interval):
        count -= 1
    if not count or not _is_current(_moment(bars.times[count - 1]), slot, interval):
        return None
    cut = Bars(bars.times[:count], bars.usd[:count])
    older = before.times < cut.times[0] if before else np.zeros(0, np.bool_)
    if before is None or not older.any() or cut.times[0] not in before.times:
        return cut
    factor = cut.usd[0] / before.usd[int(np.searchsorted(before.times, cut.times[0]))]
    return Bars(
        np.concatenate([before.times[older], cut.times])[-len(before.times) :],
        np.concatenate([before.usd[older] * factor, cut.usd])[-len(before.times) :],
    )


def _is_current(bar: datetime, slot: datetime, interval: str) -> bool:
    """Check whether the close of a bar is the price at a slot."""
    if interval == "1d":
        return bar.astimezone(NEW_YORK).date() == slot.astimezone(NEW_YORK).date()
    return slot < slot_of(bar, interval) + BAR_LENGTH[interval]


# --- prices that came to be known ------------------------------------------------------------------------------------


def find_later_prices(steps: Sequence[Step], rhythm: Rhythm) -> dict[int, Mapping[str, float]]:
    """Return, by step, the closes of its last bars as later records have them, where they differ from what was seen.

    They are what a backtest decides on: the last close of a bar that was over, or is the day's only one.
    """
    found: dict[int, Mapping[str, float]] = {}
    for number, step in enumerate(steps):
        if step.missed or step.decided is None:
            continue
        interval = str(step.settings.get("bar_interval", Settings.bar_interval))
        if interval == "1d" and not rhythm.is_daily:
            continue
        later = {
            symbol: price_usd
            for symbol, bars in step.bars.items()
            if step.slot >= _find_slot(int(bars.times[-1]), interval)
            and (price_usd := _find_later(symbol, bars, steps[number + 1 : number + 1 + LOOK_AHEAD])) is not None
        }
        if later:
            found[number] = later
    return found


def _find_later(symbol: str, bars: Bars, later: Sequence[Step]) -> float | None:
    """Return the close of the last bar as the first record with a newer one has it; None if it is the same."""
    at = bars.times[-1]
    for step in later:
        other = step.bars.get(symbol)
        if step.missed or other is None or other.times[-1] <= at:
            continue
        row = int(other.times.searchsorted(at))
        if other.times[row] != at or row == 0 or len(bars.times) < 2 or other.times[row - 1] != bars.times[-2]:
            return None
        ratio = bars.usd[-2] / other.usd[row - 1]
        price_usd = float(other.usd[row] * ratio)
        least_usd = MIN_CHANGE_USD if ratio == 1 else MIN_CHANGE_IF_REWRITTEN_USD
        return price_usd if abs(price_usd - bars.last_usd) >= least_usd else None
    return None


@lru_cache(maxsize=64)
def _find_slot(bar_s: int, interval: str) -> datetime:
    """Return the slot of a bar; the bars of a record mostly begin at the same time."""
    return slot_of(_moment(bar_s), interval)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
