"""`make verify-layer`: run the function from the layer's zip, in AWS's runtime interface and in a sandbox."""

import json
import os
import platform
import stat
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import TemporaryDirectory, TemporaryFile
from time import time
from typing import Any

from rich.table import Table

from scripts import ROOT, console
from scripts.layer import sandbox
from scripts.layer.archive import unpack
from scripts.layer.bytecode import is_taken
from scripts.layer.elf import check_machine, check_needs, is_elf
from scripts.layer.emulator import fetch_emulator
from scripts.layer.package import package
from scripts.layer.prune import files
from scripts.layer.sandbox_checks import CHECKS, Assignment, Findings
from scripts.layer.target import BUILD, BrokenLayerError, LayerError, Target, shorten_path
from trader.progress import Progress

LIMIT_BYTES = 262_144_000
"""Lambda's limit for the function and its layers, unpacked."""

MAX_AFTER_INIT_MB = 150
PASSES = len(CHECKS) + 2  # unpacking and make run come first
WORK = "verify"
LEFT_S = 3_600
"""Age in seconds of a folder left behind by a killed verification; a verification takes half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of verification. If `findings` is None, the layer could not be run here, and `not_run` says why."""

    findings: Findings | None
    not_run: str = ""
    not_walled: str = ""  # why the sandbox could not be created; empty if it was


def verify(target: Target, zip_file: Path, progress: Progress) -> Verdict:
    """Check a layer's zip, and run the function from it. Raises LayerError if a check fails."""
    progress(WORK, 0, PASSES)
    check_archive(zip_file)
    with unpack_zips(zip_file) as folder:
        check_contents(target, folder / "layer" / "python")
        progress(WORK, 1, PASSES)
        if not target.runs_here:
            here, there = f"{sys.platform} {platform.machine()}", f"linux {target.machine}"
            return Verdict(
                findings=None,
                not_run=f"{here} cannot run it: run {target.make('verify-layer')} on {there} with this zip",
            )
        expected = decisions_of_make_run()
        progress(WORK, 2, PASSES)
        not_walled = sandbox.missing()
        findings = run_inside(target, folder, expected, is_walled=not not_walled, progress=progress)
    if findings.after_init_mb > MAX_AFTER_INIT_MB:
        raise BrokenLayerError(
            f"the function uses {findings.after_init_mb:.0f} MB after init, more than the {MAX_AFTER_INIT_MB} allowed"
        )
    gaps = [name for name, holds in findings.enforced.items() if not holds]
    if gaps and console.flag("CI"):
        raise LayerError(
            f"CI must enforce these, but this machine does not: {', '.join(gaps)} "
            f"({not_walled or 'the sandbox has a gap'})"
        )
    return Verdict(findings=findings, not_walled=not_walled)


