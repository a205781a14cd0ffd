"""A rule from a file: how it is found, loaded, and kept from doing harm."""

import ast
import hashlib
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from types import CodeType, FrameType, GeneratorType, ModuleType
from typing import Any

import numpy as np

from trader.alpha import base
from trader.alpha.base import Facts, RuleError, Words
from trader.alpha.confinement import TAKEN, RuleTimeoutError, Sources, confine, limit
from trader.alpha.rule import PREFIX, ForecastKind, Insight, Parameter, Rule, View, find_parameters, freeze
from trader.codec import MAX_NUMBER
from trader.forecasting.base import ForecastSpec
from trader.logs import MAX_CHARACTERS, one_line
from trader.model import BAR_LENGTH, Direction

SUFFIX = ".py"
"""What tells a file from the name of a rule that ships with the project."""

LIMIT_S = 20.0
"""The longest that a rule may think at one slot."""

COUNTS_PROCESSOR_TIME = False
"""Whether LIMIT_S is of the processor's time, which a busy machine does not lengthen, and not of the clock's."""

COPIES_VIEW = True
"""Whether a rule gets a copy of what it is shown. make check-rule shows it the original, to see what it does to it."""

TEXT_LIMIT_S, UNREADABLE = 1.0, "its text cannot be read"
MAX_REASON_CHARACTERS, MAX_ERROR_CHARACTERS = 300, 300
MIN_BARS, MAX_BARS = 1, 5_000
BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""The categories of Unicode that break a line, control a terminal, or cannot be written."""

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
        shown = View(
            copy_view(view) if COPIES_VIEW else view,
            is_frozen=COPIES_VIEW,
            ohlcv=self.facts.ohlcv,
            held_since=self.facts.held_since,
        )
        with _blame(self.path), _confine(self.sources):
            decided = _iterate(self.rule(self.parameters).decide(shown))
            for each in decided:  # one by one: it may go on without end
                insight, problem = _read_insight(each, view, found)
                if insight is None:
                    break
                found.append(insight)
            else:
                return found
            where = _locate(decided, self.rule)
            if isinstance(decided, GeneratorType):
                decided.close()  # here, and not when it is forgotten: it may have something to do at its end
        raise RuleError(f"{where or self.path}: {problem}")


def is_file(text: str) -> bool:
    """Check whether SIGNAL names a file."""
    return text.endswith(SUFFIX)


def load(text: str, parameters: Mapping[str, float], bar_interval: str, horizon_bars: int) -> OwnRule:
    """Return the rule of a file. Raises RuleError if the file has none that can be used."""
    sources = list_sources(text)
    rule = _execute(text, sources)
    _loaded[text] = sources
    values = {name: each.default for name, each in find_parameters(rule).items()} | dict(parameters)
    bars, kind = _read_needs(rule, values, text, sources)
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


def list_given(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that set a rule; one that is empty sets nothing."""
    return {name: text.strip() for name, text in env.items() if name.startswith(PREFIX) and text.strip()}


def complete(text: str, given: Mapping[str, str]) -> Mapping[str, float]:
    """Return the value of each parameter of a rule, by its name; `given` are texts, by variable.

    Raises RuleError if the file cannot be used, ValueError for a value or a variable that the rule does not take.
    """
    known = read_parameters(read(text))
    if strangers := given.keys() - known.keys():
        raise ValueError(f"{', '.join(sorted(strangers))}: no parameter of {text}")
    return {each.name: each.read(given[name]) if name in given else each.default for name, each in known.items()}


def _read_needs(rule: type[Rule], values: Mapping[str, float], path: str, sources: Sources) -> tuple[int, ForecastKind]:
    """Return how many bars a rule needs with these values of its parameters, and what forecast."""
    with _blame(path), _confine(sources):
        made = rule(values)
        bars: object = made.bars
        kind: object = made.forecast
    if isinstance(bars, bool) or not isinstance(bars, int) or not MIN_BARS <= bars <= MAX_BARS:
        raise _refuse(rule, "bars", path, bars, f"a whole number from {MIN_BARS} to {MAX_BARS}")
    if not isinstance(kind, ForecastKind):
        words = ", ".join(f"ForecastKind.{each.name}" for each in ForecastKind)
        raise _refuse(rule, "forecast", path, kind, f"one of {words}")
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

