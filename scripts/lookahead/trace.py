"""The trace of a backtest: for each bar, a digest of everything that was known, decided and done by its end."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from scripts.backtest import buy_and_hold
from scripts.backtest.model import Fill, Panel, Result
from trader.codec import encode
from trader.model import NEW_YORK
from trader.prices.bars import PRICES

type Trace = Sequence[Mapping[str, str]]
"""Digests by bar, and by what they are of; they cover every digit."""


def trace(result: Result) -> Trace:
    """Return the trace of a backtest."""
    fills: dict[datetime, list[Fill]] = {}
    for fill in result.fills:
        fills.setdefault(fill.time, []).append(fill)
    held = buy_and_hold.universe(result)
    return [
        {
            "prices": _digest(read_row(result.panel, bar.time)),
            "fills": _digest(encode(fills.get(bar.time, []))),
            "decision and account": _digest(encode(bar)),
            "buy-and-hold": _digest(float(held.equity_usd[number]) if held else None),
            "benchmark": _digest(float(result.benchmark.closes[number]) if result.benchmark else None),
        }
        for number, bar in enumerate(result.bars)
    ]


def read_row(panel: Panel, time: datetime) -> dict[str, list[float]]:
    """Return the open, high, low and close of each symbol that has a price at a bar, by symbol.

    Of an index, a symbol is left out that joins it only later: prices that end with the bar do not have it.
    """
    rows = [getattr(panel, name).loc[time] for name in PRICES]
    symbols = {str(symbol) for symbol in rows[-1].dropna().index}
    if panel.members:
        symbols &= set(panel.members.until(time.astimezone(NEW_YORK).date()).symbols)
    return {symbol: [float(row[symbol]) for row in rows] for symbol in sorted(symbols)}


def find_difference(one: Trace, other: Trace) -> tuple[int, str] | None:
    """Return the first bar in which two traces differ, as far as both go, and what differs; None if nothing does."""
    for number, (here, there) in enumerate(zip(one, other, strict=False)):
        if differing := [what for what in here if here[what] != there[what]]:
            return number, differing[0]
    return None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
