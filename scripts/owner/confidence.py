"""An always-valid confidence sequence for the mean of daily differences. Pure.

A usual interval holds for one look that was planned. An owner looks every day, and stops when he likes what he sees;
this one holds for all looks together. It is the asymptotic confidence sequence with a normal mixture of Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences"
(arXiv:2103.06476, Theorem 2.2), with the parameter that makes it narrowest at `SESSIONS` observations (Appendix B.2).
The library confseq has it too, but comes as C++ source that needs Boost, and calls itself unstable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.05
"""The chance, over all looks together, that the sequence ever leaves out the true mean."""

SESSIONS = 252
"""The number of sessions at which the sequence is narrowest: a year."""

MIN_SESSIONS = 20
"""The fewest sessions of which something is said: the theory is of many observations."""

MAX_SESSIONS = 252 * 100
"""The most sessions that a forecast of the time needed looks ahead."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean, and the bounds that hold at all times with a confidence of 1 - ALPHA."""

    count: int
    mean: float
    deviation: float
    low: float
    high: float

    @property
    def is_decided(self) -> bool:
        """True if the bounds leave out zero."""
        return self.low > 0 or self.high < 0


def margin(count: int, deviation: float, alpha: float = ALPHA, sessions: int = SESSIONS) -> float:
    """Return half the width of the sequence after `count` observations with this standard deviation."""
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / sessions
    spread = count * rho2 + 1
    return deviation * math.sqrt(2 * spread / (count**2 * rho2) * math.log(math.sqrt(spread) / alpha))


def measure(differences: Sequence[float]) -> Interval | None:
    """Return the interval after these differences, one for each session; None if they are too few."""
    count = len(differences)
    if count < MIN_SESSIONS:
        return None
    mean = math.fsum(differences) / count
    deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / count)
    half = margin(count, deviation)
    return Interval(count=count, mean=mean, deviation=deviation, low=mean - half, high=mean + half)


def find_needed(interval: Interval) -> int | None:
    """Return after how many sessions the bounds would leave out zero if all went on as before; None if never."""
    if interval.is_decided:
        return interval.count
    if margin(MAX_SESSIONS, interval.deviation) >= abs(interval.mean):
        return None
    low, high = interval.count, MAX_SESSIONS
    while low < high:
        middle = (low + high) // 2
        if margin(middle, interval.deviation) < abs(interval.mean):
            high = middle
        else:
            low = middle + 1
    return low
