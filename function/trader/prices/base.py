"""The PriceSource protocol, and the Bars that a run receives."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from trader.model import BARS_PER_SESSION, Closes, Denial, Ohlv
from trader.prices.series import Series
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


class RankedCloses(Mapping[str, Closes]):
    """Closes by symbol whose returns are known, so that none of them has to be looked at to rank them."""

    @abstractmethod
    def measure_returns(self, lookback_bars: int) -> dict[str, float]:
        """Return what trader.stages.universe.returns would of these closes."""

    @abstractmethod
    def count_bars(self, symbol: str) -> int:
        """Return the number of a symbol's closes. Raises KeyError if there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Clean closes by symbol, and a denial for each symbol without closes.

    `ohlv` is the rest of the bars of each of the closes, empty unless it is asked for.
    """

    closes: Mapping[str, Closes] = field(default_factory=dict)
    ohlv: Mapping[str, Ohlv] = field(default_factory=dict)
    denials: tuple[Denial, ...] = ()
