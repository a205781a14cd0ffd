"""The chain of a strategy's records: each names its code, its settings and the records before it by their SHA-256.

So whoever removes, adds or changes a record has to change every later one too, and the hash of the newest, which the
log and the owner may have. The records before are those that no earlier record names: one, unless two runs ended side
by side or a run was cut off. Dry runs, and runs that gave their slot back, are not in the chain.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from trader.forecasting.map import kernel
from trader.model import Engine, Json

FUNCTION = Path(__file__).parents[2]
"""The folder that holds the handler and trader: in the repository, in Lambda, and where pip installs them."""

HANDLER = "lambda_function.py"
SUFFIXES = {".py", ".csv", ".sha256"}
"""The files that decide: the code, the list of the index, and the checksums of the compiled search."""

BEFORE = "map, in NumPy alone"
"""What made the trend lines of a record with ENGINE=map that names no engine: it is older than such names."""


def build_chain(settings: Mapping[str, object], previous: Mapping[str, str]) -> dict[str, object]:
    """Return the chain of a record; `previous` maps the slots of the records before it to their SHA-256."""
    chain: dict[str, object] = {"code": hash_code(), "settings": hash_settings(settings), "previous": dict(previous)}
    return {**chain, "engine": engine} if (engine := _name_engine(settings)) else chain


def find_other_engine(record: Json) -> str:
    """Say that a record's trend lines are from another version of the map engine than this one; empty if not.

    Two versions may differ in the last digits, and in which symbols they leave to Prophet's package.
    """
    settings, chain = record.get("settings"), record.get("chain")
    here = _name_engine(settings) if isinstance(settings, dict) else ""
    made_by = chain.get("engine", BEFORE) if isinstance(chain, dict) else BEFORE
    if not here or made_by == here:
        return ""
    return f"its trend lines are by another engine, {made_by!r:.80}; here they would be by {here!r}"


def _name_engine(settings: Mapping[str, object]) -> str:
    """Return the name and version of the engine, if it has versions of its own; Prophet's package is in the layer."""
    return kernel.name_engine() if settings.get("engine") == Engine.MAP else ""


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, as sha256sum prints it for its file."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def hash_settings(settings: Mapping[str, object]) -> str:
    """Return the SHA-256 of settings as JSON without blanks, sorted by name."""
    return hash_text(json.dumps(settings, sort_keys=True, separators=(",", ":")))


@cache
def hash_code(folder: Path = FUNCTION) -> str:
    """Return the SHA-256 of the function's code: of the lines that sha256sum prints for its files, sorted by name."""
    files = [folder / HANDLER, *(folder / "trader").rglob("*")]
    found = {file.relative_to(folder).as_posix(): file for file in files if file.suffix in SUFFIXES and file.is_file()}
    lines = [f"{hashlib.sha256(found[name].read_bytes()).hexdigest()}  {name}\n" for name in sorted(found)]
    return hash_text("".join(lines))


def names_of(record: Json) -> Mapping[str, str] | None:
    """Return the records before this one by slot, as it names them; None if it is from before the chain.

    Raises TypeError if the chain is not one.
    """
    chain = record.get("chain")
    if chain is None:
        return None
    if not isinstance(chain, dict) or not isinstance(names := chain.get("previous"), dict):
        raise TypeError(f"{chain!r:.100} is not a chain")
    return names
