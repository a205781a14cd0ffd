"""Compile a tree without its docstrings, and leave its sources empty; a program for the Python that the layer is for.

It imports nothing but the standard library: another Python than that of make may run it. Arguments: the tree, and the
paths below it whose docstrings stay. Unlike Python's option -OO it keeps assertions.
"""

import ast
import importlib.util
import marshal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import dropwhile
from pathlib import Path
from types import CodeType

UNCHECKED = (1).to_bytes(4, "little")
"""The flags of a .pyc that Python loads without checking its source's time or hash (PEP 552)."""

MARKER = "raise ImportError({text!r})\n"
"""What is left of a source: a Python that finds no bytecode of its own must not take the module for an empty one."""


def main(tree: Path, documented: Sequence[str]) -> None:
    """Compile all sources of a tree, on all cores; exit with a message if one cannot be compiled."""
    sources = sorted(tree.rglob("*.py"))
    kept = {file for path in documented for file in [tree / path, *(tree / path).rglob("*.py")]}
    with ProcessPoolExecutor() as pool:
        done = pool.map(partial(strip, tree.parent), sources, [each in kept for each in sources], chunksize=16)
        if problems := [problem for problem in done if problem]:
            sys.exit("\n".join(problems))


def strip(root: Path, source: Path, is_documented: bool) -> str:
    """Compile one source and leave it empty. Tracebacks name it relative to `root`. Return what is wrong with it."""
    try:
        code = compile_source(source.read_bytes(), str(source.relative_to(root)), is_documented=is_documented)
    except (SyntaxError, ValueError) as error:
        return f"{source}: {error}"
    compiled = Path(importlib.util.cache_from_source(str(source), optimization=""))
    compiled.parent.mkdir(exist_ok=True)
    hashed = importlib.util.source_hash(source.read_bytes())
    compiled.write_bytes(importlib.util.MAGIC_NUMBER + UNCHECKED + hashed + marshal.dumps(code))
    version = ".".join(map(str, sys.version_info[:2]))
    source.write_text(MARKER.format(text=f"the layer has bytecode for Python {version} only, and no sources"))
    return ""


def compile_source(source: bytes, name: str, *, is_documented: bool) -> CodeType:
    """Return the code of a module, without docstrings unless it `is_documented`. Raises SyntaxError, ValueError."""
    module = ast.parse(source, name)
    for node in () if is_documented else ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = leave_out_words(node.body)
    return compile(module, name, "exec", dont_inherit=True, optimize=0)


def leave_out_words(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return statements without the strings that they begin with; the second of two would else be the docstring."""
    rest = list(dropwhile(is_words, body))
    return rest or [ast.copy_location(ast.Pass(), each) for each in body[:1]]


def is_words(statement: ast.stmt) -> bool:
    """Check whether a statement is a string that nothing reads."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
