"""The prophet engine: a Forecaster that uses Prophet's own package. Its column names stay in this module."""

import logging
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from functools import cache, lru_cache
from importlib.abc import MetaPathFinder
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from trader.deadline import Deadline
from trader.forecasting.base import ROUNDING, SEASONALITIES, Forecasts, ForecastSpec
from trader.model import BAR_LENGTH, NEW_YORK, Closes, Code, Denial, Forecast
from trader.progress import Progress, no_progress
from trader.schedule import sessions

if TYPE_CHECKING:
    from prophet import Prophet

type _Modes = dict[Literal["additive", "multiplicative"], list[str]]
"""Prophet's modes: the components that are added to the trend, and those that multiply it."""

SEED = 20_100_127
"""The seed of the interval's Monte Carlo draws: the same bars must give the same decision, also on replay."""

INTERVAL_PERCENTILES = (10, 50, 90)
"""Prophet's defaults: an interval of 80 %, and the median of the same draws."""

FIT_TIMEOUT_S = 20
"""The limit for a fit, which usually takes 0.05 s. A fit that takes longer has hung, and its Stan process is killed."""


_DRAWING = Lock()
"""Held from the seed to the last draw: the threads of a backtest share NumPy's random state."""


class ProphetForecaster:
    """Prophet's own package, with Stan processes in parallel; it predicts only what the rule reads."""

    def __init__(self, spec: ForecastSpec, *, workers: int | None = None) -> None:
        self._spec = spec
        # One more than the processors: while Stan works on one fit, Python prepares the next.
        self._workers = workers or (os.cpu_count() or 1) + 1

    def forecast(self, closes: Mapping[str, Closes], deadline: Deadline, progress: Progress = no_progress) -> Forecasts:
        """See Forecaster. Fits run in threads; predictions run one by one, because they share NumPy's random state."""
        denials = {
            symbol: denial
            for symbol, series in closes.items()
            if (denial := deny(symbol, len(series), series.index[-1], self._spec)) is not None
        }
        models: dict[str, Forecast] = {}
        with _pool(self._workers) as pool:
            fits = {pool.submit(self.fit, series): symbol for symbol, series in closes.items() if symbol not in denials}
            for fit in _iterate_completed(fits, deadline):
                symbol = fits.pop(fit)
                try:
                    models[symbol] = self.predict(symbol, closes[symbol], fit.result())
                except Exception as error:  # Stan, pandas and Prophet may raise anything; only this symbol is lost
                    denials[symbol] = deny_failed_fit(symbol, error)
                progress("trend lines", len(models) + len(denials), len(closes))
        for symbol in fits.values():
            denials[symbol] = Denial(symbol=symbol, code=Code.OUT_OF_TIME, detail="no time left for its forecast")
        return Forecasts(
            forecasts=tuple(models[symbol] for symbol in closes if symbol in models),
            denials=tuple(denials[symbol] for symbol in closes if symbol in denials),
        )

    def fit(self, closes: Closes) -> "Prophet":
        """Fit a model to these closes. Raises whatever Stan, pandas and Prophet raise."""
        model = quiet_prophet()(**self._configuration())
        values = closes.to_numpy()
        # Otherwise Stan would look for a trend in the rounding for seconds.
        if np.isfinite(values).all() and np.ptp(values) <= ROUNDING * np.abs(values).max():
            values = np.full_like(values, values[-1])
        model.fit(pd.DataFrame({"ds": _local(closes.index), "y": values}), timeout=FIT_TIMEOUT_S)
        return model

    def _configuration(self) -> dict[str, Any]:
        allowed = self._spec.seasonalities
        return {
            **{f"{name}_seasonality": "auto" if name in allowed else False for name in SEASONALITIES},
            "uncertainty_samples": 1000 if self._spec.looks_ahead else 0,
        }

    def predict(self, symbol: str, closes: Closes, model: "Prophet") -> Forecast:
        """Return a model's forecast at the last of these closes.

        The model was fitted to them or, in a backtest, to earlier ones. Raises ArithmeticError if it gives no price.
        """
        last: pd.Timestamp = closes.index[-1]
        corners = pd.DatetimeIndex(np.unique([model.start, *np.asarray(model.changepoints), _local([last])[0]]))
        line = _trend(model, corners)
        trend_usd = float(line[-1])
        if not (np.isfinite(line).all() and trend_usd > 0):
            raise ArithmeticError(f"the trend line ends at {trend_usd}, which is not a price")
        return Forecast(
            symbol=symbol,
            time=last.to_pydatetime(),
            price_usd=float(closes.iloc[-1]),
            trend_usd=trend_usd,
            line=tuple(zip(_aware(corners), line.tolist(), strict=True)),
            **(self._look_ahead(model, closes) if self._spec.looks_ahead else {}),
        )

    def _look_ahead(self, model: "Prophet", closes: Closes) -> dict[str, Any]:
        """Return the forecast for the rule's horizon, from draws of the whole path: the rate may change at each bar."""
        assert model.start is not None, "it has been fitted"
        assert model.t_scale is not None, "it has been fitted"
        past, path = _local(closes.index), path_ahead(closes.index[-1], self._spec)
        unseen = past[past > model.start + model.t_scale]  # in a backtest that does not fit at every bar
        future = pd.DataFrame({"ds": unseen.append(_local(path))})
        with _DRAWING:
            np.random.seed(SEED)  # Prophet draws from the global state
            draws = model.predictive_samples(future)["yhat"]
        return summarize(draws[-1], path[-1])


