import dataclasses
import re
from collections.abc import Sequence

import pytest

from trader.model import Mode
from trader.settings import LIVE_URL, PAPER_URL, Settings, SettingsError

KEYS = {"ALPACAUSER": "key-id", "ALPACAPW": "the-secret"}


def read(env: dict[str, str], parameters: dict[str, str] | None = None) -> Settings:
    known = parameters or {}
    return Settings.from_env(env, lambda names: {name: known[name] for name in names if name in known})


def problems(env: dict[str, str], parameters: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(env, parameters)
    return str(caught.value)


def test_an_empty_environment_gives_the_harmless_defaults() -> None:
    settings = read({})
    assert (settings.broker, settings.mode, settings.price_sources) == ("embedded", "paper", ("file",))


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read({}).mode = Mode.LIVE  # type: ignore[misc]  # the point of the test


def test_an_empty_variable_counts_as_not_set() -> None:
    assert read({"UNIVERSE_SIZE": "  "}).universe_size == 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STRATEGY", "My Strategy"),
        ("STRATEGY", "a" * 33),
        ("STRATEGY", "a--b"),
        ("BROKER", "ib"),
        ("MODE", "LIVE"),
        ("DAILY_AT", "3 p.m."),
        ("DAILY_AT", "24:00"),
        ("PRICE_SOURCES", "yahoo,google"),
        ("PRICE_SOURCES", "yahoo,yahoo"),
        ("UNIVERSE", ","),
        ("UNIVERSE", "AAPL;MSFT"),
        ("UNIVERSE", "sp500,AAPL"),
        ("UNIVERSE", "AAPL, SP500"),
        ("UNIVERSE_SIZE", "0"),
        ("UNIVERSE_SIZE", "20.5"),
        ("UNIVERSE_LOOKBACK_BARS", "-1"),
        ("BAR_INTERVAL", "2h"),
        ("HISTORY_BARS", "3"),
        ("SIGNAL", "buy"),
        ("SIGNAL_THRESHOLD_FRACTION", "1"),
        ("HORIZON_BARS", "0"),
        ("CASH_BUFFER_FRACTION", "nan"),
        ("MAX_POSITION_FRACTION", "0"),
        ("MAX_POSITION_FRACTION", "1.01"),
        ("MAX_ORDER_USD", "inf"),
        ("MAX_ORDERS_PER_RUN", "none"),
        ("STOP_LOSS_FRACTION", "1"),
        ("TAKE_PROFIT_FRACTION", "-0.1"),
        ("MAX_DAILY_LOSS_FRACTION", "three"),
        ("MAX_PRICE_AGE_S", "0"),
        ("HALT_PARAMETER", "halt"),
        ("JOURNAL", "out/journal"),
        ("JOURNAL", "s3://A/b"),
        ("STARTING_CASH_USD", "0"),
        ("APCA_API_BASE_URL", "paper-api.alpaca.markets"),
    ],
)
def test_an_invalid_value_is_named_with_what_is_allowed(name: str, value: str) -> None:
    assert re.search(rf"{name}={re.escape(repr(value.strip()))}: must be \w+", problems({name: value}))


def test_every_problem_is_listed_at_once() -> None:
    text = problems({"MODE": "live", "UNIVERSE_SIZE": "many", "SIGNAL": "x", "BROKER": "embedded"})
    assert all(name in text for name in ("UNIVERSE_SIZE", "SIGNAL", "MODE=live needs BROKER=alpaca"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAX_ORDER_PER_RUN", "MAX_ORDERS_PER_RUN"),
        ("MAX_DAILY_LOSS", "MAX_DAILY_LOSS_FRACTION"),
        ("MAX_LOSS_FRACTION", "MAX_DAILY_LOSS_FRACTION"),
        ("STOP_LOSS", "STOP_LOSS_FRACTION"),
        ("CASH_BUFFER", "CASH_BUFFER_FRACTION"),
        ("MAX_POSITION", "MAX_POSITION_FRACTION"),
        ("MAX_ORDER", "MAX_ORDER_USD"),
        ("max_order_usd", "MAX_ORDER_USD"),
        ("mode", "MODE"),
        ("Mode", "MODE"),
        ("universe", "UNIVERSE"),
        ("UNIVERS", "UNIVERSE"),
        ("BROKERS", "BROKER"),
        ("SIGNALS", "SIGNAL"),
        ("ALPACA_PW", "ALPACAPW"),
    ],
)
def test_a_misspelled_variable_is_not_silently_ignored(name: str, meant: str) -> None:
    assert f"{name} is not a setting; did you mean {meant}?" in problems({name: "3"})


