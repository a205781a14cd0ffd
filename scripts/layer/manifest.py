"""The manifest next to a finished zip: its hash and size, its sources, and whether the function ran from it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from scripts import ROOT
from scripts.layer.archive import replace_file, sha256
from scripts.layer.target import LayerError, Target
from scripts.layer.verify import Verdict

MADE_FROM = (
    *("layer/requirements.txt", "layer/prune.toml"),
    *(
        f"scripts/layer/{each}.py"
        for each in ("archive", "bare", "build", "bytecode", "elf", "prune", "target", "wheels")
    ),
)
"""The files that determine a zip's contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Facts about a finished zip. Times and peak memory are None if the function could not be run."""

    sha256: str
    unpacked_bytes: int
    zip_bytes: int
    python: str
    architecture: str
    verified: bool
    init_ms: float | None
    run_s: float | None
    peak_mb: float | None
    made_from: Mapping[str, str]


def path(target: Target) -> Path:
    """Return the path of a finished layer's manifest."""
    return target.zip.with_suffix(".json")


def hash_sources(root: Path = ROOT) -> dict[str, str]:
    """Return the current hashes of the files that determine a layer's contents."""
    return {name: sha256(root / name) for name in MADE_FROM}


def describe(
    target: Target, zip_file: Path, *, unpacked_bytes: int, verdict: Verdict, sources: Mapping[str, str]
) -> Manifest:
    """Return the manifest of a zip that was built from `sources` and passed verification."""
    found = verdict.findings
    return Manifest(
        sha256=sha256(zip_file),
        unpacked_bytes=unpacked_bytes,
        zip_bytes=zip_file.stat().st_size,
        python=target.python,
        architecture=target.arch,
        verified=found is not None,
        init_ms=found.init_ms if found else None,
        run_s=found.run_s if found else None,
        peak_mb=found.peak_mb if found else None,
        made_from=sources,
    )


def write(target: Target, manifest: Manifest) -> None:
    """Write the manifest next to the finished zip. Raises LayerError if it cannot be written."""
    with replace_file(path(target)) as part:
        part.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read(target: Target) -> Manifest | None:
    """Return the manifest of the finished layer; None if it is missing or has another format."""
    try:
        told = json.loads(path(target).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise LayerError(f"{path(target).name} cannot be read: {error.strerror}") from error
    is_one = isinstance(told, dict) and set(told) == {item.name for item in fields(Manifest)}
    return Manifest(**told) if is_one else None


def reason_to_build(target: Target) -> str:
    """Return why the layer has to be built or rebuilt; empty if it matches the current sources."""
    if not target.zip.is_file():
        return f"{target.zip.name} does not exist"
    manifest = read(target)
    if manifest is None:
        return f"{path(target).name}, which records what {target.zip.name} was built from, is missing or unreadable"
    if manifest.sha256 != sha256(target.zip):
        return f"{target.zip.name} is not the zip that was built: its sha256 differs from {path(target).name}"
    now = hash_sources()
    changed = sorted(name for name in {*now, *manifest.made_from} if now.get(name) != manifest.made_from.get(name))
    if changed:
        return f"{target.zip.name} was built before these files changed: {', '.join(changed)}"
    if not manifest.verified and target.runs_here:
        return f"{target.zip.name} was built on a machine that could not run it, but this one can"
    return ""
