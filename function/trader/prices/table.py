"""Prices from a file, in any of the formats that people have: see docs/reference/settings.md.

A file is read in steps, each in a module of its own: its rows as text (rows, cells), what its columns are (layout), its
times and prices (columns, timestamps, price_numbers), from rows to tables (grid), the adjusting (adjusting), and what
the file says as a whole (file_checks). Nothing is guessed between two readings that give different prices: such a file
is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.prices import adjusting, file_checks
from trader.prices.cells import LIBRARIES, CellSource
from trader.prices.column_names import ADJUSTED, ADJUSTED_VOLUME, BARS, VOLUME
from trader.prices.columns import MAX_NUMBERS, Columns, read_columns
from trader.prices.faults import MAX_COUNTED, Faults, PriceFileError, fault, name_some
from trader.prices.grid import Grid, ParsedFile, place_rows
from trader.prices.layout import Layout, find_layout
from trader.prices.rows import Source, TextSource
from trader.prices.timestamps import OrderUnknownError, Times, read_times

__all__ = ["PriceFileError", "PriceTable", "read_table"]

type Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """The contents of a price file; nothing is judged yet but what concerns the file as a whole.

    `tables` has open, high, low and close: a row for each bar, by its start in UTC, strictly increasing; a column for
    each symbol in Alpaca's spelling; NaN where there is none. With closes only, all four are the same object. Otherwise
    it has the volume too if that is asked for, in shares of the closes' unit: adjusted for splits, if the closes are.
    """

    tables: Mapping[str, pd.DataFrame]
    has_ohlc: bool
    kind: str  # what the file was taken for, as in "daily closes of 20 symbols"
    notes: tuple[str, ...]


def read_table(
    path: Path, *, bar_interval: str, universe: Sequence[str], now: datetime, reads_volume: bool = False
) -> PriceTable:
    """Read a price file. `universe` is the setting UNIVERSE, which says whose prices a file of one symbol holds.

    The volume is read only with `reads_volume`.

    Raises PriceFileError if the file cannot be read, is malformed, has two readings that give different prices, has
    bars longer or shorter than `bar_interval`, or bars that begin after `now`.
    """
    file = _parse(path, bar_interval, universe, reads_volume=reads_volume).without_later(now)
    grid = place_rows(file)
    file.require_no_faults()
    notes = [*file.layout.notes, *file.times.notes, *grid.notes]
    symbols, prices = _adjust(file, grid, grid.fill(file), notes)
    if not file.layout.has_ohlc:
        prices = {"close": prices["close"]}
    elif reads_volume:
        prices.setdefault(VOLUME, np.full(prices["close"].shape, np.nan))
    tables = {name: pd.DataFrame(table, grid.index, symbols, copy=False) for name, table in prices.items()}
    lengths = file_checks.find_long(tables["close"], bar_interval)
    if note := lengths.require_some_right(path, symbols):
        notes.append(note)
        tables = {name: table.drop(columns=list(lengths.too_long)) for name, table in tables.items()}
    _check(file, grid, tables["close"])
    names = [*BARS, VOLUME] if VOLUME in tables else BARS
    return PriceTable(
        tables={name: tables[name] for name in names} if len(tables) > 1 else dict.fromkeys(BARS, tables["close"]),
        has_ohlc=len(tables) > 1,
        kind=_describe(file, list(tables["close"].columns)),
        notes=tuple(notes),
    )


def _parse(path: Path, interval: str, universe: Sequence[str], *, reads_volume: bool) -> ParsedFile:
    """Read the rows of a file, and note those that cannot be read. Raises PriceFileError if there are no others."""
    source = _open(path)
    layout = find_layout(path, source.head, universe, reads_volume=reads_volume)
    faults = Faults()
    columns = read_columns(path, source, layout, faults)
    times = _read_times(path, source, layout, columns, is_daily=interval == "1d")
    is_bad = np.zeros(len(columns.stamps), np.bool_)
    is_bad[list(times.faults)] = True
    for place in np.flatnonzero(is_bad[columns.stamp_of])[:MAX_COUNTED]:
        faults.add(int(columns.row_of[place]), *times.faults[int(columns.stamp_of[place])])
    if faults:
        columns = columns.keep(~is_bad[columns.stamp_of])
        if not len(columns.row_of):
            faults.require_none(path, source.lines_of)
    if len(columns.row_of) * len(columns.prices) > MAX_NUMBERS:
        raise PriceFileError(f"price file {path} has more than {MAX_NUMBERS:,} prices; use a smaller file")
    if not len(columns.row_of):
        raise PriceFileError(f"price file {path} has only a header row; add a row for each bar")
    return ParsedFile(
        path=path, source=source, layout=layout, columns=columns, times=times, interval=interval, faults=faults
    )


def _open(path: Path) -> Source:
    """Open a file by the ending of its name. Raises PriceFileError if it cannot be read, or has too few rows."""
    source: Source = CellSource(path) if path.suffix.lower() in LIBRARIES else TextSource(path)
    if not source.head:
        raise PriceFileError(f"price file {path} is empty; it needs a header row and a row for each bar")
    if len(source.head) == 1:
        raise PriceFileError(f"price file {path} has only a header row; add a row for each bar")
    return source


def _read_times(path: Path, source: Source, layout: Layout, columns: Columns, *, is_daily: bool) -> Times:
    try:
        return read_times(columns.stamps, is_daily=is_daily, zone=layout.zone)
    except OrderUnknownError as error:
        texts = [columns.stamps[place] for place in error.places]
        rows = [int(columns.row_of[np.argmax(columns.stamp_of == place)]) for place in error.places]
        lines = source.lines_of(rows)
        what = f"timestamp {texts[0]!r:.40} may have the day or the month first, and no other row shows which"
        if len(texts) > 1:
            other = f"{texts[1]!r:.40} in line {lines[rows[1]]}"
            what = f"timestamp {texts[0]!r:.40} and {other} do not have the day and the month in one order"
        raise fault(path, lines[rows[0]], what, "write the dates as in 2022-12-28") from None


def _adjust(
    file: ParsedFile, grid: Grid, prices: dict[str, Floats], notes: list[str]
) -> tuple[list[str], dict[str, Floats]]:
    """Return the symbols, and their prices adjusted by the column of adjusted closes, if there is one.

    Raises PriceFileError if the adjusted closes of all symbols are unusable.
    """
    adjusted, restated = prices.pop(ADJUSTED, None), prices.pop(ADJUSTED_VOLUME, None)
    if adjusted is None:
        return grid.symbols, prices if restated is None else _merge_volumes(prices, restated)
    prices.setdefault("close", np.full(adjusted.shape, np.nan))
    wrong: list[tuple[str, int]] = []
    early: list[tuple[str, int]] = []
    unadjusted: list[tuple[str, int]] = []
    for place, symbol in enumerate(grid.symbols):
        its = file.layout.prices[symbol if file.layout.symbol is None else ""]
        if "close" not in its:
            prices["close"][:, place] = adjusted[:, place]
        elif ADJUSTED in its:
            try:
                found = adjusting.adjust({name: table[:, place] for name, table in prices.items()}, adjusted[:, place])
            except adjusting.FactorError as error:
                wrong.append((symbol, error.row))
                continue
            for name, values in found.prices.items():
                prices[name][:, place] = values
            early += [(symbol, int(bar)) for bar in found.early]
            unadjusted += [(symbol, int(bar)) for bar in found.unadjusted]

    def name_bars(bars: Sequence[tuple[str, int]]) -> str:
        return name_some(f"{symbol} on {file.say_bar(grid.times_us[bar])}" for symbol, bar in bars)

    if unadjusted:
        notes.append(f"bars without an adjusted close are left out: {name_bars(unadjusted)}")
    if early:
        what = "bars that are adjusted before the day of their split or dividend are read with the factor before"
        notes.append(f"{what}: {name_bars(early)}")
    if restated is not None:
        prices = _merge_volumes(prices, restated)
    if not wrong:
        return grid.symbols, prices
    what = f"the adjusted closes do not follow from splits and dividends from here on: {name_bars(wrong)}"
    if len(wrong) == len(grid.symbols):
        raise PriceFileError(f"price file {file.path}: {what}; correct the column {file.layout.adjusted}, or remove it")
    notes.append(f"{what}; left out")
    kept = [place for place, symbol in enumerate(grid.symbols) if symbol not in dict(wrong)]
    return [grid.symbols[place] for place in kept], {name: table[:, kept] for name, table in prices.items()}


def _merge_volumes(prices: dict[str, Floats], restated: Floats) -> dict[str, Floats]:
    """Return prices with one volume: a symbol has either the one as traded, or that of a column of adjusted ones."""
    known = prices.get(VOLUME, restated)
    return {**prices, VOLUME: np.where(np.isnan(known), restated, known)}


def _check(file: ParsedFile, grid: Grid, close: pd.DataFrame) -> None:
    """Raise PriceFileError if the bars are shorter than BAR_INTERVAL, on the wrong weekdays or in other hours."""
    if file.interval == "1d":
        found = file_checks.find_shift(grid.index)
        if found:
            place = int(np.argmax(grid.bar_of == found.bar))
            raise file.fault(place, found.what, "write the dates of the sessions in New York")
        return
    if not file.times.has_offsets:
        file_checks.require_hours(file.path, grid.index)
    file_checks.require_not_short(file.path, close, file.interval)


def _describe(file: ParsedFile, symbols: Sequence[str]) -> str:
    """Say what a file was taken for."""
    layout = file.layout
    of = symbols[0] if len(symbols) == 1 else f"{len(symbols):,} symbols"
    volume = ", volume" if layout.volume_places else ""
    prices = f"bars of {of} (open, high, low, close{volume})" if layout.has_ohlc else f"closes of {of}"
    kind = f"{file_checks.ADJECTIVES[file.interval]} {prices}"
    if layout.adjusted is None:
        return kind
    by = "from" if any("close" not in places for places in layout.prices.values()) else "adjusted by"
    return f"{kind}, {by} {'its' if len(symbols) == 1 else 'their'} column {layout.adjusted:.50}"
