"""The bot's reader of prices on a panel: all candidates are ranked at once, and closes are cut when they are looked at.

At each bar the bot looks at the last price and at one earlier one of every candidate, and at the whole history of a few
only. So the returns of all bars are computed once, and a candidate is read in the ordinary way only if it is looked at,
or if there is anything about it that may need a word: a jump, a note, or no price.
"""

import math
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from datetime import datetime
from functools import cached_property
from typing import override

import numpy as np
import pandas as pd

from scripts.backtest.panel_prices import PanelPrices
from trader.model import Closes
from trader.prices.base import Bars, KnownCloses, count_bars, last_bar, last_usd
from trader.prices.reader import Prices
from trader.prices.series import Series, last_bars, to_ns
from trader.stages import universe


class Ranks:
    """The returns of all symbols of a panel at all bars, and where a symbol is plain: it has a history in one unit.

    Of a plain symbol, this also tells the last bar at a row, and how many bars there are up to it.
    """

    def __init__(self, series: Mapping[str, Series], index: pd.DatetimeIndex, count: int, lookback_bars: int) -> None:
        """Compute returns over `lookback_bars`; a run sees the last `count` bars, `index` has the starts of all."""
        self.lookback_bars = lookback_bars
        self._column = {symbol: number for number, symbol in enumerate(series)}
        self._times_ns = index.as_unit("ns").asi8
        self._times: list[datetime] = index.to_pydatetime().tolist()
        shape = len(index), len(series)
        self._returns, self._last_usd = np.full(shape, np.nan), np.full(shape, np.nan)
        is_there, self._is_plain = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        for number, each in enumerate(series.values()):
            rows = self._times_ns.searchsorted(each.times_ns)
            is_there[rows, number] = True
            self._is_plain[rows, number] = each.are_plain(count) if not each.notes else False
            self._last_usd[rows, number] = each.prices_usd
            if len(each) > lookback_bars:
                usd = each.prices_usd
                self._returns[rows[lookback_bars:], number] = usd[lookback_bars:] / usd[:-lookback_bars] - 1
        places = np.arange(len(index), dtype=np.int32)[:, np.newaxis]
        self._last = np.maximum.accumulate(np.where(is_there, places, np.int32(-1)), axis=0)
        self._counts = is_there.cumsum(axis=0, dtype=np.int32)
        self._rows: dict[datetime, int] = {}

    def row(self, bar: datetime) -> int:
        """Return the row of a bar, which is asked for again and again."""
        if (row := self._rows.get(bar)) is None:
            row = self._rows[bar] = int(self._times_ns.searchsorted(to_ns(bar), side="right")) - 1
        return row

    def count_bars(self, row: int, symbol: str, after: datetime | None = None) -> int:
        """Return how many bars there are of a plain symbol up to a row, or of those that begin after a time."""
        column = self._column[symbol]
        before = -1 if after is None else min(self.row(after), row)
        return int(self._counts[row, column]) - (int(self._counts[before, column]) if before >= 0 else 0)

    def last_bars(self, row: int, symbols: Sequence[str]) -> dict[str, datetime]:
        """Return the start of the last bar of each of some plain symbols up to a row."""
        rows = self._last[row, [self._column[symbol] for symbol in symbols]].tolist()
        return {symbol: self._times[each] for symbol, each in zip(symbols, rows, strict=True)}

    def last_usd(self, row: int, symbols: Sequence[str]) -> dict[str, float]:
        """Return the last close of each of some plain symbols up to a row."""
        columns = [self._column[symbol] for symbol in symbols]
        return dict(zip(symbols, self._last_usd[self._last[row, columns], columns].tolist(), strict=True))

    def take(self, row: int, symbols: Sequence[str], oldest_ns: int) -> tuple[list[bool], list[float]]:
        """Return, as of a row, which symbols are plain and have a last bar that is not older, and all their returns.

        A return is NaN if there is none.
        """
        columns = np.array([self._column.get(symbol, -1) for symbol in symbols], np.intp)
        last = self._last[row, columns]
        is_recent = (columns >= 0) & (last >= 0) & (self._times_ns[last] >= oldest_ns)
        return (is_recent & self._is_plain[last, columns]).tolist(), self._returns[last, columns].tolist()


