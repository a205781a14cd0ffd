"""Prices: closes by symbol from sources asked in order; each symbol ends as clean bars or as a reason code."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import pandas as pd

from trader.model import NEW_YORK, Closes, Code, Denial

BARS_PER_SESSION = {"1d": 1, "1h": 7, "15m": 26, "5m": 78, "1m": 390}
"""By bar interval, from 9:30 to 16:00."""

LEAST_USD, MOST_USD = 0.01, 10_000_000
"""What a share can cost; anything else is no price but a fault of the source."""

type Progress = Callable[[str, int, int], None]
"""Called with the name of the work under way, the steps done and the steps in all."""


def no_progress(work: str, done: int, total: int) -> None:
    """Say nothing: what a run outside a terminal uses."""


def start_of(bar_interval: str, count: int, now: datetime) -> datetime:
    """How far back to ask for `count` bars: weekends and holidays allowed for, and the longest row of them."""
    sessions = math.ceil(count / BARS_PER_SESSION[bar_interval])
    return now - timedelta(days=math.ceil(sessions * 365 / 250) + 7)


class PriceSourceError(Exception):
    """A source as a whole could not be asked: no such file, no connection, no permission."""


class PriceSource(Protocol):
    """One place to get closes from."""

    @property
    def name(self) -> str:
        """As the setting PRICE_SOURCES spells it."""

    def symbols(self, now: datetime) -> frozenset[str] | None:
        """The symbols it can have prices of by `now`, in Alpaca's spelling (BRK.B); None if only asking tells."""

    def closes(self, symbols: Sequence[str], count: int, now: datetime, progress: Progress) -> Mapping[str, Closes]:
        """Up to `count` closes of each symbol, the last bar's start not after `now`; missing symbols are left out.

        Raises PriceSourceError if nothing can be had at all.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Clean closes by symbol, and a denial for each symbol that has none."""

    closes: Mapping[str, Closes] = field(default_factory=dict)
    denials: tuple[Denial, ...] = ()


class UnusableError(Exception):
    """The closes of one symbol cannot be traded on; `code` says in which way."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Prices:
    """The sources in order, as of one moment: each next one is asked for what the ones before could not give.

    What was had once is not asked for again, so that the broker's valuation and the pipeline share it.
    """

    def __init__(
        self,
        sources: Sequence[PriceSource],
        *,
        now: datetime,
        count: int,
        max_age_s: float,
        progress: Progress = no_progress,
    ) -> None:
        """`count` bars at the most of each symbol, none after `now`, the last at most `max_age_s` old."""
        self._sources = tuple(sources)
        self._now = now
        self._count = count
        self._max_age_s = max_age_s
        self._progress = progress
        self._had: dict[str, Closes] = {}
        self._why: dict[str, Denial] = {}

    def symbols(self) -> frozenset[str] | None:
        """The symbols that any source can have; None if only asking tells.

        Raises PriceSourceError if the only source cannot even tell that.
        """
        known: frozenset[str] = frozenset()
        for source in self._sources:
            try:
                symbols = source.symbols(self._now)
            except PriceSourceError:
                if len(self._sources) == 1:
                    raise
                symbols = None
            if symbols is None:
                return None
            known |= symbols
        return known

    def bars(self, symbols: Sequence[str]) -> Bars:
        """The clean closes of each symbol, or why there are none."""
        wanted = tuple(dict.fromkeys(symbols))
        new = [symbol for symbol in wanted if symbol not in self._had and symbol not in self._why]
        for source in self._sources:
            missing = [symbol for symbol in new if symbol not in self._had]
            if missing:
                self._ask(source, missing)
        return Bars(
            closes={symbol: self._had[symbol] for symbol in wanted if symbol in self._had},
            denials=tuple(self._why[symbol] for symbol in wanted if symbol not in self._had),
        )

    def _ask(self, source: PriceSource, symbols: Sequence[str]) -> None:
        try:
            answer = source.closes(symbols, self._count, self._now, self._progress)
            fault = "gave no prices of it"
        except PriceSourceError as error:
            answer, fault = {}, str(error)
        for symbol in symbols:
            try:
                if symbol not in answer:
                    raise UnusableError(Code.NO_PRICE_DATA, fault)
                self._had[symbol] = last_bars(clean_closes(answer[symbol], self._now, self._max_age_s), self._count)
            except UnusableError as error:
                before = f"{self._why[symbol].detail}; " if symbol in self._why else ""
                detail = f"{before}{source.name}: {error}"
                self._why[symbol] = Denial(symbol=symbol, code=error.code, detail=detail)


def last_bars(closes: Closes, count: int) -> Closes:
    """The last `count` closes; all of them if they are fewer."""
    return closes if len(closes) <= count else closes.iloc[-count:]


def clean_closes(closes: Closes, now: datetime, max_age_s: float) -> Closes:
    """The closes up to `now` without missing bars; raises UnusableError if they cannot be traded on.

    A missing bar (NaN) is left out; an impossible one (zero, negative, infinite) spoils the whole symbol, because a
    source that gives one such price cannot be trusted for the next. The last bar must be at most `max_age_s` old.
    """
    if not (closes.index.is_monotonic_increasing and closes.index.is_unique):
        raise UnusableError(Code.NO_PRICE_DATA, "timestamps are not strictly increasing")
    # pandas takes its time, and a backtest asks for each symbol and bar: what is usual is not searched or cut.
    until = len(closes)
    if until and closes.index[-1] > now:
        times = pd.DatetimeIndex(closes.index).as_unit("ns")  # one of whole seconds refuses to look for parts of one
        until = int(times.searchsorted(pd.Timestamp(now), side="right"))
    prices_usd = closes.to_numpy(float)[:until]
    is_there = ~np.isnan(prices_usd)
    if not is_there.any():
        raise UnusableError(Code.NO_PRICE_DATA, "no price")
    closes = closes if until == len(closes) else closes.iloc[:until]
    if not is_there.all():
        closes, prices_usd = closes[is_there], prices_usd[is_there]
    is_possible = (prices_usd >= LEAST_USD) & (prices_usd <= MOST_USD)
    if not is_possible.all():
        first = int(is_possible.argmin())
        raise UnusableError(
            Code.NO_PRICE_DATA, f"impossible price {prices_usd[first]} at {closes.index[first].isoformat()}"
        )
    age_s = (now - closes.index[-1]).total_seconds()
    if age_s > max_age_s:
        raise UnusableError(
            Code.STALE_PRICE,
            f"last price is of {closes.index[-1].tz_convert(NEW_YORK):%Y-%m-%d %H:%M} New York, "
            f"{age_s / 86_400:,.1f} days old; MAX_PRICE_AGE_S allows {max_age_s / 86_400:,.1f} ({max_age_s:,.0f} s)",
        )
    return closes
