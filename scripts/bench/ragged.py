"""A price file as large as an index: daily closes drawn anew from the sample's, with symbols that come, go and pause.

A symbol's returns are runs of the sample's returns, each of a symbol and a place at random, so that calm and rough
times last as long as they do there. The prices are of no company, and what a strategy makes of them says nothing.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from trader.model import SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices
from trader.prices.jumps import Floats
from trader.schedule import sessions

LAST = date(2022, 12, 28)
"""The last session of the file, as of the sample."""

RUN_BARS = 20
"""The number of returns that are drawn together."""

LATE_FRACTION, ENDED_FRACTION, GAPPY_FRACTION = 0.3, 0.05, 0.1
"""The shares of the symbols that are listed late, that end early, and that have gaps."""

MISSING_FRACTION = 0.02
"""The share of the bars that a symbol with gaps lacks."""

FIRST_USD = (20.0, 200.0)
"""The range of the first prices."""


def write(path: Path, symbols: int, bars: int, seed: int = 26) -> Sequence[str]:
    """Write the file, a column for each symbol, and return the symbols; the same arguments give the same bytes.

    Listings, ends and gaps are at random, but none begins in the last fifth of the bars or ends in the first two.
    """
    table = make(symbols, bars, seed)
    table.to_csv(path, index_label="timestamp", date_format="%Y-%m-%d")
    return list(table.columns)


def make(symbols: int, bars: int, seed: int) -> pd.DataFrame:
    """Return the closes in USD, a row for each session and a column for each symbol; NaN where there is none."""
    chance = np.random.default_rng(seed)
    series = FilePrices(SAMPLE_PRICES).bars().clean.series.values()
    sample = [measure_returns(each.closes) for each in series]
    usd = np.column_stack([wander(sample, bars, chance) for _ in range(symbols)])
    remove(usd, chance)
    index = pd.DatetimeIndex(list_days(bars))
    return pd.DataFrame(usd, index=index, columns=[name(number) for number in range(symbols)])


def measure_returns(closes: Closes) -> Floats:
    """Return the logarithms of the changes from each close to the next."""
    return np.diff(np.log(closes.to_numpy(float)))


def wander(sample: Sequence[Floats], bars: int, chance: np.random.Generator) -> Floats:
    """Return a price at each bar, in tenths of a cent as in the sample."""
    runs = []
    for _ in range(-(-bars // RUN_BARS)):
        drawn = sample[int(chance.integers(len(sample)))]
        begin = chance.integers(len(drawn) - RUN_BARS)
        runs.append(drawn[begin : begin + RUN_BARS])
    first_usd = np.exp(chance.uniform(*np.log(FIRST_USD)))
    usd: Floats = np.round(first_usd * np.exp(np.cumsum(np.concatenate(runs)[:bars])), 3)
    return np.maximum(usd, 1.0)  # a share that falls further is no member of an index


def remove(usd: Floats, chance: np.random.Generator) -> None:
    """Remove the prices before a listing, after an end, and in gaps."""
    bars, symbols = usd.shape

    def choose(fraction: float) -> list[int]:
        return [int(each) for each in chance.choice(symbols, round(fraction * symbols), replace=False)]

    for column in choose(LATE_FRACTION):
        usd[: chance.integers(bars // 10, bars * 4 // 5), column] = np.nan
    for column in choose(ENDED_FRACTION):
        usd[chance.integers(bars * 2 // 5, bars) :, column] = np.nan
    for column in choose(GAPPY_FRACTION):
        usd[chance.choice(bars, round(MISSING_FRACTION * bars), replace=False), column] = np.nan


def list_days(count: int, last: date = LAST) -> list[date]:
    """Return the last sessions up to a day."""
    return sessions.list_days(last - timedelta(days=2 * count + 10), last)[-count:]


def name(number: int) -> str:
    """Return the symbol of a column: RAAA, RAAB and so on."""
    return "R" + "".join(chr(65 + number // 26**place % 26) for place in (2, 1, 0))
