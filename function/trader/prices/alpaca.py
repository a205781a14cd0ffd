"""Prices from Alpaca's data API. One request asks for the bars of many symbols and is answered page by page."""

import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import batched
from math import inf, nan
from typing import Any

import pandas as pd

from trader.alpaca.client import AlpacaClient, AlpacaError, JsonValue, RefusedError
from trader.deadline import Deadline
from trader.logs import MAX_REASON_CHARACTERS, one_line
from trader.model import NEW_YORK, Closes
from trader.prices.bars import PRICES, VOLUME, make_series
from trader.prices.base import Missing, PriceSourceError, start_of
from trader.prices.series import Series
from trader.progress import Progress

SYMBOLS_PER_REQUEST = 100
BARS_PER_PAGE = 10_000  # Alpaca's maximum

ACTIONS_PER_PAGE = 1_000  # Alpaca's maximum

SPLIT_TYPES = ("forward_split", "reverse_split", "unit_split", "stock_dividend")
"""The corporate actions that change the unit of a share's price."""

GIVE_UP_AFTER = 16
"""The number of refusals without a single answer after which the symbols cannot be the cause."""

_TIMEFRAMES = {"1d": "1Day", "1h": "1Hour", "15m": "15Min", "5m": "5Min", "1m": "1Min"}
"""Alpaca's name for each bar interval."""

_BAD_REQUEST = frozenset({400, 422})

_FIELDS = dict(zip((*PRICES, VOLUME), "ohlcv", strict=True))
"""Alpaca's name for each part of a bar."""

type _Query = Mapping[str, object]

type _Answer = Closes | pd.DataFrame
"""What Alpaca has of a symbol: its closes, or whole bars if they are asked for."""

LOG = logging.getLogger(__name__)


