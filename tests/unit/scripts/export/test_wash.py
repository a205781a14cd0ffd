"""Possible wash sales, each worked out by hand."""

from collections.abc import Sequence
from datetime import date

import pytest

from scripts.export import wash
from scripts.export.lots import match
from scripts.export.statement import Event
from tests.unit.scripts.export.test_lots import buy, sell, split

JAN, FEB, MAR = (date(2026, month, 1) for month in (1, 2, 3))


def find(*events: Event) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the disallowed loss of each possible wash sale, and its replacements with their days."""
    ledger = match(events)
    return [
        (
            f"{each.disallowed_usd:.2f}",
            [(f"{one.quantity.normalize():f}", f"{one.bought.day:%b %-d}") for one in each.replacements],
        )
        for _, each in sorted(wash.find(events, ledger.closed).items())
    ]


def test_a_loss_with_a_buy_afterwards() -> None:
    # 100 bought at 50 and sold at 40: 1,000 lost. 100 bought 20 days later: all of it may be disallowed.
    events = [buy("100", "50", JAN), sell("100", "40", FEB), buy("100", "42", date(2026, 2, 21))]
    assert find(*events) == [("1000.00", [("100", "Feb 21")])]


def test_a_loss_with_a_buy_before_it_that_is_still_held() -> None:
    # The 100 of 1 January are sold at a loss of 1,000, those of 20 January are still held.
    events = [buy("100", "50", JAN), buy("100", "45", date(2026, 1, 20)), sell("100", "40", FEB)]
    assert find(*events) == [("1000.00", [("100", "Jan 20")])]


def test_a_loss_that_is_replaced_in_part() -> None:
    # 10 lost on each of 100 shares, and 30 bought again: 300.
    events = [buy("100", "50", JAN), sell("100", "40", FEB), buy("30", "42", date(2026, 2, 3))]
    assert find(*events) == [("300.00", [("30", "Feb 3")])]


@pytest.mark.parametrize(("day", "count"), [(date(2026, 3, 3), 1), (date(2026, 3, 4), 0)])
def test_the_window_ends_thirty_days_after_the_sale(day: date, count: int) -> None:
    assert len(find(buy("1", "50", JAN), sell("1", "40", FEB), buy("1", "42", day))) == count


@pytest.mark.parametrize(("day", "count"), [(date(2026, 2, 2), 0), (date(2026, 2, 3), 1)])
def test_the_window_begins_thirty_days_before_the_sale(day: date, count: int) -> None:
    # Sold on 5 March: 30 days before is 3 February.
    events = [buy("1", "50", JAN), buy("1", "45", day), sell("1", "40", date(2026, 3, 5))]
    assert len(find(*events)) == count


def test_a_gain_is_none() -> None:
    assert find(buy("1", "50", JAN), sell("1", "60", FEB), buy("1", "42", date(2026, 2, 3))) == []


def test_another_symbol_replaces_nothing() -> None:
    assert find(buy("1", "50", JAN), sell("1", "40", FEB), buy("1", "42", FEB, symbol="B")) == []


def test_all_that_is_sold_at_once_replaces_nothing() -> None:
    # Bought in two steps within 30 days and sold at once: nothing is left that could replace anything.
    events = [buy("50", "50", JAN), buy("50", "45", date(2026, 1, 20)), sell("100", "40", FEB)]
    assert find(*events) == []


def test_the_rest_of_the_purchase_that_was_sold_replaces_nothing() -> None:
    assert find(buy("100", "50", date(2026, 1, 20)), sell("50", "40", FEB)) == []


def test_a_share_replaces_one_share_and_the_first_loss_comes_first() -> None:
    # 10 lost on 60 shares on 1 February, and 20 on 40 shares on 2 February; 80 bought on 3 February: 600, then 20 * 20.
    events: Sequence[Event] = [
        buy("100", "50", JAN),
        sell("60", "40", FEB),
        sell("40", "30", date(2026, 2, 2)),
        buy("80", "35", date(2026, 2, 3)),
    ]
    assert find(*events) == [("600.00", [("60", "Feb 3")]), ("400.00", [("20", "Feb 3")])]


def test_several_buys_replace_in_the_order_of_their_days() -> None:
    events = [
        buy("100", "50", JAN),
        sell("100", "40", FEB),
        buy("70", "42", date(2026, 2, 3)),
        buy("70", "42", date(2026, 2, 4)),
    ]
    assert find(*events) == [("1000.00", [("70", "Feb 3"), ("30", "Feb 4")])]


def test_a_replacement_that_was_sold_again_still_counts() -> None:
    # The buy after the sale is what counts, not what became of it. Its own loss has no buy of its own.
    events = [
        buy("10", "50", JAN),
        sell("10", "40", FEB),
        buy("10", "42", date(2026, 2, 3)),
        sell("10", "45", date(2026, 2, 4)),
    ]
    assert find(*events) == [("100.00", [("10", "Feb 3")])]


def test_shares_are_counted_alike_on_both_sides_of_a_split() -> None:
    # 10 sold at a loss of 100, then 1 share becomes 3, and 15 are bought: half of the 10.
    events: Sequence[Event] = [
        buy("20", "50", JAN),
        sell("10", "40", FEB),
        split("10", "30", date(2026, 2, 3)),
        buy("15", "14", date(2026, 2, 4)),
    ]
    assert find(*events) == [("50.00", [("5", "Feb 4")])]


def test_only_the_lots_with_a_loss_are_washed() -> None:
    # One sale at 45 of a lot of 50 (a loss of 5 each) and one of 40 (a gain): 10 * 5.
    events = [
        buy("10", "50", JAN),
        buy("10", "40", date(2026, 1, 2)),
        sell("20", "45", MAR),
        buy("20", "46", date(2026, 3, 2)),
    ]
    assert find(*events) == [("50.00", [("10", "Mar 2")])]
