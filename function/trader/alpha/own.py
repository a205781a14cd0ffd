"""A rule from a file: how it is found, loaded, and kept from doing harm."""

import hashlib
import math
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import FrameType, ModuleType

from trader.alpha import base
from trader.alpha.base import Facts, RuleError, Words
from trader.alpha.rule import ForecastKind, Insight, Parameter, Rule, View, find_parameters
from trader.forecasting.base import ForecastSpec
from trader.model import Direction

SUFFIX = ".py"
"""What tells a file from the name of a rule that ships with the project."""

LIMIT_S = 20.0
"""The longest that a rule may think at one slot."""

MAX_REASON_CHARACTERS = 300
MIN_BARS, MAX_BARS = 1, 5_000


@dataclass(frozen=True, slots=True)
class OwnRule:
    """A rule from a file, as the alpha model that the stages call."""

    path: str
    rule: type[Rule]
    parameters: Mapping[str, float]
    facts: Facts
    forecast_spec: ForecastSpec | None
    dead_band_fraction: None = None

    def insights(self, view: base.View) -> Sequence[Insight]:
        """See AlphaModel. Raises RuleError if the rule fails, takes too long, or returns nonsense."""
        try:
            with _limit(LIMIT_S):
                found = list(self.rule(self.parameters).decide(View(view)))
        except (Exception, SystemExit) as error:
            raise RuleError(describe(error, self.path)) from error
        for number, insight in enumerate(found):
            if problem := _find_problem(insight, view, found[:number]):
                raise RuleError(f"{self.path}: {problem}")
        return found


def is_file(text: str) -> bool:
    """Check whether SIGNAL names a file."""
    return text.endswith(SUFFIX)


def load(text: str, parameters: Mapping[str, float], bar_interval: str, horizon_bars: int) -> OwnRule:
    """Return the rule of a file. Raises RuleError if the file has none that can be used."""
    rule = read(text)
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
    facts = Facts(name=text, min_bars=bars if kind is ForecastKind.NONE else max(bars, 30), words=words)
    return OwnRule(text, rule, values, facts, None if kind is ForecastKind.NONE else spec)


def read_parameters(rule: type[Rule]) -> Mapping[str, Parameter[int] | Parameter[float]]:
    """Return the parameters of a rule by the variable that sets each."""
    return {each.variable: each for each in find_parameters(rule).values()}


def _read_needs(rule: Rule, path: str) -> tuple[int, ForecastKind]:
    """Return how many bars a rule needs, and what forecast."""
    try:
        bars: object = rule.bars
        kind: object = rule.forecast
    except Exception as error:
        raise RuleError(describe(error, path)) from error
    if not isinstance(bars, int) or not MIN_BARS <= bars <= MAX_BARS:
        raise RuleError(f"{path}: `bars` is {bars!r}; it must be a whole number from {MIN_BARS} to {MAX_BARS}")
    if not isinstance(kind, ForecastKind):
        words = ", ".join(f"ForecastKind.{each.name}" for each in ForecastKind)
        raise RuleError(f"{path}: `forecast` is {kind!r}; it must be one of {words}")
    return bars, kind


# --- the file --------------------------------------------------------------------------------------------------------


def read(text: str) -> type[Rule]:
    """Return the only rule that a file defines. Raises RuleError."""
    file = find(text)
    try:
        source = file.read_bytes()
    except OSError as error:
        raise RuleError(f"{text} cannot be read: {error.strerror}") from None
    return _execute(text, source)


def hash_file(text: str) -> str:
    """Return the SHA-256 of a rule's file, as sha256sum prints it."""
    return hashlib.sha256(find(text).read_bytes()).hexdigest()


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
    if path.stem in sys.stdlib_module_names or path.stem == "trader":
        raise RuleError(f"{text} has the name of a module of Python, {path.stem}; give it another one")
    return file


@cache
def _execute(text: str, source: bytes) -> type[Rule]:
    """Run a rule's file, and return the class that it defines."""
    module = ModuleType(f"{PurePosixPath(text).stem}_{hashlib.sha256(source).hexdigest()[:8]}")
    module.__file__ = text
    try:
        code = compile(source, text, "exec")
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise RuleError(f"{text}{where}: {getattr(error, 'msg', error)}") from None
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    with _beside(text):
        try:
            exec(code, vars(module))  # noqa: S102 the file is the owner's own program
        except (Exception, SystemExit) as error:
            raise RuleError(describe(error, text)) from error
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Rule) and each.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found)
        raise RuleError(
            f"{text} must define one class on Rule, but defines {f'{len(found)}: {names}' if found else 'none'}"
        )
    return found[0]


@contextmanager
def _beside(text: str) -> Iterator[None]:
    """Let a rule import what stands beside it; modules of Python and of the bot come first."""
    folder = str(Path(text).parent.resolve())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


# --- what it does ----------------------------------------------------------------------------------------------------


class _RuleTimeoutError(Exception):
    """A rule took too long."""


@contextmanager
def _limit(limit_s: float) -> Iterator[None]:
    """Interrupt the block after a time, where the system can: in the main thread, on Linux and macOS."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _RuleTimeoutError(f"it took longer than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe(error: BaseException, path: str) -> str:
    """Say where in a rule's file an error was raised, and what it is."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    where = f"{path}, line {lines[-1]}" if lines else path
    if isinstance(error, _RuleTimeoutError | RuleError):
        return f"{where}: {error}"
    return f"{where}: {type(error).__name__}: {error}"


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
    reason: object = insight.reason
    if not isinstance(reason, str) or not reason.strip():
        return f"the insight on {insight.symbol} has no reason; a sentence is needed"
    if len(reason) > MAX_REASON_CHARACTERS:
        return f"the reason on {insight.symbol} has {len(reason):,} characters; at most {MAX_REASON_CHARACTERS}"
    return ""
