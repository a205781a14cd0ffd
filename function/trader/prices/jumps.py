"""Jumps from one close to the next: splits that nobody adjusted for, wrong prices, and crashes.

A series must be in one unit from end to end. A jump is judged by the splits that the source knows, and otherwise by its
ratio and by whether it lasts. Each verdict uses only the bars up to the moment at which it is given, so a backtest
gives the same verdicts as the run of that day.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.floating[Any]]
type Flags = NDArray[np.bool_]

SPLITS: Mapping[float, str] = {
    5 / 4: "5:4", 4 / 3: "4:3", 3 / 2: "3:2", 2: "2:1", 5 / 2: "5:2",
    **{shares: f"{shares}:1" for shares in (3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100)},
    **{
        1 / shares: f"1:{shares}"
        for shares in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18, 20, 25, 30, 35, 40, 50, 60, 75, 80, 100)
    },
}  # fmt: skip
"""Common splits, in new shares for each old one. Reverse splits below 1:2 are rare, and rises of that size are not."""

TOLERANCE_FRACTION = 0.03
"""How far a change may be from the split's exact effect, because of the share's own move in that bar."""

MIN_FALL, MIN_RISE = 0.83, 1.9
"""The changes that are looked at: those of a 5:4 split and more, and those of a 1:2 split and more."""

WRONG_FACTOR = 1.9
"""A price that changes by this factor and comes back within CONFIRM_BARS was wrong; a smaller change may be real."""

UNIT_FACTOR = 2.7
"""A change by this factor that lasts is a change of unit, whatever its exact ratio: a 3:1 split on a day on which the
share itself rises by a tenth."""

UNEXPLAINED_FACTOR = 3.0
"""A smaller change is none if the source knows all splits, and none of them explains it."""

BACK_FRACTION = 0.25
"""A price has come back if it is this close to the last price before the jump, and closer than half the jump."""

CONFIRM_BARS = 5
"""The number of bars, the jump's own included, after which it has lasted."""

MIN_SCORE = 8.0
"""A split moves the price by at least this many of the share's own standard deviations; a crash in a panic does not."""

VOLATILITY_BARS, MIN_VOLATILITY_BARS = 60, 10
"""The bars before a jump from which the share's volatility is estimated, and the fewest from which it can be."""

DEFAULT_VOLATILITY = 0.02
"""The volatility of a share of which fewer bars are known."""

PANIC_BARS = 5
"""If the last bars before a jump moved more than the share usually does, they are its volatility."""

MIN_EVENT_FACTOR = 1.2
"""Smaller splits cannot be told from an ordinary day's change by one price; they are at most a stock dividend."""

EVENT_BARS = 3
"""How many bars a source's split may be away from the jump in its prices."""

