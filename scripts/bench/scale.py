"""What a sweep of a whole market costs on one core and on many: a model of parts that are measured in the same run.

What the main process does, and the memory, are measured at full width: 3,000 symbols over 20 years, all settings. A
backtest is measured over a few bars and counted up. The model of a small sweep stands beside that sweep's own times on
one and two workers, so that one sees how far to trust it. Parts are measured in seconds of a processor, which others
who use the machine make little longer.
"""

import base64
import pickle
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd

from scripts.backtest import compute
from scripts.backtest.model import Options, Panel
from scripts.bench import ragged
from scripts.bench.harness import Measurement
from scripts.bench.scale_model import DIVIDED, Costs, Estimate, estimate
from scripts.sweep import executors, grid, html, sweep, tasks
from scripts.sweep.cluster import cluster
from scripts.sweep.executors import Workers
from scripts.sweep.results import FIGURES, Outcome
from scripts.sweep.store import Store
from scripts.sweep.sweep import Swept, TaskPlan
from scripts.sweep.tasks import Figures, ForecastJob
from scripts.sweep.walk_forward import Part, parts
from trader.model import NEW_YORK
from trader.progress import Progress

CORES = (1, 16, 256)

MAX_ERROR_FRACTION = 0.3
"""How far the model may be from the small sweep's own time."""

IDLE_TASKS = 200
"""Tasks that do nothing, to measure what the main process does for each."""

SAMPLED_FITS = 5_000
"""About as many fits are timed."""

HISTORY = 320
"""Bars before the first part: more than any setting asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A sweep: its prices, its settings, and the numbers of bars over which backtests are timed."""

    symbols: int
    bars: int
    grid: str
    folds: int
    timed_bars: tuple[int, int]

    @property
    def name(self) -> str:
        """The size in words."""
        years = self.bars / 252
        return f"{self.count_settings():,} settings x {self.symbols:,} symbols x {years:.3g} years"

    def count_settings(self) -> int:
        """Return the number of settings."""
        return len(grid.combinations(grid.read(self.grid), None, 1))


HUNDREDTHS = ",".join(f"{number / 1000:g}" for number in range(5, 15))
FULL = Size(
    symbols=3_000,
    bars=20 * 252,
    grid=(
        f"HISTORY_BARS={','.join(map(str, range(120, 320, 20)))} SIGNAL_THRESHOLD_FRACTION={HUNDREDTHS} "
        "STOP_LOSS_FRACTION=0.02,0.025,0.03,0.035,0.04,0.045,0.05,0.06,0.07,0.08"
    ),
    folds=3,
    timed_bars=(5, 20),
)
"""A thousand settings: ten histories, so ten kinds of forecasts, with ten thresholds and ten stops each."""

SMALL = Size(
    symbols=50,
    bars=460,
    grid="HISTORY_BARS=120,250 SIGNAL_THRESHOLD_FRACTION=0.005,0.01 STOP_LOSS_FRACTION=0.02,0.05",
    folds=1,
    timed_bars=(10, 50),
)


def measure(progress: Progress) -> list[Measurement]:
    """Measure the parts of both sweeps, and the small one on one and two workers."""
    return [*compare(SMALL, progress), *extrapolate(FULL, progress)]


def extrapolate(size: Size, progress: Progress) -> list[Measurement]:
    """Return the measured parts of a sweep, and what it costs on CORES."""
    costs = Inputs.of(size, progress).costs(progress)
    return [*list_parts(size, costs), *(describe(estimate(costs, cores)) for cores in CORES)]


