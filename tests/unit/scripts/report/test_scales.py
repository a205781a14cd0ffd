"""The axes of charts, compared with Matplotlib's ticks."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.ticker import MaxNLocator

from scripts.report.formatting import MINUS
from scripts.report.scales import find_limits, find_ticks, format_ticks, pick_evenly, spread_out


@given(st.floats(0.01, 1e5), st.floats(1e-5, 10.0))
@example(0.01, 1e-5)
@example(100.0, 0.02)
@example(95.0, 0.010001)
@example(1_000.0, 0.0009)
def test_its_ticks_are_those_of_matplotlib(low: float, width_fraction: float) -> None:
    high = low * (1 + width_fraction)
    theirs = [each for each in MaxNLocator(4).tick_values(low, high) if low <= each <= high]
    ours = find_ticks(low, high)
    assert [each for each in ours if low <= each <= high] == pytest.approx(theirs, rel=1e-12)
    assert len(ours) >= 2


@pytest.mark.parametrize(
    ("ticks", "words"),
    [
        ([0.0, 1_500.0, 3_000.0], ["0", "1,500", "3,000"]),
        ([1.5, 2.0, 2.5], ["1.5", "2.0", "2.5"]),
        ([-4.0, 0.0, 4.0], [f"{MINUS}4", "0", "4"]),
        ([0.1, 0.2, 0.1 + 0.2], ["0.1", "0.2", "0.3"]),
        ([1_000_000.0, 1_500_000.0], ["1,000,000", "1,500,000"]),
        ([100_000.0, 100_000.5], ["100,000.0", "100,000.5"]),
        ([-1e-17, 0.02], ["0.00", "0.02"]),
        ([0.0, 1e-13], ["0.000000000", "0.000000000"]),
    ],
)
def test_ticks_have_the_decimals_that_they_need(ticks: list[float], words: list[str]) -> None:
    assert format_ticks(ticks) == words


@pytest.mark.parametrize(
    ("ticks", "words"),
    [([-0.24, -0.16, 0.0], [f"{MINUS}24%", f"{MINUS}16%", "0%"]), ([0.0, 0.005, 0.01], ["0.0%", "0.5%", "1.0%"])],
)
def test_fractions_are_in_percent(ticks: list[float], words: list[str]) -> None:
    assert format_ticks(ticks, are_fractions=True) == words


def test_an_axis_has_room_below_and_above_its_values() -> None:
    assert find_limits(np.array([10.0, math.nan]), np.array([30.0])) == (9.0, 31.0)


@pytest.mark.parametrize("values", [[100.0], [100.0, 100.0 + 1e-11], [-100.0], [0.0], [math.nan], []])
def test_an_axis_of_one_value_or_none_has_ticks_too(values: list[float]) -> None:
    low, high = find_limits(np.array(values))
    assert low < np.nansum(values[:1]) < high
    words = format_ticks(find_ticks(low, high))
    assert len(set(words)) == len(words) >= 2


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(1, 4, [0]), (2, 4, [0, 1]), (505, 4, [0, 168, 336, 504]), (3, 3, [0, 1, 2])],
)
def test_places_are_picked_from_the_first_to_the_last(count: int, wanted: int, places: list[int]) -> None:
    assert pick_evenly(count, wanted) == places


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([10.0, 50.0], [10.0, 50.0]),
        ([50.0, 50.0], [45.0, 55.0]),
        ([50.0, 51.0, 52.0], [41.0, 51.0, 61.0]),
        ([2.0, 3.0], [0.0, 10.0]),
        ([99.0, 99.0], [90.0, 100.0]),
    ],
)
def test_names_that_would_cover_each_other_move_apart(places: list[float], moved: list[float]) -> None:
    assert spread_out(places, 10.0, 0.0, 100.0) == pytest.approx(moved)


@given(st.lists(st.floats(0, 100), max_size=5).map(sorted))
def test_names_stay_apart_in_order_and_within_the_chart(places: list[float]) -> None:
    moved = spread_out(places, 10.0, 0.0, 100.0)
    assert all(later - earlier >= 10.0 - 1e-9 for earlier, later in pairwise(moved))
    assert all(-1e-9 <= place <= 100.0 + 1e-9 for place in moved)
