"""Jumps: what a split that nobody adjusted for, a wrong price and a crash are taken for, and when."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader.model import SAMPLE_PRICES
from trader.prices.jumps import CONFIRM_BARS, SPLITS, Floats, Verdict, find_ratio, judge, name_split

RATIOS = sorted(SPLITS)


def calm(bars: int, price_usd: float = 100.0, volatility: float = 0.01, seed: int = 7) -> Floats:
    """Return the closes of a share that does nothing unusual."""
    moves = np.random.default_rng(seed).normal(0, volatility, bars)
    closes: Floats = price_usd * np.exp(np.cumsum(moves) - moves[0])
    return closes


def split(before: int, after: int, ratio: float) -> Floats:
    """Return closes with a split that nobody adjusted for, on a day on which the share itself hardly moved."""
    closes = calm(before + after)
    closes[before:] *= closes[before - 1] / closes[before] * 1.004 / ratio
    return closes


def verdict(closes: Floats, **how: Any) -> Verdict:
    found = judge(closes, **how)
    assert found is not None
    return found


def test_an_ordinary_series_has_no_verdict() -> None:
    assert judge(calm(2_500)) is None


@pytest.mark.parametrize("bars", [0, 1])
def test_a_series_without_a_change_has_no_verdict(bars: int) -> None:
    assert judge(np.full(bars, 5.0)) is None


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_split_is_found_with_its_ratio_and_its_bar(ratio: float) -> None:
    (jump,) = verdict(split(60, 20, ratio)).jumps
    assert (jump.row, jump.ratio) == (60, ratio)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("wrong_usd", [0.02, 900_000.0])
@pytest.mark.parametrize("later", [1, 2, 3])
def test_a_split_is_found_although_a_price_soon_after_it_is_wrong(ratio: float, wrong_usd: float, later: int) -> None:
    closes = split(60, 20, ratio)
    closes[60 + later] = wrong_usd
    found = verdict(closes)
    assert [(jump.row, jump.ratio) for jump in found.jumps] == [(60, ratio)]
    assert np.flatnonzero(found.is_wrong).tolist() == [60 + later]


@pytest.mark.parametrize("ratio", [2.0, 3.0, 8.0, 0.5, 0.125])
def test_a_split_is_found_although_one_bar_after_it_is_in_the_old_unit(ratio: float) -> None:
    closes = split(60, 20, ratio)
    closes[62] *= ratio
    assert [(jump.row, jump.ratio) for jump in verdict(closes).jumps] == [(63, ratio)]


def test_a_price_that_leaps_does_not_confirm_a_split() -> None:
    closes = split(60, 20, 4.0)
    closes[60 + CONFIRM_BARS - 1] *= 10
    found = verdict(closes)
    assert found.jumps[0].known_row == 60 + CONFIRM_BARS + 1
    assert found.is_absent[60 + CONFIRM_BARS - 1]


@pytest.mark.parametrize("ratio", RATIOS)
def test_on_the_very_day_a_split_is_withheld(ratio: float) -> None:
    assert verdict(split(60, 1, ratio)).is_absent.tolist() == [False] * 60 + [True]


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_split_is_known_once_it_has_lasted(ratio: float) -> None:
    assert not verdict(split(60, CONFIRM_BARS - 1, ratio)).jumps
    (jump,) = verdict(split(60, CONFIRM_BARS, ratio)).jumps
    assert jump.known_row == 60 + CONFIRM_BARS - 1


@pytest.mark.parametrize("wrong_usd", [0.01, 1.0, 20.0, 45.0, 210.0, 5_000.0])
def test_a_price_that_comes_back_was_wrong(wrong_usd: float) -> None:
    closes = calm(40)
    closes[30] = wrong_usd
    found = verdict(closes)
    assert np.flatnonzero(found.is_wrong).tolist() == [30]
    assert not found.jumps


def test_two_wrong_prices_in_a_row_are_wrong() -> None:
    closes = calm(40)
    closes[30:32] = 0.5
    assert np.flatnonzero(verdict(closes).is_wrong).tolist() == [30, 31]


def test_a_wrong_price_is_withheld_while_it_is_the_last() -> None:
    closes = calm(31)
    closes[30] = 0.5
    assert verdict(closes).is_absent[-1]


def test_a_fall_that_is_no_splits_is_a_crash() -> None:
    closes = calm(60)
    closes[40:] *= 0.71
    assert judge(closes) is None


def test_a_fall_in_a_panic_is_a_crash_although_its_ratio_is_a_splits() -> None:
    closes = calm(60)
    moves = np.array([0.94, 1.05, 0.93, 1.06, 0.95, 0.80, 1.07, 0.94, 1.06, 0.95])
    closes[40:50] = closes[39] * np.cumprod(moves)
    closes[50:] *= closes[49] / closes[50]
    assert judge(closes) is None


def test_a_change_of_unit_needs_no_splits_ratio() -> None:
    closes = calm(60)
    closes[40:] *= 5.5  # such as from one currency to another
    (jump,) = verdict(closes).jumps
    assert jump.ratio is None


@pytest.mark.parametrize("change", [1.09 / 3, 3 / 1.09])
def test_a_change_by_almost_three_is_one_of_unit_although_it_misses_the_ratio(change: float) -> None:
    closes = calm(60)
    closes[40:] *= change
    assert [(jump.row, jump.ratio) for jump in verdict(closes).jumps] == [(40, None)]


def test_a_crash_by_half_that_misses_the_ratio_is_withheld_but_no_split() -> None:
    closes = calm(60, volatility=0.03)
    closes[40:] *= closes[39] / closes[40] * 0.4815  # Apple on 2000-09-29
    found = verdict(closes)
    assert np.flatnonzero(found.is_absent).tolist() == list(range(40, 40 + CONFIRM_BARS - 1))
    assert not found.jumps


def test_a_split_that_the_source_reports_is_known_at_once() -> None:
    closes = split(60, 1, 4.0)
    found = judge(closes, events=[(60, 4.0)])
    assert found is not None
    (jump,) = found.jumps
    assert (jump.known_row, jump.ratio) == (60, 4.0)


def test_a_split_that_the_source_reports_and_has_adjusted_for_is_nothing() -> None:
    assert judge(calm(60), events=[(40, 4.0)]) is None


@pytest.mark.parametrize("ratio", [1.5, 2.0, 2.5, 0.5])
def test_without_a_split_on_the_day_a_source_that_knows_them_all_shows_a_crash_or_a_leap(ratio: float) -> None:
    for after in (1, 20):
        assert judge(split(60, after, ratio), knows_all_splits=True) is None
        assert judge(split(60, after, ratio), events=[(20, ratio)], knows_all_splits=True) is None


def test_a_source_that_knows_all_splits_still_shows_the_one_that_it_did_not_adjust_for() -> None:
    (jump,) = verdict(split(60, 1, 2.0), events=[(60, 2.0)], knows_all_splits=True).jumps
    assert jump.ratio == 2.0


def test_a_change_of_unit_is_one_whatever_splits_are_known() -> None:
    (jump,) = verdict(split(60, 20, 4.0), knows_all_splits=True).jumps
    assert jump.ratio is None


def test_a_price_that_comes_back_was_wrong_whatever_splits_are_known() -> None:
    closes = calm(40)
    closes[30] = 45.0
    assert np.flatnonzero(verdict(closes, knows_all_splits=True).is_wrong).tolist() == [30]


def test_a_split_is_overnight_so_short_bars_are_measured_by_the_session() -> None:
    closes = calm(200, volatility=0.002)
    closes[100:] *= closes[99] / closes[100] * 0.99 / 1.5
    (jump,) = verdict(closes, bars_per_session=26).jumps
    assert jump.ratio == 1.5


@given(
    before=st.integers(12, 80),
    after=st.integers(1, 30),
    ratio=st.sampled_from(RATIOS),
    seed=st.integers(0, 99),
    cut=st.integers(1, 30),
)
def test_a_verdict_on_a_bar_never_depends_on_later_bars(
    before: int, after: int, ratio: float, seed: int, cut: int
) -> None:
    closes = calm(before + after, seed=seed, volatility=0.03)
    closes[before:] /= ratio
    closes[before + after // 2] *= 1 + seed % 3
    end = max(1, len(closes) - cut)
    whole, part = judge(closes), judge(closes[:end])
    absent = whole.is_absent[:end] if whole else np.zeros(end, dtype=np.bool_)
    assert (part.is_absent if part else np.zeros(end, dtype=np.bool_)).tolist() == absent.tolist()
    known = [each for each in whole.jumps if each.known_row < end] if whole else []
    assert list(part.jumps if part else ()) == known


@pytest.mark.parametrize(
    ("ratio", "name"), [(4.0, "4:1"), (1.5, "3:2"), (1.25, "5:4"), (0.125, "1:8"), (11.0, "11:1"), (1 / 11, "1:11")]
)
def test_a_split_is_named_as_people_write_it(ratio: float, name: str) -> None:
    assert name_split(ratio) == name


def test_a_ratio_is_found_despite_the_days_own_move() -> None:
    assert find_ratio(0.25 * 1.02) == 4
    assert find_ratio(0.25 * 1.05) is None


def test_in_the_shipped_prices_one_crash_in_ten_years_is_taken_for_a_split() -> None:
    import pandas as pd

    closes = pd.read_csv(SAMPLE_PRICES, index_col=0)
    found = {symbol: verdict for symbol in closes if (verdict := judge(closes[symbol].to_numpy(float)))}
    assert [(symbol, closes.index[jump.row]) for symbol, each in found.items() for jump in each.jumps] == [
        ("AMD", "2017-05-02")
    ]
