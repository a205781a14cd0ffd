"""Adjusted closes: used for statistics, in a scale that ends at the price that is paid."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.trader.prices.files import BARS, DAYS, Bar, bars, closes, read, refuse, table

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def row(bar: Bar, factor: float, raw: float = 1) -> str:
    """Return a row as Yahoo writes it, of raw prices that are `raw` times the bar's and an adjusted close."""
    prices = ",".join(repr(price * raw) for price in (bar.open, bar.high, bar.low, bar.close))
    return f"{bar.day},{prices},{bar.close * factor!r},9"


def write(factors: list[float], raw: list[float] | None = None) -> str:
    raw = raw or [1.0] * len(BARS)
    return "\n".join([HEADER, *(row(bar, *each) for bar, *each in zip(BARS, factors, raw, strict=True))])


def assert_bars(found: list[Bar], factors: list[float]) -> None:
    for each, bar, factor in zip(found, BARS, factors, strict=True):
        assert each.day == bar.day
        assert [each.open, each.high, each.low, each.close] == pytest.approx(
            [bar.open * factor, bar.high * factor, bar.low * factor, bar.close * factor], rel=1e-12
        )


def test_prices_before_a_dividend_are_lowered(file: Path) -> None:
    factors = [0.98] * 10 + [1.0] * 20
    assert_bars(bars(read(file, write(factors))), factors)


def test_adjusted_closes_are_read_to_the_digit(file: Path) -> None:
    text = "Date,Close,Adj Close\n2022-12-23,100.1,97.37\n2022-12-27,100.3,100.3\n2022-12-28,100.2,100.2\n"
    assert closes(read(file, text)) == [97.37, 100.3, 100.2]


@pytest.mark.parametrize("ratio", [4, 1.5, 1.25, 20])
def test_raw_prices_before_a_split_are_divided(file: Path, ratio: float) -> None:
    prices = read(file, write([1.0] * 30, [ratio] * 10 + [1.0] * 20))
    assert_bars(bars(prices), [1.0] * 30)
    assert prices.notes == ("columns that are not read: Volume",)


@pytest.mark.parametrize("ratio", [8, 2, 25])
def test_raw_prices_before_a_reverse_split_are_multiplied(file: Path, ratio: float) -> None:
    prices = read(file, write([1.0] * 30, [1 / ratio] * 10 + [1.0] * 20))
    assert_bars(bars(prices), [1.0] * 30)


def test_the_last_close_is_the_raw_one_even_if_it_is_adjusted_too_early(file: Path) -> None:
    prices = read(file, write([1.0] * 29 + [0.95]))
    assert_bars(bars(prices), [1.0] * 30)
    assert closes(prices)[-1] == BARS[-1].close
    assert prices.notes[-1].endswith(f"are read with the factor before: AAPL on {DAYS[-1]}")


def test_earlier_dividends_stay_when_the_last_row_is_adjusted_too_early(file: Path) -> None:
    assert_bars(bars(read(file, write([0.9] * 10 + [1.0] * 19 + [0.95]))), [0.9] * 10 + [1.0] * 20)


def test_a_split_that_is_adjusted_the_evening_before_is_undone(file: Path) -> None:
    assert_bars(bars(read(file, write([1.0] * 29 + [0.25]))), [1.0] * 30)


def test_a_series_whose_last_factor_is_not_one_is_scaled_to_its_raw_close(file: Path) -> None:
    prices = read(file, write([0.45] * 10 + [0.5] * 20))
    assert_bars(bars(prices), [0.9] * 10 + [1.0] * 20)
    assert closes(prices)[-1] == BARS[-1].close


def test_adjusted_closes_with_two_decimals_are_taken_as_they_are(file: Path) -> None:
    lines = [f"{bar.day},{bar.close / 20:.2f},{bar.close / 80:.2f}" for bar in BARS[:15]]
    lines += [f"{bar.day},{bar.close / 80:.2f},{bar.close / 80:.2f}" for bar in BARS[15:]]
    prices = read(file, "\n".join(["Date,Close,Adj Close", *lines]))
    assert closes(prices) == [float(f"{bar.close / 80:.2f}") for bar in BARS]
    assert prices.notes == ()


def test_of_precise_prices_a_small_dividend_is_seen_even_if_they_are_low(file: Path) -> None:
    lines = [
        f"{bar.day},{bar.close / 100:.8f},{bar.close / 100 * (0.985 if bar is BARS[-1] else 1):.8f}" for bar in BARS
    ]
    prices = read(file, "\n".join(["Date,Close,Adj Close", *lines]))
    assert closes(prices) == pytest.approx([bar.close / 100 for bar in BARS], rel=1e-7)


