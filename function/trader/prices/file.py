"""Prices from a file: see trader.prices.table for the formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from trader.model import NEW_YORK, SAMPLE_PRICES
from trader.prices.bars import CleanBars, clean_bars
from trader.prices.base import Coverage, Missing
from trader.prices.series import Series
from trader.prices.table import PriceFileError, read_table
from trader.progress import Progress
from trader.schedule.base import present

MAX_NAMED = 5
"""Maximum number of symbols named in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBars:
    """The bars of a price file, clean, with what the file was taken for and notes on the file as a whole."""

    kind: str
    has_ohlc: bool
    clean: CleanBars
    notes: tuple[str, ...]

    @property
    def calendar(self) -> pd.DatetimeIndex:
        """The starts of the bars of all symbols together."""
        return pd.DatetimeIndex(self.clean.tables["close"].index)


class FilePrices:
    """The prices of a file, read again only after the file has changed.

    `universe` is the setting UNIVERSE, which says whose bars a file of one symbol holds. Every method raises
    PriceFileError if the file is missing or malformed.
    """

    def __init__(
        self,
        path: Path,
        bar_interval: str = "1d",
        universe: Sequence[str] = ("sp500",),
        clock: Callable[[], datetime] = present,
        *,
        ohlcv: bool = False,
    ) -> None:
        """Store the arguments. `clock` tells the present, because no bar can begin after it.

        With `ohlcv`, the series have the file's open, high, low and volume too, if it has them.
        """
        self._path = path
        self._interval = bar_interval
        self._universe = tuple(universe)
        self._clock = clock
        self._ohlcv = ohlcv

    @property
    def name(self) -> str:
        """The name of this source in the setting PRICE_SOURCES."""
        return "file"

    def symbols(self, now: datetime | None = None) -> frozenset[str]:
        """Return the symbols of the file; with `now`, only those that have a price at or before that time."""
        series = self.bars().clean.series
        if now is None:
            return frozenset(series)
        return frozenset(symbol for symbol, each in series.items() if len(each) and each.closes.index[0] <= now)

    def last_bar(self) -> datetime:
        """Return the start of the last bar, which is the latest time that the file covers."""
        last: datetime = self.bars().calendar[-1].to_pydatetime()
        return last

    def read(
        self, symbols: Sequence[str], count: int, now: datetime, progress: Progress
    ) -> Mapping[str, Series | Missing]:
        """Return the last `count` bars of each symbol up to `now`, or why there are none."""
        found, missing = self.bars().clean.series, Missing(self.explain_missing())
        progress("prices from the file", len(symbols), len(symbols))
        return {symbol: found[symbol].until(now, count=count) if symbol in found else missing for symbol in symbols}

    def coverage(self) -> Coverage:
        """Return the symbols of the file that have a price, with the first and the last bar of each."""
        indexes = {symbol: each.closes.index for symbol, each in self.bars().clean.series.items() if len(each)}
        spans = {symbol: (index[0].to_pydatetime(), index[-1].to_pydatetime()) for symbol, index in indexes.items()}
        return Coverage(self._name_file(), spans)

    def describe(self) -> str:
        """Say what the file was taken for."""
        return f"{self.bars().kind} from {self._name_file()}"

    def _name_file(self) -> str:
        return "the sample that ships with the project" if self._path == SAMPLE_PRICES else self._path.name

    def notes(self) -> tuple[str, ...]:
        """Return what was done to the file as a whole."""
        return self.bars().notes

    def bars(self) -> FileBars:
        """Return all bars of the file."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise PriceFileError(
                f"price file {self._path}: {error.strerror}; set PRICE_FILE to a file of prices"
            ) from error
        midnight = datetime.combine(self._clock().astimezone(NEW_YORK).date(), time(23, 59), NEW_YORK)
        facts = (status.st_mtime_ns, status.st_size)
        return _load(self._path, self._interval, self._universe, midnight, self._ohlcv, *facts)

    def explain_missing(self) -> str:
        """Say why a symbol that the file lacks has no prices: what the file was taken for, and whose prices it has."""
        bars = self.bars()
        named = sorted(bars.clean.series)
        more = f" and {len(named) - MAX_NAMED:,} more" if len(named) > MAX_NAMED else ""
        return (
            f"{self._path.name} has no prices for it; it was read as {bars.kind}: {', '.join(named[:MAX_NAMED])}{more}"
        )


@lru_cache(maxsize=4)
def _load(
    path: Path,
    interval: str,
    universe: tuple[str, ...],
    now: datetime,
    ohlcv: bool,
    _mtime_ns: int,
    _size: int,
) -> FileBars:
    table = read_table(path, bar_interval=interval, universe=universe, now=now, reads_volume=ohlcv)
    clean = clean_bars(table.tables, interval=interval, has_ohlc=table.has_ohlc)
    if not np.isfinite(clean.tables["close"].to_numpy()).any():
        of_clean = [f"{note.symbol}: {note.what}" if note.symbol else note.what for note in clean.notes]
        why = "; ".join([*table.notes, *of_clean]) or "every close is missing"
        raise PriceFileError(f"price file {path}, read as {table.kind}, has no price that can be used: {why}")
    of_file = (note.what for note in clean.notes if not note.symbol)
    return FileBars(
        kind=table.kind,
        has_ohlc=table.has_ohlc,
        clean=clean,
        notes=(*table.notes, *of_file),
    )


def forget() -> None:
    """Forget the files read so far: what reads them has changed."""
    _load.cache_clear()
