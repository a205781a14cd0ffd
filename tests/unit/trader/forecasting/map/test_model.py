"""The model is Prophet's, its mode is the best one, and each series is fitted independently of the others."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prophet import Prophet

from scripts.bench.parity import panel
from scripts.bench.reference import reference
from tests.builders import daily
from tests.unit.trader.forecasting.map.drawn import series, walk
from trader.forecasting.map import kernel, model, posterior_mode
from trader.forecasting.map.forecaster import local_ns
from trader.forecasting.map.model import Batch, Calendar, Fit, Scales, log_posterior
from trader.forecasting.map.posterior_mode import Floats, Integers, Problems

USUAL = Scales()
DAY = 24 * 60
TREND, WEEKLY = ("yearly",), ("yearly", "weekly")
ALL = ("yearly", "weekly", "daily")


def calendar(bars: int, allowed: Sequence[str] = TREND) -> Calendar:
    return Calendar.of(local_ns(pd.DatetimeIndex(daily([1.0] * bars).index)), allowed)


def every(minutes: int, bars: int, allowed: Sequence[str] = ALL) -> Calendar:
    return Calendar.of(pd.date_range("2022-01-03", periods=bars, freq=f"{minutes}min").as_unit("ns").asi8, allowed)


def outcomes(values: Sequence[Floats], on: Calendar, scales: Scales = USUAL) -> tuple[Fit | str, ...]:
    return model.fit([Batch(calendar=on, values=np.stack(values))], scales).fits


def fit(values: Floats, on: Calendar | None = None, scales: Scales = USUAL) -> Fit:
    (only,) = outcomes([values], on or calendar(len(values)), scales)
    assert isinstance(only, Fit), only
    return only


def prophet(on: Calendar, values: Floats, **options: Any) -> Prophet:
    model = Prophet(**options)
    model.fit(pd.DataFrame({"ds": pd.DatetimeIndex(on.times_ns), "y": values}))
    return model


def stans_log_posterior(model: Prophet) -> float:
    backend: Any = model.stan_backend
    return float(backend.stan_fit.optimized_params_pd["lp__"].iloc[0])


# --- the model is Prophet's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bars", [3, 4, 20, 31, 32, 33, 120, 251])
def test_the_rate_may_change_where_prophets_does(bars: int) -> None:
    on = calendar(bars)
    theirs = prophet(on, walk(1, bars), weekly_seasonality=False, daily_seasonality=False)
    assert on.changes.tolist() == np.asarray(theirs.changepoints_t).tolist()


@pytest.mark.parametrize(
    "on",
    [
        calendar(8, ALL),
        calendar(12, ALL),
        calendar(500, ALL),
        calendar(530, ALL),
        *(every(DAY, bars) for bars in (14, 15, 730, 731)),
        *(every(15, bars) for bars in (192, 193, 1344, 1345)),
    ],
    ids=lambda on: f"{on.times_ns[-1] - on.times_ns[0]} ns",
)
def test_the_seasonalities_are_those_that_prophet_chooses(on: Calendar) -> None:
    theirs = Prophet()
    theirs.history = pd.DataFrame({"ds": pd.DatetimeIndex(on.times_ns)})
    theirs.set_auto_seasonalities()
    assert on.seasonalities == tuple(theirs.seasonalities)


def test_the_scales_and_numbers_are_prophets_defaults() -> None:
    theirs = Prophet()
    assert (USUAL.changepoint, USUAL.seasonality) == (theirs.changepoint_prior_scale, theirs.seasonality_prior_scale)
    assert (
        theirs.n_changepoints,
        theirs.changepoint_range,
    ) == (model.CHANGEPOINTS, model.CHANGEPOINT_RANGE)


@pytest.mark.parametrize("on", [calendar(600, ALL), every(15, 400)], ids=["daily", "15m"])
def test_the_fourier_terms_are_prophets(on: Calendar) -> None:
    dates = pd.DatetimeIndex(on.times_ns).to_series()
    terms = [
        Prophet.fourier_series(dates, period_days, order)
        for period_days, order in (model.PERIODS[name] for name in on.seasonalities)
    ]
    assert on.columns[:, on.line_size :] == pytest.approx(np.hstack(terms), abs=1e-9)


@pytest.mark.parametrize(("allowed", "bars"), [(TREND, 250), (WEEKLY, 250), (WEEKLY, 600)])
def test_the_log_posterior_equals_stans(allowed: Sequence[str], bars: int) -> None:
    on, values = calendar(bars, allowed), walk(5, bars)
    theirs = prophet(on, values, weekly_seasonality=allowed is WEEKLY, daily_seasonality=False)
    found = theirs.params
    names = ("k", "m", "delta", "beta") if on.seasonalities else ("k", "m", "delta")
    model = Fit(
        calendar=on,
        parameters=np.concatenate([np.ravel(found[name]) for name in names]),
        sigma=float(np.ravel(found["sigma_obs"])[0]),
        scale=float(values.max()),
        residual=0,
    )
    assert log_posterior(model, values) == pytest.approx(stans_log_posterior(theirs), rel=1e-5)


# --- the mode is the best one --------------------------------------------------------------------------------------


@cache
def closes(symbol: str, end: int, bars: int) -> tuple[pd.DatetimeIndex, Floats]:
    some = panel()[symbol].iloc[end - bars : end]
    return pd.DatetimeIndex(some.index), some.to_numpy(float)


KINDS = pytest.mark.parametrize(
    ("symbol", "end", "bars", "allowed", "scale"),
    [
        ("AAPL", 2000, 120, TREND, 0.05),
        ("KO", 1500, 250, TREND, 0.05),
        ("XOM", 2518, 250, WEEKLY, 0.05),
        ("AMD", 2200, 600, TREND, 0.05),
        ("GE", 900, 250, TREND, 0.01),
        ("WMT", 2400, 250, TREND, 0.5),
    ],
)


@KINDS
def test_the_mode_is_where_an_interior_point_solver_finds_it(
    symbol: str, end: int, bars: int, allowed: Sequence[str], scale: float
) -> None:
    index, values = closes(symbol, end, bars)
    on, scales = Calendar.of(local_ns(index), allowed), Scales(changepoint=scale)
    ours, theirs = fit(values, on, scales), reference(on, values, scales)
    assert log_posterior(ours, values, scales) == pytest.approx(log_posterior(theirs, values, scales), rel=1e-10)
    assert ours.trend(on.times_ns) == pytest.approx(theirs.trend(on.times_ns), rel=1e-6)
    assert ours.yhat(on.times_ns) == pytest.approx(theirs.yhat(on.times_ns), rel=1e-6)


@pytest.mark.parametrize(
    ("symbol", "end", "bars"),
    [("HD", 1586, 250), ("JNJ", 1128, 120), ("CVX", 1060, 250)],
    ids=["less noise", "more noise", "next to a piece that the search leaves at once"],
)
def test_the_better_of_two_modes_is_taken(symbol: str, end: int, bars: int) -> None:
    index, values = closes(symbol, end, bars)
    on, scales = Calendar.of(local_ns(index), TREND), Scales(changepoint=0.01)
    ours = fit(values, on, scales)
    best = log_posterior(ours, values, scales)
    assert ours.has_another
    assert best == pytest.approx(log_posterior(reference(on, values, scales), values, scales), rel=1e-10)


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "reference"])
def test_a_mode_beside_which_another_is_about_to_appear_is_found(
    is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_compiled:
        monkeypatch.setattr(kernel, "load", lambda: None)
    index, values = closes("GE", 2504, 250)  # plain steps would have to be taken by the thousand
    on = Calendar.of(local_ns(index), TREND)
    ours, theirs = fit(values, on), reference(on, values, USUAL)
    assert ours.trend(on.times_ns) == pytest.approx(theirs.trend(on.times_ns), rel=1e-6)


def test_stans_model_is_no_better(subtests: Any) -> None:
    for symbol in ("AAPL", "UNH", "RRC"):
        index, values = closes(symbol, 2300, 250)
        on = Calendar.of(local_ns(index), TREND)
        theirs = prophet(on, values, weekly_seasonality=False, daily_seasonality=False)
        lp = stans_log_posterior(theirs)
        with subtests.test(symbol):
            assert log_posterior(fit(values, on), values) >= lp - 1e-6 * abs(lp)


@pytest.mark.parametrize("place", [0, 1, 2, 15, -1])
def test_the_residual_detects_a_parameter_that_is_slightly_off(place: int) -> None:
    on, values = calendar(250, WEEKLY), walk(3, 250)
    ours = fit(values, on)
    moved = ours.parameters.copy()
    moved[place] += 1e-4
    assert residual(on, values, ours.parameters, ours.sigma) < 1e-6
    assert residual(on, values, moved, ours.sigma) > 1e-6


def test_the_residual_detects_noise_that_is_slightly_off() -> None:
    on, values = calendar(250), walk(3, 250)
    ours = fit(values, on)
    assert residual(on, values, ours.parameters, ours.sigma * 1.00001) > 1e-6


def test_the_optimality_residual_is_the_slope_of_the_log_posterior() -> None:
    on, values = calendar(60), walk(4, 60)
    ours = fit(values, on)
    off = replace(ours, parameters=ours.parameters + np.random.default_rng(1).normal(0, 0.3, ours.parameters.size))
    units = np.where(on.lasso(USUAL) > 0, model.CHANGEPOINT_SCALE, model.LINE_SCALE)
    steps = 1e-6 * np.eye(units.size)
    slopes = [
        (log_posterior(replace(off, parameters=off.parameters + step), values) - log_posterior(off, values)) / 1e-6
        for step in steps
    ]
    assert residual(on, values, off.parameters, off.sigma) == pytest.approx(max(np.abs(slopes * units)), rel=1e-3)


def residual(on: Calendar, values: Floats, parameters: Floats, sigma: float) -> float:
    ridge, lasso = on.ridge(USUAL), on.lasso(USUAL)
    scaled, variance = values[None] / np.abs(values).max(), np.array([sigma**2])
    return float(model.optimality(on.columns, scaled, parameters[None], variance, ridge, lasso)[0])


# --- each series on its own ----------------------------------------------------------------------------------------


def same(a: Fit | str, b: Fit | str) -> bool:
    """Return whether two results are identical to the last bit."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    numbers = [(each.parameters.tobytes(), each.sigma, each.scale, each.residual, each.has_another) for each in (a, b)]
    return numbers[0] == numbers[1]


