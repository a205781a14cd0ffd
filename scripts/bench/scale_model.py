"""A model of a sweep on many cores, of parts that were measured: what each part costs, and which is the bottleneck."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scripts.sweep.requests import FITS, TASKS_A_WORKER
from trader.model import Engine

NETWORK_MB_S = 100
"""An assumption, the only one: what a computer receives in a second, over a network of a gigabit."""

CORES_A_COMPUTER = 16
"""Workers that share a computer's memory and its network."""

DEPTH = 2
"""Tasks that a sweep hands to a cluster for each worker: see executors.dask."""

FITTING, TRADING = "fits", "backtests"
OPENING, LAST = "prices opened by each worker", "waiting for the last tasks"
SENDING, MAIN = "prices sent", "the main process"
DIVIDED = (FITTING, TRADING)
"""The parts that more cores make shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The measured parts of a sweep, and how many of each there are. `_s` is of one core, `_mb` of megabytes."""

    cells: int  # settings x parts
    groups: int  # kinds of forecasts x parts
    fits: int  # of a group
    fit_s: float
    cell_s: float  # a backtest of a part
    open_s: float  # the prices of a group, in a worker
    plan_s: float  # the main process before the first task
    group_s: float  # the main process for each group
    task_s: float  # the main process for each task
    report_s: float  # the main process after the last task
    shared_mb: float  # prices and forecasts that each worker gets, of all parts together
    worker_mb: float  # peak
    main_mb: float  # peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The time of a sweep on some cores, by part, and its memory."""

    cores: int
    seconds: Mapping[str, float]
    computer_mb: float  # of all workers of a computer
    main_mb: float

    @property
    def total_s(self) -> float:
        """The time of the whole sweep."""
        return sum(self.seconds.values())

    @property
    def bottleneck(self) -> str:
        """The part that takes most of the time."""
        return max(self.seconds, key=lambda part: self.seconds[part])

    @property
    def next_bottleneck(self) -> str:
        """The part that takes most of what more cores do not make shorter."""
        return max(self.seconds.keys() - set(DIVIDED), key=lambda part: self.seconds[part])

    def share(self, part: str) -> float:
        """Return a part's share of the time."""
        return self.seconds[part] / self.total_s


def estimate(costs: Costs, cores: int) -> Estimate:
    """Return the time of a sweep on some cores, each with a worker.

    The main process works while the workers do, so that its time for each task only counts where it is longer.
    """
    computers = -(-cores // CORES_A_COMPUTER)
    least, most = FITS[Engine.MAP]
    size = min(max(costs.groups * costs.fits // (DEPTH * cores * TASKS_A_WORKER), least), most)
    tasks = costs.groups * max(1, math.ceil(costs.fits / size))
    fitting_s = costs.groups * costs.fits * costs.fit_s
    trading_s = costs.cells * costs.cell_s
    last_s = (math.ceil(tasks / cores) * cores / tasks - 1) * fitting_s / cores + (
        math.ceil(costs.cells / cores) * cores / costs.cells - 1
    ) * trading_s / cores
    opened = min(costs.groups, math.ceil(tasks / cores))
    handing_s = max(0.0, tasks * costs.task_s - fitting_s / cores) + max(
        0.0, costs.cells * costs.task_s - trading_s / cores
    )
    sent_mb = costs.shared_mb * min(cores, CORES_A_COMPUTER) if computers > 1 else 0.0
    return Estimate(
        cores=cores,
        seconds={
            FITTING: fitting_s / cores,
            TRADING: trading_s / cores,
            OPENING: opened * costs.open_s,
            LAST: last_s,
            SENDING: sent_mb / NETWORK_MB_S,
            MAIN: costs.plan_s + costs.groups * costs.group_s + costs.report_s + handing_s,
        },
        computer_mb=costs.worker_mb * min(cores, CORES_A_COMPUTER),
        main_mb=costs.main_mb,
    )
