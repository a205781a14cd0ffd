"""The stationary bootstrap, compared with the package arch."""

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap, optimal_block_length

from scripts.backtest import bootstrap
from scripts.backtest.bootstrap import Numbers


def wild(seed: int, bars: int, memory: float) -> Numbers:
    """Return numbers, each of which keeps a share of the one before."""
    made = np.random.default_rng(seed).normal(size=bars)
    for bar in range(1, bars):
        made[bar] += memory * made[bar - 1]
    return made


@pytest.mark.parametrize("bars", [30, 31, 100, 500, 2_500])
@pytest.mark.parametrize("memory", [-0.5, 0.0, 0.3, 0.95, 1.0])
def test_a_block_is_as_long_as_archs_to_the_last_digit(bars: int, memory: float) -> None:
    for seed in range(10):
        made = wild(seed, bars, memory)
        for series in (made, np.abs(made)):
            assert bootstrap.find_block_length(series) == optimal_block_length(series)["stationary"].iloc[0]


@pytest.mark.parametrize("block_bars", [1, 2, 7, 40])
@pytest.mark.parametrize("bars", [30, 500])
def test_the_histories_are_those_of_arch(bars: int, block_bars: int) -> None:
    theirs = StationaryBootstrap(block_bars, np.zeros(bars), seed=3)
    generator = np.random.default_rng(3)
    for histories in (5, 20):  # one after the other, as when memory is short
        expected = np.array([theirs.update_indices() for _ in range(histories)])
        np.testing.assert_array_equal(bootstrap.draw_places(generator, bars, histories, block_bars), expected)


def test_a_series_that_never_changes_has_no_block_length() -> None:
    assert np.isnan(bootstrap.find_block_length(np.full(100, 0.5)))
