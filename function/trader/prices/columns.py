"""The columns of a price file that are read: times and symbols as numbered texts, prices as numbers."""

import csv
import io
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from trader.prices.faults import Faults, fault
from trader.prices.layout import Layout
from trader.prices.price_numbers import (
    MISSING_TEXTS,
    Mark,
    find_mark,
    is_number,
    read_number,
    read_numbers,
    read_volume,
)
from trader.prices.rows import Cells, PlainLines, Row, Rows, Source, write_cell
from trader.prices.timestamps import join_times

MAX_NUMBERS = 40_000_000
"""The maximum number of prices; they and the tables made of them take 16 bytes each."""

MAX_FIELDS_PER_LINE = 20
"""Columns for each line from which the parser of pandas is slower, because each column costs it some time."""

MAX_UNPROVEN = 50_000
"""How many numbers such as 1,234 are looked at for one that shows what the comma is."""

BETWEEN = "\x1f"
"""What is between a date and a time of day of two columns."""

TRUTHS = (b"True", b"TRUE", b"true", b"False", b"FALSE", b"false")
"""What pandas reads as 1 or 0; no price is one of them."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
type SmallIntegers = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The rows of a file, as columns. `stamps` and `symbols` are distinct texts; the rows have their numbers."""

    stamps: Sequence[str]
    symbols: Sequence[str]
    stamp_of: SmallIntegers
    symbol_of: SmallIntegers
    row_of: SmallIntegers  # the row of the file
    prices: list[Floats]  # in the order of the layout's places; who has used one may empty it to free its memory

    def keep(self, is_kept: NDArray[np.bool_]) -> "Columns":
        """Return some of the rows."""
        return replace(
            self,
            stamp_of=self.stamp_of[is_kept],
            symbol_of=self.symbol_of[is_kept] if len(self.symbol_of) else self.symbol_of,
            row_of=self.row_of[is_kept],
            prices=[numbers[is_kept] for numbers in self.prices],
        )


def read_columns(path: Path, source: Source, layout: Layout, faults: Faults) -> Columns:
    """Read the columns that the layout names. What is wrong with single rows is added to `faults`.

    Raises PriceFileError if the file cannot be read to its end, or if its numbers have two readings.
    """
    if source.delimiter == ",":  # a number with a comma is in quotes, and rare
        try:
            return _Reader(layout, source.delimiter, None, "", faults).read(source)
        except _MarkNeededError:
            pass
    mark, proof = _decide_mark(path, source, layout)
    return _Reader(layout, source.delimiter, mark, proof, faults).read(source)


class _MarkNeededError(Exception):
    """A number has a comma, and it is not known yet whether decimals follow it."""


