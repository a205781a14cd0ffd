"""The rows of a price file as text, and those of a CSV file. See trader.prices.cells for Excel and Parquet."""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, time
from itertools import chain, islice
from math import isnan
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import pandas as pd

from trader.prices.faults import PriceFileError, fault
from trader.prices.timestamps import find_form

MAX_CHARACTERS = 200_000_000
"""The maximum size of an unpacked price file; ten years of the S&P 500's bars take 60 to 170 million characters."""

MAX_LINE_CHARACTERS = 2_000_000
"""The maximum length of a line: ten thousand symbols with prices of full precision take 200,000 characters."""

MIN_LINE_CHARACTERS = 100
"""The fewest characters that a line counts as: reading a hundred million empty lines would take minutes."""

CHUNK_BYTES, MAX_CHUNK_BYTES, CHUNK_BYTES_PER_FIELD = 2_000_000, 12_000_000, 4_000
"""How much of a file is read at once: more if it has many columns, because each costs time in every chunk."""

CHUNK_FIELDS = 200_000
"""How many fields are in memory as text at once."""

HEAD_ROWS = 1_000
"""How many rows are looked at to find out what a file is."""

HEAD_BYTES = 1_000_000

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

type Row = list[str]

type Block = Rows | PlainLines | Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRow:
    """One of a file's first rows; rows count from 0, also blank ones, and lines from 1."""

    row: int
    line: int  # the last line of the row: a field in quotes may have several
    fields: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of any kind, also blank ones and rows with too few fields."""

    first_row: int
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainLines:
    """Lines that each are a row of as many fields as the header, in ASCII and without quotes."""

    first_row: int
    data: bytes
    delimiter: str

    def split(self) -> Rows:
        """Return the rows as text."""
        lines = self.data.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
        return Rows(first_row=self.first_row, rows=[line.split(self.delimiter) for line in lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Rows of a table with types, as columns."""

    first_row: int
    columns: "Sequence[pd.Series[Any]]"

    def split(self) -> Rows:
        """Return the rows as text."""
        texts = ([write_cell(cell) for cell in column.tolist()] for column in self.columns)
        return Rows(first_row=self.first_row, rows=list(map(list, zip(*texts, strict=True))))


def write_cell(cell: object) -> str:
    """Return a cell as it would be written in CSV."""
    if isinstance(cell, str):
        return cell
    if cell is None or cell is pd.NaT or cell is pd.NA or (isinstance(cell, float) and isnan(cell)):
        return ""
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)


class Source(Protocol):
    """A price file as rows of text."""

    @property
    def head(self) -> Sequence[HeadRow]:
        """The first rows that are not blank."""

    @property
    def delimiter(self) -> str:
        """What is between the fields; a comma if the fields are cells."""

    def read(self, after: HeadRow) -> Iterator[Block]:
        """Yield all rows after the header's last one."""

    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """Return the number of each row's line, counted from 1."""


