"""The computation of a backtest's forecasts for some symbols and bars, in any process.

A forecast depends on a symbol's closes up to its bar and on a few settings (Key), not on the account. So tasks can run
in parallel and in any order, and backtests that differ in other settings can share them.
"""

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import batched

import numpy as np
import pandas as pd

from scripts.backtest.model import BacktestError
from trader.forecasting.base import ForecastSpec
from trader.forecasting.map import kernel, model
from trader.forecasting.map.forecaster import MapForecaster, UndeterminedError, local_ns
from trader.forecasting.map.model import Batch, Fits, Paths
from trader.forecasting.prophet import (
    ProphetForecaster,
    deny_between_decisions,
    deny_failed_fit,
    deny_short_history,
)
from trader.model import Closes, Denial, Engine, Forecast

type Table = dict[tuple[str, datetime], Forecast | Denial]
"""Forecasts by symbol and start of the bar. Trend lines lack their corners: decisions use only their ends."""

CHAIN_BARS = 2
"""The number of bars in a chain of the reference search: each fit starts with the path of the one before.

That saves a fifth of its work. Longer chains would fit fewer bars at once, which costs more than the paths save. The
compiled search gains nothing from many series at once, so all bars are one chain, which saves two fifths.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The settings that forecasts depend on. Two backtests with the same key and prices share all forecasts."""

    engine: Engine
    spec: ForecastSpec
    history_bars: int
    refit_every_bars: int

    def prophet(self) -> ProphetForecaster:
        """Return the bot's own Prophet forecaster, for one symbol at a time."""
        return ProphetForecaster(self.spec, workers=1)

    def map(self) -> MapForecaster:
        """Return the bot's own map forecaster, for all symbols at once."""
        return MapForecaster(self.spec)


type Bars = tuple[tuple[int, int], ...]
"""Pairs of positions in a task's closes: the bar that a forecast is for, and the bar at which its model is fitted."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A request for forecasts of some symbols at some bars.

    `closes` has a row for each bar of the calendar up to the last of `bars` and a column for each symbol; gaps are NaN.
    """

    key: Key
    closes: pd.DataFrame
    bars: Mapping[str, Bars]

    def window(self, symbol: str, bar: int) -> Closes:
        """Return the closes to which the bot would fit a symbol's trend line at a bar."""
        return self.closes[symbol].iloc[: bar + 1].dropna().iloc[-self.key.history_bars :]


def compute(task: Task) -> Table:
    """Compute the forecasts of a task; each uses the closes up to its bar, and its model those up to the fit.

    Raises BacktestError if the machine fails, because a missing forecast would change the decisions.
    """
    waiting, due = _set_aside(task)
    if task.key.engine is Engine.PROPHET:
        made = (each for symbol, bars in due.bars.items() for each in ask_prophet(due, symbol, bars))
        return waiting | dict(made)
    try:
        found = _Rolling(due).table()
    except MemoryError as error:
        raise BacktestError(
            "there is not enough memory for the forecasts; use fewer symbols or a smaller HISTORY_BARS"
        ) from error
    return waiting | found if waiting else found


def _set_aside(task: Task) -> tuple[Table, Task]:
    """Return the denials of the bars on which the rule does not decide, and the task without these bars."""
    index, spec = pd.DatetimeIndex(task.closes.index), task.key.spec
    asked = {bar for bars in task.bars.values() for bar, _ in bars}
    denials = {bar: deny_between_decisions("", index[bar], spec) for bar in asked}
    if not any(denials.values()):
        return {}, task
    waiting: Table = {
        (symbol, index[bar].to_pydatetime()): replace(denial, symbol=symbol)
        for symbol, bars in task.bars.items()
        for bar, _ in bars
        if (denial := denials[bar])
    }
    due = {symbol: tuple(each for each in bars if not denials[each[0]]) for symbol, bars in task.bars.items()}
    return waiting, replace(task, bars=due)


