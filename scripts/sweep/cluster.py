"""A Dask cluster on this machine, of processes that talk over TCP: for measurements and tests."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scripts.backtest.model import BacktestError
from scripts.sweep.executors import ONE_THREAD

START_S = 60
IDLE_S = 300
"""Seconds without work or without a scheduler after which the processes end, even if their parent was killed."""


@contextmanager
def cluster(
    workers: int, *, path: str | None = None, restarts: bool = False, python: Sequence[str] = (sys.executable,)
) -> Iterator[str]:
    """Start a scheduler on 127.0.0.1 with single-threaded workers, and yield its address; they end with the block.

    The scheduler cannot import our code, like one that serves many projects. `path` is the workers' PYTHONPATH, by
    default ours. `restarts`: a worker that dies is replaced. `python` is how to start Python.
    """
    import distributed  # takes a second, and only a cluster needs it

    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        here = path if path is not None else os.pathsep.join(str(Path(each).resolve()) for each in sys.path)

        def start(path: str, *words: str) -> None:
            env = {**os.environ, **ONE_THREAD, "PYTHONPATH": path}
            command = [*python, "-m", "dask", *words, "--host", "127.0.0.1", "--no-dashboard"]
            process = subprocess.Popen(command, env=env, cwd=folder, stderr=subprocess.DEVNULL)
            processes.callback(process.wait)
            processes.callback(process.terminate)

        known = str(Path(folder) / "scheduler.json")
        start("", "scheduler", "--port", "0", "--scheduler-file", known, "--idle-timeout", f"{IDLE_S}s")
        for _ in range(workers):
            alone = ("--nthreads", "1", "--local-directory", folder, "--death-timeout", f"{IDLE_S}s")
            start(here, "worker", "--scheduler-file", known, *alone, *(() if restarts else ("--no-nanny",)))
        try:
            with distributed.Client(scheduler_file=known, timeout=START_S, set_as_default=False) as client:  # type: ignore[no-untyped-call]
                if workers:
                    client.wait_for_workers(workers, timeout=START_S)
                address = str(client.scheduler_info()["address"])
        except (OSError, TimeoutError) as error:
            raise BacktestError(f"a Dask cluster on 127.0.0.1 did not start within {START_S} s: {error}") from error
        yield address
