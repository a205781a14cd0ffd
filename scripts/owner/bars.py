"""The closes of records: read as text, kept as arrays, sent to another process as one array. Pure.

They are most of a record, and those of a slot are those of the slot before, but for a bar or two. So what is known
already is not parsed again.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.codec import decode_object
from trader.model import Closes

type Times = NDArray[np.int64]
type Prices = NDArray[np.float64]

_BEGIN, _TIMES, _USD = '"closes": {', '": {"times": [', '], "usd": ['
_NEXT, _END = "]}, ", "]}}"
_SEPARATOR = ", "
_HEAD_LENGTH = 48
"""The length of the part of a text that is looked for in the text before: a few numbers."""

_NUMBERS = re.compile(r"[0-9.eE+\-, ]*")
_known: dict[str, tuple[str, Prices]] = {}
"""By symbol, the closes that were parsed last, without the last one: as text and as numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Closes as a record has them: the starts of the bars in seconds since 1970, and their prices."""

    times: Times
    usd: Prices
    _series: dict[str, Closes] = field(default_factory=dict, init=False, repr=False)  # made once, as it takes long

    @property
    def last_usd(self) -> float:
        """The last close, which is the price at the slot."""
        return float(self.usd[-1])

    def to_series(self, symbol: str) -> Closes:
        """Return the closes as the bot's stages take them."""
        if symbol not in self._series:
            index = _index(self.times.tobytes())
            self._series[symbol] = pd.Series(self.usd, index=index, name=symbol, copy=False)
        return self._series[symbol]

    def end_at(self, usd: float) -> "Bars":
        """Return the bars with another last close."""
        changed = self.usd.copy()
        changed[-1] = usd
        return Bars(self.times, changed)


class LazyCloses(Mapping[str, Closes]):
    """Closes as the bot's stages take them, made only when a stage asks for those of a symbol: most never do."""

    def __init__(self, bars: Mapping[str, Bars]) -> None:
        """Store the bars by symbol."""
        self._bars = bars

    def __getitem__(self, symbol: str) -> Closes:
        """Return the closes of a symbol."""
        return self._bars[symbol].to_series(symbol)

    def __contains__(self, symbol: object) -> bool:
        """Check whether there are closes of a symbol, without making them."""
        return symbol in self._bars

    def __iter__(self) -> Iterator[str]:
        """Yield the symbols."""
        return iter(self._bars)

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self._bars)


@lru_cache(maxsize=64)
def _index(times: bytes) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(np.frombuffer(times, np.int64), unit="s", utc=True))


# --- reading ---------------------------------------------------------------------------------------------------------


def cut_out(text: str) -> tuple[str, dict[str, Bars]] | None:
    """Return a record's text without its closes, and these, as the journal writes them; None if others wrote it.

    Raises ValueError if they cannot be closes.
    """
    begin = at = text.find(_BEGIN) + len(_BEGIN)
    if begin < len(_BEGIN):
        return None
    found: dict[str, Bars] = {}
    while True:
        end = text.find(_TIMES, at)
        symbol = text[at + 1 : end]
        if end < 0 or text[at] != '"' or '"' in symbol or "\\" in symbol or symbol in found:
            return None
        times = text[end + len(_TIMES) : text.find("]", end)]
        middle = end + len(_TIMES) + len(times)
        if not text.startswith(_USD, middle):
            return None
        usd = text[middle + len(_USD) : (at := text.find("]", middle + len(_USD)))]
        found[symbol] = _parse(symbol, times, usd)
        if text.startswith(_END, at):
            return f"{text[:begin]}{text[at + len(_END) - 1 :]}", found
        if not text.startswith(_NEXT, at):
            return None
        at += len(_NEXT)


def decode_bars(symbol: str, data: object) -> Bars:
    """Return closes from JSON. Raises KeyError, TypeError or ValueError if they cannot be closes."""
    values = decode_object(data)
    times, usd = np.array(values["times"], np.int64), np.array(values["usd"], np.float64)
    _check(symbol, _is_rising(times) and len(times) == len(usd), usd)
    return Bars(times, usd)


def _parse(symbol: str, times: str, usd: str) -> Bars:
    starts, is_rising = _parse_times(times)
    head, _, last = usd.rpartition(_SEPARATOR)
    kept, last_usd = _parse_head(symbol, head), _parse_numbers(last)
    _check(symbol, is_rising and len(starts) == len(kept) + 1, last_usd)
    return Bars(starts, np.concatenate([kept, last_usd]))


def _parse_head(symbol: str, text: str) -> Prices:
    """Return prices; what they begin with is mostly the end of those that were parsed last."""
    before, prices = _known.get(symbol, ("", np.array([], np.float64)))
    at = before.find(text[:_HEAD_LENGTH]) if text else -1
    rest = before[at:] if at >= 0 and (not at or before.startswith(_SEPARATOR, at - len(_SEPARATOR))) else ""
    if rest and (text == rest or text.startswith(rest + _SEPARATOR)):
        prices = prices[before.count(_SEPARATOR, 0, at) :]
        added = text[len(rest) + len(_SEPARATOR) :]
    else:
        prices, added = prices[:0], text
    if added:
        more = _parse_numbers(added)
        _check(symbol, True, more)
        prices = np.concatenate([prices, more])
    _known[symbol] = (text, prices)
    return prices


def _parse_numbers(text: str) -> list[float]:
    if not _NUMBERS.fullmatch(text):
        raise ValueError(f"{text:.100} are no numbers")
    return [float(each) for each in text.split(",")]


@lru_cache(maxsize=64)
def _parse_times(text: str) -> tuple[Times, bool]:
    times = np.array(json.loads(f"[{text}]"), np.int64)
    return times, _is_rising(times)


def _is_rising(times: Times) -> bool:
    return len(times) > 0 and bool((np.diff(times) > 0).all())


def _check(symbol: str, is_ok: bool, usd: Iterable[float]) -> None:
    if not is_ok or not all(0 < each < math.inf for each in usd):
        raise ValueError(f"the closes of {symbol!r:.100} are empty, out of order or not above 0")


# --- sending ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """The closes of many records in one array: thousands of small ones take long on the way to another process."""

    times: Sequence[Times]
    usd: Prices
    places: Sequence[Sequence[tuple[str, int]]]  # of each record: symbol, and which times


def pack(records: Iterable[Mapping[str, Bars]]) -> Parcel:
    """Put the closes of records together."""
    times: dict[int, tuple[int, Times]] = {}
    usd: list[Prices] = [np.array([], np.float64)]
    places = []
    for bars in records:
        place = []
        for symbol, each in bars.items():
            number, _ = times.setdefault(id(each.times), (len(times), each.times))
            usd.append(each.usd)
            place.append((symbol, number))
        places.append(place)
    return Parcel(times=[each for _, each in times.values()], usd=np.concatenate(usd), places=places)


def unpack(parcel: Parcel) -> Iterator[dict[str, Bars]]:
    """Yield the closes of each record."""
    end = 0
    for place in parcel.places:
        bars = {}
        for symbol, number in place:
            times = parcel.times[number]
            begin, end = end, end + len(times)
            bars[symbol] = Bars(times, parcel.usd[begin:end])
        yield bars
