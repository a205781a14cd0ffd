"""Compiled files: finding them, and stripping what only debuggers and linkers read."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from layer.target import BrokenLayerError, Target
from trader.prices import Progress, no_progress

MAGIC = b"\x7fELF"
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


def strip_tool(target: Target, probe: Path) -> str | None:
    """A strip that understands the target's files, tried on one of them; None if there is none here."""
    tools = (f"{target.machine}-linux-gnu-strip", "strip", "llvm-strip")
    return next((tool for tool in tools if shutil.which(tool) and stripped(tool, probe)), None)


def strip(tool: str, paths: Sequence[Path], progress: Progress = no_progress) -> Sequence[Path]:
    """Strip files in place; gives those that were left as they are, because stripped they could not be loaded."""
    left = []
    for done, path in enumerate(paths, start=1):
        if (smaller := stripped(tool, path)) is None:
            left.append(path)
        else:
            mode = path.stat().st_mode
            path.unlink()  # it may be read-only
            path.write_bytes(smaller)
            path.chmod(mode)
        progress("strip", done, len(paths))
    return left


def stripped(tool: str, path: Path) -> bytes | None:
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
