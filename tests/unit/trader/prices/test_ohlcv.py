"""Open, high, low and volume beside the closes: read only if asked for, in the closes' unit, and cut as they are."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import inf, nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.unit.trader.prices.files import BARS, DAYS, NOW, Bar, table
from trader.model import NEW_YORK, Code, Ohlv
from trader.prices.base import Bars
from trader.prices.file import FilePrices
from trader.prices.price_numbers import Mark, read_volume
from trader.prices.reader import Prices
from trader.prices.series import Series
from trader.prices.table import PriceFileError, PriceTable, read_table

LAST = datetime(2022, 12, 28, 20, tzinfo=UTC)
HEADER = "date,symbol,open,high,low,close,volume"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prices.csv"


def row(bar: Bar, volume: object = 1_000, symbol: str = "AAPL") -> str:
    return f"{bar.day},{symbol},{bar.open},{bar.high},{bar.low},{bar.close},{volume}"


def read(file: Path, text: str, universe: str = "AAPL", *, reads_volume: bool = True) -> PriceTable:
    file.write_text(text)
    return read_table(file, bar_interval="1d", universe=(universe,), now=NOW, reads_volume=reads_volume)


def volumes(prices: PriceTable, symbol: str = "AAPL") -> list[float]:
    found: list[float] = prices.tables["volume"][symbol].tolist()
    return found


def ask(file: Path, *symbols: str, ohlcv_for: str = "SIGNAL=rules/mine.py", others: Sequence[Path] = ()) -> Bars:
    sources = [FilePrices(each, clock=lambda: NOW, ohlcv=bool(ohlcv_for)) for each in (file, *others)]
    return Prices(sources, now=LAST, count=250, max_age_s=1e6, ohlcv_for=ohlcv_for).bars(symbols or ("AAPL",))


# --- columns of a file -----------------------------------------------------------------------------------------------


def test_a_volume_is_read_only_if_it_is_asked_for(file: Path) -> None:
    text = table(HEADER, row)
    assert volumes(read(file, text)) == [1_000] * len(BARS)
    unasked = read(file, text, reads_volume=False)
    assert (list(unasked.tables), "columns that are not read: volume" in unasked.notes) == (
        ["open", "high", "low", "close"],
        True,
    )


@pytest.mark.parametrize("name", ["volume", "Volume", "Vol.", "VOL", "6. volume", "<VOL>", "Share Volume", "v"])
def test_a_volume_is_known_under_its_names(file: Path, name: str) -> None:
    assert volumes(read(file, table(HEADER.replace("volume", name), row))) == [1_000] * len(BARS)


@pytest.mark.parametrize("name", ["tickvol", "change %", "trade_count"])
def test_what_is_no_number_of_shares_is_no_volume(file: Path, name: str) -> None:
    assert np.isnan(volumes(read(file, table(HEADER.replace("volume", name), row)))).all()


def test_two_columns_of_volumes_are_refused_if_they_are_read(file: Path) -> None:
    text = table(f"{HEADER},vol", lambda bar: f"{row(bar)},5")
    with pytest.raises(PriceFileError, match="two columns for the volume, volume and vol; remove one of them"):
        read(file, text)
    read(file, text, reads_volume=False)


def test_one_symbols_file_in_letters_has_a_volume(file: Path) -> None:
    text = table("date,o,h,l,c,v", lambda bar: f"{bar.day},{bar.open},{bar.high},{bar.low},{bar.close},7")
    assert volumes(read(file, text)) == [7] * len(BARS)


def test_columns_with_a_symbol_and_a_price_in_their_names_have_a_volume(file: Path) -> None:
    names = [f"{symbol}.{what}" for symbol in ("AAPL", "KO") for what in ("Open", "High", "Low", "Close", "Volume")]
    prices = "100,101,99,100"
    text = "\n".join([",".join(["date", *names]), *(f"{day},{prices},5,{prices},6" for day in DAYS)])
    found = read(file, text, "sp500")
    assert (volumes(found), volumes(found, "KO")) == ([5] * len(DAYS), [6] * len(DAYS))


def test_a_header_of_two_lines_has_a_volume(file: Path) -> None:
    whats = ["Close", "High", "Low", "Open", "Volume"]
    header = [["Price", *(what for what in whats for _ in "ab")], ["Ticker", *["AAPL", "KO"] * 5]]
    rows = [[str(day), "100", "50", "101", "51", "99", "49", "100", "50", "5", "6"] for day in DAYS]
    text = "\n".join(",".join(fields) for fields in [*header, ["Date", *[""] * 10], *rows])
    found = read(file, text, "sp500")
    assert (volumes(found), volumes(found, "KO")) == ([5] * len(DAYS), [6] * len(DAYS))


def test_a_parquet_file_has_a_volume(tmp_path: Path) -> None:
    frame = pd.DataFrame(BARS).rename(columns={"day": "date"}).assign(symbol="AAPL", volume=12)
    frame.to_parquet(tmp_path / "prices.parquet")
    found = read_table(tmp_path / "prices.parquet", bar_interval="1d", universe=("AAPL",), now=NOW, reads_volume=True)
    assert volumes(found) == [12] * len(BARS)


@pytest.mark.parametrize("text", ["-5", "halted", "", "inf", "1e300", "n/a"])
def test_a_volume_that_is_none_is_missing_and_its_bar_stays(file: Path, text: str) -> None:
    file.write_text(table(HEADER, lambda bar: row(bar, text if bar == BARS[3] else 8)))
    bars = ask(file)
    assert np.flatnonzero(np.isnan(bars.ohlv["AAPL"][:, 3])).tolist() == [3]
    assert len(bars.closes["AAPL"]) == len(BARS)


@pytest.mark.parametrize(
    ("text", "mark", "shares"),
    [
        ("61.56M", None, 61_560_000),
        ("61,56M", Mark.COMMA, 61_560_000),
        ("2.5 k", None, 2_500),
        ("1.2B", None, 1.2e9),
        ("1,234,567", None, 1_234_567),
        ("1.234.567", None, 1_234_567),
        ("1 234 567", None, 1_234_567),
        ("12.0", None, 12),
        ("-", None, nan),
        ("M", None, nan),
        ("12X", None, nan),
    ],
)
def test_volumes_are_read_as_people_write_them(text: str, mark: Mark | None, shares: float) -> None:
    assert read_volume(text, mark) == pytest.approx(shares, nan_ok=True)


def test_a_volume_proves_no_mark_for_the_prices(file: Path) -> None:
    def plain(bar: Bar) -> str:
        prices = ";".join(str(price).replace(".", ",") for price in (bar.open, bar.high, bar.low, bar.close))
        return f"{bar.day};AAPL;{prices};1,234,567"

    found = read(file, table(HEADER.replace(",", ";"), plain))
    assert (found.tables["close"]["AAPL"].iloc[0], volumes(found)[0]) == (BARS[0].close, 1_234_567)


# --- splits and dividends --------------------------------------------------------------------------------------------


def adjusted_text(volume_name: str = "volume", extra: str = "") -> str:
    """Return raw bars of a share that is split 2:1 on the 21st day and pays a dividend on the 11th."""

    def write(bar: Bar) -> str:
        number = BARS.index(bar)
        raw = 2.0 if number < 20 else 1.0
        factor = (0.5 if number < 20 else 1.0) * (0.99 if number < 10 else 1.0)
        prices = ",".join(repr(price * raw) for price in (bar.open, bar.high, bar.low, bar.close))
        return f"{bar.day},AAPL,{prices},{bar.close * raw * factor!r},{500 if number < 20 else 1000}{extra}"

    more = ",adj_volume" if extra else ""
    return table(f"date,symbol,open,high,low,close,adj_close,{volume_name}{more}", write)


def test_a_split_and_a_dividend_change_the_prices_alike_and_the_split_alone_the_volume(file: Path) -> None:
    file.write_text(adjusted_text())
    bars = ask(file)
    ohlv, closes = bars.ohlv["AAPL"], bars.closes["AAPL"].to_numpy()
    for number, bar in enumerate(BARS):
        assert ohlv[number, :3] / closes[number] == pytest.approx([bar.open, bar.high, bar.low] / np.array(bar.close))
    assert closes[0] == pytest.approx(BARS[0].close * 0.99)
    assert ohlv[:, 3].tolist() == [1_000] * len(BARS)


def test_a_volume_that_is_adjusted_already_stays(file: Path) -> None:
    assert volumes(read(file, adjusted_text("adj_volume"))) == [500] * 20 + [1_000] * 10
    assert volumes(read(file, adjusted_text(extra=",77"))) == [77] * len(BARS)


def test_the_volume_as_traded_goes_with_prices_that_are_not_adjusted(file: Path) -> None:
    found = read(file, table(f"{HEADER},adj_volume", lambda bar: f"{row(bar)},77"))
    assert volumes(found) == [1_000] * len(BARS)


def test_bars_with_nothing_but_adjusted_closes_have_closes_only(file: Path) -> None:
    file.write_text(table("date,symbol,open,high,low,adj_close,volume", row))
    (denial,) = ask(file).denials
    assert "closes only" in denial.detail


# --- the same rows as the closes -------------------------------------------------------------------------------------


def make(closes: Sequence[float], volume: Sequence[float] | None = None, last: datetime = LAST) -> Series:
    """Return a series whose opens are the closes, highs and lows a tenth from them, with the number of each row."""
    days = pd.bdate_range(end=last, periods=len(closes) + 2, normalize=False)
    index = days[days.strftime("%m-%d") != "12-26"][-len(closes) :]
    usd = np.array(closes, float)
    shares = np.arange(len(closes)) if volume is None else np.array(volume, float)
    ohlv: Ohlv = np.column_stack([usd, usd * 1.1, usd * 0.9, shares])
    return Series(pd.Series(usd, index), interval="1d", ohlv=ohlv)


def rows(series: Series) -> list[float]:
    ohlv = series.fitted_ohlv()
    assert ohlv is not None
    assert ohlv[:, 0].tolist() == series.fitted().tolist()
    return [float(each) for each in ohlv[:, 3]]


def test_a_bar_that_is_left_out_is_left_out_as_a_whole() -> None:
    assert rows(make([10, nan, 11, -3, 12])) == [0, 2, 4]


def test_bars_out_of_order_are_sorted_with_their_closes() -> None:
    series = make([10, 11, 12, 13])
    order = [2, 0, 3, 1]
    ohlv = series.fitted_ohlv()
    assert ohlv is not None
    assert rows(Series(series.closes.iloc[order], interval="1d", ohlv=ohlv[order])) == [0, 1, 2, 3]


def test_a_part_has_its_own_bars() -> None:
    series = make([10, 11, 12, 13, 14])
    assert rows(series.until(LAST - timedelta(days=1), count=2)) == [2, 3]


def test_a_wrong_price_is_left_out_with_its_bar() -> None:
    series = make([10, 10.1, 10, 33, 10, 10.1, 10, 10.1, 10, 10.1, 10])
    assert 3 not in rows(series)
    assert len(rows(series)) == len(series) - 1


def test_impossible_volumes_become_missing() -> None:
    assert rows(make([10, 11, 12], [-1, inf, 5]))[2] == 5
    assert np.isnan(rows(make([10, 11, 12], [-1, inf, 5]))[:2]).all()


def test_a_series_without_them_has_none() -> None:
    series = Series(make([10, 11]).closes, interval="1d")
    assert (series.fitted_ohlv(), series.describe_lack()) == (None, "closes only")


# --- what a run gets -------------------------------------------------------------------------------------------------

WIDE = table("timestamp,AAPL", lambda bar: f"{bar.day},{bar.close}")


def test_closes_alone_are_denied_if_more_is_needed(file: Path) -> None:
    file.write_text(WIDE)
    bars = ask(file)
    (denial,) = bars.denials
    assert (denial.code, bars.closes, bars.ohlv) == (Code.NO_PRICE_DATA, {}, {})
    assert denial.detail == "file: closes only, but SIGNAL=rules/mine.py needs open, high, low and volume"


def test_closes_alone_are_enough_otherwise(file: Path) -> None:
    file.write_text(table(HEADER, row))
    bars = ask(file, ohlcv_for="")
    assert (set(bars.closes), bars.ohlv, bars.denials) == ({"AAPL"}, {}, ())


@pytest.mark.parametrize("volume", ["", "0", "none"])
def test_a_symbol_without_any_volume_is_denied(file: Path, volume: str) -> None:
    lines = [row(bar, volume if symbol == "KO" else 5, symbol) for bar in BARS for symbol in ("AAPL", "KO")]
    file.write_text("\n".join([HEADER, *lines]))
    bars = ask(file, "AAPL", "KO")
    (denial,) = bars.denials
    assert (set(bars.closes), denial.symbol) == ({"AAPL"}, "KO")
    assert denial.detail == "file: no volume, but SIGNAL=rules/mine.py needs open, high, low and volume"


def test_the_next_source_is_asked_for_a_symbol_with_closes_only(file: Path, tmp_path: Path) -> None:
    file.write_text(WIDE)
    other = tmp_path / "bars.csv"
    other.write_text(table(HEADER, row))
    bars = ask(file, others=[other])
    assert (set(bars.ohlv), bars.denials) == ({"AAPL"}, ())


def test_a_bar_that_is_mended_is_as_good_as_others(file: Path) -> None:
    def write(bar: Bar) -> str:
        return row(bar) if bar != BARS[5] else f"{bar.day},AAPL,,1,900,{bar.close},3"

    file.write_text(table(HEADER, write))
    bars = ask(file)
    ohlv, close = bars.ohlv["AAPL"], bars.closes["AAPL"].iloc[5]
    assert ohlv[5].tolist() == [close, close, close, 3]
    assert bars.denials == ()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("close", ["inf", "-inf", "0", "-3", ""])
def test_a_bar_with_an_impossible_close_is_left_out_without_a_warning(file: Path, close: str) -> None:
    file.write_text(table(HEADER, lambda bar: row(bar) if bar != BARS[5] else f"{bar.day},AAPL,1,2,1,{close},3"))
    bars = ask(file)
    assert len(bars.ohlv["AAPL"]) == len(bars.closes["AAPL"]) == len(BARS) - 1
    assert 3 not in bars.ohlv["AAPL"][:, 3]


def test_the_rest_of_a_bar_has_its_closes_day(file: Path) -> None:
    file.write_text(table(HEADER, lambda bar: row(bar, bar.day.day)))
    bars = ask(file)
    days = [time.astimezone(NEW_YORK).day for time in bars.closes["AAPL"].index]
    assert bars.ohlv["AAPL"][:, 3].tolist() == days