def summarize(draws: np.ndarray[Any, np.dtype[np.float64]], later: pd.Timestamp) -> dict[str, Any]:
    """Return the horizon fields of a Forecast from the draws: their median and their 80 % interval.

    Raises ArithmeticError if the interval is not finite.
    """
    lower_usd, median_usd, upper_usd = np.percentile(draws, INTERVAL_PERCENTILES).tolist()
    if not (math.isfinite(lower_usd) and math.isfinite(upper_usd)):
        raise ArithmeticError(f"the forecast interval is {lower_usd} to {upper_usd}, which are not prices")
    return {
        "horizon_time": later.to_pydatetime(),
        "yhat_usd": median_usd,
        "lower_usd": lower_usd,
        "upper_usd": upper_usd,
    }


@lru_cache(maxsize=64)
def path_ahead(last: pd.Timestamp, spec: ForecastSpec) -> tuple[pd.Timestamp, ...]:
    """Return the times after the last bar up to the one that the forecast is for: each bar, or each calendar day."""
    local, bars = last.tz_convert(NEW_YORK), range(1, (spec.ahead_bars or 0) + 1)
    if spec.ahead_days is not None:  # unlike 24 hours each, across a clock change
        path = [local + pd.DateOffset(days=days) for days in range(1, spec.ahead_days + 1)]
    elif spec.bar_interval == "1d":
        path = [local + pd.offsets.BDay(number) for number in bars]
    else:
        path = [local + number * BAR_LENGTH[spec.bar_interval] for number in bars]
    return tuple(time.tz_convert("UTC") for time in path)


def deny(symbol: str, bars: int, last: pd.Timestamp, spec: ForecastSpec) -> Denial | None:
    """Return why no forecast is made of a symbol with so many bars up to the last one; None if one is made."""
    return deny_between_decisions(symbol, last, spec) or deny_short_history(symbol, bars, spec)


def deny_between_decisions(symbol: str, last: pd.Timestamp, spec: ForecastSpec) -> Denial | None:
    """Return the denial of a symbol whose last bar is of a day on which the rule does not decide; None otherwise."""
    if spec.every_sessions == 1 or sessions.number(day := last.tz_convert(NEW_YORK).date()) % spec.every_sessions == 0:
        return None
    following = sessions.next_divisible(day, spec.every_sessions)
    detail = f"its rule decides on one trading day in {spec.every_sessions}; the next is {following}"
    return Denial(symbol=symbol, code=Code.BETWEEN_DECISIONS, detail=detail)


def deny_short_history(symbol: str, bars: int, spec: ForecastSpec) -> Denial | None:
    """Return the denial of a symbol with too few bars; None if it has enough."""
    if bars >= spec.min_bars:
        return None
    return Denial(symbol=symbol, code=Code.FORECAST_FAILED, detail=f"{bars} bars; the forecast needs {spec.min_bars}")


