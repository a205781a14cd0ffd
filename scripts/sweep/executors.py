"""Executors that run tasks: processes on this machine or an existing Dask cluster, behind concurrent.futures."""

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
"""The number of workers that die while running a task before the task is given up."""

CONNECT_S = 10
"""Seconds to wait for a Dask scheduler to answer."""

CHECK_S = 2
"""Seconds between checks of the workers while no task finishes."""

WITHOUT_WORKERS_S = 60
"""Seconds that a cluster may have no workers, for example while it restarts."""

PRELOADED = (work.__name__, "scripts.backtest.preloaded", "holidays")
"""Modules that are imported once for all workers of this machine: each takes tenths of a second or more."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Variables of each worker, as Dask sets them: processes use all cores, and sums depend on the number of threads."""

LOCALLY = "--host 127.0.0.1 --no-dashboard"
"""Options with which Dask's processes listen to this computer alone. Whoever can reach them can run code on them."""

START_SCHEDULER = f".venv/bin/dask scheduler {LOCALLY}"
"""The command that starts workers, for a user to type in a copy of this repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The reason why a task has no result."""

    why: str


DIED = Failure(why="its worker died, and it will be retried")


@dataclass(slots=True, kw_only=True)
class Lane:
    """An executor, and the number of tasks it gets at once. If that is 1, a worker's death points to its task."""

    start: Callable[[], Executor]
    depth: int = 1
    is_sealed: bool = False  # tasks pass through a process that cannot import our code: a Dask scheduler
    executor: Executor = field(init=False)

    def __post_init__(self) -> None:
        self.executor = self.start()

    def restart(self) -> None:
        """Replace a broken executor."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self.start()


@dataclass(slots=True, kw_only=True)
class Workers:
    """Lanes that receive tasks as they become free."""

    lanes: list[Lane]
    check: Callable[[], None] = lambda: None  # raises BacktestError if the workers are lost
    deadly: tuple[type[Exception], ...] = ()  # what an executor raises for a task whose workers died
    guard: dict[str, str] | None = None  # the fingerprint that workers must have, even those that join later

    def results[T, R](
        self, function: Callable[[T], R], tasks: Iterable[tuple[str, T]]
    ) -> Iterator[tuple[str, R | Failure]]:
        """Yield the name and the result of each task, in order of completion.

        `function` and the tasks must be picklable. The result is a Failure if the task raises BacktestError or if too
        many workers die while running it: MAX_DEATHS, or as many as Dask allows. Any other error of the function is
        raised. Raises BacktestError if the workers are lost, or if one has other versions.
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
        """Return the result of a task; DIED if its worker died and the task should be retried."""
        try:
            return future.result()
        except BacktestError as error:
            return Failure(why=str(error))
        except work.OtherVersionError as error:
            raise BacktestError(
                f"a worker that joined during the sweep has other versions: {error}; restart it with the same versions"
            ) from error
        except self.deadly as error:
            return Failure(why=f"its workers died while running it: {error}")
        except BrokenProcessPool:
            deaths[name] += 1
            if deaths[name] < MAX_DEATHS:
                return DIED
            return Failure(why=f"{MAX_DEATHS} worker processes in a row died while running it")
        except CancelledError:
            self.check()
            raise

    def _free(self, under_way: Iterable[tuple[Lane, str, object]]) -> Iterator[Lane]:
        """Yield the lanes that can take a task, in turn, once for each task that they can take."""
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
    except BrokenProcessPool:  # its worker died, in its last task or while idle
        lane.restart()
        return lane.executor.submit(function, argument)


def _opener() -> Callable[[bytes], Any]:
    """Return a function that unpacks and runs a task. It is local, so that Dask sends its code instead of its name."""

    def open_sealed(sealed: bytes) -> Any:  # noqa: ANN401 - whatever the task returns
        import pickle

        function, argument = pickle.loads(sealed)  # noqa: S301 - our own bytes
        return function(argument)

    return open_sealed


# --- on this machine -------------------------------------------------------------------------------------------------


@contextmanager
def local(workers: int) -> Iterator[Workers]:
    """Start worker processes, each with its own executor, so that the others go on if one dies.

    The processes end with the block. After an interruption or an error, they are terminated at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
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
    """Start the process from which workers are forked, so that it ignores Ctrl-C."""
    kept = {name: os.environ.get(name) for name in ONE_THREAD}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited, so it also holds during imports
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

    Raises BacktestError if no scheduler answers at the address, if it has no workers, or if a worker cannot import our
    code or has other versions of our code or of the packages.
    """
    import distributed  # takes a second, and only a cluster needs it
    from distributed.scheduler import KilledWorker

    for name in ("distributed", "distributed.client"):  # they log tracebacks of errors that are reported below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise BacktestError(
            f"SCHEDULER={address}: no Dask scheduler answers there ({error}); "
            f"start one with `{START_SCHEDULER}` (docs/how-to/choose-settings.md shows how over several computers, "
            "with TLS), "
            "or leave SCHEDULER out to use this machine"
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


def start_workers(address: str) -> str:
    """Return the command that starts workers for a scheduler; without TLS, they listen to this computer alone."""
    listen = LOCALLY if address.startswith("tcp:") else "--no-dashboard"
    return f"PYTHONPATH=function:. .venv/bin/dask worker {address} {listen} --nworkers 2 --nthreads 1"


class SchedulerWatch:
    """A check that raises BacktestError if a cluster is lost or has had no workers for too long."""

    def __init__(self, client: "distributed.Client", address: str) -> None:
        self._client = client
        self._address = address
        self._seen_s = time.monotonic()

    def __call__(self) -> None:
        """Check once."""
        keeps = "finished work is kept, and the same command resumes the sweep"
        try:
            threads = self._client.nthreads() if self._client.status == "running" else None  # type: ignore[no-untyped-call]
        except (OSError, CancelledError):  # a broken connection is an OSError
            threads = None
        if threads is None:
            raise BacktestError(f"SCHEDULER={self._address}: the connection to the Dask scheduler was lost; {keeps}")
        if threads:
            self._seen_s = time.monotonic()
        elif time.monotonic() - self._seen_s > WITHOUT_WORKERS_S:
            raise BacktestError(
                f"SCHEDULER={self._address}: there have been no workers for {WITHOUT_WORKERS_S} s; "
                f"start some with `{start_workers(self._address)}`; {keeps}"
            )


def _count_workers(client: "distributed.Client", address: str) -> int:
    """Return the number of threads of all workers. Raises BacktestError if one cannot give the same results."""
    start = start_workers(address)
    threads = client.nthreads()  # type: ignore[no-untyped-call]
    if not threads:
        raise BacktestError(f"SCHEDULER={address}: the scheduler has no workers; start some with `{start}`")
    here = work.fingerprint()
    for worker, there in client.run(work.fingerprint, on_error="return").items():
        if not isinstance(there, dict):
            raise BacktestError(
                f"SCHEDULER={address}: worker {worker} cannot import this repository's code ({there}); "
                f"start it in a copy of the repository with `{start}`"
            )
        if others := work.differences(here, there):
            raise BacktestError(
                f"SCHEDULER={address}: worker {worker} has other versions: {others}; "
                f"give it the same versions, and restart it with `{start}`"
            )
    return sum(threads.values())
