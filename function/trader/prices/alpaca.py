"""Prices from Alpaca's data API: the bars of many symbols in one request, read page by page."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import batched

import pandas as pd

from trader.alpaca_client import AlpacaClient, AlpacaError, Json
from trader.model import Closes
from trader.prices import PriceSourceError, Progress

SYMBOLS_PER_REQUEST = 100
BARS_PER_PAGE = 10_000  # the most that Alpaca gives at once

_TIMEFRAMES = {"1d": ("1Day", 1), "1h": ("1Hour", 7), "15m": ("15Min", 26), "5m": ("5Min", 78), "1m": ("1Min", 390)}
"""By bar interval: Alpaca's name of it, and the bars in a session from 9:30 to 16:00."""


class AlpacaPrices:
    """Closes from the IEX feed, which every account may read, adjusted for splits, dividends and spin-offs.

    `interval` is 1d, 1h, 15m, 5m or 1m.
    """

    def __init__(self, client: AlpacaClient, interval: str) -> None:
        """Nothing is asked before the first call."""
        if interval not in _TIMEFRAMES:
            raise ValueError(f"BAR_INTERVAL={interval!r}: allowed for Alpaca's prices are {', '.join(_TIMEFRAMES)}")
        self._client = client
        self._timeframe, self._bars_per_session = _TIMEFRAMES[interval]

    @property
    def name(self) -> str:
        """As the setting PRICE_SOURCES spells it."""
        return "alpaca"

    def symbols(self) -> None:
        """Only asking tells."""

    def closes(self, symbols: Sequence[str], count: int, now: datetime, progress: Progress) -> Mapping[str, Closes]:
        """Up to `count` closes of each symbol, the last bar's start not after `now`, in UTC.

        Symbols that Alpaca has no bars of are left out. Raises PriceSourceError when any request fails for good: a
        part of the answer would pass for symbols that do not exist.
        """
        found: dict[str, Closes] = {}
        try:
            for done, chunk in enumerate(batched(symbols, SYMBOLS_PER_REQUEST, strict=False)):
                bars = self._bars(chunk, self._start(count, now), now)
                found |= {symbol: _closes(rows).loc[:now].iloc[-count:] for symbol, rows in bars.items()}
                progress("prices from Alpaca", done * SYMBOLS_PER_REQUEST + len(chunk), len(symbols))
        except AlpacaError as error:
            raise PriceSourceError(str(error)) from error
        return found

    def _start(self, count: int, now: datetime) -> datetime:
        sessions = math.ceil(count / self._bars_per_session)
        return now - timedelta(days=math.ceil(sessions * 365 / 250) + 7)  # a week more, for a row of holidays

    def _bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Mapping[str, list[tuple[str, float]]]:
        """(time, close) of every bar by symbol."""
        query = {
            "symbols": ",".join(symbols),
            "timeframe": self._timeframe,
            "start": start.isoformat(),
            "end": end.isoformat(),
            "limit": BARS_PER_PAGE,
            "adjustment": "all",
            "feed": "iex",
            "sort": "asc",
        }
        bars = defaultdict[str, list[tuple[str, float]]](list)
        for page in self._pages(query):
            for symbol, time, close in _rows(page):
                bars[symbol].append((time, close))
        return bars

    def _pages(self, query: dict[str, object]) -> Iterator[Mapping[str, Json]]:
        seen: set[object] = set()
        while True:
            page = self._client.get_data("/stocks/bars", query)
            if not isinstance(page, dict) or "bars" not in page:
                raise PriceSourceError(f"Alpaca: GET /stocks/bars: expected an object with bars, got {page!r:.200}")
            yield page
            token = page.get("next_page_token")
            if not token:
                return
            if token in seen:
                raise PriceSourceError(f"Alpaca: GET /stocks/bars: page {token!r} follows on itself")
            seen.add(token)
            query = query | {"page_token": token}


def _rows(page: Mapping[str, Json]) -> Iterator[tuple[str, str, float]]:
    """(symbol, time, close) of every bar of a page."""
    by_symbol = page["bars"]
    try:
        for symbol, bars in (by_symbol or {}).items():  # type: ignore[attr-defined]  # if not, the handler below says so
            for bar in bars or ():
                yield symbol, bar["t"], float(bar["c"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PriceSourceError(
            f"Alpaca: GET /stocks/bars: a bar without its time or close ({type(error).__name__}: {error})"
        ) from error


def _closes(rows: Sequence[tuple[str, float]]) -> Closes:
    times, closes = zip(*rows, strict=True)
    try:
        index = pd.to_datetime(list(times), utc=True, format="ISO8601")
    except ValueError as error:
        raise PriceSourceError(f"Alpaca: GET /stocks/bars: a bar whose time is none ({error})") from error
    return pd.Series(closes, index=index, dtype=float).sort_index()
