"""What a measured case leaves: a JSON file with its figures, and with all that they depend on."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts import ROOT, files
from scripts.bench.harness import Measurement
from scripts.bench.load import Load, describe_machine

FOLDER = "bench"


def to_json(name: str, lines: Sequence[Measurement], load: Load) -> dict[str, Any]:
    """Return a case's measurements with commit, machine, load and date."""
    return {
        "case": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_commit(),
        "machine": describe_machine(),
        "load": {**asdict(load), "is_busy": load.is_busy},
        "lines": [line.as_json() | {"verdict": line.verdict(load)} for line in lines],
    }


def describe_commit() -> dict[str, str | bool]:
    """Return the commit, and whether files of it were changed; empty without git."""
    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return {"commit": commit, "is_changed": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "is_changed": False}


def git(*words: str) -> str:
    """Return what git prints. Raises CalledProcessError if it fails, and OSError if there is no git."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def keep(found: Mapping[str, Any], out: Path) -> Path:
    """Write a case's JSON into the folder for results, and return its path. Raises UnwritableError."""
    path = out / FOLDER / f"{found['case']}.json"
    files.write_text(path, json.dumps(found, indent=1, allow_nan=False) + "\n")
    return path
