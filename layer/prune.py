"""The prune rules: data in prune.toml, applied here."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from layer.target import HERE, LayerError

RULES = HERE / "prune.toml"
LICENCES = "licences"
LICENCE = re.compile(r"(licen[cs]es?|copying|notice|authors|copyright)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Paths that do not go into the layer: globs below its python/ folder."""

    what: str
    why: str
    remove: tuple[str, ...]
    keep: tuple[str, ...] = ()


def read_rules(path: Path = RULES) -> tuple[Rule, ...]:
    """The rules of a file. Raises LayerError if it is not understood."""
    try:
        return tuple(
            Rule(what=rule["what"], why=rule["why"], remove=tuple(rule["remove"]), keep=tuple(rule.get("keep", ())))
            for rule in tomllib.loads(path.read_text())["rule"]
        )
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise LayerError(f"{path.name}: each [[rule]] needs what, why and remove: {error}") from error


def prune(tree: Path, rules: Sequence[Rule]) -> None:
    """Remove what the rules name. Raises LayerError for a path that matches nothing: it has outlived its reason.

    Where a part goes and the rest of the package stays, the part's licences stay too, in a folder of their own:
    Prophet takes a folder with nothing but a licence in it for a whole CmdStan.
    """
    doomed: dict[Path, bool] = {}  # and whether the rest of the package stays
    idle = []
    for rule in rules:
        kept = {path for pattern in rule.keep for path in tree.glob(pattern)}
        for pattern in rule.remove:
            found = [path for path in tree.glob(pattern) if path not in kept]
            if not found:
                idle.append(f"{pattern} ({rule.what})")
            for path in found:
                doomed |= {file: doomed.get(file, True) and path.parent != tree for file in files(path)}
    if idle:
        raise LayerError(f"{RULES.name}: nothing matches {', '.join(idle)}; mend or delete the rule")
    for file, is_part in doomed.items():
        if is_part and is_licence(file):
            kept_at = tree / LICENCES / file.relative_to(tree)
            kept_at.parent.mkdir(parents=True, exist_ok=True)
            file.rename(kept_at)
        else:
            file.unlink()


def is_licence(path: Path) -> bool:
    """Whether a file is one that its package's licence asks to be passed on."""
    return bool(LICENCE.match(path.name)) and path.suffix not in {".py", ".pyi", ".so"}


def files(path: Path) -> Iterator[Path]:
    """All files below a folder; of a file, itself."""
    return (each for each in path.rglob("*") if not each.is_dir()) if path.is_dir() else iter([path])


def size(paths: Iterable[Path]) -> int:
    """Bytes of files, as Lambda counts them: contents only."""
    return sum(path.stat().st_size for path in paths)
