"""Returns by day without deposits, refusals by reason, and days without a run."""

from datetime import date, timedelta
from typing import Any

import pytest

from scripts.owner.figures import count_refusals, draw_curve, find_missed, list_spans
from scripts.owner.records import Seen, parse
from tests.builders import SLOT
from tests.run_record import denial, record
from trader.journal.base import JournalError
from trader.schedule.base import parse_slot_id


def seen(day: int, equity_usd: float | None, before_usd: float | None = None, **values: Any) -> Seen:
    """Return a run of a day, counted from Wednesday, 28 December 2022."""
    given = {"status": "TRADED", "detail": "", "mode": "paper", "flows_usd": 0.0, "denials": (), "unprotected": ()}
    return Seen(
        slot=SLOT + timedelta(days=day),
        equity_usd=equity_usd,
        first_equity_usd=equity_usd if before_usd is None else before_usd,
        observed=None,
        **{**given, **values},
    )


def measure(*runs: Seen, days: int | None = None) -> float | None:
    curve = draw_curve(runs)
    return None if curve is None else curve.measure(days)


def test_the_return_is_that_of_the_last_run_of_each_day() -> None:
    assert measure(seen(0, 100.0), seen(0, 110.0), seen(1, 121.0)) == pytest.approx(0.21)


def test_the_return_of_the_last_day_begins_at_the_day_before() -> None:
    assert measure(seen(0, 100.0), seen(1, 110.0), seen(2, 99.0), days=1) == pytest.approx(-0.1)


DECEMBER = [date(2022, 12, day) for day in (20, 21, 22, 23, 27, 28)]
"""Trading days in a row: the 26th was a holiday."""


@pytest.mark.parametrize(
    ("days", "spans"),
    [
        pytest.param(DECEMBER[-1:], [], id="a first day"),
        pytest.param(DECEMBER, [("last day", 1, DECEMBER[4]), ("last 5 days", 5, DECEMBER[0])], id="every day"),
        pytest.param([DECEMBER[2], DECEMBER[5]], [("after 22 Dec 2022", 1, DECEMBER[2])], id="a pause"),
        pytest.param([DECEMBER[0], DECEMBER[5]], [("last 5 days", 1, DECEMBER[0])], id="once a week"),
    ],
)
def test_a_span_has_a_name_only_if_it_is_as_long(days: list[date], spans: list[tuple[str, int, date]]) -> None:
    assert list_spans(days) == spans


def test_a_deposit_is_no_gain_and_a_withdrawal_no_loss() -> None:
    assert measure(seen(0, 100.0), seen(1, 150.0, flows_usd=50.0)) == pytest.approx(0.0)
    assert measure(seen(0, 100.0), seen(1, 60.0, flows_usd=-50.0)) == pytest.approx(0.1)


def test_a_deposit_before_the_first_run_is_part_of_what_it_began_with() -> None:
    assert measure(seen(0, 165.0, 150.0, flows_usd=50.0)) == pytest.approx(0.1)


def test_runs_that_knew_no_equity_have_no_return() -> None:
    assert measure(seen(0, None, None)) is None


def test_refusals_are_counted_by_reason_and_cuts_are_none() -> None:
    runs = [
        seen(0, 1.0, denials=[("A", "PAUSED", False), ("B", "ORDER_CAP", True)]),
        seen(1, 1.0, denials=[("A", "PAUSED", False)]),
    ]
    assert count_refusals(runs) == {"PAUSED": 2}


def test_trading_days_without_a_run_are_missed_and_holidays_are_not() -> None:
    assert find_missed([seen(0, 1.0), seen(7, 1.0)]) == [date(2022, 12, 29), date(2022, 12, 30), date(2023, 1, 3)]


def test_a_run_while_the_market_was_closed_saw_nothing_of_its_day() -> None:
    runs = [seen(0, 1.0), seen(1, None, status="MARKET_CLOSED"), seen(2, 1.0)]
    assert find_missed(runs) == [date(2022, 12, 29)]


def test_a_record_is_read_without_its_prices() -> None:
    made = record(denials=[denial("EEE", "PAUSED", "a stop")])
    slot = parse_slot_id("20221228T2100Z")
    assert slot is not None
    run = parse(slot, made)
    assert (run.status, run.denials) == (made["report"]["status"], [("EEE", "PAUSED", False)])
    assert run.observed is not None
    assert "closes" not in run.observed


def test_the_record_of_another_slot_is_refused() -> None:
    with pytest.raises((ValueError, JournalError), match="it is the record of"):
        parse(SLOT + timedelta(days=1), record())
