"""Commands of a developer that only start other programs: pytest, ruff, mypy and the shell scripts of this folder."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from scripts import ROOT, console

FAST = ("-m", "fast", "tests/unit")


def show_setup() -> None:
    """Say which Python is set up; the Makefile has done the work."""
    console.OUT.print(f" Python {platform.python_version()} in .venv", style="dim")


def run_tests() -> NoReturn:
    """Run the tests that TESTS names, all but the slow ones by default."""
    chosen = shlex.split(os.environ.pop("TESTS", ""))  # which is no business of the commands that the tests run
    become(python("pytest", *(chosen or ("-m", "not slow"))))


def run_fast_tests() -> NoReturn:
    """Run the quick unit tests."""
    become(python("pytest", *FAST))


def run_slow_tests() -> NoReturn:
    """Run the slow tests."""
    become(python("pytest", "-m", "slow"))


def fuzz() -> NoReturn:
    """Try EXAMPLES random inputs of each kind."""
    os.environ.setdefault("EXAMPLES", "2000")
    seed = os.environ.get("SEED") or "random"
    words = ("--dist", "load", "--timeout", "0", "--hypothesis-profile", "fuzz", f"--hypothesis-seed={seed}")
    become(python("pytest", "tests/security/test_fuzz.py", *words))


def lint() -> None:
    """Check formatting, style, types and the direction of imports, one after the other; stop at the first fault."""
    for words in (
        python("ruff", "format", "--check", "."),
        python("ruff", "check", "."),
        python("mypy"),
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"],
    ):
        run(words)


def format_code() -> None:
    """Format the code, and fix what can be fixed."""
    run(python("ruff", "format", "."))
    run(python("ruff", "check", "--fix", "."))


def lint_infra() -> NoReturn:
    """Check all that is not Python."""
    become(["scripts/lint_infra.sh"])


def lock() -> NoReturn:
    """Lock the requirements; with KEEP=1, at the versions that are locked already where they are still allowed."""
    os.environ["KEEP"] = "1" if console.flag("KEEP") else ""
    become(["scripts/lock.sh"])


def draw_pictures() -> NoReturn:
    """Draw the pictures of the documentation."""
    become(["scripts/picture.sh"])


def python(module: str, *words: str) -> list[str]:
    """Return the command line of a Python module."""
    return [sys.executable, "-m", module, *words]


def run(words: list[str]) -> None:
    """Run a program in the repository; end with its exit code if it fails."""
    if code := subprocess.run(words, cwd=ROOT, check=False).returncode:
        sys.exit(code)


def become(words: list[str]) -> NoReturn:
    """Replace this process by a program in the repository, which so gets Ctrl-C and returns its own exit code."""
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(words[0], words)  # noqa: S606 no shell is wanted
