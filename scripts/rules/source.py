"""What the text of a rule shows without running it: later bars that it asks for, and packages that it imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath

from scripts import ROOT

REQUIREMENTS, PRUNED = ROOT / "layer" / "requirements.txt", ROOT / "layer" / "prune.toml"

FOR_RULES = {"trader.alpha.rule", "trader.model"}
"""The modules of the bot that a rule may import."""

OF_LAMBDA = {"trader", "lambda_function"}
"""What the function's zip has."""

_BACKWARD = {"shift", "diff", "pct_change", "roll"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of a rule, and what is wrong with it."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Layer:
    """What the layer has: packages with their versions, and the paths that are left out of it."""

    versions: Mapping[str, str]
    removed: Sequence[str]
    kept: Sequence[str]

    def lacks(self, module: str) -> bool:
        """Check whether a module of a package is left out."""
        parts = module.split(".")
        paths = [PurePosixPath(*parts[:count]) for count in range(1, len(parts) + 1)]
        names = [each for path in paths for each in (path, path.with_suffix(".py"))]
        if any(each.full_match(pattern) for each in names for pattern in self.kept):
            return False
        return any(each.full_match(pattern) for each in names for pattern in self.removed)


def read_layer(requirements: Path = REQUIREMENTS, pruned: Path = PRUNED) -> Layer | None:
    """Return what the layer has; None outside of the repository."""
    if not requirements.is_file() or not pruned.is_file():
        return None
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    rules = tomllib.loads(pruned.read_text(encoding="utf-8"))["rule"]
    removed = [pattern for rule in rules for pattern in rule["remove"]]
    kept = [pattern for rule in rules for pattern in rule.get("keep", ())]
    return Layer({_normalize(name): version for name, version in pins}, removed, kept)


def find_peeks(sources: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the lines that take a value from a later bar."""
    for path, node in _walk(sources):
        if isinstance(node, ast.Call) and (what := _describe_peek(node)):
            yield Finding(f"{path}, line {node.lineno}", what)


def _describe_peek(call: ast.Call) -> str:
    name = _get_name(call.func)
    given = {each.arg: each.value for each in call.keywords}
    steps = (
        given.get("periods")
        or given.get("shift")
        or (call.args[name == "roll"] if call.args[name == "roll" :] else None)
    )
    if name in _BACKWARD and isinstance(steps, ast.UnaryOp) and isinstance(steps.op, ast.USub):
        return (
            f"{name}() with a negative number takes the value of a later bar, and at the last bar there is none; "
            "to compare bars with the next ones of the past, use closes.iloc[1:] and closes.iloc[:-1]"
        )
    if isinstance(center := given.get("center"), ast.Constant) and center.value is True:
        return "center=True puts later bars into a bar's window, and the last bars have none; leave it out"
    if name in {"bfill", "backfill"}:
        return f"{name}() fills a gap with a later price; use ffill()"
    return ""


def find_suspect(sources: Mapping[str, str]) -> str:
    """Return the first line that can make processes differ; empty if there is none.

    These are sets, whose order is another in each, and astimezone() without a zone, which means the machine's.
    """
    for path, node in _walk(sources):
        is_call = isinstance(node, ast.Call) and _get_name(node.func) in {"set", "frozenset"}
        is_zone = isinstance(node, ast.Call) and _get_name(node.func) == "astimezone" and not node.args
        if is_call or is_zone or isinstance(node, ast.Set | ast.SetComp):
            return f"{path}, line {node.lineno}"  # type: ignore[attr-defined] # each of them is an expression
    return ""


def find_lacking(sources: Mapping[str, str], layer: Layer) -> Iterator[Finding]:
    """Yield the imports that the layer lacks, or has in another version than this machine."""
    beside = {PurePosixPath(path).stem for path in sources}
    for path, line, names in _list_imports(sources):
        top = names[0].partition(".")[0]
        if top in sys.stdlib_module_names or top in OF_LAMBDA or top in beside:
            continue
        if what := _describe_lack(top, names, layer):
            yield Finding(f"{path}, line {line}", what)


def find_intrusions(sources: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the imports of parts of the bot that are not made for rules."""
    for path, line, names in _list_imports(sources):
        if names[0].partition(".")[0] == "trader" and FOR_RULES.isdisjoint(names):
            what = f"imports {names[0]}, which is not made for rules; they find what they need in trader.alpha.rule"
            yield Finding(f"{path}, line {line}", what)


def _list_imports(sources: Mapping[str, str]) -> Iterator[tuple[str, int, Sequence[str]]]:
    """Yield each import: the file, the line, and the modules that it may mean."""
    for path, node in _walk(sources):
        if isinstance(node, ast.Import):
            yield from ((path, node.lineno, [each.name]) for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield path, node.lineno, [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Call) and _get_name(node.func) in {"import_module", "__import__"} and node.args:
            texts = [each.value if isinstance(each, ast.Constant) else None for each in node.args[:2]]
            name, package = (each if isinstance(each, str) else "" for each in (*texts, "")[:2])
            if found := f"{package}{name}" if name.startswith(".") else name:
                yield path, node.lineno, [found.lstrip(".")]


def _describe_lack(top: str, names: Sequence[str], layer: Layer) -> str:
    packages = [_normalize(each) for each in _list_packages().get(top, ())]
    known = [each for each in packages if each in layer.versions]
    lacking = [each for each in names if layer.lacks(each)]
    if not known or lacking:
        return f"imports {lacking[0] if known else top}, which the layer lacks"
    here, there = metadata.version(known[0]), layer.versions[known[0]]
    if here != there:
        return f"imports {known[0]}, of which the layer has {there}, and this machine {here}"
    return ""


@cache
def _list_packages() -> Mapping[str, Sequence[str]]:
    """Return the installed packages by the modules that they bring."""
    return metadata.packages_distributions()


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _get_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _walk(sources: Mapping[str, str]) -> Iterator[tuple[str, ast.AST]]:
    """Yield all nodes of the files that are Python, in the order of their lines."""
    for path, text in sources.items():
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except (SyntaxError, ValueError):
            continue
        yield from ((path, node) for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)))
