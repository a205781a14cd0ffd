"""GRID: its syntax, the settings it gives, and the errors for a grid that makes no sense."""

import json
from pathlib import Path

import pytest

from scripts.backtest import options
from scripts.sweep import grid
from scripts.sweep.config import SweepConfig
from scripts.sweep.grid import Range
from trader.settings import SettingsError


def problem(text: str) -> str:
    with pytest.raises(SettingsError) as raised:
        grid.read(text)
    return " ".join(raised.value.problems)


def settings(text: str, samples: int | None = None, seed: int = 1, **env: str) -> list[str]:
    found, _ = grid.settings(grid.combinations(grid.read(text), samples, seed), env)
    return [each.words for each in found]


def test_combinations_vary_the_last_name_fastest() -> None:
    assert settings("HISTORY_BARS=120,250 SLIPPAGE=0,0.001") == [
        "HISTORY_BARS=120 SLIPPAGE=0",
        "HISTORY_BARS=120 SLIPPAGE=0.001",
        "HISTORY_BARS=250 SLIPPAGE=0",
        "HISTORY_BARS=250 SLIPPAGE=0.001",
    ]


def test_the_grids_values_override_the_environment() -> None:
    combined = grid.combinations(grid.read("SIGNAL_THRESHOLD_FRACTION=0.02 REFIT_EVERY=5"), None, 1)
    (only,), _ = grid.settings(combined, {"UNIVERSE_SIZE": "7", "SIGNAL_THRESHOLD_FRACTION": "0.5"})
    options = only.options
    assert (options.settings.signal_threshold_fraction, options.refit_every_bars, options.settings.universe_size) == (
        0.02,
        5,
        7,
    )


def test_equal_values_written_differently_are_one_setting() -> None:
    assert settings("SLIPPAGE=0.001,0.0010,1e-3") == ["SLIPPAGE=0.001"]


def test_a_file_and_text_give_the_same_grid(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    path.write_text(json.dumps({"HISTORY_BARS": [120, 250], "SLIPPAGE": "0..0.001", "SIGNAL": ["trend"]}))
    assert grid.read(str(path)) == grid.read("HISTORY_BARS=120,250 SLIPPAGE=0..0.001 SIGNAL=trend")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "grid.json: "),
        ("[1]", "the file must contain a JSON object such as"),
        ('{"HISTORY_BARS": 120}', "HISTORY_BARS is 120; a file must give"),
        ('{"HISTORY_BARS": []}', "HISTORY_BARS has an empty value"),
        ('{"HISTORY_BARS": [[120]]}', "HISTORY_BARS is [[120]]; a file must give"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "grid.json"
    path.write_text(content)
    assert expected in problem(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none.json'}: No such file" in problem(str(tmp_path / "none.json"))


# --- names and values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("STOP_LOS_FRACTION=0.03", "did you mean STOP_LOSS_FRACTION?"),
        ("stop_loss_fraction=0.03", "did you mean STOP_LOSS_FRACTION?"),
        ("SLIPAGE=0.001", "did you mean SLIPPAGE?"),
        ("COLOR=red", "use one of CASH_BUFFER_FRACTION"),
        ("START=2021-01-04,2021-02-01", "START sets the span on which all settings are compared"),
        ("CASH=1000,2000", "CASH is the same for all settings"),
        ("PRICE_FILE=a.csv,b.csv", "PRICE_FILE determines the prices"),
        ("MODE=paper,live", "MODE has no effect in a backtest"),
        ("HISTORY_BARS=120 HISTORY_BARS=250", "HISTORY_BARS is given twice"),
        ("HISTORY_BARS", "'HISTORY_BARS' must be NAME=values"),
        ("HISTORY_BARS=120,", "HISTORY_BARS has an empty value"),
        ("HISTORY_BARS=500..120", "HISTORY_BARS=500..120 is not a range"),
        ("HISTORY_BARS=low..high", "HISTORY_BARS=low..high is not a range"),
        ("", "GRID varies no setting; write, for example, GRID="),
    ],
)
def test_an_invalid_grid_is_refused_with_a_remedy(text: str, expected: str) -> None:
    assert expected in problem(text)


def test_all_problems_of_a_grid_are_reported_at_once() -> None:
    found = problem("STOP_LOS_FRACTION=0.03 END=2022-01-01")
    assert "STOP_LOSS_FRACTION" in found
    assert "END" in found


def test_every_option_can_be_varied_or_has_a_reason_not_to_be() -> None:
    assert {*options.VARIABLES} == {*grid.OPTIONS} | ({*options.VARIABLES} & {*grid.SAME_FOR_ALL})


