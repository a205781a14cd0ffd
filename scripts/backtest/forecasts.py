"""The forecasts of a backtest: made ahead in other processes, block by block, each from the bars up to its own.

A forecast depends on a symbol's closes up to its bar and on a few settings (Key), not on the account. So blocks of them
can be computed side by side and in any order, and runs that differ in other settings can share them.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from scripts.backtest.model import BacktestError, Options, Panel
from trader.forecast import Forecasts, ProphetForecaster, failed, too_short
from trader.model import Closes, Denial, Forecast
from trader.prices import Progress, no_progress
from trader.settings import Settings

type Table = dict[tuple[str, datetime], Forecast | Denial]
"""By symbol and start of the bar. The corners of the lines are left out: a backtest decides on their ends."""

BLOCK_BARS = 10
"""Bars of one symbol that are computed at once: some 0.3 s of work, so that handing it over costs nothing."""

BLOCKS_AHEAD = 3
"""How many blocks of bars are under way before they are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The settings that forecasts depend on, beside the prices. Two backtests with the same key share them all."""

    signal: str
    bar_interval: str
    horizon_bars: int
    history_bars: int
    asked_bars: int  # of the calendar, gaps included, as the bot asks its price source
    refit_every_bars: int

    def forecaster(self) -> ProphetForecaster:
        """The bot's own."""
        return ProphetForecaster(
            signal=self.signal, bar_interval=self.bar_interval, horizon_bars=self.horizon_bars, workers=1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Forecasts of one symbol for some bars.

    `closes` lie on the calendar, NaN in the gaps, and end with the last of the bars. `bars` are pairs of positions in
    them: of the bar that the forecast is for, and of the bar that its model is fitted at.
    """

    key: Key
    symbol: str
    closes: Closes
    bars: tuple[tuple[int, int], ...]


def key(options: Options) -> Key:
    """What the forecasts of a backtest depend on."""
    settings = options.settings
    return Key(
        signal=settings.signal,
        bar_interval=settings.bar_interval,
        horizon_bars=settings.horizon_bars if settings.signal == "interval" else 1,
        history_bars=settings.history_bars,
        asked_bars=asked_bars(settings),
        refit_every_bars=options.refit_every_bars,
    )


def asked_bars(settings: Settings) -> int:
    """How many bars a run asks its price source for."""
    return max(settings.history_bars, settings.universe_lookback_bars + 1)


def compute(task: Task) -> Table:
    """The forecasts of one task; each sees the closes up to its own bar, and its model those up to the fit.

    Raises BacktestError if the machine fails: a symbol without a forecast would change what is decided.
    """
    forecaster = task.key.forecaster()
    table: Table = {}
    model, fitted_at = None, -1
    with warnings.catch_warnings(record=True):  # Prophet's own use of pandas
        warnings.simplefilter("ignore")
        for bar, fit_bar in task.bars:
            window, fitting = (_window(task, each) for each in (bar, fit_bar))
            outcome: Forecast | Denial | None = too_short(task.symbol, len(fitting), task.key.signal)
            if outcome is None:
                try:
                    if model is None or fit_bar != fitted_at:
                        model, fitted_at = forecaster.fit(fitting), fit_bar
                    outcome = replace(forecaster.predict(task.symbol, window, model), line=())
                except (OSError, MemoryError) as error:  # the machine's fault: nothing to decide on, or to keep
                    raise BacktestError(
                        f"the forecast of {task.symbol} could not be made: {type(error).__name__}: {error}; "
                        "see to the memory and the temporary folder of the computer that it was made on, and repeat"
                    ) from error
                except Exception as error:  # as in the bot's own forecaster: it is this symbol's alone
                    outcome = failed(task.symbol, error)
            table[task.symbol, window.index[-1].to_pydatetime()] = outcome
    return table


def _window(task: Task, bar: int) -> Closes:
    """The closes that the bot would hand to Prophet at a bar."""
    asked = task.closes.iloc[max(0, bar + 1 - task.key.asked_bars) : bar + 1].dropna()
    return asked.iloc[-task.key.history_bars :]


class Blocks:
    """The traded bars cut into blocks, and the task for each symbol and block."""

    def __init__(self, panel: Panel, options: Options, times: Sequence[datetime]) -> None:
        """`times` are the starts of the traded bars; models are refitted every so many of them, from the first on."""
        self._close = panel.close
        self._key = key(options)
        self._start = int(panel.close.index.searchsorted(times[0])) if times else 0
        self._count = int(panel.close.index.searchsorted(times[-1])) + 1 - self._start if times else 0
        self._size = self._key.refit_every_bars * max(1, BLOCK_BARS // self._key.refit_every_bars)
        self._is_priced = panel.close.notna().to_numpy()
        self._column = {symbol: number for number, symbol in enumerate(panel.close.columns)}
        self._chosen = _likely_chosen(panel, options.settings)

    def __len__(self) -> int:
        return -(-self._count // self._size)

    def of(self, time: datetime) -> int:
        """The block that a bar is in."""
        return (int(self._close.index.searchsorted(time)) - self._start) // self._size

    def likely(self, block: int) -> list[str]:
        """The symbols that will be among the best performers at some bar of a block; a guess only costs time."""
        rows = range(self._first(block), self._end(block))
        return [symbol for symbol, number in self._column.items() if self._chosen[rows, number].any()]

    def task(self, symbol: str, block: int, first: datetime | None = None) -> Task:
        """The work for one symbol in a block, from its bar `first` on, or from the block's beginning."""
        first_row = self._first(block) if first is None else int(self._close.index.searchsorted(first))
        rows = [row for row in range(first_row, self._end(block)) if self._is_priced[row, self._column[symbol]]]
        fits = [row - (row - self._start) % self._key.refit_every_bars for row in rows]
        begin = max(0, min(fits, default=0) + 1 - self._key.asked_bars)
        end = max(rows, default=begin - 1) + 1
        return Task(
            key=self._key,
            symbol=symbol,
            closes=self._close[symbol].iloc[begin:end],
            bars=tuple((row - begin, fit - begin) for row, fit in zip(rows, fits, strict=True)),
        )

    def _first(self, block: int) -> int:
        return max(0, self._start + block * self._size)

    def _end(self, block: int) -> int:
        return min(self._first(block + 1), self._start + self._count)


def _likely_chosen(panel: Panel, settings: Settings) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """By bar and symbol: whether its return over the look-back is among the best UNIVERSE_SIZE of that bar."""
    returns = (panel.close / panel.close.ffill().shift(settings.universe_lookback_bars) - 1).to_numpy()
    known = np.where(np.isnan(returns), -np.inf, returns)
    ranks = np.argsort(np.argsort(-known, axis=1, kind="stable"), axis=1, kind="stable")
    chosen: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (ranks < settings.universe_size) & np.isfinite(known)
    return chosen


def tasks(panel: Panel, options: Options, times: Sequence[datetime]) -> list[Task]:
    """All forecasts that a backtest over these bars is likely to ask for, in independent pieces."""
    blocks = Blocks(panel, options, times)
    return [blocks.task(symbol, block) for block in range(len(blocks)) for symbol in blocks.likely(block)]


class TableForecaster:
    """A Forecaster that looks forecasts up, and has those that are not there computed.

    With an executor, blocks are computed there ahead of their time; without one, each is computed when it is asked for.
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
        """`times` are the starts of the traded bars, `table` what is known already."""
        self._blocks = Blocks(panel, options, times)
        self._table = dict(table or {})
        self._executor = executor
        self._submitted: dict[tuple[str, int], Future[Table]] = {}

    def forecast(
        self,
        closes: Mapping[str, Closes],
        remaining_s: Callable[[], float],  # noqa: ARG002 time does not run out in a backtest
        progress: Progress = no_progress,  # noqa: ARG002 its progress is told in bars
    ) -> Forecasts:
        """See Forecaster."""
        wanted = {symbol: series.index[-1].to_pydatetime() for symbol, series in closes.items()}
        missing = [symbol for symbol, time in wanted.items() if (symbol, time) not in self._table]
        if self._executor is None:
            for symbol in missing:
                self._learn(compute(self._blocks.task(symbol, self._blocks.of(wanted[symbol]), wanted[symbol])))
        elif wanted:
            self._look_ahead(self._executor, self._blocks.of(max(wanted.values())))
            asked = [self._block_of(self._executor, symbol, self._blocks.of(wanted[symbol])) for symbol in missing]
            for future in asked:
                self._learn(future.result())
        outcomes = [self._table[each] for each in wanted.items()]
        for outcome in outcomes:
            if isinstance(outcome, Forecast) and outcome.price_usd != closes[outcome.symbol].iloc[-1]:
                raise AssertionError(f"the forecast of {outcome.symbol} for {outcome.time} is of other prices")
        return Forecasts(
            forecasts=tuple(each for each in outcomes if isinstance(each, Forecast)),
            denials=tuple(each for each in outcomes if isinstance(each, Denial)),
        )

    def close(self) -> None:
        """Forget what is under way and not needed any more."""
        for future in self._submitted.values():
            future.cancel()

    def _learn(self, computed: Table) -> None:
        """Add what is new: what was given stays, whatever block it is in."""
        for each, outcome in computed.items():
            self._table.setdefault(each, outcome)

    def _look_ahead(self, executor: Executor, block: int) -> None:
        for ahead in range(block, min(block + BLOCKS_AHEAD + 1, len(self._blocks))):
            if not any(each == ahead for _, each in self._submitted):
                self._submit(executor, self._blocks.likely(ahead), ahead)

    def _submit(self, executor: Executor, symbols: Iterable[str], block: int) -> None:
        for symbol in symbols:
            self._block_of(executor, symbol, block)

    def _block_of(self, executor: Executor, symbol: str, block: int) -> Future[Table]:
        if (symbol, block) not in self._submitted:
            self._submitted[symbol, block] = executor.submit(compute, self._blocks.task(symbol, block))
        return self._submitted[symbol, block]
