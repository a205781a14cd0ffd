"""What a rule's process consists of beside the rule: the bot's own names, and those of Python that all code relies on.

A rule that replaces one of them changes what later slots do, outside of its own decision.
"""

import builtins
import datetime
import decimal
import gc
import json
import math
import statistics
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import numpy as np
import pandas as pd

OF_PYTHON = (builtins, datetime, decimal, json, math, statistics, np, np.linalg, pd)
"""Modules whose names are looked at beside those of the bot."""

CLASSES = (pd.Series, pd.DataFrame, pd.DatetimeIndex, decimal.Decimal)
"""Classes of those modules that are looked at."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name of a module or a class, with its value, and what the value contained if it is a collection."""

    owner: ModuleType | type
    name: str
    value: object
    content: object

    def has_changed(self) -> bool:
        """Check whether the name has another value now, or the value another content."""
        if vars(self.owner).get(self.name) is not self.value:
            return True
        return self.content is not None and _list_content(self.value) != self.content


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The names at one moment, and settings of Python."""

    names: Mapping[str, Name]
    settings: Mapping[str, object]

    @classmethod
    def take(cls) -> Self:
        """Return the surroundings as they are now."""
        names = {
            f"{_describe(owner)}.{name}": Name(owner, name, value, _list_content(value))
            for owner in _list_owners()
            for name, value in list(vars(owner).items())
            if not name.startswith("__")
        }
        return cls(names, _read_settings())

    def find_change(self) -> str:
        """Return the first name that has changed since; empty if none has. Names that came since are none of these."""
        now = _read_settings()
        settings = (name for name, value in self.settings.items() if now[name] != value)
        return next(settings, "") or next((name for name, each in self.names.items() if each.has_changed()), "")

    def restore(self) -> None:
        """Give each name that has another value the one that it had."""
        for each in self.names.values():
            if vars(each.owner).get(each.name) is not each.value:
                setattr(each.owner, each.name, each.value)


def _list_owners() -> Iterator[ModuleType | type]:
    """Yield the modules and the classes whose names are looked at."""
    ours = [each for name, each in list(sys.modules.items()) if name.partition(".")[0] == "trader"]
    for module in (*ours, *OF_PYTHON):
        yield module
    for module in ours:
        yield from (
            each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__
        )
    yield from CLASSES


def _describe(owner: ModuleType | type) -> str:
    return f"{owner.__module__}.{owner.__qualname__}" if isinstance(owner, type) else owner.__name__


def _list_content(value: object) -> object:
    """Return what a collection contains, by identity; None for other values."""
    if isinstance(value, dict):
        return [(id(key), id(each)) for key, each in value.items()]
    return [id(each) for each in value] if isinstance(value, list | set) else None


def _read_settings() -> Mapping[str, Any]:
    """Return settings of the process that a rule could change for all that comes after it."""
    return {
        "sys.getrecursionlimit()": sys.getrecursionlimit(),
        "sys.path": list(sys.path),
        "gc.isenabled()": gc.isenabled(),
        "numpy.get_printoptions()": repr(np.get_printoptions()),
        "threading.enumerate()": threading.active_count(),
    }