_loaded: dict[str, Sources] = {}
"""The files of the rules that this process has loaded, by the path of the rule."""

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
        _loaded.pop(text, None)
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
            coming += [each for name in list_imports(found[file.as_posix()]) if (each := _find_beside(file, name))]
    return tuple(sorted(found.items()))


def hash_sources(sources: Sources) -> str:
    """Return the SHA-256 of the lines that sha256sum prints for a rule's files."""
    lines = [f"{hashlib.sha256(source).hexdigest()}  {path}\n" for path, source in sources]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def find(text: str) -> Path:
    """Return the path of a rule's file, which must be in the current folder. Raises RuleError."""
    path = PurePosixPath(text)
    if path.as_posix() != text and text.isprintable():
        raise RuleError(f"{text!r:.100} must be written without detours: {path.as_posix()!r:.100}")
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


def list_decided(text: str) -> Sources:
    """Return the files of a rule as they were when it was last loaded: they may have changed since."""
    return _loaded.get(text) or list_sources(text)


def _read(file: Path) -> bytes:
    try:
        source = file.read_bytes()
        source.decode()
    except OSError as error:
        raise RuleError(f"{file.as_posix()} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RuleError(f"{file.as_posix()} is not UTF-8, which a record is written in; save it as UTF-8") from None
    return source


def list_imports(source: bytes) -> Iterator[str]:
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
    module = _run(text, sources, f"{PurePosixPath(text).stem}_{hash_sources(sources)[:8]}")
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


def _run(path: str, sources: Sources, name: str) -> ModuleType:
    """Run a rule's file as a module of this name. Raises RuleError, which names the line."""
    module = ModuleType(name)
    module.__file__ = path
    try:
        code = compile(dict(sources)[path], path, "exec")
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise RuleError(f"{path}{where}: {getattr(error, 'msg', error)}") from None
    sys.modules[name] = module  # dataclasses look their module up
    with _blame(path), _confine(sources):
        exec(code, vars(module))  # noqa: S102 the file is the owner's own program
    return module


# --- what it does ----------------------------------------------------------------------------------------------------


@contextmanager
def _confine(sources: Sources) -> Iterator[None]:
    with confine(sources, LIMIT_S, counts_processor_time=COUNTS_PROCESSOR_TIME):
        yield


@contextmanager
def _blame(path: str) -> Iterator[None]:
    """Turn whatever a rule raises into a RuleError, but for the user's own interrupt."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of any class: the rule may define its own
        raise RuleError(describe(error, path)) from _bound(error)


def describe(error: BaseException, path: str) -> str:
    """Say where in a rule's file an error was raised, and what it is, in one line that is not too long."""
    causes = (error, error.__cause__) if error.__cause__ else (error,)  # Python itself turns some errors into others
    seen = [frame for each in causes for frame in traceback.extract_tb(each.__traceback__)]
    frames = [frame for frame in seen if _is_beside(frame.filename, path)]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else path
    text = one_line(_read_text(error), MAX_ERROR_CHARACTERS)
    if isinstance(error, RuleTimeoutError | RuleError):
        return f"{where}: {text}"
    return f"{where}: {one_line(type(error).__name__, MAX_ERROR_CHARACTERS)}: {text}"


def _read_text(error: BaseException) -> str:
    """Return the text of an error; its class may be the rule's own, and fail or hang at that."""
    try:
        with limit(TEXT_LIMIT_S, (), counts_processor_time=False):
            return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as other:  # of any class: the rule may define its own
        return f"{UNREADABLE} ({type(other).__name__})"


def _bound(error: BaseException) -> BaseException:
    """Return an error for the log, without the rest of a text that is very long."""
    text = _read_text(error)
    if len(text) <= MAX_CHARACTERS and not text.startswith(UNREADABLE):
        return error
    return RuleError(f"{type(error).__name__}: {text[:MAX_CHARACTERS]}…").with_traceback(error.__traceback__)


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


def copy_view(view: base.View) -> base.View:
    """Return a view that shares nothing with another one that can be written to, be it by force. Closes are frozen."""
    return replace(
        view,
        closes={
            symbol: freeze(each.to_numpy().copy(), each.index.copy(deep=True), each.name)
            for symbol, each in view.closes.items()
        },
        forecasts={symbol: replace(each) for symbol, each in view.forecasts.items()},
        positions={symbol: replace(each) for symbol, each in view.positions.items()},
        bought_at=dict(view.bought_at),
        ohlv={symbol: each.copy() for symbol, each in view.ohlv.items()},
    )


def _read_insight(
    insight: object, view: base.View, before: Sequence[Insight]
) -> tuple[Insight, str] | tuple[None, str]:
    """Return an insight with plain values; None and what is wrong with it if it cannot be used."""
    if type(insight) is not Insight:  # a class on it could have fields that no record knows
        return None, f"decide() returned {insight!r:.80}; it must return insights, as view.judge() makes them"
    try:
        plain = _settle(insight)
    except (TypeError, ValueError) as error:
        return None, f"an insight has a wrong value: {error}; make insights with view.judge()"
    problem = _find_problem(plain, view, before)
    return (None, problem) if problem else (plain, "")


def _settle(insight: Insight) -> Insight:
    """Return an insight with plain numbers and texts: NumPy's, and those of a rule's own classes, fit in no record.

    Raises TypeError or ValueError if one of them is none.
    """
    return replace(
        insight,
        symbol=_to_text(insight.symbol),
        price_usd=_to_float(insight.price_usd),
        gap_fraction=_to_float(insight.gap_fraction),
        reason=_to_text(insight.reason),
        **{name: None if (value := getattr(insight, name)) is None else _to_float(value) for name in FRACTIONS},  # type: ignore[arg-type] # these fields are all numbers
    )


def _to_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is not a text")
    return str.__str__(value)


def _to_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int | np.floating | np.integer):
        raise TypeError(f"{value!r:.80} is not a number")
    return float(value)


