"""The rolling Sharpe ratio and its interval, beside other arithmetic."""

import math
from statistics import fmean, stdev

import numpy as np
import pytest

from scripts.backtest.rolling import roll_sharpe
from scripts.backtest.yearly import Span

SPAN = Span(years=2.0, bars_a_year=250.0)
RETURNS = np.random.default_rng(7).normal(0.0005, 0.01, 500)


def test_each_bar_has_the_ratio_of_the_half_year_before_it() -> None:
    found = roll_sharpe(RETURNS, SPAN)
    assert found
    last = RETURNS[-125:].tolist()
    assert found["ratio"][-1] == pytest.approx(math.sqrt(250) * fmean(last) / stdev(last))
    assert found["ratio"][124] == pytest.approx(math.sqrt(250) * RETURNS[:125].mean() / RETURNS[:125].std(ddof=1))


def test_the_first_half_year_has_none() -> None:
    found = roll_sharpe(RETURNS, SPAN)
    assert found
    assert {len(found[name]) for name in ("ratio", "lower", "upper")} == {500}
    assert set(found["ratio"][:124]) == {None}


def test_the_interval_is_that_of_lo_if_the_returns_are_normal() -> None:
    found = roll_sharpe(np.random.default_rng(7).normal(0.001, 0.01, 4_000), Span(years=2.0, bars_a_year=2_000.0))
    assert found
    ratio = found["ratio"][-1] / math.sqrt(2_000)
    far = 1.959964 * math.sqrt((1 + ratio**2 / 2) / 999) * math.sqrt(2_000)
    assert found["upper"][-1] - found["ratio"][-1] == pytest.approx(far, rel=0.02)
    assert found["ratio"][-1] - found["lower"][-1] == pytest.approx(found["upper"][-1] - found["ratio"][-1])


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(11), []
    for _ in range(400):
        found = roll_sharpe(rng.normal(0.001, 0.01, 250), Span(years=1.0, bars_a_year=250.0))
        assert found
        inside.append(found["lower"][-1] <= 0.1 * math.sqrt(250) <= found["upper"][-1])
    assert fmean(inside) == pytest.approx(0.95, abs=0.03)


def test_returns_that_do_not_change_have_no_ratio() -> None:
    found = roll_sharpe(np.zeros(500), SPAN)
    assert found
    assert set(found["ratio"]) == set(found["lower"]) == {None}


@pytest.mark.parametrize(("bars", "span"), [(500, None), (249, SPAN)])
def test_too_short_a_span_has_no_rolling_ratio(bars: int, span: Span | None) -> None:
    assert roll_sharpe(RETURNS[:bars], span) is None
