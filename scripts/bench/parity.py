"""`make parity`: the map engine's models and decisions compared with those of Prophet's package, on the shipped prices.

One formula computes the log posterior of both engines' models. Where they differ most, map's model must also be the
mode that an independent method, an interior-point solver, finds.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cache, partial
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np
import pandas as pd
from rich.table import Table

from scripts import console
from scripts.backtest import options
from scripts.backtest.workers import pool
from scripts.bench.reference import reference
from trader.alpha import loader
from trader.alpha.base import AlphaModel, View
from trader.deadline import Deadline
from trader.forecasting.map import model
from trader.forecasting.map.forecaster import MapForecaster, local_ns
from trader.forecasting.map.model import Batch, Calendar, Fit, Scales, log_posterior
from trader.forecasting.map.posterior_mode import Floats
from trader.forecasting.prophet import FIT_TIMEOUT_S, ProphetForecaster, quiet_prophet
from trader.model import SAMPLE_PRICES, Forecast, Insight
from trader.prices.file import FilePrices
from trader.progress import Progress
from trader.settings import Integer, OneOf, Settings, SettingsError

WINDOWS = 10
"""Windows per row, with their ends spread evenly over the prices."""

WORSE = 1e-6
"""The share by which map's log posterior may be below Stan's because of rounding."""

DOUBTED = 3
"""Models per row that are also solved by an independent method: those that differ most."""

MAX_ABOVE = 1e-9
"""The share by which the reference's log posterior may be above map's because of rounding."""

MAX_APART = 1e-6
"""The share by which map's trend at the last bar may differ from the reference's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCase:
    """A row of a table: a kind of model, or a signal, over all windows."""

    what: str
    bars: int
    is_weekly: bool = False
    scale: float = model.CHANGEPOINT_SCALE
    signal: str = ""  # compare the bot's decisions by this signal instead of models


ROWS = (
    *(ParityCase(what=f"{bars} bars", bars=bars) for bars in (120, 250, 500, 1000)),
    *(ParityCase(what=f"{bars} bars, weekly", bars=bars, is_weekly=True) for bars in (120, 250, 1000)),
    *(ParityCase(what=f"{bars} bars, prior 0.01", bars=bars, scale=0.01) for bars in (250, 1000)),
    *(ParityCase(what=f"{bars} bars, prior 0.5", bars=bars, scale=0.5) for bars in (120, 250, 1000)),
)

SIZES = sorted({row.bars for row in ROWS})

