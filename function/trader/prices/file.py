"""Prices from a CSV file: the first column the timestamp, one column of closes for each symbol."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from trader.model import NEW_YORK, Closes
from trader.prices import PriceSourceError, Progress

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
    bars = list(rows)
    return pd.DataFrame(_numbers(path, bars, symbols), index=_index(path, bars, is_daily), columns=symbols)


def read_rows(path: Path) -> Iterator[Row]:
    """The lines of a CSV file that are not blank, the header first; gzip if its name ends in .gz.

    Raises PriceFileError where the file is not CSV or a line is wider or narrower than the header, and if there is
    nothing but a header.
    """
    reader = csv.reader(_text(path).splitlines(), strict=True)
    width = count = 0
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            count += 1
            width = width or len(fields)
            if len(fields) != width:
                what = f"{len(fields)} fields where the header has {width}"
                raise fault(path, reader.line_num, what, "complete the row, or remove it if the file was cut off there")
            yield reader.line_num, fields
    except csv.Error as error:
        raise fault(path, reader.line_num, f"not CSV ({error})", "repair the quotes of that line") from error
    if not count:
        raise PriceFileError(f"price file {path} is empty; it needs a header row and a row for each bar")
    if count == 1:
        raise PriceFileError(f"price file {path} has a header row only; add a row for each bar")


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PriceFileError(f"price file {path} is torn or not gzip ({error}); make or download it anew") from error
    except UnicodeDecodeError as error:
        raise PriceFileError(f"price file {path} is not UTF-8 text ({error}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise PriceFileError(f"price file {path}: {error.strerror}; set PRICE_FILE to a CSV file of closes") from error


def fault(path: Path, line: int, what: str, remedy: str) -> PriceFileError:
    """The error for one line of a price file."""
    return PriceFileError(f"price file {path}, line {line}: {what}; {remedy}")


def _symbols(path: Path, header: Row) -> list[str]:
    line, fields = header
    symbols = [field.strip() for field in fields[1:]]
    if not symbols:
        raise fault(path, line, "no symbols", "the header is a comma-separated row such as timestamp,AAPL,MSFT")
    if "" in symbols:
        raise fault(path, line, f"column {symbols.index('') + 2} has no symbol", "give it one, or remove the column")
    symbol, times = Counter(symbols).most_common(1)[0]
    if times > 1:
        raise fault(path, line, f"column {symbol} stands there {times} times", "keep one of them")
    return symbols


def _index(path: Path, rows: Sequence[Row], is_daily: bool) -> pd.DatetimeIndex:
    times = [bar_time(path, line, fields[0], is_daily) for line, fields in rows]
    for (earlier, later), (line, fields) in zip(pairwise(times), rows[1:], strict=True):
        if later <= earlier:
            what = f"timestamp {fields[0]!r} is {'repeated' if later == earlier else 'earlier than the one before'}"
            raise fault(path, line, what, "sort the rows by time, and keep one row for each time")
    return pd.DatetimeIndex(times)


def bar_time(path: Path, line: int, text: str, is_daily: bool) -> datetime:
    """A bar's start as it stands in a price file. Raises PriceFileError if it is not ISO 8601."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        remedy = "write it like 2022-12-28 or 2022-12-28T15:45:00-05:00"
        raise fault(path, line, f"timestamp {text!r} is not ISO 8601", remedy) from error
    if is_daily:  # stamped with midnight in some zone, the opening or the close: a daily bar is its date as written
        time = datetime(time.year, time.month, time.day, tzinfo=NEW_YORK)
    return (time if time.tzinfo else time.replace(tzinfo=NEW_YORK)).astimezone(UTC)


def _numbers(
    path: Path, rows: Sequence[Row], symbols: Sequence[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    numbers = np.empty((len(rows), len(symbols)))
    for row, (line, fields) in enumerate(rows):
        try:
            numbers[row] = [field or "nan" for field in fields[1:]]
        except ValueError as error:
            raise _not_a_number(path, line, fields[1:], symbols) from error
    return numbers


def _not_a_number(path: Path, line: int, fields: Sequence[str], symbols: Sequence[str]) -> PriceFileError:
    for symbol, field in zip(symbols, fields, strict=True):
        try:
            float(field or "nan")
        except ValueError:
            return fault(
                path, line, f"{symbol} has {field!r} for a price", "write a number, or nothing if there is none"
            )
    raise AssertionError("a row that failed has a field that fails")
