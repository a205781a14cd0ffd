"""Scoring: forecasts compared with the actual prices, for the calibration in the report."""

import math
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd

from scripts.backtest.compute import Table, Task, compute
from scripts.backtest.forecasts import Blocks, find_spec, key
from scripts.backtest.judged import judge
from scripts.backtest.model import Options, Panel, Result, Scored
from scripts.backtest.rhythm import by_day
from trader.forecasting.prophet import SEED
from trader.model import NEW_YORK, Forecast
from trader.progress import Progress, no_progress

SAMPLE = 400
"""Number of forecasts to score for a rule that does not look ahead itself."""


def score(result: Result, *, executor: Executor | None = None, progress: Progress = no_progress) -> tuple[Scored, ...]:
    """Return every forecast of the backtest whose horizon was reached, in the order of bars and symbols.

    A rule that looks ahead made them for its decisions. For any other rule, SAMPLE forecasts are made here, with the
    same model, HORIZON_BARS ahead, at random bars and symbols. So they are with DECIDE_EVERY, at the sessions' closes.
    """
    spec = find_spec(result.options.settings)
    if spec is None:
        return ()
    is_sampled = bool(result.options.decide_every) or not spec.looks_ahead
    result = by_day(result)
    if is_sampled:
        forecasts: Sequence[Forecast] = _sample(result, executor, progress)
    else:
        forecasts = [each for bar in result.bars if bar.decision for each in bar.decision.forecasts]
    interval = result.options.settings.bar_interval
    unbroken = judge(result.panel, interval).unbroken
    scored = (_score(each, unbroken, interval) for each in forecasts)
    return tuple(each for each in scored if each is not None)


def _score(forecast: Forecast, unbroken: pd.DataFrame, bar_interval: str) -> Scored | None:
    """Compare a forecast with the close at its horizon; return None if the prices do not reach that far.

    Across a split that nobody adjusted for, the close is taken in the unit of the forecast.
    """
    if forecast.horizon_time is None or forecast.yhat_usd is None:
        return None
    if forecast.lower_usd is None or forecast.upper_usd is None:
        return None
    close = unbroken[forecast.symbol].loc[: forecast.horizon_time]
    unit = float(close.loc[forecast.time]) / forecast.price_usd
    last, actual_usd = unbroken.index[-1], float(close.iloc[-1]) / unit
    reached = last.astimezone(NEW_YORK).date() >= forecast.horizon_time.astimezone(NEW_YORK).date()
    if not (reached if bar_interval == "1d" else last >= forecast.horizon_time) or close.index[-1] <= forecast.time:
        return None
    if math.isnan(actual_usd):  # a gap, or after the symbol's last price
        return None
    return Scored(
        symbol=forecast.symbol,
        time=forecast.time,
        horizon_time=forecast.horizon_time,
        actual_time=close.index[-1].to_pydatetime(),
        price_usd=forecast.price_usd,
        yhat_usd=forecast.yhat_usd,
        lower_usd=forecast.lower_usd,
        upper_usd=forecast.upper_usd,
        actual_usd=actual_usd,
    )


def _sample(result: Result, executor: Executor | None, progress: Progress) -> list[Forecast]:
    tasks = sample_tasks(result.panel, result.options, [bar.time for bar in result.bars])
    tables: Iterator[Table] = executor.map(compute, tasks) if executor else map(compute, tasks)
    forecasts: list[Forecast] = []
    for number, table in enumerate(tables, start=1):
        forecasts += [each for each in table.values() if isinstance(each, Forecast)]
        progress("calibration", number, len(tasks))
    return sorted(forecasts, key=lambda each: (each.time, each.symbol))


def sample_tasks(panel: Panel, options: Options, times: Sequence[datetime]) -> list[Task]:
    """Draw forecasts at random, each of one symbol at one bar, and return their tasks."""
    settings = options.settings
    spec = replace(key(options).spec, ahead_bars=settings.horizon_bars, every_sessions=1)
    blocks = Blocks(panel, replace(options, refit_every_bars=1), times, spec)
    visible = judge(panel, settings.bar_interval).visible
    rows, columns = np.nonzero(visible.loc[list(times)].notna().to_numpy())
    chosen = random.Random(SEED).sample(range(len(rows)), min(SAMPLE, len(rows)))  # noqa: S311 a sample, not a secret
    return blocks.sample(sorted((times[rows[each]], str(visible.columns[columns[each]])) for each in chosen))