def test_a_wrong_tick_in_the_raw_closes_does_not_change_the_others(file: Path) -> None:
    prices = read(file, write([1.0] * 30, [1.0] * 10 + [0.01] + [1.0] * 19))
    assert_bars(bars(prices), [1.0] * 30)


def test_a_wrong_tick_in_the_adjusted_closes_does_not_change_the_others(file: Path) -> None:
    for tick in (0.01, 100.0):
        prices = read(file, write([1.0] * 10 + [tick] + [1.0] * 19))
        assert_bars(bars(prices), [1.0] * 30)


@pytest.mark.parametrize("adjusted", ["0", "-3", "inf"])
def test_a_bar_with_an_impossible_adjusted_close_is_left_out(file: Path, adjusted: str) -> None:
    lines = write([0.98] * 10 + [1.0] * 20).split("\n")
    fields = lines[6].split(",")
    lines[6] = ",".join([*fields[:5], adjusted, fields[6]])
    found = read(file, "\n".join(lines))
    assert np.isnan(found.tables["close"]["AAPL"].iloc[5])
    assert found.notes[-1] == f"bars without an adjusted close are left out: AAPL on {BARS[5].day}"


@pytest.mark.parametrize("close", ["0", "-5", "inf"])
def test_an_impossible_raw_close_passes_through_and_leaves_the_others_alone(file: Path, close: str) -> None:
    lines = write([0.5] * 10 + [1.0] * 20).split("\n")
    fields = lines[20].split(",")
    lines[20] = ",".join([*fields[:4], close, *fields[5:]])
    found = closes(read(file, "\n".join(lines)))
    assert found[19] == float(close)
    assert found[:19] + found[20:] == pytest.approx(
        [bar.close * (0.5 if place < 10 else 1) for place, bar in enumerate(BARS) if place != 19]
    )


def test_a_row_without_an_adjusted_close_is_a_missing_bar(file: Path) -> None:
    lines = write([1.0] * 30).split("\n")
    fields = lines[5].split(",")
    lines[5] = ",".join([*fields[:5], "", fields[6]])
    prices = read(file, "\n".join(lines))
    assert np.isnan(closes(prices)[4])
    assert np.isnan(prices.tables["open"]["AAPL"].iloc[4])
    assert f"bars without an adjusted close are left out: AAPL on {DAYS[4]}" in prices.notes


def test_adjusted_closes_that_contradict_the_closes_for_long_are_refused(file: Path) -> None:
    message = refuse(file, write([1.0] * 20 + [0.9] * 10))
    assert message == (
        f"the adjusted closes do not follow from splits and dividends from here on: AAPL on {DAYS[20]}; "
        "correct the column Adj Close, or remove it"
    )


def test_each_symbol_of_a_long_file_has_its_own_factors(file: Path) -> None:
    lines = ["symbol,date,close,adj_close"]
    for place, bar in enumerate(BARS):
        lines.append(f"AAPL,{bar.day},{bar.close},{bar.close * (0.5 if place < 3 else 1)}")
        lines.append(f"KO,{bar.day},{bar.close},{bar.close * (0.8 if place < 9 else 1)}")
        lines.append(f"BAD,{bar.day},{bar.close},{bar.close * (0.8 if place > 9 else 1)}")
    prices = read(file, "\n".join(lines))
    assert closes(prices)[:4] == pytest.approx([bar.close * 0.5 for bar in BARS[:3]] + [BARS[3].close])
    assert closes(prices, "KO")[:10] == pytest.approx([bar.close * 0.8 for bar in BARS[:9]] + [BARS[9].close])
    assert "BAD" not in prices.tables["close"]
    assert prices.notes[-1].endswith(f"from here on: BAD on {DAYS[10]}; left out")


@pytest.mark.parametrize(
    "name",
    ["Adj Close", "Adj_Close", "adjclose", "adjusted_close", "adjClose", "Adjusted Close", "Close (adj)", "Adj. Close"],
)
def test_adjusted_closes_are_known_under_their_names(file: Path, name: str) -> None:
    text = table(f"Date,Close,{name}", lambda bar: f"{bar.day},{bar.close * 4},{bar.close * 2}")
    assert closes(read(file, text)) == pytest.approx([bar.close * 4 for bar in BARS])
    assert read(file, text).kind.endswith(f"adjusted by its column {name}")


def test_two_tickers_of_yfinance_are_adjusted_each_by_itself(file: Path) -> None:
    header = "Price,Adj Close,Adj Close,Close,Close\nTicker,AAPL,KO,AAPL,KO\nDate,,,,"
    prices = read(
        file,
        table(
            header,
            lambda bar: f"{bar.day},{bar.close * (0.5 if bar.day < DAYS[9] else 1)},7,{bar.close},7",
        ),
    )
    assert closes(prices)[0] == pytest.approx(BARS[0].close / 2)
    assert closes(prices, "KO") == [7] * 30
