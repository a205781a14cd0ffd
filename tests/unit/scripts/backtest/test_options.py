from datetime import date
from pathlib import Path

import pytest

from scripts.backtest.options import from_env
from trader.settings import SettingsError


def problems(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        from_env(variables)
    return str(caught.value)


def test_the_bots_settings_and_the_backtests_own_are_read_together() -> None:
    chosen = from_env(
        {
            "STRATEGY": "x",
            "START": "2021-01-04",
            "END": "2021-12-31",
            "CASH": "5000",
            "SLIPPAGE": "0.001",
            "OUT": "here",
        }
    )
    assert (chosen.settings.strategy, chosen.start, chosen.end) == ("x", date(2021, 1, 4), date(2021, 12, 31))
    assert (chosen.cash_usd, chosen.slippage_fraction, chosen.out) == (5000.0, 0.001, Path("here"))


def test_without_variables_it_refits_at_every_bar_as_the_bot_does() -> None:
    assert from_env({}).refit_every_bars == 1


def test_cash_is_the_bots_starting_cash_unless_given() -> None:
    assert from_env({"STARTING_CASH_USD": "777"}).cash_usd == 777.0


def test_the_rule_horizon_has_defaults_of_its_own() -> None:
    chosen = from_env({"SIGNAL": "horizon"})
    assert (chosen.settings.history_bars, chosen.settings.stop_loss_fraction) == (5000, 0.0)


def test_given_settings_override_those_of_the_rule_horizon() -> None:
    chosen = from_env({"SIGNAL": "horizon", "HISTORY_BARS": "250"})
    assert (chosen.settings.stop_loss_fraction, chosen.settings.history_bars) == (0.0, 250)


def test_all_problems_are_reported_at_once() -> None:
    said = problems(START="soon", COMMISSION="2", REFIT_EVERY="0", HISTORY_BARS="1")
    assert [name in said for name in ("START='soon'", "COMMISSION='2'", "REFIT_EVERY='0'", "HISTORY_BARS='1'")] == [
        True
    ] * 4


def test_an_impossible_date_is_refused_with_an_example() -> None:
    assert "START='2021-02-30': must be a day such as 2021-01-04" in problems(START="2021-02-30")


def test_start_after_end_is_refused() -> None:
    said = problems(START="2022-01-04", END="2022-01-03")
    assert "START=2022-01-04 is after END=2022-01-03: there is nothing to trade; swap them" in said


@pytest.mark.parametrize("sources", ["alpaca", "file,yahoo"])
def test_prices_come_from_a_file_or_from_yahoo(sources: str) -> None:
    said = problems(PRICE_SOURCES=sources, ALPACAUSER="id", ALPACAPW="secret")
    assert f"PRICE_SOURCES={sources}: a backtest takes all its prices from one source" in said


def test_another_broker_is_refused() -> None:
    assert "BROKER=alpaca: a backtest has its own broker and runs at every bar; leave BROKER unset" in problems(
        BROKER="alpaca"
    )


def test_daily_at_is_not_silently_ignored() -> None:
    assert "DAILY_AT=10:00: a backtest runs at every bar" in problems(DAILY_AT="10:00")


def test_a_dry_run_is_refused() -> None:
    assert "MODE=dry-run" in problems(MODE="dry-run")


def test_a_misspelled_option_is_not_silently_ignored() -> None:
    assert "REFIT_EVRY is not an option of a backtest; did you mean REFIT_EVERY?" in problems(REFIT_EVRY="5")


def test_a_reference_to_a_secret_is_not_fetched() -> None:
    with pytest.raises(SettingsError, match="ALPACAPW"):
        from_env({"ALPACAPW": "ssm:/somewhere"})


SLOTS = {"DECIDE_EVERY": "15m", "INTRADAY_FILE": "bars.csv"}


def test_slots_within_the_day_are_read() -> None:
    chosen = from_env({**SLOTS, "DAILY_AT": "15:00"})
    assert (chosen.decide_every, chosen.intraday_file, chosen.settings.daily_at) == ("15m", "bars.csv", "15:00")
    assert (chosen.bar_interval, from_env({}).bar_interval) == ("15m", "1d")


def test_yahoo_needs_no_file_for_slots() -> None:
    assert from_env({"DECIDE_EVERY": "15m", "PRICE_SOURCES": "yahoo"}).intraday_file == ""


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DECIDE_EVERY": "1d"}, "DECIDE_EVERY='1d': must be one of 1h, 15m, 5m, 1m"),
        ({"DECIDE_EVERY": "15m"}, "set INTRADAY_FILE to a file of 15m bars, or PRICE_SOURCES=yahoo"),
        ({"INTRADAY_FILE": "bars.csv"}, "INTRADAY_FILE=bars.csv is for DECIDE_EVERY; set it too"),
        ({**SLOTS, "BAR_INTERVAL": "15m"}, "BAR_INTERVAL=15m with DECIDE_EVERY=15m"),
        ({**SLOTS, "REFIT_EVERY": "5"}, "REFIT_EVERY=5 with DECIDE_EVERY=15m: each slot fits anew"),
        ({**SLOTS, "DAILY_AT": "15:05"}, "DAILY_AT=15:05 is no slot of DECIDE_EVERY=15m, whose slots are 09:45, 10:00"),
        ({**SLOTS, "DECIDE_EVERY": "5m", "DAILY_AT": "15:00"}, "several slots of DECIDE_EVERY=5m are due"),
        ({"DAILY_AT": "15:00"}, "leave DAILY_AT unset, or set DECIDE_EVERY=15m"),
    ],
)
def test_what_does_not_go_with_slots_is_named(variables: dict[str, str], words: str) -> None:
    assert words in problems(**variables)
