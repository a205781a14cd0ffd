"""Random tables, written in every format: read back to the digit, or refused."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trader.prices.files import NOW, list_days
from trader.prices import rows
from trader.prices.table import PriceFileError, PriceTable, read_table

SYMBOLS = ("AAPL", "MSFT", "BRK.B", "LOW", "OPEN", "C", "V", "MA", "KEY", "NOW", "ALL", "T", "O", "L")

DAYS = list_days(12)

PRICES = st.floats(0.01, 9_999).map(lambda price_usd: float(f"{price_usd:.6g}"))

type Grid = Sequence[Sequence[float | None]]
"""Closes: a row for each day, a column for each symbol."""


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], Grid]:
    """Return symbols and their closes; the first row and one symbol are complete."""
    symbols = draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=4, unique=True))
    row = st.lists(st.one_of(PRICES, PRICES, PRICES, st.none()), min_size=len(symbols), max_size=len(symbols))
    return symbols, draw(st.lists(row, min_size=1, max_size=len(DAYS)))


def comma(price_usd: float) -> str:
    return f"{price_usd!r}".replace(".", ",")


def us(day: date) -> str:
    return f"{day:%m/%d/%Y}"


def german(day: date) -> str:
    return f"{day:%d.%m.%Y}"


def english(day: date) -> str:
    return f'"{day:%b %d, %Y}"'


def unix(day: date) -> str:
    return str(int(datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC).timestamp()))


def wide(
    symbols: Sequence[str], grid: Grid, between: str, stamp: Callable[[date], str], number: Callable[[float], str]
) -> str:
    lines = [between.join(["Date", *symbols])]
    lines += [
        between.join([stamp(day), *("" if price is None else number(price) for price in row)])
        for day, row in zip(DAYS, grid, strict=False)
    ]
    return "\n".join(lines)


def long(symbols: Sequence[str], grid: Grid, between: str, stamp: Callable[[date], str]) -> str:
    lines = [between.join(["open", "Date", "high", "low", "close", "tic"])]
    lines += [
        between.join(
            [
                *("" if price is None else repr(price) for price in (price,)),
                stamp(day),
                *(["" if price is None else repr(price)] * 3),
                symbol,
            ]
        )
        for day, row in zip(DAYS, grid, strict=False)
        for symbol, price in zip(symbols, row, strict=True)
    ]
    return "\n".join(lines)


def yfinance(symbols: Sequence[str], grid: Grid, *, by_ticker: bool) -> str:
    frames = {
        ("Close", symbol): pd.Series([row[place] for row in grid], DAYS[: len(grid)], dtype=float)
        for place, symbol in enumerate(symbols)
    }
    frames |= {("Volume", symbol): series * 0 + 9 for (_, symbol), series in frames.items()}
    table = pd.DataFrame(frames).rename_axis(index="Date", columns=["Price", "Ticker"])
    return (table.swaplevel(axis=1).sort_index(axis=1) if by_ticker else table).to_csv()


WRITERS: Mapping[str, Callable[[Sequence[str], Grid], str]] = {
    "wide, commas": lambda symbols, grid: wide(symbols, grid, ",", str, repr),
    "wide, semicolons": lambda symbols, grid: wide(symbols, grid, ";", str, repr),
    "wide, tabs": lambda symbols, grid: wide(symbols, grid, "\t", unix, repr),
    "wide, decimal commas": lambda symbols, grid: wide(symbols, grid, ";", german, comma),
    "wide, US dates": lambda symbols, grid: wide(symbols, grid, ",", us, repr),
    "wide, months in words": lambda symbols, grid: wide(symbols, grid, ",", english, repr),
    "wide, dollars": lambda symbols, grid: wide(symbols, grid, ",", str, lambda price_usd: f'"${price_usd:,}"'),
    "long": lambda symbols, grid: long(symbols, grid, ",", str),
    "long, vertical bars": lambda symbols, grid: long(symbols, grid, "|", us),
    "yfinance": lambda symbols, grid: yfinance(symbols, grid, by_ticker=False),
    "yfinance by ticker": lambda symbols, grid: yfinance(symbols, grid, by_ticker=True),
}


def read_text(text: str, universe: Sequence[str]) -> PriceTable | None:
    """Return the table of a text; None if it is refused with one of the reasons that random prices may have."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prices.csv"
        path.write_text(text)
        try:
            return read_table(path, bar_interval="1d", universe=universe, now=NOW)
        except PriceFileError as error:
            reasons = (
                "two readings",
                "the header has no",
                "no other number shows which",
                "no other row shows which",
                "-day bars",
                "weekly bars",
            )
            if not any(reason in str(error) for reason in reasons):
                raise
            return None


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, deadline=None)
@given(tables(), st.booleans())
def test_what_is_written_is_read_to_the_digit_or_refused(
    name: str, table: tuple[list[str], Grid], is_listed: bool
) -> None:
    symbols, grid = table
    found = read_text(WRITERS[name](symbols, grid), tuple(symbols) if is_listed else ("sp500",))
    if found is None:
        return
    for symbol in found.tables["close"]:
        place = symbols.index(str(symbol))
        expected = [math.nan if row[place] is None else row[place] for row in grid]
        np.testing.assert_array_equal(found.tables["close"][symbol].to_numpy(), np.array(expected, float))


CELLS = st.sampled_from(
    (
        "5",
        "7.25",
        "",
        "NA",
        "x",
        "1_5",
        "inf",
        "1,5",
        "1.234",
        "AAPL",
        "KO",
        "2022-12-27",
        "2022-12-28",
        "28.12.2022",
        " ",
    )
)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=8)
HEADERS = st.sampled_from(
    ("date,AAPL,KO", "date,symbol,close", "date,close,note", "Date;Close;Note", "date,time,close")
)


def outcome(text: str) -> object:
    """Return what is read from a text, or why it is refused."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prices.csv"
        path.write_text(text)
        try:
            found = read_table(path, bar_interval="1d", universe=("AAPL",), now=NOW)
        except PriceFileError as error:
            return str(error).replace(folder, "")
        return found.kind, found.notes, found.tables["close"].to_csv(), found.has_ohlc


@settings(max_examples=200, deadline=None)
@given(HEADERS, ROWS)
def test_the_fast_parser_and_the_careful_one_agree(header: str, fields: list[list[str]]) -> None:
    between = ";" if ";" in header else ","
    text = "\n".join([header, *(between.join(row) for row in fields)]) + "\n"
    fast = outcome(text)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rows, "_are_plain", lambda *_: False)
        assert outcome(text) == fast


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(1, 40), st.integers(1, 5))
def test_it_does_not_matter_where_a_file_is_cut_into_chunks(
    table: tuple[list[str], Grid], chunk_bytes: int, chunk_fields: int
) -> None:
    text = wide(*table, ",", str, repr)
    whole = outcome(text)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rows, "CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr(rows, "MAX_CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr(rows, "CHUNK_FIELDS", chunk_fields)
        assert outcome(text) == whole
