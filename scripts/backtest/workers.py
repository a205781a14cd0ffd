"""The processes that a backtest computes its forecasts in."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

from trader.model import Engine


def pool(engine: Engine = Engine.PROPHET, workers: int | None = None) -> ProcessPoolExecutor:
    """A pool of `workers` processes, one a core unless told otherwise, with what they need imported once for all."""
    context = multiprocessing.get_context("forkserver")  # a fork of a process with threads may hang
    needs_prophet = ["scripts.backtest.preloaded"] if engine is Engine.PROPHET else []  # it takes seconds
    context.set_forkserver_preload(["scripts.backtest.forecasts", *needs_prophet])
    return ProcessPoolExecutor(workers or cores(), mp_context=context, initializer=set_up)


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up() -> None:
    """What a worker begins with.

    Ctrl-C reaches all processes of a terminal; what to do about it is decided in the first one. If that one is killed,
    its workers end with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers are set up"
    parent.join()
    os._exit(1)
