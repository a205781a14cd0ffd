"""How much of a sweep's best result is the luck of having tried many settings.

The probability of backtest overfitting (PBO) is that of Bailey, Borwein, López de Prado and Zhu (2017), "The
Probability of Backtest Overfitting", by combinatorially symmetric cross-validation: the bars are cut into blocks, and
for each way to take half of the blocks, the setting with the best Sharpe ratio on that half is looked up on the other
half. PBO is the share of ways in which it is in the worse half of the settings there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

type Numbers = NDArray[np.float64]

BLOCKS = 16
"""The number of blocks in the paper's examples: 12,870 ways to take half of them."""

MIN_BARS_PER_BLOCK = 5
COIN_TOSS = 0.4
SOUND = 0.1
"""Above the one, the choice is a coin toss; below the other, the best setting is mostly good elsewhere too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfitting:
    """The PBO of a sweep, or why there is none; `ways` is the number of ways to take half of the blocks."""

    probability: float | None = None
    ways: int = 0
    reason: str = ""

    @property
    def verdict(self) -> str:
        """What the probability says about choosing the best setting."""
        if self.probability is None:
            return f"Whether the choice was luck cannot be told: {self.reason}."
        chance = (
            f"probability of backtest overfitting {self.probability:.0%}, over {self.ways:,} ways to halve the days"
        )
        if self.probability >= COIN_TOSS:
            return f"Choosing among these was a coin toss; keep the default ({chance})."
        if self.probability > SOUND:
            return f"Choosing among these was partly luck; a small lead means nothing ({chance})."
        return f"The settings that were best on some days were mostly good on the others too ({chance})."


def measure(returns: Sequence[Numbers]) -> Overfitting:
    """Measure the PBO of settings from their returns, each with the same bars; the criterion is the Sharpe ratio."""
    if len(returns) < 2:
        return Overfitting(reason="there is only one setting")
    table = np.column_stack(returns)
    blocks = min(BLOCKS, len(table) // MIN_BARS_PER_BLOCK // 2 * 2)
    if blocks < 4:
        return Overfitting(reason=f"{len(table)} bars are too few")
    if not np.ptp(table, axis=1).any():
        return Overfitting(reason="all settings have the same results")
    parts = np.array_split(table, blocks)
    counts = np.array([len(part) for part in parts], np.float64)
    sums = np.array([part.sum(axis=0) for part in parts])
    squares = np.array([(part**2).sum(axis=0) for part in parts])
    halves = np.array(list(combinations(range(blocks), blocks // 2)))
    is_inside = np.zeros((len(halves), blocks))
    np.put_along_axis(is_inside, halves, 1.0, axis=1)
    inside, outside = (_sharpe(each @ counts, each @ sums, each @ squares) for each in (is_inside, 1 - is_inside))
    best = inside.argmax(axis=1)
    of_best = np.take_along_axis(outside, best[:, None], axis=1)
    # The relative rank of the best, between 0 and 1; settings with equal results share their ranks.
    below, equal = (outside < of_best).sum(axis=1), (outside == of_best).sum(axis=1)
    rank = (below + (equal + 1) / 2) / (outside.shape[1] + 1)
    return Overfitting(probability=float((rank <= 0.5).mean()), ways=len(halves))


def _sharpe(counts: Numbers, sums: Numbers, squares: Numbers) -> Numbers:
    """Return the Sharpe ratio per bar from sums of the returns; 0 for a setting that never moved."""
    mean = sums / counts[:, None]
    variance = np.maximum(0.0, squares / counts[:, None] - mean**2)
    found: Numbers = np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 1e-18)
    return found