def compare(size: Size, progress: Progress) -> list[Measurement]:
    """Return the model of a sweep beside its own time on one and on two workers."""
    inputs = Inputs.of(size, progress)
    costs = inputs.costs(progress)
    lines = []
    for workers in (1, 2):
        took_s, cpu_s = inputs.time_sweep(workers)
        progress("the small sweep itself", workers, 2)
        model_s = estimate(costs, workers).total_s
        error = model_s / took_s - 1
        lines.append(
            Measurement(
                what=f"{size.name}, {workers} worker{'s' * (workers > 1)}",
                measured=(
                    f"{took_s:.1f} s, {cpu_s:.1f} s of processors; by the model {model_s:.1f} s: {error:+.0%}, "
                    f"{model_s * workers:.1f} s of processors"
                ),
                target=f"± {MAX_ERROR_FRACTION:.0%}",
                is_reached=abs(error) <= MAX_ERROR_FRACTION,
                figures={"took_s": round(took_s, 2), "cpu_s": round(cpu_s, 2), "model_s": round(model_s, 2)},
            )
        )
    return lines


# --- the parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The prices, settings and parts of a sweep, and the seconds that the main process took to plan it."""

    size: Size
    settings: Sequence[grid.Setting]
    panel: Panel
    parts: Sequence[Part]
    plan: TaskPlan
    plan_s: float

    @classmethod
    def of(cls, size: Size, progress: Progress) -> "Inputs":
        """Make the prices and plan the sweep."""
        panel = make_panel(size)
        progress("prices", 1, 1)
        env = {
            "ENGINE": "map",
            "UNIVERSE": ",".join(map(str, panel.close.columns)),
            "START": str(to_day(panel.close.index[HISTORY])),
        }
        chosen, _ = grid.settings(grid.combinations(grid.read(size.grid), None, 1), env)
        every = [each.options for each in chosen]
        begun = process_time()
        cut = parts(sweep.span(panel, every), size.folds)
        plan = TaskPlan(panel, every, cut)
        plan_s = process_time() - begun
        progress("the plan", 1, 1)
        return cls(size=size, settings=chosen, panel=panel, parts=cut, plan=plan, plan_s=plan_s)

    @property
    def options(self) -> Sequence[Options]:
        """The options of all settings."""
        return [each.options for each in self.settings]

    def costs(self, progress: Progress) -> Costs:
        """Measure what the parts of the sweep cost."""
        groups = sweep.by_group(self.plan.cells)
        members = [*groups.values()][len(groups) // 2]
        part = members[0].part
        with tempfile.TemporaryDirectory() as folder, executors.local(1) as workers:
            begun = process_time()
            lacking = sweep.find_lacking(members, Store(Path(folder) / "none.jsonl"))
            group_s = process_time() - begun
            some = lacking[: max(1, len(lacking) * SAMPLED_FITS // sum(each.fits for each in lacking))]
            progress("the forecasts of a part", 1, 1)
            fit_s, open_s, forecast_mb = time_forecasts(workers, sweep.make_forecast_job(members[0], some))
            progress("fits", 1, 1)
            base_s, bar_s = self.time_backtests(workers, members[0].options, part, Path(folder))
            progress("backtests", 1, 1)
            worker_mb = float(ask(workers, measure_peak_mb, 0))
        bars = len(part.times)
        prices_mb = len(pickle.dumps(members[0].panel.longest.value, protocol=pickle.HIGHEST_PROTOCOL)) / 1e6
        fits = sum(each.fits for each in lacking)
        figures = make_figures(bars)
        costs = Costs(
            cells=len(self.plan.cells),
            groups=len(groups),
            fits=fits,
            fit_s=fit_s,
            cell_s=base_s + bar_s * bars,
            open_s=open_s,
            plan_s=self.plan_s,
            group_s=group_s,
            task_s=time_task(bars, members[0].options),
            report_s=self.time_report(figures),
            shared_mb=prices_mb * len(self.parts) + forecast_mb * fits * len(groups),
            worker_mb=worker_mb,
            main_mb=measure_peak_mb(0),
        )
        progress("the main process", 1, 1)
        return costs

    def time_backtests(self, workers: Workers, chosen: Options, part: Part, folder: Path) -> tuple[float, float]:
        """Return the seconds of a backtest apart from its bars, and those of a bar, with all that is shared at hand."""
        short = [
            Part(number=number, start=part.start, end=to_day(part.times[bars - 1]), times=part.times[:bars])
            for number, bars in enumerate(self.size.timed_bars, start=1)
        ]
        run = partial(sweep.sweep, self.panel, [chosen], short, workers=workers, folder=folder)
        run()
        (folder / "results.jsonl").unlink()
        workers.spent.clear()
        run()
        few_s, many_s = (ran.cpu_s for _, ran in workers.spent)
        few, many = self.size.timed_bars
        bar_s = max(many_s - few_s, 0.0) / (many - few)
        return max(few_s - bar_s * few, 0.0), bar_s

    def time_report(self, figures: Figures) -> float:
        """Return the seconds in which the main process reads, judges and writes all results."""
        lines = [
            figures | {tasks.RETURNS: make_figures(len(part.times), part.number)[tasks.RETURNS]} for part in self.parts
        ]
        swept = Swept(rows=(tuple(lines),) * len(self.settings), computed=0, taken_up=0)
        outcome = Outcome(
            metric="sharpe_ratio",
            axes=grid.read(self.size.grid),
            settings=self.settings,
            left_out=(),
            parts=self.parts,
            swept=swept,
            has_default=False,
        )
        with tempfile.TemporaryDirectory() as folder:
            begun = process_time()
            html.write(outcome, Path(folder))
            return process_time() - begun

    def time_sweep(self, workers: int) -> tuple[float, float]:
        """Run the sweep without reading its prices; return its seconds, and those of all its processors."""
        with tempfile.TemporaryDirectory() as folder, executors.local(workers) as crew:
            list(crew.results(measure_peak_mb, [(str(number), number) for number in range(workers)]))  # start them
            crew.spent.clear()
            begun, main_s = perf_counter(), process_time()
            sweep.sweep(self.panel, self.options, self.parts, workers=crew, folder=Path(folder))
            self.time_report(make_figures(len(self.parts[0].times)))
            took_s, main_s = perf_counter() - begun, process_time() - main_s
        return took_s, main_s + sum(ran.cpu_s for _, ran in crew.spent)


def make_panel(size: Size) -> Panel:
    """Return invented closes of ragged symbols."""
    close = ragged.make(size.symbols, size.bars, seed=26)
    close.index = pd.DatetimeIndex(close.index).tz_localize(NEW_YORK).tz_convert("UTC")
    return Panel(open=close, high=close, low=close, close=close, has_ohlc=False, source="invented prices")


def make_figures(bars: int, seed: int = 1) -> Figures:
    """Return the key figures of a backtest that was not run, with returns of so many bars."""
    returns = np.random.default_rng(seed).normal(0, 0.01, bars)
    return {**dict.fromkeys(FIGURES, 0.123456789), tasks.RETURNS: tasks.pack_returns(returns)}


def to_day(time: Any) -> Any:  # noqa: ANN401 - a datetime, and its day in New York
    """Return the trading day of a bar."""
    return time.astimezone(NEW_YORK).date()


# --- what workers do --------------------------------------------------------------------------------------------------


def ask[T, R](workers: Workers, function: Any, argument: T) -> Any:  # noqa: ANN401 - whatever the function returns
    """Run a function in a worker. Raises BacktestError as a sweep does."""
    ((_, result),) = workers.results(function, [("asked", argument)])
    return result


def time_forecasts(workers: Workers, job: ForecastJob) -> tuple[float, float, float]:
    """Return the seconds of a fit, those to open the prices, and the megabytes of a forecast."""
    fit_s, open_s, forecast_mb = ask(workers, fit_alone, job)
    return fit_s, open_s, forecast_mb


def fit_alone(job: ForecastJob) -> tuple[float, float, float]:
    """Return the seconds of each fit of a task, its forecast and its packing included; see time_forecasts."""
    begun = process_time()
    task = job.make_task()
    open_s = process_time() - begun
    compute.compute(task)  # imports, and what is kept from one task to the next
    begun = process_time()
    packed = tasks.pack_forecasts(compute.compute(task))
    fits = sum(each.fits for each in job.requests)
    return (process_time() - begun) / fits, open_s, len(base64.b64encode(packed)) / fits / 1e6


def measure_peak_mb(_: object) -> float:
    """Return the peak memory of this process in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def time_task(bars: int, chosen: Options) -> float:
    """Return the seconds that the main process, or a cluster's scheduler, has for each backtest: the longer of both."""
    import distributed

    with cluster(2) as address, executors.dask(address) as workers, tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results.jsonl")
        with distributed.Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            list(workers.results(invent, [(str(number), (chosen, bars)) for number in range(4)]))
            scheduler_s, main_s = client.run_on_scheduler(process_time), process_time()
            for name, made in workers.results(invent, [(str(number), (chosen, bars)) for number in range(IDLE_TASKS)]):
                store.keep(name, made)
            main_s = process_time() - main_s
            scheduler_s = client.run_on_scheduler(process_time) - scheduler_s
    return float(max(main_s, scheduler_s)) / IDLE_TASKS


def invent(argument: tuple[Options, int]) -> Figures:
    """Return figures without a backtest."""
    return make_figures(argument[1])


# --- showing ----------------------------------------------------------------------------------------------------------


def list_parts(size: Size, costs: Costs) -> list[Measurement]:
    """Return the measured parts."""
    lines = {
        f"a fit with its forecast, of {costs.fits * costs.groups:,}": (costs.fit_s * 1e6, "µs"),
        f"a backtest of a part, of {costs.cells:,}": (costs.cell_s, "s"),
        f"opening the prices of one of {costs.groups} kinds of forecasts in a worker": (costs.open_s, "s"),
        "planning in the main process": (costs.plan_s, "s"),
        "finding the forecasts of a kind in the main process": (costs.group_s, "s"),
        "handing over a task": (costs.task_s * 1e3, "ms"),
        "judging and writing the results": (costs.report_s, "s"),
        "prices and forecasts that each worker gets": (costs.shared_mb, "MB"),
        "peak of a worker": (costs.worker_mb, "MB"),
        "peak of the main process": (costs.main_mb, "MB"),
    }
    return [
        Measurement(
            what=f"{size.name}: {what}" if number == 0 else what,
            measured=f"{figure:,.3g} {unit}" if figure < 1_000 else f"{figure:,.0f} {unit}",
            figures={unit.replace("µs", "us").lower(): float(f"{figure:.4g}")},
        )
        for number, (what, (figure, unit)) in enumerate(lines.items())
    ]


def describe(made: Estimate) -> Measurement:
    """Return the line of the model on some cores."""
    parts = sorted(made.seconds, key=lambda part: -made.seconds[part])[:3]
    shares = ", ".join(f"{part} {made.share(part):.1%}" for part in parts)
    divided = sum(made.seconds[part] for part in DIVIDED)
    return Measurement(
        what=f"by the model, {made.cores} core{'s' * (made.cores > 1)}",
        measured=(
            f"{in_hours(made.total_s)}: {shares}; {made.computer_mb / 1e3:,.1f} GB for the workers of a computer, "
            f"{made.main_mb / 1e3:,.1f} GB for the main process"
        ),
        limit=f"{in_hours(divided)}, the {' and the '.join(DIVIDED)} alone",
        bound=f"{made.bottleneck}, then {made.next_bottleneck}",
        figures={
            "total_s": round(made.total_s, 1),
            **{f"{part.replace(' ', '_')}_s": round(seconds, 2) for part, seconds in made.seconds.items()},
            "computer_mb": round(made.computer_mb),
            "main_mb": round(made.main_mb),
        },
    )


def in_hours(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7_200 else f"{seconds / 3_600:,.1f} h"
