"""Bytecode without docstrings, beside sources that are empty."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.layer import bare
from scripts.layer.bytecode import compile_bare
from scripts.layer.prune import list_documented
from scripts.layer.target import LayerError

MODULE = '''"""The module's words."""
from __future__ import annotations


class Thing:
    """A thing."""


class Sized:
    """A thing with a size."""

    size = 3

    def fail(self):
        """Fail."""
        assert not self.size, "three is too many"


async def wait():
    """Wait."""
    """Still wait."""


def given(): return "a string that is returned"
'''
LOOK = "import a.m as m; print([each.__doc__ for each in (m, m.Thing, m.Sized, m.Sized.fail, m.wait)], m.given())"


def compiled(tmp_path: Path, *documented: str, source: str = MODULE) -> Path:
    """Compile a package `a` with a module `m`; return the folder with it."""
    tree = tmp_path / "python"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "__init__.py").write_text("")
    (tree / "a" / "m.py").write_text(source)
    compile_bare(Path(sys.executable), tree, documented)
    return tree


def python(tree: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(tree)!r}); {script}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_docstrings_are_left_out_and_other_strings_stay(tmp_path: Path) -> None:
    done = python(compiled(tmp_path), LOOK)
    assert done.stdout == f"{[None] * 5} a string that is returned\n", done.stderr


@pytest.mark.parametrize("path", ["a", "a/m.py"])
def test_a_path_may_keep_its_docstrings(tmp_path: Path, path: str) -> None:
    done = python(compiled(tmp_path, path), LOOK)
    assert done.stdout.startswith("[\"The module's words.\", 'A thing.', 'A thing with a size.', 'Fail.', 'Wait.']")


def test_assertions_stay_and_their_tracebacks_name_file_and_line(tmp_path: Path) -> None:
    tree = compiled(tmp_path)
    line = MODULE.splitlines().index('        assert not self.size, "three is too many"') + 1
    done = python(tree, "from a.m import Sized; Sized().fail()")
    assert f'File "{tree}/a/m.py", line {line}, in fail\n' in done.stderr
    assert done.stderr.endswith("AssertionError: three is too many\n")


def test_nothing_of_the_sources_is_left(tmp_path: Path) -> None:
    tree = compiled(tmp_path)
    assert [each.name for each in tree.rglob("*.py") if "raise ImportError" not in each.read_text()] == []
    assert not any("words" in each.read_text() for each in tree.rglob("*.py"))


def test_a_python_that_cannot_use_the_bytecode_says_so(tmp_path: Path) -> None:
    tree = compiled(tmp_path)
    shutil.rmtree(tree / "a" / "__pycache__")  # as for another version, which looks for another name
    done = python(tree, "import a.m")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"ImportError: the layer has bytecode for Python {version} only, and no sources" in done.stderr


def test_a_source_that_cannot_be_compiled_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"bytecode could not be written:\n.*a/m\.py: invalid syntax"):
        compiled(tmp_path, source="def (:\n")


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    with_words, without = (bare.compile_source(MODULE.encode(), "m.py", is_documented=each) for each in (True, False))
    lines = [{line for _, _, line in code.co_lines() if line} for code in (with_words, without)]
    assert lines[1] <= lines[0]


def test_paths_with_docstrings_that_match_nothing_are_named(tmp_path: Path) -> None:
    rules = tmp_path / "prune.toml"
    rules.write_text('rule = []\n[docstrings]\nwhy = "a test"\nkeep = ["a", "gone/*.py"]\n')
    (tmp_path / "a").mkdir()
    with pytest.raises(LayerError, match=r"^prune\.toml: nothing matches gone/\*\.py in \[docstrings\]"):
        list_documented(tmp_path, rules)
