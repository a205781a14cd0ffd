"""Executors that run tasks: processes on this machine or an existing Dask cluster, behind concurrent.futures."""

import logging
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.backtest.model import BacktestError
from scripts.backtest.workers import set_up
from scripts.sweep import tasks as work
from scripts.sweep.posts import ClusterPost, Direct, FolderPost, Post
from scripts.sweep.sharing import Ran

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
SUSPECTED = Failure(why="its workers died, perhaps of another task, and it will be retried alone")

REMEDY = (
    "too little memory is the usual cause: use fewer workers for each computer, fewer symbols or a shorter HISTORY_BARS"
)
"""What to do about a task that is given up."""


@dataclass(slots=True, kw_only=True)
class Lane:
    """An executor, and the number of tasks it gets at once. If that is 1, a worker's death points to its task."""

    start: Callable[[], Executor]
    depth: int = 1
    post: Post = field(default_factory=Direct)
    executor: Executor = field(init=False)

    def __post_init__(self) -> None:
        self.executor = self.start()

    def submit(self, function: Callable[[Any], Any], argument: object) -> Future[Any]:
        """Submit a task; an executor whose process died, in its last task or while idle, is replaced."""
        try:
            return self.post.submit(self.executor, function, argument)
        except BrokenProcessPool:
            self.executor.shutdown(wait=False, cancel_futures=True)
            self.executor = self.start()
            return self.post.submit(self.executor, function, argument)


class _Queue[T]:
    """The tasks that no worker has, each with its name."""

    def __init__(self, tasks: Iterable[tuple[str, T]]) -> None:
        self._waiting = iter(tasks)
        self._ready: deque[tuple[str, T]] = deque()
        self._suspects: deque[tuple[str, T]] = deque()

    def take(self, *, is_alone: bool) -> tuple[str, T] | None:
        """Return the next task; None if there is none for now. `is_alone`: no other task is under way."""
        self.look_ahead()
        if self._ready:
            return self._ready.popleft()
        return self._suspects.popleft() if self._suspects and is_alone else None

    def look_ahead(self) -> None:
        """Make the next task ready."""
        if not self._ready:
            self._ready.extend(islice(self._waiting, 1))

    def retry(self, name: str, argument: T) -> None:
        """Put a task back, before all others."""
        self._ready.appendleft((name, argument))

    def put_aside(self, name: str, argument: T) -> None:
        """Put a task back until no other is left: it runs alone, so that a worker's death points to it."""
        self._suspects.append((name, argument))