class AlpacaPrices:
    """Closes from the IEX feed, which every account may read, adjusted for splits, dividends and spin-offs.

    `interval` is 1d, 1h, 15m, 5m or 1m. No request is sent after `deadline`. If closes jump, one more request asks for
    the splits of those symbols: Alpaca's list of them is believed to be complete. With `ohlcv`, the series have open,
    high, low and volume too, all of IEX: the volume is a small part of the whole market's.
    """

    def __init__(
        self, client: AlpacaClient, interval: str, *, deadline: Deadline | None = None, ohlcv: bool = False
    ) -> None:
        """Store the arguments; no request is sent. Raises ValueError if Alpaca has no such `interval`."""
        if interval not in _TIMEFRAMES:
            raise ValueError(f"BAR_INTERVAL={interval!r}: prices from Alpaca allow {', '.join(_TIMEFRAMES)}")
        self._client = client
        self._interval = interval
        self._deadline = deadline or Deadline.never()
        self._ohlcv = ohlcv

    @property
    def name(self) -> str:
        """The name of this source in the setting PRICE_SOURCES."""
        return "alpaca"

    def symbols(self, now: datetime) -> None:
        """Return None: only a request shows which symbols Alpaca has."""

    def read(
        self, symbols: Sequence[str], count: int, now: datetime, progress: Progress
    ) -> Mapping[str, Series | Missing]:
        """Return up to `count` bars of each symbol, the last of which starts at or before `now`, or why there are none.

        Symbols that Alpaca rejects, or with a bar that lacks its time or close, are also logged with the reason. Raises
        PriceSourceError if all symbols fail in this way, if no time is left for a request, or if a request for bars
        fails for another reason: after a partial answer, the missing symbols would look as if they did not exist.
        """
        since = start_of(self._interval, count, now).astimezone(NEW_YORK).date()
        outcomes: dict[str, _Answer | Missing] = {}
        done = 0
        try:
            for chunk, answer in self._answers(symbols, self._query(count, now)):
                outcomes |= answer
                done += len(chunk)
                progress("prices from Alpaca", done, len(symbols))
        except AlpacaError as error:
            raise PriceSourceError(str(error)) from error
        missing = {symbol: each for symbol, each in outcomes.items() if isinstance(each, Missing)}
        faults = {symbol: each.reason for symbol, each in missing.items()}
        _report(faults, is_total=faults.keys() >= set(symbols))
        bars = {symbol: each for symbol, each in outcomes.items() if not isinstance(each, Missing)}
        series = {symbol: self._make(each).until(now, count=count) for symbol, each in bars.items()}
        if doubtful := [symbol for symbol, each in series.items() if each.has_verdict]:
            judged = self._judge({symbol: bars[symbol] for symbol in doubtful}, since, now)
            series |= {symbol: each.until(now, count=count) for symbol, each in judged.items()}
        absent = Missing(f"Alpaca has no bars of it on IEX since {since}")
        return dict.fromkeys(symbols, absent) | missing | series

    def _make(
        self,
        bars: _Answer,
        *,
        splits: Mapping[date, float] | None = None,
        knows_all_splits: bool = False,
        notes: Sequence[str] = (),
    ) -> Series:
        """Return the series of a symbol; see Series for the other arguments."""
        if isinstance(bars, pd.DataFrame):
            return make_series(
                bars,
                interval=self._interval,
                splits=splits,
                knows_all_splits=knows_all_splits,
                notes=notes,
            )
        return Series(bars, interval=self._interval, splits=splits, knows_all_splits=knows_all_splits, notes=notes)

    def _judge(self, bars: Mapping[str, _Answer], since: date, now: datetime) -> Mapping[str, Series]:
        """Judge the jumps of some symbols by the splits that Alpaca reports, or by themselves if it does not answer."""
        try:
            splits = self._splits(list(bars), since, now.astimezone(NEW_YORK).date())
        except (AlpacaError, PriceSourceError) as error:
            LOG.warning("%s; jumps of %s are judged by their ratio alone", error, ", ".join(bars))
            note = f"its jumps are judged by their ratio alone, without Alpaca's list of splits ({error})"
            return {symbol: self._make(each, notes=[note]) for symbol, each in bars.items()}
        return {symbol: self._believe(each, splits.get(symbol, {})) for symbol, each in bars.items()}

    def _believe(self, bars: _Answer, splits: Mapping[date, float]) -> Series:
        """Judge the jumps of a symbol: those of the last bars also by their ratio, because the list may be late."""
        series = self._make(bars, splits=splits)
        if series.is_withheld:
            return series
        return self._make(bars, splits=splits, knows_all_splits=True)

    def _splits(self, symbols: Sequence[str], first: date, last: date) -> Mapping[str, Mapping[date, float]]:
        """Return the splits of symbols from `first` to `last`, by day, in new shares for each old one.

        Raises AlpacaError or PriceSourceError if the answer is incomplete or unusable.
        """
        query = {"symbols": ",".join(symbols), "types": ",".join(SPLIT_TYPES), "limit": ACTIONS_PER_PAGE}
        query |= {"start": first.isoformat(), "end": last.isoformat()}
        splits = defaultdict[str, dict[date, float]](dict)
        for page in self._pages("/corporate-actions", "corporate_actions", query, version="v1"):
            try:
                for symbol, day, ratio in _read_splits(page):
                    splits[symbol][day] = ratio
            except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
                what = f"{type(error).__name__}: {one_line(error, MAX_REASON_CHARACTERS)}"
                raise PriceSourceError(
                    f"Alpaca: GET /corporate-actions: a split that cannot be read ({what})"
                ) from error
        return splits

    def describe(self) -> str:
        """Say what these prices are, for a report."""
        return f"Alpaca's {self._interval} bars (IEX), adjusted for splits and dividends"

    def notes(self) -> tuple[str, ...]:
        """Return nothing: Alpaca's answers need no explanation."""
        return ()

    def _query(self, count: int, now: datetime) -> _Query:
        return {
            "timeframe": _TIMEFRAMES[self._interval],
            "start": start_of(self._interval, count, now).isoformat(),
            "end": now.isoformat(),
            "limit": BARS_PER_PAGE,
            "adjustment": "all",
            "feed": "iex",
            "sort": "asc",
        }

    def _answers(
        self, symbols: Sequence[str], query: _Query
    ) -> Iterator[tuple[Sequence[str], Mapping[str, _Answer | Missing]]]:
        """Yield a chunk of the symbols with its outcomes until all symbols are done.

        One invalid symbol makes Alpaca refuse the whole request, so a refused chunk is halved until that symbol is
        alone.
        """
        waiting: deque[Sequence[str]] = deque(batched(symbols, SYMBOLS_PER_REQUEST, strict=False))
        refusals, is_answered = 0, False
        while waiting:
            chunk = waiting.popleft()
            outcomes: Mapping[str, _Answer | Missing]
            try:
                outcomes = self._ask(chunk, query)
                is_answered = True
            except RefusedError as error:
                refusals += 1
                if error.status not in _BAD_REQUEST or (refusals >= GIVE_UP_AFTER and not is_answered):
                    raise
                middle = len(chunk) // 2
                if middle:
                    waiting.extendleft((chunk[middle:], chunk[:middle]))
                    continue
                outcomes = {chunk[0]: Missing(str(error))}
            yield chunk, outcomes

    def _ask(self, symbols: Sequence[str], query: _Query) -> Mapping[str, _Answer | Missing]:
        """Return the closes or bars, or the fault, of each symbol; Alpaca leaves out symbols without bars."""
        bars = defaultdict[str, list[Any]](list)
        for page in self._pages("/stocks/bars", "bars", {**query, "symbols": ",".join(symbols)}):
            for symbol, more in page.items():
                if symbol not in symbols:
                    continue  # it was not requested
                bars[symbol] += more if isinstance(more, list) else [] if more is None else [more]
        read = _read_bars if self._ohlcv else _closes
        return {symbol: read(rows) for symbol, rows in bars.items() if rows}

    def _pages(self, path: str, part: str, query: _Query, *, version: str = "v2") -> Iterator[Mapping[str, JsonValue]]:
        """Yield the part of the answer that holds the data, page by page."""
        seen: set[object] = set()
        while True:
            if self._deadline.is_over:
                raise PriceSourceError(f"Alpaca: GET {path}: no time left to request prices")
            page = self._client.get_data(path, query, version=version)
            if not isinstance(page, dict) or not isinstance(page.get(part, "none"), dict | None):
                raise PriceSourceError(f"Alpaca: GET {path}: expected an object with {part}, got {page!r:.200}")
            yield page[part] or {}
            token = page.get("next_page_token")
            if not token:
                return
            if token in seen:
                raise PriceSourceError(f"Alpaca: GET {path}: page {token!r:.100} was returned twice")
            seen.add(token)
            query = {**query, "page_token": token}


