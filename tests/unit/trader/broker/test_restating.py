"""What closes that a source gives otherwise than before mean for the shares."""

from collections.abc import Mapping, Sequence

import pytest

from tests.builders import daily
from trader.broker.restating import KEPT_CLOSES, Action, Change, Quotes, interpret, keep, measure
from trader.model import Closes

PAST = [100.0, 101.5, 99.25, 102.75, 100.5, 98.1]
"""Closes as they were kept; the last one may have been that of a running bar."""

CLOSES = daily(PAST)


def held(since: int = 0, closes: Closes = CLOSES) -> Quotes:
    """Return what is kept of a holding that was bought in one of these bars."""
    return keep(closes, closes.index[since].to_pydatetime())


def changed(*factors: float, places: int | None = None) -> Closes:
    """Return the same bars, each changed by its factor, and rounded as in a file."""
    closes = CLOSES * list(factors)
    return closes if places is None else closes.round(places)


def factor(kept: Quotes, closes: Closes) -> float | None:
    """Return the factor that is found, to a hundredth of a percent."""
    change = measure(kept, closes)
    return None if change is None else round(change.factor, 4)


def test_the_last_closes_are_kept_as_the_source_gave_them() -> None:
    kept = keep(daily(range(10, 30)))
    assert [each.price_usd for each in kept.closes] == list(range(30 - KEPT_CLOSES, 30))
    assert kept.since == kept.last.at


def test_the_same_closes_are_no_change() -> None:
    assert factor(held(), CLOSES) == 1


def test_closes_computed_anew_are_no_change() -> None:
    assert measure(held(), CLOSES * (1 + 1e-6)) == Change(1.0)


@pytest.mark.parametrize("by", [1 - 7e-5, 1 + 7e-5])
def test_less_than_a_cent_is_no_change(by: float) -> None:
    assert measure(held(), CLOSES * by) == Change(1.0)


def test_of_low_prices_less_than_a_cent_is_a_change() -> None:
    closes = CLOSES / 200
    assert factor(held(closes=closes), closes * 0.995) == 0.995


def test_a_split_may_be_off_by_less_than_a_cent() -> None:
    change = measure(held(), CLOSES / 10 * (1 + 1e-4))
    assert change is not None
    assert interpret(change) == Action(shares=10)


@pytest.mark.parametrize("move", [0.5, 0.9, 0.99, 1.01, 1.2])
def test_the_move_of_a_running_bar_is_no_change(move: float) -> None:
    assert factor(held(), changed(1, 1, 1, 1, 1, move)) == 1
    assert factor(held(5), changed(1, 1, 1, 1, 1, move)) == 1


@pytest.mark.parametrize("by", [0.1, 0.6667, 0.94, 0.9995, 8.0])
@pytest.mark.parametrize("since", range(len(PAST)))
def test_a_past_changed_as_a_whole_is_found_whenever_the_shares_were_bought(by: float, since: int) -> None:
    assert factor(held(since), CLOSES * by) == by


def test_a_past_changed_as_a_whole_is_found_beside_the_move_of_a_running_bar() -> None:
    assert factor(held(5), changed(*[0.94] * 5, 0.94 * 1.01)) == 0.94


def test_what_happened_before_the_purchase_does_not_concern_the_shares() -> None:
    assert factor(held(5), changed(*[0.94] * 5, 1.003)) == 1
    assert factor(held(3), changed(0.94, 0.94, 0.94, 1, 1, 1)) == 1


def test_a_past_that_was_changed_late_is_found_by_older_bars() -> None:
    assert factor(held(0), changed(0.94, 0.94, 0.94, 1, 1, 1)) == 0.94


@pytest.mark.parametrize("bar", range(len(PAST) - 1))
def test_one_corrected_close_is_no_change(bar: int) -> None:
    factors = [1.0] * len(PAST)
    factors[bar] = 0.99
    assert factor(held(), changed(*factors)) == 1


def test_two_sources_that_differ_by_cents_are_no_change() -> None:
    assert factor(held(), changed(1.0004, 0.9991, 1.0007, 0.9993, 1.0011, 1)) == 1


def test_closes_of_other_shares_are_not_comparable() -> None:
    assert measure(held(), changed(0.2, 0.5, 0.3, 0.25, 0.4, 0.35)) is None


