"""scripts/setup.sh: what a first run needs, or all; it never removes what tests need."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the script, a .venv, and a uv that only writes down how it is called."""
    for name in ("scripts/setup.sh", "bin", ".venv/bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    program(tmp_path / "bin" / "uv", 'echo "$*" >>calls')
    program(tmp_path / ".venv" / "bin" / "python", "echo Python 3.13.0")
    return tmp_path


def program(path: Path, line: str) -> None:
    """Write a shell script of one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def set_up(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the script with the uv of the folder."""
    env = {**os.environ, "PATH": f"{clone / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = ["/bin/sh", "scripts/setup.sh", *arguments]
    return subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True, check=False)


def last_call(clone: Path) -> list[str]:
    """Return the arguments of uv's last call."""
    return (clone / "calls").read_text(encoding="utf-8").splitlines()[-1].split()


def test_what_a_first_run_needs_is_added_and_nothing_is_removed(clone: Path) -> None:
    set_up(clone, "run")
    call = last_call(clone)
    assert call[:2] == ["pip", "install"]
    assert "requirements/run.txt" in call


def test_for_development_the_environment_becomes_exactly_what_is_locked(clone: Path) -> None:
    set_up(clone, "dev")
    call = last_call(clone)
    assert call[:2] == ["pip", "sync"]
    assert "requirements/dev.txt" in call


@pytest.mark.parametrize("wanted", ["run", "dev"])
def test_a_package_without_its_locked_hash_is_not_installed(clone: Path, wanted: str) -> None:
    set_up(clone, wanted)
    assert "--require-hashes" in last_call(clone)


def test_another_word_is_refused(clone: Path) -> None:
    done = set_up(clone, "all")
    assert done.returncode == 2
    assert "none of run, dev and peers" in done.stderr


def test_whatever_a_run_needs_is_locked_for_development_too() -> None:
    run, dev = (
        {line for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines() if "==" in line}
        for name in ("run", "dev")
    )
    assert run - dev == set()


def test_other_programs_go_into_an_environment_of_their_own(clone: Path) -> None:
    program(clone / ".venv" / "peers" / "bin" / "python", "echo Python 3.13.0")
    set_up(clone, "peers")
    call = last_call(clone)
    assert call[call.index("--python") + 1] == ".venv/peers/bin/python"
    assert {"requirements/peers.txt", "--require-hashes"} <= set(call)
