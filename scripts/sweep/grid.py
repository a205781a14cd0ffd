"""The grid of a sweep: the settings that it varies, their values, and the combinations of these values."""

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scripts.backtest import options
from scripts.backtest.model import Options
from trader.alpha.rule import PREFIX
from trader.settings import SettingsError, variables

EXAMPLE = 'GRID="SIGNAL_THRESHOLD_FRACTION=0.005,0.01,0.02 HISTORY_BARS=120,250"'

MAX_SETTINGS = 10_000
"""Maximum number of combinations without SAMPLES; a larger grid is probably a mistake."""

DRAWS = 100
"""Draws per requested sample before the search for distinct settings ends."""

NO_EFFECT = (
    *("STRATEGY", "BROKER", "MODE", "DAILY_AT", "HALT_PARAMETER", "JOURNAL", "ACCOUNT_FILE", "STARTING_CASH_USD"),
    *("ALPACAUSER", "ALPACAPW", "APCA_API_BASE_URL", "APCA_API_DATA_URL"),
)
"""Settings of the bot that have no effect in a backtest."""

SAME_FOR_ALL = {
    **dict.fromkeys(("START", "END"), "sets the span on which all settings are compared; set it outside GRID"),
    **dict.fromkeys(
        ("CASH", "CASH_RATE", "BENCHMARK", "OUT"), "is the same for all settings of a sweep; set it outside GRID"
    ),
    **dict.fromkeys(
        ("PRICE_SOURCES", "PRICE_FILE", "UNIVERSE", "BAR_INTERVAL"),
        "determines the prices, which are the same for all settings of a sweep; set it outside GRID",
    ),
    **dict.fromkeys(("DECIDE_EVERY", "INTRADAY_FILE"), "decides within the day, which a sweep does not; leave it out"),
    **dict.fromkeys(NO_EFFECT, "has no effect in a backtest; leave it out of GRID"),
}
"""Variables that a sweep cannot vary, with the reason and the remedy."""

OPTIONS = ("COMMISSION", "SLIPPAGE", "REFIT_EVERY")
"""Variables that a sweep can vary in addition to the bot's settings."""


NOT_WHOLE = ("_FRACTION", "_USD", "COMMISSION", "SLIPPAGE")
"""Endings of the names of settings that can be fractional even if both ends of a range are whole numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """All numbers, or all whole numbers, from `low` to `high`."""

    low: str
    high: str
    is_whole: bool

    def draw(self, chance: random.Random) -> str:
        """Draw a value from a uniform distribution, with three significant digits if it is fractional."""
        if self.is_whole:
            return str(chance.randint(int(self.low), int(self.high)))
        return f"{chance.uniform(float(self.low), float(self.high)):.3g}"


type Axis = tuple[str, ...] | Range
"""The values of one setting, written as in its variable, or a range of values."""

type Values = Mapping[str, str]
"""One value for each varied setting, by the name of the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One combination of values, and the options that result from it and the rest of the environment."""

    values: Values
    options: Options

    @property
    def words(self) -> str:
        """The values as text, such as `HISTORY_BARS=120 SLIPPAGE=0`."""
        return in_words(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A combination of values that contradict each other, and the reasons."""

    values: Values
    problems: tuple[str, ...]


def in_words(values: Values) -> str:
    """Format settings as a user would write them after `make`."""
    return " ".join(f"{name}={value}" for name, value in values.items())


# --- from text to axes -----------------------------------------------------------------------------------------------


def read(grid: str) -> dict[str, Axis]:
    """Parse a grid, given as text (see EXAMPLE) or as the path of a JSON file, and return its axes in their order.

    Raises SettingsError; wrong names and values are all reported at once.
    """
    problems: list[str] = []
    axes: dict[str, Axis] = {}
    for name, values in _from_file(Path(grid)) if grid.strip().endswith(".json") else _from_text(grid):
        try:
            _check_name(name, axes)
            axes[name] = _axis(name, values)
        except ValueError as error:
            problems.append(f"GRID: {error}")
    if not axes and not problems:
        problems.append(f"GRID varies no setting; write, for example, {EXAMPLE}")
    if problems:
        raise SettingsError(problems)
    return axes


def _from_text(grid: str) -> Iterator[tuple[str, Any]]:
    for word in grid.split():
        name, equals, values = word.partition("=")
        if not equals:
            raise SettingsError(
                [f"GRID: {word!r} must be NAME=values; write, for example, {EXAMPLE}, or name a .json file"]
            )
        yield name, values


def _from_file(path: Path) -> Iterator[tuple[str, Any]]:
    form = 'the file must contain a JSON object such as {"HISTORY_BARS": [120, 250], "SLIPPAGE": "0..0.001"}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            [f"GRID={path}: {error.strerror}; name an existing file, or write, for example, {EXAMPLE}"]
        ) from error
    except ValueError as error:
        raise SettingsError([f"GRID={path}: {error}; {form}"]) from error
    if not isinstance(content, dict):
        raise SettingsError([f"GRID={path}: {form}"])
    yield from content.items()