@pytest.mark.parametrize("text", ["HISTORY_BARS=120,many", "SLIPPAGE=0,many", "REFIT_EVERY=1,0"])
def test_an_invalid_value_is_an_error_and_is_not_left_out(text: str) -> None:
    with pytest.raises(SettingsError, match="must be"):
        settings(text)


# --- contradictions --------------------------------------------------------------------------------------------------


def test_contradictory_combinations_are_left_out_and_reported() -> None:
    combined = grid.combinations(grid.read("STOP_LOSS_FRACTION=0,0.03 TAKE_PROFIT_FRACTION=0,0.4"), None, 1)
    found, left_out = grid.settings(combined, {})
    assert [each.words for each in found] == [
        "STOP_LOSS_FRACTION=0 TAKE_PROFIT_FRACTION=0",
        "STOP_LOSS_FRACTION=0.03 TAKE_PROFIT_FRACTION=0.4",
    ]
    assert [grid.in_words(each.values) for each in left_out] == [
        "STOP_LOSS_FRACTION=0 TAKE_PROFIT_FRACTION=0.4",
        "STOP_LOSS_FRACTION=0.03 TAKE_PROFIT_FRACTION=0",
    ]
    assert all("must both be" in each.problems[0] for each in left_out)


def test_if_no_combination_is_left_the_reason_is_the_error() -> None:
    with pytest.raises(SettingsError, match="must both be above 0, or both be 0"):
        settings("STOP_LOSS_FRACTION=0 TAKE_PROFIT_FRACTION=0.2,0.4")


def test_an_environment_that_makes_sense_only_with_a_grid_has_no_default() -> None:
    assert grid.default({"STOP_LOSS_FRACTION": "0"}) is None
    assert settings("TAKE_PROFIT_FRACTION=0", STOP_LOSS_FRACTION="0") == ["TAKE_PROFIT_FRACTION=0"]


# --- random samples --------------------------------------------------------------------------------------------------


def test_a_range_without_samples_is_an_error_that_says_so() -> None:
    with pytest.raises(SettingsError, match=r"GRID has a range for HISTORY_BARS, .* set SAMPLES, e.g. SAMPLES=64"):
        settings("HISTORY_BARS=120..500")


def test_samples_of_a_range_are_distinct_whole_numbers_in_it() -> None:
    found = settings("HISTORY_BARS=120..160", samples=30)
    bars = {int(each.partition("=")[2]) for each in found}
    assert len(bars) == 30
    assert min(bars) >= 120
    assert max(bars) <= 160


@pytest.mark.parametrize(
    "text",
    ["SIGNAL_THRESHOLD_FRACTION=0..0.05 HISTORY_BARS=120,250", "HISTORY_BARS=120,150,180 UNIVERSE_SIZE=5,10,15,20"],
)
def test_samples_depend_on_the_seed_alone(text: str) -> None:
    assert settings(text, samples=8, seed=3) == settings(text, samples=8, seed=3)
    assert settings(text, samples=8, seed=3) != settings(text, samples=8, seed=4)


def test_a_range_with_fewer_numbers_than_samples_gives_them_all() -> None:
    assert len(settings("HISTORY_BARS=120..124", samples=64)) == 5


def test_samples_of_lists_are_different_combinations_of_the_grid() -> None:
    text = "HISTORY_BARS=120,150,180,210 UNIVERSE_SIZE=5,10,15,20"
    found = settings(text, samples=10)
    assert len(set(found)) == 10
    assert set(found) <= set(settings(text))


def test_a_grid_that_is_too_large_is_refused() -> None:
    values = ",".join(str(number) for number in range(100, 200))
    with pytest.raises(SettingsError, match=r"1,000,000 combinations, .* set SAMPLES, e.g. SAMPLES=64"):
        settings(f"HISTORY_BARS={values} UNIVERSE_SIZE={values} UNIVERSE_LOOKBACK_BARS={values}")


def test_a_range_in_text_becomes_a_range() -> None:
    assert grid.read("SLIPPAGE=0..0.001") == {"SLIPPAGE": Range(low="0", high="0.001", is_whole=False)}


# --- the other variables ---------------------------------------------------------------------------------------------


def test_the_variables_of_a_sweep_are_checked_all_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        SweepConfig.from_env({"FOLDS": "0", "METRIC": "luck", "SCHEDULER": "8786"}, "")
    assert [each.partition("=")[0] for each in raised.value.problems] == ["FOLDS", "METRIC", "SCHEDULER"]


@pytest.mark.parametrize(
    ("grid_text", "is_whole"), [("HISTORY_BARS=120..500", True), ("TAKE_PROFIT_FRACTION=0..1", False)]
)
def test_only_settings_that_are_whole_numbers_are_drawn_as_such(grid_text: str, is_whole: bool) -> None:
    (axis,) = grid.read(grid_text).values()
    assert isinstance(axis, Range)
    assert axis.is_whole == is_whole
