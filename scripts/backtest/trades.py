"""Round trips: fills matched into trades with an entry, an exit and a profit or loss."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pandas as pd

from scripts.backtest.model import Fill, Result
from trader.model import Side

MIN_SHARES = 1e-9
"""Smaller quantities are rounding errors: brokers keep nine decimals."""

STILL_OPEN = "still open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """Shares bought in one fill and sold in one fill: a purchase sold in parts gives several trades.

    If the trade is still open, `exit_time` is None and `exit_price_usd` is the last close.
    """

    symbol: str
    quantity: float
    entry_time: datetime  # start of the bar
    entry_price_usd: float  # slippage included
    entry_reason: str
    exit_time: datetime | None
    exit_price_usd: float
    exit_reason: str  # stop-loss, take-profit, the sale's own reason, or still open
    commission_usd: float  # its share of both orders' commission
    pnl_usd: float  # after commission
    return_fraction: float  # of the purchase's cost, including its commission
    bars_held: int

    @property
    def is_open(self) -> bool:
        """True if the shares are still held at the end."""
        return self.exit_time is None


@dataclass(slots=True)
class _Lot:
    """The unsold shares of one purchase."""

    entry: Fill
    left: float


class _Exit(NamedTuple):
    """The sale of some shares, or the valuation of those still held."""

    time: datetime | None
    price_usd: float
    reason: str
    commission_usd: float
    until: datetime  # start of the bar up to which they were held


def trades(result: Result) -> tuple[Trade, ...]:
    """Match the fills of each symbol into round trips, first in, first out; return them in the order of entry.

    Raises ValueError if more is sold than was bought: backtests do not go short, so the fills would be wrong.
    """
    lots: dict[str, deque[_Lot]] = {}
    calendar = result.panel.close.index
    found: list[Trade] = []
    for fill in result.fills:
        held = lots.setdefault(fill.symbol, deque())
        if fill.side is Side.BUY:
            held.append(_Lot(fill, fill.quantity))
        else:
            found += _close_lots(fill, held, calendar)
    for lot in (lot for held in lots.values() for lot in held):
        found.append(_trade(lot.entry, lot.left, _last(lot.entry, result), calendar))
    return tuple(sorted(found, key=lambda trade: (trade.entry_time, trade.symbol)))


def _close_lots(sale: Fill, held: deque[_Lot], calendar: pd.Index) -> Iterator[Trade]:
    reason = sale.reason if sale.kind == "market" else sale.kind
    left = sale.quantity
    while left > MIN_SHARES:
        if not held:
            raise ValueError(f"{sale.client_order_id} sells {left:g} {sale.symbol} more than was bought")
        lot = held[0]
        quantity = min(left, lot.left)
        left -= quantity
        lot.left -= quantity
        if lot.left <= MIN_SHARES:
            held.popleft()
        commission_usd = sale.commission_usd * quantity / sale.quantity
        yield _trade(lot.entry, quantity, _Exit(sale.time, sale.price_usd, reason, commission_usd, sale.time), calendar)


def _last(entry: Fill, result: Result) -> _Exit:
    """Value open shares at the last close up to the last bar, without the cost of a sale."""
    end = result.bars[-1].time
    closes = result.panel.close[entry.symbol].loc[:end].dropna()
    return _Exit(None, float(closes.iloc[-1]) if len(closes) else entry.price_usd, STILL_OPEN, 0.0, end)


def _trade(entry: Fill, quantity: float, leaving: _Exit, calendar: pd.Index) -> Trade:
    entry_commission_usd = entry.commission_usd * quantity / entry.quantity
    paid_usd = quantity * entry.price_usd + entry_commission_usd
    pnl_usd = quantity * leaving.price_usd - leaving.commission_usd - paid_usd
    return Trade(
        symbol=entry.symbol,
        quantity=quantity,
        entry_time=entry.time,
        entry_price_usd=entry.price_usd,
        entry_reason=entry.reason,
        exit_time=leaving.time,
        exit_price_usd=leaving.price_usd,
        exit_reason=leaving.reason,
        commission_usd=entry_commission_usd + leaving.commission_usd,
        pnl_usd=pnl_usd,
        return_fraction=pnl_usd / paid_usd,
        bars_held=_bars(calendar, entry.time, leaving.until),
    )


def _bars(calendar: pd.Index, begin: datetime, end: datetime) -> int:
    """Count the bars between two starts of bars: 0 for shares sold in the bar in which they were bought."""
    first, last = calendar.searchsorted(pd.DatetimeIndex([begin, end]))
    return int(last - first)