@examples(max_examples=40)
@given(st.data())
def test_a_series_has_the_same_model_alone_or_among_others(data: st.DataObject) -> None:
    on = calendar(data.draw(st.sampled_from([40, 60])), data.draw(st.sampled_from([TREND, WEEKLY])))
    many = data.draw(st.lists(series(len(on.times_ns)), min_size=2, max_size=6))
    together = outcomes(many, on)
    assert [same(one, *outcomes([values], on)) for one, values in zip(together, many, strict=True)] == [True] * len(
        many
    )


@given(st.data())
def test_a_series_has_a_mode_or_a_reason_why_not(data: st.DataObject) -> None:
    on = calendar(60)
    values = data.draw(series(60))
    (only,) = outcomes([values], on)
    if isinstance(only, str):
        assert only.startswith(("a value is not a finite number", "its mode was not found"))
    else:
        assert np.isfinite(only.trend(on.times_ns)).all()
        assert only.residual < model.CONVERGED
        moves = np.ptp(values) > 0
        assert not moves or residual(on, values, only.parameters, only.sigma) < model.CONVERGED


def test_thousands_of_series_have_the_same_models_as_alone() -> None:
    on = calendar(60)
    many = [walk(seed, 60) for seed in range(2000)]
    together = outcomes(many, on)
    assert [same(together[place], *outcomes([many[place]], on)) for place in (0, 777, 1999)] == [True] * 3


