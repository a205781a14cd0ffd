"""The prices of a backtest at its present bar, as a PriceSource of the bot's own reader."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from scripts.backtest.model import Panel
from trader.model import NEW_YORK, Closes, Ohlv
from trader.prices.base import Missing
from trader.prices.jumps import Floats
from trader.prices.series import Series
from trader.progress import Progress


class PanelPrices:
    """A PriceSource on the panel, equivalent to a price file that ends with the current bar."""

    def __init__(self, panel: Panel, series: Mapping[str, Series]) -> None:
        """Serve the bars of `panel`, of which `series` are the closes; they may extend beyond any requested time."""
        self._series = series
        self._first = _find_first(panel.close)
        self._known: dict[int, frozenset[str]] = {}  # by the number of first bars
        self._present: datetime | None = None

    @property
    def name(self) -> str:
        """The source's name in denials."""
        return "prices"

    @property
    def present(self) -> datetime:
        """The start of the current bar."""
        assert self._present is not None, "at() comes first"
        return self._present

    def at(self, bar: datetime) -> None:
        """Set the current bar; later bars are never returned."""
        self._present = bar

    def stay(self) -> Self:
        """Return these prices at the current bar, at which they stay."""
        return copy(self)

    def symbols(self, now: datetime) -> frozenset[str]:
        """Return the symbols that have had a price by `now`."""
        count = bisect_right(self._firsts, min(now, self.present))
        if count not in self._known:
            symbols = sorted(self._first, key=self._first.__getitem__)
            self._known[count] = frozenset(symbols[:count])
        return self._known[count]

    @cached_property
    def _firsts(self) -> list[datetime]:
        return sorted(self._first.values())

    def read(
        self,
        symbols: Sequence[str],
        count: int,
        now: datetime,
        progress: Progress,  # noqa: ARG002 progress is reported in bars
    ) -> Mapping[str, Series | Missing]:
        """Return the last `count` bars of each symbol that began at `now` or before.

        A symbol whose prices begin later is not known, as in a file that ends now.
        """
        known = self.symbols(now)
        return {symbol: self._read(symbol, count, now) for symbol in symbols if symbol in known}

    def _read(self, symbol: str, count: int, now: datetime) -> Series:
        return self._series[symbol].until(min(now, self.present), count=count)

    def describe(self) -> str:
        """Return nothing: the panel says what its prices are."""
        return ""

    def notes(self) -> tuple[str, ...]:
        """Return nothing: the panel has its own notes."""
        return ()


