"""`make verify-layer`: the function run from the layer's zip, in AWS's runtime interface and walled in like Lambda."""

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from rich.table import Table

from layer import sandbox
from layer.archive import unpack
from layer.emulator import fetched
from layer.inside import CHECKS, Assignment, Findings
from layer.package import package
from layer.target import BUILD, ROOT, BrokenLayerError, LayerError, Target, shown
from scripts import terminal
from trader.prices import Progress

LIMIT_BYTES = 262_144_000
"""What Lambda lets function and layers have unpacked."""

MOST_BYTES = 135_000_000
MOST_ZIP_BYTES = 45_000_000
MOST_AFTER_INIT_MB = 150
PASSES = len(CHECKS) + 2  # unpacking and make run come first
WORK = "verify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What verification found. Without `findings` the layer could not be run here, and `not_run` says why."""

    findings: Findings | None
    not_run: str = ""
    not_walled: str = ""  # why the sandbox could not be made, if so


def verify(target: Target, zip_file: Path, progress: Progress) -> Verdict:
    """Check a layer's zip, and run the function from it. Raises LayerError with what is wrong with it."""
    check_archive(zip_file)
    if not target.runs_here:
        return Verdict(
            findings=None, not_run=f"this machine cannot run {target.arch}: make verify-layer on one that can"
        )
    with unpacked(zip_file) as folder:
        progress(WORK, 1, PASSES)
        expected = decisions_of_make_run()
        progress(WORK, 2, PASSES)
        not_walled = sandbox.missing()
        findings = run_inside(target, folder, expected, is_walled=not not_walled, progress=progress)
    if findings.after_init_mb > MOST_AFTER_INIT_MB:
        raise BrokenLayerError(
            f"after init the function holds {findings.after_init_mb:.0f} MB: more than {MOST_AFTER_INIT_MB}"
        )
    gaps = [name for name, holds in findings.enforced.items() if not holds]
    if gaps and terminal.flag("CI"):
        raise LayerError(
            f"not enforced here, and CI must: {', '.join(gaps)} ({not_walled or 'the sandbox has a hole'})"
        )
    return Verdict(findings=findings, not_walled=not_walled)


def check_archive(zip_file: Path) -> None:
    """What can be seen without running anything: layout, modes, sizes. Raises BrokenLayerError."""
    try:
        with zipfile.ZipFile(zip_file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise BrokenLayerError(f"{zip_file.name} cannot be read: {error}; make layer builds it") from error
    for entry in entries:
        mode, path = entry.external_attr >> 16, PurePosixPath(entry.filename)
        if path.parts[:1] != ("python",) or ".." in path.parts:
            raise BrokenLayerError(f"{zip_file.name}: {entry.filename} is not below python/, where Lambda looks")
        if not entry.is_dir() and not mode & stat.S_IROTH:
            raise BrokenLayerError(
                f"{zip_file.name}: {entry.filename} has mode {mode & 0o777:o}: Lambda's user cannot read it"
            )
    check_budget(sum(entry.file_size for entry in entries), zip_file.stat().st_size, biggest(entries))


def check_budget(unpacked_bytes: int, zip_bytes: int, biggest_parts: str) -> None:
    """Raises BrokenLayerError if a layer is larger than it may be; `biggest_parts` says where to look."""
    for what, size, most in (("unpacked", unpacked_bytes, MOST_BYTES), ("zipped", zip_bytes, MOST_ZIP_BYTES)):
        if size > most:
            raise BrokenLayerError(
                f"the layer has {size:,} bytes {what}, and {most:,} are allowed; the biggest parts: {biggest_parts}"
            )


def biggest(entries: list[zipfile.ZipInfo], count: int = 5) -> str:
    """The folders below python/ with the most in them."""
    sizes: dict[str, int] = {}
    for entry in entries:
        part = (PurePosixPath(entry.filename).parts[1:] or ("",))[0]
        sizes[part] = sizes.get(part, 0) + entry.file_size
    top = sorted(sizes.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in top)


@contextmanager
def unpacked(zip_file: Path) -> Iterator[Path]:
    """A folder with `layer` (as /opt) and `task` (as /var/task) in it, no file of which can be written."""
    BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=BUILD, prefix="verify-") as name:
        folder = Path(name)
        unpack(zip_file, folder / "layer")
        unpack(package(zip_file=folder / "function.zip"), folder / "task")
        yield folder


