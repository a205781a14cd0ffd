"""When a strategy should have run, and what is known of the slots that it missed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from scripts.owner.bars import Bars
from scripts.owner.slots import fill_in, find_later_prices, find_rhythm
from scripts.owner.tape import Step
from tests import builders
from trader.model import NEW_YORK, Code

DAILY: Mapping[str, object] = {"bar_interval": "1d"}
SHORT: Mapping[str, object] = {"bar_interval": "15m"}


def new_york(day: int, hour: int = 15, minute: int = 45) -> datetime:
    """Return a time in November 2026, whose 9th is a Monday."""
    return datetime(2026, 11, day, hour, minute, tzinfo=NEW_YORK)


def days(last: int, *usd: float) -> Bars:
    """Return daily closes up to a day of November, all of one week."""
    starts = [new_york(last - back, 0, 0).timestamp() for back in reversed(range(len(usd)))]
    return Bars(np.array(starts, np.int64), np.array(usd, float))


def quarters(last: datetime, *usd: float) -> Bars:
    """Return the closes of bars of 15 minutes, the last of which starts at `last`."""
    starts = [(last - back * timedelta(minutes=15)).timestamp() for back in reversed(range(len(usd)))]
    return Bars(np.array(starts, np.int64), np.array(usd, float))


def step(slot: datetime, bars: Bars | None = None, settings: Mapping[str, object] = DAILY, **more: object) -> Step:
    slot = slot.astimezone(UTC)
    known = {"A": bars} if bars else {}
    account = None if "status" in more else builders.account()
    decided = None if "status" in more else ()
    return Step(slot=slot, now=slot, settings=settings, bars=known, account=account, decided=decided, **more)  # type: ignore[arg-type]  # the fields of a Step


def list_missed(steps: Sequence[Step], without: Sequence[datetime] = ()) -> list[tuple[datetime, str, str]]:
    found = fill_in(steps, without, find_rhythm(steps))
    return [(each.slot.astimezone(NEW_YORK), each.missed, each.unknown) for each in found if each.missed]


def test_a_day_without_a_run_is_missed_and_decided_on_the_close_that_the_next_record_has() -> None:
    steps = [step(new_york(9), days(9, 1.0, 2.0)), step(new_york(11), days(11, 2.0, 3.0, 4.0))]
    _, missed, _ = fill_in(steps, (), find_rhythm(steps))
    assert (missed.slot, missed.missed, missed.unknown) == (new_york(10), "no run", "")
    assert missed.bars["A"].usd.tolist() == [2.0, 3.0]


def test_the_closes_before_the_next_record_come_from_the_last_one_in_its_unit() -> None:
    steps = [step(new_york(9), days(9, 10.0, 20.0, 30.0)), step(new_york(11), days(11, 15.0, 16.0, 17.0))]
    _, missed, _ = fill_in(steps, (), find_rhythm(steps))
    assert missed.bars["A"].usd.tolist() == [10.0, 15.0, 16.0]


def test_the_rhythm_of_several_slots_a_day_is_that_of_most_days() -> None:
    slots = [new_york(day, hour, 0) for day in (9, 10, 11) for hour in (11, 13, 15)]
    steps = [step(each, days(each.day, 1.0, 2.0)) for each in slots if each != new_york(10, 13, 0)]
    steps.insert(4, step(new_york(10, 12, 17), days(10, 1.0, 2.0)))
    assert find_rhythm(steps).describe() == "3 times a day, from 11:00 to 15:00, by its records"
    (missed,) = list_missed(sorted(steps, key=lambda each: each.slot))
    assert missed == (new_york(10, 13, 0), "no run", "no record has the price at that time")


def test_a_short_bar_that_was_over_is_the_price_at_a_missed_slot() -> None:
    slots = [new_york(9, 10, 0), new_york(9, 10, 30)]
    steps = [step(each, quarters(each, 1.0, 2.0, 3.0), SHORT) for each in slots]
    found = fill_in(steps, [new_york(9, 10, 15).astimezone(UTC)], find_rhythm(steps))
    assert found[1].missed == "claimed, but without a record"
    assert found[1].bars["A"].usd.tolist()[-1] == 1.0  # of the bar from 10:00 to 10:15


def test_a_gap_that_the_closes_do_not_reach_over_is_named() -> None:
    steps = [step(new_york(9), days(9, 1.0, 2.0)), step(new_york(20), days(20, 1.0, 2.0))]
    unknown = {slot.day: unknown for slot, _, unknown in list_missed(steps)}
    assert unknown == dict.fromkeys((10, 11, 12, 13, 16, 17, 18), "the closes of the next record begin later") | {
        19: ""
    }


@pytest.mark.parametrize(("status", "is_missed"), [(Code.HALTED, True), (Code.MARKET_CLOSED, False)])
def test_a_halt_is_a_missed_slot_and_a_closed_market_none(status: Code, is_missed: bool) -> None:
    steps = [
        step(new_york(9), days(9, 1.0, 2.0)),
        step(new_york(10), status=status),
        step(new_york(11), days(11, 1.0, 2.0, 3.0)),
    ]
    reasons = [why for _, why, _ in list_missed(steps)]
    assert reasons == ([str(status)] if is_missed else ["no run"][:0])


def test_daily_at_is_the_rhythm_whatever_the_records_say() -> None:
    settings = {**DAILY, "daily_at": "15:45"}
    steps = [step(new_york(day), days(day, 1.0, 2.0), settings) for day in (9, 11)]
    assert find_rhythm(steps).describe() == "once a day at 15:45, by DAILY_AT=15:45"


def test_runs_at_changing_times_have_no_rhythm() -> None:
    steps = [step(new_york(day, 10, day), days(day, 1.0, 2.0)) for day in (9, 10, 12)]
    assert find_rhythm(steps).describe().startswith("at no fixed times, by its records")
    assert list_missed(steps) == []


def test_the_close_that_a_later_record_has_is_the_price_of_the_test() -> None:
    steps = [step(new_york(9), days(9, 1.0, 2.0)), step(new_york(10), days(10, 1.0, 2.5, 3.0))]
    assert find_later_prices(steps, find_rhythm(steps)) == {0: {"A": 2.5}}


def test_a_rewritten_past_is_no_other_price() -> None:
    steps = [step(new_york(9), days(9, 10.0, 20.0)), step(new_york(10), days(10, 5.0, 10.0, 11.0))]
    assert find_later_prices(steps, find_rhythm(steps)) == {}


def test_the_last_slot_of_several_a_day_has_no_close_of_its_own() -> None:
    slots = [new_york(day, hour, 45) for day in (9, 10) for hour in (14, 15)]
    steps = [step(each, days(each.day, 1.0, float(each.day + each.hour))) for each in slots]
    assert find_later_prices(steps, find_rhythm(steps)) == {}