EVENT_TOLERANCE = math.log(1.12)
"""How far the jump may be from the ratio of a split that the source itself reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A change of unit between two closes. `ratio` is in new shares for each old one, None if it is no split's."""

    row: int  # of the first bar in the new unit
    known_row: int  # of the bar at which it was clear that the change lasts
    change: float  # the close divided by the one before
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdicts on a series.

    `is_absent` marks the bars that must not be used at their own time: wrong prices, and the bars after a jump until it
    is clear that it lasts. `is_wrong` marks those of them that turned out to be wrong.
    """

    is_absent: Flags
    is_wrong: Flags
    jumps: tuple[Jump, ...]


def name_split(ratio: float) -> str:
    """Return a split as people write it: 4:1, 3:2 or 1:8."""
    near = min(SPLITS, key=lambda each: abs(math.log(ratio / each)))
    if abs(math.log(ratio / near)) < TOLERANCE_FRACTION / 3:
        return SPLITS[near]
    return f"{ratio:g}:1" if ratio >= 1 else f"1:{1 / ratio:g}"


def find_ratio(change: float, *, tolerance: float = TOLERANCE_FRACTION) -> float | None:
    """Return the split whose effect is a change by this factor; None if there is none."""
    near = min(SPLITS, key=lambda each: abs(math.log(change * each)))
    return float(near) if abs(math.log(change * near)) <= tolerance else None


def judge(
    prices_usd: Floats,
    *,
    bars_per_session: int = 1,
    events: Sequence[tuple[int, float]] | None = None,
    knows_all_splits: bool = False,
) -> Verdict | None:
    """Judge the jumps of a series of possible closes, in order; None if there is nothing to judge.

    `events` are the splits that the source reports: the row of the first bar on their day or later, and the ratio. If
    the source `knows_all_splits`, any other change by less than UNEXPLAINED_FACTOR is no split, whatever its ratio.
    """
    if len(prices_usd) < 2:
        return None
    changes = prices_usd[1:] / prices_usd[:-1]
    if changes.min() > MIN_FALL and changes.max() < MIN_RISE:  # the usual case, on which a backtest spends its time
        return None
    return _Judge(prices_usd, math.sqrt(bars_per_session), events or (), knows_all_splits=knows_all_splits).judge()


class _Judge:
    """The state of the judgment while it goes through a series."""

    def __init__(
        self, prices_usd: Floats, scale: float, events: Sequence[tuple[int, float]], *, knows_all_splits: bool
    ) -> None:
        self._prices_usd = prices_usd
        self._knows_all_splits = knows_all_splits
        self._logs = np.log(prices_usd)
        self._scale = scale
        self._events = [each for each in events if abs(math.log(each[1])) >= math.log(MIN_EVENT_FACTOR)]
        self._is_absent = np.zeros(len(prices_usd), dtype=np.bool_)
        self._is_wrong = np.zeros(len(prices_usd), dtype=np.bool_)
        self._jumps: list[Jump] = []

    def judge(self) -> Verdict | None:
        changes = self._prices_usd[1:] / self._prices_usd[:-1]
        done = 0
        for row in (np.flatnonzero((changes <= MIN_FALL) | (changes >= MIN_RISE)) + 1).tolist():
            if row > done:
                done = self._judge_row(row)
        if not (self._is_absent.any() or self._jumps):
            return None
        return Verdict(is_absent=self._is_absent, is_wrong=self._is_wrong, jumps=tuple(self._jumps))

    def _judge_row(self, row: int) -> int:
        """Judge the jump at a row, and return the last row that the verdict covers."""
        change = float(self._prices_usd[row] / self._prices_usd[row - 1])
        if (ratio := self._event_ratio(row, change)) is not None:
            self._jumps.append(Jump(row=row, known_row=row, change=change, ratio=ratio))
            return row
        factor = max(change, 1 / change)
        if factor < WRONG_FACTOR and not self._is_like_a_split(row, row + 1, change):
            return row
        end = min(row + CONFIRM_BARS, len(self._prices_usd))
        near = min(BACK_FRACTION, abs(math.log(change)) / 2)
        for later in range(row + 1, end):
            if abs(self._logs[later] - self._logs[row - 1]) <= near:
                return self._come_back(row, later, is_wrong=factor >= WRONG_FACTOR)
        if self._knows_all_splits and factor < UNEXPLAINED_FACTOR:
            return row  # a crash or a leap
        known = row + CONFIRM_BARS - 1
        while known < len(self._prices_usd) and self._leaps(known):
            known += 1  # nothing is known by a price that may itself be wrong
        self._is_absent[row:known] = True
        if known >= len(self._prices_usd):
            return len(self._prices_usd) - 1
        self._mark_wrong(row, known)
        ratio = find_ratio(change) if self._is_like_a_split(row, known + 1, change) else None
        if ratio is not None or factor >= UNIT_FACTOR:
            self._jumps.append(Jump(row=row, known_row=known, change=change, ratio=ratio))
        return known

    def _is_like_a_split(self, row: int, end: int, change: float) -> bool:
        is_possible = not self._knows_all_splits and find_ratio(change) is not None
        return is_possible and self._score(row, end) >= MIN_SCORE

    def _come_back(self, row: int, later: int, *, is_wrong: bool) -> int:
        self._is_absent[row:later] = True
        if is_wrong:
            self._is_wrong[row:later] = True
        return later

    def _leaps(self, row: int) -> bool:
        return abs(float(self._logs[row] - self._logs[row - 1])) >= math.log(WRONG_FACTOR)

    def _mark_wrong(self, row: int, known: int) -> None:
        """Mark the wrong prices among the bars after a jump: those that leap, and come back by the bar `known`."""
        at = row + 1
        while at < known:
            ends = (later for later in range(at + 1, known + 1) if self._is_back(at, later))
            end = next(ends, at) if self._leaps(at) else at
            self._is_wrong[at:end] = True
            at = max(end, at + 1)

    def _is_back(self, row: int, later: int) -> bool:
        return abs(float(self._logs[later] - self._logs[row - 1])) <= BACK_FRACTION

    def _event_ratio(self, row: int, change: float) -> float | None:
        """Return the ratio of a split that the source reports and that explains the change; None without one."""
        for event_row, ratio in self._events:
            if abs(event_row - row) <= EVENT_BARS and abs(math.log(change * ratio)) <= EVENT_TOLERANCE:
                return ratio
        return None

    def _score(self, row: int, end: int) -> float:
        """Return the change at a row in standard deviations of the bars before, or after up to `end` if that is less.

        The scale of short bars is that of a session, because splits happen overnight.
        """
        before = np.diff(self._logs[max(0, row - VOLATILITY_BARS) : row])
        is_wrong = self._is_wrong[row - len(before) - 1 : row - 1]  # a wrong price's way back is no move, either
        before = before[~(self._is_absent[row - len(before) : row] | is_wrong)]
        volatility = DEFAULT_VOLATILITY / self._scale
        if len(before) >= MIN_VOLATILITY_BARS:  # by the median, which a single earlier jump does not move
            volatility = 1.4826 * float(np.median(np.abs(before - np.median(before))))
            volatility = max(volatility, float(np.sqrt(np.mean(before[-PANIC_BARS:] ** 2))))
        after = np.diff(self._logs[row:end][~self._is_wrong[row:end]])
        if len(after):
            volatility = max(volatility, float(np.sqrt(np.mean(after**2))))
        return abs(float(self._logs[row] - self._logs[row - 1])) / max(volatility * self._scale, 1e-9)
