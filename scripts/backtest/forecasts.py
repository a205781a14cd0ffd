"""The forecasts of a backtest, computed in advance in other processes; each uses only the bars up to its own."""

from collections import ChainMap
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import datetime
from functools import cached_property
from itertools import batched
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest import membership
from scripts.backtest.compute import Key, Table, Task, compute
from scripts.backtest.judged import judge
from scripts.backtest.model import Options, Panel
from trader.alpha import loader
from trader.deadline import Deadline
from trader.forecasting.base import Forecasts, ForecastSpec
from trader.model import Closes, Denial, Engine, Forecast
from trader.prices.base import last_bar, last_usd
from trader.progress import Progress, no_progress
from trader.settings import Settings

BLOCK_BARS = {Engine.PROPHET: 10, Engine.MAP: 250}
"""The number of bars computed at once, by engine: enough to make the cost of transfer between processes negligible."""

AHEAD_BARS = {Engine.PROPHET: 5, Engine.MAP: 15}
"""For how many bars after one a symbol's forecasts are made with those of the bar, by engine.

A symbol that is no longer among the best performers is judged as long as it is held. Its forecasts are made in vain if
it is not held, and with those of few others if it is held for longer, which costs more.
"""

MAX_TOGETHER = 10
"""Maximum number of symbols that one task of the map engine fits at all bars of a block.

Small enough to keep several workers busy.
"""

BLOCKS_AHEAD = 3
"""The number of blocks that are computed ahead of the current one."""

type Rows = Mapping[str, Sequence[int]]
"""The rows of the calendar at which a forecast is asked for, by symbol."""


def find_spec(settings: Settings) -> ForecastSpec | None:
    """Return the forecast that the rule reads; None if it reads none."""
    return loader.load(settings).forecast_spec


def key(options: Options, spec: ForecastSpec | None = None) -> Key:
    """Return the settings that forecasts depend on; `spec` replaces the rule's own kind of forecast."""
    settings = options.settings
    wanted = spec or find_spec(settings)
    assert wanted is not None, f"SIGNAL={settings.signal} reads no forecast"
    return Key(
        engine=settings.engine,
        spec=wanted,
        history_bars=settings.history_bars,
        refit_every_bars=options.refit_every_bars,
    )


def count_needed_bars(settings: Settings) -> int:
    """Return the number of bars that a run requests from its price source."""
    return max(settings.history_bars, settings.universe_lookback_bars + 1)


class OtherPricesError(AssertionError):
    """A known forecast was made from other prices than those at its bar."""