SIGNALS = tuple(ParityCase(what=f"signal {signal}", bars=250, signal=signal) for signal in loader.names())


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A model as fitted by both engines; one that map handed to Prophet has no figures."""

    symbol: str
    end: int  # of the window, as an index into the prices
    is_handed_over: bool = False
    gain: float = 0.0  # map's log posterior minus Stan's
    log_posterior: float = 0.0  # map's
    residual: float = 0.0
    has_another: bool = False
    trend_fraction: float = 0.0  # map's trend at the last bar divided by Stan's, minus 1
    yhat_fraction: float = 0.0  # the same for yhat


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A model compared with the reference."""

    above_fraction: float  # the reference's log posterior minus map's, as a share of map's
    trend_fraction: float  # map's trend at the last bar divided by the reference's, minus 1
    stan_trend_fraction: float  # the same for Stan's trend


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a row in the tables of models."""

    what: str
    fits: int
    handed_over: int
    with_two_modes: int
    worse: int  # models for which Stan's is more probable
    min_gain: float
    median_gain: float
    max_gain: float
    most_residual: float
    median_trend_fraction: float
    most_trend_fraction: float
    median_yhat_fraction: float
    most_yhat_fraction: float
    most_above_fraction: float  # of the models compared with the reference: see Checked
    most_off_fraction: float
    most_stan_off_fraction: float
    gains: tuple[float, ...]
    trends: tuple[float, ...]

    @property
    def is_reached(self) -> bool:
        """True if map is nowhere worse than Stan, and at the optimum."""
        is_optimal = self.most_above_fraction < MAX_ABOVE and self.most_off_fraction < MAX_APART
        return not self.worse and self.most_residual < model.CONVERGED and is_optimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """How often the two engines lead to different directions, and how far their gaps differ."""

    what: str
    decisions: int
    differ: int
    median_gap_points: float  # difference of the gaps behind the decisions, in percentage points of the price
    median_apart_points: float | None  # the same for decisions that differ; None if none does


@dataclass(frozen=True, slots=True)
class Choice:
    """What is compared: so many windows of so many symbols, rows of at most so many bars; and the chart's file."""

    windows: int = WINDOWS
    symbols: int = 20
    bars: int = SIZES[-1]
    picture: Path | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read and check the variables. Raises SettingsError with all problems."""
        given, problems = options.read(
            env, {"WINDOWS": Integer(1, 100), "SYMBOLS": Integer(1, 20), "BARS": _size, "PICTURE": Path}
        )
        made = cls(**{name.lower(): value for name, value in given.items()})
        if made.picture and not made.picture.parent.is_dir():
            problems.append(f"PICTURE={made.picture}: there is no folder {made.picture.parent}; make it first")
        if problems:
            raise SettingsError(problems)
        return made


def _size(text: str) -> int:
    return int(OneOf(tuple(map(str, SIZES)))(text))


def main() -> None:
    """Compare, print and draw; the exit code is 1 if map is worse than Stan or not at the optimum anywhere."""
    with console.plain_errors("interrupted; nothing was compared"):
        chosen = Choice.from_env(os.environ)
        rows = [row for row in ROWS if row.bars <= chosen.bars]
        with pool() as executor, console.progress() as progress:
            summaries = models(rows, chosen.windows, chosen.symbols, executor, progress)
            made = decisions(SIGNALS, chosen.windows, chosen.symbols, executor, progress)
        if chosen.picture:
            from scripts.bench.parity_chart import draw  # Matplotlib takes a second, and is seldom needed

            chosen.picture.write_text(draw(summaries), encoding="utf-8")
    if console.wants_json():
        console.print_json({"models": summaries, "decisions": made})
    else:
        show(summaries, made)
    sys.exit(console.USABLE if all(each.is_reached for each in summaries) else console.FAILED)


# --- models --------------------------------------------------------------------------------------------------------


def models(
    rows: Sequence[ParityCase], windows: int, symbols: int, executor: Executor, progress: Progress
) -> list[Summary]:
    """Compare every row's models in both engines, and those that differ most with the reference."""
    windowed = [(row, end) for row in rows for end in ends(row, windows)]
    compared = by_row(partial(compare, symbols=symbols), windowed, "models", executor, progress)
    doubted = [(row, each) for row in rows for each in doubtful(compared[row])]
    checked = by_row(check, doubted, "reference", executor, progress)
    return [summary(row, compared[row], checked[row]) for row in rows]


def by_row[Task, Result](
    work: Callable[[ParityCase, Task], Sequence[Result]],
    tasks: Sequence[tuple[ParityCase, Task]],
    what: str,
    executor: Executor,
    progress: Progress,
) -> dict[ParityCase, list[Result]]:
    """Run all tasks, and collect their results by row."""
    found: dict[ParityCase, list[Result]] = {}
    done = executor.map(work, *zip(*tasks, strict=True))
    for number, ((row, _), some) in enumerate(zip(tasks, done, strict=True), 1):
        found.setdefault(row, []).extend(some)
        progress(what, number, len(tasks))
    return found


def ends(row: ParityCase, windows: int) -> list[int]:
    """Return the indices at which the windows of a row end, spread evenly over the prices."""
    return np.linspace(row.bars, len(panel()), windows).round().astype(int).tolist()


def compare(row: ParityCase, end: int, symbols: int) -> list[Compared]:
    """Compare the models of one window in both engines."""
    calendar, values = window(row, end, symbols)
    fits = model.fit([Batch(calendar=calendar, values=values)], Scales(changepoint=row.scale)).fits
    found = []
    for symbol, series, fit in zip(panel().columns, values, fits, strict=False):
        if isinstance(fit, str):
            found.append(Compared(symbol=symbol, end=end, is_handed_over=True))
            continue
        stan = by_stan(row, calendar, series)
        ours, theirs = (log_posterior(each, series, Scales(changepoint=row.scale)) for each in (fit, stan))
        last = calendar.times_ns[-1:]
        found.append(
            Compared(
                symbol=symbol,
                end=end,
                gain=ours - theirs,
                log_posterior=ours,
                residual=fit.residual,
                has_another=fit.has_another,
                trend_fraction=float(fit.trend(last)[0] / stan.trend(last)[0] - 1),
                yhat_fraction=float(fit.yhat(last)[0] / stan.yhat(last)[0] - 1),
            )
        )
    return found


