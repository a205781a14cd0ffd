"""Price files in Excel's format and in Parquet."""

import sys
from collections.abc import Callable
from datetime import time
from pathlib import Path

import pandas as pd
import pytest

from tests.unit.trader.prices.files import BARS, DAYS, NOW, bars, closes
from trader.model import NEW_YORK
from trader.prices import cells
from trader.prices.table import PriceFileError, PriceTable, read_table


def frame() -> pd.DataFrame:
    """Return the bars as yfinance's history does."""
    index = pd.DatetimeIndex(DAYS, name="Date").tz_localize("America/New_York")
    columns = {name: [getattr(bar, name.lower()) for bar in BARS] for name in ("Open", "High", "Low", "Close")}
    return pd.DataFrame({**columns, "Volume": 9}, index=index)


def by_ticker() -> pd.DataFrame:
    table = pd.concat({"AAPL": frame(), "KO": frame() * 2}, axis=1, names=["Ticker", "Price"])
    return table.swaplevel(axis=1).sort_index(axis=1)


def long() -> pd.DataFrame:
    return pd.concat({"AAPL": frame(), "KO": frame() * 2}, names=["symbol"]).reset_index()


def as_wide() -> pd.DataFrame:
    return pd.DataFrame({"AAPL": frame()["Close"], "KO": frame()["Close"] * 2})


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "yfinance's history": frame,
    "yfinance's download": by_ticker,
    "yfinance's download by ticker": lambda: by_ticker().swaplevel(axis=1).sort_index(axis=1),
    "long": long,
    "two levels of rows": lambda: long().set_index(["Date", "symbol"]),
    "wide": as_wide,
    "newest first": lambda: frame().iloc[::-1],
    "single precision": lambda: as_wide().astype("float32").astype("float64").round(2),
}


def read(path: Path, universe: str = "AAPL", interval: str = "1d") -> PriceTable:
    return read_table(path, bar_interval=interval, universe=(universe,), now=NOW)


def refuse(path: Path) -> str:
    with pytest.raises(PriceFileError) as caught:
        read(path)
    return str(caught.value).removeprefix(f"price file {path}")


def to_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path)


def to_excel(table: pd.DataFrame, path: Path) -> None:
    if isinstance(table.index, pd.DatetimeIndex):
        table = table.tz_localize(None)  # Excel has no zones
    elif isinstance(table.index, pd.MultiIndex):
        table = table.reset_index()
    if "Date" in table:
        table = table.assign(Date=table["Date"].dt.tz_localize(None))
    table.to_excel(path, index=not isinstance(table.index, pd.RangeIndex))


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize(("ending", "write"), [(".parquet", to_parquet), (".xlsx", to_excel)])
def test_what_pandas_writes_is_read_to_the_digit(
    tmp_path: Path, name: str, ending: str, write: Callable[[pd.DataFrame, Path], None]
) -> None:
    path = tmp_path / f"prices{ending}"
    write(FRAMES[name](), path)
    prices = read(path)
    assert closes(prices) == [bar.close for bar in BARS]
    if prices.has_ohlc:
        assert bars(prices) == BARS


def test_dates_and_times_of_day_in_cells_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "prices.xlsx"
    table = pd.DataFrame({"Date": pd.Timestamp(DAYS[0]), "Time": [time(9, 30), time(9, 45)], "Close": [1, 2]})
    table.to_excel(path, index=False)
    starts = read(path, interval="15m").tables["close"].index
    assert [f"{start.astimezone(NEW_YORK):%Y-%m-%d %H:%M}" for start in starts] == [
        f"{DAYS[0]} 09:30",
        f"{DAYS[0]} 09:45",
    ]


def test_texts_in_cells_are_read_as_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "prices.xlsx"
    pd.DataFrame({"Date": ["12/27/2022", "12/28/2022"], "Close/Last": ["$1,152.51", "$153.00"]}).to_excel(
        path, index=False
    )
    assert closes(read(path)) == [1152.51, 153]


def test_a_faulty_cell_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "prices.xlsx"
    pd.DataFrame({"Date": ["2022-12-27", "2022-12-28"], "AAPL": [5, "five"]}).to_excel(path, index=False)
    assert refuse(path).startswith(", line 3: the price of AAPL is 'five'")


def test_a_faulty_text_in_parquet_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "prices.parquet"
    pd.DataFrame({"Date": ["2022-12-27", "2022-12-28"], "AAPL": ["5", "five"]}).to_parquet(path)
    assert refuse(path).startswith(", line 3: the price of AAPL is 'five'")


@pytest.mark.parametrize("kind", ["bool", "boolean"])
def test_truths_in_parquet_are_no_prices(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "prices.parquet"
    truths = pd.Series([True, False], dtype=kind)
    pd.DataFrame({"Date": ["2022-12-27", "2022-12-28"], "AAPL": truths}).to_parquet(path)
    assert "the price of AAPL is 'True'" in refuse(path)


def test_two_sheets_with_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.xlsx"
    with pd.ExcelWriter(path) as writer:
        for name in ("AAPL", "MSFT"):
            as_wide().tz_localize(None).to_excel(writer, sheet_name=name)
    assert refuse(path) == " has 2 sheets (AAPL, MSFT); keep the one with the prices"


def test_empty_sheets_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "prices.xlsx"
    with pd.ExcelWriter(path) as writer:
        pd.DataFrame().to_excel(writer, sheet_name="Sheet1")
        as_wide().tz_localize(None).to_excel(writer, sheet_name="Sheet2")
    assert closes(read(path)) == [bar.close for bar in BARS]


@pytest.mark.parametrize("ending", [".xlsx", ".parquet", ".XLSX", ".pq"])
def test_other_data_under_the_name_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"prices{ending}"
    path.write_text("date,AAPL\n2022-12-28,5\n")
    assert refuse(path).startswith(f" is damaged, or not what {ending} says")


@pytest.mark.parametrize("ending", [".xlsx", ".parquet"])
def test_a_damaged_file_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"prices{ending}"
    (to_excel if ending == ".xlsx" else to_parquet)(frame(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    assert f" is damaged, or not what {ending} says" in refuse(path)


@pytest.mark.parametrize("ending", [".xlsx", ".parquet"])
def test_a_missing_file_is_reported_as_missing(tmp_path: Path, ending: str) -> None:
    assert "No such file or directory; set PRICE_FILE to a file of prices" in refuse(tmp_path / f"none{ending}")


@pytest.mark.parametrize("ending", [".xlsx", ".parquet"])
def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"prices{ending}"
    (to_excel if ending == ".xlsx" else to_parquet)(frame(), path)
    monkeypatch.setattr(cells, "MAX_CHARACTERS", 100)
    assert refuse(path) == " has more than 100 characters; use a smaller file"


@pytest.mark.parametrize(("ending", "library"), [(".xlsx", "openpyxl"), (".parquet", "pyarrow")])
def test_without_the_library_the_error_says_what_to_do(
    tmp_path: Path, ending: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"prices{ending}"
    (to_excel if ending == ".xlsx" else to_parquet)(frame(), path)
    monkeypatch.setitem(sys.modules, library, None)
    assert refuse(path) == (
        f" needs {library}, which is not installed here (it is no part of the layer for Lambda); save the file as CSV"
    )
