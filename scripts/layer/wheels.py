"""The packages as their authors ship them: wheels for the target's platform, out of locked requirements."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import uv
from filelock import FileLock

from scripts.layer.target import DISK, REQUIREMENTS, LayerError, Target

CAUSES = {
    r"hash mismatch": "a download is not the file that was locked; if the cache is damaged: .venv/bin/uv cache clean",
    r"no wheels with a matching|has no usable wheels|no matching .* wheel|building source distributions is disabled": (
        "a package has no wheel for this target, and the layer is made of wheels only; "
        "choose a version that has one in pyproject.toml, then make lock"
    ),
    r"no space left": f"the disk is full; {DISK}",
    r"failed to fetch|error sending request|dns error|timed out|network .{0,20}disabled|connection (re|cl)": (
        "the package index cannot be reached and uv's cache does not hold all of it; try again with a network"
    ),
}
"""What uv says (in small letters, on one line), and what it means here; the first that matches counts."""

MEDDLING = re.compile(
    r"UV_(BUILD_CONSTRAINT|COMPILE_BYTECODE|CONFIG_FILE|CONSTRAINT|EXCLUDE|NO_BINARY|NO_INSTALLER_METADATA|"
    r"ONLY_BINARY|OVERRIDE|PREFIX|TARGET|WORKING_DIR)"
)
"""Variables of uv's that would change what is installed, or where; those that say where wheels come from may stay."""


def ensure_installed(target: Target, folder: Path, requirements: Path = REQUIREMENTS) -> Path:
    """`folder` with the requirements' wheels for the target in it; left as it is if it has them already.

    Raises LayerError, with uv's own words, if they cannot be had.
    """
    stamp = folder.with_name(f"{folder.name}.stamp")
    wanted = hashlib.sha256(requirements.read_bytes() + f"{target.name} {target.platform}".encode()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not (folder.is_dir() and stamp.is_file() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            install(target, folder, requirements)
            stamp.write_text(wanted)
    return folder


def install(target: Target, folder: Path, requirements: Path) -> None:
    """Unpack the requirements' wheels into a new folder; nothing is resolved, built or run."""
    command = [
        *(uv.find_uv_bin(), "pip", "install", "--target", str(folder), "--requirements", str(requirements)),
        *("--python-platform", target.platform, "--python-version", target.python),
        *("--only-binary", ":all:", "--no-deps", "--require-hashes", "--no-config"),
        *("--link-mode", "copy"),  # a hard link into uv's cache would let the stripping spoil the cache
    ]
    env = {name: value for name, value in os.environ.items() if not MEDDLING.match(name)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        words = done.stderr.strip()
        line = " ".join(words.lower().split())
        cause = next((meaning for pattern, meaning in CAUSES.items() if re.search(pattern, line)), "")
        raise LayerError(f"the wheels for {target.name} could not be had: {cause or 'uv says'}\n{words}")
