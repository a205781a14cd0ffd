"""The harness of the benchmarks: a figure beside its target, how time and memory are measured, and the table."""

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
"""Seconds between two looks at a command's memory: the kernel keeps each process's peak, so none is lost meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured figure beside its target; without a target it only informs."""

    what: str
    measured: str = ""
    target: str = ""
    is_reached: bool = True

    group = ""
    """Lines of one group stand below its name."""

    def cells(self) -> Sequence[str]:
        """Return what the table shows between the name and the target."""
        return (self.measured,)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


def is_at_least(ratio: float, least: float | None, what: str, measured: str) -> Measurement:
    """Return a ratio of two times that must not be below `least`; None means no target."""
    if least is None:
        return Measurement(what=what, measured=measured)
    return Measurement(what=what, measured=measured, target=f"≥ {least:g} times", is_reached=ratio >= least)


def is_below(figure: float, most: float, what: str, *, unit: str, digits: int = 0) -> Measurement:
    """Return a figure that must be below `most`."""
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

    All go once before that: imports, and what the disk has to read the first time, belong to none of them.
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


def run(module: str, *words: str, folder: str, **variables: str) -> int:
    """Run `python -m module words`; the most memory of it and of all it starts, each at its own peak so far, in bytes.

    It runs in `folder`, which is its home too, with no more variables than these. Raises CommandError if it fails.
    """
    command = [sys.executable, "-m", module, *words]
    env = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": f"{ROOT / 'function'}:{ROOT}", **variables}
    peak = 0
    with TemporaryFile("w+") as errors:
        process = psutil.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, sum(map(_peak_of, [process, *process.children(recursive=True)])))
            sleep(LOOK_S)
        if process.returncode:
            errors.seek(0)
            raise console.CommandError(f"python -m {module} ended with {process.returncode}: {errors.read()[-500:]}")
    return peak


def _peak_of(process: psutil.Process) -> int:
    """Return the bytes; 0 if the process is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


# --- showing -------------------------------------------------------------------------------------------------------


@contextmanager
def measuring() -> Iterator[Progress]:
    """Show how far it has come; say first if the machine is busy, for then a target may be missed for that."""
    with console.plain_errors("interrupted; nothing was measured"):
        if busy := console.busy():
            console.note(f"{busy}: times are too long, and a target may be missed for that alone")
        with console.progress() as progress:
            yield progress


def finish(
    lines: Sequence[Measurement],
    *,
    as_json: bool,
    title: str = "{cores} cores",
    headings: Sequence[str] = ("Measured",),
) -> NoReturn:
    """Print all that was measured; the exit code is 1 if a target is missed."""
    if as_json:
        console.print_json([line.as_json() for line in lines])
    else:
        console.OUT.print(to_table(lines, title.format(cores=cores()), headings))
    sys.exit(console.USABLE if all(line.is_reached for line in lines) else console.FAILED)


def to_table(lines: Sequence[Measurement], title: str, headings: Sequence[str]) -> Table:
    """Return the lines by group; those that miss their target are red."""
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
