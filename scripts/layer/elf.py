"""Compiled files: finding them, and stripping what only debuggers and linkers read."""

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
"""The libraries that wheels may expect of a system, and the newest symbols of those of Amazon Linux 2023 (GCC 11)."""

MACHINE_CODES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


def is_elf(path: Path) -> bool:
    """Whether a file is a program or a shared library."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_program(path: Path) -> bool:
    """Whether a file is started, rather than loaded: then it needs its executable bit."""
    return is_elf(path) and ".so" not in path.suffixes


def check_machine(paths: Iterable[Path], target: Target) -> None:
    """Raises BrokenLayerError if a compiled file is for another machine than the target."""
    for path in paths:
        try:
            with path.open("rb") as file:
                machine = ELFFile(file)["e_machine"]
        except ELFError as error:
            raise BrokenLayerError(f"{path.name} is no whole compiled file: {error}") from error
        if machine != MACHINE_CODES[target.machine]:
            raise BrokenLayerError(f"{path.name} is compiled for another machine than {target.arch}: {machine}")


def check_needs(paths: Sequence[Path]) -> None:
    """Raises BrokenLayerError if a compiled file needs a library that neither the layer nor Lambda's system has."""
    own = {path.name for path in paths}
    for path in paths:
        with path.open("rb") as file:
            needed = list(needs(ELFFile(file)))
        for name, version in needed:
            newest = SYSTEM_VERSIONS.get(version.partition("_")[0])
            if name not in own and (name not in SYSTEM or (newest and numbers(version) > newest)):
                raise BrokenLayerError(f"{path.name} needs {name} {version}".rstrip() + ", which Lambda does not have")


def needs(elf: ELFFile) -> Iterator[tuple[str, str]]:
    """The libraries that a compiled file names: each by itself, and with each version of it that is asked for."""
    dynamic, versions = (elf.get_section_by_name(name) for name in (".dynamic", ".gnu.version_r"))
    if isinstance(dynamic, DynamicSection):
        for tag in dynamic.iter_tags("DT_NEEDED"):
            yield tag.needed, ""  # type: ignore[attr-defined]  # tags of this kind have it
    if isinstance(versions, GNUVerNeedSection):
        for library, of in versions.iter_versions():
            yield from ((str(library.name), str(each.name)) for each in of)


def numbers(version: str) -> tuple[int, ...]:
    """GLIBC_2.34 as (2, 34)."""
    return tuple(int(number) for number in version.partition("_")[2].split("."))


def strip_tool(target: Target, probe: Path) -> str | None:
    """A strip that understands the target's files, tried on one of them; None if there is none here."""
    tools = (f"{target.machine}-linux-gnu-strip", "strip", "llvm-strip")
    return next((tool for tool in tools if shutil.which(tool) and strip_file(tool, probe)), None)


def strip(tool: str, paths: Sequence[Path], progress: Progress = no_progress) -> Sequence[Path]:
    """Strip files in place; gives those that were left as they are, because stripped they could not be loaded."""
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
    """What a file becomes without what only debuggers and linkers read; None if the tool fails or spoils it."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / path.name
        done = subprocess.run([tool, "--strip-unneeded", "-o", out, path], check=False, capture_output=True)
        return out.read_bytes() if done.returncode == 0 and out.is_file() and is_loadable(out) else None


def is_loadable(path: Path) -> bool:
    """Whether the parts that are loaded lie in the file as they shall in memory, modulo their alignment.

    The loader refuses others (System V ABI, program header). llvm-strip makes such ones out of libraries that were
    given a new run path after they were linked, as the libraries beside a wheel's packages are.
    """
    with path.open("rb") as file:
        return all(
            (segment["p_vaddr"] - segment["p_offset"]) % max(segment["p_align"], 1) == 0
            for segment in ELFFile(file).iter_segments("PT_LOAD")
        )