class PanelCloses(KnownCloses):
    """The usable closes at one bar, read when they are looked at."""

    def __init__(
        self,
        symbols: Sequence[str],
        gains: Mapping[str, float],
        others: Mapping[str, Closes],
        ranks: Ranks,
        row: int,
        read: Callable[[Sequence[str]], Mapping[str, Closes]],
        count: int,
    ) -> None:
        """Hold the last `count` closes of `symbols` at a row.

        `others` are read, `gains` are the returns of some that are not, and `read` reads any of them.
        """
        self._symbols = dict.fromkeys(symbols)
        self._gains = gains
        self._others = others
        self._ranks = ranks
        self._row = row
        self._read = read
        self._count = count
        self._seen: dict[str, Closes] = {}

    @override
    def __getitem__(self, symbol: str) -> Closes:
        self._require(symbol)
        return self._look([symbol])[symbol]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols)

    @override
    def __len__(self) -> int:
        return len(self._symbols)

    @override
    def __contains__(self, symbol: object) -> bool:
        return symbol in self._symbols

    @override
    def items(self) -> ItemsView[str, Closes]:
        return self._look_at_all().items()

    @override
    def values(self) -> ValuesView[Closes]:
        return self._look_at_all().values()

    @override
    def measure_returns(self, lookback_bars: int) -> dict[str, float]:
        assert lookback_bars == self._ranks.lookback_bars, "a backtest has one look-back"
        found = {**self._gains, **universe.returns(self._others, lookback_bars)}
        return {symbol: found[symbol] for symbol in self._symbols if symbol in found}

    @override
    def count_bars(self, symbol: str, after: datetime | None = None) -> int:
        self._require(symbol)
        if symbol in self._others:
            return min(count_bars(self._others, symbol, after), self._count)
        return min(self._ranks.count_bars(self._row, symbol, after), self._count)

    @override
    def last_bar(self, symbol: str) -> datetime:
        return self._last_bars[symbol]

    @override
    def last_usd(self, symbol: str) -> float:
        return self._last_usd[symbol]

    @override
    def keep_last(self, count: int) -> "PanelCloses":
        parts = self._gains, self._others, self._ranks, self._row, self._read
        return PanelCloses(list(self._symbols), *parts, min(count, self._count))

    @cached_property
    def _last_bars(self) -> Mapping[str, datetime]:
        """The last bar of every symbol: whoever asks for one's asks for all."""
        known = {symbol: last_bar(self._others, symbol) for symbol in self._others}
        return known | self._ranks.last_bars(self._row, [each for each in self._symbols if each not in known])

    @cached_property
    def _last_usd(self) -> Mapping[str, float]:
        """The last close of every symbol."""
        known = {symbol: last_usd(self._others, symbol) for symbol in self._others}
        return known | self._ranks.last_usd(self._row, [each for each in self._symbols if each not in known])

    def _require(self, symbol: str) -> None:
        if symbol not in self._symbols:
            raise KeyError(symbol)

    def _look_at_all(self) -> dict[str, Closes]:
        seen = self._look(list(self._symbols))
        return {symbol: seen[symbol] for symbol in self._symbols}

    def _look(self, symbols: Sequence[str]) -> Mapping[str, Closes]:
        """Return the closes that were looked at so far, those of `symbols` among them."""
        if new := [symbol for symbol in symbols if symbol not in self._seen]:
            self._seen |= {symbol: last_bars(each, self._count) for symbol, each in self._read(new).items()}
        return self._seen


class PanelReader(Prices):
    """The bot's reader of the prices of a backtest's panel at one bar; see Prices."""

    def __init__(self, prices: PanelPrices, ranks: Ranks, *, now: datetime, count: int, max_age_s: float) -> None:
        """Read `prices` at their present bar, as Prices does that needs closes only; `ranks` are of the same prices.

        Closes that are looked at later end at this bar, too.
        """
        super().__init__([prices.stay()], now=now, count=count, max_age_s=max_age_s)
        self._ranks = ranks
        self._row = ranks.row(min(now, prices.present))
        self._oldest_ns = to_ns(now) - round(max_age_s * 1e9)

    @override
    def bars(self, symbols: Sequence[str]) -> Bars:
        """Return the closes on which decisions may rest, or the reason why a symbol has none."""
        wanted = tuple(dict.fromkeys(symbols))
        is_plain, returns = self._ranks.take(self._row, wanted, self._oldest_ns)
        others = super().bars([symbol for symbol, plain in zip(wanted, is_plain, strict=True) if not plain])
        usable = [symbol for symbol, plain in zip(wanted, is_plain, strict=True) if plain or symbol in others.closes]
        gains = {
            symbol: gain
            for symbol, plain, gain in zip(wanted, is_plain, returns, strict=True)
            if plain and not math.isnan(gain)
        }
        closes = PanelCloses(usable, gains, others.closes, self._ranks, self._row, self._read, self._count)
        return Bars(closes=closes, denials=others.denials)

    def _read(self, symbols: Sequence[str]) -> Mapping[str, Closes]:
        """Read closes that may be used in the ordinary way."""
        return super().bars(symbols).closes