def deny_failed_fit(symbol: str, error: Exception) -> Denial:
    """Return the denial of a symbol whose fit or forecast failed with an error."""
    return Denial(symbol=symbol, code=Code.FORECAST_FAILED, detail=f"{type(error).__name__}: {error}")


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Provide threads for the fits. On exit, fits that have not begun are canceled."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prophet")
    # pandas changes the warning filters and restores them, but they are global: several threads together can leave
    # them wide open, and then every fit prints warnings. So they are saved here, and any further warnings are hidden.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _iterate_completed[T](futures: Iterable[Future[T]], deadline: Deadline) -> Iterator[Future[T]]:
    """Yield each future when it is done, until the deadline."""
    waiting = set(futures)
    while waiting and (left_s := deadline.remaining_s()) > 0:
        done, waiting = wait(waiting, timeout=min(left_s, 3600), return_when=FIRST_COMPLETED)
        yield from done


def _local(times: Iterable[datetime]) -> pd.DatetimeIndex:
    """Return exchange times without a zone, as Prophet expects: a daily bar keeps its date in summer and winter."""
    return pd.DatetimeIndex(list(times)).tz_convert(NEW_YORK).tz_localize(None)


def _trend(model: "Prophet", times: pd.DatetimeIndex) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return exactly what Prophet's predict_trend returns, without the table that it makes for seasons and floors."""
    assert model.start is not None, "it has been fitted"
    assert model.t_scale is not None, "it has been fitted"
    assert model.y_scale is not None, "it has been fitted"
    scaled = np.asarray((times - model.start) / model.t_scale, dtype=float)
    rate, offset = (float(np.nanmean(model.params[name])) for name in ("k", "m"))
    changes = np.nanmean(model.params["delta"], axis=0)
    line = model.piecewise_linear(scaled, changes, rate, offset, np.asarray(model.changepoints_t))
    return np.asarray(line * model.y_scale, dtype=float)


def _aware(local: pd.DatetimeIndex) -> list[datetime]:
    """Convert Prophet's times, which are exchange times without a zone, to UTC."""
    return [time.to_pydatetime() for time in local.tz_localize(NEW_YORK).tz_convert("UTC")]


class _NoPlots(MetaPathFinder):
    """Finds no Matplotlib in the thread that made it, and is never asked if Matplotlib is imported already."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002
        """Raise ModuleNotFoundError for Matplotlib; leave all else to the other finders."""
        if fullname == "matplotlib" and get_ident() == self._thread:
            raise ModuleNotFoundError("Prophet is imported without its plots", name=fullname)


@contextmanager
def _without_plots() -> Iterator[None]:
    """Let Prophet be imported as in the layer, without Matplotlib: nothing here plots, and it takes half a second."""
    finder = _NoPlots()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@cache
def quiet_prophet() -> "type[Prophet]":
    """Import Prophet at the first fit, and disable the loggers that would write at each fit and set off log alarms."""
    for name in ("prophet", "prophet.models", "prophet.plot", "cmdstanpy"):
        logging.getLogger(name).disabled = True
    with _without_plots():
        from prophet import Prophet

    from trader.forecasting.stan import Optimizer

    class Trend(Prophet):
        """Prophet with a direct call of its optimizer, and with a cache for a table that it would rebuild at every fit.

        The table says that a model without seasonalities has none; building it took a fifth of a fit.
        """

        def _load_stan_backend(self, stan_backend: str | None) -> None:  # noqa: ARG002 only one exists
            self.stan_backend = Optimizer()

        @classmethod
        @cache
        def _without_seasonalities(cls) -> tuple[pd.DataFrame, _Modes]:
            model = cls(weekly_seasonality=False, daily_seasonality=False, yearly_seasonality=False)
            return Prophet.regressor_column_matrix(
                model, pd.DataFrame({"zeros": [0.0]}), {"additive": [], "multiplicative": []}
            )

        def regressor_column_matrix(
            self, seasonal_features: pd.DataFrame, modes: _Modes
        ) -> tuple[pd.DataFrame, _Modes]:
            if list(seasonal_features.columns) != ["zeros"]:
                return super().regressor_column_matrix(seasonal_features, modes)
            table, known = self._without_seasonalities()
            return table.copy(), {mode: list(names) for mode, names in known.items()}

    logging.getLogger("cmdstanpy").disabled = True
    return Trend