def test_variables_of_other_programs_are_left_alone() -> None:
    others = ["PATH", "AWS_REGION", "MODEL", "_HANDLER", "JOURNAL_STREAM", "MAX_JOBS", "MODELS"]
    assert read(dict.fromkeys(others, "x")) == read({})


@pytest.mark.parametrize("lacking", ["ALPACAUSER", "ALPACAPW"])
def test_alpaca_needs_both_keys(lacking: str) -> None:
    env = {"BROKER": "alpaca", **KEYS}
    del env[lacking]
    assert f"{lacking} must be set for Alpaca" in problems(env)


def test_no_error_text_or_repr_contains_a_secret() -> None:
    settings = read({"BROKER": "alpaca", **KEYS})
    text = problems({**KEYS, "BROKER": "alpaca", "UNIVERSE_SIZE": "x"}) + repr(settings) + str(settings.public())
    assert "the-secret" not in text
    assert "key-id" not in text


def test_a_reference_is_replaced_by_the_parameters_value() -> None:
    settings = read({"BROKER": "alpaca", "ALPACAUSER": "id", "ALPACAPW": "ssm:/trader/pw"}, {"/trader/pw": "value\n"})
    assert settings.alpacapw == "value"


def test_all_references_are_fetched_in_one_call() -> None:
    calls: list[Sequence[str]] = []

    def fetch(names: Sequence[str]) -> dict[str, str]:
        calls.append(names)
        return dict.fromkeys(names, "value")

    Settings.from_env({"ALPACAUSER": "ssm:/a", "ALPACAPW": "ssm:/b", "STRATEGY": "ssm:/c"}, fetch)
    assert calls == [["/a", "/b", "/c"]]


def test_a_reference_to_nothing_names_variable_and_parameter() -> None:
    assert "ALPACAPW=ssm:/gone: there is no such SSM parameter" in problems({"ALPACAPW": "ssm:/gone"})


def test_a_bad_value_from_a_parameter_is_not_quoted() -> None:
    text = problems({"UNIVERSE_SIZE": "ssm:/size"}, {"/size": "hunter2"})
    assert "UNIVERSE_SIZE='ssm:/size': must be a whole number" in text
    assert "hunter2" not in text


def test_the_halt_parameter_is_not_replaced_by_its_value() -> None:
    assert read({"HALT_PARAMETER": "ssm:/trader/halt"}, {"/trader/halt": "false"}).halt_parameter == "/trader/halt"


def test_paper_mode_uses_the_paper_address_and_live_mode_the_live_one() -> None:
    addresses = [
        read({"BROKER": "alpaca", "MODE": mode, **KEYS}).apca_api_base_url for mode in ("paper", "dry-run", "live")
    ]
    assert addresses == [PAPER_URL, PAPER_URL, LIVE_URL]


@pytest.mark.parametrize(
    "address",
    [LIVE_URL, f"{LIVE_URL}/v2", "https://API.alpaca.markets:443", f"{LIVE_URL}.", "https://broker-api.alpaca.markets"],
)
def test_paper_mode_refuses_the_live_address(address: str) -> None:
    assert "use it with MODE=live" in problems({"BROKER": "alpaca", "APCA_API_BASE_URL": address, **KEYS})


def test_live_mode_refuses_the_paper_address() -> None:
    assert "remove it for MODE=live" in problems(
        {"BROKER": "alpaca", "MODE": "live", "APCA_API_BASE_URL": PAPER_URL, **KEYS}
    )


