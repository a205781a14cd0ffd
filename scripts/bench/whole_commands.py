"""Whole commands, from the start of Python to their end: `make run`, and `make backtest` of the sample's two years.

Each runs in a process of its own, as make starts it, and in an empty folder. With BASELINE=COMMIT the same command of
an earlier commit runs in turns with it, with the packages of today.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from scripts import ROOT
from scripts.bench import engines, forecast_stage, harness
from scripts.bench.harness import Measurement, Usage
from scripts.console import CommandError
from trader.deadline import Deadline
from trader.progress import Progress

RUN_ROUNDS, SAMPLE_ROUNDS, IMPORT_ROUNDS = 5, 3, 3
MAX_RUN_S, MAX_RUN_MB = 1.2, 300
MIN_SAMPLE_RATIO = 3.0
"""How many times faster than the baseline the two years of the sample must be."""

SYMBOLS = 500
"""The number of symbols that are fitted together to find the time of a fit."""

BEST = 20
"""The symbols that a backtest judges at each bar, by default."""

QUICK = {"backtest": {"ENGINE": "map", "START": "2022-12-01"}}
"""Settings with which a command imports all that it needs, and does little work."""

IMPORTED = """
import json, os, sys
try:
    from scripts.__main__ import main
    main()
finally:
    with open(os.environ["MODULES"], "w") as file:
        json.dump([name for name in sys.modules if name != "__main__"], file)
"""
"""A command that writes down, in order, which modules it has imported."""

IMPORT = """
import json, os, sys, time
from importlib import import_module
names = json.load(open(os.environ["MODULES"]))
begun = time.process_time()
for name in names:
    try:
        import_module(name)
    except Exception:
        pass
print(time.process_time() - begun)
"""
"""Only those imports. A name that cannot be imported alone was put into sys.modules by another's import."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command with its settings, and a folder in which each run of it gets an empty one."""

    name: str
    settings: Mapping[str, str]
    folder: Path
    root: Path = ROOT

    def use(self) -> Usage:
        """Run the command, and return what it used. All runs share a home, so that only the first fills its caches."""
        with TemporaryDirectory(dir=self.folder) as empty:
            return harness.use(self.name, empty, {**self.settings, "HOME": str(self.folder)}, self.root)


