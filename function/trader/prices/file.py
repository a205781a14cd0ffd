"""Prices from a CSV file: the first column the timestamp, one column of closes for each symbol."""

import csv
import gzip
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from trader.model import NEW_YORK, YEARS, Closes
from trader.prices.base import PriceSourceError
from trader.progress import Progress

MAX_CHARACTERS = 100_000_000
"""Of a price file, unpacked: ten years of the S&P 500's closes have some ten million."""

MIN_LINE_CHARACTERS = 60
"""A line counts for so many at least: a hundred million empty ones would take minutes."""

TEXT: Any = {"encoding": "utf-8-sig", "newline": ""}

NO_NUMBER = re.compile(r"[^\x00-\x7f]|_")
"""What Python takes for a part of a number, such as 1_5 or another script's digits, and no price is written with."""

type Row = tuple[int, list[str]]
"""A line number of the file and the fields of that line."""


class PriceFileError(PriceSourceError):
    """The price file cannot be read, or is not what it has to be; says where and what to do."""


class FilePrices:
    """Closes from a CSV file (gzip if its name ends in .gz), read once for as long as the file does not change.

    Timestamps are ISO 8601 and strictly increasing; without an offset they are New York time, and of a daily bar only
    the date counts. Closes are in USD; an empty field is a missing bar. Every method raises PriceFileError if the file
    is missing or malformed.
    """

    def __init__(self, path: Path, bar_interval: str = "1d") -> None:
        self._path = path
        self._is_daily = bar_interval == "1d"

    @property
    def name(self) -> str:
        """As the setting PRICE_SOURCES spells it."""
        return "file"

    def symbols(self, now: datetime | None = None) -> frozenset[str]:
        """The columns of the file; with `now`, those that have a price by then: what is listed later cannot be had."""
        table = self._table()
        return frozenset(table.columns if now is None else table.columns[table.loc[:now].notna().any()])

    def last_bar(self) -> datetime:
        """The start of the last bar: the latest moment that the file can be asked about."""
        last: datetime = self._table().index[-1].to_pydatetime()
        return last

    def closes(self, symbols: Sequence[str], count: int, now: datetime, progress: Progress) -> Mapping[str, Closes]:
        """Up to `count` closes of each symbol that the file has, the last bar's start not after `now`."""
        bars = self._table().loc[:now].iloc[-count:]
        progress("prices from the file", len(symbols), len(symbols))
        return {symbol: bars[symbol] for symbol in symbols if symbol in bars.columns}

    def _table(self) -> pd.DataFrame:
        try:
            status = self._path.stat()
        except OSError as error:
            raise PriceFileError(
                f"price file {self._path}: {error.strerror}; set PRICE_FILE to a CSV file of closes"
            ) from error
        return _load(self._path, self._is_daily, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _load(path: Path, is_daily: bool, _mtime_ns: int, _size: int) -> pd.DataFrame:
    rows = read_rows(path)
    symbols = _symbols(path, next(rows))
    times: list[datetime] = []
    prices_usd = array("d")
    for line, fields in rows:
        times.append(_later(path, line, fields[0], is_daily, times))
        prices_usd.extend(_numbers(path, line, fields[1:], symbols))
    table = np.frombuffer(prices_usd).reshape(len(times), len(symbols))
    return pd.DataFrame(table, index=pd.DatetimeIndex(times), columns=symbols)


def read_rows(path: Path) -> Iterator[Row]:
    """The lines of a CSV file that are not blank, the header first; gzip if its name ends in .gz.

    Raises PriceFileError where the file is not CSV or a line is wider or narrower than the header, and if there is
    nothing but a header.
    """
    width = count = 0
    with _open(path) as lines:
        reader = csv.reader(lines, strict=True)
        try:
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                count += 1
                width = width or len(fields)
                if len(fields) != width:
                    what = f"{len(fields)} fields where the header has {width}"
                    remedy = "complete the row, or remove it if the file was cut off there"
                    raise fault(path, reader.line_num, what, remedy)
                yield reader.line_num, fields
        except csv.Error as error:
            raise fault(path, reader.line_num, f"not CSV ({error})", "repair the quotes of that line") from error
    if not count:
        raise PriceFileError(f"price file {path} is empty; it needs a header row and a row for each bar")
    if count == 1:
        raise PriceFileError(f"price file {path} has a header row only; add a row for each bar")


@contextmanager
def _open(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a file, read as they are asked for. Raises PriceFileError where they are no text, or too many."""
    try:
        with gzip.open(path, "rt", **TEXT) if path.suffix == ".gz" else path.open(**TEXT) as file:
            yield _limit_characters(path, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PriceFileError(f"price file {path} is torn or not gzip ({error}); make or download it anew") from error
    except UnicodeDecodeError as error:
        raise PriceFileError(f"price file {path} is not UTF-8 text ({error}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise PriceFileError(f"price file {path}: {error.strerror}; set PRICE_FILE to a CSV file of closes") from error


def _limit_characters(path: Path, file: TextIO) -> Iterator[str]:
    """The lines, however little a packed file seems to be, and none that goes on for ever."""
    left = MAX_CHARACTERS
    while line := file.readline(left + 1):
        left -= max(len(line), MIN_LINE_CHARACTERS)
        if left < 0:
            raise PriceFileError(f"price file {path} has more than {MAX_CHARACTERS:,} letters; use a smaller one")
        yield line


def fault(path: Path, line: int, what: str, remedy: str) -> PriceFileError:
    """The error for one line of a price file."""
    return PriceFileError(f"price file {path}, line {line}: {what}; {remedy}")


def _symbols(path: Path, header: Row) -> list[str]:
    line, fields = header
    symbols = [field.strip() for field in fields[1:]]
    if not symbols:
        raise fault(path, line, "no symbols", "the header is a comma-separated row such as timestamp,AAPL,MSFT")
    for column, symbol in enumerate(symbols, start=2):
        if not symbol or not symbol.isprintable():
            raise fault(path, line, f"column {column} has no symbol", "give it one, or remove the column")
    symbol, times = Counter(symbols).most_common(1)[0]
    if times > 1:
        raise fault(path, line, f"column {symbol} stands there {times} times", "keep one of them")
    return symbols


def _later(path: Path, line: int, text: str, is_daily: bool, before: Sequence[datetime]) -> datetime:
    """A bar's start, if it is later than all before."""
    time = bar_time(path, line, text, is_daily)
    if before and time <= before[-1]:
        what = f"timestamp {text!r} is {'repeated' if time == before[-1] else 'earlier than the one before'}"
        raise fault(path, line, what, "sort the rows by time, and keep one row for each time")
    return time


def bar_time(path: Path, line: int, text: str, is_daily: bool) -> datetime:
    """A bar's start as it stands in a price file. Raises PriceFileError if it is not ISO 8601."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        remedy = "write it like 2022-12-28 or 2022-12-28T15:45:00-05:00"
        raise fault(path, line, f"timestamp {text!r:.100} is not ISO 8601", remedy) from error
    if time.year not in YEARS:
        what = f"timestamp {text!r} is of no year from {YEARS[0]} to {YEARS[-1]}"
        raise fault(path, line, what, "correct it, or remove the row")
    if is_daily:  # stamped with midnight in some zone, the opening or the close: a daily bar is its date as written
        time = datetime(time.year, time.month, time.day, tzinfo=NEW_YORK)
    return (time if time.tzinfo else time.replace(tzinfo=NEW_YORK)).astimezone(UTC)


def _numbers(path: Path, line: int, fields: Sequence[str], symbols: Sequence[str]) -> list[float]:
    try:
        if not NO_NUMBER.search("".join(fields)):
            return [float(field or "nan") for field in fields]
    except ValueError:
        pass
    symbol, field = next(each for each in zip(symbols, fields, strict=True) if not is_number(each[1]))
    raise fault(path, line, f"{symbol} has {field!r:.100} for a price", "write a number, or nothing if there is none")


def is_number(field: str) -> bool:
    """Whether a field of a price file is a number, or empty."""
    try:
        float(field or "nan")
    except ValueError:
        return False
    return not NO_NUMBER.search(field)
