"""A reader who types the commands of a page, one after the other, in a clone of his own.

What a command prints depends on the commands before it. Pages that begin with the same commands share them: each state
of the output folder is kept, and a command is run once in each state.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts import ROOT
from tests.warm.python import python_of_clone

CLONED = (
    *("Makefile", "function", "pyproject.toml", "requirements", "scripts", "terraform", ".python-version"),
    *("layer/requirements.txt", "layer/prune.toml"),  # and not the folder, of which make clean removes a part
)
"""What the reader's clone shares with the repository: nothing that a command on a page writes or removes."""

TIMEOUT_S = 840
COLUMNS = "104"
"""The width of the reader's terminal."""

SET_UP = (".set-up", ".set-up-dev")
"""The files by which make knows that the packages are installed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, on both streams as a terminal shows them, and its exit code."""

    code: int
    printed: str


@dataclass(slots=True)
class Clone:
    """A folder that looks like a clone with everything installed, and the states in which it has been so far."""

    folder: Path
    env: Mapping[str, str]
    known: dict[tuple[str, ...], Answer] = field(default_factory=dict)
    present: tuple[str, ...] = ()

    @classmethod
    def make(cls, folder: Path, extra: Mapping[str, str]) -> "Clone":
        """Make the clone in a new folder: links to the repository, but an output folder of its own."""
        clone, kept = folder / "prophet-trader", folder / "kept"
        for path in (clone / ".venv", clone / "out", kept / "()"):
            path.mkdir(parents=True)
        for name in CLONED:
            (clone / name).parent.mkdir(exist_ok=True)
            (clone / name).symlink_to(ROOT / name)
        shutil.copytree(
            ROOT / "rules", clone / "rules", ignore=shutil.ignore_patterns("__pycache__")
        )  # pages add to it
        for mark in SET_UP:
            (clone / ".venv" / mark).touch()
        write_program(clone / ".venv" / "bin" / "python", shlex.join(python_of_clone(clone)))
        program = write_program(folder / "bin" / "prophet-trader", ".venv/bin/python -m scripts")
        env = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "COLUMNS": COLUMNS,
            "PYTHONPATH": "function:.",
            "HOME": str(folder),
            "MPLCONFIGDIR": str(folder / "matplotlib"),
            **extra,
        }
        return cls(clone, env)

    def type(self, history: tuple[str, ...], command: str) -> Answer:
        """Return the answer to a command after those of `history`, all of which have been typed before."""
        after = (*history, command)
        if after not in self.known:
            self._go_to(history)
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            self.known[after] = Answer(done.returncode, done.stdout)
            self.present = after
            self._keep()
        return self.known[after]

    def _go_to(self, history: tuple[str, ...]) -> None:
        """Give the output folder the content that it had after these commands."""
        if history != self.present:
            shutil.rmtree(self.folder / "out", ignore_errors=True)
            shutil.copytree(self._kept(history), self.folder / "out")
            self.present = history

    def _keep(self) -> None:
        (self.folder / "out").mkdir(exist_ok=True)
        shutil.copytree(self.folder / "out", self._kept(self.present), dirs_exist_ok=True)

    def _kept(self, history: tuple[str, ...]) -> Path:
        """Return the folder in which a state is kept."""
        number = list(self.known).index(history) if history else "()"
        return self.folder.parent / "kept" / str(number)


def write_program(path: Path, words: str) -> Path:
    """Write a program that hands its arguments on to other words; return its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path
