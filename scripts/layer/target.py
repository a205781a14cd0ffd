"""The targets of a layer, and the paths of its files."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uv

from scripts import ROOT
from scripts.console import CommandError
from trader.settings import SettingsError

FOLDER = ROOT / "layer"
BUILD, DIST = FOLDER / "build", FOLDER / "dist"
REQUIREMENTS = FOLDER / "requirements.txt"
DISK = "a build needs about 800 MB: half of it in layer/build, half in uv's cache"

PYTHON, ARCH = "3.13", "x86_64"
"""The default target."""

MAGIC = {"3.13": 3571, "3.14": 3627}
"""By Lambda runtime: the magic number of the .pyc files that its Python loads (pycore_magic_number.h)."""

MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Architectures: Lambda's name, and the name used by wheels, ELF tools and uname."""

GLIBC = "manylinux_2_34"
"""The wheel tag for the C library of Amazon Linux 2023, on which these runtimes are based."""


class LayerError(CommandError):
    """The layer cannot be built or run; the message says why and what to do."""


class BrokenLayerError(LayerError):
    """A layer's zip is faulty and must not be deployed."""


def shorten_path(path: Path) -> str:
    """Return a path relative to the repository if it is inside it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


@dataclass(frozen=True, slots=True)
class Target:
    """A Lambda runtime: Python's version and the architecture."""

    python: str
    arch: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Target":
        """Read PYTHON and ARCH, by default 3.13 and x86_64. Raises SettingsError for unsupported values."""
        target = cls(env.get("PYTHON") or PYTHON, env.get("ARCH") or ARCH)
        asked = (("PYTHON", target.python, MAGIC), ("ARCH", target.arch, MACHINES))
        problems = [
            f"{name}={value}: must be one of {', '.join(allowed)}"
            for name, value, allowed in asked
            if value not in allowed
        ]
        if problems:
            raise SettingsError(problems)
        return target

    @property
    def name(self) -> str:
        """Name of the layer and its files."""
        return f"prophet-layer-python{self.python}-{self.arch}"

    def make(self, goal: str) -> str:
        """Return the make command that builds `goal` for this target."""
        arch = "" if self.arch == ARCH else f" ARCH={self.arch}"
        python = "" if self.python == PYTHON else f" PYTHON={self.python}"
        return f"make {goal}{arch}{python}"

    @property
    def zip(self) -> Path:
        """Path of the finished layer."""
        return DIST / f"{self.name}.zip"

    @property
    def machine(self) -> str:
        """The architecture as uname, wheels and binutils spell it."""
        return MACHINES[self.arch]

    @property
    def platform(self) -> str:
        """The platform for which wheels are chosen."""
        return f"{self.machine}-{GLIBC}"

    @property
    def runs_here(self) -> bool:
        """True if this machine can run the layer's programs."""
        return sys.platform == "linux" and platform.machine() == self.machine

    def interpreter(self) -> Path:
        """Find a Python of the target's version outside any virtual environment. Raises LayerError if there is none."""
        if self.python == f"{sys.version_info.major}.{sys.version_info.minor}":
            return Path(sys.base_prefix) / "bin" / f"python{self.python}"
        command = [uv.find_uv_bin(), "python", "find", "--no-python-downloads", "--resolve-links", "--system"]
        found = subprocess.run([*command, self.python], check=False, capture_output=True, text=True)
        if found.returncode != 0:
            raise LayerError(
                f"bytecode for Python {self.python} needs that version, but it is not installed; "
                f"install it with: .venv/bin/uv python install {self.python}"
            )
        return Path(found.stdout.strip())
