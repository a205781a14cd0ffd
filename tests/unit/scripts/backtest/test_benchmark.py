"""The benchmark: how it is read, bought and compared with, with values worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.backtest import benchmark, options, prices
from scripts.backtest.model import BacktestError, Benchmark, Result
from scripts.backtest.report import formatting
from scripts.backtest.statistics import figures
from tests.backtest_results import fill, panel, result
from trader.model import Note
from trader.settings import SettingsError

DAYS = pd.bdate_range("2021-01-04", periods=9)
BARS = [day.tz_localize("America/New_York").to_pydatetime() for day in DAYS]


def write(path: Path, closes: dict[str, Any]) -> str:
    pd.DataFrame(closes, index=DAYS.strftime("%Y-%m-%d")).to_csv(path, index_label="timestamp")
    return str(path)


def load(path: str, *, at: list[Any] = BARS, price_file: str = "other.csv") -> Benchmark:
    chosen = options.from_env({"PRICE_FILE": price_file, "BENCHMARK": path, "UNIVERSE": "AAA"})
    found = benchmark.load(chosen, at)
    assert found is not None
    return found


def against(own: list[float], other: list[float], *, shares: float = 100, **chosen: Any) -> Result:
    """Return the result of buying shares of AAA at 10 USD with 1,000 USD, beside a benchmark with these closes."""
    over = panel({"AAA": own})
    spy = Benchmark(name="SPY", source="SPY", closes=np.array(other))
    return result(over, [fill(over, 0, "AAA", shares, 10.0)], benchmark=spy, options=chosen)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_symbol_is_read_from_the_price_file(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.csv", {"AAA": [10.0] * 9, "SPY": np.arange(300.0, 309.0)})
    found = load("spy", price_file=path)
    assert (found.name, found.closes.tolist()) == ("SPY", np.arange(300.0, 309.0).tolist())


@pytest.mark.parametrize("column", ["SPY", "close", "SP500"])
def test_a_file_of_one_symbol_is_a_benchmark_whatever_its_column(tmp_path: Path, column: str) -> None:
    found = load(write(tmp_path / "spy.csv", {column: np.arange(300.0, 309.0)}))
    assert (found.name, found.closes[-1]) == ("spy.csv", 308.0)


def test_a_missing_bar_keeps_the_last_price(tmp_path: Path) -> None:
    closes = [300.0, 301.0, math.nan, 303.0, *[304.0] * 5]
    assert load(write(tmp_path / "spy.csv", {"SPY": closes})).closes[:4].tolist() == [300.0, 301.0, 301.0, 303.0]


def test_missing_bars_and_an_early_end_are_noted(tmp_path: Path) -> None:
    closes = [300.0, math.nan, math.nan, 303.0, 304.0, *[math.nan] * 4]
    notes = [note.what for note in load(write(tmp_path / "spy.csv", {"SPY": closes})).notes]
    assert notes == [
        "2 bars are missing, the first on 2021-01-05; the price before it is used",
        "its prices end on 2021-01-08, but the last bar is that of 2021-01-14; from then on it stays at its last price",
    ]


def test_a_price_that_is_left_out_is_noted(tmp_path: Path) -> None:
    closes = [300.0, 301.0, -5.0, *[303.0] * 6]
    (about, *_) = load(write(tmp_path / "spy.csv", {"SPY": closes})).notes
    assert (about.symbol, "2021-01-06" in about.what) == ("spy.csv", True)


def test_the_report_has_the_notes_on_the_benchmark() -> None:
    over = panel({"AAA": [10.0] * 4})
    note = Note(symbol="SPY", what="its prices end early")
    spy = Benchmark(name="SPY", source="SPY", closes=np.ones(4), notes=(note,))
    assert figures(result(over, benchmark=spy))["data"]["notes"] == [{"symbol": "SPY", "what": "its prices end early"}]


def test_a_benchmark_that_begins_after_the_first_bar_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "spy.csv", {"SPY": [math.nan, *[300.0] * 8]})
    with pytest.raises(
        BacktestError, match="begin on 2021-01-05, but the first bar is that of 2021-01-04; set a later"
    ):
        load(path)


def test_a_benchmark_that_ended_before_the_span_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "spy.csv", {"SPY": [300.0] * 9})
    later = [pd.Timestamp("2022-03-01", tz="America/New_York").to_pydatetime()]
    with pytest.raises(BacktestError, match="no bar at the same time as any of the 1 from 2022-03-01"):
        load(path, at=later)


def test_a_file_of_several_symbols_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "two.csv", {"SPY": [300.0] * 9, "QQQ": [300.0] * 9})
    with pytest.raises(BacktestError, match="but has those of QQQ, SPY; keep one"):
        load(path)


def test_a_missing_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(BacktestError, match=r"no\.csv: there is no such file; set BENCHMARK to"):
        load(str(tmp_path / "no.csv"))


def test_a_symbol_that_the_price_file_lacks_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.csv", {"AAA": [10.0] * 9, "BBB": [10.0] * 9})
    with pytest.raises(BacktestError, match=r"prices\.csv has no prices for it; set BENCHMARK to the path"):
        load("SPY", price_file=path)


@pytest.mark.parametrize("text", ["sp500", "SPY,QQQ", "what is this"])
def test_only_one_symbol_or_a_path_is_a_benchmark(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        options.from_env({"BENCHMARK": text})
    assert "one symbol such as SPY, or the path of a price file" in str(caught.value)


def test_the_sample_has_its_index_on_every_day() -> None:
    chosen = options.from_env({"START": "2015-01-02", "UNIVERSE": "AAPL,KO"})
    over = prices.load(chosen)
    found = benchmark.load(chosen, prices.span(over, chosen))
    assert found is not None
    assert "without dividends" in found.source
    index = pd.read_csv(benchmark.SAMPLE, index_col=0).iloc[:, 0].loc["2015-01-02":]
    assert found.closes.tolist() == index.tolist()


def test_other_prices_have_no_benchmark_and_the_report_says_how_to_set_one() -> None:
    assert benchmark.load(options.from_env({"PRICE_FILE": "other.csv"}), BARS) is None
    said = formatting.describe_benchmark(figures(result(panel({"AAA": [10.0] * 3}))))
    assert "set BENCHMARK to a symbol such as SPY" in said


# --- comparing -------------------------------------------------------------------------------------------------------


def test_the_benchmark_is_bought_once_at_the_first_bar_at_the_same_costs() -> None:
    found = figures(against([10, 10], [400, 440], commission_fraction=0.01, slippage_fraction=0.02))
    bought = 1_000 / (1.02 * 1.01)
    assert found["curve"]["benchmark_usd"] == pytest.approx([bought, bought * 1.1])
    assert found["key_figures"]["benchmark"]["commission_usd"] == pytest.approx(1_000 / 1.01 * 0.01)


def test_an_interrupted_backtest_compares_the_bars_so_far() -> None:
    found = figures(against([10, 11], [400, 440, 484]))
    assert found["key_figures"]["benchmark"]["total_return_fraction"] == pytest.approx(0.1)


def test_beta_and_correlation_without_a_year() -> None:
    """The benchmark makes +10%, -10%, +20%, the strategy +5%, -5%, +10%: half of it, without anything else."""
    found = figures(against([10, 10.5, 9.975, 10.9725], [100, 110, 99, 118.8]))["against_benchmark"]
    assert (found["beta"], found["correlation"]) == (pytest.approx(0.5), pytest.approx(1.0))
    assert (found["alpha_fraction"], found["information_ratio"]) == (None, None)


def test_alpha_is_what_beta_does_not_explain() -> None:
    """The strategy makes half of the benchmark's return and 0.1% more, at each of n bars a year."""
    moves = np.tile([0.01, -0.01], 65)
    own, other = (10 * np.cumprod([1, *1 + each]) for each in (moves / 2 + 0.001, moves))
    found = figures(against(own.tolist(), other.tolist()))
    assert found["against_benchmark"]["beta"] == pytest.approx(0.5)
    assert found["against_benchmark"]["alpha_fraction"] == pytest.approx(0.001 * found["data"]["bars_a_year"])


