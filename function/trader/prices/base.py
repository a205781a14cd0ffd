"""What a price source is, and what a run is given of prices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from trader.model import Closes, Denial
from trader.progress import Progress

BARS_PER_SESSION = {"1d": 1, "1h": 7, "15m": 26, "5m": 78, "1m": 390}
"""By bar interval, from 9:30 to 16:00."""


def start_of(bar_interval: str, count: int, now: datetime) -> datetime:
    """How far back to ask for `count` bars: weekends and holidays allowed for, and the longest row of them."""
    sessions = math.ceil(count / BARS_PER_SESSION[bar_interval])
    return now - timedelta(days=math.ceil(sessions * 365 / 250) + 7)


class PriceSourceError(Exception):
    """A source as a whole could not be asked: no such file, no connection, no permission."""


class PriceSource(Protocol):
    """One place to get closes from."""

    @property
    def name(self) -> str:
        """As the setting PRICE_SOURCES spells it."""

    def symbols(self, now: datetime) -> frozenset[str] | None:
        """The symbols it can have prices of by `now`, in Alpaca's spelling (BRK.B); None if only asking tells."""

    def closes(self, symbols: Sequence[str], count: int, now: datetime, progress: Progress) -> Mapping[str, Closes]:
        """Up to `count` closes of each symbol, the last bar's start not after `now`; missing symbols are left out.

        Raises PriceSourceError if nothing can be had at all.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Clean closes by symbol, and a denial for each symbol that has none."""

    closes: Mapping[str, Closes] = field(default_factory=dict)
    denials: tuple[Denial, ...] = ()
