"""Installation of wheels for the target's platform from locked requirements."""

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
    r"hash mismatch": "a download is not the locked file; if the cache is damaged, run: .venv/bin/uv cache clean",
    r"no wheels with a matching|has no usable wheels|no matching .* wheel|building source distributions is disabled": (
        "a package has no wheel for this target, and the layer can only contain wheels; "
        "choose a version with a wheel in pyproject.toml, then run make lock"
    ),
    r"no space left": f"the disk is full; {DISK}",
    r"failed to fetch|error sending request|dns error|timed out|network .{0,20}disabled|connection (re|cl)": (
        "the package index cannot be reached and uv's cache is incomplete; try again with a network connection"
    ),
}
"""Patterns of uv's messages (lowercase, on one line) and what they mean here; the first match counts."""

MEDDLING = re.compile(
    r"UV_(BUILD_CONSTRAINT|COMPILE_BYTECODE|CONFIG_FILE|CONSTRAINT|EXCLUDE|NO_BINARY|NO_INSTALLER_METADATA|"
    r"ONLY_BINARY|OVERRIDE|PREFIX|TARGET|WORKING_DIR)"
)
"""Variables of uv that would change what is installed, or where. Variables that name sources of wheels are kept."""


def ensure_installed(target: Target, folder: Path, requirements: Path = REQUIREMENTS) -> Path:
    """Install the requirements' wheels for the target into `folder`, unless they are already there; return `folder`.

    Raises LayerError, with uv's own message, if they cannot be installed.
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
        *("--link-mode", "copy"),  # stripping a hard link would damage uv's cache
    ]
    env = {name: value for name, value in os.environ.items() if not MEDDLING.match(name)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        words = done.stderr.strip()
        line = " ".join(words.lower().split())
        cause = next((meaning for pattern, meaning in CAUSES.items() if re.search(pattern, line)), "")
        raise LayerError(f"the wheels for {target.name} could not be installed: {cause or 'uv says'}\n{words}")