def by_stan(row: ParityCase, calendar: Calendar, values: Floats) -> Fit:
    """Fit the model with Prophet's package."""
    model = quiet_prophet()(
        weekly_seasonality=row.is_weekly,
        daily_seasonality=False,
        uncertainty_samples=0,
        changepoint_prior_scale=row.scale,
    )
    with warnings.catch_warnings():  # about Prophet's own use of pandas
        warnings.simplefilter("ignore")
        model.fit(pd.DataFrame({"ds": pd.DatetimeIndex(calendar.times_ns), "y": values}), timeout=FIT_TIMEOUT_S)
    names = ("k", "m", "delta", "beta") if calendar.seasonalities else ("k", "m", "delta")
    return Fit(
        calendar=calendar,
        parameters=np.concatenate([np.asarray(model.params[name]).reshape(-1) for name in names]),
        sigma=float(np.asarray(model.params["sigma_obs"]).reshape(-1)[0]),
        scale=float(np.abs(values).max()),
        residual=0.0,
    )


def doubtful(compared: Iterable[Compared]) -> list[Compared]:
    """Select the models that differ most."""
    known = (each for each in compared if not each.is_handed_over)
    return sorted(known, key=lambda each: -abs(each.gain))[:DOUBTED]


def check(row: ParityCase, doubted: Compared) -> list[Checked]:
    """Compare a model with the mode that the independent method finds."""
    calendar, values = window(row, doubted.end, len(panel().columns))
    series = values[list(panel().columns).index(doubted.symbol)]
    scales = Scales(changepoint=row.scale)
    (fit,) = model.fit([Batch(calendar=calendar, values=series[None])], scales).fits
    assert isinstance(fit, Fit), "it was found before"
    known = reference(calendar, series, scales)
    last = calendar.times_ns[-1:]
    ratio = float(fit.trend(last)[0] / known.trend(last)[0])
    checked = Checked(
        above_fraction=(log_posterior(known, series, scales) - doubted.log_posterior) / abs(doubted.log_posterior),
        trend_fraction=ratio - 1,
        stan_trend_fraction=ratio / (1 + doubted.trend_fraction) - 1,
    )
    return [checked]


def summary(row: ParityCase, compared: Sequence[Compared], checked: Sequence[Checked]) -> Summary:
    """Summarize the models of a row."""
    known = [each for each in compared if not each.is_handed_over]
    gains = [each.gain for each in known]
    trends, yhats = ([abs(getattr(each, name)) for each in known] for name in ("trend_fraction", "yhat_fraction"))
    return Summary(
        what=row.what,
        fits=len(compared),
        handed_over=len(compared) - len(known),
        with_two_modes=sum(each.has_another for each in known),
        worse=sum(each.gain < -WORSE * abs(each.log_posterior) for each in known),
        min_gain=min(gains),
        median_gain=median(gains),
        max_gain=max(gains),
        most_residual=max(each.residual for each in known),
        median_trend_fraction=median(trends),
        most_trend_fraction=max(trends),
        median_yhat_fraction=median(yhats),
        most_yhat_fraction=max(yhats),
        most_above_fraction=max(each.above_fraction for each in checked),
        most_off_fraction=max(abs(each.trend_fraction) for each in checked),
        most_stan_off_fraction=max(abs(each.stan_trend_fraction) for each in checked),
        gains=tuple(sorted(gains)),
        trends=tuple(sorted(trends)),
    )


# --- decisions -----------------------------------------------------------------------------------------------------


def decisions(
    rows: Sequence[ParityCase], windows: int, symbols: int, executor: Executor, progress: Progress
) -> list[Decisions]:
    """Compare the decisions that the bot makes with each engine."""
    windowed = [(row, end) for row in rows for end in ends(row, windows)]
    found = by_row(partial(decide, symbols=symbols), windowed, "decisions", executor, progress)
    return [compare_decisions(row.what, found[row]) for row in rows]


def compare_decisions(what: str, pairs: Sequence[tuple[bool, float]]) -> Decisions:
    """Summarize the results of `decide` as a row of the table."""
    apart = [each for is_other, each in pairs if is_other and not isnan(each)]
    return Decisions(
        what=what,
        decisions=len(pairs),
        differ=sum(is_other for is_other, _ in pairs),
        median_gap_points=100 * median(each for _, each in pairs if not isnan(each)),
        median_apart_points=100 * median(apart) if apart else None,
    )


