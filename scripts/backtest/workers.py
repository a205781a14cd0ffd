"""The workers that compute a backtest's forecasts: processes for Prophet's package, threads for the map engine."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from trader.forecasting.map import kernel
from trader.model import Engine


def pool(engine: Engine = Engine.PROPHET, workers: int | None = None) -> Executor:
    """Return a pool of `workers`, by default one for each core.

    The map engine has threads: its compiled search does not hold Python's lock, and prices and forecasts need not be
    copied between processes. Prophet's package has processes.
    """
    if engine is Engine.MAP:
        kernel.load()  # here, so that a search that cannot be loaded is reported once, and not by each thread
        return ThreadPoolExecutor(workers or kernel.cores(), thread_name_prefix="forecasts")
    return processes(engine, workers)


def processes(engine: Engine = Engine.PROPHET, workers: int | None = None) -> ProcessPoolExecutor:
    """Return a pool of `workers` processes, by default one for each core; modules are imported once for all of them.

    It is for work that Python's lock would keep in turn, or that changes what its process has imported.
    """
    context = multiprocessing.get_context("forkserver")  # forking a process with threads may hang
    needs_prophet = ["scripts.backtest.preloaded"] if engine is Engine.PROPHET else []  # the import takes seconds
    context.set_forkserver_preload(["scripts.backtest.forecasts", *needs_prophet])
    return ProcessPoolExecutor(workers or kernel.cores(), mp_context=context, initializer=set_up)


def set_up() -> None:
    """Prepare a worker process.

    Ctrl-C reaches all processes of a terminal, but only the parent process handles it. If the parent is killed, its
    workers also end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers are set up"
    parent.join()
    os._exit(1)
