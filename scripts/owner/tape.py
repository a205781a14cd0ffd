"""What the records of a period hold of each slot: prices, account, forecasts, decision and orders. Pure.

A record is 100 to 300 kB, most of it closes, which are read as text, and forecasts that it has twice, which are read
once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from scripts.owner.bars import Bars, cut_out, decode_bars
from trader.alpha import own
from trader.codec import decode, decode_object, decode_time, parse_json
from trader.journal.record import VERSION
from trader.model import (
    Account,
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

_LINE = re.compile(r'"line": \[\[[^"\\\[\]]*"[^"\\]*", [^"\[\]]*\](?:, \["[^"\\]*", [^"\[\]]*\])*\]')
_REPORTED, _REPORTED_END = '"forecasts": ', ', "account": '
_DECIDED, _DECIDED_END = '"decision": {"forecasts": ', ', "insights": '
_OWN_RULE = re.compile(rf'"signal": "[^"]*{re.escape(own.SUFFIX)}"')


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
    found = cut_out(text)
    if not found:  # it has none, or somebody else has written it
        record = decode_object(parse_json(text))
        seen = record.get("observation")
        closes = decode_object(seen["closes"]) if isinstance(seen, dict) else {}
        return dict(record), {symbol: decode_bars(symbol, each) for symbol, each in closes.items()}
    rest = _leave_out_twins(found[0])
    if not _OWN_RULE.search(rest):  # the shipped rules do not look at the corners of the lines
        rest = _LINE.sub('"line": []', rest)
    record = decode_object(parse_json(rest))
    if decode_object(record["observation"])["closes"]:
        raise ValueError("it has closes beside those of its observation")
    return dict(record), found[1]


def _leave_out_twins(text: str) -> str:
    """Return a record without the forecasts of its report if they are those of its decision, letter by letter."""
    at = text.find(_DECIDED) + len(_DECIDED)
    end = text.find(_DECIDED_END, at)
    again = text.find(_REPORTED, end) + len(_REPORTED)
    after = again + end - at
    is_twin = at >= len(_DECIDED) <= end and again > end and text.startswith(_REPORTED_END, after)
    return f"{text[:again]}[]{text[after:]}" if is_twin and text[again:after] == text[at:end] else text


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