def check_archive(zip_file: Path) -> None:
    """Check layout, modes and sizes without running anything. Raises BrokenLayerError."""
    try:
        with zipfile.ZipFile(zip_file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise BrokenLayerError(f"{zip_file.name} cannot be read: {error}") from error
    for entry in entries:
        mode, path = entry.external_attr >> 16, PurePosixPath(entry.filename)
        if path.parts[:1] != ("python",) or ".." in path.parts:
            raise BrokenLayerError(f"{zip_file.name}: {entry.filename} is not in python/, where Lambda looks")
        if not entry.is_dir() and not mode & stat.S_IROTH:
            raise BrokenLayerError(
                f"{zip_file.name}: {entry.filename} has mode {mode & 0o777:o}: Lambda's user cannot read it"
            )
    sizes = Counter[str]()
    for entry in entries:
        sizes["/".join(PurePosixPath(entry.filename).parts[1:2])] += entry.file_size
    if too_much := excess("unpacked", sizes.total(), LIMIT_BYTES, sizes):
        raise BrokenLayerError(too_much)


def excess(what: str, size: int, most: int, sizes: Mapping[str, int]) -> str:
    """Return a message that names the biggest parts if `size` exceeds `most` (both in bytes); empty otherwise."""
    biggest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    names = ", ".join(f"{name} {part / 1e6:.1f} MB" for name, part in biggest)
    told = f"the layer is {size:,} bytes {what}, but {most:,} are allowed; the biggest parts: {names}"
    return told if size > most else ""


def check_contents(target: Target, tree: Path) -> None:
    """Check the unpacked files: machine, system libraries, bytecode. Raises BrokenLayerError."""
    compiled_files = [file for file in files(tree) if is_elf(file)]
    check_machine(compiled_files, target)
    check_needs(compiled_files)
    for source in tree.rglob("*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-{target.python.replace('.', '')}.pyc"
        if not compiled.is_file() or not is_taken(compiled, target):
            raise BrokenLayerError(f"{source.relative_to(tree)} has no bytecode that Python {target.python} can load")


@contextmanager
def unpack_zips(zip_file: Path, function_zip: Path | None = None) -> Iterator[Path]:
    """Yield a folder that contains `layer` (for /opt) and `task` (for /var/task), all files read-only.

    The function is zipped again, unless its zip is given.
    """
    BUILD.mkdir(exist_ok=True)
    for left in BUILD.glob("verify-*"):  # left behind by a killed verification
        if left.stat().st_mtime < time() - LEFT_S:
            rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=BUILD, prefix="verify-") as name:
        folder = Path(name)
        unpack(zip_file, folder / "layer")
        unpack(function_zip or package(zip_file=folder / "function.zip"), folder / "task")
        yield folder


def decisions_of_make_run() -> dict[str, Any]:
    """Return the report of `make run` with its defaults, run in a temporary folder."""
    with TemporaryDirectory() as folder:
        env = {"PATH": os.environ["PATH"], "HOME": folder, "JSON": "1", "PYTHONPATH": python_path()}
        command = [sys.executable, "-m", "scripts", "run"]
        done = subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise LayerError(f"make run, with which the layer is compared, failed:\n{done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def python_path() -> str:
    """Return the absolute PYTHONPATH of this repository's modules."""
    return os.pathsep.join(str(path) for path in (ROOT / "function", ROOT))


def run_inside(
    target: Target, folder: Path, expected: Mapping[str, Any], *, is_walled: bool, progress: Progress
) -> Findings:
    """Run sandbox_checks, in the sandbox if there is one. Raises LayerError for the first check that fails."""
    layer, task = folder / "layer", folder / "task"
    words: list[str] = []
    if is_walled:
        places = {"/opt/python": layer / "python", "/var/task": task}
        layer, task = Path("/opt"), Path("/var/task")
        python = target.interpreter().parent.parent
        words += sandbox.command(places, sandbox.enclosing([ROOT, Path(sys.prefix), Path(sys.base_prefix), python]))
    assigned = asdict(assignment(target, layer, task, expected))
    words += [sys.executable, "-m", "scripts.layer.sandbox_checks", json.dumps(assigned)]
    tmp = folder / "tmp"
    tmp.mkdir()
    env = {} if is_walled else {"TMPDIR": str(tmp)}  # the sandbox has its own empty /tmp
    env |= {"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONPATH": python_path(), "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: S108 the sandbox has no other home
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None, "requested above"
        if findings := read_findings(process.stdout, progress):
            return findings
        errors.seek(0)
        raise LayerError(f"verification ended without a result:\n{errors.read()[-3000:].strip()}")


def assignment(target: Target, layer: Path, task: Path, expected: Mapping[str, Any]) -> Assignment:
    """Return the paths of everything that is needed to run the function from these folders."""
    tools, emulator = fetch_emulator(target)
    return Assignment(
        python=str(target.interpreter()),
        tools=str(tools),
        emulator=str(emulator),
        task=str(task),
        layer=str(layer / "python"),
        expected=expected,
    )


def read_findings(lines: Iterable[str], progress: Progress) -> Findings | None:
    """Read what sandbox_checks prints, line by line, up to its findings; None if it prints none. Raises LayerError."""
    for done, line in enumerate(lines, start=3):
        message = json.loads(line)
        if "failed" in message:
            kind = BrokenLayerError if message["is_of_the_layer"] else LayerError
            raise kind(f'verification failed at "{message["failed"]}":\n{message["because"]}')
        if "findings" in message:
            return Findings(**message["findings"])
        progress(WORK, done, PASSES)
    return None


def show(verdict: Verdict) -> None:
    """Print the checks and findings of verification as a table."""
    if verdict.findings is None:
        console.OUT.print(" checked   layout, modes, sizes, machine, bytecode", markup=False)
        console.OUT.print(f" NOT RUN   {verdict.not_run}", style="bold yellow", markup=False, soft_wrap=True)
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
    console.OUT.print(table)
    if verdict.not_walled:
        console.OUT.print(f" no sandbox: {verdict.not_walled}", style="yellow", markup=False, soft_wrap=True)


def put_aside(zip_file: Path, target: Target, error: BrokenLayerError) -> BrokenLayerError:
    """Rename a zip that failed so that nobody mistakes it for a layer; return an error that says so."""
    aside = target.zip.with_suffix(".failed")
    aside.parent.mkdir(exist_ok=True)
    zip_file.replace(aside)
    return BrokenLayerError(f"{error}\nthe zip is now {shorten_path(aside)}; {target.make('layer')} builds a new one")


def main() -> None:
    """Verify the finished layer; put a faulty one aside. Exit with code 1 if it is faulty or could not be run here."""
    with console.plain_errors(interrupted="interrupted; layer/dist is unchanged"):
        target = Target.from_env(os.environ)
        if not target.zip.is_file():
            raise LayerError(f"{shorten_path(target.zip)} does not exist; build it with {target.make('layer')}")
        try:
            with console.progress() as progress:
                verdict = verify(target, target.zip, progress)
        except BrokenLayerError as error:
            raise put_aside(target.zip, target, error) from error
        if console.flag("JSON"):
            console.print_json(verdict)
        else:
            show(verdict)
        sys.exit(console.USABLE if verdict.findings else console.FAILED)
