"""The rhythm of a strategy: as it is deployed, as it was tested, and what a plan and a report say of the two."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.cloud import rhythms
from scripts.cloud.cron import Schedule, once_a_day, read_default
from tests.builders import settings
from trader.model import Json
from trader.settings import Settings

EVERY_QUARTER = rhythms.slots_of_day("15m")


def times(expression: str, daily_at: str = "") -> tuple[str, ...]:
    return rhythms.find_times(Schedule(expression), daily_at)


def test_terraforms_default_runs_every_quarter_of_an_hour_from_the_opening() -> None:
    assert times(read_default()) == ("09:30", *EVERY_QUARTER)


def test_once_a_day_is_one_time_in_summer_and_in_winter() -> None:
    assert rhythms.find_times(once_a_day("15:00"), "15:00") == ("15:00",)


def test_an_hour_of_utc_is_another_time_in_summer() -> None:
    assert times("cron(0 15 ? * MON-FRI *)") == ()


def test_a_schedule_of_some_days_has_no_times_of_every_session() -> None:
    assert times("cron(0/15 13-21 ? * MON *)") == ()


@pytest.mark.parametrize(
    ("tested", "deployed", "is_same"),
    [
        (EVERY_QUARTER, ("09:30", *EVERY_QUARTER), True),  # at the opening there is no price to act on
        (("15:45",), ("15:45",), True),
        (("15:45",), EVERY_QUARTER, False),
        (("15:45",), ("15:00",), False),
        (rhythms.slots_of_day("1h"), EVERY_QUARTER, False),
        (EVERY_QUARTER, (), False),
        ((), (), False),
    ],
)
def test_two_rhythms_are_the_same_if_they_decide_at_the_same_times(
    tested: tuple[str, ...], deployed: tuple[str, ...], is_same: bool
) -> None:
    assert rhythms.are_same(tested, deployed) == is_same


@pytest.mark.parametrize(
    ("times_of_day", "words"),
    [
        (("09:30", *EVERY_QUARTER), "every 15 minutes of the trading day"),
        (rhythms.slots_of_day("1h"), "every hour of the trading day"),
        (("15:00",), "once a day at 15:00"),
        (("10:00", "15:00"), "2 times a day, from 10:00 to 15:00"),
        ((), "at times that differ from session to session"),
    ],
)
def test_a_rhythm_is_described(times_of_day: tuple[str, ...], words: str) -> None:
    assert rhythms.describe(times_of_day) == words


def test_slots_are_the_ends_of_bars_before_the_close() -> None:
    assert rhythms.slots_of_day("1h") == ("10:30", "11:30", "12:30", "13:30", "14:30", "15:30")


def compare(decide_every: str, chosen: Settings) -> Json:
    found = rhythms.compare_with_default(decide_every, chosen)
    assert found, "the tests run in a clone"
    return found


# --- a backtest ----------------------------------------------------------------------------------------------------


def test_a_backtest_once_a_day_is_not_what_is_deployed_by_default() -> None:
    found = compare("", settings())
    assert (found["tested"], found["is_same"]) == ("once a day at the close", False)
    assert found["deployed"] == "every 15 minutes of the trading day"
    assert found["to_test"] == "DECIDE_EVERY=15m"


def test_a_backtest_every_quarter_of_an_hour_is() -> None:
    assert compare("15m", settings())["is_same"]


def test_a_backtest_at_one_slot_is_what_daily_at_deploys() -> None:
    found = compare("15m", settings(DAILY_AT="15:00"))
    assert (found["tested"], found["is_same"]) == ("once a day at 15:00", True)


def test_an_installed_package_deploys_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rhythms, "VARIABLES", tmp_path / "variables.tf")
    assert rhythms.compare_with_default("15m", settings()) is None


# --- a plan --------------------------------------------------------------------------------------------------------


def strategy(schedule: str = "", **environment: str) -> dict[str, Any]:
    own = {"MODE": "paper", "BROKER": "alpaca", "STRATEGY": "trend", "PRICE_SOURCES": "yahoo,alpaca"}
    return {"schedule": schedule or read_default(), "environment": {**own, "JOURNAL": "s3://b", **environment}}


def report_of(decide_every: str, chosen: Settings) -> dict[str, Any]:
    """Return what backtest.json says of a backtest."""
    schedule = compare(decide_every, chosen)
    return {"schedule": schedule, "settings": json.loads(json.dumps(chosen.public()))}


def test_a_strategy_that_was_tested_as_it_runs_is_named_so() -> None:
    figures = report_of("15m", settings(UNIVERSE_SIZE=5))
    words = rhythms.describe_strategy(strategy(UNIVERSE_SIZE="5"), figures)
    assert words == "runs every 15 minutes of the trading day, as tested in backtest.json"


def test_a_strategy_that_was_tested_at_another_rhythm_says_so_and_how_to_test_it() -> None:
    words = rhythms.describe_strategy(strategy(), report_of("", settings()))
    assert "but backtest.json tested these settings once a day at the close" in words
    assert words.endswith("To test it: make backtest DECIDE_EVERY=15m PRICE_SOURCES=yahoo")


def test_a_backtest_of_other_settings_is_none() -> None:
    words = rhythms.describe_strategy(strategy(SIGNAL="interval"), report_of("15m", settings()))
    assert "backtest.json has no test of these settings" in words
    assert words.endswith("make backtest DECIDE_EVERY=15m PRICE_SOURCES=yahoo SIGNAL=interval")


def test_a_daily_strategy_is_tested_at_its_time() -> None:
    its = strategy(once_a_day("15:00").expression, DAILY_AT="15:00")
    assert rhythms.describe_strategy(its, report_of("15m", settings(DAILY_AT="15:00"))).endswith(
        "as tested in backtest.json"
    )
    assert "DECIDE_EVERY=15m DAILY_AT=15:00" in rhythms.describe_strategy(its, {})


def test_a_daily_strategy_at_the_last_slot_is_what_a_backtest_at_the_close_tests() -> None:
    its = strategy(once_a_day("15:45").expression, DAILY_AT="15:45")
    assert rhythms.describe_strategy(its, report_of("", settings())).endswith("as tested in backtest.json")


def test_a_schedule_that_no_backtest_has_is_named() -> None:
    assert "no DECIDE_EVERY has these times" in rhythms.describe_strategy(strategy("cron(0 15 ? * MON *)"), {})


def test_a_schedule_that_cannot_be_read_is_said_to_be_unknown() -> None:
    assert "L, W and # are not supported" in rhythms.describe_strategy(strategy("cron(0 15 L * ? *)"), {})


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schedule": null, "settings": []}'])
def test_a_report_that_says_nothing_is_no_test(text: str, tmp_path: Path) -> None:
    (tmp_path / "backtest.json").write_text(text)
    (words,) = rhythms.describe_strategies({"trend": strategy()}, tmp_path).values()
    assert "as tested" not in words


def test_without_a_report_it_is_not_tested(tmp_path: Path) -> None:
    assert "; not tested" in rhythms.describe_strategies({"trend": strategy()}, tmp_path)["trend"]


def test_the_command_that_tests_a_strategy_has_no_secret_and_nothing_that_changes_no_decision() -> None:
    environment = {
        "SIGNAL": "interval",
        "ALPACAPW": "ssm:/prophet-trader/trend/alpacapw",
        "MESSAGE_URL": "ssm:/prophet-trader/trend/message_url",
        "MESSAGE_TOPIC": "arn:aws:sns:us-east-1:123456789012:prophet-trader-alarms",
        "SILENT_SESSIONS": "2",
    }
    words = rhythms.write_command(environment, {"DECIDE_EVERY": "15m"})
    assert words == "make backtest DECIDE_EVERY=15m PRICE_SOURCES=yahoo SIGNAL=interval"
