"""The harness of the benchmarks: figures with targets, measurements of time and memory, and the table of results."""

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter, sleep
from typing import Any, NoReturn

import psutil
from rich.table import Table

from scripts import ROOT, console
from scripts.backtest.workers import cores
from trader.progress import Progress

LOOK_S = 0.05
"""Seconds between two readings of a command's memory; the kernel keeps a running process's peak in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measured figure and its target; without a target it is only for information."""

    what: str
    measured: str = ""
    target: str = ""
    is_reached: bool = True

    group = ""
    """The name under which the table lists lines of the same group; empty if there are no groups."""

    def cells(self) -> Sequence[str]:
        """Return the table's cells between the name and the target."""
        return (self.measured,)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


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
    ways: Mapping[Way, Callable[[], Figure]], rounds: int, what: str, progress: Progress
) -> Mapping[Way, Sequence[Figure]]:
    """Run each way once per round, in turns, so that a slow phase of the computer affects all of them.

    All run once beforehand, so that neither imports nor the first reads from disk are measured.
    """
    for way in ways.values():
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


def run(command: str, *, folder: str, **variables: str) -> int:
    """Run one of our commands, and return the peak memory in bytes of it and all processes that it starts.

    Each process counts with its own peak. The command runs in `folder`, which is also its home, with `variables` as its
    only settings. Raises CommandError if it fails.
    """
    words = [sys.executable, "-m", "scripts", command]
    env = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": f"{ROOT / 'function'}:{ROOT}", **variables}
    peak = 0
    with TemporaryFile("w+") as errors:
        process = psutil.Popen(words, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, sum(map(_peak_of, [process, *process.children(recursive=True)])))
            sleep(LOOK_S)
        if process.returncode:
            errors.seek(0)
            raise console.CommandError(f"{command} ended with {process.returncode}: {errors.read()[-500:]}")
    return peak


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
    """Show progress; warn first if the machine is busy, because a target may be missed for that reason alone."""
    with console.plain_errors("interrupted; nothing was measured"):
        if busy := console.busy():
            console.note(f"{busy}: times will be too long, and a target may be missed for that reason alone")
        with console.progress() as progress:
            yield progress


def finish(
    lines: Sequence[Measurement],
    *,
    as_json: bool,
    title: str = "{cores} cores",
    headings: Sequence[str] = ("Measured",),
) -> NoReturn:
    """Print all measurements and exit, with code 1 if a target is missed."""
    if as_json:
        console.print_json([line.as_json() for line in lines])
    else:
        console.OUT.print(to_table(lines, title.format(cores=cores()), headings))
    sys.exit(console.USABLE if all(line.is_reached for line in lines) else console.FAILED)


def to_table(lines: Sequence[Measurement], title: str, headings: Sequence[str]) -> Table:
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
            missed = "" if line.is_reached else "  MISSED"
            what = f"  {line.what}" if group else line.what
            table.add_row(what, *line.cells(), f"{line.target}{missed}", style="red" if missed else "")
    return table
