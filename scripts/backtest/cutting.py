"""Prices as they were known at a bar: the rows of a price file, or of Yahoo's cache, up to that bar and not one more.

The rows are cut off before anything is read from them, so that whatever is done to a whole file shows when its later
rows are missing. Only what the columns are is taken from the bot's reader; dates are read here by pandas, because a
reader that is a bar late would otherwise cut as wrongly as it reads.
"""

import csv
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Literal, Protocol

import numpy as np
import pandas as pd

from scripts.backtest import benchmark, prices
from scripts.backtest.model import BacktestError, Benchmark, Options, Panel
from scripts.data.members import shipped
from trader.alpha import loader
from trader.model import NEW_YORK
from trader.prices.cells import LIBRARIES, CellSource
from trader.prices.layout import find_layout
from trader.prices.rows import TextSource, write_cell
from trader.stages.universe import candidates

if TYPE_CHECKING:
    from scripts.backtest.yahoo_cache import Cache, CutCache

_OFFSET = re.compile(r"\s*(?:Z|UTC|GMT|[+-]\d\d:?\d\d)$", re.IGNORECASE)
_UNITS_NS = {10: 1_000_000_000, 13: 1_000_000, 16: 1_000, 19: 1}
"""The units of Unix times, by the number of digits of a time of our days."""


class CuttablePrices(Protocol):
    """Prices that can be loaded as they were known at any bar."""

    def load(self, at: datetime) -> Panel:
        """Load the prices as if the bar that began at `at` were the last. Raises what `prices.load` raises."""

    def find_gaps(self) -> list[datetime]:
        """Return the bars with fewer prices than bars before and after have."""

    def settings_at(self, at: datetime, folder: Path) -> dict[str, str]:
        """Return the settings, as variables, of a run that knows the prices up to a bar; files go into `folder`."""


@lru_cache(maxsize=2)
def cuttable(options: Options) -> CuttablePrices:
    """Return the source of a backtest's prices, ready to be cut.

    Raises BacktestError if the dates of a file are understood by the bot, but not by pandas.
    """
    if options.decide_every:
        from scripts.backtest.slot_cutting import CuttableSlots  # which builds on this module

        return CuttableSlots(options)
    is_file = options.settings.price_sources == ("file",)
    return CuttableFile(options) if is_file else CuttableCache(options)


class CuttableFile:
    """A price file of any kind."""

    def __init__(self, options: Options) -> None:
        self._options = options
        settings = options.settings
        self._rows = open_rows(Path(settings.price_file), settings.universe, is_daily=settings.bar_interval == "1d")

    def load(self, at: datetime) -> Panel:
        """Load the prices of the file's rows up to a bar."""
        with TemporaryDirectory(prefix="prices-") as folder:
            path = self._rows.write(at, Path(folder))
            settings = replace(self._options.settings, price_file=str(path))
            return prices.load(replace(self._options, settings=settings))

    def find_gaps(self) -> list[datetime]:
        """Return the bars with fewer prices than bars before and after have."""
        return find_dips(self._rows.counts)

    def settings_at(self, at: datetime, folder: Path) -> dict[str, str]:
        """Write the file's rows up to a bar."""
        return {"PRICE_SOURCES": "file", "PRICE_FILE": str(self._rows.write(at, folder))}


