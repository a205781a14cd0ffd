"""A rule from a file: how it is found, loaded, and kept from doing harm."""

import ast
import hashlib
import math
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from types import CodeType, FrameType, ModuleType
from typing import Any

from trader.alpha import base
from trader.alpha.base import Facts, RuleError, Words
from trader.alpha.rule import ForecastKind, Insight, Parameter, Rule, View, find_parameters
from trader.forecasting.base import ForecastSpec
from trader.model import BAR_LENGTH, Direction

type Sources = tuple[tuple[str, bytes], ...]
"""The files of a rule by path, in the order of the paths: its own, and those beside it that it imports."""

SUFFIX = ".py"
"""What tells a file from the name of a rule that ships with the project."""

LIMIT_S = 20.0
"""The longest that a rule may think at one slot."""

COUNTS_PROCESSOR_TIME = False
"""Whether LIMIT_S is of the processor's time, which a busy machine does not lengthen, and not of the clock's."""

MAX_REASON_CHARACTERS = 300
MIN_BARS, MAX_BARS = 1, 5_000
TAKEN = frozenset({"trader", "scripts", "lambda_function", "numpy", "pandas", "prophet", "boto3", "yfinance"})
"""Names of modules that an import in a rule, or in its test, must find as they are."""

FRACTIONS = {"weight_fraction": 1.0, "stop_loss_fraction": 1.0, "take_profit_fraction": 10.0}
"""What a buy may ask for, with the largest value."""


@dataclass(frozen=True, slots=True)
class OwnRule:
    """A rule from a file, as the alpha model that the stages call."""

    path: str
    sources: Sources
    rule: type[Rule]
    parameters: Mapping[str, float]
    facts: Facts
    forecast_spec: ForecastSpec | None
    dead_band_fraction: None = None

    def insights(self, view: base.View) -> Sequence[Insight]:
        """See AlphaModel. Raises RuleError if the rule fails, takes too long, or returns nonsense."""
        found: list[Insight] = []
        try:
            with _limit(LIMIT_S), _beside(self.sources):
                decided = _iterate(
                    self.rule(self.parameters).decide(
                        View(view, ohlcv=self.facts.ohlcv, held_since=self.facts.held_since)
                    )
                )
                for insight in decided:  # one by one: it may go on without end
                    if problem := _find_problem(insight, view, found):
                        break
                    found.append(insight)
                else:
                    return found
                where = _locate(decided, self.rule)
        except (Exception, SystemExit, _RuleTimeoutError) as error:
            raise RuleError(describe(error, self.path)) from error
        raise RuleError(f"{where or self.path}: {problem}")


def is_file(text: str) -> bool:
    """Check whether SIGNAL names a file."""
    return text.endswith(SUFFIX)


def load(text: str, parameters: Mapping[str, float], bar_interval: str, horizon_bars: int) -> OwnRule:
    """Return the rule of a file. Raises RuleError if the file has none that can be used."""
    sources = list_sources(text)
    rule = _execute(text, sources)
    values = {name: each.default for name, each in find_parameters(rule).items()} | dict(parameters)
    bars, kind = _read_needs(rule(values), text)
    spec = ForecastSpec(
        bar_interval=bar_interval,
        min_bars=max(bars, 30),
        ahead_bars=horizon_bars if kind is ForecastKind.INTERVAL else None,
    )
    words = Words(
        line="Prophet’s trend line" if kind is not ForecastKind.NONE else "",  # noqa: RUF001 as a page prints it
        gap=rule.measures,
        chart="Price and trend line" if kind is not ForecastKind.NONE else "Price",
    )
    min_bars = bars if kind is ForecastKind.NONE else max(bars, 30)
    facts = Facts(
        name=text,
        min_bars=min_bars,
        words=words,
        has_gap=False,
        bar_interval=_read_interval(rule, text),
        held_since=_read_flag(rule, "held_since", text),
        ohlcv=_read_flag(rule, "ohlcv", text),
    )
    return OwnRule(text, sources, rule, values, facts, None if kind is ForecastKind.NONE else spec)