class Blocks:
    """The traded bars, divided into blocks, and the tasks for the forecasts in them."""

    def __init__(
        self, panel: Panel, options: Options, times: Sequence[datetime], spec: ForecastSpec | None = None
    ) -> None:
        """Divide the traded bars, which start at `times`; models are fitted every `refit_every_bars` bars."""
        self._close = close = judge(panel, options.settings.bar_interval).fitted
        self._key = key(options, spec)
        self._start = int(close.index.searchsorted(times[0])) if times else 0
        self._count = int(close.index.searchsorted(times[-1])) + 1 - self._start if times else 0
        self._size = self._key.refit_every_bars * max(1, BLOCK_BARS[self._key.engine] // self._key.refit_every_bars)
        self._times: list[datetime] = pd.DatetimeIndex(close.index).to_pydatetime().tolist()
        self._is_priced = close.notna().to_numpy()
        self._column = {symbol: number for number, symbol in enumerate(close.columns)}
        self._panel, self._settings = panel, options.settings

    def __len__(self) -> int:
        return -(-self._count // self._size)

    @cached_property
    def _is_likely(self) -> NDArray[np.bool_]:
        """Whether a forecast is likely to be asked for, by bar and symbol."""
        chosen = _predict_chosen(self._close, self._settings, membership.find_members(self._panel))
        chosen[: self._start] = False
        is_likely: NDArray[np.bool_] = _extend(chosen, AHEAD_BARS[self._key.engine]) & self._is_priced
        return is_likely

    def row(self, time: datetime) -> int:
        """Return the row of a bar."""
        return int(self._close.index.searchsorted(time))

    def of(self, time: datetime) -> int:
        """Return the block of a bar."""
        return (self.row(time) - self._start) // self._size

    def time(self, row: int) -> datetime:
        """Return the start of the bar at a row."""
        return self._times[row]

    def likely(self, block: int, known: Container[tuple[str, datetime]] = ()) -> list[Rows]:
        """Return the forecasts of a block that are likely to be asked for and not `known`, in pieces of even size.

        They are those of the symbols that are among the best performers at a bar, for that bar and the AHEAD_BARS
        after it, as the symbol may be held. A wrong guess only costs time.
        """
        first, end = self._first(block), self._end(block)
        found: dict[str, list[int]] = {}
        is_likely = self._is_likely[first:end]
        for number in np.flatnonzero(is_likely.any(axis=0)).tolist():
            symbol = str(self._close.columns[number])
            rows = (np.flatnonzero(is_likely[:, number]) + first).tolist()
            if new := [row for row in rows if (symbol, self._times[row]) not in known]:
                found[symbol] = new
        return self._divide(found)

    def following(self, symbol: str, row: int, known: Container[tuple[str, datetime]] = ()) -> Rows:
        """Return the forecasts of a symbol at a row and the AHEAD_BARS after it that are not `known`."""
        end = min(row + AHEAD_BARS[self._key.engine] + 1, self._start + self._count)
        rows = (np.flatnonzero(self._is_priced[row:end, self._column[symbol]]) + row).tolist()
        return {symbol: [each for each in rows if (symbol, self._times[each]) not in known]}

    def groups(self, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        """Group symbols that are best computed together; for Prophet, each symbol is its own group."""
        return list(batched(symbols, 1 if self._key.engine is Engine.PROPHET else MAX_TOGETHER, strict=False))

    def whole(self, symbols: Sequence[str], block: int) -> Rows:
        """Return all forecasts of some symbols in a block."""
        rows = np.arange(self._first(block), self._end(block))
        return {symbol: rows[self._is_priced[rows, self._column[symbol]]].tolist() for symbol in symbols}

    def task(self, rows: Rows) -> Task:
        """Return the task for the forecasts of some symbols at some rows."""
        return self._task({symbol: [(row, self._fit_row(row)) for row in each] for symbol, each in rows.items()})

    def _divide(self, rows: dict[str, list[int]]) -> list[Rows]:
        """Divide the forecasts of a block into tasks; for Prophet, each symbol is its own task."""
        if self._key.engine is Engine.PROPHET:
            return [{symbol: each} for symbol, each in rows.items()]
        pieces: list[dict[str, list[int]]] = []
        size = MAX_TOGETHER * self._size
        left = 0
        for symbol, each in rows.items():
            if len(each) > left:
                pieces.append({})
                left = size
            pieces[-1][symbol] = each
            left -= len(each)
        return list(pieces)

    def sample(self, pairs: Iterable[tuple[datetime, str]]) -> list[Task]:
        """Return the tasks for single bars of symbols, each fitted at its own bar."""
        rows: dict[str, list[tuple[int, int]]] = {}
        for time, symbol in pairs:
            row = int(self._close.index.searchsorted(time))
            rows.setdefault(symbol, []).append((row, row))
        if self._key.engine is Engine.PROPHET:
            return [self._task({symbol: [pair]}) for symbol, pairs in rows.items() for pair in pairs]
        return [self._task(rows)] if rows else []

    def _fit_row(self, row: int) -> int:
        return row - (row - self._start) % self._key.refit_every_bars

    def _task(self, rows: Mapping[str, Sequence[tuple[int, int]]]) -> Task:
        begin = min(
            (self._first_row(symbol, min(fit for _, fit in each)) for symbol, each in rows.items() if each), default=0
        )
        end = max((row for each in rows.values() for row, _ in each), default=begin - 1) + 1
        return Task(
            key=self._key,
            closes=self._close[list(rows)].iloc[begin:end],
            bars={symbol: tuple((row - begin, fit - begin) for row, fit in each) for symbol, each in rows.items()},
        )

    def _first_row(self, symbol: str, fit_row: int) -> int:
        """Return the row of the first of the bars to which a model is fitted at a row."""
        (rows,) = np.nonzero(self._is_priced[: fit_row + 1, self._column[symbol]])
        return int(rows[-self._key.history_bars :][0]) if len(rows) else 0

    def _first(self, block: int) -> int:
        return max(0, self._start + block * self._size)

    def _end(self, block: int) -> int:
        return min(self._first(block + 1), self._start + self._count)


def _predict_chosen(
    close: pd.DataFrame, settings: Settings, is_member: NDArray[np.bool_]
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return, by bar and symbol, whether the return over the look-back is among the best UNIVERSE_SIZE of that bar.

    Only candidates count: `is_member` tells them by bar and symbol.
    """
    returns = (close / close.ffill().shift(settings.universe_lookback_bars) - 1).to_numpy()
    known = np.where(is_member & ~np.isnan(returns), returns, -np.inf)
    ranks = np.argsort(np.argsort(-known, axis=1, kind="stable"), axis=1, kind="stable")
    chosen: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (ranks < settings.universe_size) & np.isfinite(known)
    return chosen


def _extend(chosen: NDArray[np.bool_], bars: int) -> NDArray[np.bool_]:
    """Return, by bar and symbol, whether a symbol is chosen at the bar or at one of so many before it."""
    since = np.where(chosen, np.arange(len(chosen))[:, np.newaxis], -bars - 1)
    return np.arange(len(chosen))[:, np.newaxis] - np.maximum.accumulate(since, axis=0) <= bars


def tasks(panel: Panel, options: Options, times: Sequence[datetime]) -> list[Task]:
    """Return independent tasks for the forecasts that a backtest over these bars is likely to request."""
    if find_spec(options.settings) is None:
        return []
    blocks = Blocks(panel, options, times)
    return [blocks.task(rows) for block in range(len(blocks)) for rows in blocks.likely(block)]


def collect(outcomes: Sequence[Forecast | Denial], closes: Mapping[str, Closes]) -> Forecasts:
    """Return forecasts that were made elsewhere. Raises OtherPricesError if one was not made from these closes."""
    for outcome in outcomes:
        if isinstance(outcome, Forecast) and outcome.price_usd != last_usd(closes, outcome.symbol):
            raise OtherPricesError(f"the forecast of {outcome.symbol} for {outcome.time} was made from other prices")
    return Forecasts(
        forecasts=tuple(each for each in outcomes if isinstance(each, Forecast)),
        denials=tuple(each for each in outcomes if isinstance(each, Denial)),
    )


class TableForecaster:
    """A Forecaster that takes forecasts from a table, and computes missing ones.

    With an executor, blocks are computed there in advance; without one, each forecast is computed when requested. The
    table forgets a symbol's forecast when a later one is taken: there are a million in ten years of an index. In a gap,
    the same one is taken at several bars.
    """

    def __init__(
        self,
        panel: Panel,
        options: Options,
        times: Sequence[datetime],
        *,
        table: Mapping[tuple[str, datetime], Forecast | Denial] | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Prepare forecasts for the traded bars, which start at `times`; `table` has the forecasts already known."""
        self._blocks = Blocks(panel, options, times)
        self._engine = options.settings.engine
        self._table: Table = dict(table or {})
        self._executor = executor
        self._futures: dict[tuple[str, datetime], Future[Table]] = {}
        self._known = ChainMap[tuple[str, datetime], Any](self._table, self._futures)
        self._taken: dict[str, datetime] = {}  # the bar of each symbol's last forecast
        self._begun = 0  # the number of blocks that were handed to the executor

    def forecast(
        self,
        closes: Mapping[str, Closes],
        deadline: Deadline,  # noqa: ARG002 time does not run out in a backtest
        progress: Progress = no_progress,  # noqa: ARG002 progress is reported in bars
    ) -> Forecasts:
        """Return the forecasts for the last bar of each series; see Forecaster."""
        wanted = {symbol: last_bar(closes, symbol) for symbol in closes}
        if self._executor is not None and wanted:
            self._look_ahead(self._executor, self._blocks.of(max(wanted.values())))
        missing: dict[datetime, list[str]] = {}
        for each in wanted.items():
            if each not in self._futures and each not in self._table:
                missing.setdefault(each[1], []).append(each[0])
        for time, symbols in missing.items():
            self._begin(symbols, time)
        return collect([self._take(each) for each in wanted.items()], closes)

    def close(self) -> None:
        """Cancel computations that are no longer needed."""
        for future in self._futures.values():
            future.cancel()

    def _take(self, each: tuple[str, datetime]) -> Forecast | Denial:
        if future := self._futures.get(each):
            self._learn(future.result())
        symbol, time = each
        if (before := self._taken.get(symbol)) != time:
            self._taken[symbol] = time
            if before is not None:
                self._table.pop((symbol, before), None)
        return self._table[each]

    def _learn(self, computed: Table) -> None:
        """Add new forecasts; existing ones are kept."""
        for each, outcome in computed.items():
            self._futures.pop(each, None)
            self._table.setdefault(each, outcome)

    def _look_ahead(self, executor: Executor, block: int) -> None:
        """Begin the blocks after the current one that are not begun."""
        for ahead in range(max(block, self._begun), min(block + BLOCKS_AHEAD + 1, len(self._blocks))):
            for rows in self._blocks.likely(ahead, self._table):
                self._submit(executor, rows)
            self._begun = ahead + 1

    def _begin(self, symbols: Sequence[str], time: datetime) -> None:
        """Begin the forecasts of a bar that were not foreseen, with those of the next bars, which are then likely too.

        The map engine makes them at once: in an executor, they would wait for all that was foreseen.
        """
        row = self._blocks.row(time)
        if self._engine is Engine.PROPHET and self._executor is not None:
            for symbol in symbols:
                self._submit(self._executor, self._blocks.following(symbol, row, self._known))
            return
        for group in self._blocks.groups(symbols):
            rows: dict[str, Sequence[int]] = {symbol: [row] for symbol in group}
            if self._engine is Engine.MAP:
                rows = {symbol: self._blocks.following(symbol, row, self._known)[symbol] for symbol in group}
            self._learn(compute(self._blocks.task(rows)))

    def _submit(self, executor: Executor, rows: Rows) -> None:
        future = executor.submit(compute, self._blocks.task(rows))
        self._futures |= {(symbol, self._blocks.time(row)): future for symbol, each in rows.items() for row in each}
