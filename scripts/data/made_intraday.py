"""Make bars within the sessions that fit the sample's daily closes: to try DECIDE_EVERY without real prices.

They are invented. Between two daily closes, each symbol's price wanders at random (a Brownian bridge of the logarithm,
as wide as its daily returns are), so what a strategy makes within a day says nothing about a market.

    uv run python -m scripts.data.made_intraday out/made_15m.csv 2022-11-01 2022-12-28
"""

import csv
import math
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from trader.model import BAR_LENGTH, NEW_YORK, SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices
from trader.schedule import sessions

COLUMNS = ("timestamp", "symbol", "open", "high", "low", "close")

type Row = tuple[str, str, float, float, float, float]


def main() -> None:
    """Write a file of 15-minute bars for some days."""
    path, first, last = Path(sys.argv[1]), *map(date.fromisoformat, sys.argv[2:4])
    series = FilePrices(SAMPLE_PRICES).bars().clean.series
    closes = {symbol: each.closes for symbol, each in series.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(row for symbol, each in closes.items() for row in make(symbol, each, first, last)))


def make(symbol: str, closes: Closes, first: date, last: date, every: str = "15m") -> Iterator[Row]:
    """Yield the bars of a symbol on the days from `first` to `last` that have a daily close and one before."""
    usd = closes.to_numpy(float)
    spread = float(np.std(np.diff(np.log(usd))))
    for place in range(1, len(usd)):
        day = closes.index[place].astimezone(NEW_YORK).date()
        hours = sessions.session(day)
        if first <= day <= last and hours:
            starts = list_starts(*hours, every)
            chance = random.Random(f"{symbol} {day}")  # noqa: S311 a made price, not a secret
            path = wander(usd[place - 1], usd[place], len(starts), spread, chance)
            for start, (opened, close) in zip(starts, pairwise(path), strict=True):
                yield start.isoformat(), symbol, opened, max(opened, close), min(opened, close), close


def list_starts(opening: datetime, close: datetime, every: str) -> list[datetime]:
    """Return the starts of a session's bars."""
    count = math.ceil((close - opening) / BAR_LENGTH[every])
    return [opening + number * BAR_LENGTH[every] for number in range(count)]


def wander(begin_usd: float, end_usd: float, steps: int, spread: float, chance: random.Random) -> Sequence[float]:
    """Return a price at each step from one to another, in cents but for the ends; `spread` is that of a whole day."""
    moves = [chance.gauss(0, spread / math.sqrt(steps)) for _ in range(steps)]
    walk = np.concatenate([[0.0], np.cumsum(moves)])
    bridge = walk - np.linspace(0, 1, steps + 1) * (walk[-1] - math.log(end_usd / begin_usd))
    return [begin_usd, *np.round(begin_usd * np.exp(bridge[1:-1]), 2).tolist(), end_usd]


if __name__ == "__main__":
    main()
