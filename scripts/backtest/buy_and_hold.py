"""Buy-and-hold, for comparison: the universe, or a benchmark, bought once and held, at the strategy's costs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest.judged import judge
from scripts.backtest.model import Options, Result
from trader.model import NEW_YORK


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Symbols in equal weights, bought in fractional shares at the close of the first bar."""

    symbols: tuple[str, ...]  # those with a price at that bar
    equity_usd: NDArray[np.float64]  # at each bar
    commission_usd: float


def universe(result: Result) -> Holding | None:
    """Buy all symbols with a price at the first bar; return None if there are none.

    Of an index, these are the members of that day. All cash is spent at the first bar. A delisted symbol keeps its last
    price.
    """
    closes, members = _closes(result), result.panel.members
    if members and len(closes):
        first = set(members.on(closes.index[0].astimezone(NEW_YORK).date()))
        closes = closes.loc[:, [symbol for symbol in closes.columns if symbol in first]]
    return hold(closes, result.options)


def hold(closes: pd.DataFrame, options: Options) -> Holding | None:
    """Buy all symbols with a price at the first bar; see universe."""
    if not len(closes):
        return None
    bought = closes.loc[:, closes.iloc[0].notna()]
    if not len(bought.columns):
        return None
    each_usd = options.cash_usd / len(bought.columns)
    quantities = each_usd / (bought.iloc[0] * _cost_factor(options))
    paid_usd = options.cash_usd / (1 + options.commission_fraction)
    return Holding(
        symbols=tuple(str(symbol) for symbol in bought.columns),
        equity_usd=(bought.ffill() * quantities).sum(axis=1).to_numpy(dtype=np.float64),
        commission_usd=paid_usd * options.commission_fraction,
    )


def returns(result: Result) -> dict[str, float | None]:
    """Return each symbol's return from its first to its last price in the span, after costs; None without prices."""
    found: dict[str, float | None] = {}
    for symbol, closes in _closes(result).items():
        prices = closes.dropna()
        paid_usd = float(prices.iloc[0]) * _cost_factor(result.options) if len(prices) else 0.0
        found[str(symbol)] = float(prices.iloc[-1]) / paid_usd - 1 if paid_usd else None
    return found


def _closes(result: Result) -> pd.DataFrame:
    """Return the closes at the traded bars, each symbol's in one unit, as its value is measured."""
    unbroken = judge(result.panel, result.options.bar_interval).unbroken
    return unbroken.reindex(pd.DatetimeIndex([bar.time for bar in result.bars], tz="UTC"))


def _cost_factor(options: Options) -> float:
    """Return the cost of one dollar's worth of shares."""
    return (1 + options.slippage_fraction) * (1 + options.commission_fraction)
