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
import sys
import threading
from dataclasses import dataclass
from functools import cache
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


class _Job(ctypes.Structure):
    """`struct job` of search.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("bars", "nodes", "waves", "seasons", "rows")),
        *((name, ctypes.c_void_p) for name in ("times_ns", "node_bars", "season")),
        *((name, ctypes.c_double) for name in ("line_ridge", "wave_ridge", "lasso")),
        *((name, ctypes.c_void_p) for name in ("values", "begin", "path", "parameters", "line", "numbers")),
        *((name, ctypes.c_void_p) for name in ("status", "memory")),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A calendar as the library reads it."""

    times_ns: Times
    nodes: Integers  # the bars where the line may have a corner, and its two ends
    seasons: Integers  # (seasons, 2): period in nanoseconds, order

    @property
    def waves(self) -> int:
        """The number of Fourier terms."""
        return 2 * int(self.seasons[:, 1].sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The result for each series of a batch; see `struct job` of search.c."""

    parameters: Floats  # (rows, p)
    line: Floats  # (rows, nodes), in units of the series
    numbers: Floats  # (rows, 4): noise, scale, residual, mean Fourier term
    status: Integers  # (rows, 2): status, whether there is another mode
    path: Words  # (rows, PATH_WORDS)


class Kernel:
    """The loaded library. `version` is the beginning of its source's SHA-256."""

    def __init__(self, library: ctypes.CDLL, version: str) -> None:
        self.version = version
        self._fit = library.kernel_fit
        self._waves = library.kernel_waves
        self._memory_bytes = library.kernel_memory_bytes
        self._fit.restype = self._waves.restype = None
        self._memory_bytes.restype = ctypes.c_int64
        self._fit.argtypes = [ctypes.POINTER(_Job)]
        self._waves.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
        self._memory_bytes.argtypes = [ctypes.c_int64, ctypes.c_int64]
        self._own = threading.local()

    def fit(
        self,
        grid: Grid,
        values: Floats,
        line_ridge: float,
        wave_ridge: float,
        lasso: float,
        begin: Words | None = None,
    ) -> Rows:
        """Find the mode of each row of `values`; `begin` holds paths of similar series, such as one bar earlier.

        A row's result does not depend on the other rows, nor on `begin`.
        """
        times_ns, nodes = (np.ascontiguousarray(each, np.int64) for each in (grid.times_ns, grid.nodes))
        values, bars, waves = np.ascontiguousarray(values, np.float64), len(times_ns), grid.waves
        rows, seasons = len(values), np.ascontiguousarray(grid.seasons, np.int64)
        _check(nodes, values.shape, bars, waves)
        found = Rows(
            parameters=np.zeros((rows, len(nodes) + waves)),
            line=np.zeros((rows, len(nodes))),
            numbers=np.zeros((rows, 4)),
            status=np.zeros((rows, 2), np.int64),
            path=np.zeros((rows, PATH_WORDS), np.uint32),
        )
        if begin is not None:
            begin = np.ascontiguousarray(begin, np.uint32)
            if begin.shape != found.path.shape:
                raise ValueError(f"paths have the shape {begin.shape}, not {found.path.shape}: one for each row")
        job = _Job(
            bars,
            len(nodes),
            waves,
            len(seasons),
            rows,
            _address(times_ns),
            _address(nodes),
            _address(seasons),
            line_ridge,
            wave_ridge,
            lasso,
            _address(values),
            None if begin is None else _address(begin),
            _address(found.path),
            _address(found.parameters),
            _address(found.line),
            _address(found.numbers),
            _address(found.status),
            self._memory(bars, waves),
        )
        self._fit(job)
        return found

    def waves(self, grid: Grid, times_ns: Times) -> Floats:
        """Return the Fourier terms at any times, (times, waves), with the same bits on every machine."""
        times_ns, seasons = (np.ascontiguousarray(each, np.int64) for each in (times_ns, grid.seasons))
        found = np.zeros((len(times_ns), grid.waves))
        self._waves(_address(times_ns), len(times_ns), _address(seasons), len(seasons), _address(found))
        return found

    def _memory(self, bars: int, waves: int) -> int:
        """Return the address of this thread's work space, aligned to 64 bytes."""
        needed = self._memory_bytes(bars, waves) + 64
        room: bytearray | None = getattr(self._own, "room", None)
        if room is None or len(room) < needed:
            room = self._own.room = bytearray(needed)
            self._own.address = -(-_address(np.frombuffer(room, np.uint8)) // 64) * 64
        address: int = self._own.address
        return address


def _check(nodes: Integers, shape: tuple[int, ...], bars: int, waves: int) -> None:
    """Make sure that the library stays within its arrays, also where Python leaves assertions out.

    Raises ValueError.
    """
    if shape[1:] != (bars,):
        raise ValueError(f"values have the shape {shape}, but there are {bars} bars")
    if not 3 <= len(nodes) <= MAX_NODES:
        raise ValueError(f"{len(nodes)} nodes: from 3 (two ends and a changepoint) to {MAX_NODES} are allowed")
    if nodes[0] != 0 or nodes[-1] != bars - 1 or not (nodes[1:] > nodes[:-1]).all():
        raise ValueError(f"nodes must rise from bar 0 to bar {bars - 1}: {nodes.tolist()}")
    if waves > MAX_WAVES:
        raise ValueError(f"{waves} Fourier terms; at most {MAX_WAVES} are allowed")


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
