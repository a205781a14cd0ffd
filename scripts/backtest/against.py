"""The strategy against a benchmark: alpha, beta, correlation, information ratio, and what its exposure explains."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scripts.backtest.statistics import EquityCurve

ROUNDING = 1e-13
"""A difference of returns below this is none: its size is that of the last digits of an equity."""

MIN_BARS = 3
"""With fewer bars there are not two returns after the purchase."""


def measure_against(strategy: "EquityCurve", benchmark: "EquityCurve") -> dict[str, float | None]:
    """Return the figures of a strategy against a benchmark; None where one is undefined.

    With r and b their returns at each bar but the first, at whose close the benchmark is bought, f those of cash, n the
    number of bars in a year and w the strategy's mean exposure:

    - `beta`: cov(r - f, b - f) / var(b - f), as in the capital asset pricing model of Sharpe (1964)
    - `alpha_fraction`: (mean(r - f) - beta * mean(b - f)) * n, Jensen's (1968) alpha
    - `correlation`: that of r - f and b - f
    - `information_ratio`: mean(r - b) / std(r - b) * sqrt(n), Grinold and Kahn's
    - `mix_return_fraction`: the total return of the share w in the benchmark and the rest in cash, at each bar
    - `exposure_adjusted_return_fraction`: the strategy's total return less that of the mix

    Without figures for a year, `alpha_fraction` and `information_ratio` are None.
    """
    excess, others = strategy.excess[1:], benchmark.excess[1:]
    share = float(np.mean(strategy.exposure))
    mixed = share * benchmark.returns + (1 - share) * (strategy.cash_growth - 1)
    mix, total = float(np.prod(1 + mixed)) - 1, float(strategy.equity_usd[-1]) / strategy.cash_usd - 1
    found: dict[str, float | None] = dict.fromkeys(("alpha_fraction", "beta", "correlation", "information_ratio"))
    if len(strategy.returns) >= MIN_BARS:
        (own, both), (_, other) = np.cov(excess, others)
        if other > ROUNDING**2:
            beta = found["beta"] = float(both / other)
            if own > ROUNDING**2:
                found["correlation"] = float(both / math.sqrt(own * other))
            if strategy.span:
                found["alpha_fraction"] = float(excess.mean() - beta * others.mean()) * strategy.span.bars_a_year
        difference = strategy.returns[1:] - benchmark.returns[1:]
        spread = float(np.std(difference, ddof=1))
        if strategy.span and spread > ROUNDING:
            found["information_ratio"] = float(difference.mean()) / spread * math.sqrt(strategy.span.bars_a_year)
    return found | {"mix_return_fraction": mix, "exposure_adjusted_return_fraction": total - mix}
