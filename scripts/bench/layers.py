"""`make bench-layer`: the finished layer compared with a plain one, made by `pip install` and zip, in alternating runs.

Two handlers are timed on each layer: the function as deployed, which imports a package when it needs it, and one that
imports everything at the top, as the original function did.
"""

import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts import console
from scripts.bench import harness
from scripts.bench.harness import Measurement
from scripts.layer.archive import replace_file, write_zip
from scripts.layer.build import MAX_BYTES, MAX_ZIP_BYTES
from scripts.layer.emulator import prepare_function
from scripts.layer.prune import files, size
from scripts.layer.sandbox_checks import PROBE
from scripts.layer.target import BUILD, LayerError, Target, shorten_path
from scripts.layer.verify import unpack_zips
from scripts.layer.wheels import ensure_installed
from scripts.testkit.lambda_runtime import Function, lambda_environment, running
from trader.progress import Progress

ROUNDS = 5
MIN_RATIO = 6.0
SUNDAY = {"time": "2022-12-25T20:45:00Z"}
"""An event that is refused at once, so that only the start is measured."""

PLAIN, OURS = "plain", "ours"
DEPLOYED, AT_TOP = "lambda_function.lambda_handler", "all_at_top.handler"
COMPARED = (
    ("all imports at the top on plain, the function on ours", AT_TOP, DEPLOYED),
    ("all imports at the top on both", AT_TOP, AT_TOP),
    ("the function on both", DEPLOYED, DEPLOYED),
)
"""The comparisons: name, handler on the plain layer, handler on ours. Only the first has a target, because it covers
the whole difference between a plain function and this one; the others show how much of it is due to the layer."""

FIGURES = {"import": "import_s", "init": "init_s", "memory after a start": "peak_mb"}
IMPORT = "import sys, time; t = time.perf_counter(); __import__(sys.argv[1]); print(time.perf_counter() - t)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMeasurement(Measurement):
    """A figure of the plain layer compared with ours; `ratio` is how many times smaller or faster ours is."""

    group: str
    plain: float
    ours: float
    unit: str

    @property
    def ratio(self) -> float:
        """The plain figure divided by ours."""
        return self.plain / self.ours

    def cells(self) -> Sequence[str]:
        """Return both figures and their ratio."""
        digits = 1 if self.unit == "MB" else 2
        return (*(f"{figure:.{digits}f} {self.unit}" for figure in (self.plain, self.ours)), f"{self.ratio:.1f}")

    def as_json(self) -> dict[str, Any]:
        """Return the fields and the ratio as JSON types."""
        return asdict(self) | {"ratio": round(self.ratio, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A cold start: import of the handler in a fresh Python, and init and peak memory behind the runtime interface."""

    import_s: float
    init_s: float
    peak_mb: float


def main() -> None:
    """Measure and print; the exit code is 1 if a target is missed."""
    with harness.measuring() as progress:
        target = Target.from_env(os.environ)
        if not target.runs_here:
            raise LayerError(f"this machine cannot run {target.arch}")
        if not target.zip.is_file():
            raise LayerError(f"there is no {shorten_path(target.zip)}: {target.make('layer')} builds it")
        lines = measure(target, progress)
    title = f"{target.name}, {{cores}} cores, {ROUNDS} starts each"
    harness.finish(lines, as_json=console.wants_json(), title=title, headings=("Plain", "Ours", "Ratio"))


def measure(target: Target, progress: Progress) -> list[LayerMeasurement]:
    """Measure bytes once and starts in turns, and return medians."""
    with functions(target, progress) as (ways, plain_bytes, ours_bytes):
        starts = harness.in_turns(
            {name: partial(start, function) for name, function in ways.items()}, ROUNDS, "starts", progress
        )
    return [*sizes(plain_bytes, ours_bytes), *times(starts)]


@contextmanager
def functions(
    target: Target, progress: Progress
) -> Iterator[tuple[Mapping[tuple[str, str], Function], tuple[int, int], tuple[int, int]]]:
    """Yield both handlers on both layers, and each layer's bytes, unpacked and zipped."""
    plain = ensure_installed(target, BUILD / f"plain-python{target.python}-{target.arch}")
    plain_zip = zip_task(plain, progress)
    with unpack_zips(target.zip) as folder:
        ours = folder / "layer" / "python"
        ways = {
            (layer, handler): prepare_function(target, folder / "task", [path, PROBE], handler)
            for (layer, path), handler in product({PLAIN: plain, OURS: ours}.items(), (DEPLOYED, AT_TOP))
        }
        plain_bytes = size(files(plain)), plain_zip.stat().st_size
        yield ways, plain_bytes, (size(files(ours)), target.zip.stat().st_size)


def zip_task(plain: Path, progress: Progress) -> Path:
    """Return the zip of the plain layer, made only if it is missing or older than the layer."""
    zip_file = plain.with_name(f"{plain.name}.zip")
    stamp = plain.with_name(f"{plain.name}.stamp")
    if not zip_file.is_file() or zip_file.stat().st_mtime < stamp.stat().st_mtime:
        with replace_file(zip_file) as part:
            write_zip(part, plain.parent, list(files(plain)), progress)
    return zip_file


def start(function: Function) -> Start:
    """Start the function twice: first only its import, then behind the runtime interface."""
    with TemporaryDirectory() as folder:
        env = {"TMPDIR": folder, "JOURNAL": f"folder:{folder}/journal", "ACCOUNT_FILE": f"{folder}/account.json"}
        done = subprocess.run(
            [function.python, "-S", "-c", IMPORT, function.handler.partition(".")[0]],
            check=True,
            cwd=function.task,
            env=lambda_environment(function) | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Prophet reports there that it cannot plot
            text=True,
        )
        with running(function, env) as interface:
            interface.invoke(SUNDAY)
            return Start(import_s=float(done.stdout), init_s=interface.init_ms / 1000, peak_mb=interface.peak_mb)


def sizes(plain: tuple[int, int], ours: tuple[int, int]) -> list[LayerMeasurement]:
    """Compare the bytes, unpacked and zipped."""
    return [
        LayerMeasurement(
            group="bytes",
            what=what,
            plain=plain[which] / 1e6,
            ours=ours[which] / 1e6,
            unit="MB",
            target=f"≤ {most / 1e6:.0f} MB",
            is_reached=ours[which] <= most,
        )
        for which, (what, most) in enumerate((("unpacked", MAX_BYTES), ("zipped", MAX_ZIP_BYTES)))
    ]


def times(starts: Mapping[tuple[str, str], Sequence[Start]]) -> list[LayerMeasurement]:
    """Compare the medians of the starts for each pair in COMPARED."""

    def line(group: str, what: str, figure: str, plain: str, ours: str) -> LayerMeasurement:
        was, now = (
            statistics.median(getattr(each, figure) for each in starts[way]) for way in ((PLAIN, plain), (OURS, ours))
        )
        unit, least = ("MB", None) if figure == "peak_mb" else ("s", MIN_RATIO if plain != ours else None)
        judged = harness.is_at_least(was / now, least, what, "")
        return LayerMeasurement(
            group=group, what=what, plain=was, ours=now, unit=unit, target=judged.target, is_reached=judged.is_reached
        )

    return [
        line(group, what, figure, plain, ours) for group, plain, ours in COMPARED for what, figure in FIGURES.items()
    ]
