"""`make layer`: install wheels, prune, strip, compile and zip them, and verify the result before it is published."""

import importlib.metadata
import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from filelock import FileLock, Timeout
from rich.table import Table

from scripts import console
from scripts.layer import bytecode, elf, manifest, verify
from scripts.layer.archive import HINDRANCES, remedy, replace_file, sha256, write_zip
from scripts.layer.prune import files, list_documented, prune, read_rules
from scripts.layer.target import BUILD, REQUIREMENTS, BrokenLayerError, LayerError, Target, shorten_path
from scripts.layer.wheels import install
from trader.progress import Progress, no_progress

MAX_BYTES = 100_000_000
MAX_ZIP_BYTES = 36_000_000
"""The budget: two fifths of Lambda's limit unpacked; less than the 50 MB limit of a direct upload zipped."""

SMALL_BYTES = 500_000
"""Packages smaller than this share one line of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A package's size in bytes, as installed and in the layer."""

    name: str
    version: str
    before_bytes: int
    after_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripped:
    """The result of stripping the compiled files. `left` names those not stripped: without a tool, all of them."""

    tool: str | None
    files: int
    left: Sequence[str]

    def __str__(self) -> str:
        if not self.tool:
            return (
                "NOT STRIPPED: no strip tool here can read these files (on Debian and Ubuntu: apt install binutils, or "
                "binutils-aarch64-linux-gnu for arm64)"
            )
        but = f" except {', '.join(self.left)}, which would not load if stripped" if self.left else ""
        return f"with {self.tool}, all {self.files} compiled files{but}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A layer's zip, not yet verified, and its contents."""

    zip: Path
    parts: Sequence[Part]
    stripped: Stripped

    @property
    def before_bytes(self) -> int:
        """Size of the packages as installed, without bytecode."""
        return sum(part.before_bytes for part in self.parts)

    @property
    def after_bytes(self) -> int:
        """Size of what Lambda unpacks."""
        return sum(part.after_bytes for part in self.parts)


def build(target: Target, work: Path, progress: Progress) -> Built:
    """Build the zip in the folder `work`. Raises LayerError if it cannot be built."""
    python = target.interpreter()
    progress("wheels", 0, 1)
    tree = work / "python"
    install(target, tree, REQUIREMENTS)
    owners = owners_of(tree)
    before = sizes_by_owner(tree, owners)
    progress("wheels", 1, 1)
    prune(tree, read_rules(), progress)
    stripped = strip(target, tree, progress)
    progress("bytecode", 0, 1)
    bytecode.compile_bare(python, tree, list_documented(tree))
    progress("bytecode", 1, 1)
    after = sizes_by_owner(tree, owners)
    parts = [
        Part(name=name, version=version, before_bytes=before[name, version], after_bytes=after.get((name, version), 0))
        for name, version in sorted(before)
    ]
    zip_file = work / target.zip.name
    with replace_file(zip_file) as part:
        write_zip(part, work, list(files(tree)), progress)
    built = Built(zip=zip_file, parts=parts, stripped=stripped)
    if stripped.tool:  # an unstripped layer only has to meet Lambda's own limit
        check_budget(built)
    return built


def check_budget(built: Built) -> None:
    """Raise LayerError, naming the biggest parts, if a layer is over the budget."""
    sizes = {part.name: part.after_bytes for part in built.parts}
    if too_much := (
        verify.excess("unpacked", built.after_bytes, MAX_BYTES, sizes)
        or verify.excess("zipped", built.zip.stat().st_size, MAX_ZIP_BYTES, sizes)
    ):
        raise LayerError(too_much)


type Owner = tuple[str, str]
"""A package's name and version."""


def owners_of(plain: Path) -> Mapping[str, Owner]:
    """Map each path below the folder of installed packages to the package that installed it."""
    owners: dict[str, Owner] = {}
    for distribution in importlib.metadata.distributions(path=[str(plain)]):
        owner = distribution.name, distribution.version  # read once: each access parses METADATA
        owners |= dict.fromkeys(map(os.path.normpath, distribution.files or ()), owner)
    return owners


def sizes_by_owner(tree: Path, owners: Mapping[str, Owner]) -> Counter[Owner]:
    """Return the bytes of each package; bytecode is counted with its source."""
    sizes = Counter[Owner]()
    for file in files(tree):
        is_cached = file.parent.name == "__pycache__"
        source = importlib.util.source_from_cache(str(file)) if is_cached else str(file)
        sizes[owners.get(os.path.relpath(source, tree), ("(installer)", ""))] += file.stat().st_size
    return sizes