def test_a_dry_run_may_look_at_the_live_account() -> None:
    assert read({"BROKER": "alpaca", "MODE": "dry-run", "APCA_API_BASE_URL": LIVE_URL, **KEYS}).mode == "dry-run"


@pytest.mark.parametrize(
    "address",
    [
        *("http://api.alpaca.markets", "http://proxy.example", "https://user:pw@x.com", "https://:pw@x.com"),
        *("https://proxy.example", "https://paper-api.alpaca.markets.example.com", "https://notalpaca.markets"),
    ],
)
def test_keys_never_travel_in_the_clear_or_to_an_odd_address(address: str) -> None:
    assert "must be an https address" in problems({"APCA_API_BASE_URL": address})


def test_a_proxy_on_this_machine_may_speak_plain_http() -> None:
    assert read({"APCA_API_BASE_URL": "http://127.0.0.1:8080/"}).apca_api_base_url == "http://127.0.0.1:8080"


def test_the_address_may_be_given_as_the_dashboard_shows_it() -> None:
    assert read({"APCA_API_BASE_URL": f"{PAPER_URL}/v2/"}).apca_api_base_url == PAPER_URL


@pytest.mark.parametrize("bracket", [{"STOP_LOSS_FRACTION": "0"}, {"TAKE_PROFIT_FRACTION": "0"}])
def test_half_a_bracket_is_refused_rather_than_dropped(bracket: dict[str, str]) -> None:
    assert "both be 0 for no bracket" in problems(bracket)


def test_a_listed_symbol_may_be_spelled_as_by_other_sources() -> None:
    assert read({"UNIVERSE": "BRK-B,nyse:BF/B,MSFT.US"}).universe == ("BRK.B", "BF.B", "MSFT")


def test_the_index_may_be_in_capitals() -> None:
    assert read({"UNIVERSE": "SP500"}).universe == ("sp500",)


def test_a_listed_universe_is_cleaned_of_case_spaces_and_repetition() -> None:
    assert read({"UNIVERSE": "aapl, BRK.B,AAPL"}).universe == ("AAPL", "BRK.B")


def test_the_age_limit_follows_the_bar_interval_unless_set() -> None:
    ages = [
        read(env).max_price_age_s
        for env in ({}, {"BAR_INTERVAL": "15m"}, {"BAR_INTERVAL": "15m", "MAX_PRICE_AGE_S": "60"})
    ]
    assert ages == [86_400, 1_800, 60]


def test_the_horizon_rule_needs_its_ninety_bars() -> None:
    assert "HISTORY_BARS=60" in problems({"SIGNAL": "horizon", "HISTORY_BARS": "60"})


@pytest.mark.parametrize(
    "address",
    [
        "https://api\u3002alpaca\u3002markets",  # requests turns these into dots, which would reach the live account
        "https://api.alpaca\uff0emarkets",
        "https://api.alpaca\n.markets",
        "https://api.alpaca.markets\\@paper-api.alpaca.markets",
        "https://api.alpaca.markets%2e",
        "https://api.alpaca.markets:0",
        "https://[::zz]",
    ],
)
def test_an_address_that_programs_read_in_several_ways_is_refused(address: str) -> None:
    assert "must be an https address" in problems({"APCA_API_BASE_URL": address})


@pytest.mark.parametrize("text", ["1_000", "\u0661\u0660\u0660", "\uff11\uff10\uff10", "infinity", "1e400", "0x64"])
@pytest.mark.parametrize("name", ["MAX_ORDER_USD", "HISTORY_BARS"])
def test_a_number_that_only_python_would_read_is_refused(name: str, text: str) -> None:
    assert f"{name}={text!r}: must be" in problems({name: text})


def test_a_symbol_with_a_non_ascii_letter_is_refused() -> None:
    assert "UNIVERSE='a,\u00df': must be" in problems({"UNIVERSE": "a,\u00df"})


def test_an_error_shows_only_the_beginning_of_a_long_value() -> None:
    assert len(problems({"MODE": "x" * 100_000})) < 500
