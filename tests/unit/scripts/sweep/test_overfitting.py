"""The probability of backtest overfitting, on settings whose skill is known."""

from itertools import combinations

import numpy as np
import pytest

from scripts.sweep import overfitting
from scripts.sweep.overfitting import Numbers


def noise(settings: int, bars: int = 480, seed: int = 1) -> list[Numbers]:
    return list(np.random.default_rng(seed).normal(0, 0.01, (settings, bars)))


def test_without_skill_the_choice_is_a_coin_toss() -> None:
    found = [overfitting.measure(noise(20, seed=seed)).probability for seed in range(12)]
    assert np.mean([each for each in found if each is not None]) == pytest.approx(0.5, abs=0.15)


def test_a_setting_that_is_truly_better_is_found() -> None:
    settings = noise(20)
    settings[7] = settings[7] + 0.004
    found = overfitting.measure(settings)
    assert found.probability == pytest.approx(0.0, abs=0.01)
    assert found.verdict.startswith("The settings that were best on some days were mostly good on the others too")


def test_a_setting_that_was_good_once_is_overfitted() -> None:
    """Each setting is good in one block only, and bad in the others: the best of one half is the worst of the other."""
    rng = np.random.default_rng(1)
    settings = [rng.normal(-0.0005, 0.001, 480) for _ in range(16)]
    for number, each in enumerate(settings):
        each[30 * number : 30 * (number + 1)] += 0.02
    found = overfitting.measure(settings)
    assert found.probability is not None
    assert found.probability > 0.9
    assert found.verdict.startswith("Choosing among these was a coin toss; keep the default")


def test_it_is_what_the_paper_defines() -> None:
    """Counted anew with loops, over four blocks of ten bars."""
    settings = np.column_stack(noise(5, bars=40, seed=3))
    blocks = np.array_split(settings, overfitting.measure(noise(5, bars=40)).ways and 8)
    worse = 0
    ways = list(combinations(range(8), 4))
    for way in ways:
        inside = np.concatenate([blocks[each] for each in way])
        outside = np.concatenate([blocks[each] for each in range(8) if each not in way])
        best = (inside.mean(axis=0) / inside.std(axis=0)).argmax()
        ratios = outside.mean(axis=0) / outside.std(axis=0)
        worse += (ratios < ratios[best]).sum() + 1 <= 6 * 0.5
    assert overfitting.measure(list(settings.T)).probability == pytest.approx(worse / len(ways))


def test_sixteen_blocks_have_as_many_ways_as_in_the_paper() -> None:
    assert overfitting.measure(noise(3)).ways == 12_870


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (noise(1), "there is only one setting"),
        (noise(3, bars=19), "19 bars are too few"),
        (noise(1) * 3, "all settings have the same results"),
    ],
)
def test_what_cannot_be_measured_has_a_reason(settings: list[Numbers], reason: str) -> None:
    assert overfitting.measure(settings).verdict == f"Whether the choice was luck cannot be told: {reason}."


def test_a_setting_that_never_traded_is_no_best_by_accident() -> None:
    settings = [*noise(4, seed=5), np.zeros(480)]
    assert overfitting.measure(settings).probability is not None
