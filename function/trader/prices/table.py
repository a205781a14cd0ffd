"""Prices from a CSV file: the first column holds the timestamps, each other column the closes of one symbol."""

import csv
import gzip
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from trader.model import NEW_YORK, YEARS
from trader.prices.base import PriceSourceError

MAX_CHARACTERS = 100_000_000
"""The maximum size of an unpacked price file; ten years of the S&P 500's closes take about ten million characters."""

MIN_LINE_CHARACTERS = 60
"""The fewest characters that a line counts as: reading a hundred million empty lines would take minutes."""

TEXT: Any = {"encoding": "utf-8-sig", "newline": ""}

NO_NUMBER = re.compile(r"[^\x00-\x7f]|_")
"""Characters that Python accepts in a number but no price has, such as `_` in 1_5 or digits of other scripts."""

type CsvRow = tuple[int, list[str]]
"""The number of a line in the file, and its fields."""


class PriceFileError(PriceSourceError):
    """The price file cannot be read or is malformed; the message says where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """The contents of a price file."""

    tables: Mapping[str, pd.DataFrame]
    has_ohlc: bool
    kind: str
    notes: tuple[str, ...]


def read_table(path: Path, *, bar_interval: str, universe: Sequence[str], now: datetime) -> PriceTable:  # noqa: ARG001
    """Read a price file."""
    rows = read_rows(path)
    symbols = _symbols(path, next(rows))
    times: list[datetime] = []
    prices_usd = array("d")
    for line, fields in rows:
        times.append(_later(path, line, fields[0], bar_interval == "1d", times))
        prices_usd.extend(_numbers(path, line, fields[1:], symbols))
    values = np.frombuffer(prices_usd).reshape(len(times), len(symbols))
    table = pd.DataFrame(values, index=pd.DatetimeIndex(times), columns=symbols)
    tables = dict.fromkeys(("open", "high", "low", "close"), table)
    return PriceTable(tables=tables, has_ohlc=False, kind=f"closes of {len(symbols)} symbols", notes=())


def read_rows(path: Path) -> Iterator[CsvRow]:
    """Yield the header, then each line of a CSV file that is not blank; the file is gzip if its name ends in .gz.

    Raises PriceFileError if the file is not CSV, if it has no line after the header, or if a line has more or fewer
    fields than the header.
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
                    what = f"{len(fields)} fields, but the header has {width}"
                    remedy = "complete the row, or remove it if the file was cut off there"
                    raise fault(path, reader.line_num, what, remedy)
                yield reader.line_num, fields
        except csv.Error as error:
            raise fault(path, reader.line_num, f"not CSV ({error})", "correct the quotes in this line") from error
    if not count:
        raise PriceFileError(f"price file {path} is empty; it needs a header row and a row for each bar")
    if count == 1:
        raise PriceFileError(f"price file {path} has only a header row; add a row for each bar")


@contextmanager
def _open(path: Path) -> Iterator[Iterator[str]]:
    """Open a file to read line by line. Raises PriceFileError if it is not text or is too large."""
    try:
        with gzip.open(path, "rt", **TEXT) if path.suffix == ".gz" else path.open(**TEXT) as file:
            yield _limit_characters(path, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PriceFileError(
            f"price file {path} is damaged or not gzip ({error}); create or download it again"
        ) from error
    except UnicodeDecodeError as error:
        raise PriceFileError(f"price file {path} is not UTF-8 text ({error}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise PriceFileError(f"price file {path}: {error.strerror}; set PRICE_FILE to a CSV file of closes") from error


def _limit_characters(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines up to MAX_CHARACTERS in all: a small gzip file may unpack to any size, or to an endless line."""
    left = MAX_CHARACTERS
    while line := file.readline(left + 1):
        left -= max(len(line), MIN_LINE_CHARACTERS)
        if left < 0:
            raise PriceFileError(f"price file {path} has more than {MAX_CHARACTERS:,} characters; use a smaller file")
        yield line


def fault(path: Path, line: int, what: str, remedy: str) -> PriceFileError:
    """Return the error for one line of a price file."""
    return PriceFileError(f"price file {path}, line {line}: {what}; {remedy}")


def _symbols(path: Path, header: CsvRow) -> list[str]:
    line, fields = header
    symbols = [field.strip() for field in fields[1:]]
    if not symbols:
        raise fault(path, line, "the header has no symbols", "write it with commas, such as timestamp,AAPL,MSFT")
    for column, symbol in enumerate(symbols, start=2):
        if not symbol or not symbol.isprintable():
            raise fault(path, line, f"column {column} has no symbol", "add one, or remove the column")
    symbol, times = Counter(symbols).most_common(1)[0]
    if times > 1:
        raise fault(path, line, f"column {symbol} occurs {times} times", "keep one of them")
    return symbols


def _later(path: Path, line: int, text: str, is_daily: bool, before: Sequence[datetime]) -> datetime:
    """Return a bar's start. Raises PriceFileError if it is not later than the bars before it."""
    time = bar_time(path, line, text, is_daily)
    if before and time <= before[-1]:
        what = f"timestamp {text!r} is {'repeated' if time == before[-1] else 'earlier than the one before'}"
        raise fault(path, line, what, "sort the rows by time and keep one row for each time")
    return time


def bar_time(path: Path, line: int, text: str, is_daily: bool) -> datetime:
    """Return a bar's start, read from a price file. Raises PriceFileError if it is not ISO 8601 or not in YEARS."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        remedy = "write it as in 2022-12-28 or 2022-12-28T15:45:00-05:00"
        raise fault(path, line, f"timestamp {text!r:.100} is not ISO 8601", remedy) from error
    if time.year not in YEARS:
        what = f"timestamp {text!r} is not in the years {YEARS[0]} to {YEARS[-1]}"
        raise fault(path, line, what, "correct it, or remove the row")
    if is_daily:  # its time may be midnight in any zone, the opening or the close: only the date as written counts
        time = datetime(time.year, time.month, time.day, tzinfo=NEW_YORK)
    return (time if time.tzinfo else time.replace(tzinfo=NEW_YORK)).astimezone(UTC)


def _numbers(path: Path, line: int, fields: Sequence[str], symbols: Sequence[str]) -> list[float]:
    try:
        if not NO_NUMBER.search("".join(fields)):
            return [float(field or "nan") for field in fields]
    except ValueError:
        pass
    symbol, field = next(each for each in zip(symbols, fields, strict=True) if not is_number(each[1]))
    raise fault(path, line, f"the price of {symbol} is {field!r:.100}", "write a number, or leave the field empty")


def is_number(field: str) -> bool:
    """Check whether a field of a price file is a number or empty."""
    try:
        float(field or "nan")
    except ValueError:
        return False
    return not NO_NUMBER.search(field)
