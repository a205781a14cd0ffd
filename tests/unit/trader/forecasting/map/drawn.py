"""Series such as sources may deliver, for tests of the map engine with random input."""

import math

import numpy as np
from hypothesis import strategies as st

from trader.forecasting.map.posterior_mode import Floats


def walk(seed: int, bars: int = 120) -> Floats:
    """Return prices around 100 that move by about a percent a bar."""
    return np.asarray(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, bars))))


@st.composite
def series(draw: st.DrawFn, bars: int) -> Floats:
    """Draw what a source may deliver, on any scale: a random walk, perhaps with a split or a fault, or a plain line."""
    values = walk(draw(st.integers(0, 10_000)), bars) * draw(st.sampled_from([1e-9, 1e-3, 1.0, 1e9, -1.0]))
    match draw(st.sampled_from(["", "", "", "split", "constant", "zero", "fault", "line", "two values"])):
        case "split":
            values[bars // 2 :] /= 10
        case "constant":
            values[:] = values[0]
        case "zero":
            values[:] = 0
        case "fault":
            values[draw(st.integers(0, bars - 1))] = draw(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -50.0]))
        case "line":
            values[:] = np.linspace(values[0], values[-1], bars)
        case "two values":
            values[:] = np.where(np.arange(bars) % 2, values[0], values[-1])
    return values


@st.composite
def extreme_series(draw: st.DrawFn, bars: int) -> Floats:
    """Draw numbers of any size beside each other, with NaN and infinities among them."""
    kind = draw(st.sampled_from(["any", "sizes", "tiny", "huge", "steps", "ticks"]))
    chance = np.random.default_rng(draw(st.integers(0, 10_000)))
    if kind == "any":
        some = draw(st.lists(st.floats(width=64), min_size=1, max_size=12))
        return np.asarray(chance.choice(some, bars))
    if kind == "sizes":
        return np.asarray(10.0 ** chance.integers(-300, 300, bars) * chance.choice([-1, 1], bars))
    if kind == "steps":
        return np.asarray(np.repeat(chance.normal(50, 20, -(-bars // 9)), 9)[:bars])
    if kind == "ticks":
        return np.asarray(10 + chance.choice([-0.01, 0.0, 0.0, 0.0, 0.01], bars).cumsum().round(2))
    return walk(draw(st.integers(0, 10_000)), bars) * (1e-300 if kind == "tiny" else 1e298)
