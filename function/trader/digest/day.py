"""What a day's records say: equity, refusals, problems, and how the runs ended. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trader.codec import decode, decode_time
from trader.model import Health, Json
from trader.problems import Problem, read_previous

MAX_HISTORY = 30
"""The number of earlier days that a digest brings along, so that the next one reads nothing but its predecessor."""

SPANS: Mapping[str, int] = {"day": 1, "5 days": 5, "21 days": 21}
"""Spans of a digest by their number of trading days: a day, a week and a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A trading day in short, as later digests need it."""

    day: str  # in ISO 8601
    equity_usd: float | None = None
    growth: float | None = None  # what the day has made of 1 USD, without deposits and withdrawals
    healthy_runs: int | None = None  # None if the day had no digest
    is_equal: bool | None = None  # whether its records were decided again with the same result; None: none was
    watched: tuple[str, ...] = ()  # the other strategies that it watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A day's runs, from their records."""

    statuses: Mapping[str, int]
    healthy: int
    equity_usd: float | None  # after the last run that knew it
    close_usd: float | None  # the equity at the close before, by the account itself, or else before the first run
    flows_usd: float  # deposits and withdrawals since the close before
    peak_usd: float | None
    refusals: Mapping[str, int]
    unprotected: Sequence[str]
    problems: Sequence[Problem]  # that were told
    paid_usd: Mapping[str, float]  # for a share of what was held, by symbol
    reasons: Mapping[str, str]  # why the rule wanted an order, by its client order id
    unreadable: Sequence[str] = field(default_factory=tuple)


def summarize(records: Iterable[tuple[str, Json | None]]) -> Runs:
    """Sum up a day's records, which come by name, oldest first; None is one that cannot be read."""
    reports: list[Mapping[str, Any]] = []
    seen: list[Mapping[str, Any]] = []  # the account of the runs that looked at it
    told: dict[tuple[str, str], Problem] = {}  # each kind and subject once, by its last words
    peaks: list[float] = []
    paid_usd: dict[str, float] = {}
    reasons: dict[str, str] = {}
    unreadable: list[str] = []
    for name, record in records:
        try:
            if record is None:
                raise ValueError
            report = record["report"]
            decode_time(report["slot"])
            observed = record.get("observation") or {}
            peak = observed.get("peak_equity_usd")
            held = {symbol: each["average_price_usd"] for symbol, each in observed.get("positions", {}).items()}
            paid_usd |= {symbol: float(usd) for symbol, usd in held.items() if usd}
            why = {each["symbol"]: str(each["reason"]) for each in report["insights"]}
            reasons |= {each["client_order_id"]: why.get(each["symbol"], "") for each in report["orders"]}
            seen += [report["account"]] if report["account"]["before"] else []
        except (AttributeError, KeyError, TypeError, ValueError):
            unreadable.append(name)
            continue
        reports.append(report)
        peaks += [] if peak is None else [float(peak)]
        if previous := read_previous(record):
            told |= {(each.kind, each.subject): each for each in previous.problems if each.is_told}
    last = (seen[-1]["after"] or seen[-1]["before"]) if seen else None
    refusals = Counter(denial["code"] for each in reports for denial in each["denials"] if not denial.get("is_partial"))
    return Runs(
        statuses=Counter(each["status"] for each in reports),
        healthy=sum(Health.of(each["status"]) is Health.HEALTHY for each in reports),
        equity_usd=float(last["equity_usd"]) if last else None,
        close_usd=float(seen[0]["before"].get("last_equity_usd") or seen[0]["before"]["equity_usd"]) if seen else None,
        flows_usd=float(seen[-1]["before"].get("flows_usd") or 0.0) if seen else 0.0,
        peak_usd=max(peaks, default=None),
        refusals=dict(refusals.most_common()),
        unprotected=list(reports[-1].get("unprotected", ())) if reports else [],
        problems=list(told.values()),
        paid_usd=paid_usd,
        reasons=reasons,
        unreadable=unreadable,
    )


def measure_growth(runs: Runs, before: Day | None) -> float | None:
    """Return what a day has made of 1 USD since the close before, as the day before has it, or else the account."""
    if runs.equity_usd is None:
        return None
    close_usd = (before.equity_usd if before else None) or runs.close_usd
    return (runs.equity_usd - runs.flows_usd) / close_usd if close_usd else None


def measure_span(history: Sequence[Day], days: int) -> float | None:
    """Return the return of the last days, as a fraction; None if one of them is not known."""
    growths = [each.growth for each in history[-days:]]
    if len(growths) < days or None in growths:
        return None
    return math.prod(growth for growth in growths if growth is not None) - 1


def count_silent(history: Sequence[Day]) -> int:
    """Return the number of sessions up to the last one on which no run was healthy, as far as that is known."""
    count = 0
    for each in reversed(history):
        if each.healthy_runs != 0:
            break
        count += 1
    return count


def count_streak(history: Sequence[Day]) -> int:
    """Return for how many sessions in a row all records were decided again with the same result."""
    count = 0
    for each in reversed(history):
        if each.is_equal is False:
            break
        count += bool(each.is_equal)
    return count


def read_history(digest: Json) -> list[Day]:
    """Return the days in an earlier digest; none if it is damaged."""
    try:
        return [decode(Day, each) for each in digest["history"]]
    except (KeyError, TypeError, ValueError):
        return []
