"""Compiled files: find them, check them, and strip what only debuggers and linkers read."""

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from scripts.layer.target import BrokenLayerError, Target
from trader.progress import Progress, no_progress

MAGIC = b"\x7fELF"
SYSTEM = {
    *("ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6"),
    *("libpthread.so.0", "librt.so.1", "libstdc++.so.6"),
}
SYSTEM_VERSIONS = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13)}
"""The system libraries that wheels may expect, and the newest symbol versions in Amazon Linux 2023 (GCC 11)."""

MACHINE_CODES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


def is_elf(path: Path) -> bool:
    """Check whether a file is a program or a shared library."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_program(path: Path) -> bool:
    """Check whether a file is a program, which needs its executable bit, and not a library."""
    return is_elf(path) and ".so" not in path.suffixes


def check_machine(paths: Iterable[Path], target: Target) -> None:
    """Raise BrokenLayerError if a compiled file is built for a machine other than the target's."""
    for path in paths:
        try:
            with path.open("rb") as file:
                machine = ELFFile(file)["e_machine"]
        except ELFError as error:
            raise BrokenLayerError(f"{path.name} is not a complete compiled file: {error}") from error
        if machine != MACHINE_CODES[target.machine]:
            raise BrokenLayerError(f"{path.name} is compiled for {machine}, not for {target.arch}")


def check_needs(paths: Sequence[Path]) -> None:
    """Raise BrokenLayerError if a compiled file needs a library that neither the layer nor Lambda's system has."""
    own = {path.name for path in paths}
    for path in paths:
        with path.open("rb") as file:
            needed = list(needs(ELFFile(file)))
        for name, version in needed:
            newest = SYSTEM_VERSIONS.get(version.partition("_")[0])
            if name not in own and (name not in SYSTEM or (newest and numbers(version) > newest)):
                raise BrokenLayerError(f"{path.name} needs {name} {version}".rstrip() + ", which Lambda does not have")


def needs(elf: ELFFile) -> Iterator[tuple[str, str]]:
    """Yield the libraries that a compiled file needs: each with an empty version, then with each version required."""
    dynamic, versions = (elf.get_section_by_name(name) for name in (".dynamic", ".gnu.version_r"))
    if isinstance(dynamic, DynamicSection):
        for tag in dynamic.iter_tags("DT_NEEDED"):
            yield tag.needed, ""  # type: ignore[attr-defined]  # DT_NEEDED tags have this attribute
    if isinstance(versions, GNUVerNeedSection):
        for library, of in versions.iter_versions():
            yield from ((str(library.name), str(each.name)) for each in of)


def numbers(version: str) -> tuple[int, ...]:
    """Parse a version such as GLIBC_2.34 into (2, 34)."""
    return tuple(int(number) for number in version.partition("_")[2].split("."))


def strip_tool(target: Target, probe: Path) -> str | None:
    """Find a strip tool that can read the target's files, by trying it on `probe`; None if no tool can."""
    tools = (f"{target.machine}-linux-gnu-strip", "strip", "llvm-strip")
    return next((tool for tool in tools if shutil.which(tool) and strip_file(tool, probe)), None)


def strip(tool: str, paths: Sequence[Path], progress: Progress = no_progress) -> Sequence[Path]:
    """Strip files in place; return those left unchanged because they could not be loaded if stripped."""
    left = []
    for done, path in enumerate(paths, start=1):
        if (smaller := strip_file(tool, path)) is None:
            left.append(path)
        else:
            mode = path.stat().st_mode
            path.unlink()  # it may be read-only
            path.write_bytes(smaller)
            path.chmod(mode)
        progress("strip", done, len(paths))
    return left


def strip_file(tool: str, path: Path) -> bytes | None:
    """Return the stripped contents of a file; None if the tool fails or makes the file unloadable."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / path.name
        done = subprocess.run([tool, "--strip-unneeded", "-o", out, path], check=False, capture_output=True)
        return out.read_bytes() if done.returncode == 0 and out.is_file() and is_loadable(out) else None


def is_loadable(path: Path) -> bool:
    """Check whether each loadable segment's file offset equals its memory address modulo its alignment.

    The loader refuses other files (System V ABI, program header). llvm-strip produces them from libraries whose run
    path was changed after linking, as auditwheel does to the libraries bundled in wheels.
    """
    with path.open("rb") as file:
        return all(
            (segment["p_vaddr"] - segment["p_offset"]) % max(segment["p_align"], 1) == 0
            for segment in ELFFile(file).iter_segments("PT_LOAD")
        )
