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
from functools import cached_property
from itertools import batched

import numpy as np
import pandas as pd

from scripts.backtest.model import BacktestError
from trader.forecasting.base import ForecastSpec
from trader.forecasting.map import kernel, model
from trader.forecasting.map.forecaster import MapForecaster, UndeterminedError, local_ns
from trader.forecasting.map.model import Batch, Fit, Paths
from trader.forecasting.map.posterior_mode import Floats, Integers
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
        return waiting | _Rolling(due).table()
    except MemoryError as error:
        raise BacktestError(
            "there is not enough memory for the forecasts; use fewer symbols or a smaller HISTORY_BARS"
        ) from error


def _set_aside(task: Task) -> tuple[Table, Task]:
    """Return the denials of the bars on which the rule does not decide, and the task without these bars."""
    index, spec = pd.DatetimeIndex(task.closes.index), task.key.spec
    asked = {bar for bars in task.bars.values() for bar, _ in bars}
    denials = {bar: deny_between_decisions("", index[bar], spec) for bar in asked}
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
        self._count = is_priced.cumsum(axis=1)
        self._column = {symbol: place for place, symbol in enumerate(task.closes.columns)}
        self._fits: dict[tuple[str, int], Fit | Denial | str] = {}

    @cached_property
    def _local_ns(self) -> model.Nanoseconds:
        return local_ns(pd.DatetimeIndex(self._task.closes.index))

    def table(self) -> Table:
        """Compute all forecasts of the task."""
        asked: dict[int, list[str]] = {}
        for symbol, bars in self._task.bars.items():
            for fit_bar in dict.fromkeys(fit_bar for _, fit_bar in bars):
                asked.setdefault(fit_bar, []).append(symbol)
        length = CHAIN_BARS if kernel.load() is None else max(len(asked), 1)
        chains = list(batched(sorted(asked), length, strict=False))
        paths, before = None, list[str]()
        for step in range(length):
            some = [(chain[step], asked[chain[step]]) for chain in chains if step < len(chain)]
            paths, before = self._fit(some, paths, before)
        index = pd.DatetimeIndex(self._task.closes.index)
        moments = index.to_pydatetime().tolist()
        return {
            (symbol, moments[bar]): self._outcome(symbol, bar, fit_bar, moments[bar])
            for symbol, bars in self._task.bars.items()
            for bar, fit_bar in bars
        }

    def _fit(
        self, asked: list[tuple[int, list[str]]], paths: Paths | None, before: list[str]
    ) -> tuple[Paths, list[str]]:
        """Fit the requested symbols at each bar, starting from `paths`, which are of the symbols `before`.

        Return the paths for the next step, and their symbols.
        """
        batches, owners = [], []
        for bar, symbols in asked:
            alike: dict[object, tuple[Integers, list[str]]] = {}
            for symbol in symbols:
                rows = self._rows(symbol, bar)
                if (denial := deny_short_history(symbol, len(rows), self._task.key.spec)) is not None:
                    self._fits[symbol, bar] = denial
                    continue
                is_whole = len(rows) and rows[-1] - rows[0] == len(rows) - 1
                alike.setdefault((len(rows), rows[-1]) if is_whole else rows.tobytes(), (rows, []))[1].append(symbol)
            for rows, group in alike.values():
                try:
                    calendar = self._forecaster.calendar(self._local_ns[rows])
                except ValueError as error:  # as in the bot's own forecaster
                    self._fits |= {(symbol, bar): deny_failed_fit(symbol, error) for symbol in group}
                    continue
                batches.append(Batch(calendar=calendar, values=self._windows(group, rows)))
                owners += [(symbol, bar) for symbol in group]
        now = [symbol for symbol, _ in owners]
        fits = model.fit(batches, paths=paths and paths.of(now, before))
        self._fits |= dict(zip(owners, fits.fits, strict=True))
        return fits.paths, now

    def _windows(self, symbols: Sequence[str], rows: Integers) -> Floats:
        """Return the closes of some symbols in these rows."""
        columns = [self._column[symbol] for symbol in symbols]
        if rows[-1] - rows[0] == len(rows) - 1:
            return np.asarray(self._values[columns, rows[0] : rows[-1] + 1])
        return np.asarray(self._values[np.array(columns)[:, None], rows])

    def _rows(self, symbol: str, bar: int) -> Integers:
        """Return the positions of the closes of Task.window."""
        column = self._column[symbol]
        end = self._count[column, bar]
        return self._priced[column][max(0, end - self._task.key.history_bars) : end]

    def _outcome(self, symbol: str, bar: int, fit_bar: int, time: datetime) -> Forecast | Denial:
        fit = self._fits[symbol, fit_bar]
        if isinstance(fit, Denial):
            return fit
        if isinstance(fit, Fit):
            column = self._column[symbol]
            begin, end = self._count[column, min(fit_bar, bar)] - 1, self._count[column, bar]
            since = self._priced[column][begin:end]
            price_usd = float(self._values[column, bar])
            try:
                return self._forecaster.predict(symbol, time, self._local_ns[since], price_usd, fit)
            except ArithmeticError as error:
                return deny_failed_fit(symbol, error)
            except UndeterminedError:
                pass  # falls back to Prophet below
        ((_, outcome),) = FALLBACK.get()(self._task, symbol, ((bar, fit_bar),))
        return outcome
