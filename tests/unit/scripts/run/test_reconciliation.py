"""The comparison of the journal with the broker's books: what is a difference, what is a note, and what is neither."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from scripts.run.reconciliation import REMEDIES, Finding, Kind, RecordedOrders, compare, in_words, read_record
from tests.builders import SLOT, buy, sell, settings
from trader.journal.base import Run
from trader.journal.record import build_record, build_report
from trader.model import Code, Denial, Order, OrderStatus, OrderType, Side, Unprotected

ACCEPTED = replace(buy("A", 4), status=OrderStatus.ACCEPTED)
FILLED = replace(ACCEPTED, status=OrderStatus.FILLED, filled_quantity=4.0, filled_price_usd=99.5)
REJECTED = replace(ACCEPTED, status=OrderStatus.REJECTED)
PART = replace(FILLED, status=OrderStatus.CANCELED, filled_quantity=1.0)
STOP = replace(
    sell("A", 4),
    client_order_id="trend-20221228T2045Z-A-stop1",
    type=OrderType.STOP,
    stop_loss_usd=97.0,
    status=OrderStatus.NEW,
)


def of(*orders: Order, **parts: Any) -> RecordedOrders:
    return RecordedOrders(slot=SLOT, status="TRADED", orders=orders, **parts)


def compare_sheets(sheets: Sequence[RecordedOrders], *booked: Order) -> list[tuple[Kind, bool]]:
    return [(each.kind, each.is_difference) for each in compare(sheets, booked).findings]


def words(sheets: Sequence[RecordedOrders], *booked: Order) -> str:
    (finding,) = compare(sheets, booked).findings
    return finding.words


@pytest.mark.parametrize("order", [ACCEPTED, FILLED, PART, REJECTED])
def test_what_the_record_says_is_no_finding(order: Order) -> None:
    assert compare_sheets([of(order)], order) == []


def test_another_status_without_another_fill_is_no_finding() -> None:
    assert compare_sheets([of(ACCEPTED)], replace(ACCEPTED, status=OrderStatus.NEW)) == []


@pytest.mark.parametrize(("then", "now"), [(ACCEPTED, FILLED), (ACCEPTED, PART), (PART, FILLED), (REJECTED, FILLED)])
def test_a_fill_after_the_record_is_a_difference(then: Order, now: Order) -> None:
    assert compare_sheets([of(then)], now) == [(Kind.FILLED_LATER, True)]


def test_a_later_fill_is_reported_with_its_price() -> None:
    assert words([of(ACCEPTED)], FILLED) == "accepted in its record, filled, 4 at 99.50 in the books"


def test_a_fill_that_the_books_have_taken_back_is_a_difference() -> None:
    assert compare_sheets([of(FILLED)], PART) == [(Kind.DIFFERENT, True)]


STOPPED = replace(STOP, status=OrderStatus.FILLED, filled_quantity=4.0, filled_price_usd=97.0)
TAKEN = replace(STOPPED, type=OrderType.LIMIT, stop_loss_usd=None, take_profit_usd=120.0)


@pytest.mark.parametrize(
    ("booked", "names"),
    [
        ([replace(FILLED, legs=(replace(STOPPED, client_order_id="x"), replace(STOP, client_order_id="y")))], ["x"]),
        ([FILLED, replace(TAKEN, client_order_id=f"{FILLED.client_order_id}-take-profit")], ["-take-profit"]),
        ([FILLED, replace(STOPPED, client_order_id="another's-stop-loss")], []),
        ([FILLED], []),
    ],
    ids=["a leg in its order", "a leg beside its order", "another's leg", "no leg sold"],
)
def test_sales_by_the_legs_of_recorded_orders_are_exits(booked: list[Order], names: list[str]) -> None:
    exits = compare([of(FILLED)], booked).exits
    assert [each.client_order_id.removeprefix(FILLED.client_order_id) for each in exits] == names


def test_a_filled_stop_that_a_run_placed_is_an_exit() -> None:
    assert list(compare([of(stops=[STOP])], [STOPPED]).exits) == [STOPPED]


def test_an_orders_later_status_is_still_reported() -> None:
    (pair,) = compare([of(ACCEPTED)], [FILLED]).pairs
    assert (pair.recorded.status, pair.booked.status) == ("accepted", "filled")


@pytest.mark.parametrize("status", [OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.EXPIRED])
def test_an_order_that_came_to_nothing_later_is_a_difference(status: OrderStatus) -> None:
    assert compare_sheets([of(ACCEPTED)], replace(ACCEPTED, status=status)) == [(Kind.CAME_TO_NOTHING, True)]


@pytest.mark.parametrize(
    "now",
    [
        STOP,
        replace(STOP, status=OrderStatus.FILLED, filled_quantity=4.0, filled_price_usd=97.0),
        replace(STOP, status=OrderStatus.CANCELED),
    ],
)
def test_a_stop_that_waits_or_is_filled_or_canceled_is_no_finding(now: Order) -> None:
    assert compare_sheets([of(stops=[STOP])], now) == []


@pytest.mark.parametrize("status", [OrderStatus.REJECTED, OrderStatus.EXPIRED])
def test_a_stop_that_ended_otherwise_is_a_difference(status: OrderStatus) -> None:
    assert compare_sheets([of(stops=[STOP])], replace(STOP, status=status)) == [(Kind.CAME_TO_NOTHING, True)]


def test_a_stop_that_is_not_in_the_books_is_a_difference() -> None:
    assert compare_sheets([of(stops=[STOP])]) == [(Kind.NOT_IN_BOOKS, True)]


def test_a_stop_for_another_quantity_is_a_difference() -> None:
    assert compare_sheets([of(stops=[STOP])], replace(STOP, quantity=3)) == [(Kind.DIFFERENT, True)]


def test_a_stop_in_the_books_without_a_record_is_a_difference() -> None:
    assert compare_sheets([of()], STOP) == [(Kind.NO_RECORD, True)]


def test_an_order_recorded_as_rejected_is_not_a_finding() -> None:
    assert compare_sheets([of(REJECTED)], REJECTED) == []


def test_an_order_in_the_books_without_a_record_is_a_difference() -> None:
    assert compare_sheets([of()], FILLED) == [(Kind.NO_RECORD, True)]
    assert "its record lacks it" in words([of()], FILLED)
    assert "its slot has no record" in words([], FILLED)


def test_a_rejected_order_recorded_as_a_denial_is_not_a_finding() -> None:
    assert compare_sheets([of(refused=frozenset({"A"}))], REJECTED) == []


def test_a_filled_order_recorded_as_a_denial_is_a_difference() -> None:
    assert compare_sheets([of(refused=frozenset({"A"}))], FILLED) == [(Kind.NO_RECORD, True)]


def test_an_order_that_is_not_in_the_books_is_a_difference() -> None:
    assert compare_sheets([of(ACCEPTED)]) == [(Kind.NOT_IN_BOOKS, True)]


@pytest.mark.parametrize(
    ("booked", "said"),
    [
        (replace(FILLED, quantity=5), "quantity 4 in the record, 5 in the books"),
        (replace(FILLED, side=Side.SELL), "side buy in the record, sell in the books"),
        (replace(FILLED, symbol="B"), "symbol A in the record, B in the books"),
    ],
)
def test_an_order_that_differs_in_the_books_is_a_difference(booked: Order, said: str) -> None:
    assert compare_sheets([of(ACCEPTED)], booked) == [(Kind.DIFFERENT, True)]
    assert words([of(ACCEPTED)], booked) == said


def test_a_rounding_error_is_not_a_difference() -> None:
    sum_of_parts = replace(FILLED, quantity=0.1 + 0.2, filled_quantity=0.1 + 0.2)
    assert compare_sheets([of(sum_of_parts)], replace(FILLED, quantity=0.3, filled_quantity=0.3)) == []


@pytest.mark.parametrize(("booked", "said"), [([FILLED], "it is filled, 4 at 99.50"), ([], "it is not in the books")])
def test_the_outcome_of_an_order_of_unknown_fate_is_reported(booked: Sequence[Order], said: str) -> None:
    sheets = [of(replace(ACCEPTED, status=OrderStatus.UNKNOWN))]
    assert compare_sheets(sheets, *booked) == [(Kind.UNKNOWN, False)]
    assert words(sheets, *booked) == said


def test_a_run_that_was_recorded_as_cut_off_is_a_note() -> None:
    cut_off = RecordedOrders(slot=SLOT, status="INTERRUPTED", detail="its run was cut off")
    assert compare_sheets([cut_off]) == [(Kind.INTERRUPTED, False)]


def test_an_unreadable_record_is_one_difference() -> None:
    assert compare_sheets([read_record(SLOT, [])], FILLED) == [(Kind.UNREADABLE, True)]


def test_findings_are_sorted_by_slot() -> None:
    early = RecordedOrders(slot=SLOT - timedelta(days=1), status="INTERRUPTED")
    slots = [each.slot for each in compare([of(ACCEPTED), early], []).findings]
    assert slots == [early.slot, SLOT]


def test_a_records_orders_and_refusals_are_read() -> None:
    run = Run(settings=settings(), slot=SLOT, now=SLOT)
    run.outcomes += [FILLED, Denial(symbol="B", code=Code.ORDER_REJECTED, detail="no")]
    run.note_stop(STOP)
    run.unprotected["C"] = Unprotected(symbol="C", reason="no order was refused", is_ours=True)
    expected = RecordedOrders(slot=SLOT, status="TRADED", orders=[FILLED], stops=[STOP], refused=frozenset({"B"}))
    assert read_record(SLOT, build_record(run, build_report(run, "TRADED"))) == expected


def test_a_record_from_before_there_were_stops_is_read() -> None:
    run = Run(settings=settings(), slot=SLOT, now=SLOT, outcomes=[FILLED])
    record = build_record(run, build_report(run, "TRADED"))
    del record["report"]["stops"]
    assert read_record(SLOT, record).stops == []


@pytest.mark.parametrize("record", [None, [], {}, {"report": 1}, {"report": {"status": "TRADED", "orders": [1]}}])
def test_an_invalid_record_is_reported_as_unreadable(record: object) -> None:
    assert "its record cannot be read" in read_record(SLOT, record).problem


def test_every_difference_has_a_remedy() -> None:
    for kind in Kind:
        assert not Finding(kind=kind, slot=SLOT, words="").is_difference or kind in REMEDIES


def test_a_sale_without_a_fill_is_described_by_its_status() -> None:
    assert in_words(replace(sell(), status=OrderStatus.NEW)) == "new"
