"""Closes of one symbol that can be traded on, or the reason why not."""

from datetime import datetime

import numpy as np
import pandas as pd

from trader.model import NEW_YORK, Closes, Code

MIN_PRICE_USD, MAX_PRICE_USD = 0.01, 10_000_000
"""What a share can cost; anything else is no price but a fault of the source."""


class UnusableError(Exception):
    """The closes of one symbol cannot be traded on; `code` says in which way."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def last_bars(closes: Closes, count: int) -> Closes:
    """The last `count` closes; all of them if they are fewer."""
    return closes if len(closes) <= count else closes.iloc[-count:]


def clean_closes(closes: Closes, now: datetime, max_age_s: float) -> Closes:
    """The closes up to `now` without missing bars; raises UnusableError if they cannot be traded on.

    A missing bar (NaN) is left out; an impossible one (zero, negative, infinite) spoils the whole symbol, because a
    source that gives one such price cannot be trusted for the next. The last bar must be at most `max_age_s` old.
    """
    if not (closes.index.is_monotonic_increasing and closes.index.is_unique):
        raise UnusableError(Code.NO_PRICE_DATA, "timestamps are not strictly increasing")
    # pandas takes its time, and a backtest asks for each symbol and bar: what is usual is not searched or cut.
    until = len(closes)
    if until and closes.index[-1] > now:
        times = pd.DatetimeIndex(closes.index).as_unit("ns")  # one of whole seconds refuses to look for parts of one
        until = int(times.searchsorted(pd.Timestamp(now), side="right"))
    prices_usd = closes.to_numpy(float)[:until]
    is_there = ~np.isnan(prices_usd)
    if not is_there.any():
        raise UnusableError(Code.NO_PRICE_DATA, "no price")
    closes = closes if until == len(closes) else closes.iloc[:until]
    if not is_there.all():
        closes, prices_usd = closes[is_there], prices_usd[is_there]
    is_possible = (prices_usd >= MIN_PRICE_USD) & (prices_usd <= MAX_PRICE_USD)
    if not is_possible.all():
        first = int(is_possible.argmin())
        raise UnusableError(
            Code.NO_PRICE_DATA, f"impossible price {prices_usd[first]} at {closes.index[first].isoformat()}"
        )
    age_s = (now - closes.index[-1]).total_seconds()
    if age_s > max_age_s:
        raise UnusableError(
            Code.STALE_PRICE,
            f"last price is of {closes.index[-1].tz_convert(NEW_YORK):%Y-%m-%d %H:%M} New York, "
            f"{age_s / 86_400:,.1f} days old; MAX_PRICE_AGE_S allows {max_age_s / 86_400:,.1f} ({max_age_s:,.0f} s)",
        )
    return closes