def test_series_of_several_calendars_have_the_same_models_alone() -> None:
    calendars = [calendar(60), calendar(61), calendar(20), calendar(80, WEEKLY)]
    values = [walk(place, len(on.times_ns)) for place, on in enumerate(calendars)]
    batches = [Batch(calendar=on, values=each[None]) for on, each in zip(calendars, values, strict=True)]
    alone = [fit(each, on) for each, on in zip(values, calendars, strict=True)]
    assert [same(*pair) for pair in zip(model.fit(batches).fits, alone, strict=True)] == [True] * 4


def test_nothing_to_fit_is_not_an_error() -> None:
    assert model.fit([]).fits == ()


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e9])
def test_the_line_scales_with_the_prices(factor: float) -> None:
    on, values = calendar(120), walk(8)
    assert fit(values * factor).trend(on.times_ns) == pytest.approx(fit(values).trend(on.times_ns) * factor, rel=1e-9)


def test_negated_prices_have_the_negated_line() -> None:
    on, values = calendar(120), walk(8)
    assert fit(-values).trend(on.times_ns) == pytest.approx(-fit(values).trend(on.times_ns), rel=1e-9)


@pytest.mark.parametrize("price", [1e-9, 1.0, 1e9, 0.0, -3.0])
def test_a_constant_series_is_its_own_line(price: float) -> None:
    on = calendar(60)
    assert set(fit(np.full(60, price)).trend(on.times_ns)) == {price}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_series_with_a_non_finite_value_has_no_model(value: float) -> None:
    values = walk(1)
    values[7] = value
    assert outcomes([values], calendar(120)) == ("a value is not a finite number",)


def test_a_series_with_a_split_has_the_right_mode() -> None:
    values = walk(2, 250)
    values[125:] /= 10
    on = calendar(250)
    ours, theirs = fit(values, on), reference(on, values, USUAL)
    assert ours.trend(on.times_ns) == pytest.approx(theirs.trend(on.times_ns), rel=1e-6)