class CuttableCache:
    """Yahoo's bars as they are cached, before anything is done to them.

    They are adjusted for the splits and dividends of later days too, as Yahoo answers; such a factor is the same for
    all prices of a symbol up to the bar.
    """

    def __init__(self, options: Options, cache: "Cache | None" = None) -> None:
        self._options, self._cache = options, cache

    def load(self, at: datetime) -> Panel:
        """Load the cached bars up to a bar."""
        with self._cut(at) as cut:
            return prices.load(self._options, cache=cut)

    def find_gaps(self) -> list[datetime]:
        """Return the bars with fewer prices than bars before and after have."""
        with self._cut(datetime.max.replace(tzinfo=UTC)) as cut:
            bars = cut.read(self._symbols(), self._options.settings.bar_interval)
        return find_dips(pd.concat([each["close"].notna().astype(int) for each in bars.values()]))

    def settings_at(self, at: datetime, folder: Path) -> dict[str, str]:
        """Write what a rule needs of the cached bars up to a bar: a run cannot ask Yahoo for the past."""
        interval = self._options.settings.bar_interval
        needs_ohlcv = loader.needs_ohlcv(self._options.settings)
        with self._cut(at) as cut:
            bars = cut.read(self._symbols(), interval, reads_volume=needs_ohlcv)
        path = write_prices(folder, bars, is_daily=interval == "1d", needs_ohlcv=needs_ohlcv)
        return {"PRICE_SOURCES": "file", "PRICE_FILE": str(path)}

    def _symbols(self) -> tuple[str, ...]:
        return candidates(self._options.settings.universe, None, shipped().symbols)

    @contextmanager
    def _cut(self, at: datetime) -> "Iterator[CutCache]":
        from scripts.backtest.yahoo_cache import Cache, CutCache  # a file of prices needs no network

        with TemporaryDirectory(prefix="prices-") as name:
            cut = CutCache(folder=Path(name))
            cut.copy(self._cache or Cache(), self._symbols(), self._options.settings.bar_interval, at)
            yield cut


def write_prices(folder: Path, bars: Mapping[str, pd.DataFrame], *, is_daily: bool, needs_ohlcv: bool) -> Path:
    """Write bars of some symbols as a price file: with a column of closes for each, or a row for each whole bar."""

    def name_times(table: pd.DataFrame) -> pd.DataFrame:
        times = [each.astimezone(NEW_YORK).date() if is_daily else each for each in table.index]
        return table.set_axis(pd.Index([each.isoformat() for each in times]))

    path = folder / "prices.csv"
    if needs_ohlcv:
        rows = [name_times(each).assign(symbol=symbol) for symbol, each in bars.items()]
        pd.concat(rows).dropna(subset="close").to_csv(path, index_label="timestamp")
    else:
        close = pd.DataFrame({symbol: each["close"] for symbol, each in bars.items()}).sort_index()
        name_times(close).to_csv(path, index_label="timestamp")
    return path


def cut_benchmark(options: Options, at: datetime, bars: Sequence[datetime]) -> Benchmark | None:
    """Load the benchmark as it was known at a bar; None without one. `bars` are those of the span up to that bar.

    Within the day there is none: its daily bar would be that of the whole session. Raises BacktestError.
    """
    if options.decide_every or not benchmark.is_chosen(options):
        return None
    settings = options.settings
    is_of_prices = bool(options.benchmark) and not benchmark.is_path(options.benchmark)
    if is_of_prices and settings.price_sources != ("file",):
        return _cut_benchmark_of_yahoo(options, at, bars)
    with TemporaryDirectory(prefix="benchmark-") as name:
        if is_of_prices:
            path = cuttable(options).settings_at(at, Path(name))["PRICE_FILE"]
            return benchmark.load(replace(options, settings=replace(settings, price_file=path)), bars)
        rows = _open_benchmark(options.benchmark or str(benchmark.SAMPLE), is_daily=settings.bar_interval == "1d")
        return benchmark.load(replace(options, benchmark=str(rows.write(at, Path(name)))), bars)


@lru_cache(maxsize=2)
def _open_benchmark(path: str, *, is_daily: bool) -> "Rows":
    return open_rows(Path(path), (benchmark.UNNAMED,), is_daily=is_daily)


def _cut_benchmark_of_yahoo(options: Options, at: datetime, bars: Sequence[datetime]) -> Benchmark | None:
    from scripts.backtest.yahoo_cache import Cache, CutCache  # a file of prices needs no network

    with TemporaryDirectory(prefix="benchmark-") as name:
        cut = CutCache(folder=Path(name))
        cut.copy(Cache(), (options.benchmark,), options.settings.bar_interval, at)
        return benchmark.load(options, bars, cache=cut)


def find_dips(counts: "pd.Series[int]") -> list[datetime]:
    """Return the times at which there are fewer values than at some time before and at some time after."""
    by_time = counts.groupby(level=0).sum()
    before, after = by_time.cummax(), by_time[::-1].cummax()[::-1]
    times = pd.DatetimeIndex(by_time.index[(by_time < before) & (by_time < after)])
    found: list[datetime] = times.to_pydatetime().tolist()
    return found


