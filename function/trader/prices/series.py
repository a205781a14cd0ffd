"""The checks that decide whether the closes of one symbol can be used for trading."""

from datetime import datetime

import numpy as np
import pandas as pd

from trader.model import NEW_YORK, Closes, Code

MIN_PRICE_USD, MAX_PRICE_USD = 0.01, 10_000_000
"""The range of possible share prices; a price outside it is an error of the source."""


class UnusableError(Exception):
    """The closes of one symbol cannot be used for trading; `code` is the reason code."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def last_bars(closes: Closes, count: int) -> Closes:
    """Return the last `count` closes, or all of them if there are fewer."""
    return closes if len(closes) <= count else closes.iloc[-count:]


def clean_closes(closes: Closes, now: datetime, max_age_s: float) -> Closes:
    """Return the closes up to `now` without missing bars.

    Missing bars (NaN) are left out. Raises UnusableError if the times are not strictly increasing, if no close is left,
    if the last bar is more than `max_age_s` old, or if any close is impossible (zero, negative, infinite): a source
    that gives one impossible price cannot be trusted for the next.
    """
    if not (closes.index.is_monotonic_increasing and closes.index.is_unique):
        raise UnusableError(Code.NO_PRICE_DATA, "timestamps are not strictly increasing")
    # pandas is slow, and a backtest calls this for each symbol and bar: the usual case is neither searched nor sliced.
    until = len(closes)
    if until and closes.index[-1] > now:
        times = pd.DatetimeIndex(closes.index).as_unit("ns")  # an index in seconds cannot be searched for a fraction
        until = int(times.searchsorted(pd.Timestamp(now), side="right"))
    prices_usd = closes.to_numpy(float)[:until]
    is_there = ~np.isnan(prices_usd)
    if not is_there.any():
        raise UnusableError(Code.NO_PRICE_DATA, "no price up to now")
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
            f"last price is from {closes.index[-1].tz_convert(NEW_YORK):%Y-%m-%d %H:%M} New York time, "
            f"{age_s / 86_400:,.1f} days old; MAX_PRICE_AGE_S allows {max_age_s / 86_400:,.1f} ({max_age_s:,.0f} s)",
        )
    return closes
