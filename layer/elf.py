"""Compiled files: finding them, and stripping what only debuggers and linkers read."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from layer.target import LayerError, Target

MAGIC = b"\x7fELF"
MACHINE_CODES = {"x86_64": 62, "aarch64": 183}
"""e_machine of the ELF header (System V ABI)."""


def header(path: Path) -> bytes:
    """The first 20 bytes of a file: of an ELF file, all up to e_machine."""
    with path.open("rb") as file:
        return file.read(20)


def is_elf(path: Path) -> bool:
    """Whether a file is a program or a shared library."""
    return header(path).startswith(MAGIC)


def is_program(path: Path) -> bool:
    """Whether a file is started, rather than loaded: then it needs its executable bit."""
    return is_elf(path) and ".so" not in path.suffixes


def check_machine(paths: Iterable[Path], target: Target) -> None:
    """Raises LayerError if a compiled file is for another machine than the target."""
    for path in paths:
        if (code := int.from_bytes(header(path)[18:20], "little")) != MACHINE_CODES[target.machine]:
            raise LayerError(f"{path.name} is compiled for another machine than {target.arch} (ELF machine {code})")


def strip_tool(target: Target, probe: Path) -> str | None:
    """A strip that understands the target's files, tried on a copy of one; None if there is none here."""
    with TemporaryDirectory() as folder:
        for tool in (f"{target.machine}-linux-gnu-strip", "strip", "llvm-strip"):
            copy = shutil.copy(probe, folder)
            if shutil.which(tool) and strip(tool, [Path(copy)]) is None:
                return tool
    return None


def strip(tool: str, paths: Sequence[Path]) -> str | None:
    """Strip files in place; what the tool complained of, if it did."""
    done = subprocess.run([tool, "--strip-unneeded", *map(str, paths)], check=False, capture_output=True, text=True)
    return done.stderr.strip() or f"{tool} failed" if done.returncode != 0 else None
