"""Opens, highs, lows and volumes that are made up for closes, the same for the same closes."""

import numpy as np
import pandas as pd

from trader.model import Closes, Ohlv

_DAY_NS = 86_400 * 10**9


def make_up(closes: Closes) -> Ohlv:
    """Return the rest of the bars of some closes: consistent, and as still as they are.

    A bar opens at the close before it, the first at its own, and reaches beyond both by a part of the distance between
    them. That part and the volume depend on the day, so that two windows on the same closes show the same bars.
    """
    close = closes.to_numpy(float)
    opened = np.append(close[:1], close[:-1])
    top, bottom = np.maximum(opened, close), np.minimum(opened, close)
    day = pd.DatetimeIndex(closes.index).as_unit("ns").asi8 // _DAY_NS
    reach = 0.2 + 0.1 * (day % 7)
    volume = 1_000_000.0 + 10_000.0 * (day * 7_919 % 97)
    return np.column_stack(
        [opened, top + reach * (top - bottom), np.maximum(bottom - reach * (top - bottom), bottom / 2), volume]
    )


def make_up_bars(closes: Closes) -> pd.DataFrame:
    """Return whole bars with these closes: open, high, low, close and volume."""
    opened, high, low, volume = make_up(closes).T
    columns = {"open": opened, "high": high, "low": low, "close": closes.to_numpy(float), "volume": volume}
    return pd.DataFrame(columns, index=closes.index)
