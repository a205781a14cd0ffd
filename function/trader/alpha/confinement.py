"""What a rule from a file is kept within: its time, its files, and settings of Python that end with its decision."""

import decimal
import signal
import sys
import threading
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path, PurePosixPath
from types import CodeType, FrameType, ModuleType

import numpy as np

type Sources = tuple[tuple[str, bytes], ...]
"""The files of a rule by path, in the order of the paths: its own, and those beside it that it imports."""

TAKEN = frozenset({"trader", "scripts", "lambda_function", "numpy", "pandas", "prophet", "boto3", "yfinance"})
"""Names of modules that an import in a rule, or in its test, must find as they are."""

_TOOL, _NAME = 5, "limit"
"""What sys.monitoring knows this module by; debuggers, coverage, profilers and make check-rule have other numbers."""


class RuleTimeoutError(BaseException):
    """A rule took too long. It is no Exception, which a rule's own handlers could take for one of theirs."""


@contextmanager
def confine(sources: Sources, limit_s: float, *, counts_processor_time: bool) -> Iterator[None]:
    """Run a rule in the block: in its time, with its files to import, and with settings of Python of its own."""
    files = [path for path, _ in sources]
    with _beside(sources), _settings_of_its_own(), limit(limit_s, files, counts_processor_time=counts_processor_time):
        yield


@contextmanager
def _settings_of_its_own() -> Iterator[None]:
    """Put back what a rule sets for all of Python: how decimals round, how NumPy warns, and what is warned of."""
    with decimal.localcontext(), np.errstate(), warnings.catch_warnings():
        yield


# --- time ------------------------------------------------------------------------------------------------------------


@contextmanager
def limit(limit_s: float, files: Collection[str], *, counts_processor_time: bool) -> Iterator[None]:
    """Interrupt the block after a time, where the system can: in the main thread, on Linux and macOS.

    The files' own handlers may catch the error, even in a loop without end. So from then on each of their lines raises
    it again, until the block is left.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    error = RuleTimeoutError(f"it took longer than {limit_s:g} s")

    def stop(_number: int, _frame: FrameType | None) -> None:
        _raise_at_each_line(files, error)
        raise error

    timer, number = signal.ITIMER_REAL, signal.SIGALRM
    if counts_processor_time:
        timer, number = signal.ITIMER_PROF, signal.SIGPROF
    before = signal.signal(number, stop)
    signal.setitimer(timer, limit_s)
    try:
        yield
    finally:
        try:
            signal.setitimer(timer, 0)
        finally:  # the time may be over in this very line
            signal.signal(number, before)
            _stop_raising()


def _raise_at_each_line(files: Collection[str], error: RuleTimeoutError) -> None:
    """Let every line of the files raise an error that is given to all of them."""

    def refuse(code: CodeType, _line: int) -> object:
        if code.co_filename in files:
            raise error
        return sys.monitoring.DISABLE

    with suppress(ValueError):  # the number is taken: then the error is raised once
        sys.monitoring.use_tool_id(_TOOL, _NAME)
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, refuse)
        sys.monitoring.set_events(_TOOL, sys.monitoring.events.LINE)


def _stop_raising() -> None:
    if sys.monitoring.get_tool(_TOOL) == _NAME:
        sys.monitoring.set_events(_TOOL, sys.monitoring.events.NO_EVENTS)
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, None)
        sys.monitoring.free_tool_id(_TOOL)


# --- imports ---------------------------------------------------------------------------------------------------------


class Beside(MetaPathFinder, Loader):
    """Finds the modules beside a rule, after those of Python and of the bot."""

    def __init__(self, sources: Sources) -> None:
        """Find these files, by the names of their modules."""
        self._sources = {PurePosixPath(path).stem: (path, source) for path, source in sources}

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:  # noqa: ARG002 as importlib calls it
        """Return the module of a file; None for other names."""
        return ModuleSpec(fullname, self) if fullname in self._sources else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the file."""
        path, source = self._sources[module.__name__]
        exec(compile(source, path, "exec"), vars(module))  # noqa: S102 the file is the owner's own program


class Elsewhere(MetaPathFinder):
    """Refuses the other files of the current folder, which nobody would check, record or take along."""

    def __init__(self, allowed: Collection[str]) -> None:
        """Allow these modules."""
        self._allowed = allowed
        self._seen: set[str] = set()

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002 as importlib calls it
        """Raise ImportError for a name that Python would find in the current folder, and only there."""
        top = fullname.partition(".")[0]  # its package may have been imported before
        if top in {*sys.stdlib_module_names, *TAKEN, *self._allowed, *self._seen}:
            return
        here = Path.cwd()
        if PathFinder.find_spec(top, [str(here)]) and not _is_installed(top, here):
            what = f"{top} is in the current folder, where a change of it would not be seen"
            raise ImportError(f"{what}; write `import NAME` for a file that stands beside the rule")
        self._seen.add(top)


def _is_installed(name: str, here: Path) -> bool:
    """Check whether Python would find a module without the current folder."""
    found = PathFinder.find_spec(name, [each for each in sys.path if Path(each).resolve() != here.resolve()])
    return found is not None and found.origin is not None


@contextmanager
def _beside(sources: Sources) -> Iterator[None]:
    """Let a rule import what stands beside it; afterwards, another rule may import other files of the same names."""
    names = {PurePosixPath(path).stem for path, _ in sources}
    first, last = Elsewhere(names), Beside(sources)
    sys.meta_path.insert(0, first)
    sys.meta_path.append(last)
    try:
        yield
    finally:
        sys.meta_path.remove(first)
        sys.meta_path.remove(last)
        for name in names:  # only these: to ask a lazy module of a package for its loader would load it
            if getattr(sys.modules.get(name), "__loader__", None) is last:
                del sys.modules[name]