class _HiddenWarnings:
    """Hides warnings while any thread is inside; catch_warnings alone is not made for several threads at once."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


_HIDDEN_WARNINGS = _HiddenWarnings()


def ask_prophet(task: Task, symbol: str, bars: Bars) -> Iterator[tuple[tuple[str, datetime], Forecast | Denial]]:
    """Yield the forecasts of one symbol, made with one Prophet model after another."""
    forecaster = task.key.prophet()
    model, fitted_at = None, -1
    with _HIDDEN_WARNINGS:  # from Prophet's use of pandas
        for bar, fit_bar in bars:
            window, fitting = (task.window(symbol, each) for each in (bar, fit_bar))
            outcome: Forecast | Denial | None = deny_short_history(symbol, len(fitting), task.key.spec)
            if outcome is None:
                try:
                    if model is None or fit_bar != fitted_at:
                        model, fitted_at = forecaster.fit(fitting), fit_bar
                    outcome = replace(forecaster.predict(symbol, window, model), line=())
                except (OSError, MemoryError) as error:  # the machine failed: no basis for a denial or a decision
                    raise BacktestError(
                        f"the forecast of {symbol} could not be made: {type(error).__name__}: {error}; "
                        "check this computer's memory and temporary folder, and run the backtest again"
                    ) from error
                except Exception as error:  # as in the bot's own forecaster, only this symbol is denied
                    outcome = deny_failed_fit(symbol, error)
            yield (symbol, window.index[-1].to_pydatetime()), outcome


type Fallback = Callable[[Task, str, Bars], Iterable[tuple[tuple[str, datetime], Forecast | Denial]]]

FALLBACK: ContextVar[Fallback] = ContextVar("FALLBACK", default=ask_prophet)
"""What makes the forecasts that the map engine hands over. A browser, in which Stan does not run, has another one."""


type _Window = tuple[str, int, int, int, object]
"""The closes that a model is fitted to: the symbol, its column, the first and the end of them among its closes, and a
key: windows with the same key have the same bars."""


class _Rolling:
    """The map engine on the bars of a task: many chains of bars in parallel, all symbols of each bar at once.

    A step fits the next bar of every chain, starting with the paths of the previous step; that saves time and does not
    change the results.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._forecaster = task.key.map()
        self._values = np.ascontiguousarray(task.closes.to_numpy(float).T)  # a row for each symbol
        is_priced = ~np.isnan(self._values)
        self._priced = [np.flatnonzero(each) for each in is_priced]
        self._closes = [each[rows] for each, rows in zip(self._values, self._priced, strict=True)]
        self._count = is_priced.cumsum(axis=1)
        self._column = {symbol: place for place, symbol in enumerate(task.closes.columns)}
        self._fits: list[dict[int, tuple[Fits, int] | Denial]] = [{} for _ in self._closes]  # by column and bar

        times_ns = local_ns(pd.DatetimeIndex(task.closes.index))
        self._is_rising = model.is_strictly_increasing(times_ns)
        self._local_ns = [times_ns[rows] for rows in self._priced]  # of each symbol's closes

    def table(self) -> Table:
        """Compute all forecasts of the task."""
        asked: dict[int, list[_Window]] = {}
        for symbol, bars in self._task.bars.items():
            fit_bars = list(dict.fromkeys(fit_bar for _, fit_bar in bars))
            for fit_bar, window in zip(fit_bars, self._windows(symbol, fit_bars), strict=True):
                asked.setdefault(fit_bar, []).append(window)
        length = CHAIN_BARS if kernel.load() is None else max(len(asked), 1)
        chains = list(batched(sorted(asked), length, strict=False))
        paths, before = None, list[str]()
        for step in range(length):
            some = [(chain[step], asked[chain[step]]) for chain in chains if step < len(chain)]
            paths, before = self._fit(some, paths, before)
        moments = pd.DatetimeIndex(self._task.closes.index).to_pydatetime().tolist()
        return {
            (symbol, moments[bar]): outcome
            for symbol, bars in self._task.bars.items()
            for (bar, _), outcome in zip(bars, self._outcomes(symbol, bars, moments), strict=True)
        }

    def _windows(self, symbol: str, bars: Sequence[int]) -> Iterator[_Window]:
        """Yield the closes of Task.window at each bar."""
        column = self._column[symbol]
        rows, ends = self._priced[column], self._count[column, bars]
        begins = np.maximum(0, ends - self._task.key.history_bars)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            first, last = (int(rows[begin]), int(rows[end - 1])) if end else (0, -1)
            is_whole = last - first == end - begin - 1
            yield symbol, column, begin, end, (first, last) if is_whole else rows[begin:end].tobytes()

    def _fit(
        self, asked: list[tuple[int, list[_Window]]], paths: Paths | None, before: list[str]
    ) -> tuple[Paths, list[str]]:
        """Fit the requested symbols at each bar, starting from `paths`, which are of the symbols `before`.

        Return the paths for the next step, and their symbols.
        """
        batches, owners = [], []
        for bar, windows in asked:
            alike: dict[object, list[_Window]] = {}
            for window in windows:
                symbol, column, begin, end, bars = window
                if (denial := deny_short_history(symbol, end - begin, self._task.key.spec)) is not None:
                    self._fits[column][bar] = denial
                else:
                    alike.setdefault(bars, []).append(window)
            for group in alike.values():
                _, column, begin, end, _ = group[0]
                try:
                    calendar = self._forecaster.calendar(self._local_ns[column][begin:end], is_rising=self._is_rising)
                except ValueError as error:  # as in the bot's own forecaster
                    for symbol, each, *_ in group:
                        self._fits[each][bar] = deny_failed_fit(symbol, error)
                    continue
                closes = [self._closes[column][begin:end] for _, column, begin, end, _ in group]
                values = np.array(closes) if len(closes) > 1 else closes[0][np.newaxis]  # a view takes less time
                batches.append(Batch(calendar=calendar, values=values))
                owners += [(symbol, each, bar) for symbol, each, *_ in group]
        now = [symbol for symbol, *_ in owners]
        fits = model.fit(batches, paths=paths and paths.of(now, before))
        for place, (_, column, bar) in enumerate(owners):
            self._fits[column][bar] = fits, place
        return fits.paths, now

    def _outcomes(self, symbol: str, bars: Bars, moments: Sequence[datetime]) -> Iterator[Forecast | Denial]:
        """Yield a symbol's forecast at each bar, or why there is none."""
        column = self._column[symbol]
        fits, predict = self._fits[column], self._forecaster.predict
        ends = self._count[column, [bar for bar, _ in bars]]
        begins = self._count[column, [min(each) for each in bars]] - 1  # a leak that is planted fits to a later bar
        prices_usd = self._values[column, [bar for bar, _ in bars]].tolist()
        for (bar, fit_bar), begin, end, price_usd in zip(bars, begins.tolist(), ends.tolist(), prices_usd, strict=True):
            found = fits[fit_bar]
            if isinstance(found, Denial):
                yield found
                continue
            since_ns = None if bar == fit_bar else self._local_ns[column][begin:end]
            try:
                yield predict(symbol, moments[bar], price_usd, *found, bars_ns=since_ns)
            except ArithmeticError as error:
                yield deny_failed_fit(symbol, error)
            except UndeterminedError:
                ((_, outcome),) = FALLBACK.get()(self._task, symbol, ((bar, fit_bar),))
                yield outcome
