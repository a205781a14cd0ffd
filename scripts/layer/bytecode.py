"""Bytecode that Python loads without checking the source's modification time, which the layer's zip does not keep."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from scripts.layer import bare
from scripts.layer.bare import UNCHECKED
from scripts.layer.target import MAGIC, LayerError, Target


def is_taken(compiled: Path, target: Target) -> bool:
    """Check whether the target's Python loads a .pyc regardless of its source's time."""
    with compiled.open("rb") as file:
        head = file.read(8)
    return int.from_bytes(head[:2], "little") == MAGIC[target.python] and head[4:] == UNCHECKED


def compile_tree(python: Path, tree: Path) -> None:
    """Write __pycache__ for a whole tree, with unchecked hashes and paths relative to the tree's parent.

    Raises LayerError if a file cannot be compiled.
    """
    _compile_all(python, tree, tree.parent, "unchecked-hash", workers=0)


def compile_checked(python: Path, tree: Path) -> None:
    """Write __pycache__ for a whole tree as compile_tree does, but so that Python notices if a source has changed.

    Paths are relative to the tree. Raises LayerError if a file cannot be compiled.
    """
    _compile_all(python, tree, tree, "checked-hash", workers=1)  # one worker: the same bytes each time


def compile_bare(python: Path, tree: Path, documented: Sequence[str] = ()) -> None:
    """Write __pycache__ for a whole tree as compile_tree does, but without docstrings, and leave its sources empty.

    `documented` are paths below the tree that keep their docstrings. Raises LayerError if a file cannot be compiled.
    """
    _call([str(python), "-I", bare.__file__, str(tree), *documented])


def _compile_all(python: Path, tree: Path, root: Path, mode: str, *, workers: int) -> None:
    """Compile a tree on so many cores, 0 for all, with paths relative to `root`; `mode` is as PEP 552 names it."""
    command = [str(python), "-I", "-m", "compileall", "-q", "-f", "-j", str(workers)]
    _call([*command, "--invalidation-mode", mode, "-s", str(root), str(tree)])


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise LayerError(f"bytecode could not be written:\n{(done.stdout + done.stderr).strip()}")
