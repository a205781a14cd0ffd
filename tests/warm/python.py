"""Python processes that need not import the packages, because they are copies of one that has."""

import atexit
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent
PACKAGES = (
    *("numpy", "pandas", "requests", "tenacity", "filelock", "holidays", "holidays.countries", "holidays.financial"),
    *("boto3", "s3transfer", "click", "rich.console", "rich.table", "rich.progress", "jinja2"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "backtrader", "empyrical", "prophet"),
)
"""What takes the commands most of their time to import. Of our own modules there is none: each command imports them."""


def python(*, fresh: bool = False) -> Sequence[str]:
    """Return how to start Python, for a command line: `[*python(), "-m", "scripts", "run"]`.

    A process started like this is a copy of a Python that has imported PACKAGES, and takes a third of the time. Its
    output, signals and exit code are as always, but it has no process group of its own, and the seed of hashes is the
    same in all copies. `fresh` asks for Python itself, for tests that depend on these, or on what imports do.
    """
    if fresh or sys.platform != "linux":
        return [sys.executable]
    return command(_serve())


def command(socket: str) -> Sequence[str]:
    """Return how to start a copy of a server's Python."""
    return [sys.executable, "-I", "-S", str(FOLDER / "client.py"), socket]


@cache
def write_program(folder: Path, seeds: Sequence[int], *packages: str) -> Path:
    """Write a program that stands for Python in tests that need a file, and a seed of hashes; return its path.

    It starts a copy of a Python that has imported the packages, with the seed in PYTHONHASHSEED, which must be one of
    `seeds`.
    """
    sockets = {seed: _serve(packages, PYTHONHASHSEED=str(seed), OPENBLAS_NUM_THREADS="1") for seed in seeds}
    cases = "".join(f'{seed}) exec {shlex.join(command(at))} "$@" ;;\n' for seed, at in sockets.items())
    path = folder / "python"
    path.write_text(f"#!/bin/sh\ncase $PYTHONHASHSEED in\n{cases}esac\nexit 1\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@cache
def _serve(packages: Sequence[str] = PACKAGES, **variables: str) -> str:
    """Start a server, and return its socket; it ends with this process."""
    folder = TemporaryDirectory(prefix="warm-")
    atexit.register(folder.cleanup)
    path = str(Path(folder.name, "socket"))
    server = subprocess.Popen(
        [sys.executable, "-I", str(FOLDER / "server.py"), path, *packages],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "MPLCONFIGDIR": folder.name, **variables},
        start_new_session=True,  # Ctrl-C in the terminal is for pytest
        text=True,
    )
    atexit.register(server.communicate)
    assert server.stdout is not None, "it is a pipe"
    assert server.stdout.readline() == "ready\n", "the server has not started"
    return path
