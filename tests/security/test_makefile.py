"""No value of a variable that is given to make runs as a command, in the shell or in make itself."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts import ROOT

TEXT = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = TEXT.split(".PHONY:")[1].split()
VARIABLES = sorted(
    {*re.findall(r"\b([A-Z][A-Z_]+)=", TEXT), *re.findall(r"\$\$?[({]([A-Z][A-Z_]+)", TEXT)} - {"MAKEFILE_LIST"}
)
"""Every variable that the help or a recipe names."""

PAYLOADS = {
    "the end of double quotes": '";touch owned;"',
    "the end of single quotes": "';touch owned;'",
    "a separator": "x; touch owned",
    "a second line": "x\ntouch owned",
    "the shell's substitution": "$(touch owned)",
    "the shell's substitution, escaped for make": "$$(touch owned)",
    "backquotes": "`touch owned`",
    "make's own shell": "$(shell touch owned)",
    "make's own shell, in braces": "${shell touch owned}",
    "make's own shell, in an expression": "$(eval X := $(shell touch owned))",
    "an option of the command": "--eval=$(shell touch owned)",
}
COMMAND = """#!/bin/sh
printf '%s\\n' "$*" >>said
printf '%s\\0' "$RUN" >run
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, and a command that only notes its arguments in place of each real one."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements/dev.txt", "requirements/uv.txt", ".python-version"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    scripts = re.findall(r"scripts/\w+\.sh", TEXT)
    for name in (".venv/bin/python", ".venv/bin/lint-imports", *scripts):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(COMMAND)
        file.chmod(0o755)
    (tmp_path / ".venv/.set-up").write_text("")
    return tmp_path


def make(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    path = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        ["make", "--keep-going", *words],
        cwd=folder,
        env={**path, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("is_in_environment", [False, True], ids=["command line", "environment"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_variable_of_any_target_runs_as_a_command(folder: Path, payload: str, is_in_environment: bool) -> None:
    given = dict.fromkeys(VARIABLES, PAYLOADS[payload])
    if is_in_environment:
        make(folder, *TARGETS, env=given)
    else:
        make(folder, *TARGETS, *(f"{name}={value}" for name, value in given.items()))
    assert len((folder / "said").read_text().splitlines()) > len(TARGETS) / 2, "the commands must have run"
    assert not (folder / "owned").exists()


@pytest.mark.parametrize("is_in_environment", [False, True], ids=["command line", "environment"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_value_reaches_the_command_unchanged(folder: Path, payload: str, is_in_environment: bool) -> None:
    value = PAYLOADS[payload]
    done = make(folder, "replay", env={"RUN": value}) if is_in_environment else make(folder, "replay", f"RUN={value}")
    assert done.returncode == 0
    assert (folder / "run").read_text() == f"{value}\0"
    assert (folder / "said").read_text() == f"-m scripts.run.replay -- {value}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay"], "-m scripts.run.replay -- latest"),
        (["replay", "RUN="], "-m scripts.run.replay -- latest"),
        (["constituents"], "-m scripts.data.constituents --source=auto"),
        (["constituents", "SOURCE=offline"], "-m scripts.data.constituents --source=offline"),
        (["test"], "-m pytest -m not slow"),
        (
            ["test", "TESTS=tests/a tests/b -m 'not slow' -k \"a or b\""],
            "-m pytest tests/a tests/b -m not slow -k a or b",
        ),
        (["parity"], "-m scripts.bench.parity"),
        (["parity", "PICTURE=a b.svg"], "-m scripts.bench.parity --picture=a b.svg"),
        (["audit", "OFFLINE=1"], "-m scripts.checks.audit"),
    ],
)
def test_a_recipe_has_its_default_and_takes_another_value(folder: Path, words: list[str], said: str) -> None:
    assert make(folder, *words).returncode == 0
    assert (folder / "said").read_text() == f"{said}\n"