def _find_problem(insight: Insight, view: base.View, before: Sequence[Insight]) -> str:
    """Return what is wrong with an insight of plain values; empty if nothing is."""
    closes = view.closes.get(insight.symbol)
    if closes is None:
        return f"an insight on {insight.symbol!r:.20}, which is not in view.closes"
    if any(each.symbol == insight.symbol for each in before):
        return f"two insights on {insight.symbol}"
    direction: object = insight.direction
    if not isinstance(direction, Direction):
        return f"the direction of {insight.symbol} is {direction!r:.40}; make insights with view.judge()"
    strength = insight.gap_fraction
    if not -MAX_NUMBER <= strength <= MAX_NUMBER:
        return f"the strength of {insight.symbol} is {strength}; it must be a number of at most {MAX_NUMBER:g}"
    if insight.price_usd != (last_usd := float(closes.to_numpy()[-1])):
        return f"the price of {insight.symbol} is {insight.price_usd}, but the last close is {last_usd}"
    for name, largest in FRACTIONS.items():
        fraction = getattr(insight, name)
        if fraction is not None and not 0 < fraction <= largest:
            return f"the {name} of {insight.symbol} is {fraction!r:.40}; it must be a number above 0 to {largest:g}"
    reason = insight.reason
    if not reason.strip():
        return f"the insight on {insight.symbol} has no reason; a sentence is needed"
    is_breaking = not reason.isprintable()  # most reasons are; what is not printable may still be harmless
    if is_breaking and (bad := next((each for each in reason if unicodedata.category(each) in BREAKING), None)):
        return f"the reason on {insight.symbol} contains {bad!r}; it must be one line of text"
    if len(reason) > MAX_REASON_CHARACTERS:
        return f"the reason on {insight.symbol} has {len(reason):,} characters; at most {MAX_REASON_CHARACTERS}"
    return ""
