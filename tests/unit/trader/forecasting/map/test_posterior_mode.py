"""The search alone, on problems small enough to inspect and on problems that it must give up."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader.forecasting.map import posterior_mode
from trader.forecasting.map.posterior_mode import Floats, Modes, Problems, best_variance, search

type Numbers = Sequence[float] | Floats


def problems(columns: Floats, values: Floats, ridge: Numbers, lasso: Numbers) -> Problems:
    """Return one problem for each row of values, all with the same columns."""
    count, bars = values.shape
    return Problems(
        gram=(columns.T @ columns)[None],
        calendar=np.zeros(count, np.intp),
        projections=values @ columns,
        squares=(values**2).sum(axis=1),
        bars=np.full(count, float(bars)),
        ridge=np.asarray(ridge, float),
        lasso=np.asarray(lasso, float),
    )


def loss(columns: Floats, values: Floats, theta: Floats, variance: float, ridge: Floats, lasso: Floats) -> float:
    rest = values - columns @ theta
    prior = (ridge * theta**2 / 2 + lasso * np.abs(theta)).sum()
    return float(len(values) / 2 * np.log(variance) + rest @ rest / (2 * variance) + 2 * variance + prior)


def hinges(bars: int, bends: int) -> Floats:
    """Return the columns of a line that may bend: rate, offset and changes of the rate."""
    time = np.linspace(0, 1, bars)
    return np.column_stack([time, np.ones(bars), *(np.maximum(time - at, 0) for at in np.linspace(0.1, 0.8, bends))])


def noisy(seed: int, count: int = 1, bars: int = 80) -> Floats:
    return np.cumsum(np.random.default_rng(seed).normal(0, 0.02, (count, bars)), axis=1) + 0.7


COLUMNS = hinges(80, 12)
RIDGE, LASSO = np.array([0.04] * 2 + [0.0] * 12), np.array([0.0] * 2 + [20.0] * 12)


def find_modes(values: Floats) -> Modes:
    return search(problems(COLUMNS, values, RIDGE, LASSO))


@given(st.floats(1e-12, 1e6), st.integers(3, 5000))
def test_the_best_variance_is_where_the_slope_is_zero(squares: float, bars: int) -> None:
    variance = float(best_variance(np.array(squares), np.array(float(bars))))
    slope = bars / (2 * variance) - squares / (2 * variance**2) + 2
    assert slope * variance == pytest.approx(0, abs=1e-8 * bars)


def test_one_column_with_a_negligible_prior_is_least_squares() -> None:
    values = noisy(1)
    found = search(problems(np.ones((80, 1)), values, [1e-12], [0]))
    assert found.parameters[0, 0] == pytest.approx(values.mean())
    assert found.variance[0] == pytest.approx(values.var(), rel=0.01)


def test_a_lasso_that_outweighs_the_values_gives_zero() -> None:
    found = search(problems(np.ones((80, 1)), noisy(1), [0], [1e6]))
    assert found.parameters[0, 0] == 0


def test_no_step_away_from_the_mode_is_better() -> None:
    values = noisy(2)
    found = find_modes(values)
    theta, variance = found.parameters[0], float(found.variance[0])
    best = loss(COLUMNS, values[0], theta, variance, RIDGE, LASSO)
    chance = np.random.default_rng(1)
    steps = [
        (chance.normal(0, size, theta.size), chance.normal(0, size)) for size in (1e-4, 1e-2, 1) for _ in range(50)
    ]
    around = [loss(COLUMNS, values[0], theta + by, variance * np.exp(more), RIDGE, LASSO) for by, more in steps]
    assert min(around) > best


def test_changes_that_are_not_needed_are_exactly_zero() -> None:
    theta = find_modes(noisy(2)).parameters[0, 2:]
    assert 0 < np.count_nonzero(theta) < theta.size


@pytest.mark.parametrize("seed", range(5))
def test_single_and_block_exchanges_find_the_same_mode(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    by_blocks = find_modes(noisy(seed))
    monkeypatch.setattr(posterior_mode, "FULL_EXCHANGES", 0)
    one_by_one = find_modes(noisy(seed))
    assert one_by_one.is_found.all()
    assert one_by_one.parameters == pytest.approx(by_blocks.parameters, abs=1e-9)


def test_the_search_finds_the_same_mode_without_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    jumped = find_modes(noisy(4))
    monkeypatch.setattr(posterior_mode, "_end_of_piece", lambda squares, *_: np.full_like(squares, np.nan))
    monkeypatch.setattr(posterior_mode, "MAX_STEPS", 5000)
    walked = find_modes(noisy(4))
    assert walked.is_found.all()
    assert walked.variance == pytest.approx(jumped.variance, rel=1e-8)


def test_the_path_ends_with_the_signs_of_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_mode, "FULL_EXCHANGES", 0)  # exchange one by one once progress stops
    found = find_modes(noisy(1, 4))
    assert not found.has_another.any()
    assert found.path.down[-1].tolist() == (np.sign(found.parameters) * (LASSO > 0)).tolist()


def test_a_failed_search_from_below_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_mode, "_lowest", lambda _, variance: np.full_like(variance, np.nan))
    assert not find_modes(noisy(3)).is_found.any()


@pytest.mark.parametrize("limit", ["MAX_STEPS", "MAX_EXCHANGES"])
def test_a_search_that_takes_too_long_is_given_up(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_mode, limit, 1)
    assert not find_modes(noisy(3)).is_found.any()


def test_giving_up_one_problem_leaves_the_others_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = posterior_mode._regress

    def stubborn(given: Problems, rows: Any, *rest: Any) -> Any:
        values, signs, is_solved = real(given, rows, *rest)
        return values, signs, is_solved & (rows != 1)

    monkeypatch.setattr(posterior_mode, "_regress", stubborn)
    assert find_modes(noisy(3, 3)).is_found.tolist() == [True, False, True]


def test_a_singular_system_gives_nan_and_the_others_are_solved() -> None:
    systems = np.stack([np.eye(2), np.zeros((2, 2)), 2 * np.eye(2)])
    solved = posterior_mode._solutions(systems, np.ones((3, 2, 1)))
    assert solved[[0, 2], :, 0].tolist() == [[1, 1], [0.5, 0.5]]
    assert np.isnan(solved[1]).all()


def test_identical_columns_in_a_problem_do_not_affect_the_others() -> None:
    doubled = np.column_stack([np.ones((80, 2)), COLUMNS[:, 2:]])
    both = Problems(
        gram=np.stack([COLUMNS.T @ COLUMNS, doubled.T @ doubled]),
        calendar=np.array([0, 1]),
        projections=np.stack([noisy(1)[0] @ COLUMNS, noisy(2)[0] @ doubled]),
        squares=np.array([float((noisy(seed) ** 2).sum()) for seed in (1, 2)]),
        bars=np.full(2, 80.0),
        ridge=0 * RIDGE,
        lasso=LASSO,
    )
    alone = search(replace(problems(COLUMNS, noisy(1), RIDGE, LASSO), ridge=0 * RIDGE))
    assert search(both).parameters[0].tolist() == alone.parameters[0].tolist()
