"""A sweep of 64 settings on one worker process, on two, and on a Dask cluster over TCP: times and equality of figures.

All three run on the shipped prices, each with an empty folder, those on one and on two workers in turns. Anything that
starts only once, such as the process that workers are forked from, is started before the clock. Where others use the
machine, the share of the time in which workers had no task tells more than the times: it is all that a second worker
can lose, but for what the tasks themselves need more when two run.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from scripts.bench import harness
from scripts.bench.harness import Measurement
from scripts.sweep import executors
from scripts.sweep.cluster import cluster
from scripts.sweep.config import SweepConfig
from scripts.sweep.run import run_sweep

MIN_RATIO = 1.9

ROUNDS = 2
"""Pairs of sweeps on one and on two workers; the median of each counts."""

GRID = (
    "SIGNAL_THRESHOLD_FRACTION=0.0025,0.005,0.01,0.02 MAX_POSITION_FRACTION=0.05,0.1,0.2,0.4 "
    "STOP_LOSS_FRACTION=0.02,0.03,0.05,0.08"
)

SETTING = {
    "UNIVERSE": "AAPL,AMD,BAC,CVX,HD,JNJ,JPM,KO,MRK,MSFT,WMT,XOM",
    "HISTORY_BARS": "60",
    "START": "2022-10-27",
    "FOLDS": "1",
}
"""Settings small enough for a minute: twelve symbols over two parts of about twenty days, refitted at every bar.

With a third of the symbols, what a sweep does once takes a twentieth of the time on two workers.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A sweep: its seconds, its CSV file, and what its tasks took, in seconds of the clock and of processors."""

    took_s: float
    figures: bytes
    tasks_s: Sequence[float]
    cpu_s: float
    workers: int

    @property
    def idle_fraction(self) -> float:
        """The share of the time in which a worker had no task."""
        return max(0.0, 1 - sum(self.tasks_s) / (self.took_s * self.workers))


def measure() -> list[Measurement]:
    """Run the sweep in the three ways, and compare times and figures."""
    plan = SweepConfig.from_env(SETTING, GRID)
    with executors.local(1) as workers:
        list(workers.results(len, [("warm up", "")]))
    pairs = [(time_sweep(replace(plan, workers=1)), time_sweep(replace(plan, workers=2))) for _ in range(ROUNDS)]
    with cluster(2) as address:
        with executors.dask(address) as workers:
            list(workers.results(warm, [(str(number), number) for number in range(4)]))
        dask = time_sweep(replace(plan, scheduler=address, workers=2))
    one_s, two_s = (statistics.median(each.took_s for each in some) for some in zip(*pairs, strict=True))
    one, two = pairs[-1]
    is_same = len({each.figures for pair in pairs for each in pair}) == 1
    ratio = harness.is_at_least(
        one_s / two_s,
        MIN_RATIO,
        "a sweep of 64 settings on 2 parts: 2 workers against 1",
        f"{two_s:.1f} s against {one_s:.1f} s: {one_s / two_s:.2f} times as fast",
    )
    limit_by_waits = 2 * (1 - two.idle_fraction) / (1 - one.idle_fraction)
    return [
        replace(ratio, bound=f"tasks of {two.cpu_s:.1f} s of processors, {one.cpu_s:.1f} s on one worker"),
        Measurement(
            what="2 workers without a task, and what this leaves of 2 times",
            measured=f"{two.idle_fraction:.1%} of the time: {limit_by_waits:.2f} times",
            target=f"≥ {MIN_RATIO:g} times",
            is_reached=limit_by_waits >= MIN_RATIO,
            figures={"idle_fraction": round(two.idle_fraction, 4), "one_idle_fraction": round(one.idle_fraction, 4)},
        ),
        describe_spread(one),
        is_the_same(is_same, "figures with 1 and with 2 workers"),
        is_the_same(one.figures == dask.figures, "figures on a Dask cluster of 2 workers over TCP", describe(dask)),
    ]


def describe_spread(timed: Timed) -> Measurement:
    """Return the line of the seconds by task."""
    shortest, *_, longest = sorted(timed.tasks_s)
    median = statistics.median(timed.tasks_s)
    return Measurement(
        what=f"seconds of its {len(timed.tasks_s)} tasks on one worker",
        measured=f"{shortest:.2f} to {longest:.2f}, median {median:.2f}",
        figures={"shortest_s": round(shortest, 3), "median_s": round(median, 3), "longest_s": round(longest, 3)},
    )


def describe(timed: Timed) -> str:
    """Return a sweep's times in words."""
    return f"{timed.took_s:.1f} s, workers without a task {timed.idle_fraction:.1%} of the time, "


def is_the_same(is_same: bool, what: str, time: str = "") -> Measurement:
    """Return the line that says whether two sweeps have the same figures."""
    measured = f"{time}{'the same to the byte' if is_same else 'NOT the same'}"
    return Measurement(what=what, measured=measured, target="the same", is_reached=is_same)


def warm(_number: int) -> None:
    """Import Prophet in a worker of the cluster, as the process that local workers are forked from has done."""
    import scripts.backtest.preloaded  # noqa: F401


def time_sweep(plan: SweepConfig) -> Timed:
    """Run a sweep in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        begun = perf_counter()
        outcome, paths = run_sweep(plan, {**SETTING, "OUT": folder})
        return Timed(
            took_s=perf_counter() - begun,
            figures=paths[0].read_bytes(),
            tasks_s=[ran.wall_s for ran in outcome.swept.spent],
            cpu_s=sum(ran.cpu_s for ran in outcome.swept.spent),
            workers=plan.workers,
        )
