"""The PriceSource protocol, and the Bars that a run receives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from trader.model import Closes, Denial
from trader.progress import Progress

BARS_PER_SESSION = {"1d": 1, "1h": 7, "15m": 26, "5m": 78, "1m": 390}
"""The number of bars in a session from 9:30 to 16:00, by bar interval."""


def start_of(bar_interval: str, count: int, now: datetime) -> datetime:
    """Return a time at least `count` bars before `now`, with room for weekends, holidays and the longest closure."""
    sessions = math.ceil(count / BARS_PER_SESSION[bar_interval])
    return now - timedelta(days=math.ceil(sessions * 365 / 250) + 7)


class PriceSourceError(Exception):
    """A source failed as a whole: the file is missing, the connection failed or permission was denied."""


class PriceSource(Protocol):
    """A source of closes."""

    @property
    def name(self) -> str:
        """The name of this source in the setting PRICE_SOURCES."""

    def symbols(self, now: datetime) -> frozenset[str] | None:
        """Return the symbols that may have prices at `now`, in Alpaca's spelling (BRK.B).

        Return None if only a request shows which symbols have prices.
        """

    def closes(self, symbols: Sequence[str], count: int, now: datetime, progress: Progress) -> Mapping[str, Closes]:
        """Return up to `count` closes of each symbol; the last bar starts at or before `now`.

        Symbols without prices are left out. Raises PriceSourceError if the source fails as a whole.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Clean closes by symbol, and a denial for each symbol without closes."""

    closes: Mapping[str, Closes] = field(default_factory=dict)
    denials: tuple[Denial, ...] = ()