@dataclass(frozen=True, slots=True)
class Found:
    """What the runs of a command used, and of those of the baseline, if there is one."""

    now: Sequence[Usage]
    before: Sequence[Usage]

    @property
    def usage(self) -> Usage:
        """The run of median duration."""
        return sorted(self.now, key=lambda each: each.wall_s)[len(self.now) // 2]

    @property
    def largest_mb(self) -> float:
        """The highest peak of the main process."""
        return max(each.largest for each in self.now) / 1e6

    @property
    def ratio(self) -> float | None:
        """How many times as long the baseline takes: the median of the rounds' ratios."""
        pairs = zip(self.before, self.now, strict=False)
        return statistics.median(was.wall_s / now.wall_s for was, now in pairs) if self.before else None

    def describe(self) -> str:
        """Return the run of median duration in words, beside that of the baseline."""
        if not self.before:
            return self.usage.describe()
        was = sorted(self.before, key=lambda each: each.wall_s)[len(self.before) // 2]
        return f"{self.usage.describe()}; at {os.environ['BASELINE']}: {was.describe()}"

    def figures(self) -> dict[str, float]:
        """Return the numbers."""
        found = {"wall_s": self.usage.wall_s, "cpu_s": self.usage.cpu_s, "peak_mb": self.largest_mb}
        if self.ratio is not None:
            found |= {"times_as_fast": self.ratio}
        return {name: round(value, 3) for name, value in found.items()}


def run(progress: Progress) -> list[Measurement]:
    """Measure `make run`, and what it cannot do without: its imports, and its forecasts once all is imported."""
    found = measure("run", {}, RUN_ROUNDS, progress)
    imports_s, fits_s = import_s("run"), forecast_stage.default_s()
    rest_s = max(found.usage.wall_s - imports_s - fits_s, 0.0)
    return [
        Measurement(
            what="make run",
            measured=found.describe(),
            target=f"≤ {MAX_RUN_S:g} s",
            is_reached=found.usage.wall_s <= MAX_RUN_S,
            limit=f"{imports_s + fits_s:.1f} s: imports {imports_s:.2f}, the forecasts of 20 symbols {fits_s:.2f}",
            bound=f"imports and forecasts, and {rest_s:.1f} s for all else: orders, record and page",
            figures={**found.figures(), "imports_s": round(imports_s, 3), "fits_s": round(fits_s, 3)},
        ),
        harness.is_below(found.largest_mb, MAX_RUN_MB, "peak memory of make run", unit="MB"),
    ]


def sample(progress: Progress) -> list[Measurement]:
    """Measure two years of the sample with the map engine: `make backtest ENGINE=map`, with its page and statistics."""
    found = measure("backtest", {"ENGINE": "map", "JSON": "1"}, SAMPLE_ROUNDS, progress)
    made = json.loads(found.usage.printed)
    fits = BEST * count_bars(made)
    return [
        Measurement(
            what="make backtest ENGINE=map, two years of the sample",
            measured=found.describe(),
            target=f"≥ {MIN_SAMPLE_RATIO:g} times as fast as then" if found.ratio is not None else "",
            is_reached=found.ratio is None or found.ratio >= MIN_SAMPLE_RATIO,
            limit=limit(fits, import_s("backtest")),
            bound=bound(made, found.usage),
            figures=found.figures() | {"fits": fits},
        )
    ]


# --- the parts of a measurement ---------------------------------------------------------------------------------------


def measure(name: str, settings: Mapping[str, str], rounds: int, progress: Progress) -> Found:
    """Run a command in each round, in turns with the baseline's if there is one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        ways: dict[str, Callable[[], Usage]] = {"now": Command(name, settings, folder).use}
        if commit := os.environ.get("BASELINE"):
            ways["before"] = Command(name, settings, folder, stack.enter_context(check_out(commit))).use
        found = harness.in_turns(ways, rounds, f"make {name}", progress)
    return Found(found["now"], found.get("before", ()))


@contextmanager
def check_out(commit: str) -> Iterator[Path]:
    """Yield a folder with the code of a commit. Raises CommandError if there is none."""
    try:
        done = subprocess.run(
            ["git", "archive", commit, "function", "scripts", "rules"], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise CommandError(f"BASELINE={commit}: git has no such commit here; give one of git log") from error
    with TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


@cache
def import_s(command: str) -> float:
    """Return the CPU seconds to import what a command imports, and nothing else: the least of some processes."""
    with TemporaryDirectory() as folder:
        env = harness.isolate(folder) | {"MODULES": f"{folder}/modules.json", **QUICK.get(command, {})}
        harness.watch([sys.executable, "-c", IMPORTED, command], folder, env, command)
        rounds = [
            harness.watch([sys.executable, "-c", IMPORT], folder, env, "the imports") for _ in range(IMPORT_ROUNDS)
        ]
    return min(float(each.printed.splitlines()[-1]) for each in rounds)


@cache
def fit_s() -> float:
    """Return the CPU seconds of a fit of the map engine, when 500 symbols of 250 bars are fitted together."""
    closes, forecaster = engines.closes(SYMBOLS, engines.BARS), engines.ours()
    rounds = []
    for _ in range(1 + engines.ROUNDS):  # the first warms up
        begun_s = process_time()
        forecaster.forecast(closes, Deadline.never())
        rounds.append(process_time() - begun_s)
    return min(rounds) / SYMBOLS


def count_bars(made: Mapping[str, Any]) -> int:
    """Return the number of bars on which a backtest decided, from its figures."""
    return sum(made["statuses"].values())


def limit(fits: int, imports_s: float) -> str:
    """Return the limit of a backtest in words: its fits, one after another, and its imports."""
    return f"{fits * fit_s() + imports_s:.1f} s: {fits:,} fits x {1e6 * fit_s():.1f} µs, imports {imports_s:.1f} s"


def bound(made: Mapping[str, Any], usage: Usage) -> str:
    """Return in words what the time of a backtest is made of, by its own clock, the largest part first."""
    parts = {**made["timings_s"]}
    parts["all before and after the bars"] = max(usage.wall_s - sum(parts.values()), 0.0)
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {time_s / usage.wall_s:.0%}" for name, time_s in ordered if time_s)
