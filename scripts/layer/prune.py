"""The pruning rules of prune.toml, and their application to a tree."""

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Annotated

import msgspec

from scripts.layer.target import FOLDER, LayerError
from trader.progress import Progress, no_progress

RULES = FOLDER / "prune.toml"
LICENCES = "licences"
LICENCE = re.compile(r"(licen[cs]es?|copying|notice|authors|copyright)", re.IGNORECASE)

type Words = Annotated[str, msgspec.Meta(min_length=1)]
type Pattern = Annotated[str, msgspec.Meta(pattern=r"^(?!/)(?!.*\.\.)\S+$")]
"""A glob relative to python/; it cannot leave that folder."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths to leave out of the layer, and exceptions to keep."""

    what: Words
    why: Words
    remove: Annotated[tuple[Pattern, ...], msgspec.Meta(min_length=1)]
    keep: tuple[Pattern, ...] = ()


class Docstrings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths whose docstrings stay in the bytecode."""

    why: Words
    keep: tuple[Pattern, ...]


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a file of rules."""

    rule: tuple[Rule, ...]
    docstrings: Docstrings | None = None


def read_rules(path: Path = RULES) -> tuple[Rule, ...]:
    """Read the rules from a file. Raises LayerError if the file is invalid."""
    return _read(path).rule


def list_documented(tree: Path, path: Path = RULES) -> list[str]:
    """Return the paths below a tree whose docstrings stay. Raises LayerError if one matches nothing."""
    docstrings = _read(path).docstrings
    patterns = docstrings.keep if docstrings else ()
    found = {pattern: [each.relative_to(tree).as_posix() for each in tree.glob(pattern)] for pattern in patterns}
    if idle := [pattern for pattern, paths in found.items() if not paths]:
        raise LayerError(f"{path.name}: nothing matches {', '.join(idle)} in [docstrings]; fix or delete it")
    return sorted(each for paths in found.values() for each in paths)


def _read(path: Path) -> Rules:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Rules)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LayerError(
            f"{path.name}: a [[rule]] needs what, why and remove; keep is optional; [docstrings] needs why and keep: "
            f"{error}"
        ) from error


def prune(tree: Path, rules: Sequence[Rule], progress: Progress = no_progress) -> None:
    """Remove what the rules name. Raises LayerError for a pattern that matches nothing: its rule is obsolete.

    If only part of a package is removed, that part's licences are moved to a separate folder: Prophet would mistake a
    CmdStan folder with nothing but a licence in it for a complete CmdStan.
    """
    doomed: dict[Path, bool] = {}  # True if the rest of the package stays
    idle: list[str] = []
    for done, rule in enumerate(rules, start=1):
        kept = [matches(tree, pattern) for pattern in rule.keep]
        staying = {file for found in kept for file in found}
        going = [matches(tree, pattern, staying) for pattern in rule.remove]
        for pattern, found in zip((*rule.keep, *rule.remove), (*kept, *going), strict=True):
            idle += [] if found else [f"{pattern} ({rule.what})"]
        for found in going:
            doomed |= {file: doomed.get(file, True) and is_part for file, is_part in found.items()}
        progress("prune", done, len(rules))
    if idle:
        raise LayerError(f"{RULES.name}: nothing matches {', '.join(idle)}; fix or delete the rule")
    for file, is_part in doomed.items():
        if is_part and is_licence(file):
            kept_at = tree / LICENCES / file.relative_to(tree)
            kept_at.parent.mkdir(parents=True, exist_ok=True)
            file.rename(kept_at)
        else:
            file.unlink()


def matches(tree: Path, pattern: str, but: Set[Path] = frozenset()) -> dict[Path, bool]:
    """Map the files that a pattern matches to whether the match is only a part of their package."""
    return {file: path.parent != tree for path in tree.glob(pattern) for file in files(path) if file not in but}


def is_licence(path: Path) -> bool:
    """Check whether a file is a licence or notice that has to be distributed with its package."""
    return bool(LICENCE.match(path.name)) and path.suffix not in {".py", ".pyi", ".so"}


def files(path: Path) -> Iterator[Path]:
    """Yield all files below a folder; for a file, the file itself."""
    return (each for each in path.rglob("*") if not each.is_dir()) if path.is_dir() else iter([path])


def size(paths: Iterable[Path]) -> int:
    """Return the total bytes of files as Lambda counts them: contents only."""
    return sum(path.stat().st_size for path in paths)
