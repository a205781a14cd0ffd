"""What is left of a Sharpe ratio when the number of settings that were tried is taken into account.

Bailey and López de Prado (2014), "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest Overfitting and
Non-Normality". All Sharpe ratios are per bar.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

NORMAL = NormalDist()

EULER_MASCHERONI = 0.5772156649015329


def expect_best(trials: int, variance: float) -> float:
    """Return the best Sharpe ratio to expect among `trials` settings without any skill.

    `variance` is that of the Sharpe ratios of the settings. It is the paper's approximation of the expected maximum of
    as many independent normal numbers.
    """
    if trials < 2:
        return 0.0
    one = NORMAL.inv_cdf(1 - 1 / trials)
    other = NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER_MASCHERONI) * one + EULER_MASCHERONI * other)


def spread_of[T: (float, NDArray[np.float64])](sharpe: T, skewness: T, kurtosis: T) -> T:
    """Return the variance of a Sharpe ratio's estimate, times the number of bars less one (Mertens 2002).

    `kurtosis` is 3 for a normal distribution.
    """
    return 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2


def probability_above(threshold: float, sharpe: float, bars: int, skewness: float, kurtosis: float) -> float | None:
    """Return the probability that the true Sharpe ratio is above a threshold, the probabilistic Sharpe ratio.

    `kurtosis` is 3 for a normal distribution. None if the returns are too odd for the formula.
    """
    spread = spread_of(sharpe, skewness, kurtosis)
    if bars < 2 or spread <= 0:
        return None
    return NORMAL.cdf((sharpe - threshold) * math.sqrt(bars - 1) / math.sqrt(spread))


def deflate(returns: NDArray[np.float64], others: Sequence[float]) -> tuple[float, float | None] | None:
    """Return the best Sharpe ratio to expect by luck alone, and the probability that the true one is above it.

    `returns` are those of the bars; `others` are the Sharpe ratios per bar of all settings that were tried, this one
    among them. None if the returns never change.
    """
    spread = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    if not spread:
        return None
    centered = (returns - returns.mean()) / returns.std()
    variance = float(np.var(others, ddof=1)) if len(others) > 1 else 0.0
    threshold = expect_best(len(others), variance)
    skewness, kurtosis = float((centered**3).mean()), float((centered**4).mean())
    return threshold, probability_above(threshold, float(returns.mean()) / spread, len(returns), skewness, kurtosis)
