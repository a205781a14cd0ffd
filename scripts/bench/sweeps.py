"""A sweep of 64 settings on one worker process, on two, and on a Dask cluster over TCP: times and equality of figures.

All three run on the shipped prices, each with an empty folder. Anything that starts only once, such as the process that
workers are forked from, is started before the clock.
"""

import tempfile
from dataclasses import replace
from time import perf_counter

from scripts.bench import harness
from scripts.bench.harness import Measurement
from scripts.sweep import executors
from scripts.sweep.cluster import cluster
from scripts.sweep.config import SweepConfig
from scripts.sweep.run import run_sweep

MIN_RATIO = 1.6

GRID = (
    "SIGNAL_THRESHOLD_FRACTION=0.0025,0.005,0.01,0.02 MAX_POSITION_FRACTION=0.05,0.1,0.2,0.4 "
    "STOP_LOSS_FRACTION=0.02,0.03,0.05,0.08"
)

SETTING = {"UNIVERSE": "AAPL,JPM,KO,XOM", "HISTORY_BARS": "60", "START": "2022-10-27", "FOLDS": "1"}
"""Settings small enough for a minute: four symbols over two parts of about twenty days, refitted at every bar."""


def measure() -> list[Measurement]:
    """Run the sweep in the three ways, one after another, and compare times and figures."""
    plan = SweepConfig.from_env(SETTING, GRID)
    with executors.local(1) as workers:
        list(workers.results(len, [("warm up", "")]))
    one_s, one = time_sweep(replace(plan, workers=1))
    two_s, two = time_sweep(replace(plan, workers=2))
    with cluster(2) as address:
        with executors.dask(address) as workers:
            list(workers.results(warm, [(str(number), number) for number in range(4)]))
        dask_s, dask = time_sweep(replace(plan, scheduler=address))
    return [
        harness.is_at_least(
            one_s / two_s,
            MIN_RATIO,
            "a sweep of 64 settings on 2 parts: 2 workers against 1",
            f"{two_s:.1f} s against {one_s:.1f} s: {one_s / two_s:.2f} times as fast",
        ),
        is_the_same(one == two, "figures with 1 and with 2 workers"),
        is_the_same(one == dask, "figures on a Dask cluster of 2 workers over TCP", f"{dask_s:.1f} s, "),
    ]


def is_the_same(is_same: bool, what: str, time: str = "") -> Measurement:
    """Return the line that says whether two sweeps have the same figures."""
    measured = f"{time}{'the same to the byte' if is_same else 'NOT the same'}"
    return Measurement(what=what, measured=measured, target="the same", is_reached=is_same)


def warm(_number: int) -> None:
    """Import Prophet in a worker of the cluster, as the process that local workers are forked from has done."""
    import scripts.backtest.preloaded  # noqa: F401


def time_sweep(plan: SweepConfig) -> tuple[float, bytes]:
    """Run a sweep, and return its seconds and its CSV file."""
    with tempfile.TemporaryDirectory() as folder:
        begun = perf_counter()
        _, paths = run_sweep(plan, {**SETTING, "OUT": folder})
        return perf_counter() - begun, paths[0].read_bytes()
