"""`make package`: build the function's own zip, reproducible to the byte."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts import ROOT, console
from scripts.layer import bytecode
from scripts.layer.archive import replace_file, sha256, write_named
from scripts.layer.target import DIST, LayerError, shorten_path

FUNCTION = ROOT / "function"
RULES = ROOT / "rules"
ZIP = DIST / "function.zip"
MAX_BYTES = 2_000_000
SUFFIXES = {".py", ".csv", ".gz", ".so", ".sha256"}
"""The file types of the function: code, the constituents, the sample prices, the map engine's libraries for Linux."""


def contents(folder: Path = FUNCTION) -> Sequence[Path]:
    """Return the files of the function, without tests and the files that Python and editors leave behind."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file()
        and file.suffix in SUFFIXES
        and not any(part.startswith((".", "__pycache__")) or part == "tests" for part in file.relative_to(folder).parts)
    ]


def find_rules(folder: Path = RULES) -> Sequence[Path]:
    """Return the files of the owner's own rules; none if there is no folder for them."""
    return sorted(folder.glob("*.py"))


def package(folder: Path = FUNCTION, zip_file: Path = ZIP, rules: Path = RULES) -> Path:
    """Write the zip: the function with its bytecode, and the own rules in their folder.

    Raises LayerError if it exceeds MAX_BYTES, or if a file cannot be compiled.
    """
    files = {file.relative_to(folder).as_posix(): file for file in contents(folder)}
    with replace_file(zip_file) as part, TemporaryDirectory() as compiled:
        files |= compile_sources(files, Path(compiled))
        files |= {f"{RULES.name}/{file.name}": file for file in find_rules(rules)}
        write_named(part, files)
        if (size := part.stat().st_size) > MAX_BYTES:
            biggest = max(files, key=lambda name: files[name].stat().st_size)
            raise LayerError(
                f"{zip_file.name} would be {size:,} bytes, but {MAX_BYTES:,} are allowed; the biggest file is {biggest}"
            )
    return zip_file


def compile_sources(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Compile the sources among files, by name, into an empty folder; return the bytecode by its name in the zip.

    Lambda keeps no bytecode, so it would compile all sources in every cold start. A Python of another version than
    this one compiles them, too, and so does one that finds a source that was edited later. A process of its own
    compiles them, because the bytes depend on what else a process has in memory.
    """
    for name, file in files.items():
        if file.suffix == ".py":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    bytecode.compile_checked(Path(sys.executable), folder)
    return {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.pyc")}


def main() -> None:
    """Write the zip and print its size and hash."""
    with console.plain_errors(interrupted="interrupted; layer/dist is unchanged"):
        written = package()
        size, count = written.stat().st_size, len(contents()) + len(find_rules())  # without their bytecode
        if console.flag("JSON"):
            report = {"zip": shorten_path(written), "sha256": sha256(written), "files": count, "bytes": size}
            console.print_json(report)
            return
        console.OUT.print(f" {shorten_path(written)}: {count} files, {size:,} bytes", markup=False)
        console.OUT.print(f" sha256 {sha256(written)}", style="dim", markup=False)
