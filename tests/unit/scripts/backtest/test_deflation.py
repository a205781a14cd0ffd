"""The deflated Sharpe ratio, with the example of the paper that it is from."""

import math

import numpy as np
import pytest

from scripts.backtest.deflation import deflate, expect_best, probability_above

SHARPE, BARS, SKEWNESS, KURTOSIS = 2.5 / math.sqrt(250), 1_250, -3.0, 10.0
"""Bailey and López de Prado (2014): five years of daily returns, with an annual Sharpe ratio of 2.5."""


@pytest.mark.parametrize(("trials", "probability"), [(100, 0.9004), (46, 0.9505)])
def test_the_papers_example(trials: int, probability: float) -> None:
    threshold = expect_best(trials, 1 / (2 * 250))
    assert probability_above(threshold, SHARPE, BARS, SKEWNESS, KURTOSIS) == pytest.approx(probability, abs=0.0002)


def test_the_papers_expected_best_of_a_hundred() -> None:
    assert expect_best(100, 1 / (2 * 250)) == pytest.approx(0.1132, abs=0.0001)


def test_the_expected_best_is_that_of_many_draws() -> None:
    draws = np.random.default_rng(1).normal(0, 0.05, (4_000, 50))
    assert expect_best(50, 0.05**2) == pytest.approx(draws.max(axis=1).mean(), rel=0.02)


def test_one_setting_is_compared_with_no_skill() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 500)
    found = deflate(returns, [0.1])
    assert found
    assert found[0] == 0.0


def test_more_settings_leave_less_of_the_same_result() -> None:
    rng = np.random.default_rng(1)
    returns, others = rng.normal(0.001, 0.01, 500), rng.normal(0, 0.05, 40).tolist()
    few, many = (deflate(returns, others[:count]) for count in (4, 40))
    assert few
    assert many
    assert few[1]
    assert many[1]
    assert many[1] < few[1]


def test_returns_that_never_change_have_nothing_to_deflate() -> None:
    assert deflate(np.zeros(100), [0.0]) is None
