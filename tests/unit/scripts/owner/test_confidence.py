"""The confidence sequence: its formula, and what it promises over all looks together."""

import math

import numpy as np
import pytest

from scripts.owner.confidence import ALPHA, MIN_SESSIONS, SESSIONS, find_needed, margin, measure


def test_the_margin_is_the_formula_of_the_paper() -> None:
    # rho^2 by Appendix B.2 for 252 observations: (5.99146 + ln 6.99146) / 252 = 0.031493
    spread = 100 * 0.031493 + 1
    by_hand = math.sqrt(2 * spread / (100**2 * 0.031493) * math.log(math.sqrt(spread) / 0.05))
    assert margin(100, 1.0) == pytest.approx(by_hand, rel=1e-4)
    assert margin(100, 0.02) == pytest.approx(0.02 * by_hand, rel=1e-4)


def test_it_is_wider_than_the_interval_for_a_single_look_and_narrows() -> None:
    widths = [margin(count, 1.0) for count in (20, 63, 252, 1_000)]
    assert widths == sorted(widths, reverse=True)
    assert all(width > 1.96 / math.sqrt(count) for width, count in zip(widths, (20, 63, 252, 1_000), strict=True))


def test_it_hardly_ever_leaves_out_the_truth_at_any_of_a_thousand_looks() -> None:
    random = np.random.default_rng(7)
    wrong = 0
    paths = 1_000
    for draws in random.standard_t(5, size=(paths, SESSIONS * 2)):  # heavy tails, as returns have
        counts = np.arange(1, len(draws) + 1)
        means = np.cumsum(draws) / counts
        deviations = np.sqrt(np.maximum(np.cumsum(draws**2) / counts - means**2, 1e-12))
        looks = slice(MIN_SESSIONS - 1, None)
        margins = np.array([margin(int(count), 1.0) for count in counts[looks]]) * deviations[looks]
        wrong += bool((np.abs(means[looks]) > margins).any())
    assert wrong / paths <= ALPHA


def test_too_few_sessions_say_nothing() -> None:
    assert measure([0.01] * (MIN_SESSIONS - 1)) is None


def test_a_lasting_gain_is_known_at_the_session_that_was_foretold() -> None:
    swing = [0.002 + 0.01 * (-1) ** number for number in range(2_000)]
    early = measure(swing[:30])
    assert early is not None
    assert not early.is_decided
    needed = find_needed(early)
    assert needed is not None
    even = needed + needed % 2  # of whole swings
    before, after = measure(swing[: even - 4]), measure(swing[: even + 4])
    assert before is not None
    assert after is not None
    assert (before.is_decided, after.is_decided) == (False, True)


def test_no_difference_is_never_foretold() -> None:
    nothing = measure([0.01 * (-1) ** number for number in range(100)])
    assert nothing is not None
    assert find_needed(nothing) is None
