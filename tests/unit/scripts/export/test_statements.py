"""What a broker wrote becomes fills, splits and entries, and what is not understood is kept as it came."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from scripts.export import alpaca, embedded
from scripts.export.lots import match
from scripts.export.statement import Entry, Event, Fill, Group, Split
from tests.unit.scripts.export.test_lots import buy, sell, show
from trader.broker.base import UnexpectedResponseError
from trader.broker.book import Restatement
from trader.model import NEW_YORK

FILL = {
    "id": "20260102135509981::a",
    "activity_type": "FILL",
    "transaction_time": "2026-01-03T00:55:09.981Z",
    "type": "fill",
    "price": "174.7812",
    "qty": "0.123456789",
    "side": "buy",
    "symbol": "AAPL",
    "order_id": "b5abe576",
}
ENTRY = {"id": "20260105000000000::b", "activity_type": "DIV", "date": "2026-01-05", "net_amount": "1.02"}


def parse(*activities: dict[str, Any]) -> tuple[list[Event], list[Entry]]:
    return alpaca.parse(activities)


def test_a_fill_keeps_every_digit_and_has_its_day_in_new_york() -> None:
    ((fill,), _) = parse(FILL)
    assert isinstance(fill, Fill)
    assert (fill.day, str(fill.amount_usd)) == (date(2026, 1, 2), "21.5779257295668")


@pytest.mark.parametrize(
    ("kind", "sub_type", "group"),
    [
        ("DIV", "CDIV", Group.DIVIDEND),
        ("DIV", "SDIV", Group.SHARES),
        ("DIVCGL", "", Group.DIVIDEND),
        ("DIVNRA", "", Group.WITHHELD),
        ("INT", "MGN", Group.INTEREST),
        ("FEE", "TAF", Group.FEE),
        ("CFEE", "", Group.FEE),
        ("JNLC", "", Group.FLOW),
        ("CSW", "", Group.FLOW),
        ("SPIN", "", Group.SHARES),
        ("NEWS", "", Group.UNKNOWN),
    ],
)
def test_every_type_has_its_group(kind: str, sub_type: str, group: Group) -> None:
    _, (entry,) = parse({**ENTRY, "activity_type": kind, "activity_sub_type": sub_type})
    assert entry.group is group
    assert bool(entry.raw) is (group in {Group.SHARES, Group.UNKNOWN})


def test_a_split_is_the_old_shares_and_the_new_ones() -> None:
    parts = [{**ENTRY, "id": qty, "activity_type": "SPLIT", "symbol": "A", "qty": qty} for qty in ("-10", "40")]
    (split,), entries = parse(*parts)
    assert (split, entries) == (
        Split(at=datetime(2026, 1, 5, tzinfo=NEW_YORK), symbol="A", removed=Decimal(10), added=Decimal(40)),
        [],
    )


def test_a_split_with_one_side_only_is_kept_as_it_came() -> None:
    events, (entry,) = parse({**ENTRY, "activity_type": "SPLIT", "symbol": "A", "qty": "30"})
    assert (events, entry.group) == ([], Group.SHARES)
    assert '"qty": "30"' in entry.raw


def test_an_option_counts_for_a_hundred_shares_and_is_no_lot() -> None:
    events, (entry,) = parse({**FILL, "symbol": "AAPL260116C00150000", "qty": "2", "price": "1.5"})
    assert (len(events), show(entry.amount_usd), entry.group) == (0, "-300", Group.UNKNOWN)


def test_what_is_canceled_is_kept_and_marked() -> None:
    _, (entry,) = parse({**ENTRY, "status": "canceled"})
    assert entry.is_canceled


@pytest.mark.parametrize(
    "change",
    [
        {"price": "NaN"},
        {"qty": "many"},
        {"transaction_time": "today"},
        {"transaction_time": "2026-01-02T10:00:00"},
        {"symbol": None},
        {"activity_type": 7},
    ],
)
def test_an_activity_that_cannot_be_read_stops_the_export(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(UnexpectedResponseError, match=f"an activity has {name}="):
        parse({**FILL, **change})


# --- the embedded account --------------------------------------------------------------------------------------------

DAY = date(2026, 1, 5)


def restated(day: date, ratio: float, before: float, after: float, fraction_usd: float = 0.0) -> Restatement:
    return Restatement(
        at=datetime(day.year, day.month, day.day, 16, tzinfo=NEW_YORK),
        symbol="A",
        ratio=ratio,
        quantity_before=before,
        quantity_after=after,
        fraction_usd=fraction_usd,
    )


def test_a_stop_that_sold_new_shares_comes_after_the_split_that_was_noticed_later() -> None:
    events = embedded.weave(
        [buy("10", "120", DAY), sell("30", "35", DAY + timedelta(1))], [restated(DAY + timedelta(2), 3, 10, 30)]
    )
    ledger = match(events)
    assert [type(each).__name__ for each in events] == ["Fill", "Split", "Fill"]
    assert events == sorted(events, key=lambda each: each.at)
    assert (len(ledger.misfits), [show(each.gain_usd) for each in ledger.closed]) == (0, ["-150"])


def test_a_split_between_two_trades_of_the_old_and_the_new_shares() -> None:
    fills = [buy("10", "120", DAY), sell("4", "120", DAY + timedelta(1)), sell("18", "40", DAY + timedelta(9))]
    ledger = match(embedded.weave(fills, [restated(DAY + timedelta(5), 3, 6, 18)]))
    assert (len(ledger.misfits), ledger.quantities()) == (0, {})
    assert [show(each.gain_usd) for each in ledger.closed] == ["0", "0"]


def test_the_part_of_a_share_that_a_split_leaves_is_sold() -> None:
    ledger = match(embedded.weave([buy("3", "10", DAY)], [restated(DAY + timedelta(5), 0.5, 3, 1, 9.5)]))
    assert ledger.quantities() == {"A": 1}
    assert [show(each.quantity, each.cost_usd, each.proceeds_usd) for each in ledger.closed] == ["0.5 10 9.5"]