def test_the_information_ratio_is_that_of_the_difference() -> None:
    """The difference is 0.3% and -0.1% in turn: its mean is 0.1%, its deviation 0.2% * sqrt(130 / 129)."""
    own, other = (10 * np.cumprod([1, *1 + np.tile(each, 65)]) for each in ([0.013, -0.011], [0.01, -0.01]))
    found = figures(against(own.tolist(), other.tolist()))
    expected = 0.5 / math.sqrt(130 / 129) * math.sqrt(found["data"]["bars_a_year"])
    assert found["against_benchmark"]["information_ratio"] == pytest.approx(expected)


def test_the_exposure_adjusted_return_is_against_a_mix_of_benchmark_and_cash() -> None:
    """Half is invested in AAA, which stays; the benchmark makes +10% and +10%, so half of it 5% and 5%."""
    found = figures(against([10, 10, 10], [100, 110, 121], shares=50))["against_benchmark"]
    assert found["mix_return_fraction"] == pytest.approx(1.05**2 - 1)
    assert found["exposure_adjusted_return_fraction"] == pytest.approx(-(1.05**2 - 1))


def test_a_strategy_that_is_the_benchmark_has_no_information_ratio() -> None:
    closes = (10 * np.cumprod([1, *1 + np.tile([0.01, -0.007], 65)])).tolist()
    found = figures(against(closes, closes))["against_benchmark"]
    assert found["information_ratio"] is None
    assert found["exposure_adjusted_return_fraction"] == pytest.approx(0, abs=1e-12)
