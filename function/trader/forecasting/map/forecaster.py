"""The map engine: a Forecaster that fits Prophet's model to all symbols at once, without Stan."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from trader.deadline import Deadline
from trader.forecasting.base import Forecasts, ForecastSpec
from trader.forecasting.map import kernel, model
from trader.forecasting.map.model import Batch, Calendar, Fit, Fits
from trader.forecasting.map.posterior_mode import Floats
from trader.forecasting.prophet import (
    SEED,
    ProphetForecaster,
    deny,
    deny_failed_fit,
    path_ahead,
    summarize,
)
from trader.model import NEW_YORK, Closes, Denial, Forecast, Line
from trader.progress import Progress, no_progress

LOG = logging.getLogger("trader")

DRAWS = 1000
"""The number of Monte Carlo draws for an interval, the same as Prophet's."""

AT_ONCE = 500
"""The most symbols that are fitted together: more would save no time, but need more memory."""


@dataclass(frozen=True, slots=True)
class _ForProphet:
    """The reason why a symbol is handed to Prophet's package."""

    reason: str


type _Result = Forecast | Denial | _ForProphet


class UndeterminedError(Exception):
    """There is no most probable model, or it does not determine a value for the requested time."""


class MapForecaster:
    """A Forecaster for the model of ProphetForecaster, with parameters more probable than those at which Stan stops.

    A symbol is handed to ProphetForecaster if its mode is not found, or does not determine the forecast at the horizon.
    """

    def __init__(self, spec: ForecastSpec) -> None:
        self._spec = spec
        self._prophet = ProphetForecaster(spec)

    def forecast(self, closes: Mapping[str, Closes], deadline: Deadline, progress: Progress = no_progress) -> Forecasts:
        """See Forecaster."""
        outcomes: dict[str, Forecast | Denial] = {}
        due = []
        for group in _alike(closes):
            times = closes[group[0]].index
            if (denial := deny(group[0], len(times), times[-1], self._spec)) is None:
                due.append(group)
            else:
                outcomes |= {symbol: replace(denial, symbol=symbol) for symbol in group}
        for groups in _pieces(due):
            if deadline.is_over:
                break
            for symbol, outcome in self._safely([{each: closes[each] for each in group} for group in groups]):
                if isinstance(outcome, _ForProphet):
                    LOG.info("handed to Prophet", extra={"symbol": symbol, "reason": outcome.reason})
                else:
                    outcomes[symbol] = outcome
            progress("trend lines", len(outcomes), len(closes))
        left = {symbol: series for symbol, series in closes.items() if symbol not in outcomes}
        if left:  # those for Prophet, and those without time left, which it reports as OUT_OF_TIME
            by_prophet = self._prophet.forecast(left, deadline, progress)
            outcomes |= {each.symbol: each for each in by_prophet.forecasts}
            outcomes |= {each.symbol: each for each in by_prophet.denials}
        return Forecasts(
            forecasts=tuple(each for symbol in closes if isinstance(each := outcomes[symbol], Forecast)),
            denials=tuple(each for symbol in closes if isinstance(each := outcomes[symbol], Denial)),
        )

    def calendar(self, local_ns: model.Nanoseconds, *, is_rising: bool = False) -> Calendar:
        """Return the bars' calendar from their exchange times without a zone; see Calendar.of."""
        return Calendar.of(local_ns, self._spec.seasonalities, is_rising=is_rising)

    def predict(
        self,
        symbol: str,
        time: datetime,
        price_usd: float,
        fits: Fits,
        place: int,
        *,
        bars_ns: model.Nanoseconds | None = None,
        corners: Sequence[datetime] = (),
    ) -> Forecast:
        """Return a forecast by the model at a place: at the last bar that it was fitted to or, in a backtest, later.

        `bars_ns` are the times of the bars since the fit, as `local_ns` returns them, up to the one that the forecast
        is made at; without them, it is made at the bar of the fit. `corners` are the times of the line's corners;
        without them, the line is left out. Raises ArithmeticError if the model gives no price, and UndeterminedError if
        it does not determine the forecast at the horizon, or if there is no model.
        """
        if place in fits.reasons:
            raise UndeterminedError(fits.reasons[place])
        trend_usd = fits.ends_usd[place] if bars_ns is None else fits.at(place).level_usd(bars_ns[-1:])
        if not (trend_usd > 0 and fits.are_finite[place]):
            raise ArithmeticError(f"the trend line ends at {trend_usd}, which is not a price")
        line = Line(corners, fits.line_usd(place)) if corners else ()
        if not self._spec.looks_ahead:
            return Forecast(symbol=symbol, time=time, price_usd=price_usd, trend_usd=trend_usd, line=line)
        ahead = self._look_ahead(fits.at(place), pd.Timestamp(time), bars_ns)
        return Forecast(symbol=symbol, time=time, price_usd=price_usd, trend_usd=trend_usd, line=line, **ahead)

    def _safely(self, groups: Sequence[Mapping[str, Closes]]) -> list[tuple[str, _Result]]:
        """Call `_together`; if it fails for any reason, hand all its symbols to Prophet."""
        try:
            return list(self._together(groups))
        except Exception as error:  # such as MemoryError: no symbol may lose its forecast because of another
            LOG.exception("the map engine failed; its symbols are handed to Prophet")
            why = f"{type(error).__name__}: {error}"
            return [(symbol, _ForProphet(why)) for closes in groups for symbol in closes]

    def _together(self, groups: Sequence[Mapping[str, Closes]]) -> Iterator[tuple[str, _Result]]:
        """Yield each symbol with a forecast, a denial or the reason for Prophet; a group's symbols share bar times."""
        batches, sound, indexes = [], [], []
        for closes in groups:
            index = next(iter(closes.values())).index
            assert isinstance(index, pd.DatetimeIndex), "closes have times"
            try:
                calendar = self.calendar(local_ns(index))
            except ValueError as error:
                yield from ((symbol, deny_failed_fit(symbol, error)) for symbol in closes)
                continue
            # not to_numpy(): the view that it makes of each series takes half as long as a fit
            values = np.array([each._values for each in closes.values()], float)
            batches.append(Batch(calendar=calendar, values=values))
            sound.append(closes)
            indexes.append(index)
        fits, place = model.fit(batches, threads=kernel.cores()), 0
        for batch, closes, index in zip(batches, sound, indexes, strict=True):
            corners = index[batch.calendar.corners].to_pydatetime().tolist()
            for symbol, price_usd in zip(closes, batch.values[:, -1].tolist(), strict=True):
                try:
                    yield symbol, self.predict(symbol, corners[-1], price_usd, fits, place, corners=corners)
                except ArithmeticError as error:
                    yield symbol, deny_failed_fit(symbol, error)
                except UndeterminedError as error:
                    yield symbol, _ForProphet(str(error))
                place += 1

    def _look_ahead(self, fit: Fit, last: pd.Timestamp, bars_ns: model.Nanoseconds | None) -> dict[str, Any]:
        """Return the forecast for the rule's horizon: the median and the interval of Prophet's own draws.

        At each bar after the fit, Prophet draws whether the rate changes there: as often as in the past, and by as much
        on average. Half of the change shows at that bar, and all of it from the next one on. Then it adds noise.
        """
        later, path_ns = path_ahead(last, self._spec)[-1], _path_ns(last, self._spec)
        if not fit.calendar.determines(path_ns[-1]):
            raise UndeterminedError(f"its history says nothing about a {later.tz_convert(NEW_YORK):%A, %H:%M}")
        bars, changepoints = len(fit.calendar.times_ns), len(fit.calendar.changepoints)
        future_ns = path_ns
        if bars_ns is not None:
            future_ns = np.concatenate([bars_ns[bars_ns > fit.calendar.times_ns[-1]], path_ns])
        begin, end = fit.calendar.scale_times(future_ns[[0, -1]]).tolist()
        rows = len(future_ns)
        step = (end - begin) / (rows - 1) if rows > 1 else 1 / (bars - 1)  # of a bar, on the scale of the model
        size = float(np.abs(fit.changes).mean()) + 1e-8 if changepoints else 1e-8
        bends, noise = _draws(rows, max(changepoints, 1) * step)
        draws = fit.yhat(path_ns[-1:])[0] + (bends * size * step + noise * fit.sigma) * fit.scale
        return summarize(draws, later)