class Rows(Protocol):
    """The rows of a price file."""

    @property
    def counts(self) -> "pd.Series[int]":
        """The number of cells that are not empty, of each row, by the start of its bar."""

    def write(self, at: datetime, folder: Path) -> Path:
        """Write the rows up to a bar into a folder, as a file of the same kind and name."""


def open_rows(path: Path, universe: Sequence[str], *, is_daily: bool) -> Rows:
    """Read the rows of a price file of any kind. Raises BacktestError as `cuttable` does."""
    kind = _FileOfCells if path.suffix.lower() in LIBRARIES else _FileOfText
    return kind(path, universe, is_daily=is_daily)


class _FileOfText:
    """A CSV file, whatever its delimiter; compressed if its name ends in .gz."""

    def __init__(self, path: Path, universe: Sequence[str], *, is_daily: bool) -> None:
        source = TextSource(path)
        layout = find_layout(path, source.head, universe)
        self._path, self._delimiter = path, source.delimiter
        with _open(path, "rt") as file:
            reader = csv.reader(file, delimiter=source.delimiter)
            rows = [row for row in reader if any(field.strip() for field in row)]
        header = sum(1 for each in source.head if each.row <= layout.header.row)
        self._header, self._rows = rows[:header], rows[header:]
        texts = [" ".join(row[place].strip() for place in layout.times if place < len(row)) for row in self._rows]
        self._times = read_times(texts, layout.zone, is_daily=is_daily, path=path)

    @property
    def counts(self) -> "pd.Series[int]":
        """The number of cells that are not empty."""
        return pd.Series([sum(1 for cell in row if cell.strip()) for row in self._rows], self._times)

    def write(self, at: datetime, folder: Path) -> Path:
        """Write the rows up to a bar."""
        path = folder / self._path.name
        with _open(path, "wt") as file:
            writer = csv.writer(file, delimiter=self._delimiter, lineterminator="\n")
            writer.writerows(self._header)
            writer.writerows(self._rows[row] for row in np.flatnonzero(self._times <= pd.Timestamp(at)))
        return path


class _FileOfCells:
    """A workbook of Excel or a Parquet file."""

    def __init__(self, path: Path, universe: Sequence[str], *, is_daily: bool) -> None:
        layout = find_layout(path, CellSource(path).head, universe)
        self._path, self._is_workbook = path, LIBRARIES[path.suffix.lower()] == "openpyxl"
        if self._is_workbook:
            self._table = _first_sheet(path)
            self._head = layout.header.row + 1
            columns = [self._table.iloc[self._head :, place].tolist() for place in layout.times]
        else:
            self._table = pd.read_parquet(path)
            self._head = 0
            columns = [_parquet_column(self._table, place) for place in layout.times]
        texts = [" ".join(map(write_cell, cells)) for cells in zip(*columns, strict=True)]
        self._times = read_times(texts, layout.zone, is_daily=is_daily, path=path)

    @property
    def counts(self) -> "pd.Series[int]":
        """The number of cells that are not empty."""
        rows = self._table.iloc[self._head :]
        return (rows.notna() & (rows != "")).sum(axis=1).set_axis(self._times)

    def write(self, at: datetime, folder: Path) -> Path:
        """Write the rows up to a bar."""
        path = folder / self._path.name
        kept = np.flatnonzero(self._times <= pd.Timestamp(at)) + self._head
        cut = self._table.iloc[[*range(self._head), *kept]]
        if self._is_workbook:
            cut.to_excel(path, header=False, index=False, engine="openpyxl")
        else:
            cut.to_parquet(path)
        return path


def _first_sheet(path: Path) -> pd.DataFrame:
    sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object, na_filter=False, engine="openpyxl")
    return next(sheet for sheet in sheets.values() if not sheet.empty)


def _parquet_column(table: pd.DataFrame, place: int) -> list[object]:
    """Return a column by its position, counted from the levels of the index if the index has a meaning."""
    index = table.index
    levels = 0 if isinstance(index, pd.RangeIndex) and index.name is None else index.nlevels
    found: list[object] = (index.get_level_values(place) if place < levels else table.iloc[:, place - levels]).tolist()
    return found


