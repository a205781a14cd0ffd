"""Values that many tasks share, such as prices: a worker gets each of them once, and the tasks only name it."""

import io
import os
import pickle
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, override

KEPT = 4
"""Number of shared values that a worker keeps, and of those that are kept for the workers while no task needs them."""


@dataclass(frozen=True, slots=True)
class Shared[T]:
    """A value that tasks share. Two are equal if their digests are."""

    digest: str
    value: T = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A task as bytes, in which its shared values are only named, and these values."""

    data: bytes
    shared: tuple[Shared[Any], ...]


def seal(task: object) -> Sealed:
    """Pickle a task without its shared values."""
    data = io.BytesIO()
    sealer = _Sealer(data)
    sealer.dump(task)
    return Sealed(data.getvalue(), tuple(sealer.shared.values()))


def unseal(data: bytes, find: Callable[[str], object]) -> Any:  # noqa: ANN401 - whatever was sealed
    """Return a task; `find` returns a shared value by its digest."""
    return _Unsealer(io.BytesIO(data), find).load()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The result of a task, and the time that its worker had it."""

    result: Any
    worker: str  # computer and process
    wall_s: float
    cpu_s: float  # of all threads of the process

    @classmethod
    def of(cls, open_task: Callable[[], tuple[Callable[[Any], Any], Any]]) -> "Ran":
        """Open a task and run it."""
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        function, argument = open_task()
        result = function(argument)
        return cls(
            result=result,
            worker=f"{platform.node()}:{os.getpid()}",
            wall_s=time.perf_counter() - begun_s,
            cpu_s=time.process_time() - cpu_s,
        )


def run_with_values(data: bytes, values: Mapping[str, object]) -> Ran:
    """Run a sealed function with its argument, given the shared values."""
    return Ran.of(lambda: unseal(data, values.__getitem__))


def run_with_folder(data: bytes, folder: Path) -> Ran:
    """Run a sealed function with its argument; the shared values are files in a folder, each read once."""
    return Ran.of(lambda: unseal(data, lambda digest: _read(folder / digest)))


def write(shared: Shared[Any], folder: Path) -> Path:
    """Write the file of a shared value, which is complete as soon as it has its name."""
    path, part = folder / shared.digest, folder / f"{shared.digest}.part"
    with part.open("wb") as file:
        pickle.dump(shared.value, file, protocol=pickle.HIGHEST_PROTOCOL)
    return part.rename(path)


@lru_cache(maxsize=KEPT)
def _read(path: Path) -> object:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - our own file


class _Sealer(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.shared: dict[str, Shared[Any]] = {}

    @override
    def persistent_id(self, obj: object) -> str | None:
        if not isinstance(obj, Shared):
            return None
        self.shared[obj.digest] = obj
        return obj.digest


class _Unsealer(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, find: Callable[[str], object]) -> None:
        super().__init__(file)
        self._find = find

    @override
    def persistent_load(self, pid: str) -> Shared[object]:
        return Shared(pid, self._find(pid))