def read_parameters(rule: type[Rule]) -> Mapping[str, Parameter[int] | Parameter[float]]:
    """Return the parameters of a rule by the variable that sets each."""
    return {each.variable: each for each in find_parameters(rule).values()}


def complete(text: str, given: Mapping[str, str]) -> Mapping[str, float]:
    """Return the value of each parameter of a rule, by its name; `given` are texts, by variable.

    Raises RuleError if the file cannot be used, ValueError for a value or a variable that the rule does not take.
    """
    known = read_parameters(read(text))
    if strangers := given.keys() - known.keys():
        raise ValueError(f"{', '.join(sorted(strangers))}: no parameter of {text}")
    return {each.name: each.read(given[name]) if name in given else each.default for name, each in known.items()}


def _read_needs(rule: Rule, path: str) -> tuple[int, ForecastKind]:
    """Return how many bars a rule needs, and what forecast."""
    try:
        bars: object = rule.bars
        kind: object = rule.forecast
    except Exception as error:
        raise RuleError(describe(error, path)) from error
    if isinstance(bars, bool) or not isinstance(bars, int) or not MIN_BARS <= bars <= MAX_BARS:
        raise _refuse(type(rule), "bars", path, bars, f"a whole number from {MIN_BARS} to {MAX_BARS}")
    if not isinstance(kind, ForecastKind):
        words = ", ".join(f"ForecastKind.{each.name}" for each in ForecastKind)
        raise _refuse(type(rule), "forecast", path, kind, f"one of {words}")
    return bars, kind


def _read_flag(rule: type[Rule], name: str, path: str) -> bool:
    """Return an attribute of the class, which is the same whatever the parameters are."""
    value: object = getattr(rule, name)
    if not isinstance(value, bool):
        raise _refuse(rule, name, path, value, "True or False")
    return value


def _refuse(rule: type[Rule], name: str, path: str, value: object, allowed: str) -> RuleError:
    """Return the error for an attribute of a rule's class."""
    return RuleError(f"{_point_at(rule, name, path)}: `{name}` is {value!r:.80}; it must be {allowed}")


def _point_at(rule: type[Rule], name: str, path: str) -> str:
    """Return where in a rule's file an attribute of its class is set; the file alone if that is not found."""
    for node in ast.walk(ast.parse(dict(list_sources(path))[path])):
        if isinstance(node, ast.ClassDef) and node.name == rule.__name__:
            for each in node.body:
                names = [each.name] if isinstance(each, ast.FunctionDef) else _list_assigned(each)
                if name in names:
                    return f"{path}, line {each.lineno}"
    return path


def _list_assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for each in targets if isinstance(each, ast.Name)]


def _read_interval(rule: type[Rule], path: str) -> str:
    value: object = rule.bar_interval
    if value != "" and value not in BAR_LENGTH:
        raise _refuse(rule, "bar_interval", path, value, f"one of {', '.join(BAR_LENGTH)}")
    return str(value)


# --- the file -------------------------------------------------------------------------------------------------------

_recorded: dict[str, Sources] = {}
"""The files that a replay takes from a record, by the path of the rule."""


def read(text: str) -> type[Rule]:
    """Return the only rule that a file defines. Raises RuleError."""
    return _execute(text, list_sources(text))


@contextmanager
def recorded(text: str, sources: Mapping[str, str]) -> Iterator[None]:
    """Let a path stand for the files of a record, and not for those of the current folder."""
    before = _recorded.get(text)
    _recorded[text] = tuple(sorted((path, source.encode()) for path, source in sources.items()))
    try:
        yield
    finally:
        if before is None:
            del _recorded[text]
        else:
            _recorded[text] = before