def _check_name(name: str, axes: Mapping[str, Axis]) -> None:
    known = sorted({*variables(), *OPTIONS} - set(SAME_FOR_ALL))
    if name in SAME_FOR_ALL:
        raise ValueError(f"{name} {SAME_FOR_ALL[name]}")
    if name in axes:
        raise ValueError(f"{name} is given twice; write all its values in one list")
    if name not in known and not name.startswith(PREFIX):  # a parameter of the rule, which the settings check
        near = get_close_matches(name.upper(), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
        raise ValueError(f"{name} is not a setting that a sweep can vary; {hint}")


def _axis(name: str, values: object) -> Axis:
    """Parse the values of one setting: text as on the command line, or a list from a file."""
    if isinstance(values, str) and ".." in values:
        return _range(name, values)
    listed = values.split(",") if isinstance(values, str) else values
    if not isinstance(listed, list) or not all(isinstance(each, str | int | float) for each in listed):
        raise ValueError(f"{name} is {values!r}; a file must give a list of numbers or words, or a range as text")
    texts = [str(each).strip() for each in listed]
    if not texts or "" in texts:
        raise ValueError(f"{name} has an empty value; write {name}=first,second")
    return tuple(dict.fromkeys(texts))


def _range(name: str, text: str) -> Range:
    low, _, high = (part.strip() for part in text.partition(".."))
    try:
        is_right = math.isfinite(float(low)) and math.isfinite(float(high)) and float(low) < float(high)
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError(f"{name}={text} is not a range; write the lower and the upper end, such as 120..500")
    is_whole = _is_whole(low) and _is_whole(high) and not name.endswith(NOT_WHOLE)
    return Range(low=low, high=high, is_whole=is_whole)


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()


# --- from axes to settings -------------------------------------------------------------------------------------------


def combinations(axes: Mapping[str, Axis], samples: int | None, seed: int) -> list[Values]:
    """Return all combinations of the values, the last name varying fastest, or `samples` of them drawn at random.

    The combinations are distinct; fewer than `samples` are returned if no more are found. Raises SettingsError for a
    range without `samples` and for a full grid of more than MAX_SETTINGS combinations.
    """
    lists = {name: axis for name, axis in axes.items() if not isinstance(axis, Range)}
    ranges = [name for name in axes if name not in lists]
    size = math.prod(len(values) for values in lists.values())
    if samples is None and ranges:
        raise SettingsError(
            [f"GRID has a range for {', '.join(ranges)}, from which values are drawn; set SAMPLES, e.g. SAMPLES=64"]
        )
    if samples is None and size > MAX_SETTINGS:
        raise SettingsError(
            [f"GRID has {size:,} combinations, but at most {MAX_SETTINGS:,} are allowed; set SAMPLES, e.g. SAMPLES=64"]
        )
    chance = random.Random(seed)  # noqa: S311 - not used for secrets
    if ranges:
        return _draw(axes, samples or 0, chance)
    chosen: Sequence[int] = range(size)
    if samples is not None and samples < size:
        chosen = sorted(chance.sample(chosen, samples))
    return [_number(lists, number) for number in chosen]


def _draw(axes: Mapping[str, Axis], samples: int, chance: random.Random) -> list[Values]:
    found: dict[tuple[str, ...], None] = {}
    for _ in range(DRAWS * samples):
        found[
            tuple(axis.draw(chance) if isinstance(axis, Range) else chance.choice(axis) for axis in axes.values())
        ] = None
        if len(found) == samples:
            break
    return [dict(zip(axes, values, strict=True)) for values in found]


def _number(lists: Mapping[str, tuple[str, ...]], number: int) -> Values:
    """Return the combination with this number."""
    found = {}
    for name, values in reversed(list(lists.items())):
        number, place = divmod(number, len(values))
        found[name] = values[place]
    return {name: found[name] for name in lists}


def settings(combined: Sequence[Values], env: Mapping[str, str]) -> tuple[list[Setting], list[LeftOut]]:
    """Return the distinct settings from the valid combinations in this environment, and the invalid combinations.

    Raises SettingsError for a value that its setting never allows, and if no valid combination is left.
    """
    made: dict[Options, Setting] = {}
    left_out = []
    for values in combined:
        try:
            made_of_it = options.from_env({**env, **values})
        except SettingsError as error:
            left_out.append(LeftOut(values=values, problems=error.problems))
        else:
            made.setdefault(made_of_it, Setting(values=values, options=made_of_it))
    problems = dict.fromkeys(problem for each in left_out for problem in each.problems)
    impossible = {f"{name}={value!r}" for each in left_out for name, value in each.values.items()}
    wrong = [problem for problem in problems if problem.partition(": must be")[0] in impossible]
    if wrong or not made:
        raise SettingsError(wrong or list(problems))
    return list(made.values()), left_out


def default(env: Mapping[str, str]) -> Options | None:
    """Return the options without a grid; None if they are invalid without one."""
    try:
        return options.from_env(env)
    except SettingsError:
        return None
