"""The copies of a Python that has imported the repository's modules: they have these, but not in another clone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT
from tests.warm.python import python, python_of_clone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="left out: copies are made on Linux only")

SHOW = "import sys; loaded = 'scripts.command' in sys.modules; import scripts; print(loaded, scripts.__file__)"


def show(program: list[str], folder: Path, **variables: str) -> str:
    """Return whether the modules were loaded when the program began, and which they are."""
    words = [*program, "-c", SHOW]
    env = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout.strip()


def copy_of_clone(folder: Path) -> Path:
    """Make a clone of links, and return the file of one of its modules."""
    for name in ("function", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    return folder / "scripts" / "__init__.py"


def test_a_copy_has_the_modules_of_the_repository(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT / "function"), str(ROOT)])
    assert show([*python()], tmp_path, PYTHONPATH=paths) == f"True {ROOT / 'scripts' / '__init__.py'}"


def test_a_copy_imports_those_of_another_clone_anew(tmp_path: Path) -> None:
    module = copy_of_clone(tmp_path)
    assert show([*python()], tmp_path, PYTHONPATH="function:.") == f"False {module}"


def test_a_copy_for_a_clone_has_the_modules_of_that_clone(tmp_path: Path) -> None:
    module = copy_of_clone(tmp_path)
    assert show([*python_of_clone(tmp_path)], tmp_path, PYTHONPATH="function:.") == f"True {module}"


@pytest.mark.parametrize("name", ["NO_COLOR", "FORCE_COLOR"])
def test_consoles_are_made_anew_if_their_variables_are_set(name: str, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT / "function"), str(ROOT)])
    assert show([*python()], tmp_path, PYTHONPATH=paths, **{name: "1"}).startswith("False ")


def test_a_command_that_inherits_everything_has_the_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "function"), str(ROOT)]))
    said = subprocess.run([*python(), "-c", SHOW], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.startswith("True ")
