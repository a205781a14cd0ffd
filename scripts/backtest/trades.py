"""Round trips: fills matched into trades with an entry, an exit and a profit or loss."""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from scripts.backtest.judged import judge
from scripts.backtest.model import Fill, Restatement, Result
from scripts.backtest.rhythm import by_day
from trader.model import DECIMALS, Order, Side
from trader.prices.jumps import name_split

MIN_SHARES = 1e-9
"""Smaller quantities are rounding errors."""

STILL_OPEN = "still open"
CASH_IN_LIEU = "cash in lieu of a fraction"


class ExitKind(StrEnum):
    """What ended a trade."""

    RULE = "rule"  # the bot sold at the market
    STOP_LOSS = "stop-loss"
    TAKE_PROFIT = "take-profit"
    DELISTING = "delisting"  # its prices ended
    SPLIT = "split"  # cash for the fraction of a share that a split left over
    OPEN = "open"  # nothing yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """Shares bought in one fill and sold in one fill: a purchase sold in parts gives several trades.

    If the trade is still open, `exit_time` is None and `exit_price_usd` is the last close. Across a split, quantities
    and prices stay as they were bought and sold: 10 shares of 100 USD become 40 of 25 USD.
    """

    symbol: str
    quantity: float  # when they were bought
    entry_time: datetime  # start of the bar
    entry_price_usd: float  # slippage included
    entry_reason: str
    stop_loss_usd: float | None  # of the purchase's bracket; None without one
    take_profit_usd: float | None
    exit_quantity: float  # the same shares, restated for the splits in between
    exit_time: datetime | None
    exit_price_usd: float
    exit_kind: ExitKind
    exit_reason: str  # stop-loss, take-profit, the sale's own reason, cash in lieu of a fraction, or still open
    commission_usd: float  # its share of both orders' commission
    pnl_usd: float  # after commission
    return_fraction: float  # of the purchase's cost, including its commission
    bars_held: int  # with DECIDE_EVERY, the sessions

    @property
    def is_open(self) -> bool:
        """True if the shares are still held at the end."""
        return self.exit_time is None


@dataclass(slots=True)
class _Lot:
    """The unsold shares of one purchase."""

    entry: Fill
    order: Order | None  # of the purchase, with its bracket; None if no bar has it
    left: float  # in today's shares
    ratio: float = 1.0  # today's shares for each that was bought


class _Exit(NamedTuple):
    """The sale of some shares, or the valuation of those still held."""

    time: datetime | None
    price_usd: float
    kind: ExitKind
    reason: str
    commission_usd: float
    until: datetime  # start of the bar up to which they were held


class _Sale(NamedTuple):
    """Shares that leave the account: by an order, or the fraction of a share that a split leaves over."""

    name: str
    symbol: str
    quantity: float
    exit: _Exit  # with the commission of the whole sale


def trades(result: Result) -> tuple[Trade, ...]:
    """Match the fills of each symbol into round trips, first in, first out; return them in the order of entry.

    Raises ValueError if more is sold than was bought, or if other shares are restated than were bought: backtests do
    not go short, so the fills would be wrong.
    """
    lots: dict[str, deque[_Lot]] = {}
    calendar = pd.DatetimeIndex(by_day(result).panel.close.index).to_pydatetime().tolist()
    orders = {each.client_order_id: each for bar in result.bars for each in bar.outcomes if isinstance(each, Order)}
    found: list[Trade] = []
    for event in _events(result):
        held = lots.setdefault(event.symbol, deque())
        if isinstance(event, Restatement):
            _restate(event, held)
            found += _close_lots(_fraction(event), held, calendar)
        elif event.side is Side.BUY:
            held.append(_Lot(event, orders.get(event.client_order_id), event.quantity))
        else:
            found += _close_lots(_sale(event), held, calendar)
    for held in lots.values():
        if held:
            last = _last(held[0].entry, result)
            found += [_trade(lot, lot.left, last, calendar) for lot in held]
    return tuple(sorted(found, key=lambda trade: (trade.entry_time, trade.symbol)))


def _events(result: Result) -> list[Fill | Restatement]:
    """Return fills and restatements in order; the fills of a restatement's bar are in the new unit, so they follow."""
    end = result.bars[-1].time if result.bars else None
    restated = [each for each in result.restatements if end and each.time <= end]
    return sorted([*restated, *result.fills], key=lambda each: each.time)