def decide(row: ParityCase, end: int, symbols: int) -> list[tuple[bool, float]]:
    """Return for each symbol whether the directions differ, and the difference of the gaps behind them.

    If only one engine has a forecast, the directions differ and the difference is NaN; if neither has, the symbol
    is omitted.
    """
    closes = {symbol: panel()[symbol].iloc[end - row.bars : end] for symbol in panel().columns[:symbols]}
    settings = Settings(signal=row.signal)
    rule = loader.RULES[row.signal].from_settings(settings)
    spec = replace(rule.forecast_spec, every_sessions=1)  # the windows end on any day
    by_symbol: list[Mapping[str, Forecast]] = []
    for engine in (MapForecaster(spec), ProphetForecaster(spec)):
        made = engine.forecast(closes, Deadline.never())
        by_symbol.append({each.symbol: each for each in made.forecasts})
    insights = [[_judge(rule, each[symbol]) for each in by_symbol if symbol in each] for symbol in closes]
    return [
        (both[0].direction is not both[1].direction, abs(both[0].gap_fraction - both[1].gap_fraction))
        if len(both) == len(by_symbol)
        else (True, nan)
        for both in insights
        if both
    ]


def _judge(rule: AlphaModel, forecast: Forecast) -> Insight:
    (made,) = rule.insights(View(slot=forecast.time, closes={}, forecasts={forecast.symbol: forecast}, positions={}))
    return made


# --- prices and table ----------------------------------------------------------------------------------------------


@cache
def panel() -> pd.DataFrame:
    """Return the shipped closes, one column per symbol."""
    source = FilePrices(SAMPLE_PRICES)
    return source.bars().clean.tables["close"]


def window(row: ParityCase, end: int, symbols: int) -> tuple[Calendar, Floats]:
    """Return the calendar and the values, (symbols, bars), of the bars before `end` for the first `symbols` symbols."""
    some = panel().iloc[end - row.bars : end, :symbols]
    allowed = ("yearly", "weekly") if row.is_weekly else ("yearly",)
    calendar = Calendar.of(local_ns(pd.DatetimeIndex(some.index)), allowed)
    return calendar, some.to_numpy(float).T.copy()


def show(summaries: Sequence[Summary], decided: Sequence[Decisions]) -> None:
    """Print three tables: the comparison with Stan, the comparison with the optimum, and the decisions."""
    beside = _table(
        "Models of", "Log posterior, map - Stan:\nmin, median, max", "Worse", "Trend\ndifference", "yhat\ndifference"
    )
    optimum = _table(
        "Models of", "Residual", "Reference\nabove map", "Trend error:\nmap, Stan", "Two\nmodes", "To\nStan"
    )
    for each in summaries:
        style = "" if each.is_reached else "red"
        beside.add_row(
            each.what,
            f"{each.min_gain:+.3f} {each.median_gain:+6.2f} {each.max_gain:+6.1f}",
            f"{each.worse} of {each.fits}",
            f"{each.median_trend_fraction:.2%} {each.most_trend_fraction:6.1%}",
            f"{each.median_yhat_fraction:.2%} {each.most_yhat_fraction:5.1%}",
            style=style,
        )
        optimum.add_row(
            each.what,
            f"{each.most_residual:.0e}",
            f"{each.most_above_fraction:+.0e}",
            f"{each.most_off_fraction:.0e} {each.most_stan_off_fraction:6.1%}",
            f"{each.with_two_modes}",
            f"{each.handed_over}",
            style=style,
        )
    console.OUT.print(beside, "difference: at the last bar, median and max\n", optimum)
    grid = _table("Decisions by", "Made", "Differ", "Median gap difference:\nall, differing")
    for one in decided:
        share, apart = one.differ / one.decisions, one.median_apart_points
        gaps = f"{one.median_gap_points:.2f} {'-' if apart is None else f'{apart:.2f}':>5} points"
        grid.add_row(one.what, f"{one.decisions}", f"{one.differ} ({share:.1%})", gaps)
    console.OUT.print(grid)


def _table(first: str, *more: str) -> Table:
    """Return a table whose figures do not wrap, even in a narrow terminal."""
    table = Table(first)
    for name in more:
        table.add_column(name, no_wrap=True, justify="right")
    return table
