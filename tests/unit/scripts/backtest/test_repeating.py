"""The command on a report makes the same backtest again."""

import shlex
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from scripts.backtest.model import Options
from scripts.backtest.options import from_env
from scripts.backtest.repeating import describe_making, write_command
from tests.backtest_results import panel, result
from tests.builders import settings
from trader.forecasting.map import kernel


def with_days(options: Options) -> Options:
    """Return the options with the days of the backtest that command() is of."""
    return replace(options, start=date(2021, 1, 4), end=date(2021, 1, 6))


def command(options: Options) -> str:
    over = panel({"AAA": [10.0, 11.0, 12.0]})
    return write_command(replace(result(over), options=options))


def read(text: str) -> Options:
    """Return the options of a command."""
    goal, *given = shlex.split(text)[1:]
    assert goal == "backtest"
    return from_env(dict(each.split("=", 1) for each in given))


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"ENGINE": "map", "HISTORY_BARS": "120"},
        {"SIGNAL": "horizon"},
        {"SIGNAL": "horizon", "UNIVERSE_SIZE": "7", "STOP_LOSS_FRACTION": "0", "TAKE_PROFIT_FRACTION": "0"},
        {"UNIVERSE": "AAPL,BRK.B", "COMMISSION": "0.001", "SLIPPAGE": "0", "CASH": "5000", "REFIT_EVERY": "5"},
        {"STOP_LOSS_FRACTION": "0.06", "MAX_PRICE_DRIFT_FRACTION": "0.01"},
        {"PRICE_SOURCES": "yahoo", "BAR_INTERVAL": "1h", "BENCHMARK": "SPY", "CASH_RATE": "0.04"},
        {"DECIDE_EVERY": "15m", "INTRADAY_FILE": "bars.csv", "DAILY_AT": "15:00"},
        {"DECIDE_EVERY": "1h", "PRICE_SOURCES": "yahoo"},
        {"STRATEGY": "mine", "PRICE_FILE": "my prices/of 'me'.csv"},
    ],
)
def test_the_command_stands_for_the_same_options(env: dict[str, str]) -> None:
    options = from_env(env)
    assert read(command(options)) == with_days(options)


def test_the_command_is_as_short_as_it_can_be() -> None:
    assert command(from_env({"ENGINE": "map"})) == "make backtest ENGINE=map START=2021-01-04 END=2021-01-06"


def test_what_follows_from_another_setting_is_left_out() -> None:
    text = command(from_env({"STOP_LOSS_FRACTION": "0.06"}))
    assert text == "make backtest STOP_LOSS_FRACTION=0.06 START=2021-01-04 END=2021-01-06"


def test_a_file_of_rates_is_named_by_its_path(tmp_path: Path) -> None:
    rates = tmp_path / "rates.csv"
    rates.write_text("day,rate\n2020-01-01,1.5\n")
    options = from_env({"CASH_RATE": str(rates)})
    assert read(command(options)) == with_days(options)


def test_a_report_says_when_and_by_which_code_it_was_made() -> None:
    made = describe_making(result(panel({"AAA": [10.0]})), datetime(2026, 3, 1, 12, 30, 15, 999, UTC))
    assert made["at"] == "2026-03-01T12:30:15Z"
    assert len(made["code"]) == 12
    assert "engine" not in made


def test_a_report_by_the_map_engine_names_it_with_its_version() -> None:
    done = result(panel({"AAA": [10.0]}))
    done = replace(done, options=replace(done.options, settings=settings(ENGINE="map")))
    made = describe_making(done, datetime(2026, 3, 1, tzinfo=UTC))
    assert made["engine"] == kernel.name_engine()
