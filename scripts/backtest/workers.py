"""The processes that a backtest computes its forecasts in."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor


def pool(workers: int | None = None) -> ProcessPoolExecutor:
    """A pool of `workers` processes, one a core unless told otherwise, with Prophet imported once for all of them."""
    context = multiprocessing.get_context("forkserver")  # a fork of a process with threads may hang
    context.set_forkserver_preload(["scripts.backtest.forecasts", "prophet"])
    return ProcessPoolExecutor(workers or cores(), mp_context=context, initializer=ignore_interruptions)


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ignore_interruptions() -> None:
    """Ctrl-C reaches all processes of a terminal; what to do about it is decided in the first one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