class TextSource:
    """The rows of a CSV file, whatever its delimiter; gzip if the name ends in .gz."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            start = file.read(HEAD_BYTES)
            start += file.readline(MAX_LINE_CHARACTERS) if start[-1:] != b"\n" else b""
            text = start.decode("utf-8-sig")
        self._has_old_ends = _has_old_ends(start)
        self._delimiter, self._head = _find_delimiter(path, text)

    @property
    def head(self) -> Sequence[HeadRow]:
        """The first rows that are not blank."""
        return self._head

    @property
    def delimiter(self) -> str:
        """What is between the fields."""
        return self._delimiter

    def read(self, after: HeadRow) -> Iterator[Block]:
        """Yield the rows after `after`: plain lines as long as there are, and all others as fields."""
        width = len(after.fields)
        row, line = after.row + 1, after.line + 1
        with self._open() as file:
            size_bytes = max(CHUNK_BYTES, min(MAX_CHUNK_BYTES, CHUNK_BYTES_PER_FIELD * width))
            chunks = _limit(self._path, file, size_bytes)
            if self._has_old_ends:
                yield from self._parse(chunks, width, skip=row)
                return
            first = next(chunks, b"").split(b"\n", after.line)
            for data in chain(first[after.line :], chunks):
                if _are_plain(data, self._delimiter, width):
                    count = data.count(b"\n")
                    yield PlainLines(first_row=row, data=data, delimiter=self._delimiter)
                elif b'"' in data:
                    yield from self._parse(chain([data], chunks), width, first_row=row, first_line=line)
                    return
                else:
                    count = yield from self._parse([data], width, first_row=row, first_line=line)
                row, line = row + count, line + count

    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """Return the line of each row, by reading the file again."""
        wanted, found = set(rows), {}
        with self._open() as file:
            reader = csv.reader(_lines(_limit(self._path, file)), delimiter=self._delimiter, strict=True)
            try:
                for row, _ in enumerate(reader):
                    if row in wanted:
                        found[row] = reader.line_num
                    if len(found) == len(wanted):
                        break
            except csv.Error:
                pass  # after the rows that are asked for
        return {row: found.get(row, row + 1) for row in rows}

    def _parse(
        self, chunks: Iterable[bytes], width: int, *, skip: int = 0, first_row: int = 0, first_line: int = 1
    ) -> Generator[Rows, None, int]:
        """Yield the rows in these chunks after the first few; return how many rows there are."""
        reader = csv.reader(_lines(chunks), delimiter=self._delimiter, strict=True)
        count = max(1, CHUNK_FIELDS // width)
        row = first_row
        try:
            while rows := list(islice(reader, count)):
                yield Rows(first_row=row + min(skip, len(rows)), rows=rows[skip:])
                skip = max(0, skip - len(rows))
                row += len(rows)
        except csv.Error as error:
            line = first_line + reader.line_num - 1
            raise fault(self._path, line, f"not CSV ({error})", "correct the quotes in this line") from error
        return row - first_row

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        path = self._path
        try:
            with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
                yield cast("BinaryIO", file)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise PriceFileError(
                f"price file {path} is damaged or not gzip ({error}); create or download it again"
            ) from error
        except UnicodeDecodeError as error:
            raise PriceFileError(f"price file {path} is not UTF-8 text ({error}); save it as CSV in UTF-8") from error
        except OSError as error:
            raise PriceFileError(f"price file {path}: {error.strerror}; set PRICE_FILE to a file of prices") from error


def _limit(path: Path, file: BinaryIO, size_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield whole lines, a chunk of them at a time, up to MAX_CHARACTERS: a small gzip file may unpack to any size."""
    left = MAX_CHARACTERS
    is_first = True
    while data := file.read(size_bytes):
        if not data.endswith(b"\n"):
            rest = file.readline(MAX_LINE_CHARACTERS + 1)
            if len(rest) > MAX_LINE_CHARACTERS:
                raise PriceFileError(
                    f"price file {path} has a line of more than {MAX_LINE_CHARACTERS:,} characters; "
                    f"write a row for each bar"
                )
            data += rest if rest.endswith(b"\n") else rest + b"\n"
        lines = max(data.count(b"\n"), data.count(b"\r") if b"\r" in data else 0)
        left -= max(len(data), MIN_LINE_CHARACTERS * lines)
        if left < 0:
            raise PriceFileError(f"price file {path} has more than {MAX_CHARACTERS:,} characters; use a smaller file")
        yield data.removeprefix(codecs.BOM_UTF8) if is_first else data
        is_first = False


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Return the lines of chunks that end with a line; an end of line is kept as it is."""
    return chain.from_iterable(io.StringIO(data.decode(), newline="") for data in chunks)


def _has_old_ends(data: bytes) -> bool:
    r"""Check whether lines end with \r alone, as on old Macs."""
    return b"\r" in data and data.count(b"\r") != data.count(b"\r\n")


def _are_plain(data: bytes, delimiter: str, width: int) -> bool:
    """Check whether each line is a row of `width` fields without anything that needs a closer look."""
    if not data.isascii() or b'"' in data or b"\0" in data or _has_old_ends(data):
        return False
    characters = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    between = np.flatnonzero(characters == ord(delimiter))
    if len(between) != len(ends) * (width - 1) or not len(ends):
        return False
    by_line = between.reshape(len(ends), width - 1)
    return bool((by_line[:, -1] < ends).all() and (by_line[1:, 0] > ends[:-1]).all())


def _find_delimiter(path: Path, text: str) -> tuple[str, Sequence[HeadRow]]:
    """Return what is between the fields, and the first rows. Raises PriceFileError if it cannot be told."""
    possible = [delimiter for delimiter in DELIMITERS if delimiter == "," or delimiter in text]
    read = {delimiter: _read_head(text, delimiter) for delimiter in possible}
    rows, error = read[","]
    found = [delimiter for delimiter, (head, _) in read.items() if head and len(head[0].fields) > 1]
    if rows and not found:
        remedy = "write it with commas, such as timestamp,AAPL,MSFT"
        raise fault(path, rows[0].line, "the header has no symbols", remedy)
    if len(found) > 1:
        found = [delimiter for delimiter in found if _is_regular(read[delimiter][0])] or found[:1]
    if len(found) > 1:
        names = " and ".join(DELIMITERS[delimiter] for delimiter in found)
        remedy = "put texts with such characters in quotes"
        raise fault(path, rows[0].line, f"{names} may be what is between the fields", remedy)
    delimiter = found[0] if found else ","
    rows, error = read[delimiter]
    if error and len(rows) < 2:
        line = rows[-1].line + 1 if rows else 1
        raise fault(path, line, f"not CSV ({error})", "correct the quotes in this line")
    return delimiter, rows


def _read_head(text: str, delimiter: str) -> tuple[Sequence[HeadRow], csv.Error | None]:
    """Return the first rows that are not blank, and the error that ended the reading early, if one did."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[HeadRow] = []
    try:
        for row, fields in enumerate(reader):
            if any(field.strip() for field in fields):
                rows.append(HeadRow(row=row, line=reader.line_num, fields=fields))
            if len(rows) == HEAD_ROWS:
                break
    except csv.Error as error:
        return rows, error
    return rows, None


def _is_regular(head: Sequence[HeadRow]) -> bool:
    """Check whether most of the first rows are as wide as the header, and one has a time in it."""
    some = head[1:20]
    same = [each for each in some if len(each.fields) == len(head[0].fields)]
    return 2 * len(same) > len(some) and any(find_form(field) for each in same for field in each.fields)
