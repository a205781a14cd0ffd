"""The forecasts of a backtest, computed in advance in other processes; each uses only the bars up to its own."""

from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import datetime
from itertools import batched

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
from trader.progress import Progress, no_progress
from trader.settings import Settings

BLOCK_BARS = {Engine.PROPHET: 10, Engine.MAP: 250}
"""The number of bars computed at once, by engine: enough to make the cost of transfer between processes negligible."""

MAX_TOGETHER = 10
"""Maximum number of symbols that one task of the map engine fits; small enough to keep several workers busy."""

BLOCKS_AHEAD = 3
"""The number of blocks that are computed ahead of the current one."""


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
    """The traded bars, divided into blocks, and the task for each symbol and block."""

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
        self._counts = self._is_priced.cumsum(axis=0)
        self._column = {symbol: number for number, symbol in enumerate(close.columns)}
        self._chosen = _predict_chosen(close, options.settings, membership.find_members(panel))

    def __len__(self) -> int:
        return -(-self._count // self._size)

    def of(self, time: datetime) -> int:
        """Return the block of a bar."""
        return (int(self._close.index.searchsorted(time)) - self._start) // self._size

    def likely(self, block: int) -> list[str]:
        """Return the symbols likely to be among the best performers at some bar; a wrong guess only costs time."""
        rows = range(self._first(block), self._end(block))
        return [symbol for symbol, number in self._column.items() if self._chosen[rows, number].any()]

    def groups(self, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        """Group symbols that are best computed together; for Prophet, each symbol is its own group."""
        return list(batched(symbols, 1 if self._key.engine is Engine.PROPHET else MAX_TOGETHER, strict=False))

    def task(
        self,
        symbols: Sequence[str],
        block: int,
        first: datetime | None = None,
        known: Container[tuple[str, datetime]] = (),
    ) -> Task:
        """Return the task for some symbols in a block, from the bar `first` on (by default, the block's first bar).

        It leaves out what is `known`.
        """
        first_row = self._first(block) if first is None else int(self._close.index.searchsorted(first))
        rows = {
            symbol: [
                row
                for row in range(first_row, self._end(block))
                if self._is_priced[row, self._column[symbol]] and (symbol, self._times[row]) not in known
            ]
            for symbol in symbols
        }
        return self._task({symbol: [(row, self._fit_row(row)) for row in each] for symbol, each in rows.items()})

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
        counts = self._counts[: fit_row + 1, self._column[symbol]]
        return int(np.searchsorted(counts, counts[-1] - self._key.history_bars, side="right"))

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


def tasks(panel: Panel, options: Options, times: Sequence[datetime]) -> list[Task]:
    """Return independent tasks for all forecasts that a backtest over these bars is likely to request."""
    if find_spec(options.settings) is None:
        return []
    blocks = Blocks(panel, options, times)
    return [blocks.task(some, block) for block in range(len(blocks)) for some in blocks.groups(blocks.likely(block))]


def collect(outcomes: Sequence[Forecast | Denial], closes: Mapping[str, Closes]) -> Forecasts:
    """Return forecasts that were made elsewhere. Raises OtherPricesError if one was not made from these closes."""
    for outcome in outcomes:
        if isinstance(outcome, Forecast) and outcome.price_usd != closes[outcome.symbol].to_numpy()[-1]:
            raise OtherPricesError(f"the forecast of {outcome.symbol} for {outcome.time} was made from other prices")
    return Forecasts(
        forecasts=tuple(each for each in outcomes if isinstance(each, Forecast)),
        denials=tuple(each for each in outcomes if isinstance(each, Denial)),
    )


class TableForecaster:
    """A Forecaster that looks forecasts up in a table, and computes missing ones.

    With an executor, blocks are computed there in advance; without one, each forecast is computed when requested.
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
        self._table = dict(table or {})
        self._executor = executor
        self._submitted: dict[tuple[str, int], Future[Table]] = {}

    def forecast(
        self,
        closes: Mapping[str, Closes],
        deadline: Deadline,  # noqa: ARG002 time does not run out in a backtest
        progress: Progress = no_progress,  # noqa: ARG002 progress is reported in bars
    ) -> Forecasts:
        """Return the forecasts for the last bar of each series; see Forecaster."""
        wanted = {symbol: series.index[-1].to_pydatetime() for symbol, series in closes.items()}
        missing = [symbol for symbol, time in wanted.items() if (symbol, time) not in self._table]
        if self._executor is None:
            for time in sorted({wanted[symbol] for symbol in missing}):
                some = [symbol for symbol in missing if wanted[symbol] == time]
                for group in self._blocks.groups(some):
                    self._learn(compute(self._blocks.task(group, self._blocks.of(time), time)))
        elif wanted:
            self._look_ahead(self._executor, self._blocks.of(max(wanted.values())))
            for symbol in missing:
                self._submit(self._executor, [symbol], self._blocks.of(wanted[symbol]))
            for future in {self._submitted[symbol, self._blocks.of(wanted[symbol])] for symbol in missing}:
                self._learn(future.result())
        return collect([self._table[each] for each in wanted.items()], closes)

    def close(self) -> None:
        """Cancel computations that are no longer needed."""
        for future in self._submitted.values():
            future.cancel()

    def _learn(self, computed: Table) -> None:
        """Add new forecasts; existing ones are kept."""
        for each, outcome in computed.items():
            self._table.setdefault(each, outcome)

    def _look_ahead(self, executor: Executor, block: int) -> None:
        for ahead in range(block, min(block + BLOCKS_AHEAD + 1, len(self._blocks))):
            if not any(each == ahead for _, each in self._submitted):
                self._submit(executor, self._blocks.likely(ahead), ahead)

    def _submit(self, executor: Executor, symbols: Iterable[str], block: int) -> None:
        new = [symbol for symbol in symbols if (symbol, block) not in self._submitted]
        for group in self._blocks.groups(new):
            future = executor.submit(compute, self._blocks.task(group, block, known=self._table))
            self._submitted |= {(symbol, block): future for symbol in group}
