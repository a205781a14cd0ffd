from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.builders import SLOT, price_csv, settings
from trader.model import NEW_YORK
from trader.schedule import sessions
from trader.schedule.base import EventError, parse_slot_id, slot_id
from trader.schedule.slot import is_due, slot_and_now
from trader.settings import Settings
from trader.wiring import last_bar_of_file

NOW = datetime(2026, 11, 23, 15, 0, 20, 123, tzinfo=UTC)
ALPACA = settings(BROKER="alpaca", ALPACAUSER="id", ALPACAPW="pw")
YAHOO = settings(PRICE_SOURCES="yahoo,file")


def slot(event: object, of: Settings = ALPACA) -> datetime:
    return slot_and_now(event, of, NOW, lambda: last_bar_of_file(of, datetime.now(UTC)))[0]


def test_the_slot_is_the_events_time() -> None:
    assert slot({"time": "2026-11-23T15:00:00Z", "source": "aws.events"}) == NOW.replace(second=0, microsecond=0)


def test_a_slot_comes_back_from_its_id() -> None:
    assert parse_slot_id(slot_id(SLOT)) == SLOT


@pytest.mark.parametrize(
    "text", ["", "x", "2022128T2045Z", "20221228T2460Z", "20221228T2045Z-dry-run", "20221228T2045", "2022-12-28T20:45Z"]
)
def test_text_that_is_not_a_slot_id_is_not_parsed(text: str) -> None:
    assert parse_slot_id(text) is None


def test_an_event_in_another_zone_is_the_same_slot() -> None:
    assert slot({"time": "2026-11-23T10:00:00-05:00"}) == slot({"time": "2026-11-23T15:00:00Z"})


@pytest.mark.parametrize("event", [None, {}, {"key1": "value1"}, [], "test", {"time": None}])
def test_without_a_time_the_slot_is_now_cut_to_the_minute(event: object) -> None:
    assert slot(event) == datetime(2026, 11, 23, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize("time", ["soon", "", 1763909999, "2026-13-01T00:00:00Z", ["2026-11-23T15:00:00Z"]])
def test_a_malformed_time_is_named(time: object) -> None:
    with pytest.raises(EventError, match="is not ISO 8601"):
        slot({"time": time})


def test_a_time_without_a_zone_is_not_guessed_at() -> None:
    with pytest.raises(EventError, match="has no zone"):
        slot({"time": "2026-11-23T15:00:00"})


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00Z", "2026-11-23T14:55:00Z", "2026-11-23T15:02:00Z"])
def test_a_real_account_refuses_an_event_for_another_time(time: str) -> None:
    with pytest.raises(EventError, match="a real account trades in the present only"):
        slot({"time": time})


def test_a_real_account_sees_the_present_not_the_slot() -> None:
    assert slot_and_now({"time": "2026-11-23T14:57:00Z"}, ALPACA, NOW, lambda: NOW)[1] == NOW


def test_the_embedded_account_takes_the_slot_as_the_present() -> None:
    assert (
        slot_and_now({"time": "2020-01-02T15:00:00Z"}, YAHOO, NOW, lambda: NOW)
        == (datetime(2020, 1, 2, 15, 0, tzinfo=UTC),) * 2
    )


def test_with_a_price_file_alone_the_slot_is_the_files_last() -> None:
    assert slot(None, settings()) == SLOT


def test_with_another_source_beside_the_file_the_slot_is_now() -> None:
    assert slot(None, YAHOO) == NOW.replace(second=0, microsecond=0)


def test_a_half_day_at_the_end_of_a_file_has_an_earlier_slot(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(price_csv({"AAPL": [1, 2]}, last=datetime(2022, 11, 25, tzinfo=UTC).date()))
    assert slot(None, settings(PRICE_FILE=file)) == datetime(2022, 11, 25, 17, 45, tzinfo=UTC)


def test_the_slot_of_an_intraday_file_is_the_last_minute_of_its_last_bar(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("timestamp,AAPL\n2022-12-28T15:15:00-05:00,1\n2022-12-28T15:30:00-05:00,2\n")
    assert slot(None, settings(PRICE_FILE=file, BAR_INTERVAL="15m")) == SLOT - timedelta(minutes=1)


def test_the_slot_of_a_file_that_ends_with_a_session_is_still_in_it(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("timestamp,AAPL\n2022-12-28T15:30:00-05:00,1\n2022-12-28T15:45:00-05:00,2\n")
    assert slot(None, settings(PRICE_FILE=file, BAR_INTERVAL="15m")) == SLOT + timedelta(minutes=14)


@pytest.mark.parametrize(
    ("time", "due"),
    [
        ("2026-07-01T19:00:00Z", True),  # 15:00 in summer
        ("2026-07-01T20:00:00Z", False),
        ("2026-12-01T19:00:00Z", False),
        ("2026-12-01T20:00:00Z", True),  # 15:00 in winter
        ("2026-03-06T20:00:00Z", True),  # the last session before the clocks change, and the first after it
        ("2026-03-09T19:00:00Z", True),
        ("2026-10-30T19:00:00Z", True),
        ("2026-11-02T20:00:00Z", True),
        ("2026-12-01T20:04:00Z", True),  # a little late
        ("2026-12-01T20:15:00Z", False),  # a later run of a 15-minute schedule
    ],
)
def test_once_a_day_means_one_time_in_new_york_all_year(time: str, due: bool) -> None:
    assert is_due({"time": time}, settings(DAILY_AT="15:00")) is due


def test_an_event_without_a_time_is_always_due() -> None:
    assert is_due({}, settings(DAILY_AT="15:00"))


def test_without_a_daily_time_every_slot_is_due() -> None:
    assert is_due({"time": "2026-12-01T14:30:00Z"}, settings())


def test_a_slot_has_the_same_id_in_every_zone() -> None:
    assert slot_id(SLOT.astimezone(NEW_YORK)) == slot_id(SLOT) == "20221228T2045Z"


def test_slots_a_minute_apart_have_different_ids() -> None:
    assert slot_id(SLOT) != slot_id(SLOT + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        ("2022-12-25T12:00-05:00", "2022-12-23T15:59-05:00"),  # a Sunday
        ("2022-12-27T09:00-05:00", "2022-12-23T15:59-05:00"),  # before the opening, after the Christmas holiday
        ("2022-12-28T15:50-05:00", "2022-12-27T15:59-05:00"),  # the session is still open
        ("2022-12-28T16:00-05:00", "2022-12-28T15:59-05:00"),
        ("2022-11-25T20:00-05:00", "2022-11-25T12:59-05:00"),  # a half day
    ],
)
def test_the_last_minute_is_that_of_the_last_session_that_is_over(now: str, slot: str) -> None:
    assert sessions.last_minute_before(datetime.fromisoformat(now)) == datetime.fromisoformat(slot)
