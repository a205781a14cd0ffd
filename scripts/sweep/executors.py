"""Those who do the work: processes on this machine, or an existing Dask cluster, as executors of concurrent.futures."""

import logging
import multiprocessing
import multiprocessing.forkserver
import os
import pickle
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from scripts.backtest.model import BacktestError
from scripts.backtest.workers import set_up
from scripts.sweep import tasks as work

if TYPE_CHECKING:
    import distributed

MAX_DEATHS = 3
"""Workers that may die of a task before it is given up."""

CONNECT_S = 10
"""So long a scheduler is waited for."""

CHECK_S = 2
"""Seconds between checks that workers are alive while no task finishes."""

WITHOUT_WORKERS_S = 60
"""So long a cluster may be without a worker, as while it is restarted."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""For each worker, as Dask starts its own: the processes are what runs side by side, and sums come out the same."""

START_WORKERS = "PYTHONPATH=function:. .venv/bin/dask worker {address} --nworkers 2 --nthreads 1"
"""Commands that a user would type in a copy of this repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task without a result, and why."""

    why: str


DIED = Failure(why="its workers died, and it is to be tried again")


@dataclass(slots=True, kw_only=True)
class Lane:
    """An executor, and how many tasks it is given at once. With one at a time it is known which one it died of."""

    start: Callable[[], Executor]
    depth: int = 1
    is_sealed: bool = False  # whether tasks pass through a process that cannot import our code: a Dask scheduler
    executor: Executor = field(init=False)

    def __post_init__(self) -> None:
        self.executor = self.start()

    def restart(self) -> None:
        """Another executor in place of a broken one."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self.start()


@dataclass(slots=True, kw_only=True)
class Workers:
    """Lanes that tasks are shared out to as they become free."""

    lanes: list[Lane]
    check: Callable[[], None] = lambda: None  # raises BacktestError if no worker is left
    deadly: tuple[type[Exception], ...] = ()  # what an executor raises for a task that its workers died of
    guard: dict[str, str] | None = None  # the fingerprint that workers must have, which may join at any time

    def results[T, R](
        self, function: Callable[[T], R], tasks: Iterable[tuple[str, T]]
    ) -> Iterator[tuple[str, R | Failure]]:
        """Yield the result of each task under its name, in the order of completion.

        `function` and the tasks have to be pickle-able. A task that ends in a BacktestError, or that MAX_DEATHS
        workers die of, has a Failure for a result; any other error of the function is raised.
        """
        if self.guard:
            function = partial(work.run_guarded, function, self.guard)
        waiting = iter(tasks)
        again: deque[tuple[str, T]] = deque()
        deaths: Counter[str] = Counter()
        under_way: dict[Future[R], tuple[Lane, str, T]] = {}
        while True:
            for lane in self._free(under_way.values()):
                task = again.popleft() if again else next(waiting, None)
                if task is None:
                    break
                under_way[_submit(lane, function, task[1])] = (lane, *task)
            if not under_way:
                return
            done, _ = wait(under_way, timeout=CHECK_S, return_when=FIRST_COMPLETED)
            if not done:
                self.check()
            for future in done:
                _, name, argument = under_way.pop(future)
                if (result := self._result(name, future, deaths)) is DIED:
                    again.append((name, argument))
                else:
                    yield name, result

    def _result[R](self, name: str, future: Future[R], deaths: Counter[str]) -> R | Failure:
        """Return the result of a task; DIED if its workers died and it is to be tried again."""
        try:
            return future.result()
        except BacktestError as error:
            return Failure(why=str(error))
        except work.OtherVersionError as error:
            raise BacktestError(f"a worker that joined on the way computes with other versions: {error}") from error
        except self.deadly as error:
            return Failure(why=f"its workers died of it: {error}")
        except BrokenProcessPool:
            deaths[name] += 1
            if deaths[name] < MAX_DEATHS:
                return DIED
            return Failure(why=f"{MAX_DEATHS} worker processes died of it, one after the other")
        except CancelledError:
            self.check()
            raise

    def _free(self, under_way: Iterable[tuple[Lane, str, object]]) -> Iterator[Lane]:
        """Yield the lanes with free places: each gets a first task before any gets a second."""
        room = {id(lane): lane.depth for lane in self.lanes}
        for lane, _, _ in under_way:
            room[id(lane)] -= 1
        for taken in range(max(room.values())):
            yield from (lane for lane in self.lanes if room[id(lane)] > taken)


def _submit[T, R](lane: Lane, function: Callable[[T], R], argument: T) -> Future[R]:
    if lane.is_sealed:
        return lane.executor.submit(_opener(), pickle.dumps((function, argument)))
    try:
        return lane.executor.submit(function, argument)
    except BrokenProcessPool:  # its worker died, of its last task or while it had none
        lane.restart()
        return lane.executor.submit(function, argument)


def _opener() -> Callable[[bytes], Any]:
    """Return a function that unpacks and calls a task; Dask sends it by its code, because it is local."""

    def open_sealed(sealed: bytes) -> Any:  # noqa: ANN401 - whatever the task gives
        import pickle

        function, argument = pickle.loads(sealed)  # noqa: S301 - our own bytes
        return function(argument)

    return open_sealed


# --- on this machine -------------------------------------------------------------------------------------------------


@contextmanager
def local(workers: int) -> Iterator[Workers]:
    """Start processes, each behind an executor of its own: if one dies, the others go on.

    They are gone at the end; after an interruption or an error at once, with what they were at.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__name__, "scripts.backtest.preloaded"])
    _start_forkserver()
    others = set(multiprocessing.active_children())
    start = partial(ProcessPoolExecutor, 1, mp_context=context, initializer=set_up)
    lanes = [Lane(start=start) for _ in range(workers)]
    try:
        yield Workers(lanes=lanes)
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        for lane in lanes:
            lane.executor.shutdown(cancel_futures=True)


