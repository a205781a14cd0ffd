"""How busy the machine is with the work of others while something is measured.

The load average does not tell: it counts the measured work too. What the processors did, less what this process and its
descendants did, is the work of others.
"""

import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import psutil

from trader.forecasting.map.kernel import cores

MAX_OTHERS_FRACTION = 0.1
"""The share of all processors above which the work of others may be why a target is missed."""

orphans_s = 0.0
"""CPU seconds of finished commands that the kernel does not add to this process's, as nobody waited for the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the machine did during a measurement: seconds, and how many processors this process and others used."""

    took_s: float
    own_processors: float
    others_processors: float
    load_average: float  # of the last minute, at the end

    @property
    def is_busy(self) -> bool:
        """True if others used so much that times are too long."""
        return self.others_processors > MAX_OTHERS_FRACTION * (os.cpu_count() or 1)

    def describe(self) -> str:
        """Return the load in words, for the line below a table."""
        return (
            f"load: others used {self.others_processors:.1f} of {os.cpu_count()} processors, "
            f"the benchmark {self.own_processors:.1f}, in {self.took_s:,.0f} s"
        )


@dataclass(slots=True)
class Watch:
    """A stopwatch of the machine's load, from when it is made."""

    begun_s: float = field(default_factory=lambda: perf_counter())
    busy_s: float = field(default_factory=lambda: read_busy_s())
    own_s: float = field(default_factory=lambda: read_own_s())

    def read(self) -> Load:
        """Return the load since the beginning."""
        took_s = max(perf_counter() - self.begun_s, 1e-9)
        own = (read_own_s() - self.own_s) / took_s
        busy = (read_busy_s() - self.busy_s) / took_s
        return Load(
            took_s=round(took_s, 2),
            own_processors=round(max(own, 0.0), 2),
            others_processors=round(max(busy - own, 0.0), 2),
            load_average=round(os.getloadavg()[0], 2),
        )


def read_busy_s() -> float:
    """Return the seconds that all processors have worked since the start of the system, steal included."""
    times = psutil.cpu_times()
    waiting_s = times.idle + getattr(times, "iowait", 0.0)
    again_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # user and nice contain them
    return float(sum(times) - waiting_s - again_s)


def read_own_s() -> float:
    """Return the CPU seconds of this process and of its descendants, ended or not."""
    return orphans_s + tree_s(psutil.Process())


def tree_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its descendants; 0 if it is gone."""
    total_s = 0.0
    with suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


def describe_machine() -> dict[str, str | int]:
    """Return what a figure depends on: processor, number of cores, memory and Python."""
    return {
        "processor": name_processor(),
        "cores": cores(),
        "memory_mb": psutil.virtual_memory().total // 1_000_000,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def name_processor() -> str:
    """Return the processor's model, or the architecture if the system does not say."""
    with suppress(OSError):
        if found := re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()):
            return found[1].strip()
    return platform.processor() or platform.machine()
