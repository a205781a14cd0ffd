"""The simulated market: trading weeks with clock changes and holidays, and prices around their trend lines."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import numpy as np

from trader.model import NEW_YORK

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FF.B")
BARS = 61
"""The number of bars of history, including the running session's."""

HOLIDAYS = frozenset(date.fromisoformat(day) for day in ("2025-11-27", "2025-12-25", "2026-01-01", "2026-01-19"))
EARLY_CLOSES = frozenset(date.fromisoformat(day) for day in ("2025-11-28", "2025-12-24"))
"""The half days and most holidays of the NYSE in the simulated weeks (nyse.com/markets/hours-calendars)."""

WEEK_OF = {
    "plain": date(2026, 1, 5),
    "winter time begins": date(2025, 11, 3),  # clocks went back on Sunday 2 November
    "holiday and half day": date(2025, 11, 24),
    "summer time begins": date(2026, 3, 9),  # clocks went forward on Sunday 8 March
}
FIRST_SLOT, LAST_SLOT = time(13, 0), time(21, 45)
"""The first and last slot of cron(0/15 13-21 ? * MON-FRI *) in UTC, before the opening and after the close."""


def weekdays(monday: date, weeks: int = 1) -> Iterator[date]:
    """Yield Monday to Friday of each week."""
    for week in range(weeks):
        for day in range(5):
            yield monday + timedelta(days=7 * week + day)


def slots(day: date) -> Iterator[datetime]:
    """Yield a day's slots, every 15 minutes in UTC, whatever New York's clocks do."""
    moment = datetime.combine(day, FIRST_SLOT, UTC)
    while moment <= datetime.combine(day, LAST_SLOT, UTC):
        yield moment
        moment += timedelta(minutes=15)


def opens(day: date) -> datetime:
    """Return 9:30 in New York, in UTC."""
    return datetime.combine(day, time(9, 30), NEW_YORK).astimezone(UTC)


@cache
def lines(symbols: Sequence[str] = SYMBOLS) -> Mapping[str, Sequence[float]]:
    """Return past closes by symbol, each on a straight line with little noise."""
    noise = np.random.default_rng(7).normal(0, 0.002, (len(symbols), BARS - 1))
    ends = np.linspace(20, 220, len(symbols))
    return {
        symbol: (end * np.linspace(0.94, 1.0, BARS - 1) * np.exp(noise[row])).round(2).tolist()
        for row, (symbol, end) in enumerate(zip(symbols, ends, strict=True))
    }


def closes(gaps: Mapping[str, float], symbols: Sequence[str] = SYMBOLS) -> dict[str, list[float]]:
    """Return all closes by symbol; the running session's is off the line by the symbol's fraction in `gaps`."""
    return {
        symbol: [*line, round(line[-1] * (1 + gaps.get(symbol, 0.0)), 2)] for symbol, line in lines(symbols).items()
    }
