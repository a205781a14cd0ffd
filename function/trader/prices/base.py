"""The PriceSource protocol, and the Bars that a run receives."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import pandas as pd

from trader.model import BARS_PER_SESSION, Closes, Denial, Ohlv
from trader.prices.series import Series, last_bars
from trader.progress import Progress


def start_of(bar_interval: str, count: int, now: datetime) -> datetime:
    """Return a time at least `count` bars before `now`, with room for weekends, holidays and the longest closure."""
    sessions = math.ceil(count / BARS_PER_SESSION[bar_interval])
    return now - timedelta(days=math.ceil(sessions * 365 / 250) + 7)


class PriceSourceError(Exception):
    """A source failed as a whole: the file is missing, the connection failed or permission was denied."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a source has no prices of a symbol, as far as the source knows it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a source has, as far as it knows without a request: the first and the last bar of each symbol."""

    source: str  # in words
    spans: Mapping[str, tuple[datetime, datetime]]


class PriceSource(Protocol):
    """A source of prices."""

    @property
    def name(self) -> str:
        """The name of this source in the setting PRICE_SOURCES."""

    def symbols(self, now: datetime) -> frozenset[str] | None:
        """Return the symbols that may have prices at `now`, in Alpaca's spelling (BRK.B).

        Return None if only a request shows which symbols have prices.
        """

    def read(
        self, symbols: Sequence[str], count: int, now: datetime, progress: Progress
    ) -> Mapping[str, Series | Missing]:
        """Return up to `count` bars of each symbol, the last of which starts at or before `now`, or why there are none.

        A symbol that is not in the answer is not known to the source. Raises PriceSourceError if the source fails as a
        whole.
        """

    def describe(self) -> str:
        """Say what these prices are, for a report: what a file was taken for, and whether prices are adjusted."""

    def notes(self) -> tuple[str, ...]:
        """Return what a reader should know about the source as a whole: what was done to a file's rows."""


class KnownCloses(Mapping[str, Closes]):
    """Closes by symbol that are read when they are looked at: what most symbols are asked for is known without a look.

    All methods but `measure_returns` and `keep_last` raise KeyError if there are no closes of a symbol.
    """

    @abstractmethod
    def measure_returns(self, lookback_bars: int) -> dict[str, float]:
        """Return what trader.stages.universe.returns would of these closes."""

    @abstractmethod
    def count_bars(self, symbol: str, after: datetime | None = None) -> int:
        """Return the number of a symbol's closes, or of those whose bars begin after a time."""

    @abstractmethod
    def last_bar(self, symbol: str) -> datetime:
        """Return the start of a symbol's last bar."""

    @abstractmethod
    def last_usd(self, symbol: str) -> float:
        """Return a symbol's last close."""

    @abstractmethod
    def keep_last(self, count: int) -> "KnownCloses":
        """Return the last `count` closes of each symbol."""


def count_bars(closes: Mapping[str, Closes], symbol: str, after: datetime | None = None) -> int:
    """Return the number of a symbol's closes, or of those whose bars begin after a time; they are in order.

    Raises KeyError if there are none.
    """
    if isinstance(closes, KnownCloses):
        return closes.count_bars(symbol, after)
    index = closes[symbol].index
    return len(index) - (0 if after is None else int(index.searchsorted(pd.Timestamp(after), side="right")))


def last_bar(closes: Mapping[str, Closes], symbol: str) -> datetime:
    """Return the start of a symbol's last bar. Raises KeyError if there is none."""
    if isinstance(closes, KnownCloses):
        return closes.last_bar(symbol)
    bar: datetime = closes[symbol].index[-1].to_pydatetime()
    return bar


def last_usd(closes: Mapping[str, Closes], symbol: str) -> float:
    """Return a symbol's last close. Raises KeyError if there is none."""
    return closes.last_usd(symbol) if isinstance(closes, KnownCloses) else float(closes[symbol].to_numpy()[-1])


def keep_last(closes: Mapping[str, Closes], count: int) -> Mapping[str, Closes]:
    """Return the last `count` closes of each symbol, or all of them if there are fewer."""
    if isinstance(closes, KnownCloses):
        return closes.keep_last(count)
    return {symbol: last_bars(each, count) for symbol, each in closes.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Clean closes by symbol, and a denial for each symbol without closes.

    `ohlv` is the rest of the bars of each of the closes, empty unless it is asked for.
    """

    closes: Mapping[str, Closes] = field(default_factory=dict)
    ohlv: Mapping[str, Ohlv] = field(default_factory=dict)
    denials: tuple[Denial, ...] = ()
