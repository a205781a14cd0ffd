"""Python processes that need not import the packages, because they are copies of one that has."""

import atexit
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts import ROOT

FOLDER = Path(__file__).parent
PACKAGES = (
    *("numpy", "pandas", "pandas.core.reshape.reshape", "pyarrow.pandas_compat", "requests", "tenacity", "filelock"),
    "holidays.financial.ny_stock_exchange",
    *("boto3", "s3transfer", "click", "rich.console", "rich.table", "rich.progress", "jinja2"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "backtrader", "empyrical", "prophet"),
)
"""What takes the commands most of their time to import, but for the repository's own modules."""

OWN = (
    *("lambda_function", "scripts.command", "scripts.checks.terraform_files", "scripts.data.made_bars"),
    *("scripts.run.local", "scripts.run.replay", "scripts.run.reconcile", "scripts.run.verify"),
    *("scripts.backtest.run", "scripts.backtest.compare", "scripts.sweep.run", "scripts.rules.run"),
    *("scripts.rules.write", "scripts.cloud.plan", "scripts.cloud.deploy", "scripts.cloud.destroy"),
    *("scripts.cloud.bootstrap", "scripts.cloud.secrets", "scripts.cloud.halt", "scripts.cloud.invoke"),
    *("scripts.cloud.logs", "scripts.cloud.rollback", "scripts.export.export", "scripts.lookahead.run"),
    *("scripts.owner.digest", "scripts.owner.report", "scripts.run.clean"),
    *("trader.broker.alpaca", "trader.broker.embedded", "trader.forecasting.stan"),
    *(f"scripts.commands.{each.stem}" for each in sorted(Path(ROOT, "scripts", "commands").glob("[a-z]*.py"))),
)
"""What the commands that tests start import of the repository. A copy in another clone forgets it again."""

TESTING = (
    *("pytest", "_pytest.main", "_pytest.terminal", "_pytest.pytester", "execnet", "unittest.mock", "pdb"),
    *("moto.server", "moto.awslambda.responses", "moto.cloudwatch.responses", "moto.dynamodb.responses"),
    *("moto.ec2.responses", "moto.events.responses", "moto.iam.responses", "moto.logs.responses"),
    *("moto.s3.responses", "moto.sns.responses", "moto.ssm.responses", "moto.sts.responses"),
    *("cryptography.x509", "detect_secrets.core.secrets_collection", "elftools.elf.elffile", "nbclient", "nbformat"),
    *("sphinx.application", "pygments.lexers", "msgspec", "psutil", "yaml"),
    *("distributed", "arch.bootstrap", "clarabel", "scipy.optimize", "tblib"),
    *("scripts.backtest.report", "scripts.bench.main", "scripts.bench.parity", "scripts.bench.scale"),
    *("scripts.layer.build", "scripts.report.html"),
)
"""What pytest's workers import in addition to OWN: nothing that pytest rewrites, such as its plugins, or tests."""

DASK = (
    *("distributed", "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"),
    *("scripts.sweep.cluster", "scripts.sweep.run", "scripts.backtest.preloaded", "pytest"),
)
"""What the processes of a Dask cluster import in tests of sweeps."""

BASE = "WARM_PYTHON"
"""The variable with the socket of a server that other processes have started."""


def python(*, fresh: bool = False) -> Sequence[str]:
    """Return how to start Python, for a command line: `[*python(), "-m", "scripts", "run"]`.

    A process started like this is a copy of a Python that has imported PACKAGES and OWN, and takes a third of the time.
    Its output, signals and exit code are as always, but it has no process group of its own, and the seed of hashes is
    the same in all copies. `fresh` asks for Python itself, for tests that depend on these, or on what imports do.
    """
    if fresh or sys.platform != "linux":
        return [sys.executable]
    return command(_serve_more(OWN, ROOT))


def python_of_clone(folder: Path) -> Sequence[str]:
    """Return how to start Python in another clone of the repository, whose modules are imported from there."""
    return command(_serve_more(OWN, folder)) if sys.platform == "linux" else [sys.executable]


def python_of_workers() -> Sequence[str]:
    """Return how to start a worker of pytest; the server serves the tests in the worker too."""
    os.environ[BASE] = _serve_more(OWN, ROOT)
    return command(_serve_more(TESTING, ROOT))  # a copy of the one above


def python_of_clusters() -> Sequence[str]:
    """Return how to start a Dask scheduler or worker, whose settings in the environment Dask will not see."""
    if sys.platform != "linux":
        return [sys.executable]
    return command(_serve_more(DASK, ROOT))


def command(socket: str) -> Sequence[str]:
    """Return how to start a copy of a server's Python."""
    return [sys.executable, "-I", "-S", str(FOLDER / "client.py"), socket]


def python_after(*modules: str) -> Sequence[str]:
    """Return how to start a Python that has imported these modules and no others, for tests of what imports do."""
    return command(_serve(modules)) if sys.platform == "linux" else [sys.executable]


@cache
def write_program(folder: Path, seeds: Sequence[int], *modules: str) -> Path:
    """Write a program that stands for Python in tests that need a file, and a seed of hashes; return its path.

    It starts a copy of a Python that has imported the modules, with the seed in PYTHONHASHSEED, which must be one of
    `seeds`.
    """
    sockets = {seed: _serve(modules, PYTHONHASHSEED=str(seed), PYTHONPATH=_paths(ROOT)) for seed in seeds}
    cases = "".join(f'{seed}) exec {shlex.join(command(at))} "$@" ;;\n' for seed, at in sockets.items())
    path = folder / "python"
    path.write_text(f"#!/bin/sh\ncase $PYTHONHASHSEED in\n{cases}esac\nexit 1\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@cache
def _serve_more(modules: Sequence[str], clone: Path) -> str:
    """Start a copy of a server as a server that has imported more, from a clone; return its socket."""
    shared = os.environ.get(BASE)
    if shared and (modules, clone) == (OWN, ROOT):
        return shared
    return _start([*command(shared or _serve()), "--serve"], modules, clone, {"PYTHONPATH": _paths(clone)})


def _paths(clone: Path) -> str:
    """Return where the modules of a clone are found, for PYTHONPATH."""
    return os.pathsep.join([str(clone / "function"), str(clone)])


@cache
def _serve(packages: Sequence[str] = PACKAGES, **variables: str) -> str:
    """Start a server, and return its socket. NumPy's linear algebra has one thread, as processes use all cores."""
    variables["OPENBLAS_NUM_THREADS"] = "1"
    return _start([sys.executable, str(FOLDER / "server.py")], packages, ROOT, variables)


def _start(program: Sequence[str], modules: Sequence[str], folder: Path, variables: Mapping[str, str]) -> str:
    """Start a program that serves, and return its socket; it ends with this process."""
    made = TemporaryDirectory(prefix="warm-")
    atexit.register(made.cleanup)
    path = str(Path(made.name, "socket"))
    server = subprocess.Popen(
        [*program, path, *modules],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "MPLCONFIGDIR": made.name, **variables},
        start_new_session=True,  # Ctrl-C in the terminal is for pytest
        text=True,
    )
    atexit.register(server.communicate)
    assert server.stdout is not None, "it is a pipe"
    assert server.stdout.readline() == "ready\n", "the server has not started"
    return path
