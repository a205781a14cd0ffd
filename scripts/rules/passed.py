"""The note that a rule has passed its check, by the hash of its files."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import override

from scripts.files import OUT, write_text
from scripts.rules.source import PRUNED, REQUIREMENTS
from trader.alpha import own

FOLDER = OUT / "rules"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a rule may not be deployed, and the command for it. `is_unchecked`: there is no result for it as it is."""

    what: str
    command: str
    is_unchecked: bool = True

    @override
    def __str__(self) -> str:
        return f"{self.what}; {self.command}"


def write_note(
    signal: str,
    sources: Mapping[str, str],
    parameters: Mapping[str, float],
    *,
    passes_here: bool,
    passes_on_aws: bool,
    versions: Mapping[str, str],
    time: datetime,
) -> Path:
    """Note the result for a rule and its parameters; that of other parameters stays.

    `sources` are the files that were checked: those in the folder may have changed since.
    """
    digest = own.hash_sources(tuple(sorted((path, source.encode()) for path, source in sources.items())))
    path = FOLDER / f"{digest}.json"
    note = {
        "parameters": dict(parameters),
        "passes_here": passes_here,
        "passes_on_aws": passes_on_aws,
        "time": time.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": dict(versions),
        "layer": hash_layer(),
    }
    notes = [*(each for each in _read_notes(path) if each.get("parameters") != note["parameters"]), note]
    write_text(path, json.dumps({"rule": signal, "sha256": digest, "checks": notes}, indent=2) + "\n")
    return path


def find_obstacle(signal: str, parameters: Mapping[str, float]) -> Obstacle | None:
    """Return why a rule may not be deployed with these parameters, all of them; None if it has passed its check.

    Raises RuleError if its files cannot be used.
    """
    given = "".join(f" RULE_{name.upper()}={value:g}" for name, value in parameters.items())
    command = f"make check-rule SIGNAL={signal}{given}"
    notes = _read_notes(FOLDER / f"{own.hash_sources(own.list_sources(signal))}.json")
    note = next((each for each in notes if each.get("parameters") == dict(parameters)), None)
    if not notes:
        return Obstacle(f"SIGNAL={signal} has not been checked as it is now", command)
    if note is None:
        return Obstacle(f"SIGNAL={signal} was checked with other parameters", command)
    if note.get("layer") != hash_layer():
        return Obstacle(f"SIGNAL={signal} was checked against another layer", command)
    if note.get("passes_on_aws") is not True:
        return Obstacle(f"SIGNAL={signal} did not pass its check for AWS", f"{command} says why", is_unchecked=False)
    return None


def hash_layer() -> str:
    """Return a hash of what the layer contains; empty outside of the repository."""
    files = [each for each in (REQUIREMENTS, PRUNED) if each.is_file()]
    return sha256(b"".join(each.read_bytes() for each in files)).hexdigest() if files else ""


def _read_notes(path: Path) -> list[dict[str, object]]:
    """Return the notes of a rule; none if there are none that can be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    checks = told.get("checks") if isinstance(told, dict) else None
    return [each for each in checks if isinstance(each, dict)] if isinstance(checks, list) else []