def _read_splits(actions: Mapping[str, Any]) -> Iterator[tuple[str, date, float]]:
    """Yield the symbol, the day and the new shares for each old one of each split."""
    for each in (*_list(actions, "forward_splits"), *_list(actions, "reverse_splits")):
        for symbol in filter(None, (each["symbol"], each.get("new_symbol"))):
            yield symbol, date.fromisoformat(each["ex_date"]), _ratio(each["new_rate"], each["old_rate"])
    for each in _list(actions, "unit_splits"):
        for symbol in (each["old_symbol"], each["new_symbol"]):
            yield symbol, date.fromisoformat(each["effective_date"]), _ratio(each["new_rate"], each["old_rate"])
    for each in _list(actions, "stock_dividends"):
        yield each["symbol"], date.fromisoformat(each["ex_date"]), 1 + _ratio(each["rate"], 1)


def _list(actions: Mapping[str, Any], name: str) -> Sequence[Any]:
    found: Sequence[Any] = actions.get(name) or []
    return found


def _ratio(new: float | str, old: float | str) -> float:
    """Return a ratio of shares. Raises ValueError if it is not positive."""
    ratio = float(new) / float(old)
    if not 0 < ratio < inf:
        raise ValueError(f"{new} for {old} shares")
    return ratio


def _closes(bars: Sequence[Any]) -> Closes | Missing:
    try:
        index = pd.DatetimeIndex([datetime.fromisoformat(bar["t"]) for bar in bars]).tz_convert(UTC)
        return pd.Series([float(bar["c"]) for bar in bars], index=index).sort_index()
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        return Missing(
            f"a bar lacks its time or close ({type(error).__name__}: {one_line(error, MAX_REASON_CHARACTERS)})"
        )


def _read_bars(bars: Sequence[Any]) -> pd.DataFrame | Missing:
    """Return whole bars. Only a time and a close are needed; what else is missing or no number is NaN."""
    closes = _closes(bars)
    if isinstance(closes, Missing):
        return closes
    times = pd.DatetimeIndex([datetime.fromisoformat(bar["t"]) for bar in bars]).tz_convert(UTC)
    columns = {name: [_number(bar.get(field)) for bar in bars] for name, field in _FIELDS.items() if name != "close"}
    return pd.DataFrame(columns, times).sort_index().assign(close=closes.to_numpy())


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # anything that is no number raises an error
    except (OverflowError, TypeError, ValueError):
        return nan


def _report(faults: Mapping[str, str], *, is_total: bool) -> None:
    if not faults:
        return
    if is_total:
        symbol, reason = next(iter(faults.items()))
        raise PriceSourceError(f"no usable prices for any symbol ({symbol}: {reason})")
    LOG.warning("Alpaca returned no usable prices for %s", ", ".join(faults), extra={"reasons": faults})
