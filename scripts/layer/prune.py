"""The prune rules: data in prune.toml, applied here."""

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
"""A glob below python/, and nothing outside of it."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths that do not go into the layer, and what of them does all the same."""

    what: Words
    why: Words
    remove: Annotated[tuple[Pattern, ...], msgspec.Meta(min_length=1)]
    keep: tuple[Pattern, ...] = ()


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of rules."""

    rule: tuple[Rule, ...]


def read_rules(path: Path = RULES) -> tuple[Rule, ...]:
    """The rules of a file. Raises LayerError if it is not understood."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Rules).rule
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LayerError(f"{path.name}: a [[rule]] has what, why, remove and perhaps keep: {error}") from error


def prune(tree: Path, rules: Sequence[Rule], progress: Progress = no_progress) -> None:
    """Remove what the rules name. Raises LayerError for a path that matches nothing: it has outlived its reason.

    Where a part goes and the rest of the package stays, the part's licences stay too, in a folder of their own:
    Prophet takes a folder with nothing but a licence in it for a whole CmdStan.
    """
    doomed: dict[Path, bool] = {}  # and whether the rest of the package stays
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
        raise LayerError(f"{RULES.name}: nothing matches {', '.join(idle)}; mend or delete the rule")
    for file, is_part in doomed.items():
        if is_part and is_licence(file):
            kept_at = tree / LICENCES / file.relative_to(tree)
            kept_at.parent.mkdir(parents=True, exist_ok=True)
            file.rename(kept_at)
        else:
            file.unlink()


def matches(tree: Path, pattern: str, but: Set[Path] = frozenset()) -> dict[Path, bool]:
    """The files that a pattern means, and of each whether it is only a part of its package that goes."""
    return {file: path.parent != tree for path in tree.glob(pattern) for file in files(path) if file not in but}


def is_licence(path: Path) -> bool:
    """Whether a file is one that its package's licence asks to be passed on."""
    return bool(LICENCE.match(path.name)) and path.suffix not in {".py", ".pyi", ".so"}


def files(path: Path) -> Iterator[Path]:
    """All files below a folder; of a file, itself."""
    return (each for each in path.rglob("*") if not each.is_dir()) if path.is_dir() else iter([path])


def size(paths: Iterable[Path]) -> int:
    """Bytes of files, as Lambda counts them: contents only."""
    return sum(path.stat().st_size for path in paths)
