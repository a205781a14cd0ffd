"""The harness of the benchmarks: figures with targets, measurements of time and memory, and the table of results.

A target that is missed while others use the machine is not called missed but not judged: see load.py.
"""

import os
import re
import statistics
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import Any, NoReturn

import psutil
from rich.table import Table

from scripts import ROOT, console
from scripts.bench import load
from scripts.bench.load import Load, Watch
from trader.forecasting.map.kernel import cores
from trader.progress import Progress

SINCE_START = Watch()
"""The load since this module was imported, for a benchmark that is a command of its own."""

MISSED, BUSY = "MISSED", "BUSY MACHINE"
"""What is said of a target that is not reached."""

LOOK_S, MAX_LOOK_S = 0.05, 0.5
"""Seconds between two readings of a command's processes, for a short and for a long command.

The kernel keeps a running process's peak of memory in between; each reading takes milliseconds from what is measured.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measured figure and its target; without a target it is only for information.

    `limit` is the time below which it cannot come without doing less, and `bound` what it is made of now. `figures` are
    the numbers behind the words, with units in their names. `is_timed` is false for what a busy machine cannot change.
    """

    what: str
    measured: str = ""
    target: str = ""
    is_reached: bool = True
    is_timed: bool = True
    limit: str = ""
    bound: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    group = ""
    """The name under which the table lists lines of the same group; empty if there are no groups."""

    def cells(self) -> Sequence[str]:
        """Return the table's cells between the name and the target."""
        return (self.measured,)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    def verdict(self, load: Load | None) -> str:
        """Return what to say of the target: nothing, that it is missed, or that the machine was too busy to say."""
        if self.is_reached:
            return ""
        return BUSY if self.is_timed and load and load.is_busy else MISSED


def is_at_least(ratio: float, least: float | None, what: str, measured: str) -> Measurement:
    """Return the measurement of a ratio of two times that must not be below `least`; None means no target."""
    if least is None:
        return Measurement(what=what, measured=measured)
    return Measurement(what=what, measured=measured, target=f"≥ {least:g} times", is_reached=ratio >= least)


def is_below(figure: float, most: float, what: str, *, unit: str, digits: int = 0) -> Measurement:
    """Return the measurement of a figure that must be below `most`."""
    return Measurement(
        what=what,
        measured=f"{figure:.{digits}f} {unit}",
        target=f"< {most:,.0f} {unit}",
        is_reached=figure < most,
        is_timed=unit != "MB",
    )


# --- measuring -----------------------------------------------------------------------------------------------------


def time_s(work: Callable[[], object], rounds: int = 1) -> float:
    """Return the seconds that a piece of work takes: the shortest of several rounds."""
    times = []
    for _ in range(rounds):
        begun = perf_counter()
        work()
        times.append(perf_counter() - begun)
    return min(times)