def _restate(split: Restatement, held: deque[_Lot]) -> None:
    bought = math.fsum(lot.left for lot in held)
    if not math.isclose(bought, split.quantity_before, abs_tol=MIN_SHARES):
        raise ValueError(
            f"the {name_split(split.ratio)} split at {split.time} restates {split.quantity_before:g} {split.symbol}, "
            f"but {bought:g} are held"
        )
    for lot in held:
        lot.left *= split.ratio
        lot.ratio *= split.ratio


def _fraction(split: Restatement) -> _Sale:
    """Return the fraction of a share that is left over, as a sale for the cash that was paid in its place."""
    quantity = split.quantity_before * split.ratio - split.quantity_after
    price_usd = split.cash_usd / quantity if quantity > MIN_SHARES else 0.0
    return _Sale(
        name=f"the {name_split(split.ratio)} split at {split.time}",
        symbol=split.symbol,
        quantity=quantity,
        exit=_Exit(split.time, price_usd, ExitKind.SPLIT, CASH_IN_LIEU, 0.0, split.time),
    )


def _sale(fill: Fill) -> _Sale:
    kind = ExitKind.RULE if fill.kind == "market" else ExitKind(fill.kind)
    reason = fill.reason if kind in {ExitKind.RULE, ExitKind.DELISTING} else fill.kind
    return _Sale(
        name=fill.client_order_id,
        symbol=fill.symbol,
        quantity=fill.quantity,
        exit=_Exit(fill.time, fill.price_usd, kind, reason, fill.commission_usd, fill.time),
    )


def _close_lots(sale: _Sale, held: deque[_Lot], calendar: Sequence[datetime]) -> Iterator[Trade]:
    left = sale.quantity
    while left > MIN_SHARES:
        if not held:
            raise ValueError(f"{sale.name} sells {left:g} {sale.symbol} more than was bought")
        lot = held[0]
        quantity = min(left, lot.left)
        left -= quantity
        lot.left -= quantity
        if lot.left <= MIN_SHARES:
            held.popleft()
        commission_usd = sale.exit.commission_usd * quantity / sale.quantity
        yield _trade(lot, quantity, sale.exit._replace(commission_usd=commission_usd), calendar)


def _last(entry: Fill, result: Result) -> _Exit:
    """Value open shares at the last close up to the last bar, as the account does, without the cost of a sale."""
    end = result.bars[-1].time
    closes = judge(result.panel, result.options.bar_interval).visible[entry.symbol].loc[:end].dropna()
    price_usd = float(closes.iloc[-1]) if len(closes) else entry.price_usd
    return _Exit(None, price_usd, ExitKind.OPEN, STILL_OPEN, 0.0, end)


def _trade(lot: _Lot, exit_quantity: float, leaving: _Exit, calendar: Sequence[datetime]) -> Trade:
    entry, quantity = lot.entry, exit_quantity
    if lot.ratio != 1:  # the rounding errors of ratios such as 1:3
        quantity, exit_quantity = round(exit_quantity / lot.ratio, DECIMALS), round(exit_quantity, DECIMALS)
    entry_commission_usd = entry.commission_usd * quantity / entry.quantity
    paid_usd = quantity * entry.price_usd + entry_commission_usd
    pnl_usd = exit_quantity * leaving.price_usd - leaving.commission_usd - paid_usd
    return Trade(
        symbol=entry.symbol,
        quantity=quantity,
        entry_time=entry.time,
        entry_price_usd=entry.price_usd,
        entry_reason=entry.reason,
        stop_loss_usd=lot.order.stop_loss_usd if lot.order else None,
        take_profit_usd=lot.order.take_profit_usd if lot.order else None,
        exit_quantity=exit_quantity,
        exit_time=leaving.time,
        exit_price_usd=leaving.price_usd,
        exit_kind=leaving.kind,
        exit_reason=leaving.reason,
        commission_usd=entry_commission_usd + leaving.commission_usd,
        pnl_usd=pnl_usd,
        return_fraction=pnl_usd / paid_usd,
        bars_held=_bars(calendar, entry.time, leaving.until),
    )


def _bars(calendar: Sequence[datetime], begin: datetime, end: datetime) -> int:
    """Count the bars between two starts of bars: 0 for shares sold in the bar in which they were bought."""
    return bisect_left(calendar, end) - bisect_left(calendar, begin)