def local_ns(times: Iterable[datetime]) -> model.Nanoseconds:
    """Return exchange times without a zone, as Prophet expects: a daily bar keeps its date in summer and winter."""
    index = times if isinstance(times, pd.DatetimeIndex) else pd.DatetimeIndex(list(times))
    index = index.tz_convert(NEW_YORK).tz_localize(None)
    return np.asarray(index.as_unit("ns").asi8)


@lru_cache(maxsize=64)
def _path_ns(last: pd.Timestamp, spec: ForecastSpec) -> model.Nanoseconds:
    return local_ns(path_ahead(last, spec))


@lru_cache(maxsize=4)
def _random_numbers(rows: int) -> tuple[Floats, Floats, Floats]:
    """Draw the random numbers of every path of this many bars, in Prophet's order: uniform, Laplace and normal."""
    state, size = np.random.RandomState(SEED), (DRAWS, rows)  # Prophet's own generator, for the same numbers
    return state.uniform(size=size), state.laplace(size=size), state.normal(size=size)[:, -1].copy()


@lru_cache(maxsize=256)
def _draws(rows: int, chance: float) -> tuple[Floats, Floats]:
    """Return what changes of the rate of mean size 1, and noise of deviation 1, add to each path's last bar.

    At each bar the rate changes with this chance. The symbols of a bar share these draws.
    """
    chances, changes, noise = _random_numbers(rows)
    bars_in_force = np.arange(rows, 0, -1) - 0.5
    return (np.where(chances < chance, changes, 0) * bars_in_force).sum(axis=1), noise


def _alike(closes: Mapping[str, Closes]) -> list[list[str]]:
    """Return the symbols in groups with the same bar times."""
    alike: dict[tuple[str, bytes], list[str]] = {}
    kinds: dict[int, str] = {}
    before, group = None, list[str]()
    for symbol, series in closes.items():
        times = series.index
        assert isinstance(times, pd.DatetimeIndex), "closes have times"
        dtype, bars = times.dtype, times.asi8.tobytes()
        if (dtype, bars) != before:  # most have the times of the one before, which saves a hash of them
            before = dtype, bars
            kind = kinds.get(id(dtype)) or kinds.setdefault(id(dtype), str(dtype))
            group = alike.setdefault((kind, bars), [])
        group.append(symbol)
    return list(alike.values())


def _pieces(groups: Sequence[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    """Yield lists of groups with at most AT_ONCE symbols in all; a larger group is split."""
    pieces = (group[begin : begin + AT_ONCE] for group in groups for begin in range(0, len(group), AT_ONCE))
    together: list[Sequence[str]] = []
    for piece in pieces:
        if together and sum(map(len, together)) + len(piece) > AT_ONCE:
            yield together
            together = []
        together.append(piece)
    if together:
        yield together
