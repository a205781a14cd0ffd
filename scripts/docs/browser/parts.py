"""The parts of others that the page needs, fetched through npm and pip, each checked against a pinned hash.

- Pyodide, CPython for WebAssembly, is on npm. Its lock file names the wheels built for it, with their hashes.
- npm does not have these wheels, and NumPy publishes none for Pyodide on PyPI. Open WebUI carries them in its own
  wheel. Only wheels with the hash in Pyodide's lock file are taken, and nothing else of Open WebUI.
- Wheels of Python code alone come from PyPI, in the versions and with the hashes of requirements/dev.txt: those of
  `make backtest`.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from filelock import FileLock

from scripts import ROOT
from scripts.console import CommandError

PYODIDE = "314.0.4"
INTEGRITY = "sha512-fMexKS5P/s8iTjczevLUv/aWq9i5yaGvBTpBW6gM+nzDNelfPpREma/xdDK2AAGebAuKnBJk7fyVP6RBlz4btg=="
"""npm's name for the content of pyodide@314.0.4, the newest version whose wheels CARRIER has."""

CORE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
"""The files of Pyodide that a page loads, apart from the lock file."""

CARRIER = "open-webui==0.12.4 --hash=sha256:02e9caba96234db3fa17a92e56163b3f7f2b8ca8227fa886b85c178d696483f6"
"""Open WebUI's wheel, 106 MB, which is deleted once the wheels are taken out of it."""

FOR_PYODIDE = ("numpy", "pandas", "python-dateutil", "six")
"""The wheels that Pyodide's lock file names, by their names there in small letters."""

FROM_PYPI = ("backtrader", "empyrical-reloaded", "holidays", "jinja2", "markupsafe", "rich", "tzdata")

REQUIREMENTS = ROOT / "requirements/dev.txt"
CACHE = ROOT / "out/cache/browser"

PYTHON, ABI = "3.14", "cp314"
"""The Python of PYODIDE."""


class PartError(CommandError):
    """A part cannot be fetched, or is not the pinned one; the message says which and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel that the page loads."""

    name: str
    version: str
    path: Path

    @property
    def sha256(self) -> str:
        """The hash of the file, in hexadecimal digits."""
        return _sha256(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts, in the cache."""

    core: Path  # the folder with CORE
    info: Mapping[str, str]  # Pyodide's description of its Python
    wheels: tuple[Wheel, ...]


def fetch(cache: Path = CACHE) -> Parts:
    """Return the parts; fetch those that are not in the cache yet. Raises PartError."""
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "lock"):
        core = _core(cache)
        lock = json.loads((core / "pyodide-lock.json").read_text(encoding="utf-8"))
        known = {name.lower(): entry for name, entry in lock["packages"].items()}
        entries = [known[name] for name in FOR_PYODIDE]
        return Parts(core=core, info=lock["info"], wheels=(*_carried(entries, cache), *_from_pypi(cache)))


def _core(cache: Path) -> Path:
    """Return the folder of Pyodide's files, unpacked from npm's package."""
    folder = cache / f"pyodide-{PYODIDE}"
    archive = cache / f"pyodide-{PYODIDE}.tgz"
    if not archive.is_file():
        _call(["npm", "pack", f"pyodide@{PYODIDE}", "--pack-destination", str(cache), "--silent"], "npm")
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        archive.unlink()
        raise PartError(f"pyodide@{PYODIDE} is not the pinned package: its integrity is {found}, not {INTEGRITY}")
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as packed:
        for name in (*CORE, "pyodide-lock.json"):
            member = packed.extractfile(f"package/{name}")
            assert member is not None, "the pinned package has these files"
            (folder / name).write_bytes(member.read())
    return folder


def _carried(entries: Sequence[Mapping[str, str]], cache: Path) -> list[Wheel]:
    """Return the wheels of these entries of Pyodide's lock file, taken out of CARRIER."""
    folder = cache / f"wheels-{PYODIDE}"
    wheels = [
        Wheel(name=each["name"].lower(), version=each["version"], path=folder / each["file_name"]) for each in entries
    ]
    if not all(wheel.path.is_file() for wheel in wheels):
        folder.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=cache) as temporary:
            _download([CARRIER], Path(temporary), cache)
            (carrier,) = Path(temporary).glob("*.whl")
            with zipfile.ZipFile(carrier) as packed:
                inside = {PurePosixPath(name).name: name for name in packed.namelist()}
                for wheel in wheels:
                    wheel.path.write_bytes(packed.read(inside[wheel.path.name]))
    for wheel, entry in zip(wheels, entries, strict=True):
        if wheel.sha256 != entry["sha256"]:
            wheel.path.unlink()
            raise PartError(f"{wheel.path.name} is not the wheel that Pyodide's lock file names; fetch it again")
    return wheels


def _from_pypi(cache: Path) -> list[Wheel]:
    """Return the wheels of FROM_PYPI."""
    pinned = {name: _pin(name) for name in FROM_PYPI}
    wanted = hashlib.sha256("\n".join(pinned.values()).encode()).hexdigest()
    folder = cache / f"pypi-{wanted[:16]}"
    if not folder.is_dir():
        with TemporaryDirectory(dir=cache) as temporary:
            _download(list(pinned.values()), Path(temporary), cache)
            shutil.copytree(temporary, folder)
    paths = {path.name.split("-")[0].replace("_", "-").lower(): path for path in folder.glob("*.whl")}
    for name, pin in pinned.items():
        if name not in paths or _sha256(paths[name]) not in pin:
            shutil.rmtree(folder)
            raise PartError(f"the wheel of {name} in {folder} is not the pinned one; it is removed: fetch it again")
    return [Wheel(name=name, version=paths[name].name.split("-")[1], path=paths[name]) for name in FROM_PYPI]


def _pin(name: str) -> str:
    """Return a package's version and hashes in requirements/dev.txt, on one line."""
    text = REQUIREMENTS.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.search(rf"^{re.escape(name)}==.*$", text, re.MULTILINE)
    if found is None:
        raise PartError(f"{REQUIREMENTS.name} does not pin {name}, which the page's backtest needs")
    return " ".join(found[0].split(" #")[0].split())


def _download(pins: Sequence[str], folder: Path, cache: Path) -> None:
    """Download wheels for Pyodide's Python, or of Python code alone, with pip, which checks their hashes."""
    wanted = folder.parent / "wanted.txt"
    wanted.write_text("\n".join(pins) + "\n", encoding="utf-8")
    _call(
        [
            *(str(_pip(cache)), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "--ignore-requires-python", "--python-version", PYTHON),
            *("--implementation", "cp", "--abi", ABI, "--abi", "none"),
            # MarkupSafe has no wheel of Python code alone; the page gets the wheel for Linux without its compiled file.
            *("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64", "--platform", "any"),
            *("--requirement", str(wanted), "--dest", str(folder)),
        ],
        "pip",
    )


def _pip(cache: Path) -> Path:
    """Return pip, as this Python brings it."""
    folder = cache / "pip"
    program = folder / "bin/pip"
    if not program.is_file():
        _call([sys.executable, "-m", "venv", str(folder)], "venv")
    return program


def _call(command: Sequence[str], client: str) -> None:
    """Call a client. Raises PartError with its message."""
    if shutil.which(command[0]) is None:
        raise PartError(f"{client} is not on the PATH, but fetches a part of the site; install it, then try again")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise PartError(f"{client} could not fetch a part of the site; try again with a network connection\n{words}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
