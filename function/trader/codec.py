"""Decode: values of the model out of JSON that anybody may have written, each field held against its type."""

import json
import math
from collections.abc import Mapping
from dataclasses import Field, fields
from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Any, get_args

from trader.model import YEARS

MAX_NUMBER = 1e15
"""A larger number is no price, quantity or sum of money."""


def loaded(text: str) -> Any:  # noqa: ANN401 whatever JSON there is
    """What a text of JSON says. Raises ValueError if it is none, or has a number that JSON does not know, as NaN."""
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def built[T](kind: type[T], data: object) -> T:
    """A value of a dataclass. Raises KeyError, TypeError or ValueError if a field is not what it has to be."""
    known: Mapping[str, Field[Any]] = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: _value(name, known[name].type, value) for name, value in mapping(data).items()})


def mapping(data: object) -> Mapping[str, Any]:
    """An object of JSON. Raises TypeError if it is something else."""
    if not isinstance(data, dict):
        raise TypeError(f"{data!r:.100} is no object")
    return data


def number(data: object) -> float:
    """A finite number. Raises ValueError if it is none, or larger than anything there is."""
    if isinstance(data, bool) or not isinstance(data, int | float) or not -MAX_NUMBER <= data <= MAX_NUMBER:
        raise ValueError(f"{data!r:.100} is no number, or none that can be")
    return float(data)


def moment(data: object) -> datetime:
    """A time with its zone. Raises ValueError if it is none, or of a year that cannot be."""
    time = datetime.fromisoformat(data) if isinstance(data, str) else None
    if time is None or time.tzinfo is None or time.year not in YEARS:
        raise ValueError(f"{data!r:.100} is no time with a zone, or none that can be")
    return time


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.100} is no number that JSON knows")
    return value


def _value(name: str, kind: Any, data: object) -> object:  # noqa: ANN401 a dataclass's own word for a field's type
    kinds = get_args(kind) or (kind,)
    if data is None and NoneType in kinds:
        return None
    if float in kinds:
        return number(data)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(str(data))
    if not isinstance(data, kinds):
        raise TypeError(f"{name} is {data!r:.100}")
    return data