class _Numbering(dict[str, int]):
    """The numbers of distinct texts, in the order of their first appearance."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number

    def number(self, texts: Sequence[str]) -> SmallIntegers:
        return np.fromiter(map(self.__getitem__, texts), np.int32, len(texts))


@dataclass(slots=True)
class _Reader:
    """Reads blocks of rows."""

    layout: Layout
    delimiter: str
    mark: Mark | None
    proof: str  # a number that shows the mark
    faults: Faults
    stamps: _Numbering = field(default_factory=_Numbering)
    symbols: _Numbering = field(default_factory=_Numbering)
    # These grow in place: parts that are joined at the end would be in memory twice.
    stamp_of: array[int] = field(default_factory=lambda: array("i"))
    symbol_of: array[int] = field(default_factory=lambda: array("i"))
    row_of: array[int] = field(default_factory=lambda: array("i"))
    prices: list[array[float]] = field(default_factory=list)

    def read(self, source: Source) -> Columns:
        """Read all rows. Raises _MarkNeededError."""
        self.prices = [array("d") for _ in self.layout.places]
        for block in source.read(self.layout.header):
            if isinstance(block, Rows):
                self._read_rows(block)
            elif not (self._read_plain(block) if isinstance(block, PlainLines) else self._read_cells(block)):
                self._read_rows(block.split())
            if self.faults.are_enough or len(self.row_of) * len(self.prices) > MAX_NUMBERS:
                break
        stamps = list(self.stamps)
        if len(self.layout.times) == 2:
            days, clocks = zip(*(text.split(BETWEEN, 1) for text in stamps), strict=True) if stamps else ((), ())
            stamps = join_times(days, clocks)
        return Columns(
            stamps=stamps,
            symbols=list(self.symbols),
            stamp_of=np.frombuffer(self.stamp_of, np.int32),
            symbol_of=np.frombuffer(self.symbol_of, np.int32),
            row_of=np.frombuffer(self.row_of, np.int32),
            prices=[np.frombuffer(numbers) for numbers in self.prices],
        )

    def _read_plain(self, block: PlainLines) -> bool:
        """Read lines with the parser of pandas; return False if they need a closer look, or are very wide."""
        if len(self.layout.header.fields) > MAX_FIELDS_PER_LINE * block.data.count(b"\n"):
            return False
        places, texts = self.layout.places, self._text_places()
        types: dict[Any, str] = {**dict.fromkeys(texts, "object"), **dict.fromkeys(places, "float64")}
        missing: Any = sorted(MISSING_TEXTS)
        if self.layout.symbol is not None:  # NA is a symbol, too
            missing = dict.fromkeys(places, missing)
        try:
            table = pd.read_csv(
                io.BytesIO(block.data),
                header=None,
                names=range(len(self.layout.header.fields)),
                usecols=sorted({*places, *texts}),
                dtype=types,
                sep=self.delimiter,
                quoting=csv.QUOTE_NONE,
                keep_default_na=False,
                na_values=missing,
                decimal=self.mark or ".",
            )
        except ValueError:
            return False
        prices = table[places].to_numpy(float)
        may_be_truths = ((prices == 0) | (prices == 1) | np.isnan(prices)).all(axis=0).any()
        if may_be_truths and any(truth in block.data for truth in TRUTHS):
            return False
        columns = [_Texts.of(table[place].to_numpy(object)) for place in texts]
        return self._add(columns, block.first_row, list(prices.T))

    def _read_cells(self, block: Cells) -> bool:
        """Read columns with types; return False if they need a closer look."""
        prices = [block.columns[place] for place in self.layout.places]
        if not all(is_numeric_dtype(column) and not is_bool_dtype(column) for column in prices):
            return False
        columns = [_Texts.of(block.columns[place]) for place in self._text_places()]
        numbers = [column.to_numpy(np.float64, na_value=np.nan) for column in prices]
        return self._add(columns, block.first_row, numbers)

    def _add(self, columns: "Sequence[_Texts]", first_row: int, prices: Sequence[Floats]) -> bool:
        """Add rows, given the columns of times and of symbols; return False if a text is missing."""
        if any(not text.strip() for column in columns for text in column.texts):
            return False
        stamps = columns[0] if len(self.layout.times) == 1 else _join(*columns[:2])
        self.stamp_of.frombytes(self.stamps.number(stamps.texts)[stamps.codes].tobytes())
        if self.layout.symbol is not None:
            self.symbol_of.frombytes(self.symbols.number(columns[-1].texts)[columns[-1].codes].tobytes())
        self.row_of.frombytes(np.arange(first_row, first_row + len(stamps.codes), dtype=np.int32).tobytes())
        for numbers, more in zip(self.prices, prices, strict=True):
            numbers.frombytes(more.tobytes())
        return True

    def _text_places(self) -> list[int]:
        symbol = self.layout.symbol
        return [*self.layout.times, *([] if symbol is None else [symbol])]

    def _read_rows(self, block: Rows) -> None:
        numbers, rows = self._keep_whole(block)
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        stamps = columns[self.layout.times[0]]
        if len(self.layout.times) == 2:
            stamps = tuple(map(BETWEEN.join, zip(stamps, columns[self.layout.times[1]], strict=True)))
        self.stamp_of.extend(map(self.stamps.__getitem__, stamps))
        if self.layout.symbol is not None:
            self.symbol_of.extend(map(self.symbols.__getitem__, columns[self.layout.symbol]))
        self.row_of.extend(numbers)
        for prices, place in zip(self.prices, self.layout.places, strict=True):
            prices.extend(self._read_prices(columns[place], place, numbers))

    def _keep_whole(self, block: Rows) -> tuple[list[int], list[Row]]:
        """Return the rows that are complete, with their numbers, and note what is wrong with the others."""
        width = len(self.layout.header.fields)
        numbers, rows = [], []
        for number, fields in enumerate(block.rows, start=block.first_row):
            if len(fields) == width and all(fields[place].strip() for place in self._text_places()):
                numbers.append(number)
                rows.append(fields)
            elif any(map(str.strip, fields)):
                self.faults.add(number, *self._fault_of(fields))
        return numbers, rows

    def _fault_of(self, fields: Row) -> tuple[str, str]:
        width = len(self.layout.header.fields)
        if len(fields) != width:
            what = f"{len(fields)} field{'s' if len(fields) != 1 else ''}, but the header has {width}"
            return what, "complete the row, or remove it if the file was cut off there"
        is_time = any(not fields[place].strip() for place in self.layout.times)
        return f"the {'timestamp' if is_time else 'symbol'} is missing", "add it, or remove the row"

    def _read_prices(self, texts: Sequence[str], place: int, numbers: Sequence[int]) -> list[float]:
        try:
            return read_numbers(texts, self.mark)
        except ValueError:
            if place in self.layout.volume_places:
                return [read_volume(text, self.mark) for text in texts]
            return [self._read_price(*each, place) for each in zip(texts, numbers, strict=True)]

    def _read_price(self, text: str, number: int, place: int) -> float:
        try:
            return read_number(text, self.mark)
        except ValueError:
            if number in self.faults:
                return float("nan")
            if self.mark is None and is_number(text):
                raise _MarkNeededError from None
            what = f"{self.layout.describe(place)} is {text!r:.100}"
            if self.proof and is_number(text):
                what += f", but {self.proof:.30} shows that the mark before decimals is {self.mark}"
            self.faults.add(number, what, "write a number, or leave the field empty")
            return float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """A column of texts: the distinct ones, and the number of that of each row."""

    texts: Sequence[str]
    codes: Integers

    @classmethod
    def of(cls, column: "NDArray[np.object_] | pd.Series[Any]") -> "_Texts":
        codes, cells = pd.factorize(column, use_na_sentinel=False)
        return cls(texts=list(map(write_cell, cells.tolist())), codes=codes)


def _join(days: _Texts, clocks: _Texts) -> _Texts:
    """Return the dates with the times of day."""
    pairs, codes = np.unique(days.codes * len(clocks.texts) + clocks.codes, return_inverse=True)
    day_of, clock_of = np.divmod(pairs, len(clocks.texts))
    texts = [f"{days.texts[day]}{BETWEEN}{clocks.texts[clock]}" for day, clock in zip(day_of, clock_of, strict=True)]
    return _Texts(texts=texts, codes=codes)


def _decide_mark(path: Path, source: Source, layout: Layout) -> tuple[Mark, str]:
    """Return the mark before decimals, and a number that proves it, if there are numbers with marks.

    Raises PriceFileError if there are numbers with marks, and none of them proves what they are.
    """
    prices = frozenset(layout.places) - layout.volume_places
    of_others: tuple[Mark, str] | None = None
    unproven: tuple[int, str] | None = None
    count = 0
    for row, place, text in _list_marked(source, layout):
        mark = find_mark(text)
        if mark and place in prices:
            return mark, text.strip()
        if mark:
            of_others = of_others or (mark, text.strip())
        elif place in prices and is_number(text):
            unproven = unproven or (row, text.strip())
            count += 1
            if count > MAX_UNPROVEN:
                break
    if of_others:
        return of_others
    if not unproven:
        return Mark.POINT, ""
    row, text = unproven
    whole, decimal = text.replace(",", "").replace(".", ""), text.replace(",", ".")
    what = f"{text!r:.30} may be {whole:.30} or {decimal:.30}, and no other number shows which"
    raise fault(
        path, source.lines_of([row])[row], what, "write prices with a point, and without separators of thousands"
    )


def _list_marked(source: Source, layout: Layout) -> Iterator[tuple[int, int, str]]:
    """Yield the row, the place and the text of each field that has a comma or a point."""
    width = len(layout.header.fields)
    rest = [place for place in range(width) if place not in layout.times and place != layout.symbol]
    for block in source.read(layout.header):
        rows = block if isinstance(block, Rows) else block.split()
        for row, fields in enumerate(rows.rows, start=rows.first_row):
            for place in rest if len(fields) == width else ():
                if "," in fields[place] or "." in fields[place]:
                    yield row, place, fields[place]
