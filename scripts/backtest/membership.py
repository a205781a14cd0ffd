"""The members of the index in a backtest: which symbols are candidates at a bar, and how many had no price."""

from collections import Counter
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest.model import Panel, Result
from trader.model import NEW_YORK, Json


def find_members(panel: Panel) -> NDArray[np.bool_]:
    """Return, by bar and symbol of the panel, whether the symbol is a member on the bar's day.

    Of a universe that lists its symbols, all are members on all days.
    """
    if panel.members is None:
        return np.ones(panel.close.shape, dtype=bool)
    days = np.array(_days(pd.DatetimeIndex(panel.close.index)), dtype="datetime64[D]")
    column = {str(symbol): number for number, symbol in enumerate(panel.close.columns)}
    found = np.zeros(panel.close.shape, dtype=bool)
    for stay in panel.members.stays:
        if stay.symbol in column:
            is_in = (days >= np.datetime64(stay.joined)) & (days < np.datetime64(stay.left or date.max))
            found[is_in, column[stay.symbol]] = True
    return found


def measure(result: Result) -> Json | None:
    """Return how many members of the index had no price in the span; None if the universe is a list of symbols.

    A day of membership has a price if any of the day's bars has one. `unpriced_fraction` is the share of all members'
    days without one; `unpriced_symbols` are the members without a price on any of their days.
    """
    members, bars = result.panel.members, [bar.time for bar in result.bars]
    if members is None or not bars:
        return None
    is_priced = result.panel.close.reindex(pd.DatetimeIndex(bars)).notna()
    by_day = is_priced.groupby(_days(pd.DatetimeIndex(bars))).any()
    symbols = np.array([str(symbol) for symbol in by_day.columns], dtype=object)
    days: Counter[str] = Counter()
    priced: Counter[str] = Counter()
    for day, row in zip(by_day.index, by_day.to_numpy(), strict=True):
        present = members.on(day)
        days.update(present)
        priced.update(set(symbols[row]).intersection(present))
    total = days.total()
    return {
        "members": len(days),
        "unpriced_symbols": sorted(symbol for symbol in days if not priced[symbol]),
        "member_days": total,
        "unpriced_fraction": 1 - priced.total() / total,
    }


def _days(times: pd.DatetimeIndex) -> list[date]:
    """Return the day of each bar, in New York."""
    found: list[date] = list(times.tz_convert(NEW_YORK).date)
    return found
