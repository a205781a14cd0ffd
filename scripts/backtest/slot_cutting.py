"""Prices as they were known at a slot within a session: rows of the history and of the session are cut off alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scripts.backtest import prices, rhythm
from scripts.backtest.cutting import Rows, find_dips, open_rows, write_prices
from scripts.backtest.model import Options, Panel
from scripts.data.members import shipped
from trader.alpha import loader
from trader.model import BAR_LENGTH, NEW_YORK
from trader.prices.bars import PRICES, VOLUME
from trader.schedule import sessions
from trader.stages.universe import candidates

if TYPE_CHECKING:
    from scripts.backtest.yahoo_cache import Cache


class CuttableSlots:
    """The history and the bars within the sessions, each from a file or from Yahoo's cache."""

    def __init__(self, options: Options, cache: "Cache | None" = None, now: datetime | None = None) -> None:
        """Read the rows of files; `cache` and `now` are for Yahoo, as in prices.load."""
        self._options, self._cache, self._now = options, cache, now
        settings = options.settings
        self._history: Rows | None = None
        self._within: Rows | None = None
        if settings.price_sources == ("file",):
            self._history = open_rows(Path(settings.price_file), settings.universe, is_daily=True)
        if options.intraday_file:
            self._within = open_rows(Path(options.intraday_file), settings.universe, is_daily=False)

    def load(self, at: datetime) -> Panel:
        """Load the prices as they are known at the end of a bar."""
        with self._cut(at) as (options, cache):
            return prices.load(options, now=self._now, cache=cache)

    def find_gaps(self) -> list[datetime]:
        """Return the bars with fewer prices than others, and the first of each session, when candidates are chosen."""
        if self._within:
            counts = self._within.counts
        else:
            close = rhythm.read_within(self._options, self._symbols(), now=self._now, cache=self._cache).close
            counts = close.notna().sum(axis=1)
        index = pd.DatetimeIndex(counts.index).sort_values()
        firsts = index[~index.tz_convert(NEW_YORK).normalize().duplicated()]
        return sorted({*find_dips(counts), *firsts.to_pydatetime().tolist()})

    def settings_at(self, at: datetime, folder: Path) -> dict[str, str]:
        """Write what a run sees at the end of a bar as a price file: daily bars, the last that of today so far."""
        with self._cut(at) as (options, cache):
            history = prices.read(rhythm.by_day_options(options), now=self._now, cache=cache)
            symbols = [str(symbol) for symbol in history.close.columns]
            within = rhythm.read_within(options, symbols, now=self._now, cache=cache)
        needs_ohlcv = loader.needs_ohlcv(self._options.settings)
        names = [*PRICES, VOLUME] if needs_ohlcv else ["close"]
        bars = {symbol: _take_bars(history, symbol, names) for symbol in symbols}
        if not _ends_session(at, self._options):
            for symbol in set(symbols).intersection(within.close.columns):
                today = _take_bars(within, symbol, names).loc[_midnight(at) :].dropna(subset="close")
                if len(today):
                    bars[symbol] = pd.concat([bars[symbol], _join_bars(today, _midnight(at))])
        path = write_prices(folder, bars, is_daily=True, needs_ohlcv=needs_ohlcv)
        return {"PRICE_SOURCES": "file", "PRICE_FILE": str(path)}

    @contextmanager
    def _cut(self, at: datetime) -> "Iterator[tuple[Options, Cache | None]]":
        """Provide options and a cache that know the finished sessions, and the bars up to that which began at `at`."""
        from scripts.backtest.yahoo_cache import Cache, CutCache  # a file of prices needs no network

        chosen, history_at = self._options, at
        if not _ends_session(at, chosen):
            history_at = _midnight(at) - timedelta(microseconds=1)  # today's close is not known yet
        with TemporaryDirectory(prefix="prices-") as name:
            cut = CutCache(folder=Path(name) / "yahoo")
            if self._history:
                path = self._history.write(history_at, _make(Path(name) / "history"))
                chosen = replace(chosen, settings=replace(chosen.settings, price_file=str(path)))
            else:
                cut.copy(self._cache or Cache(), self._symbols(), "1d", history_at)
            if self._within:
                chosen = replace(chosen, intraday_file=str(self._within.write(at, _make(Path(name) / "within"))))
            else:
                cut.copy(self._cache or Cache(), self._symbols(), chosen.decide_every, at)
            yield chosen, cut

    def _symbols(self) -> tuple[str, ...]:
        return candidates(self._options.settings.universe, None, shipped().symbols)


def _take_bars(panel: Panel, symbol: str, names: Sequence[str]) -> pd.DataFrame:
    """Return some columns of a symbol's bars; a volume that the panel lacks is missing."""
    tables = {name: getattr(panel, name) for name in names}
    return pd.DataFrame(
        {name: np.nan if table is None else table[symbol] for name, table in tables.items()}, index=panel.close.index
    )


def _join_bars(bars: pd.DataFrame, start: datetime) -> pd.DataFrame:
    """Return one bar made of several."""
    parts = {
        "open": bars.get("open", bars["close"]).iloc[0],
        "high": bars.get("high", bars["close"]).max(),
        "low": bars.get("low", bars["close"]).min(),
        "close": bars["close"].iloc[-1],
        VOLUME: bars[VOLUME].cumsum().ffill().iloc[-1] if VOLUME in bars else np.nan,
    }
    return pd.DataFrame({name: [parts[name]] for name in bars.columns}, index=pd.DatetimeIndex([start]))


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _midnight(at: datetime) -> datetime:
    """Return the start of the daily bar of a moment."""
    return datetime.combine(at.astimezone(NEW_YORK).date(), time(), NEW_YORK).astimezone(UTC)


def _ends_session(bar: datetime, options: Options) -> bool:
    """Check whether a bar ends with its session, so that the session's daily close is known at its end."""
    hours = sessions.session(bar.astimezone(NEW_YORK).date())
    return hours is None or bar + BAR_LENGTH[options.bar_interval] >= hours[1]
