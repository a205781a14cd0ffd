"""How uncertain a backtest's figures are: confidence intervals by the stationary bootstrap.

The bootstrap draws many histories from the one that happened: blocks of consecutive returns, of random length, one
after the other (Politis and Romano 1994, "The Stationary Bootstrap"). Their mean length is the optimal one of Politis
and White (2004), corrected by Patton, Politis and White (2009), for the returns or for their size, whichever is longer,
because calm and wild days come in clusters. The strategy and what it is compared with are drawn together, so the
interval of their difference knows that they share good and bad days.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.backtest import bootstrap
from scripts.backtest.against import ROUNDING
from trader.model import Json

type Numbers = NDArray[np.float64]

REPLICATIONS = 2_000
LEVEL = 0.95
MIN_BARS = 30
"""With fewer returns, there are too few blocks to draw from."""

DIFFERENCES = {"buy_and_hold": "difference", "benchmark": "difference_from_benchmark"}
"""What the strategy is compared with, and the name of the difference from it."""

MAX_NUMBERS = 200_000
"""How many returns are worked on at once: those that fit into the processor's cache."""

SEED = 1
"""The same backtest has the same intervals."""

TOO_SHORT = f"the span has fewer than {MIN_BARS} bars"
NO_TRADES = "no position ever gained or lost"


def measure(figures: Json) -> Json:
    """Return the intervals of a backtest's figures, JSON-safe; `figures` are those of statistics.figures.

    Each interval is [low, high], between which a share LEVEL of the drawn histories lies. `reason` says why there are
    none. The yearly figures have intervals only if the span is long enough for them.
    """
    curve, cash_usd = figures["curve"], figures["options"]["cash_usd"]
    made = returns(curve["equity_usd"], cash_usd)
    cash = returns(curve["cash_usd"], cash_usd)
    reason = TOO_SHORT if len(made) < MIN_BARS else NO_TRADES if np.all(np.abs(made - cash) < ROUNDING) else ""
    if reason:
        return {"reason": reason}
    others = {name: returns(equity, cash_usd) for name in DIFFERENCES if (equity := curve[f"{name}_usd"])}
    measured, block_bars = _draw({"strategy": made, **others}, cash, figures["data"]["bars_a_year"])
    found = {name: _intervals(each) for name, each in measured.items()}
    own = measured["strategy"]
    for name in others:
        found[DIFFERENCES[name]] = _intervals({each: own[each] - measured[name][each] for each in own})
    return {
        "reason": "",
        "method": "stationary bootstrap",
        "level_fraction": LEVEL,
        "replications": REPLICATIONS,
        "mean_block_bars": block_bars,
        "intervals": found,
    }


def returns(equity_usd: list[float], cash_usd: float) -> Numbers:
    """Return the return of each bar, as a fraction, the first from the starting cash; 0 after an equity of 0."""
    after = np.asarray(equity_usd, np.float64)
    before = np.concatenate([[cash_usd], after[:-1]])
    found: Numbers = np.divide(after, before, out=np.ones_like(before), where=before > 0) - 1
    return found


def _draw(
    accounts: Mapping[str, Numbers], cash: Numbers, bars_a_year: float | None
) -> tuple[dict[str, dict[str, Numbers]], int]:
    """Return the figures of the drawn histories, by account, and the mean length of a block."""
    together = np.column_stack(list(accounts.values()))
    series = [each for column in together.T if np.any(column) for each in (column, np.abs(column))]
    lengths = [bootstrap.find_block_length(each) for each in series]
    block_bars = max(1, *(round(each) for each in lengths if math.isfinite(each)), 1)
    generator = np.random.default_rng(SEED)
    some = max(1, MAX_NUMBERS // together.size)
    parts = []
    with np.errstate(all="ignore"):  # a history without a change has no Sharpe ratio
        for first in range(0, REPLICATIONS, some):
            count = min(some, REPLICATIONS - first)
            places = bootstrap.draw_places(generator, len(together), count, block_bars)
            parts.append(_measure(together[places], cash[places], bars_a_year))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        account: {name: each[:, place] for name, each in joined.items()} for place, account in enumerate(accounts)
    }, block_bars


def _measure(drawn: Numbers, cash: Numbers, bars_a_year: float | None) -> dict[str, Numbers]:
    """Return the figures of some histories by name, as in statistics.key_figures. Axes: history, bar, account."""
    growth = np.cumprod(1 + drawn, axis=1)
    excess = drawn - cash[:, :, np.newaxis]
    bar_sharpe = excess.mean(axis=1) / excess.std(axis=1, ddof=1)
    peak = np.maximum(1.0, np.maximum.accumulate(growth, axis=1))
    found = {"total_return_fraction": growth[:, -1] - 1, "max_drawdown_fraction": (growth / peak).min(axis=1) - 1}
    if not bars_a_year:
        return found | {"bar_sharpe_ratio": bar_sharpe}
    return found | {
        "annual_return_fraction": growth[:, -1] ** (bars_a_year / drawn.shape[1]) - 1,
        "sharpe_ratio": bar_sharpe * math.sqrt(bars_a_year),
    }


def _intervals(measured: Mapping[str, Numbers]) -> dict[str, Any]:
    """Return the interval of each figure by name; None if most histories have none."""
    return {name: _interval(each) for name, each in measured.items()}


def _interval(measured: Numbers) -> list[float] | None:
    known = measured[np.isfinite(measured)]
    if 2 * len(known) < len(measured):
        return None
    outside = (1 - LEVEL) / 2
    return [float(each) for each in np.quantile(known, [outside, 1 - outside])]
