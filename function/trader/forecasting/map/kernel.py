"""The compiled search, loaded from this machine's library in `compiled/`; or the reason why there is none.

The library is made from compiled/search.c by `make kernel`. Before it is loaded, its SHA-256 is compared with the one
in compiled/libraries.sha256, so a damaged file is refused. Calls into it do not hold Python's lock, so threads run side
by side.
"""

import ctypes
import hashlib
import logging
import os
import platform
import struct
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trader.forecasting.map.posterior_mode import Floats, Integers

LOG = logging.getLogger("trader")

FOLDER = Path(__file__).with_name("compiled")
SOURCE = "search.c"
SUMS = "libraries.sha256"

LIBRARIES = {
    ("linux", "x86_64"): "linux-x86_64.so",
    ("linux", "aarch64"): "linux-aarch64.so",
    ("darwin", "arm64"): "macos-arm64.dylib",
    ("darwin", "x86_64"): "macos-x86_64.dylib",
    ("win32", "AMD64"): "windows-x86_64.dll",
}
"""The library by sys.platform and platform.machine()."""

INTERFACE = 1
"""The interface of search.c that this module calls."""

MAX_NODES = 27
MAX_WAVES = 34
"""The largest model that the library has room for; Prophet's defaults need no more."""

PATH_WORDS = 130
"""The size of a path in search.c, in words of 32 bits."""

REFERENCE = "map, the reference in NumPy"
"""The name of the engine where there is no library."""

FOUND, NOT_FINITE, STILL, NOT_FOUND = range(4)
"""The statuses of search.c."""

type Words = np.ndarray[tuple[int, ...], np.dtype[np.uint32]]
type Times = np.ndarray[tuple[int], np.dtype[np.int64]]


class UnusableLibraryError(Exception):
    """The library is missing or damaged, or cannot be loaded here."""


_JOB = struct.Struct("@5q3P3d8P")
"""`struct job` of search.c."""

type _Job = tuple[float, ...]
"""The fields of a job, but for the last: the work space."""


class Nodes:
    """The bars where a line may have a corner, and its two ends: the first bar and the last."""

    __slots__ = ("address", "bars", "count", "places")

    def __init__(self, places: Integers) -> None:
        """Raise ValueError if the library has no room for so many, or if they do not rise from bar 0."""
        self.places = np.array(places, np.int64)
        self.places.flags.writeable = False  # so that what is checked here stays true
        self.count = len(self.places)
        if not 3 <= self.count <= MAX_NODES:
            raise ValueError(f"{self.count} nodes: from 3 (two ends and a changepoint) to {MAX_NODES} are allowed")
        if self.places[0] != 0 or not (self.places[1:] > self.places[:-1]).all():
            raise ValueError(f"nodes must rise from bar 0: {self.places.tolist()}")
        self.bars = int(self.places[-1]) + 1
        self.address = _address(self.places)


class Seasons:
    """The Fourier series of a model: the period in nanoseconds and the order of each."""

    __slots__ = ("address", "count", "table", "waves")

    def __init__(self, table: Sequence[tuple[int, int]] = ()) -> None:
        """Raise ValueError if a period or an order is not positive, or if the library has no room for so many terms."""
        self.table = np.array(table, np.int64).reshape(-1, 2)
        self.table.flags.writeable = False
        self.count, self.waves = len(self.table), 2 * int(self.table[:, 1].sum())
        if (self.table < 1).any():
            raise ValueError(f"periods and orders must be positive: {self.table.tolist()}")
        if self.waves > MAX_WAVES:
            raise ValueError(f"{self.waves} Fourier terms; at most {MAX_WAVES} are allowed")
        self.address = _address(self.table)


@dataclass(slots=True, kw_only=True)
class Grid:
    """A calendar as the library reads it."""

    times_ns: Times
    nodes: Nodes
    seasons: Seasons

    @property
    def size(self) -> int:
        """The number of a model's parameters."""
        return self.nodes.count + self.seasons.waves