def in_turns[Way, Figure](
    ways: Mapping[Way, Callable[[], Figure]], rounds: int, what: str, progress: Progress, *, is_warm: bool = True
) -> Mapping[Way, Sequence[Figure]]:
    """Run each way once per round, in turns, so that a slow phase of the computer affects all of them.

    If `is_warm`, all run once beforehand, so that neither imports nor the first reads from disk are measured.
    """
    for way in ways.values() if is_warm else ():
        way()
    found: dict[Way, list[Figure]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
        progress(what, number + 1, rounds)
    return found


def median_s[Way](
    ways: Mapping[Way, Callable[[], object]], rounds: int, what: str, progress: Progress
) -> Mapping[Way, float]:
    """Return the median time of each way, measured in turns."""
    timed = {name: lambda way=way: time_s(way) for name, way in ways.items()}
    return {name: statistics.median(each) for name, each in in_turns(timed, rounds, what, progress).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a command used: seconds, CPU seconds of all its processes, and peaks of memory in bytes.

    `peak` is the sum of the peaks of all processes, so that shared memory counts more than once; `largest` is that of
    the process that needed most, which is the main one.
    """

    wall_s: float
    cpu_s: float
    peak: int
    largest: int
    printed: str

    def describe(self) -> str:
        """Return the figures in words."""
        return f"{self.wall_s:.1f} s, CPU {self.cpu_s:.1f} s, {self.largest / 1e6:,.0f} MB"


def run(command: str, *, folder: str, **variables: str) -> int:
    """Run one of our commands, and return the peak memory in bytes of it and all processes that it starts.

    Each process counts with its own peak. The command runs in `folder`, which is also its home, with `variables` as its
    only settings. Raises CommandError if it fails.
    """
    return use(command, folder, variables).peak


def use(command: str, folder: str, variables: Mapping[str, str], root: Path = ROOT) -> Usage:
    """Run one of our commands, as `run` does, and return what it used. `root` is the clone that it is run from."""
    words = [sys.executable, "-m", "scripts", command]
    return watch(words, folder, {**isolate(folder, root), **variables}, command)


def isolate(folder: str, root: Path = ROOT) -> dict[str, str]:
    """Return an environment without settings, in which `folder` is the home and the code is that of a clone."""
    return {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": f"{root / 'function'}:{root}"}


def watch(words: Sequence[str], folder: str, env: Mapping[str, str], name: str) -> Usage:
    """Run a program to its end, and return what it used. Raises CommandError, which calls it `name`, if it fails."""
    peaks: dict[int, int] = {}
    cpu_s, reaped_s = 0.0, _reaped_s()
    with TemporaryFile("w+") as printed, TemporaryFile("w+") as errors:
        begun = perf_counter()
        process = psutil.Popen(words, cwd=folder, env=env, stdout=printed, stderr=errors)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                for each in [process, *process.children(recursive=True)]:
                    peaks[each.pid] = max(peaks.get(each.pid, 0), _peak_of(each))
            cpu_s = max(cpu_s, load.tree_s(process))
            with suppress(psutil.TimeoutExpired):
                process.wait(min(max(LOOK_S, (perf_counter() - begun) / 50), MAX_LOOK_S))
        wall_s = perf_counter() - begun
        reaped_s = _reaped_s() - reaped_s
        load.orphans_s += max(cpu_s - reaped_s, 0.0)
        if process.returncode:
            errors.seek(0)
            raise console.CommandError(f"{name} ended with {process.returncode}: {errors.read()[-500:]}")
        printed.seek(0)
        return Usage(
            wall_s=wall_s,
            cpu_s=max(cpu_s, reaped_s),
            peak=sum(peaks.values()),
            largest=max(peaks.values(), default=0),
            printed=printed.read(),
        )


def _reaped_s() -> float:
    """Return the CPU seconds of all ended processes that this one, or a process that it waited for, has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _peak_of(process: psutil.Process) -> int:
    """Return the peak memory of a process in bytes; 0 if it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


# --- showing -------------------------------------------------------------------------------------------------------


@contextmanager
def measuring() -> Iterator[Progress]:
    """Show progress, and end with a plain message for an error that a user can fix."""
    with console.plain_errors("interrupted; what was measured before is kept"), console.progress() as progress:
        yield progress


def finish(
    lines: Sequence[Measurement],
    *,
    as_json: bool,
    title: str = "{cores} cores",
    headings: Sequence[str] = ("Measured",),
    during: Load | None = None,
) -> NoReturn:
    """Print all measurements and exit: with 1 if a target is missed, with 3 if one could not be judged.

    `during` is the load while it was measured; by default that since the start.
    """
    during = during or SINCE_START.read()
    if as_json:
        console.print_json([line.as_json() for line in lines])
    else:
        console.OUT.print(to_table(lines, title.format(cores=cores()), headings, during))
        console.note(during.describe())
    sys.exit(exit_code([line.verdict(during) for line in lines]))


def exit_code(verdicts: Collection[str]) -> int:
    """Return 1 if a target is missed, 3 if the machine was too busy to judge one, and otherwise 0."""
    return console.FAILED if MISSED in verdicts else console.COULD_NOT if BUSY in verdicts else console.USABLE


def to_table(
    lines: Sequence[Measurement], title: str, headings: Sequence[str] = ("Measured",), during: Load | None = None
) -> Table:
    """Return the table of the lines by group; lines that miss their target are red."""
    table = Table("What", title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if len(headings) > 1 else "left")
    table.add_column("Target")
    for group, members in groupby(lines, key=lambda line: line.group):
        if group:
            table.add_section()
            table.add_row(group, style="bold")
        for line in members:
            verdict = line.verdict(during)
            what = f"  {line.what}" if group else line.what
            style = {MISSED: "red", BUSY: "yellow"}.get(verdict, "")
            table.add_row(what, *line.cells(), f"{line.target}  {verdict}".strip(), style=style)
    return table
