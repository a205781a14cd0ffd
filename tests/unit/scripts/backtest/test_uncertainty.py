"""Intervals of a backtest's figures, checked against what is known of made-up returns."""

from typing import Any

import numpy as np
import pytest

from scripts.backtest import uncertainty
from scripts.backtest.report import formatting
from scripts.backtest.uncertainty import LEVEL, MIN_BARS, Numbers

DAYS = 252


def curve(returns: Numbers) -> list[float]:
    found: list[float] = (100.0 * np.cumprod(1 + returns)).tolist()
    return found


def figures(
    made: Numbers,
    held: Numbers | None = None,
    bars_a_year: float | None = DAYS,
    benchmark: Numbers | None = None,
    cash: float = 0.0,
) -> dict[str, Any]:
    return {
        "curve": {
            "equity_usd": curve(made),
            "buy_and_hold_usd": None if held is None else curve(held),
            "benchmark_usd": None if benchmark is None else curve(benchmark),
            "cash_usd": curve(np.full(len(made), cash)),
        },
        "options": {"cash_usd": 100.0},
        "data": {"bars_a_year": bars_a_year},
    }


def draws(seed: int, bars: int = 500, mean: float = 0.0005, spread: float = 0.01) -> Numbers:
    return np.random.default_rng(seed).normal(mean, spread, bars)


def test_the_intervals_are_the_same_each_time() -> None:
    given = figures(draws(1), draws(2))
    assert uncertainty.measure(given) == uncertainty.measure(given)


def test_the_interval_of_sharpe_is_as_wide_as_theory_says() -> None:
    """For independent normal returns the standard error is close to sqrt((1 + SR^2 / 2) / n), Lo (2002)."""
    made = draws(1, bars=1_000)
    low, high = uncertainty.measure(figures(made, bars_a_year=None))["intervals"]["strategy"]["bar_sharpe_ratio"]
    sharpe = made.mean() / made.std(ddof=1)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt((1 + sharpe**2 / 2) / len(made)), rel=0.15)
    assert low < sharpe < high


def test_the_true_figure_is_inside_about_as_often_as_claimed() -> None:
    inside = 0
    for seed in range(40):
        given = figures(draws(seed, bars=300), bars_a_year=None)
        low, high = uncertainty.measure(given)["intervals"]["strategy"]["bar_sharpe_ratio"]
        inside += low <= 0.05 <= high
    assert inside >= 40 * (LEVEL - 0.12)


def test_returns_that_come_in_clusters_have_longer_blocks() -> None:
    calm_and_wild = draws(1) * np.where(np.arange(500) // 50 % 2, 4.0, 0.5)
    lengths = [uncertainty.measure(figures(each))["mean_block_bars"] for each in (draws(1), calm_and_wild)]
    assert lengths[1] > 2 * lengths[0]


def test_a_difference_that_both_share_is_not_uncertain() -> None:
    held = draws(1, spread=0.02)
    measured = uncertainty.measure(figures(held + 0.002, held))
    assert measured["intervals"]["difference"]["sharpe_ratio"][0] > 0
    assert (
        measured["intervals"]["strategy"]["sharpe_ratio"][0] < measured["intervals"]["buy_and_hold"]["sharpe_ratio"][1]
    )
    words = formatting.describe_uncertainty({"uncertainty": measured})
    assert "is better than that of buy and hold by more than chance explains" in words


def test_a_difference_within_chance_is_called_so() -> None:
    words = formatting.describe_uncertainty({"uncertainty": uncertainty.measure(figures(draws(1), draws(2)))})
    assert "The difference from buy and hold may be chance" in words


def test_a_drawdown_is_never_above_zero() -> None:
    low, high = uncertainty.measure(figures(draws(1)))["intervals"]["strategy"]["max_drawdown_fraction"]
    assert low < high <= 0


def test_a_short_span_has_figures_per_bar_only() -> None:
    names = uncertainty.measure(figures(draws(1, bars=60), bars_a_year=None))["intervals"]["strategy"]
    assert set(names) == {"total_return_fraction", "bar_sharpe_ratio", "max_drawdown_fraction"}


@pytest.mark.parametrize(
    ("made", "reason"),
    [(draws(1, bars=MIN_BARS - 1), uncertainty.TOO_SHORT), (np.zeros(100), uncertainty.NO_TRADES)],
    ids=["too few bars", "no trades"],
)
def test_figures_without_an_interval_have_a_reason(made: Numbers, reason: str) -> None:
    measured = uncertainty.measure(figures(made))
    assert measured == {"reason": reason}
    assert formatting.describe_uncertainty({"uncertainty": measured}) == f"No intervals: {reason}."


def test_an_account_that_loses_everything_has_intervals() -> None:
    made = draws(1)
    made[100] = -1.0
    measured = uncertainty.measure(figures(made))
    assert measured["intervals"]["strategy"]["max_drawdown_fraction"][0] == -1.0


def test_buy_and_hold_that_never_moves_has_no_sharpe() -> None:
    measured = uncertainty.measure(figures(draws(1), np.zeros(500)))
    assert measured["intervals"]["buy_and_hold"]["sharpe_ratio"] is None
    assert measured["intervals"]["strategy"]["sharpe_ratio"]


def test_the_difference_from_a_benchmark_has_intervals_of_its_own() -> None:
    benchmark = draws(1, spread=0.02)
    measured = uncertainty.measure(figures(benchmark + 0.002, draws(2), benchmark=benchmark))
    assert measured["intervals"]["difference_from_benchmark"]["sharpe_ratio"][0] > 0
    assert "better than that of the benchmark by more than chance explains" in formatting.describe_uncertainty(
        {"uncertainty": measured}
    )


def test_the_interval_of_sharpe_is_that_of_returns_above_cash() -> None:
    made = draws(1)
    earned, above = (
        uncertainty.measure(given)["intervals"]["strategy"]["sharpe_ratio"]
        for given in (figures(made + 0.0002, cash=0.0002), figures(made))
    )
    assert earned == pytest.approx(above, abs=0.02)


def test_interest_alone_has_no_intervals() -> None:
    assert uncertainty.measure(figures(np.full(100, 0.0002), cash=0.0002)) == {"reason": uncertainty.NO_TRADES}