def list_sources(text: str) -> Sources:
    """Return the files of a rule. Raises RuleError if its own cannot be used."""
    if text in _recorded:
        return _recorded[text]
    found: dict[str, bytes] = {}
    coming = [find(text)]
    while coming:
        file = coming.pop()
        if file.as_posix() not in found:
            found[file.as_posix()] = _read(file)
            coming += [each for name in _list_imports(found[file.as_posix()]) if (each := _find_beside(file, name))]
    return tuple(sorted(found.items()))


def hash_sources(sources: Sources) -> str:
    """Return the SHA-256 of the lines that sha256sum prints for a rule's files."""
    lines = [f"{hashlib.sha256(source).hexdigest()}  {path}\n" for path, source in sources]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def find(text: str) -> Path:
    """Return the path of a rule's file, which must be in the current folder. Raises RuleError."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or not text.isprintable():
        raise RuleError(f"{text!r:.100} must be a path within the current folder, such as rules/mine.py")
    file = Path(path)
    if not file.is_file():
        raise RuleError(f"there is no file {text}; the folder is {Path.cwd().name}, and make rule writes an example")
    if not file.resolve().is_relative_to(Path.cwd().resolve()):
        raise RuleError(f"{text} leads out of the current folder; copy the file into it")
    if path.stem in sys.stdlib_module_names:
        raise RuleError(f"{text} has the name of a module of Python, {path.stem}; give it another one")
    if path.stem in TAKEN:
        raise RuleError(f"{text} has the name of a module that the bot uses, {path.stem}; give it another one")
    return file


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RuleError(f"{file.as_posix()} cannot be read: {error.strerror}") from None


def _list_imports(source: bytes) -> Iterator[str]:
    """Yield the names of the modules that a file imports; none if it is not Python, which _execute reports."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _find_beside(file: Path, name: str) -> Path | None:
    """Return the file of a module that stands beside another; modules of Python and of the bot come first."""
    beside = file.with_name(f"{name}.py")
    return beside if name not in sys.stdlib_module_names and name not in TAKEN and beside.is_file() else None


@cache
def _execute(text: str, sources: Sources) -> type[Rule]:
    """Run a rule's file, and return the class that it defines."""
    with _beside(sources):
        module = _run(text, dict(sources)[text], f"{PurePosixPath(text).stem}_{hash_sources(sources)[:8]}")
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Rule) and each.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(f"{each.__name__} in line {getattr(each, '__firstlineno__', '?')}" for each in found)
        raise RuleError(
            f"{text} must define one class on Rule, but defines {f'{len(found)}: {names}' if found else 'none'}"
        )
    return found[0]


def _run(path: str, source: bytes, name: str) -> ModuleType:
    """Run a file as a module of this name. Raises RuleError, which names the line."""
    module = ModuleType(name)
    module.__file__ = path
    try:
        code = compile(source, path, "exec")
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise RuleError(f"{path}{where}: {getattr(error, 'msg', error)}") from None
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with _limit(LIMIT_S):
            exec(code, vars(module))  # noqa: S102 the file is the owner's own program
    except (Exception, SystemExit, _RuleTimeoutError) as error:
        raise RuleError(describe(error, path)) from error
    return module


class _Beside(MetaPathFinder, Loader):
    """Finds the modules beside a rule, after those of Python and of the bot."""

    def __init__(self, sources: Sources) -> None:
        self._sources = {PurePosixPath(path).stem: (path, source) for path, source in sources}

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:  # noqa: ARG002 as importlib calls it
        return ModuleSpec(fullname, self) if fullname in self._sources else None

    def exec_module(self, module: ModuleType) -> None:
        path, source = self._sources[module.__name__]
        exec(compile(source, path, "exec"), vars(module))  # noqa: S102 the file is the owner's own program


@contextmanager
def _beside(sources: Sources) -> Iterator[None]:
    """Let a rule import what stands beside it; afterwards, another rule may import other files of the same names."""
    finder = _Beside(sources)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, each in sys.modules.items() if getattr(each, "__loader__", None) is finder]:
            del sys.modules[name]