def decisions_of_make_run() -> dict[str, Any]:
    """The report of `make run` with its defaults, in a folder of its own."""
    with TemporaryDirectory() as folder:
        env = {"PATH": os.environ["PATH"], "HOME": folder, "JSON": "1", "PYTHONPATH": python_path()}
        command = [sys.executable, "-m", "scripts.run_local"]
        done = subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise LayerError(f"make run, which the layer is compared with, fails by itself:\n{done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def python_path() -> str:
    """Where this repository's modules are, from anywhere."""
    return os.pathsep.join(str(path) for path in (ROOT / "function", ROOT))


def run_inside(
    target: Target, folder: Path, expected: Mapping[str, Any], *, is_walled: bool, progress: Progress
) -> Findings:
    """Let layer.inside do its checks, in the sandbox if there is one. Raises LayerError with the first that fails."""
    python = target.interpreter()
    tools, emulator = fetched(target)
    layer, task = folder / "layer", folder / "task"
    words: list[str] = []
    if is_walled:
        places = {"/opt": layer, "/var/task": task}
        layer, task = (Path(place) for place in places)
        visible = sandbox.enclosing([ROOT, Path(sys.prefix), Path(sys.base_prefix), python.parent.parent])
        words += sandbox.command(places, visible)
    assignment = Assignment(
        python=str(python),
        tools=str(tools),
        emulator=str(emulator),
        task=str(task),
        layer=str(layer / "python"),
        expected=expected,
    )
    words += [sys.executable, "-m", "layer.inside", json.dumps(asdict(assignment))]
    env = {"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONPATH": python_path(), "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108 there is no other home
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None, "asked for above"
        done = 2
        for line in process.stdout:
            message = json.loads(line)
            if "failed" in message:
                raise BrokenLayerError(f'verification failed at "{message["failed"]}":\n{message["because"]}')
            if "findings" in message:
                return Findings(**message["findings"])
            done += 1
            progress(WORK, done, PASSES)
        errors.seek(0)
        raise LayerError(f"verification ended without a result:\n{errors.read()[-3000:].strip()}")


def show(verdict: Verdict) -> None:
    """What verification did and found, as a table."""
    if verdict.findings is None:
        terminal.OUT.print(f" NOT RUN: {verdict.not_run}", style="bold yellow", markup=False)
        return
    findings = verdict.findings
    table = Table(title="The function, run from the layer", title_justify="left")
    table.add_column("Check")
    table.add_column("Result")
    for check in CHECKS:
        table.add_row(check, "passed")
    table.add_row("init in the runtime interface", f"{findings.init_ms:,.0f} ms")
    table.add_row("memory after init", f"{findings.after_init_mb:,.0f} MB")
    table.add_row("peak memory of a run (Python's)", f"{findings.peak_mb:,.0f} MB")
    for wall, holds in findings.enforced.items():
        table.add_row(wall, "enforced" if holds else "NOT ENFORCED HERE", style="" if holds else "yellow")
    terminal.OUT.print(table)
    if verdict.not_walled:
        terminal.OUT.print(f" no sandbox: {verdict.not_walled}", style="yellow", markup=False)


def main() -> None:
    """Verify the finished layer; one that fails is put aside."""
    with terminal.plain_errors():
        target = Target.from_env(os.environ)
        if not target.zip.is_file():
            raise LayerError(f"there is no {shown(target.zip)}: make layer builds it")
        try:
            with terminal.progress() as progress:
                verdict = verify(target, target.zip, progress)
        except BrokenLayerError as error:
            aside = target.zip.with_suffix(".failed")
            target.zip.replace(aside)
            raise BrokenLayerError(f"{error}\nthe zip is now {shown(aside)}") from error
        show(verdict)


if __name__ == "__main__":
    main()
