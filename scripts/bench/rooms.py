"""The cases whose measurements have a module of their own: the sweep, layer, bill and tests."""

import os

from scripts import ROOT
from scripts.bench import harness
from scripts.bench.harness import Measurement
from scripts.layer.target import LayerError, Target, shorten_path
from trader.progress import Progress

MAX_LAYER_MB, MAX_ZIP_MB = 100, 36
MAX_TESTS_CPU_S = 450


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


def find_layer() -> Target:
    """Return the layer that ARCH and PYTHON name. Raises LayerError if it is not built or cannot run here."""
    target = Target.from_env(os.environ)
    if not target.zip.is_file():
        raise LayerError(f"there is no {shorten_path(target.zip)}: {target.make('layer')} builds it")
    if not target.runs_here:
        raise LayerError(f"this machine cannot run {target.arch}")
    return target


def bill(progress: Progress) -> list[Measurement]:
    """Measure what Lambda bills for a later run by engine, and how many strategies are free: see `make bench-cost`."""
    from scripts.bench import memories

    find_layer()
    return memories.bill(progress)


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
