"""From the rows of a price file to tables: the bars and symbols of a file, and where each of its rows belongs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.model import NEW_YORK
from trader.prices.columns import MAX_NUMBERS, Columns
from trader.prices.faults import Faults, PriceFileError, fault
from trader.prices.file_checks import MIN_DISTANCES, advise, name_interval
from trader.prices.layout import Layout
from trader.prices.rows import Source
from trader.prices.series import say
from trader.prices.spelling import note_renamed, spell
from trader.prices.timestamps import Times

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

type Floats = NDArray[np.float64]
type Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile:
    """What was read from a price file, row by row, and the faults of rows. Rows without a time are left out."""

    path: Path
    source: Source
    layout: Layout
    columns: Columns
    times: Times
    interval: str
    faults: Faults

    def fault(self, place: int, what: str, remedy: str) -> PriceFileError:
        """Return the error for one of the rows in `columns`."""
        row = int(self.columns.row_of[place])
        return fault(self.path, self.source.lines_of([row])[row], what, remedy)

    def say_bar(self, time_us: int) -> str:
        """Name a bar by its start in microseconds since 1970."""
        return say(_EPOCH + timedelta(microseconds=int(time_us)), self.interval)

    def require_no_faults(self) -> None:
        """Raise PriceFileError, which names all faults of rows, if there are any."""
        self.faults.require_none(self.path, self.source.lines_of)

    def without_later(self, now: datetime) -> "ParsedFile":
        """Note the rows whose bars begin after `now`, and return the others."""
        starts_us = self.times.starts_us
        is_later = starts_us > (now - _EPOCH) // timedelta(microseconds=1)
        if not is_later.any():
            return self
        clock = f"{now.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"
        for place in np.flatnonzero(is_later[self.columns.stamp_of]):
            if self.faults.are_enough:
                break
            bar = self.say_bar(starts_us[self.columns.stamp_of[place]])
            what = f"the bar of {bar} begins after now, {clock} in New York"
            remedy = "correct the row or this machine's clock, or remove the row"
            self.faults.add(int(self.columns.row_of[place]), what, remedy)
        return replace(self, columns=self.columns.keep(~is_later[self.columns.stamp_of]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The bars and symbols of a file, and where each of its rows belongs."""

    times_us: Integers  # the starts of the bars, distinct and increasing
    symbols: list[str]
    bar_of: Integers
    symbol_of: Integers | None  # None if each row has all symbols
    notes: tuple[str, ...]

    @property
    def index(self) -> pd.DatetimeIndex:
        """The starts of the bars."""
        return pd.DatetimeIndex(self.times_us.astype("datetime64[us]")).tz_localize(UTC)

    def fill(self, file: ParsedFile) -> dict[str, Floats]:
        """Return a table for each price: a row for each bar, a column for each symbol, NaN where there is none.

        The prices in `file` are used up, because they and the tables are most of what is in memory.
        """
        places = [(symbol, price) for symbol, places in file.layout.prices.items() for price in places]
        column_of = {symbol: number for number, symbol in enumerate(self.symbols)}
        tables: dict[str, Floats] = {}
        for number, (symbol, price) in enumerate(places):
            if price not in tables:
                tables[price] = np.full((len(self.times_us), len(self.symbols)), np.nan)
            where = column_of[symbol] if self.symbol_of is None else self.symbol_of
            tables[price][self.bar_of, where] = file.columns.prices[number]
            file.columns.prices[number] = np.zeros(0)
        return tables


def place_rows(file: ParsedFile) -> Grid:
    """Find the bar and the symbol of each row.

    Two rows of the same bar and symbol are noted if the file has other faults; otherwise PriceFileError is raised.
    """
    columns = file.columns
    times_us, bar_of_stamp = np.unique(file.times.starts_us, return_inverse=True)
    bar_of = bar_of_stamp.astype(np.int32)[columns.stamp_of]
    if file.layout.symbol is None:
        notes = _require_order(file, bar_of)
        return Grid(times_us=times_us, symbols=list(file.layout.prices), bar_of=bar_of, symbol_of=None, notes=notes)
    spelled = [spell(text) for text in columns.symbols]
    symbols = list(dict.fromkeys(spelled))
    if len(times_us) * len(symbols) * len(columns.prices) > MAX_NUMBERS:
        what = f"has {len(symbols):,} symbols and {len(times_us):,} times, room for more than {MAX_NUMBERS:,} prices"
        raise PriceFileError(f"price file {file.path} {what}; use a smaller file")
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    symbol_of = np.array([numbers[symbol] for symbol in spelled], np.int32)[columns.symbol_of]
    keys = bar_of * np.int32(len(symbols)) + symbol_of
    is_there = np.zeros(len(times_us) * len(symbols), np.bool_)
    is_there[keys] = True
    if int(is_there.sum()) < len(keys):
        (repeated,) = np.nonzero(pd.Series(keys).duplicated().to_numpy())
        whats = (f"{symbols[symbol_of[place]]:.50} has a second row for this time" for place in repeated)
        _report_repeated(file, repeated, whats, "keep one row for each symbol and time")
    notes = note_renamed(zip(columns.symbols, spelled, strict=True))
    return Grid(times_us=times_us, symbols=symbols, bar_of=bar_of, symbol_of=symbol_of, notes=notes)


def _require_order(file: ParsedFile, bar_of: Integers) -> tuple[str, ...]:
    """Return a note if the newest row is the first. Rows that are repeated or in no order are faults."""
    steps = np.diff(bar_of)
    if (steps > 0).all():
        return ()
    if (steps < 0).all():
        return ("the newest row is the first; the rows were sorted",)
    is_wrong = steps == 0 if (steps <= 0).all() else steps <= 0
    places = np.flatnonzero(is_wrong) + 1
    texts = ((place, file.columns.stamps[file.columns.stamp_of[place]]) for place in places)
    whats = (
        f"timestamp {text!r:.100} is {'repeated' if steps[place - 1] == 0 else 'earlier than the one before'}"
        for place, text in texts
    )
    _report_repeated(file, places, whats, "sort the rows by time and keep one row for each time")
    return ()


def _report_repeated(file: ParsedFile, places: Integers, whats: Iterable[str], remedy: str) -> None:
    """Note rows of one time among the file's other faults. Raises PriceFileError if there are no others.

    If the rows are shorter bars than those of a day, it says so.
    """
    if file.faults:
        for place, what in zip(places, whats, strict=True):
            if file.faults.are_enough:
                return
            file.faults.add(int(file.columns.row_of[place]), what, remedy)
        return
    what = next(iter(whats))
    if file.interval == "1d" and len(places) >= MIN_DISTANCES:
        moments_us = np.unique(file.times.moments_us[file.columns.stamp_of]).astype("datetime64[us]")
        name = name_interval(pd.DatetimeIndex(moments_us).tz_localize(UTC))
        if name.endswith(("minute", "hour", "hourly")):
            what += f": these are {name} bars, and BAR_INTERVAL=1d"
            remedy = advise([name], "use a file of daily bars")
    if more := len(places) - 1:
        remedy += f"; {more:,} more line{'s are' if more > 1 else ' is'} like this"
    raise file.fault(int(places[0]), what, remedy)
