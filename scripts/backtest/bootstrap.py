"""The stationary bootstrap, to the last digit that of the package arch, which takes two seconds to import.

arch imports SciPy, statsmodels and its models of volatility with it. It is what the tests compare with.
"""

import math

import numpy as np
from numpy.typing import NDArray

type Numbers = NDArray[np.float64]
type Places = NDArray[np.int64]


def find_block_length(series: Numbers) -> float:
    """Return the optimal mean length of a block for a series, in bars; NaN for one that never changes.

    Politis and White (2004), corrected by Patton, Politis and White (2009): arch's optimal_block_length.
    """
    count = len(series)
    apart = series - series.mean()
    in_a_row = max(5, int(math.log10(count)))  # so many insignificant autocorrelations end the search
    longest = math.ceil(math.sqrt(count)) + in_a_row
    significant = 2 * np.sqrt(np.log10(count) / count)
    products = np.array([apart[lag:] @ apart[: count - lag] for lag in range(longest + 1)])
    sizes = [
        (apart[lag + 1 :] @ apart[lag + 1 :], apart[: -(lag + 1)] @ apart[: -(lag + 1)]) for lag in range(longest + 1)
    ]
    with np.errstate(all="ignore"):
        correlations = np.abs(products) / np.sqrt([one * other for one, other in sizes])
    ends = (lag for lag in range(longest + 1 - in_a_row) if np.all(correlations[lag : lag + in_a_row] < significant))
    last = min(2 * max(next(ends, longest), 1), longest)
    covariances = products / count
    slope, spectrum = 0.0, covariances[0]
    for lag in range(1, last + 1):
        weight = 1 if lag / last <= 1 / 2 else 2 * (1 - lag / last)
        slope += 2 * weight * lag * covariances[lag]
        spectrum += 2 * weight * covariances[lag]
    with np.errstate(all="ignore"):
        length = ((2 * slope**2) / (2 * spectrum**2)) ** (1 / 3) * count ** (1 / 3)
    return float(min(length, np.ceil(min(3 * np.sqrt(count), count / 3))))


def draw_places(generator: np.random.Generator, bars: int, histories: int, block_bars: float) -> Places:
    """Draw histories from one of `bars` bars, as places in it. Axes: history, bar.

    Each begins somewhere and goes on from bar to bar, from the last to the first, and jumps with a probability of 1 in
    `block_bars`.
    """
    starts = np.empty((histories, bars), np.int64)
    chances = np.empty((histories, bars))
    for history in range(histories):
        starts[history] = generator.integers(bars, size=bars, dtype=np.int64)
        chances[history] = generator.random(bars)
    jumps = chances <= 1 / block_bars
    jumps[:, 0] = True
    bar = np.arange(bars)
    begun = np.maximum.accumulate(np.where(jumps, bar, 0), axis=1)
    places: Places = (np.take_along_axis(starts, begun, axis=1) + bar - begun) % bars
    return places