@dataclass(slots=True, kw_only=True)
class Workers:
    """Lanes that receive tasks as they become free."""

    lanes: list[Lane]
    check: Callable[[], None] = lambda: None  # raises BacktestError if the workers are lost
    deadly: tuple[type[Exception], ...] = ()  # what an executor raises for a task whose workers died
    guard: dict[str, str] | None = None  # the fingerprint that workers must have, even those that join later
    spent: list[tuple[str, Ran]] = field(default_factory=list)  # name of each finished task, and its time
    _checked_s: float = field(init=False, default_factory=time.monotonic)

    def count(self) -> int:
        """Return the number of tasks that are with the workers at once."""
        return sum(lane.depth for lane in self.lanes)

    def results[T, R](
        self, function: Callable[[T], R], tasks: Iterable[tuple[str, T]]
    ) -> Iterator[tuple[str, R | Failure]]:
        """Yield the name and the result of each task, in order of completion.

        `function` and the tasks must be picklable; what tasks share goes to each worker once. The result is a Failure
        if the task raises BacktestError, if it runs out of memory, or if too many workers die while running it:
        MAX_DEATHS, or as many as Dask allows, and then as many again while no other task runs. Any other error of the
        function is raised. Raises BacktestError if the workers are lost, or if one has other versions.
        """
        if self.guard:
            function = partial(work.run_guarded, function, self.guard)
        queue = _Queue(tasks)
        deaths: Counter[str] = Counter()
        under_way: dict[Future[Any], tuple[Lane, str, T]] = {}
        finished: list[tuple[str, Any]] = []
        while True:
            for lane in self._free(under_way.values()):
                if (task := queue.take(is_alone=not under_way)) is None:
                    break
                under_way[lane.submit(function, task[1])] = (lane, *task)
            yield from finished  # while the workers work
            finished.clear()
            if not under_way:
                return
            queue.look_ahead()
            done, _ = wait(under_way, timeout=CHECK_S, return_when=FIRST_COMPLETED)
            self._check_at_times()
            for future in done:
                _, name, argument = under_way.pop(future)
                result = self._result(name, future, deaths)
                if result is DIED:
                    queue.retry(name, argument)
                elif result is SUSPECTED:
                    queue.put_aside(name, argument)
                else:
                    finished.append((name, result))

    def _check_at_times(self) -> None:
        if time.monotonic() - self._checked_s >= CHECK_S:
            self.check()
            self._checked_s = time.monotonic()

    def _result(self, name: str, future: Future[Any], deaths: Counter[str]) -> Any:  # noqa: ANN401 - as in results
        """Return the result of a task; DIED or SUSPECTED if its worker died and the task should be retried."""
        try:
            result = future.result()
        except BacktestError as error:
            return Failure(why=str(error))
        except MemoryError as error:
            return Failure(why=f"its worker ran out of memory ({error or 'MemoryError'}); {REMEDY}")
        except work.OtherVersionError as error:
            raise BacktestError(
                f"a worker that joined during the sweep has other versions: {error}; restart it with the same versions"
            ) from error
        except self.deadly as error:
            deaths[name] += 1
            if deaths[name] == 1:
                return SUSPECTED
            return Failure(why=f"its workers died while running it and no other task: {error}; {REMEDY}")
        except BrokenProcessPool:
            deaths[name] += 1
            if deaths[name] < MAX_DEATHS:
                return DIED
            return Failure(why=f"{MAX_DEATHS} worker processes in a row died while running it; {REMEDY}")
        except CancelledError:
            self.check()
            raise
        if not isinstance(result, Ran):
            return result
        self.spent.append((name, replace(result, result=None)))
        return result.result

    def _free(self, under_way: Iterable[tuple[Lane, str, object]]) -> Iterator[Lane]:
        """Yield the lanes that can take a task, in turn, once for each task that they can take."""
        room = {id(lane): lane.depth for lane in self.lanes}
        for lane, _, _ in under_way:
            room[id(lane)] -= 1
        for taken in range(max(room.values())):
            yield from (lane for lane in self.lanes if room[id(lane)] > taken)


# --- on this machine -------------------------------------------------------------------------------------------------


@contextmanager
def local(workers: int) -> Iterator[Workers]:
    """Start worker processes, each with its own executor, so that the others go on if one dies.

    The processes end with the block. After an interruption or an error, they are terminated at once.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder, _processes(workers, FolderPost(Path(folder))) as lanes:
        yield Workers(lanes=lanes)


@contextmanager
def _processes(workers: int, post: Post) -> Iterator[list[Lane]]:
    """Start worker processes, and end them with the block."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    _start_forkserver()
    others = set(multiprocessing.active_children())
    start = partial(ProcessPoolExecutor, 1, mp_context=context, initializer=set_up)
    lanes = [Lane(start=start, post=post) for _ in range(workers)]
    try:
        yield lanes
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
        watch = SchedulerWatch(client, address)
        post = ClusterPost(client, watch)
        lane = Lane(start=partial(client.get_executor, pure=False), depth=2 * threads, post=post)

        def check() -> None:
            if joined := watch():
                lane.depth = 2 * joined
                post.spread()

        try:
            yield Workers(lanes=[lane], check=check, deadly=(KilledWorker,), guard=work.fingerprint())
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
        self._known = set(client.nthreads())  # type: ignore[no-untyped-call]

    def __call__(self) -> int:
        """Check once. Return the number of threads of all workers if others than before are there, and 0 otherwise."""
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
        new, self._known = threads.keys() - self._known, set(threads)
        return sum(threads.values()) if new else 0


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
