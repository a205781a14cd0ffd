"""The cases whose measurements have a module of their own: the engines, sweep, layer, bill and tests."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from scripts import ROOT
from scripts.bench import harness
from scripts.bench.harness import Measurement
from scripts.layer.target import LayerError, Target, shorten_path
from trader.progress import Progress

MAX_LATER_S = {"prophet": 6.5, "map": 5.0}
MIN_STRATEGIES = 120
MAX_LAYER_MB, MAX_ZIP_MB = 100, 36
MAX_TESTS_CPU_S = 450


def engine(progress: Progress) -> list[Measurement]:
    """Compare the map engine with Prophet's loop."""
    from scripts.bench import engines

    _, lines = engines.speed(progress)
    return [*lines, *engines.growth(), engines.memory()]


def sweep(_progress: Progress) -> list[Measurement]:
    """Compare a sweep on one worker with the same on two."""
    from scripts.bench import sweeps

    return sweeps.measure()


def layer(_progress: Progress) -> list[Measurement]:
    """Count the bytes of the layer and of its zip. Raises LayerError if it is not built."""
    from scripts.layer.prune import files, size
    from scripts.layer.verify import unpack_zips

    target = find_layer()
    with unpack_zips(target.zip) as folder:
        unpacked_mb = size(files(folder / "layer" / "python")) / 1e6
    zip_mb = target.zip.stat().st_size / 1e6
    return [
        Measurement(
            what=what,
            measured=f"{mb:.1f} MB",
            target=f"≤ {max_mb} MB",
            is_reached=mb <= max_mb,
            is_timed=False,
            limit=f"{most} MB, which Lambda allows",
            figures={"mb": round(mb, 2)},
        )
        for what, mb, max_mb, most in (
            (f"the layer, {target.name}", unpacked_mb, MAX_LAYER_MB, 250),
            ("its zip", zip_mb, MAX_ZIP_MB, 50),
        )
    ]


def start(progress: Progress) -> list[Measurement]:
    """Compare a start from the layer with one from a plain `pip install`."""
    from scripts.bench import layers

    return [
        Measurement(
            what=f"{line.group}: {line.what}",
            measured=" against ".join((line.cells()[1], line.cells()[0])) + f": {line.ratio:.1f} times",
            target=line.target,
            is_reached=line.is_reached,
            is_timed=line.unit == "s",
            figures={"plain": line.plain, "ours": line.ours},
        )
        for line in layers.measure(find_layer(), progress)
    ]


def find_layer() -> Target:
    """Return the layer that ARCH and PYTHON name. Raises LayerError if it is not built or cannot run here."""
    target = Target.from_env(os.environ)
    if not target.zip.is_file():
        raise LayerError(f"there is no {shorten_path(target.zip)}: {target.make('layer')} builds it")
    if not target.runs_here:
        raise LayerError(f"this machine cannot run {target.arch}")
    return target


def bill(progress: Progress) -> list[Measurement]:
    """Measure what Lambda bills for a later run by engine, and how many strategies are free: `make cost ESTIMATE=1`."""
    find_layer()
    lines = []
    for number, (name, max_s) in enumerate(MAX_LATER_S.items()):
        lines += [*bill_of(estimate(name), name, max_s)]
        progress("make cost", number + 1, len(MAX_LATER_S))
    return lines


def estimate(engine: str) -> dict[str, Any]:
    """Return the estimate of a month with an engine, as `make cost` prints it."""
    names = ("ARCH", "PYTHON", "MEMORY")
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    settings = {"ESTIMATE": "1", "JSON": "1", "ENGINE": engine, **given}
    with tempfile.TemporaryDirectory() as home:
        env = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": f"{ROOT / 'function'}:{ROOT}", **settings}
        used = harness.watch([sys.executable, "-m", "scripts", "cost"], str(ROOT), env, "make cost")
    found: dict[str, Any] = json.loads(used.printed)
    return found


def bill_of(found: Mapping[str, Any], engine: str, max_s: float) -> list[Measurement]:
    """Return the lines of an engine's estimate."""
    later, free = found["runs"]["later"], found["strategies_that_fit"]
    return [
        Measurement(
            what=f"a later run on Lambda, ENGINE={engine}, cold, {found['memory_mb']:,} MB: billed",
            measured=f"{later['billed_s']:.2f} s, of which init {later['init_s']:.2f} s",
            target=f"≤ {max_s:g} s",
            is_reached=later["billed_s"] <= max_s,
            figures={"billed_s": round(later["billed_s"], 3), "init_s": round(later["init_s"], 3)},
        ),
        Measurement(
            what=f"strategies within Lambda's free tier, ENGINE={engine}",
            measured=f"{free:,}",
            target=f"≥ {MIN_STRATEGIES}",
            is_reached=free >= MIN_STRATEGIES,
            figures={"strategies": free},
        ),
    ]


def tests(_progress: Progress) -> list[Measurement]:
    """Measure the CPU time of `make test`. Raises CommandError if a test fails."""
    env = {name: value for name, value in os.environ.items() if name not in {"CASES", "JSON", "OUT", "MAKEFLAGS"}}
    used = harness.watch(["make", "test"], str(ROOT), env, "make test")
    return [
        Measurement(
            what="make test, CPU of all its processes",
            measured=f"{used.cpu_s:,.0f} s, in {used.wall_s:,.0f} s",
            target=f"≤ {MAX_TESTS_CPU_S} s",
            is_reached=used.cpu_s <= MAX_TESTS_CPU_S,
            figures={"cpu_s": round(used.cpu_s), "wall_s": round(used.wall_s)},
        )
    ]
