"""The figures of a period, from the records of its runs: returns, refusals by reason, days without a run. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from scripts.owner.records import Seen
from trader.model import NEW_YORK, Code
from trader.schedule import sessions

SPANS: Mapping[str, int] = {"last day": 1, "last 5 days": 5, "last 21 days": 21}
"""Spans by their number of trading days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day with runs: the equity at its last run, and what was paid in or out on it."""

    day: date
    equity_usd: float
    flows_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The equity at the beginning of the first run, and day by day."""

    start_usd: float
    days: Sequence[Day]

    @property
    def growths(self) -> Sequence[float]:
        """What each day has made of 1 USD; deposits and withdrawals are neither gain nor loss."""
        before = [self.start_usd, *(each.equity_usd for each in self.days)]
        return [
            (each.equity_usd - each.flows_usd) / earlier if earlier > 0 else 1.0
            for each, earlier in zip(self.days, before, strict=False)
        ]

    def measure(self, count: int | None = None) -> float:
        """Return the return of the last days, or of all of them, as a fraction."""
        first = 0 if count is None else max(0, len(self.days) - count)
        return math.prod(self.growths[first:]) - 1


def draw_curve(runs: Sequence[Seen]) -> Curve | None:
    """Return the equity by day; None if no run knew it. Deposits before the period's first run are not counted."""
    known = [each for each in runs if each.equity_usd is not None and each.first_equity_usd is not None]
    if not known:
        return None
    last = {each.slot.astimezone(NEW_YORK).date(): each for each in known}
    first = known[0]
    days = [
        Day(
            day=day,
            equity_usd=each.equity_usd or 0.0,
            flows_usd=each.flows_usd - (first.flows_usd if day == min(last) else 0.0),
        )
        for day, each in sorted(last.items())
    ]
    return Curve(start_usd=first.first_equity_usd or 0.0, days=days)


def list_spans(days: Sequence[date]) -> Sequence[tuple[str, int, date]]:
    """Return spans that end with the last of these days: the name, the number of the days in it, and the day before.

    A span has the name of SPANS if there is a run on the trading day at which it begins. Otherwise it begins with the
    last run before, and is named after that day: a bot that runs once a week has no last day.
    """
    found: dict[date, tuple[str, int, date]] = {}
    for name, number in SPANS.items():
        before = sessions.list_days(days[-1] - timedelta(days=2 * number + 10), days[-1] - timedelta(days=1))[-number]
        if earlier := [day for day in days if day <= before]:
            begin = earlier[-1]
            if begin == before or begin not in found:
                label = name if begin == before else f"after {begin:%-d %b %Y}"
                found[begin] = (label, len(days) - len(earlier), begin)
    return list(found.values())


def count_refusals(runs: Sequence[Seen]) -> Mapping[str, int]:
    """Return how often each code refused something whole, the most frequent first."""
    counts = Counter(code for each in runs for _, code, is_partial in each.denials if not is_partial)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def count_statuses(runs: Sequence[Seen]) -> Mapping[str, int]:
    """Return how the runs ended, the most frequent first."""
    return dict(Counter(each.status for each in runs).most_common())


def find_missed(runs: Sequence[Seen]) -> Sequence[date]:
    """Return the trading days between the first run and the last on which no run looked at the market."""
    days = {each.slot.astimezone(NEW_YORK).date() for each in runs if each.status != Code.MARKET_CLOSED}
    return [day for day in sessions.list_days(min(days), max(days)) if day not in days] if days else []