def strip(target: Target, tree: Path, progress: Progress = no_progress) -> Stripped:
    """Strip all compiled files that can be stripped. Raises LayerError for files built for another machine."""
    compiled = sorted(file for file in files(tree) if elf.is_elf(file))
    elf.check_machine(compiled, target)
    tool = elf.strip_tool(target, compiled[0]) if compiled else None
    left = elf.strip(tool, compiled, progress) if tool else compiled
    return Stripped(tool=tool, files=len(compiled), left=[str(file.relative_to(tree)) for file in left])


@contextmanager
def workplace(target: Target) -> Iterator[Path]:
    """Yield an empty folder for one build, then delete it. Raises LayerError if the target is already being built."""
    prefix = f"build-{target.name}-"
    try:
        BUILD.mkdir(exist_ok=True)
        with FileLock(BUILD / f"{target.name}.lock", timeout=0):
            for left in BUILD.glob(f"{prefix}*"):  # left behind by a killed build
                shutil.rmtree(left)
            with TemporaryDirectory(dir=BUILD, prefix=prefix) as name:
                yield Path(name)
    except Timeout as error:
        raise LayerError(f"{target.name} is already being built; wait for that build to end") from error
    except OSError as error:
        if error.errno not in HINDRANCES:
            raise
        raise LayerError(f"{target.name} cannot be built: {error.strerror}; {remedy(error, BUILD)}") from error


def show(target: Target, built: Built, verdict: verify.Verdict, seconds: float) -> None:
    """Print the layer's packages as a table, the biggest first, and the key figures."""
    table = Table(title=target.name, title_justify="left", show_footer=True)
    table.add_column("Package", "total")
    table.add_column("Version")
    table.add_column("Installed, MB", f"{built.before_bytes / 1e6:,.1f}", justify="right")
    table.add_column("In the layer, .pyc included", f"{built.after_bytes / 1e6:,.1f}", justify="right")
    rows = sorted(built.parts, key=lambda part: (-part.after_bytes, -part.before_bytes))
    small = [part for part in rows if max(part.before_bytes, part.after_bytes) < SMALL_BYTES]
    for part in rows:
        if part not in small:
            after = f"{part.after_bytes / 1e6:,.1f}" if part.after_bytes else "-"
            table.add_row(part.name, part.version, f"{part.before_bytes / 1e6:,.1f}", after)
    before_bytes, after_bytes = sum(part.before_bytes for part in small), sum(part.after_bytes for part in small)
    table.add_row(f"{len(small)} small packages", "", f"{before_bytes / 1e6:,.1f}", f"{after_bytes / 1e6:,.1f}")
    console.OUT.print(table)
    share = built.after_bytes / verify.LIMIT_BYTES
    console.OUT.print(f" unpacked  {built.after_bytes:>11,} bytes, bytecode included: {share:.0%} of Lambda's limit")
    console.OUT.print(f" zipped    {target.zip.stat().st_size:>11,} bytes")
    console.OUT.print(f" stripped  {built.stripped}", soft_wrap=True)
    console.OUT.print(f" sha256    {sha256(target.zip)}", soft_wrap=True)
    done = "built and verified" if verdict.findings else "built, not run"
    console.OUT.print(
        f" {done} in {seconds:.0f} s: {shorten_path(target.zip)}", style="green" if verdict.findings else ""
    )


def as_json(target: Target, built: Built, verdict: verify.Verdict, seconds: float) -> dict[str, Any]:
    """Return the figures that `show` prints, for JSON."""
    return {
        "zip": shorten_path(target.zip),
        "sha256": sha256(target.zip),
        "python": target.python,
        "architecture": target.arch,
        "unpacked_bytes": built.after_bytes,
        "zip_bytes": target.zip.stat().st_size,
        "stripped": built.stripped,
        "seconds": round(seconds, 1),
        "parts": built.parts,
        "verified": verdict,
    }


def main() -> None:
    """Build and verify the layer, and only then move the zip to layer/dist."""
    with console.plain_errors(interrupted="interrupted; layer/dist is unchanged"):
        target = Target.from_env(os.environ)
        begun = perf_counter()
        with workplace(target) as work:
            sources = manifest.hash_sources()  # before the build, so that a change during it triggers a rebuild
            with console.progress() as progress:
                built = build(target, work, progress)
                try:
                    verdict = verify.verify(target, built.zip, progress)
                except BrokenLayerError as error:
                    raise verify.put_aside(built.zip, target, error) from error
            described = manifest.describe(
                target, built.zip, unpacked_bytes=built.after_bytes, verdict=verdict, sources=sources
            )
            target.zip.parent.mkdir(exist_ok=True)
            built.zip.replace(target.zip)
            manifest.write(target, described)
            target.zip.with_suffix(".failed").unlink(missing_ok=True)
        seconds = perf_counter() - begun
        if console.flag("JSON"):
            console.print_json(as_json(target, built, verdict, seconds))
        else:
            show(target, built, verdict, seconds)
            verify.show(verdict)
