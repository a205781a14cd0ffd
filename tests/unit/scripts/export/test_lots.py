"""Lots, first in, first out: what was paid and what was got never changes on the way."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.export.files import plain
from scripts.export.lots import is_long, match
from scripts.export.statement import Event, Fill, Split
from trader.model import NEW_YORK, Side

MONDAY = date(2026, 1, 5)


def fill(side: Side, quantity: str, price_usd: str, day: date = MONDAY, symbol: str = "A", name: str = "") -> Fill:
    """Return a fill at noon."""
    amount_usd = Decimal(quantity) * Decimal(price_usd)
    return Fill(
        fill_id=name or f"{side}-{day}-{quantity}",
        at=datetime.combine(day, time(12), NEW_YORK),
        symbol=symbol,
        side=side,
        quantity=Decimal(quantity),
        price_usd=Decimal(price_usd),
        amount_usd=amount_usd,
        order_id="order",
    )


def buy(quantity: str, price_usd: str, day: date = MONDAY, **more: str) -> Fill:
    return fill(Side.BUY, quantity, price_usd, day, **more)


def sell(quantity: str, price_usd: str, day: date = MONDAY, **more: str) -> Fill:
    return fill(Side.SELL, quantity, price_usd, day, **more)


def split(removed: str, added: str, day: date = MONDAY) -> Split:
    at = datetime.combine(day, time(), NEW_YORK)
    return Split(at=at, symbol="A", removed=Decimal(removed), added=Decimal(added))


def show(*numbers: Decimal | None) -> str:
    """Return numbers as a text that can be compared at a glance; a missing one is a question mark."""
    return " ".join("?" if each is None else plain(each) for each in numbers)


def test_the_oldest_shares_are_sold_first() -> None:
    ledger = match([buy("10", "100"), buy("10", "110"), sell("15", "120")])
    assert [show(each.quantity, each.gain_usd) for each in ledger.closed] == ["10 200", "5 50"]
    assert [show(lot.quantity, lot.cost_usd) for lot in ledger.lots] == ["5 550"]


def test_symbols_have_lots_of_their_own() -> None:
    ledger = match([buy("1", "100", symbol="A"), buy("1", "50", symbol="B"), sell("1", "60", symbol="B")])
    assert [each.gain_usd for each in ledger.closed] == [10]


def test_what_no_buy_covers_is_sold_without_a_cost() -> None:
    ledger = match([buy("2", "100"), sell("3", "90")])
    last = ledger.closed[1]
    assert show(last.quantity, last.cost_usd, last.proceeds_usd, last.gain_usd) == "1 ? 90 ?"


def test_a_split_changes_the_shares_and_not_what_was_paid() -> None:
    ledger = match([buy("10", "120"), split("10", "30"), sell("15", "50")])
    assert [show(each.quantity, each.cost_usd, each.gain_usd) for each in ledger.closed] == ["15 600 150"]
    assert ledger.quantities() == {"A": 15}


def test_a_reverse_split_leaves_a_part_of_a_share() -> None:
    ledger = match([buy("10", "1"), buy("5", "2"), split("15", "1.5")])
    assert [show(lot.quantity, lot.cost_usd) for lot in ledger.lots] == ["1 10", "0.5 10"]


def test_a_split_of_other_shares_than_the_lots_have_is_named() -> None:
    ledger = match([buy("10", "120"), split("20", "60")])
    assert [show(misfit.removed, held) for misfit, held in ledger.misfits] == ["20 10"]
    assert ledger.quantities() == {"A": 30}


@pytest.mark.parametrize(
    ("bought", "sold", "expected"),
    [
        (date(2025, 3, 10), date(2026, 3, 10), False),  # exactly a year
        (date(2025, 3, 10), date(2026, 3, 11), True),
        (date(2023, 2, 28), date(2024, 2, 29), False),  # its year begins on 1 March
        (date(2023, 2, 28), date(2024, 3, 1), True),
        (date(2024, 2, 29), date(2025, 2, 28), False),
        (date(2024, 2, 29), date(2025, 3, 1), True),
        (date(2024, 2, 28), date(2025, 2, 28), False),  # its year begins on 29 February
        (date(2024, 2, 28), date(2025, 3, 1), True),
    ],
)
def test_shares_are_long_term_from_the_day_after_a_year(bought: date, sold: date, expected: bool) -> None:
    assert is_long(bought, sold) is expected


# --- conservation ----------------------------------------------------------------------------------------------------

QUANTITIES = st.decimals("0.000000001", "5000", places=9)
PRICES = st.decimals("0.0001", "9000", places=4)
FILLS = st.builds(
    lambda side, quantity, price_usd: fill(side, str(quantity), str(price_usd)),
    st.sampled_from(Side),
    QUANTITIES,
    PRICES,
)
SPLITS = st.sampled_from([("1", "3"), ("3", "1"), ("7", "2"), ("1", "20")])


@given(st.lists(FILLS | SPLITS.map(lambda ratio: split(*ratio)), max_size=20))
def test_no_cent_and_no_share_is_lost(events: Sequence[Event]) -> None:
    known: list[Event] = []
    for event in events:  # a split of what is held, as a broker would make it
        held = match(known).quantities().get("A", Decimal(0))
        if isinstance(event, Fill):
            known.append(event)
        elif held:
            added = (held * event.added / event.removed).quantize(Decimal("1e-9"))
            known += [split(str(held), str(added))] if added else []
    ledger = match(known)
    fills = [each for each in known if isinstance(each, Fill)]
    paid_usd = sum(each.amount_usd for each in fills if each.side is Side.BUY)
    got_usd = sum(each.amount_usd for each in fills if each.side is Side.SELL)
    sold = sum(each.quantity for each in fills if each.side is Side.SELL)
    assert sum(each.cost_usd or 0 for each in ledger.closed) + ledger.cost_usd == paid_usd
    assert sum(each.proceeds_usd for each in ledger.closed) == got_usd
    assert sum(each.quantity for each in ledger.closed) == sold
    assert ledger.misfits == []


@given(st.lists(FILLS, max_size=20))
def test_without_splits_the_shares_held_are_those_bought_less_those_sold(fills: Sequence[Fill]) -> None:
    ledger = match(fills)
    unknown = sum(each.quantity for each in ledger.closed if each.bought is None)
    moved = sum(each.quantity if each.side is Side.BUY else -each.quantity for each in fills)
    assert ledger.quantities().get("A", Decimal(0)) - unknown == moved


@given(st.lists(FILLS, max_size=12), st.integers(0, 400))
def test_a_sale_never_closes_a_later_buy(fills: Sequence[Fill], days: int) -> None:
    apart = [fill(each.side, str(each.quantity), "1", MONDAY + timedelta(days * at)) for at, each in enumerate(fills)]
    assert all(each.bought is None or each.bought.at <= each.sold.at for each in match(apart).closed)