def _start_forkserver() -> None:
    """Start the process that workers are forked from; an interruption from the keyboard is not for it."""
    kept = {name: os.environ.get(name) for name in ONE_THREAD}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which it inherits, also while it still imports
    os.environ.update(ONE_THREAD)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, text in kept.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text


# --- on a Dask cluster -----------------------------------------------------------------------------------------------


@contextmanager
def dask(address: str) -> Iterator[Workers]:
    """Connect to the workers of an existing cluster.

    Raises BacktestError if there is no scheduler at the address, if it has no workers, and if they cannot do our work:
    for want of our code, or because theirs, or one of the packages that matter, is another than here.
    """
    import distributed  # a second, for those who have a cluster
    from distributed.scheduler import KilledWorker

    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL
        )  # it logs, with a traceback, what is raised here in our words
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise BacktestError(
            f"SCHEDULER={address}: no Dask scheduler answers there ({error}); "
            "start one with `.venv/bin/dask scheduler`, or leave SCHEDULER out to use this machine"
        ) from error
    try:
        threads = _count_workers(client, address)
        lane = Lane(start=partial(client.get_executor, pure=False), depth=2 * threads, is_sealed=True)
        try:
            yield Workers(
                lanes=[lane], check=SchedulerWatch(client, address), deadly=(KilledWorker,), guard=work.fingerprint()
            )
        finally:
            lane.executor.shutdown(wait=False)
    finally:
        client.close(timeout=CONNECT_S)  # type: ignore[no-untyped-call]


class SchedulerWatch:
    """Raises BacktestError when a cluster is lost, or has been without workers for too long."""

    def __init__(self, client: "distributed.Client", address: str) -> None:
        self._client = client
        self._address = address
        self._seen_s = time.monotonic()

    def __call__(self) -> None:
        """Look once."""
        keeps = "what is done is kept, and the same command goes on from there"
        try:
            threads = self._client.nthreads() if self._client.status == "running" else None  # type: ignore[no-untyped-call]
        except (OSError, CancelledError):  # connections that break off are an OSError, too
            threads = None
        if threads is None:
            raise BacktestError(f"SCHEDULER={self._address}: the Dask scheduler was lost on the way; {keeps}")
        if threads:
            self._seen_s = time.monotonic()
        elif time.monotonic() - self._seen_s > WITHOUT_WORKERS_S:
            raise BacktestError(
                f"SCHEDULER={self._address}: for {WITHOUT_WORKERS_S} s there has been no worker; "
                f"start some with `{START_WORKERS.format(address=self._address)}`; {keeps}"
            )


def _count_workers(client: "distributed.Client", address: str) -> int:
    """Count the threads of all workers, which must be able to do our work with the same results."""
    start = START_WORKERS.format(address=address)
    threads = client.nthreads()  # type: ignore[no-untyped-call]
    if not threads:
        raise BacktestError(f"SCHEDULER={address}: the scheduler has no workers; start some with `{start}`")
    here = work.fingerprint()
    for worker, there in client.run(work.fingerprint, on_error="return").items():
        if not isinstance(there, dict):
            raise BacktestError(
                f"SCHEDULER={address}: the worker {worker} cannot import our code ({there}); "
                f"start it in a copy of this repository with `{start}`"
            )
        if others := work.differences(here, there):
            raise BacktestError(
                f"SCHEDULER={address}: the worker {worker} computes with other versions: {others}; "
                f"bring it to the same ones, and restart it with `{start}`"
            )
    return sum(threads.values())
