"""The map engine: a Forecaster that fits Prophet's model to all symbols at once, without Stan."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from trader.deadline import Deadline
from trader.forecasting.base import Forecasts, ForecastSpec
from trader.forecasting.map import model
from trader.forecasting.map.model import Batch, Calendar, Fit
from trader.forecasting.map.posterior_mode import Floats
from trader.forecasting.prophet import (
    SEED,
    ProphetForecaster,
    deny_failed_fit,
    deny_short_history,
    horizon,
    summarize,
)
from trader.model import NEW_YORK, Closes, Denial, Forecast
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
    """The most probable model does not determine a value for the requested time."""


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
        alike: dict[tuple[str, str, bytes], list[str]] = {}
        for symbol, series in closes.items():
            if (denial := deny_short_history(symbol, len(series), self._spec)) is not None:
                outcomes[symbol] = denial
            else:
                times = series.index
                assert isinstance(times, pd.DatetimeIndex), "closes have times"
                alike.setdefault((times.unit, str(times.tz), times.asi8.tobytes()), []).append(symbol)
        for groups in _pieces(list(alike.values())):
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

    def calendar(self, local_ns: model.Nanoseconds) -> Calendar:
        """Return the bars' calendar from their exchange times without a zone. Raises ValueError as Calendar.of does."""
        return Calendar.of(local_ns, self._spec.seasonalities)

    def predict(
        self,
        symbol: str,
        time: pd.Timestamp,
        at_ns: model.Nanoseconds,
        price_usd: float,
        fit: Fit,
        corners: Sequence[datetime] = (),
    ) -> Forecast:
        """Return a model's forecast at the last bar that it was fitted to or, in a backtest, at a later one.

        `at_ns` is the bar's time as `local_ns` returns it. `corners` are the times of the line's corners; without them,
        the line is left out. Raises ArithmeticError if the model gives no price, and UndeterminedError if the history
        does not determine the forecast at the horizon.
        """
        level_usd = fit.mean_season if fit.calendar.has_free_level else 0.0
        line = fit.corners + level_usd
        trend_usd = float(line[-1] if at_ns[0] == fit.calendar.times_ns[-1] else fit.trend(at_ns)[0] + level_usd)
        if not (np.isfinite(line).all() and trend_usd > 0):
            raise ArithmeticError(f"the trend line ends at {trend_usd}, which is not a price")
        return Forecast(
            symbol=symbol,
            time=time.to_pydatetime(),
            price_usd=price_usd,
            trend_usd=trend_usd,
            line=tuple(zip(corners, line.tolist(), strict=True)) if corners else (),
            **(self._look_ahead(fit, time) if self._spec.looks_ahead else {}),
        )

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
        batches, sound = [], []
        for closes in groups:
            index = pd.DatetimeIndex(next(iter(closes.values())).index)
            try:
                calendar = self.calendar(local_ns(index))
            except ValueError as error:
                yield from ((symbol, deny_failed_fit(symbol, error)) for symbol in closes)
                continue
            batches.append(
                Batch(calendar=calendar, values=np.stack([each.to_numpy(float) for each in closes.values()]))
            )
            sound.append(closes)
        fits = iter(model.fit(batches).fits)
        for batch, closes in zip(batches, sound, strict=True):
            index = pd.DatetimeIndex(next(iter(closes.values())).index)
            corners = index[batch.calendar.corners].to_pydatetime().tolist()
            for symbol, price_usd in zip(closes, batch.values[:, -1].tolist(), strict=True):
                fit = next(fits)
                try:
                    yield (
                        symbol,
                        _ForProphet(fit)
                        if isinstance(fit, str)
                        else self.predict(symbol, index[-1], batch.calendar.times_ns[-1:], price_usd, fit, corners),
                    )
                except ArithmeticError as error:
                    yield symbol, deny_failed_fit(symbol, error)
                except UndeterminedError as error:
                    yield symbol, _ForProphet(str(error))

    def _look_ahead(self, fit: Fit, last: pd.Timestamp) -> dict[str, Any]:
        """Return the forecast for the rule's horizon: the median and the interval of Prophet's own draws.

        For one future bar, Prophet draws whether the rate changes there: as often as in the past, and by as much on
        average. Half of the change shows at that bar. Then it adds noise.
        """
        later = horizon(last, self._spec)
        at_ns = local_ns([later])
        if not fit.calendar.determines(at_ns[0]):
            raise UndeterminedError(f"its history says nothing about a {later.tz_convert(NEW_YORK):%A, %H:%M}")
        chances, changes, noise = _draws()
        bars, changepoints = len(fit.calendar.times_ns), len(fit.calendar.changepoints)
        step = 1 / (bars - 1)  # of a bar, on the scale of the model
        size = float(np.abs(fit.changes).mean()) + 1e-8 if changepoints else 1e-8
        bends = np.where(chances < max(changepoints, 1) * step, changes * size, 0) / 2 * step
        draws = fit.yhat(at_ns)[0] + (bends + noise * fit.sigma) * fit.scale
        return summarize(draws, later)


def local_ns(times: Iterable[datetime]) -> model.Nanoseconds:
    """Return exchange times without a zone, as Prophet expects: a daily bar keeps its date in summer and winter."""
    index = (
        pd.DatetimeIndex(times if isinstance(times, pd.DatetimeIndex) else list(times))
        .tz_convert(NEW_YORK)
        .tz_localize(None)
    )
    return np.asarray(index.as_unit("ns").asi8)


@cache
def _draws() -> tuple[Floats, Floats, Floats]:
    """Draw the random numbers of every interval, in Prophet's order: uniform, Laplace and normal."""
    state = np.random.RandomState(SEED)  # Prophet's own generator, for the same numbers
    return state.uniform(size=DRAWS), state.laplace(size=DRAWS), state.normal(size=DRAWS)


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
