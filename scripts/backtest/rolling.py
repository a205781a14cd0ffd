"""The Sharpe ratio of half a year at a time, and how far chance alone could have moved it."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.backtest.deflation import NORMAL, spread_of
from scripts.backtest.yearly import Span

type Numbers = NDArray[np.float64]

WINDOW_YEARS = 0.5

LEVEL_FRACTION = 0.95


def roll_sharpe(excess: Numbers, span: Span | None) -> dict[str, Any] | None:
    """Return the annualized Sharpe ratio of the window that ends at each bar, with its interval; JSON-safe.

    `excess` holds the returns above those of cash, as fractions. `ratio`, `lower` and `upper` have a value for each
    bar, None before the first full window and where the returns of a window do not change. The interval is that of
    Mertens (2002), who adds skewness and kurtosis to the standard error of Lo (2002), "The Statistics of Sharpe
    Ratios"; it takes the returns as independent of each other. None without a span to annualize, or if the span has
    fewer than two windows.
    """
    window = round(WINDOW_YEARS * span.bars_a_year) if span else 0
    if span is None or window < 3 or len(excess) < 2 * window:
        return None
    ratio, error = _measure(np.lib.stride_tricks.sliding_window_view(excess, window))
    yearly = math.sqrt(span.bars_a_year)
    far = NORMAL.inv_cdf((1 + LEVEL_FRACTION) / 2) * error
    before: list[float | None] = [None] * (window - 1)
    return {
        "window_bars": window,
        "level_fraction": LEVEL_FRACTION,
        "ratio": before + _listed(yearly * ratio),
        "lower": before + _listed(yearly * (ratio - far)),
        "upper": before + _listed(yearly * (ratio + far)),
    }


def _measure(windows: Numbers) -> tuple[Numbers, Numbers]:
    """Return the Sharpe ratio per bar of each window and its standard error; NaN where returns do not change."""
    bars = windows.shape[1]
    centered = windows - windows.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centered**2).mean(axis=1))
    with np.errstate(all="ignore"):
        scaled = centered / np.where(deviation > 0, deviation, np.nan)[:, np.newaxis]
        ratio = windows.mean(axis=1) / windows.std(axis=1, ddof=1)
        ratio = np.where(deviation > 0, ratio, np.nan)
        error = np.sqrt(spread_of(ratio, (scaled**3).mean(axis=1), (scaled**4).mean(axis=1)) / (bars - 1))
    return ratio, error


def _listed(values: Numbers) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
