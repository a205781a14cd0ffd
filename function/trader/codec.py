"""The codec for records: encodes the model's values as JSON types, and decodes them with a type check of each field.

Anyone may have written a record, so decoding rejects unknown fields, NaN, numbers out of range and times without a
zone.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd

from trader.model import OHLV, YEARS, Closes, Line, Ohlv

PLAIN = frozenset((str, int, float, bool, NoneType))
"""The types that are encoded as they are."""

MAX_NUMBER = 1e15
"""The largest number that is accepted; prices, quantities and amounts of money are smaller."""


def encode(value: Any) -> Any:  # noqa: ANN401 any of the model's values, as any JSON type
    """Encode a value as JSON types: times in UTC, closes as a list of epoch seconds and a list of prices.

    The rest of the bars is a list for each of its columns, null where it is not known; its times are those of the
    closes.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if is_dataclass(kind):
        return {name: encode(each) for name, each in _list_fields(value)}
    if isinstance(value, pd.Series):
        times_s = pd.DatetimeIndex(value.index).as_unit("ns").asi8 // 10**9
        return {"times": times_s.tolist(), "usd": value.to_list()}
    if isinstance(value, np.ndarray):
        columns = zip(OHLV, value.T.tolist(), strict=True)
        return {name: [None if math.isnan(each) else each for each in column] for name, column in columns}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, (list, tuple, Line)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    return value


def _list_fields(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 any of the model's values
    """Yield the fields of a value, without those that are encoded only when they are set, and are not."""
    for name, item in _list_when_set(type(value)).items():  # type: ignore[arg-type]  # a class is hashable
        each = getattr(value, name)
        if item is None or each != _find_default(item):
            yield name, each


@cache
def _list_when_set(kind: type) -> Mapping[str, Field[Any] | None]:
    """Return the fields of a dataclass by name, None for those that are always encoded."""
    return {item.name: item if item.metadata.get("is_when_set") else None for item in fields(kind)}


def _find_default(item: Field[Any]) -> object:
    return item.default if item.default_factory is MISSING else item.default_factory()


def decode[T](kind: type[T], data: object) -> T:
    """Decode an instance of a dataclass from JSON types.

    Raises KeyError, TypeError or ValueError if a field is missing, unknown or invalid.
    """
    decoders = _list_decoders(kind)  # type: ignore[arg-type]  # a class is hashable
    return kind(**{name: decoders[name](name, value) for name, value in decode_object(data).items()})


def parse_json(text: str) -> Any:  # noqa: ANN401 any JSON type
    """Parse JSON.

    Raises ValueError if the text is not JSON, has a number that JSON does not allow, such as NaN, or has a name twice
    in one object: one reader takes the first of the two values, another the last.
    """
    try:
        return json.loads(
            text, parse_constant=_parse_finite, parse_float=_parse_finite, object_pairs_hook=_parse_object
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def decode_object(data: object) -> Mapping[str, Any]:
    """Return a JSON object. Raises TypeError if the data is anything else."""
    if not isinstance(data, dict):
        raise TypeError(f"{data!r:.100} is not a JSON object")
    return data


def decode_number(data: object) -> float:
    """Return a finite number. Raises ValueError if the data is not a number, or is out of range."""
    if isinstance(data, bool) or not isinstance(data, int | float) or not -MAX_NUMBER <= data <= MAX_NUMBER:
        raise ValueError(f"{data!r:.100} is not a number, or is out of range")
    return float(data)


def decode_time(data: object) -> datetime:
    """Return a time with its zone. Raises ValueError if the data is anything else, or if the year is out of range."""
    time = datetime.fromisoformat(data) if isinstance(data, str) else None
    if time is None or time.tzinfo is None or time.year not in YEARS:
        raise ValueError(f"{data!r:.100} is not a time with a zone, or its year is out of range")
    return time


def _parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {twice!r:.100} twice")
    return found


def _parse_finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.100} is not a number that JSON allows")
    return value


type Decoder = Callable[[str, object], object]
"""A function that decodes the value of a field, given its name."""


@cache
def _list_decoders(kind: type) -> Mapping[str, Decoder]:
    return {name: _make_decoder(hint) for name, hint in get_type_hints(kind).items()}


@cache
def _make_decoder(kind: Any) -> Decoder:  # noqa: ANN401 the declared type of a field
    """Return what decodes a field. It is made once, because a record has thousands of them."""
    if kind is Closes:
        return lambda name, data: _decode_closes(name, decode_object(data))
    if kind is Ohlv:
        return lambda name, data: _decode_ohlv(name, decode_object(data))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (present,) = (_make_decoder(each) for each in arguments if each is not NoneType)
        return lambda name, data: None if data is None else present(name, data)
    if origin in (Mapping, dict):
        inner = _make_decoder(arguments[1])
        return lambda _, data: {key: inner(key, value) for key, value in decode_object(data).items()}
    if origin is tuple:
        return _make_decoder_of_tuples(arguments)
    if origin is Sequence:
        return _make_decoder_of_tuples((*arguments, ...))
    if is_dataclass(kind):
        return lambda _, data: decode(kind, data)  # type: ignore[arg-type]  # it is a class
    return _make_decoder_of_plain(kind)


def _make_decoder_of_tuples(kinds: tuple[Any, ...]) -> Decoder:
    decoders = [_make_decoder(each) for each in kinds if each is not Ellipsis]
    is_open = kinds[-1] is Ellipsis

    def decode_tuple(name: str, data: object) -> tuple[object, ...]:
        if not isinstance(data, list):
            raise TypeError(f"{name} is {data!r:.100}, not a list")
        if is_open:
            return tuple([decoders[0](name, item) for item in data])
        return tuple(each(name, item) for each, item in zip(decoders, data, strict=True))

    return decode_tuple


def _make_decoder_of_plain(kind: type) -> Decoder:
    if kind is float:
        return lambda _, data: decode_number(data)
    if kind is datetime:
        return lambda _, data: decode_time(data)
    is_enum = issubclass(kind, StrEnum)

    def decode_plain(name: str, data: object) -> object:
        if is_enum and isinstance(data, str):
            return kind(data)
        if not isinstance(data, kind):
            raise TypeError(f"{name} is {data!r:.100}")
        return data

    return decode_plain


def _decode_closes(symbol: str, data: Mapping[str, Any]) -> Closes:
    times = pd.to_datetime([decode_number(time) for time in data["times"]], unit="s", utc=True)
    closes = pd.Series([decode_number(price) for price in data["usd"]], index=times, name=symbol, dtype=float)
    if closes.empty or not closes.index.is_monotonic_increasing or not closes.index.is_unique or (closes <= 0).any():
        raise ValueError(f"the closes of {symbol!r:.100} are empty, out of order or not above 0")
    return closes


def _decode_ohlv(symbol: str, data: Mapping[str, Any]) -> Ohlv:
    if data.keys() != set(OHLV):
        raise ValueError(
            f"the bars of {symbol!r:.100} have {', '.join(map(str, data)):.100}; {', '.join(OHLV)} are needed"
        )
    columns = [[math.nan if each is None else decode_number(each) for each in data[name]] for name in OHLV]
    ohlv: Ohlv = np.column_stack(columns)
    if not (ohlv[:, :-1] > 0).all() or (ohlv[:, -1] < 0).any():
        raise ValueError(f"a price of {symbol!r:.100} is missing or not above 0, or a volume is below 0")
    return ohlv
