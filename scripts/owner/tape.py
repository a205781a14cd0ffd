"""What the records of a period hold of each slot: prices, account, forecasts, decision and orders. Pure.

A record is 100 to 300 kB, most of it closes that hardly change from one slot to the next. So they are read as text, and
kept as arrays of which equal ones are shared.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.alpha import own
from trader.codec import decode, decode_object, decode_time, parse_json
from trader.journal.record import VERSION
from trader.model import (
    Account,
    Closes,
    Code,
    Forecast,
    Json,
    OpenOrder,
    Order,
    Outcome,
    Position,
    Settled,
)
from trader.settings import Settings
from trader.stages.universe import top_performers

IDLE = frozenset({Code.MARKET_CLOSED, Code.NOT_DUE, Code.ALREADY_RAN, Code.UNDER_WAY})
"""The ends of runs that had no slot to trade in."""

_CLOSES, _CLOSES_END = '"closes": {', "}}"
_ONE = re.compile(r'"([^"\\]*)": \{"times": \[([^\[\]]*)\], "usd": \[([^\[\]]*)\]\}')
_LINE = re.compile(r'"line": \[\[[^"\\\[\]]*"[^"\\]*", [^"\[\]]*\](?:, \["[^"\\]*", [^"\[\]]*\])*\]')
_DECIDED, _DECIDED_END = '"decision": {"forecasts": ', ', "insights": '
_OWN_RULE = re.compile(rf'"signal": "[^"]*{re.escape(own.SUFFIX)}"')
_NUMBERS = re.compile(r"[0-9.eE+\-, ]*")


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Closes as a record has them: the starts of the bars in seconds since 1970, and their prices."""

    times: NDArray[np.int64]
    usd: NDArray[np.float64]
    _series: dict[str, Closes] = field(default_factory=dict, init=False, repr=False)  # made once, as it takes long

    def __reduce__(self) -> tuple[type["Bars"], tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Leave out the series on the way to another process."""
        return Bars, (self.times, self.usd)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A slot of the period. One that nobody ran has `missed`, the reason, and prices from other slots, if any."""

    slot: datetime
    now: datetime
    settings: Json = field(default_factory=dict)
    status: str = ""
    account: Account | None = None
    positions: Mapping[str, Position] = field(default_factory=dict)
    open_orders: Sequence[OpenOrder] = ()  # but for the legs of brackets and the stops
    legs: Sequence[Json] = ()  # these, as the record has them
    chosen: Sequence[str] = ()
    bars: Mapping[str, Bars] = field(default_factory=dict)
    ohlv: Json = field(default_factory=dict)
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    decided: Sequence[Order] | None = None  # None: it came to no decision
    directions: Mapping[str, str] = field(default_factory=dict)  # of its insights, by symbol
    refused: frozenset[tuple[str, str]] = frozenset()  # symbol and code
    stopped_at: Mapping[str, datetime] = field(default_factory=dict)
    bought_at: Mapping[str, datetime] = field(default_factory=dict)
    peak_equity_usd: float | None = None
    peak_problem: str = ""
    placed: Sequence[Order] = ()  # its orders and stops, and earlier orders as it found them settled
    rule: Mapping[str, str] = field(default_factory=dict)  # the files of an own rule
    missed: str = ""
    unknown: str = ""  # why nothing can be decided at a missed slot

    @property
    def is_seen(self) -> bool:
        """True if its run saw the account and the prices."""
        return self.account is not None


def parse(slot: datetime, text: str) -> tuple[Json, Step]:
    """Return a record without its closes, and what it holds. Raises KeyError, TypeError or ValueError if it is none."""
    record, closes = _read(text)
    if record.get("version") != VERSION:
        raise ValueError(f"it is not a run's record of version {VERSION}")
    report, seen, decision = (record.get(part) for part in ("report", "observation", "decision"))
    report = decode_object(report)
    step = Step(
        slot=slot,
        now=slot,
        settings=decode_object(record["settings"]),
        status=str(report["status"]),
        placed=_read_placed(report),
        rule={str(path): str(words) for path, words in record.get("rule", {}).items()},
    )
    if seen is None:
        return record, step
    step = replace(
        step,
        now=decode_time(seen["now"]).astimezone(UTC),
        account=decode(Account, seen["account"]),
        positions={symbol: decode(Position, each) for symbol, each in seen["positions"].items()},
        open_orders=tuple(decode(OpenOrder, each) for each in seen["open_orders"] if not each["is_leg"]),
        legs=tuple(each for each in seen["open_orders"] if each["is_leg"]),
        chosen=top_performers(seen["ranking"], int(step.settings.get("universe_size", Settings.universe_size))),
        bars=closes,
        ohlv=seen.get("ohlv", {}),
        stopped_at={symbol: decode_time(each) for symbol, each in seen.get("stopped_at", {}).items()},
        bought_at={symbol: decode_time(each) for symbol, each in seen.get("bought_at", {}).items()},
        peak_equity_usd=seen.get("peak_equity_usd"),
        peak_problem=str(seen.get("peak_problem", "")),
    )
    if decision is None:
        return record, step
    return record, replace(
        step,
        forecasts={each["symbol"]: decode(Forecast, each) for each in decision["forecasts"]},
        decided=tuple(decode(Order, each) for each in decision["orders"]),
        directions={each["symbol"]: str(each["direction"]) for each in decision["insights"]},
        refused=frozenset((each["symbol"], str(each["code"])) for each in decision["denials"]),
    )


def _read(text: str) -> tuple[dict[str, Any], dict[str, Bars]]:
    """Return a record without its closes, and these."""
    found = _find_closes(text)
    if not found:  # it has none, or somebody else has written it
        record = decode_object(parse_json(text))
        seen = record.get("observation")
        closes = decode_object(seen["closes"]) if isinstance(seen, dict) else {}
        return dict(record), {symbol: _decode_bars(symbol, each) for symbol, each in closes.items()}
    rest = _leave_out_twins(f"{text[: found[0].start()]}{text[found[-1].end() :]}")
    if not _OWN_RULE.search(rest):  # the shipped rules do not look at the corners of the lines
        rest = _LINE.sub('"line": []', rest)
    record = decode_object(parse_json(rest))
    if decode_object(record["observation"])["closes"]:
        raise ValueError("it has closes beside those of its observation")
    return dict(record), {each[1]: _parse_bars(*each.groups()) for each in found}


def _find_closes(text: str) -> list[re.Match[str]]:
    """Return the closes of each symbol as the journal writes them; none if something else is among them."""
    at = text.find(_CLOSES) + len(_CLOSES)
    end = text.find(_CLOSES_END, at) + 1
    found = list(_ONE.finditer(text, at, end)) if at >= len(_CLOSES) and end else []
    ends = [at, *(each.end() + len(", ") for each in found)]
    is_whole = [each.start() for each in found] == ends[:-1] and ends[-1] == end + len(", ")
    return found if is_whole and all(text.startswith(", ", each.end()) for each in found[:-1]) else []


def _leave_out_twins(text: str) -> str:
    """Return a record without the forecasts of its report if they are those of its decision, letter by letter."""
    at = text.find(_DECIDED) + len(_DECIDED)
    end = text.find(_DECIDED_END, at)
    if at < len(_DECIDED) or end < 0:
        return text
    return text.replace(f'"forecasts": {text[at:end]}, "account": ', '"forecasts": [], "account": ')


def _parse_bars(symbol: str, times: str, usd: str) -> Bars:
    return _check(symbol, Bars(_parse_times(times), _parse_numbers(usd)))


def _decode_bars(symbol: str, data: Json) -> Bars:
    return _check(symbol, Bars(np.array(data["times"], np.int64), np.array(data["usd"], np.float64)))


def _check(symbol: str, bars: Bars) -> Bars:
    is_ok = len(bars.times) == len(bars.usd) > 0 and (bars.usd > 0).all() and np.isfinite(bars.usd).all()
    if not is_ok or (np.diff(bars.times) <= 0).any():
        raise ValueError(f"the closes of {symbol!r:.100} are empty, out of order or not above 0")
    return bars


@lru_cache(maxsize=64)
def _parse_times(text: str) -> NDArray[np.int64]:
    return np.array(json.loads(f"[{text}]"), np.int64)


def _parse_numbers(text: str) -> NDArray[np.float64]:
    """Return numbers; those of a slot are those of the slot before, but for the last."""
    head, _, last = text.rpartition(",")
    return np.append(_parse_head(head), float(last))


@lru_cache(maxsize=256)
def _parse_head(text: str) -> NDArray[np.float64]:
    if not _NUMBERS.fullmatch(text):
        raise ValueError(f"{text:.100} are no numbers")
    return np.fromstring(text, sep=",") if text else np.array([], np.float64)


@lru_cache(maxsize=64)
def _index(times: bytes) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(np.frombuffer(times, np.int64), unit="s", utc=True))


def _read_placed(report: Json) -> Sequence[Order]:
    """Return the orders of a run, and those of earlier runs that it found to have ended otherwise."""
    settled = (decode(Settled, each) for each in report.get("settled", ()))
    return (
        *(decode(Order, each) for name in ("orders", "stops") for each in report.get(name, ())),
        *(
            Order(
                client_order_id=each.client_order_id,
                symbol=each.symbol,
                side=each.side,
                quantity=each.quantity,
                price_usd=each.filled_price_usd or 0.0,
                status=each.status,
                filled_quantity=each.filled_quantity,
                filled_price_usd=each.filled_price_usd,
            )
            for each in settled
        ),
    )


def is_of_a_slot(step: Step) -> bool:
    """Check whether a run had a slot to trade in."""
    return step.status not in IDLE


def came_to_nothing(step: Step) -> str:
    """Return why a run with a slot came to no decision; empty if it came to one."""
    if step.decided is not None or not is_of_a_slot(step):
        return ""
    return "cut off before it decided" if step.status == Outcome.INTERRUPTED else step.status