@pytest.mark.parametrize("bars", [0, 1, 2])
def test_a_calendar_needs_three_bars(bars: int) -> None:
    times_ns = calendar(30).times_ns
    with pytest.raises(ValueError, match=f"{bars} bars; a line with noise needs at least 3"):
        Calendar.of(times_ns[:bars], TREND)


@pytest.mark.parametrize("order", [[0, 1, 1, 2], [0, 2, 1, 3]], ids=["identical", "falling"])
def test_a_calendar_needs_increasing_times(order: list[int]) -> None:
    times_ns = calendar(30).times_ns
    with pytest.raises(ValueError, match="timestamps are not strictly increasing"):
        Calendar.of(times_ns[order], TREND)


@pytest.mark.parametrize(("day", "knows"), [("2022-12-30", True), ("2022-12-31", False), ("2023-01-01", False)])
def test_weekly_terms_of_business_days_do_not_cover_weekends(day: str, knows: bool) -> None:
    at_ns = pd.Timestamp(day).as_unit("ns").value
    assert calendar(120, WEEKLY).determines(at_ns) is knows
    assert calendar(120, TREND).determines(at_ns)


@pytest.mark.parametrize(("hour", "knows"), [(0, True), (1, False), (23, False)])
def test_weekly_terms_of_daily_bars_cover_no_other_hour(hour: int, knows: bool) -> None:
    at_ns = pd.Timestamp(2022, 12, 30, hour).as_unit("ns").value
    assert calendar(120, WEEKLY).determines(at_ns) is knows


# --- one bar later -------------------------------------------------------------------------------------------------


def roll_window(values: Floats, bars: int, begun: bool) -> list[Fit | str]:
    """Fit a window that moves on one bar at a time; if `begun`, each fit starts from the path of the one before."""
    index, paths, found = calendar(len(values)).times_ns, None, list[Fit | str]()
    for end in range(bars, len(values) + 1):
        on = Calendar.of(index[end - bars : end], TREND)
        made = model.fit([Batch(calendar=on, values=values[None, end - bars : end])], USUAL, paths)
        found += made.fits
        paths = made.paths if begun else None
    return found


def test_starting_from_the_previous_path_gives_the_same_model() -> None:
    values = walk(6, 160)
    pairs = zip(roll_window(values, 120, begun=True), roll_window(values, 120, begun=False), strict=True)
    assert [same(*pair) for pair in pairs] == [True] * 41


def test_starting_from_the_previous_path_takes_less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "load", lambda: None)
    solved: list[int] = []
    real = posterior_mode._solve

    def count_solves(problems: Problems, rows: Integers, *rest: Any) -> Floats:
        solved[-1] += len(rows)
        return real(problems, rows, *rest)

    monkeypatch.setattr(posterior_mode, "_solve", count_solves)
    for begun in (True, False):
        solved.append(0)
        roll_window(walk(6, 160), 120, begun=begun)
    assert solved[0] < 0.9 * solved[1]


def test_the_starting_path_does_not_matter_for_moves_of_a_cent() -> None:
    chance = np.random.default_rng(0)
    steps = [np.asarray(chance.choice([-0.01, 0.0, 0.0, 0.0, 0.0, 0.01], 60), float) for _ in range(8)]
    many = np.stack([10 + np.cumsum(each).round(2) for each in steps])
    index = calendar(60).times_ns
    windows = [
        Batch(calendar=Calendar.of(index[end - 30 : end], TREND), values=many[:, end - 30 : end].copy())
        for end in (36, 37)  # where one of them is found only without the path
    ]
    before = model.fit(windows[:1])
    begun, alone = (model.fit(windows[1:], USUAL, paths).fits for paths in (before.paths, None))
    assert [same(*pair) for pair in zip(begun, alone, strict=True)] == [True] * 8


@pytest.mark.parametrize("seeds", [[1, 2, 4], [1]], ids=["more", "fewer"])
def test_a_path_for_another_number_of_series_is_ignored(seeds: Sequence[int]) -> None:
    on, both = calendar(120), np.stack([walk(3), walk(5)])
    paths = model.fit([Batch(calendar=on, values=np.stack([walk(seed) for seed in seeds]))]).paths
    found = model.fit([Batch(calendar=on, values=both)], USUAL, paths).fits
    assert [same(one, fit(values)) for one, values in zip(found, both, strict=True)] == [True, True]


def test_a_path_from_a_different_series_gives_the_same_model() -> None:
    on = calendar(120)
    paths = model.fit([Batch(calendar=on, values=-walk(99)[None])]).paths
    only = model.fit([Batch(calendar=on, values=walk(3)[None])], USUAL, paths).fits[0]
    assert same(only, fit(walk(3)))