# --- what it does ----------------------------------------------------------------------------------------------------


class _RuleTimeoutError(BaseException):
    """A rule took too long. It is no Exception, which a rule's own handlers could take for one of theirs."""


@contextmanager
def _limit(limit_s: float) -> Iterator[None]:
    """Interrupt the block after a time, where the system can: in the main thread, on Linux and macOS."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _RuleTimeoutError(f"it took longer than {limit_s:g} s")

    timer, number = signal.ITIMER_REAL, signal.SIGALRM
    if COUNTS_PROCESSOR_TIME:
        timer, number = signal.ITIMER_PROF, signal.SIGPROF
    before = signal.signal(number, stop)
    signal.setitimer(timer, limit_s)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)


def describe(error: BaseException, path: str) -> str:
    """Say where in a rule's file an error was raised, and what it is."""
    causes = (error, error.__cause__) if error.__cause__ else (error,)  # Python itself turns some errors into others
    seen = [frame for each in causes for frame in traceback.extract_tb(each.__traceback__)]
    frames = [frame for frame in seen if _is_beside(frame.filename, path)]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else path
    if isinstance(error, _RuleTimeoutError | RuleError):
        return f"{where}: {error}"
    return f"{where}: {type(error).__name__}: {error}"


def _iterate(decided: object) -> Iterable[Any]:
    """Return what decide() returned, or a list of it if that is one thing, which _find_problem then reports."""
    return decided if isinstance(decided, Iterable) else [decided]


def _locate(decided: object, rule: type[Rule]) -> str:
    """Return the line that an insight came from: its yield, or the beginning of a decide() that returned a list."""
    frame: FrameType | None = getattr(decided, "gi_frame", None)
    code: CodeType | None = frame.f_code if frame else getattr(rule.decide, "__code__", None)
    line = frame.f_lineno if frame else code.co_firstlineno if code else 0
    return f"{code.co_filename}, line {line}" if code else ""


def _is_beside(filename: str, path: str) -> bool:
    """Check whether a frame is of a rule's own files, whose names are relative paths."""
    return PurePosixPath(filename).parent == PurePosixPath(path).parent


def _is_fraction(value: object, limit: float) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 < value <= limit


def _find_problem(insight: object, view: base.View, before: Sequence[Insight]) -> str:
    """Return what is wrong with an insight; empty if nothing is."""
    if not isinstance(insight, Insight):
        return f"decide() returned {insight!r:.80}; it must return insights, as view.judge() makes them"
    closes = view.closes.get(insight.symbol)
    if closes is None:
        return f"an insight on {insight.symbol!r:.20}, which is not in view.closes"
    if any(each.symbol == insight.symbol for each in before):
        return f"two insights on {insight.symbol}"
    direction: object = insight.direction
    if not isinstance(direction, Direction):
        return f"the direction of {insight.symbol} is {direction!r:.40}; make insights with view.judge()"
    if not math.isfinite(insight.gap_fraction):
        return f"the strength of {insight.symbol} is {insight.gap_fraction}; it must be a number"
    if insight.price_usd != float(closes.iloc[-1]):
        return f"the price of {insight.symbol} is {insight.price_usd}, but the last close is {float(closes.iloc[-1])}"
    for name, limit in FRACTIONS.items():
        fraction: object = getattr(insight, name)
        if fraction is not None and not _is_fraction(fraction, limit):
            return f"the {name} of {insight.symbol} is {fraction!r:.40}; it must be a number above 0 to {limit:g}"
    reason: object = insight.reason
    if not isinstance(reason, str) or not reason.strip():
        return f"the insight on {insight.symbol} has no reason; a sentence is needed"
    if len(reason) > MAX_REASON_CHARACTERS:
        return f"the reason on {insight.symbol} has {len(reason):,} characters; at most {MAX_REASON_CHARACTERS}"
    return ""