@dataclass(slots=True, kw_only=True)
class Rows:
    """The results for all series of a call, in order; see `struct job` of search.c."""

    parameters: Floats  # those of one series after those of another: Grid.size of each
    line: Floats  # at the nodes, in units of the series; one series after another
    numbers: Floats  # (series, 4): noise, scale, residual, mean Fourier term
    status: Integers  # (series, 2): status, whether there is another mode
    path: Words  # (series, PATH_WORDS)


class Kernel:
    """The loaded library. `version` is the beginning of its source's SHA-256."""

    def __init__(self, library: ctypes.CDLL, version: str) -> None:
        self.version = version
        self._fit = library.kernel_fit
        self._waves = library.kernel_waves
        self._fit.restype = self._waves.restype = None
        library.kernel_memory_bytes.restype = ctypes.c_int64
        self._fit.argtypes = [ctypes.c_char_p]  # the packed fields of a struct job
        self._waves.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
        library.kernel_memory_bytes.argtypes = [ctypes.c_int64, ctypes.c_int64]
        self._memory_bytes = lru_cache(maxsize=4096)(library.kernel_memory_bytes)
        self._own = threading.local()

    def fit(
        self,
        batches: Sequence[tuple[Grid, Floats]],
        line_ridge: float,
        wave_ridge: float,
        lasso: float,
        begin: Words | None = None,
        threads: int = 1,
    ) -> Rows:
        """Find the mode of each series, a row of the values on its grid, in so many threads.

        `begin` holds paths of similar series, such as one bar earlier, one for each series. A result does not depend on
        the other series, nor on `begin`. Raises ValueError if the library would leave the arrays.
        """
        asked = [(grid, *_checked(grid, values)) for grid, values in batches]
        found = make_room([(grid, len(values)) for grid, _, values in asked])
        if begin is not None:
            begin = _plain(begin, np.uint32)
            if begin.shape != found.path.shape:
                raise ValueError(f"paths have the shape {begin.shape}, not {found.path.shape}: one for each series")
        needed = max((self._memory_bytes(len(times), grid.seasons.waves) for grid, times, _ in asked), default=0)
        priors = line_ridge, wave_ridge, lasso

        def run(jobs: Sequence[_Job]) -> None:
            memory = self._memory(needed)
            for job in jobs:
                self._fit(_JOB.pack(*job, memory))

        pieces = _divide(asked, priors, begin, found, threads)
        if threads == 1:
            run(*pieces)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, pieces))
        return found

    def waves(self, seasons: Seasons, times_ns: Times) -> Floats:
        """Return the Fourier terms at any times, (times, waves), with the same bits on every machine."""
        times_ns = _plain(times_ns, np.int64)
        found = np.zeros((len(times_ns), seasons.waves))
        self._waves(_address(times_ns), len(times_ns), seasons.address, seasons.count, _address(found))
        return found

    def _memory(self, needed: int) -> int:
        """Return the address of this thread's work space of at least so many bytes, aligned to 64."""
        room: bytearray | None = getattr(self._own, "room", None)
        if room is None or len(room) < needed + 64:
            room = self._own.room = bytearray(needed + 64)
            self._own.address = -(-_address(np.frombuffer(room, np.uint8)) // 64) * 64
        address: int = self._own.address
        return address


type _Asked = tuple[Grid, Times, Floats]
"""A grid, its times and the values of its series, both without gaps in memory."""


def _checked(grid: Grid, values: Floats) -> tuple[Times, Floats]:
    """Return the times and the values without gaps in memory.

    Raises ValueError if the library would leave them, also where Python leaves assertions out.
    """
    bars = len(grid.times_ns)
    if grid.nodes.bars != bars:
        raise ValueError(f"the last node must be bar {bars - 1}, not {grid.nodes.bars - 1}")
    if values.ndim != 2 or values.shape[1] != bars:
        raise ValueError(f"values have the shape {values.shape}, but there are {bars} bars")
    return _plain(grid.times_ns, np.int64), _plain(values, np.float64)


def _plain(values: NDArray[Any], kind: type[np.generic]) -> Any:  # noqa: ANN401 an array of this kind
    """Return the values as C expects them: of this kind, aligned, and without gaps in memory."""
    made = np.ascontiguousarray(values, kind)
    return made if made.flags.aligned else made.copy()


def make_room(counts: Iterable[tuple[Grid, int]]) -> Rows:
    """Return room for the results of so many series on each grid."""
    rows = parameters = corners = 0
    for grid, count in counts:
        rows += count
        parameters += count * grid.size
        corners += count * grid.nodes.count
    return Rows(
        parameters=np.zeros(parameters),
        line=np.zeros(corners),
        numbers=np.zeros((rows, 4)),
        status=np.zeros((rows, 2), np.int64),
        path=np.zeros((rows, PATH_WORDS), np.uint32),
    )


def _divide(
    asked: Sequence[_Asked], priors: tuple[float, float, float], begin: Words | None, found: Rows, count: int
) -> list[list[_Job]]:
    """Return the jobs, in so many pieces with about the same number of series."""
    begin_at, begin_step = (0, 0) if begin is None else (_address(begin), 4 * PATH_WORDS)
    path_at, parameters_at, line_at = _address(found.path), _address(found.parameters), _address(found.line)
    numbers_at, status_at = _address(found.numbers), _address(found.status)
    pieces: list[list[_Job]] = [[] for _ in range(count)]
    most = -(-len(found.status) // count)
    piece, left = 0, most
    for grid, times_ns, values in asked:
        bars, nodes, seasons = len(times_ns), grid.nodes, grid.seasons
        head = bars, nodes.count, seasons.waves, seasons.count
        arrays = _address(times_ns), nodes.address, seasons.address
        values_at, to_do = _address(values), len(values)
        while to_do:
            if not left:
                piece, left = piece + 1, most
            rows = min(to_do, left)
            results = begin_at, path_at, parameters_at, line_at, numbers_at, status_at
            pieces[piece].append((*head, rows, *arrays, *priors, values_at, *results))
            to_do, left = to_do - rows, left - rows
            values_at += 8 * bars * rows
            begin_at += begin_step * rows
            path_at += 4 * PATH_WORDS * rows
            parameters_at += 8 * grid.size * rows
            line_at += 8 * nodes.count * rows
            numbers_at += 32 * rows
            status_at += 16 * rows
    return pieces


def _address(values: NDArray[Any]) -> int:
    address: int = values.__array_interface__["data"][0]
    return address


@cache
def load() -> Kernel | None:
    """Return this machine's library, or None and say why in the log; then the reference search in NumPy is used."""
    try:
        return _open(FOLDER)
    except UnusableLibraryError as error:
        LOG.warning("engine: the reference search in NumPy, much slower than the compiled one: %s", error)
        return None


def name_engine() -> str:
    """Name the engine that makes the map engine's forecasts here, with its version: what a record is made by."""
    library = load()
    return f"map, compiled from {library.version}" if library else REFERENCE


def _open(folder: Path) -> Kernel:
    """Load the library for this machine. Raises UnusableLibraryError with the reason."""
    machine = sys.platform, platform.machine()
    if (name := LIBRARIES.get(machine)) is None:
        raise UnusableLibraryError(f"there is none for {machine[0]} on {machine[1] or 'an unknown processor'}")
    file = folder / name
    try:
        sums, found = read_sums(folder), hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UnusableLibraryError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UnusableLibraryError(f"{folder / SUMS} is damaged: {error}") from error
    if SOURCE not in sums or name not in sums:
        raise UnusableLibraryError(f"{folder / SUMS} is damaged: it lacks {SOURCE} or {name}")
    if found != sums[name]:
        raise UnusableLibraryError(f"{file} is damaged: its SHA-256 is {found[:12]}..., not {sums[name][:12]}...")
    try:
        library = ctypes.CDLL(os.fspath(file))
        interface = library.kernel_interface
    except (OSError, AttributeError) as error:
        raise UnusableLibraryError(f"{file} cannot be loaded: {error}") from error
    interface.restype = ctypes.c_int64
    if (offered := interface()) != INTERFACE:
        raise UnusableLibraryError(f"{file} has interface {offered}, not {INTERFACE}")
    return Kernel(library, sums[SOURCE][:12])


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_sums(folder: Path = FOLDER) -> dict[str, str]:
    """Return the SHA-256 of the source and of each library, by file name. Raises OSError and UnicodeDecodeError."""
    lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