@contextmanager
def _open(path: Path, mode: Literal["rt", "wt"]) -> Iterator[IO[str]]:
    encoding = "utf-8-sig" if mode == "rt" else "utf-8"
    is_zipped = path.suffix.lower() == ".gz"
    with (
        gzip.open(path, mode, compresslevel=1, encoding=encoding, newline="")  # what is written is read only once
        if is_zipped
        else path.open(mode, encoding=encoding, newline="")
    ) as file:
        yield file


def read_times(texts: Sequence[str], zone: tzinfo, *, is_daily: bool, path: Path) -> pd.DatetimeIndex:
    """Return the start of each row's bar in UTC; that of a daily bar is midnight in New York of its date.

    A time without an offset is in `zone`. The date of a daily bar is the one that is written if the time of day is
    midnight, else the date in New York. Raises BacktestError if pandas cannot read a text.
    """
    try:
        own, moments = _parse(pd.Series(texts, dtype=str), zone)
    except (ValueError, OverflowError, pd.errors.OutOfBoundsDatetime) as error:
        raise BacktestError(
            f"price file {path}: its rows cannot be cut off by their dates, which pandas does not understand "
            f"({str(error).splitlines()[0]:.100}); write the dates as in 2022-12-28"
        ) from error
    if not is_daily:
        return moments
    local = moments.tz_convert(NEW_YORK).tz_localize(None).normalize()
    dates = own.where(own == own.normalize(), local)
    return pd.DatetimeIndex(dates).tz_localize(NEW_YORK).tz_convert("UTC")


def _parse(texts: "pd.Series[str]", zone: tzinfo) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Return the times as written, without their offsets, and in UTC."""
    if texts.str.fullmatch(r"-?\d{9,19}(?:\.0*)?").all():
        numbers = texts.str.split(".").str[0].astype("int64")
        digits = len(str(numbers.abs().max()))
        unit_ns = _UNITS_NS[min(_UNITS_NS, key=lambda each: abs(each - digits))]
        own = pd.DatetimeIndex((numbers * unit_ns).to_numpy().astype("datetime64[ns]")).as_unit("us")
        return own, own.tz_localize("UTC")
    has_offset = texts.str.contains(_OFFSET) & texts.str.contains(":")
    own = _parse_dates(texts.str.replace(_OFFSET, "", regex=True).where(has_offset, texts))
    moments = own.tz_localize(zone, ambiguous=np.ones(len(own), bool), nonexistent="shift_forward").tz_convert("UTC")
    if has_offset.any():
        in_utc = moments.asi8.copy()
        in_utc[has_offset.to_numpy()] = _as_index(pd.to_datetime(texts[has_offset], format="mixed", utc=True)).asi8
        moments = pd.DatetimeIndex(in_utc.astype("datetime64[us]")).tz_localize("UTC")
    return own, moments


def _parse_dates(texts: "pd.Series[str]") -> pd.DatetimeIndex:
    """Parse times without offsets. Of 03/04/2022, the order is the one that makes fewer weekends, and goes forward."""
    if texts.str.fullmatch(r"\d{8}").all():
        return _as_index(pd.to_datetime(texts, format="%Y%m%d"))
    if texts.str.match(r"\d{4}").all():
        return _as_index(pd.to_datetime(texts, format="mixed"))
    readings: list[pd.DatetimeIndex] = []
    for is_day_first in (True, False):
        with suppress(ValueError):
            readings.append(_as_index(pd.to_datetime(texts, format="mixed", dayfirst=is_day_first)))
    if not readings:
        return _as_index(pd.to_datetime(texts, format="mixed"))  # which says what is wrong
    return min(readings, key=lambda each: (int((each.day_of_week >= 5).sum()), -_steadiness(each)))


def _as_index(times: "pd.Series[pd.Timestamp]") -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).as_unit("us")


def _steadiness(times: pd.DatetimeIndex) -> int:
    """Count the steps that go the way in which most go."""
    steps = np.sign(np.diff(times.asi8))
    return int(max((steps > 0).sum(), (steps < 0).sum()))
