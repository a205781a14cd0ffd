"""Ways to hand tasks to an executor: what tasks share, such as prices, is sent to each worker once."""

import pickle
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scripts.backtest.model import BacktestError
from scripts.sweep import sharing
from scripts.sweep.sharing import KEPT, Shared

if TYPE_CHECKING:
    import distributed

LOOK_S = 2
"""Seconds between looks at a cluster while a value is on its way to it."""


class Post(Protocol):
    """A way to hand tasks to an executor, so that what they share is sent once."""

    def submit(self, executor: Executor, function: Callable[[Any], Any], argument: object) -> Future[Any]:
        """Submit a task. Raises what the executor raises."""
        ...


class Direct:
    """Hands over tasks of this process, which need no sending."""

    def submit(self, executor: Executor, function: Callable[[Any], Any], argument: object) -> Future[Any]:
        """Submit a task as it is."""
        return executor.submit(function, argument)


class Kept[V]:
    """The shared values that workers can read, by digest: those of the tasks under way, and the last ones."""

    def __init__(self, share: Callable[[Shared[Any]], V], drop: Callable[[V], object]) -> None:
        self._share = share
        self._drop = drop
        self.values: dict[str, V] = {}  # the one used last is last
        self._users: dict[Future[Any], tuple[str, ...]] = {}

    def take(self, some: Iterable[Shared[Any]]) -> dict[str, V]:
        """Return some values, shared if they are not yet."""
        for each in some:
            known = self.values.pop(each.digest, None)
            self.values[each.digest] = self._share(each) if known is None else known
        return {each.digest: self.values[each.digest] for each in some}

    def use(self, future: Future[Any], some: Iterable[Shared[Any]]) -> Future[Any]:
        """Keep some values until a task is done, and let go of those that are not needed."""
        self._users = {each: used for each, used in self._users.items() if not each.done()}
        self._users[future] = tuple(each.digest for each in some)
        needed = {digest for used in self._users.values() for digest in used} | set([*self.values][-KEPT:])
        for digest in self.values.keys() - needed:
            self._drop(self.values.pop(digest))
        return future


class FolderPost:
    """Hands tasks to processes of this machine. What they share is in files, which each process reads once."""

    def __init__(self, folder: Path) -> None:
        """Share values in a folder, which must exist."""
        self._folder = folder
        self._kept = Kept[Path](self._write, Path.unlink)

    def submit(self, executor: Executor, function: Callable[[Any], Any], argument: object) -> Future[Any]:
        """Submit a task. Raises BrokenProcessPool, and BacktestError if the folder is full."""
        sealed = sharing.seal((function, argument))
        self._kept.take(sealed.shared)
        return self._kept.use(executor.submit(sharing.run_with_folder, sealed.data, self._folder), sealed.shared)

    def _write(self, shared: Shared[Any]) -> Path:
        try:
            return sharing.write(shared, self._folder)
        except OSError as error:
            raise BacktestError(
                f"{self._folder}, from which the workers read the prices, cannot be written: "
                f"{error.strerror or error}; free some disk space, or set TMPDIR to a folder that has some"
            ) from error


class ClusterPost:
    """Hands tasks to a Dask cluster. What they share is in its workers' memory, or on its way from one to the next."""

    def __init__(self, client: "distributed.Client", check: Callable[[], object]) -> None:
        """`check` raises BacktestError if the workers are lost."""
        self._client = client
        self._check = check
        self._name = uuid.uuid4().hex  # other sweeps on the cluster have other values
        self._kept = Kept["distributed.Future[Any]"](self._share, _release)

    def submit(self, executor: Executor, function: Callable[[Any], Any], argument: object) -> Future[Any]:
        """Submit a task. Raises BacktestError if the workers are lost."""
        sealed = sharing.seal((function, argument))
        values = self._kept.take(sealed.shared)
        return self._kept.use(executor.submit(_opener(), sealed.data, values), sealed.shared)

    def spread(self) -> None:
        """Copy the shared values to the workers that have joined."""
        for future in self._kept.values.values():
            self._copy(future)

    def _share(self, shared: Shared[Any]) -> "distributed.Future[Any]":
        """Send a value to one worker, from which the others copy it; if all are lost, the scheduler sends it again."""
        data = pickle.dumps(shared.value, protocol=pickle.HIGHEST_PROTOCOL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a large graph: it is sent once
            future = self._client.submit(_unpacker(), data, key=f"{self._name}-{shared.digest}")
        while future.status == "pending":
            with suppress(TimeoutError):
                future.exception(timeout=LOOK_S)  # type: ignore[no-untyped-call]
            self._check()
        self._copy(future)
        return future

    def _copy(self, future: "distributed.Future[Any]") -> None:
        with suppress(OSError, KeyError, ValueError, CancelledError):  # a task that lacks it fetches it by itself
            self._client.replicate([future])  # type: ignore[no-untyped-call]


def _release(future: "distributed.Future[Any]") -> None:
    future.release()  # type: ignore[no-untyped-call]


def _opener() -> Callable[[bytes, Mapping[str, object]], Any]:
    """Return a function that runs a sealed task.

    It is local, so that Dask sends its code instead of its name: the scheduler, which unpacks it, may lack our code.
    """

    def open_sealed(data: bytes, values: Mapping[str, object]) -> Any:  # noqa: ANN401 - whatever the task returns
        from scripts.sweep.sharing import run_with_values

        return run_with_values(data, values)

    return open_sealed


def _unpacker() -> Callable[[bytes], Any]:
    """Return a function that unpacks a shared value; see _opener."""

    def unpack(data: bytes) -> Any:  # noqa: ANN401 - whatever is shared
        import pickle

        return pickle.loads(data)  # noqa: S301 - our own bytes

    return unpack