class SlotPrices(PanelPrices):
    """A PriceSource at the slots of DECIDE_EVERY: daily bars, the last of which is the running session so far.

    That is what Yahoo answers during a session, or a price file with a row for today: the finished sessions and, as the
    close of today's bar, the last known price. A symbol without a price in this session ends with the session before.
    For a rule that needs them, today's bar has the open, high, low and volume of the session so far.
    """

    def __init__(self, panel: Panel) -> None:
        """Serve the history of `panel` and the prices within its sessions; both may extend beyond the present."""
        super().__init__(panel, {})
        assert panel.daily is not None, "the panel is of the bot's own rhythm"
        self._index = pd.DatetimeIndex(panel.close.index)
        last_usd = panel.close.groupby(self._index.tz_convert(NEW_YORK).normalize()).ffill()
        self._last_usd = {str(symbol): column.to_numpy(float) for symbol, column in last_usd.items()}
        self._splits = panel.daily.splits
        self._history = {str(symbol): column.dropna() for symbol, column in panel.daily.close.items()}
        self._first = {
            symbol: min(firsts)
            for symbol, column in self._history.items()
            if (firsts := [each for each in (self._first.get(symbol), _first_after(column)) if each])
        }
        self._rest = {symbol: _take_rest(panel.daily, symbol) for symbol in self._history}
        self._running = sum_up(panel)
        self._today: pd.Timestamp | None = None
        self._begun: dict[str, tuple[pd.DatetimeIndex, Floats]] = {}  # today's bar last; the closes before it

    def _read(self, symbol: str, count: int, now: datetime) -> Series:
        return self.series_at(symbol, self.present).until(now, count=count)

    def series_at(self, symbol: str, bar: datetime) -> Series:
        """Return the daily bars of a symbol as they are known at the end of a bar."""
        today = pd.Timestamp(bar).tz_convert(NEW_YORK).normalize()
        index, before_usd = self._begin(symbol, today)
        place = int(self._index.searchsorted(pd.Timestamp(bar)))
        price_usd = self._last_usd[symbol][place]
        closes = pd.Series(before_usd, index[:-1])
        is_running = not np.isnan(price_usd)
        if is_running:
            closes = pd.Series(np.append(before_usd, price_usd), index)
        rest, running = self._rest[symbol], self._running.get(symbol)
        ohlv: Ohlv | None = None
        if rest is not None and running is not None:
            ohlv = np.vstack([rest[: len(before_usd)], running[place : place + is_running]])
        splits = {day: ratio for day, ratio in self._splits.get(symbol, {}).items() if day <= today.date()}
        return Series(closes, interval="1d", splits=splits or None, ohlv=ohlv)

    def _begin(self, symbol: str, today: pd.Timestamp) -> tuple[pd.DatetimeIndex, Floats]:
        """Return the finished sessions before a day with that day's bar, and the closes of the finished ones."""
        if self._today != today:
            self._today, self._begun = today, {}
        if symbol not in self._begun:
            history = self._history[symbol]
            index = pd.DatetimeIndex(history.index)
            index = index[: index.searchsorted(today)]
            running = pd.DatetimeIndex([today]).tz_convert("UTC").as_unit(index.unit)
            self._begun[symbol] = (pd.DatetimeIndex(index.append(running)), history.to_numpy(float)[: len(index)])
        return self._begun[symbol]


def sum_up(panel: Panel) -> Mapping[str, Ohlv]:
    """Return the running session's open, high, low and volume as of each bar; nothing without volumes.

    They are the first open, the highest high, the lowest low and the sum of the volumes of the bars so far. A volume is
    not known as long as none of these bars has one.
    """
    if panel.volume is None:
        return {}
    by_session = pd.DatetimeIndex(panel.close.index).tz_convert(NEW_YORK).normalize()

    def fill(table: pd.DataFrame) -> pd.DataFrame:
        return table.groupby(by_session).ffill()

    is_first = panel.open.notna().groupby(by_session).cumsum() == 1
    opened = fill(panel.open.where(is_first))
    high, low = fill(panel.high.groupby(by_session).cummax()), fill(panel.low.groupby(by_session).cummin())
    volume = fill(panel.volume.groupby(by_session).cumsum())
    tables = (opened, high, low, volume)
    return {
        str(symbol): np.column_stack([table[symbol].to_numpy(float) for table in tables])
        for symbol in panel.close.columns
    }


def _take_rest(daily: Panel, symbol: str) -> Ohlv | None:
    """Return the open, high, low and volume of a symbol's finished sessions; None without volumes."""
    ohlv = daily.take_ohlv(symbol)
    return None if ohlv is None else ohlv[daily.close[symbol].notna().to_numpy()]


def _find_first(close: pd.DataFrame) -> dict[str, datetime]:
    """Return the first bar with a close of each symbol that has any."""
    places = close.notna().to_numpy().argmax(axis=0) if len(close) else [0] * len(close.columns)
    return {
        str(symbol): close.index[place].to_pydatetime()
        for symbol, place in zip(close.columns, places, strict=True)
        if close[symbol].notna().any()
    }


def _first_after(closes: Closes) -> datetime | None:
    """Return the end of the first day with a close, from which on it is known; None if there is none."""
    if not len(closes):
        return None
    after: datetime = (closes.index[0] + pd.Timedelta(days=1)).to_pydatetime()
    return after
