"""What a rule is caught at while it loads and decides: files, the network, processes, clocks, chance, the environment.

Python reports most of it to audit hooks (PEP 578), and the calls that a rule's own lines make to sys.monitoring (PEP
669). Both look for the rule's line that is to blame: what is read because of an import, and the packages' own files,
are allowed. This finds mistakes; it is no wall against a program that hides, which the sandbox is for.
"""

import hashlib
import io
import os
import pickle
import random
import sys
import threading
import zoneinfo
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from pathlib import Path
from types import CellType, CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any

import numpy as np
import pandas as pd

import trader
from scripts.rules.report import Reach
from trader.alpha.base import RuleError, View
from trader.alpha.confinement import Beside

FILE, NETWORK, PROCESS, CLOCK, CHANCE, ENVIRONMENT = "file", "network", "process", "clock", "chance", "environment"
REACHES = (FILE, NETWORK, PROCESS, CLOCK, CHANCE, ENVIRONMENT)
"""What a rule may not reach for."""

VIEW, STATE = "view", "state"
"""What a decision may not change: what it is shown, and what the next one would see."""

_NETWORK = ("socket.", "urllib.", "http.client.", "ftplib.", "smtplib.", "imaplib.", "poplib.", "telnetlib.")
_NETWORK_PACKAGES = {
    "yfinance",
    "curl_cffi",
    "requests",
    "urllib3",
    "httpx",
    "aiohttp",
    "websockets",
    "boto3",
    "botocore",
}
_NETWORK_PACKAGES |= {"alpaca_trade_api", "pandas_datareader"}
_PROCESS = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "pty.")
_FILE = ("shutil.", "tempfile.", "glob.", "sqlite3.", "pathlib.", "dbm.", "mmap.")
_FILE_OF_OS = {
    *("listdir", "scandir", "walk", "fwalk", "remove", "rename", "mkdir", "rmdir", "chmod", "chown", "truncate"),
    *("link", "symlink", "utime", "chdir", "listdrives", "setxattr", "getxattr"),
}
_ASKING_FILES = {
    *("stat", "lstat", "access", "exists", "lexists", "isfile", "isdir", "getsize", "getmtime", "getctime"),
    *("is_file", "is_dir", "is_symlink", "samefile", "resolve", "getcwd"),
}
_CLOCKS = {
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"),
    *("process_time_ns", "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns", "strftime", "sleep"),
}
_CLOCKS_WITHOUT_ARGUMENT = {"localtime", "gmtime", "ctime", "asctime"}
_SEEDABLE = {"Random", "default_rng", "RandomState", "SeedSequence", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"}

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TOOL = 4  # the number of this tool, which sys.monitoring reserves for no other


MADE = "<string>"
"""The file name of what is compiled from a text, such as the methods of a dataclass."""

CPU_COUNT = "/sys/fs/cgroup/"
"""Where packages look for the number of processors."""

MAX_PRINTED_CHARACTERS = 20_000
"""The most that a rule may print in all: each line goes to the log."""


class RefusedError(RuleError):
    """A rule reached for something that it may not use."""


@dataclass(slots=True)
class Watch:
    """The watch over the files of a rule. What they reach for is noted, and stopped."""

    files: Collection[str]
    found: list[Reach] = field(default_factory=list)

    def begin(self, *, sees_calls: bool) -> None:
        """Begin, for the rest of this process. `sees_calls` looks at each call that the rule's lines make."""
        sys.addaudithook(self._audit)
        if sees_calls:
            _Environment.watch = self
            for each in (os.environ, os.environb) if hasattr(os, "environb") else (os.environ,):
                each.__class__ = _Environment
            sys.monitoring.use_tool_id(_TOOL, "check-rule")
            sys.monitoring.register_callback(_TOOL, sys.monitoring.events.CALL, self._see_call)
            sys.monitoring.set_events(_TOOL, sys.monitoring.events.CALL)

    def refuse(self, kind: str, what: str, frame: FrameType) -> None:
        """Note what a rule's line does. Raises RefusedError."""
        self.found.append(Reach(kind, f"{frame.f_code.co_filename}, line {frame.f_lineno}", what))
        raise RefusedError(what)

    def find_line(self) -> FrameType | None:
        """Return the rule's frame that the current call comes from; None if it comes from an import.

        In a thread that the rule has started, it is the line at which the rule waits.
        """
        main = threading.main_thread().ident or 0
        is_main = threading.get_ident() == main
        frame = sys._getframe(2) if is_main else sys._current_frames().get(main)
        while frame and frame.f_code.co_filename not in self.files:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return None
            frame = frame.f_back
        return frame

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if (found := describe_event(event, arguments, self.files)) and (frame := self.find_line()):
            self.refuse(*found, frame)

    def _see_call(self, code: CodeType, _offset: int, called: object, first: object) -> object:
        if code.co_filename not in self.files and code.co_filename != MADE:
            return sys.monitoring.DISABLE
        if (found := describe_call(called, first)) and (frame := self._find_caller()):
            self.refuse(*found, frame)
        return None

    def _find_caller(self) -> FrameType | None:
        """Return the rule's frame that calls, or whose dataclass does; None if the call is a package's."""
        frame: FrameType | None = sys._getframe(2)
        while frame and frame.f_code.co_filename == MADE:
            frame = frame.f_back
        return frame if frame and frame.f_code.co_filename in self.files else None


class Printed(io.TextIOBase):
    """Takes what a rule prints, counts it, and drops it."""

    def __init__(self, watch: Watch) -> None:
        """Report to a watch."""
        self._watch = watch
        self._characters = 0

    def write(self, text: str) -> int:
        """Count the text. Raises RefusedError if it is too much."""
        self._characters += len(text)
        if self._characters > MAX_PRINTED_CHARACTERS and (frame := self._watch.find_line()):
            self._watch.refuse(FILE, f"it prints more than {MAX_PRINTED_CHARACTERS:,} characters", frame)
        return len(text)


class _Environment(os._Environ):  # type: ignore[type-arg] # the class of os.environ, at run time not generic
    """The environment, which a rule may not read."""

    watch: Watch

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 texts or bytes
        frame: FrameType | None = sys._getframe(1)
        while frame and frame.f_code.co_filename.endswith(("os.py", "<frozen os>", "<frozen _collections_abc>")):
            frame = frame.f_back
        if frame and frame.f_code.co_filename in self.watch.files:
            self.watch.refuse(ENVIRONMENT, f"it reads the environment variable {os.fsdecode(key)}", frame)
        return super().__getitem__(key)


# --- what is not allowed ---------------------------------------------------------------------------------------------


def describe_event(event: str, arguments: tuple[Any, ...], files: Collection[str]) -> tuple[str, str] | None:
    """Return the kind and the words for an audit event that is not allowed; None for others."""
    if event == "open":
        path, _, flags = arguments
        return _describe_opening(path, flags or 0, files)
    if event.startswith(_NETWORK):
        return NETWORK, f"it uses the network ({event})"
    if event.startswith(_PROCESS):
        return PROCESS, f"it starts or stops a process ({event})"
    if event in {"os.putenv", "os.unsetenv"}:
        return ENVIRONMENT, "it changes the environment"
    if event.startswith(_FILE) or (event.startswith("os.") and event[3:] in _FILE_OF_OS):
        return FILE, f"it uses the file system ({event})"
    return None


def _describe_opening(
    path: str | bytes | os.PathLike[str] | int | None, flags: int, files: Collection[str]
) -> tuple[str, str] | None:
    if isinstance(path, int) or path is None:
        return None
    name = os.fsdecode(path)
    if name == os.devnull or (not flags & _WRITING and (name in files or _is_of_a_package(name))):
        return None
    return FILE, f"it {'writes' if flags & _WRITING else 'reads'} the file {name}"


def _is_of_a_package(name: str) -> bool:
    """Check whether a file belongs to Python, an installed package or the time zones, and not to this project."""
    if name.startswith(CPU_COUNT):
        return True
    path = Path(os.path.realpath(name))
    ours = [Path(each).resolve() for each in trader.__path__]
    places = [Path(each).resolve() for each in (sys.prefix, sys.base_prefix, *zoneinfo.TZPATH)]
    return any(path.is_relative_to(each) for each in places) and not any(path.is_relative_to(each) for each in ours)


def describe_call(called: object, first: object) -> tuple[str, str] | None:
    """Return the kind and the words for a call that is not allowed; None for others. `first` is its first argument."""
    name = getattr(called, "__name__", "")
    if not isinstance(name, str):
        return None
    module = str(getattr(called, "__module__", "") or "")
    bound = getattr(called, "__self__", None)
    owner = first if bound is None or isinstance(bound, ModuleType) else bound
    given = None if first is sys.monitoring.MISSING else first
    return (
        _describe_leaving(name, module)
        or _describe_clock(name, module, owner, given)
        or _describe_chance(name, module, owner, given)
        or _describe_asking(name, module, owner, given)
    )


def _describe_leaving(name: str, module: str) -> tuple[str, str] | None:
    if module.partition(".")[0] in _NETWORK_PACKAGES:
        return NETWORK, f"it uses the network ({module.partition('.')[0]}: {name})"
    if module in {"posix", "nt"} and name in {"_exit", "abort"}:
        return PROCESS, f"it ends the process ({name})"
    return None


def _describe_clock(name: str, module: str, owner: object, given: object) -> tuple[str, str] | None:
    is_clock = module == "time" and (name in _CLOCKS or (name in _CLOCKS_WITHOUT_ARGUMENT and given is None))
    is_now = isinstance(owner, type) and issubclass(owner, date | pd.Period) and name in {"now", "today", "utcnow"}
    texts = [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else []
    is_text = module.startswith(("pandas", "numpy")) and any(
        isinstance(each, str) and each in {"now", "today"} for each in texts
    )
    if is_clock or is_now or is_text:
        does = "waits" if name == "sleep" else "reads the clock"
        return CLOCK, f"it {does} ({name}); view.slot is the time of the decision"
    return None


def _describe_chance(name: str, module: str, owner: object, given: object) -> tuple[str, str] | None:
    is_seeding = name == "seed" and module.startswith("numpy.random")
    if is_seeding or owner is random._inst or owner is np.random.mtrand._rand:
        return CHANCE, f"it draws from the global random state ({name}); use numpy.random.default_rng(seed)"
    is_of_random = module.startswith(("random", "numpy.random"))
    if (is_of_random and name in _SEEDABLE and given is None) or name == "SystemRandom":
        return CHANCE, f"it draws random numbers without a seed ({name})"
    if module == "secrets" or (module == "uuid" and name in {"uuid1", "uuid4"}) or name in {"urandom", "getrandom"}:
        return CHANCE, f"it draws random numbers from the system ({name})"
    if module == "builtins" and (name == "id" or (name == "hash" and not isinstance(given, int | float))):
        return CHANCE, f"{name}() is different in each process"
    return None


def _describe_asking(name: str, module: str, owner: object, given: object) -> tuple[str, str] | None:
    if module == "platform":
        return ENVIRONMENT, f"it asks for the machine (platform.{name})"
    if module.startswith("pandas") and name.startswith("read_") and isinstance(given, str | os.PathLike):
        return FILE, f"it reads a file ({name} of {given!s:.60})"
    is_of_files = module in {"posix", "nt", "genericpath", "posixpath", "os"} or isinstance(owner, Path)
    if is_of_files and name in _ASKING_FILES:
        return FILE, f"it asks for a file ({name} of {given!s:.60})"
    return None


# --- what a rule leaves behind ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Traces:
    """What must be the same after a decision: hashes of the rule's names, of the view, and of the random states."""

    state: dict[str, bytes]
    view: dict[str, bytes]
    chance: bytes

    def find_change(self, later: "Traces") -> tuple[str, str] | None:
        """Return what has changed, and its name; None if nothing has."""
        for what, before, after in ((VIEW, self.view, later.view), (STATE, self.state, later.state)):
            for name in (*before, *after):
                if before.get(name) != after.get(name):
                    return what, name
        return None if self.chance == later.chance else ("chance", "")


def take_traces(names: Sequence[Mapping[str, object]], view: View) -> Traces:
    """Return the traces now. `names` are those of the rule's modules."""
    state = {name: _hash(value) for each in names for name, value in _list_state(each)}
    shown = {
        f"view.closes[{symbol!r}]": each.to_numpy().tobytes() + pd.DatetimeIndex(each.index).asi8.tobytes()
        for symbol, each in view.closes.items()
    }
    shown |= {f"view.bars[{symbol!r}]": each.tobytes() for symbol, each in view.ohlv.items()}
    shown["view.closes"] = repr(list(view.closes)).encode()
    shown["view.positions"] = repr(view.positions).encode()
    shown["view.forecasts"] = repr(view.forecasts).encode()
    drawn = pickle.dumps((random.getstate(), np.random.get_state()))
    return Traces(state, {name: _digest(each) for name, each in shown.items()}, _digest(drawn))


def list_names(module: ModuleType) -> Sequence[Mapping[str, object]]:
    """Return the names of a rule's module, and of those beside it whose modules or functions it has."""
    found: dict[str, Mapping[str, object]] = {}
    coming = [vars(module)]
    while coming:
        names = coming.pop()
        found[names["__name__"]] = names
        each = [_find_beside(value) for value in names.values()]
        coming += [beside for beside in each if beside and beside["__name__"] not in found]
    return list(found.values())


def _find_beside(value: object) -> dict[str, Any] | None:
    names = vars(value) if isinstance(value, ModuleType) else getattr(value, "__globals__", None)
    return names if isinstance(names, dict) and isinstance(names.get("__loader__"), Beside) else None


def _list_state(names: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield what can keep a value between two calls: names of a module, of its classes and of its functions."""
    for name, value in names.items():
        if name.startswith("__") or isinstance(value, ModuleType):
            continue
        if isinstance(value, type | FunctionType):
            if value.__module__ == names["__name__"]:
                yield from _list_attributes(name, value)
        else:
            yield name, value


def _list_attributes(name: str, owner: type | FunctionType) -> Iterator[tuple[str, object]]:
    is_enum = isinstance(owner, type) and issubclass(owner, Enum)
    for attribute, value in vars(owner).items():
        within = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(within, FunctionType):
            yield from _list_attributes(f"{name}.{attribute}", within)
        elif attribute.startswith("__") or (is_enum and attribute.startswith("_")):  # an Enum's own caches
            continue
        elif isinstance(within, type):
            if within.__module__ == owner.__module__ and within.__qualname__.startswith(f"{owner.__qualname__}."):
                yield from _list_attributes(f"{name}.{attribute}", within)
        else:
            yield f"{name}.{attribute}", within
    if isinstance(owner, FunctionType):
        cells = [cell.cell_contents for cell in owner.__closure__ or () if not _is_empty(cell)]
        yield f"{name}()", (owner.__defaults__, owner.__kwdefaults__)
        yield f"{name}() closure", [each for each in cells if not isinstance(each, FunctionType | type)]


def _is_empty(cell: CellType) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True


def _hash(value: object, depth: int = 3) -> bytes:
    """Return a hash of a value; of its parts, or of its text, if it cannot be written as a whole."""
    if isinstance(value, np.vectorize):  # which keeps what it has found out about its function
        return b""
    try:
        return _digest(pickle.dumps(value))
    except Exception:
        parts = _list_parts(value)
        if not depth or not parts:
            return _digest(repr(value).encode(errors="replace"))
        return _digest(b"".join(_hash(each, depth - 1) for each in parts))


def _list_parts(value: object) -> Sequence[object]:
    """Return what a value consists of, if that is known: of a generator, where it is."""
    if isinstance(value, GeneratorType):
        return [value.gi_frame.f_lasti, value.gi_frame.f_locals] if value.gi_frame else [0]
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(vars(value).values()) if hasattr(value, "__dict__") and not isinstance(value, FunctionType) else []


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@contextmanager
def each_line(files: Collection[str], look: Callable[[], bool]) -> Iterator[list[str]]:
    """Call `look` before each line of the rule's; yield a list that gets the line after which it is first true."""
    found: list[str] = []
    last: list[str] = []

    def see(code: CodeType, line: int) -> object:
        if code.co_filename not in files:
            return sys.monitoring.DISABLE
        if last and not found and look():
            found.append(last[0])
        last[:] = [f"{code.co_filename}, line {line}"]
        return None

    events = sys.monitoring.events
    sys.monitoring.register_callback(_TOOL, events.LINE, see)
    sys.monitoring.set_events(_TOOL, events.CALL | events.LINE)
    try:
        yield found
    finally:
        sys.monitoring.set_events(_TOOL, events.CALL)
        with suppress(Exception):
            if last and not found and look():
                found.append(last[0])