def test_after_a_pause_the_shares_are_the_same_if_the_price_is_near() -> None:
    assert factor(held(), daily([95.0, 90.0], last=CLOSES.index[-1].date().replace(year=2023))) == 1


def test_after_a_pause_a_price_that_is_far_off_is_not_comparable() -> None:
    assert measure(held(), daily([9.5, 9.0], last=CLOSES.index[-1].date().replace(year=2023))) is None


@pytest.mark.parametrize("by", [0.1, 0.5, 4.0])
def test_of_a_single_bar_a_large_split_is_found(by: float) -> None:
    kept = keep(CLOSES.iloc[-1:])
    assert measure(kept, CLOSES * by * 1.01) == Change(by)


@pytest.mark.parametrize("by", [0.97, 0.8, 2 / 3, 1.3])
def test_of_a_single_bar_a_smaller_change_is_its_own_move(by: float) -> None:
    assert factor(keep(CLOSES.iloc[-1:]), CLOSES * by) == 1


SPLIT_CASES: Mapping[str, float] = {
    "10:1": 10,
    "3:2": 1.5,
    "5:4": 1.25,
    "1:8": 1 / 8,
    "20:1": 20,
    "11:1": 11,
    "1:45": 1 / 45,
}


@pytest.mark.parametrize("shares", SPLIT_CASES.values(), ids=SPLIT_CASES.keys())
@pytest.mark.parametrize("prices", [PAST, [each / 150 for each in PAST]], ids=["dollars", "cents"])
@pytest.mark.parametrize("places", [None, 4])
def test_a_split_is_recognized_exactly(shares: float, prices: Sequence[float], places: int | None) -> None:
    closes = daily([round(each, 4) for each in prices])
    now = closes / shares if places is None else (closes / shares).round(places)
    change = measure(held(closes=closes), now)
    assert change is not None
    assert interpret(change) == Action(shares=shares)


@pytest.mark.parametrize("shares", [2, 3, 1.5, 1 / 4])
def test_a_split_is_recognized_in_a_file_of_cents_below_a_dollar(shares: float) -> None:
    closes = daily([0.92, 0.95, 0.93, 0.9, 0.94, 0.91])
    change = measure(held(closes=closes), (closes / shares).round(2))
    assert change is not None
    assert interpret(change) == Action(shares=shares)


@pytest.mark.parametrize("paid", [0.0001, 0.005, 0.06, 0.15])
def test_any_other_fall_of_the_past_is_a_dividend(paid: float) -> None:
    change = measure(held(), CLOSES * (1 - paid))
    assert change is not None
    found = interpret(change)
    assert found.shares == 1
    assert found.paid_fraction == pytest.approx(paid, rel=1e-9)


def test_a_dividend_is_found_to_a_hundredth_of_a_percent_in_a_file_of_cents() -> None:
    change = measure(held(), changed(*[0.995] * 6, places=2))
    assert change is not None
    assert interpret(change).paid_fraction == pytest.approx(0.005, abs=5e-5)


@pytest.mark.parametrize("shares", [10, 1.5, 1 / 8])
@pytest.mark.parametrize("paid", [0.003, 0.06])
def test_a_split_and_a_dividend_together_are_told_apart(shares: float, paid: float) -> None:
    found = interpret(Change((1 - paid) / shares))
    assert found.shares == shares
    assert found.paid_fraction == pytest.approx(paid)


@pytest.mark.parametrize("by", [1.06, 0.75 * 0.98, 0.6])
def test_a_change_that_is_no_usual_split_or_dividend_is_doubtful(by: float) -> None:
    found = interpret(Change(by))
    assert found.is_doubtful
    assert found.shares == 1
    assert found.factor == pytest.approx(by)


@pytest.mark.parametrize("by", [0.42, 1.37, 2.4])
def test_a_large_change_that_is_no_split_changes_the_shares(by: float) -> None:
    assert interpret(Change(by)) == Action(shares=1 / by, is_doubtful=True)


@pytest.mark.parametrize("by", [0.003, 0.0945, 0.4, 0.63, 0.9, 0.98, 1.0, 1.06, 1.5, 1.9, 7.9, 80.0])
def test_an_action_changes_the_price_by_the_factor_that_was_found(by: float) -> None:
    assert interpret(Change(by)).factor == pytest.approx(by)
