"""`make kernel`: build the map engine's compiled search for every system, from one machine, the same to the byte.

The compiler, zig, comes from PyPI, pinned with its hashes in requirements/kernel.txt. Only this command installs it:
the libraries are kept beside their source, so nobody else needs a compiler.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts import ROOT, console
from scripts.console import CommandError
from trader.forecasting.map.kernel import FOLDER, SOURCE, SUMS

LOCK = ROOT / "requirements/kernel.txt"
COMPILER = ROOT / ".venv/ziglang"

FLAGS = (
    *("-O3", "-std=c11", "-mcpu=baseline", "-shared", "-s", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Werror"),
    "-ffp-contract=off",  # a fused a*b + c rounds once, and some processors have none
    *("-ffreestanding", "-fno-builtin", "-fno-math-errno", "-fno-stack-protector", "-fno-sanitize=all"),
)
"""The options for every system: no call of a C library, and the same rounding everywhere."""

TARGETS: Mapping[str, Sequence[str]] = {
    "linux-x86_64.so": ("-target", "x86_64-linux-none", "-fPIC", "-nostdlib"),
    "linux-aarch64.so": ("-target", "aarch64-linux-none", "-fPIC", "-nostdlib"),
    "macos-arm64.dylib": ("-target", "aarch64-macos.11.0"),
    "macos-x86_64.dylib": ("-target", "x86_64-macos.11.0"),
    "windows-x86_64.dll": ("-target", "x86_64-windows-gnu", "-nostdlib"),
}
"""The libraries and the compiler's options for each. macOS loads none that does not name its system library."""


def main() -> None:
    """Build all libraries and write them with their checksums; say which of them have changed."""
    with console.plain_errors("interrupted; no library was changed"), tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        table = console.table("Library", "Bytes", "SHA-256", "")
        for name in TARGETS:
            old = FOLDER / name
            is_same = old.is_file() and old.read_bytes() == built[name].read_bytes()
            digest = hash_file(built[name])
            table.add_row(
                name, f"{built[name].stat().st_size:,}", f"{digest[:16]}...", "as before" if is_same else "new"
            )
        for name, file in built.items():
            shutil.copyfile(file, FOLDER / name)
        console.OUT.print(table)


def build(folder: Path) -> Mapping[str, Path]:
    """Build the libraries and the file of their checksums in a folder. Raises CommandError if the compiler fails."""
    install()
    source = folder / SOURCE
    shutil.copyfile(FOLDER / SOURCE, source)
    for name, options in TARGETS.items():
        compile_c(folder, [*FLAGS, *options, "-o", name, SOURCE])
    built = {name: folder / name for name in TARGETS}
    sums = folder / SUMS
    sums.write_text("".join(f"{hash_file(file)}  {file.name}\n" for file in (source, *built.values())), "ascii")
    return {**built, SUMS: sums}


def compile_c(folder: Path, words: Sequence[str]) -> None:
    """Run zig's C compiler in a folder. Raises CommandError with what it says."""
    cache = {f"ZIG_{kind}_CACHE_DIR": str(COMPILER / "cache") for kind in ("LOCAL", "GLOBAL")}
    ended = subprocess.run(
        [str(COMPILER / "ziglang/zig"), "cc", *words],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(COMPILER), **cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise CommandError(f"zig cc {' '.join(words)} ended with {ended.returncode}:\n{ended.stderr.strip()}")


def install() -> None:
    """Install the pinned compiler, unless it is there. Raises CommandError if that fails."""
    mark, wanted = COMPILER / ".set-up", LOCK.read_text(encoding="utf-8")
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return
    console.note("installing the compiler, about 100 MB")
    shutil.rmtree(COMPILER, ignore_errors=True)
    uv, python = (str(ROOT / ".venv/bin" / name) for name in ("uv", "python"))
    words = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(COMPILER)]
    ended = subprocess.run(
        [uv, "pip", "install", *words, "--python", python, "-r", str(LOCK)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise CommandError(f"the compiler in {LOCK.relative_to(ROOT)} could not be installed:\n{ended.stderr.strip()}")
    mark.write_text(wanted, encoding="utf-8")


def hash_file(file: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
