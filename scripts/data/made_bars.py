"""`make made-bars`: make bars within the sessions that fit the sample's daily closes, to try DECIDE_EVERY with.

They are invented. Between two daily closes, each symbol's price wanders at random (a Brownian bridge of the logarithm,
as wide as its daily returns are), so what a strategy makes within a day says nothing about a market.
"""

import csv
import io
import math
import os
import random
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from scripts import console
from scripts.console import CommandError
from scripts.files import MADE_BARS, OUT, write_text
from trader.model import BAR_LENGTH, NEW_YORK, SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices
from trader.schedule import sessions
from trader.settings import SettingsError

FIRST, LAST = date(2022, 12, 19), date(2022, 12, 28)
"""The days of the file if none are chosen: the last of the sample."""

COLUMNS = ("timestamp", "symbol", "open", "high", "low", "close")

type Row = tuple[str, str, float, float, float, float]


def main() -> None:
    """Write the file."""
    with console.plain_errors("interrupted; nothing was written"):
        first, last = read_day("START", FIRST), read_day("END", LAST)
        path = Path(os.environ.get("OUTPUT") or OUT / MADE_BARS)
        text = write(first, last)
        count = text.count("\n") - 1
        if not count:
            raise CommandError(f"the sample has no session from START={first} to END={last}; choose days up to {LAST}")
        write_text(path, text)
        print(f"{path}: {count:,} invented 15-minute bars of the sample's symbols")


def read_day(name: str, usual: date) -> date:
    """Return the day that a variable names. Raises SettingsError if it is none."""
    text = os.environ.get(name, "").strip()
    try:
        return date.fromisoformat(text) if text else usual
    except ValueError:
        raise SettingsError([f"{name}={text!r}: must be a day such as {usual}"]) from None


def write(first: date, last: date) -> str:
    """Return the file: a row for each symbol and bar from the first day to the last."""
    series = FilePrices(SAMPLE_PRICES).bars().clean.series
    closes = {symbol: each.closes for symbol, each in series.items()}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(row for symbol, each in closes.items() for row in make(symbol, each, first, last)))
    return file.getvalue()


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
