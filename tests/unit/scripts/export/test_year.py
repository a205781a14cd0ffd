"""A year of an account, and what does not add up in it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import pytest

from scripts.export import lots
from scripts.export import year as years
from scripts.export.differences import Kind
from scripts.export.statement import Entry, Event, Fill, Group, Statement
from scripts.export.year import Year
from scripts.run.reconciliation import RecordedOrders
from tests.unit.scripts.export.test_lots import buy, sell, show, split
from trader.broker.base import OrderId
from trader.model import NEW_YORK, Order, OrderStatus, OrderType, Side

DECEMBER, JANUARY, MARCH = date(2025, 12, 1), date(2026, 1, 5), date(2026, 3, 2)


def entry(day: date, usd: str, group: Group = Group.FLOW) -> Entry:
    return Entry(entry_id=f"{group}-{day}", day=day, entered_at=None, kind="X", group=group, amount_usd=Decimal(usd))


def order(fill: Fill, client_order_id: str = "by-hand", **more: object) -> Order:
    """Return the order of a fill, whose id the fill names."""
    made = Order(
        client_order_id=client_order_id,
        symbol=fill.symbol,
        side=fill.side,
        quantity=float(fill.quantity),
        price_usd=float(fill.price_usd),
        status=OrderStatus.FILLED,
        order_id=fill.order_id,
        filled_quantity=float(fill.quantity),
        filled_at=fill.at,
    )
    return replace(made, **more)  # type: ignore[arg-type]  # the tests name fields of an order


def named(fills: Sequence[Fill]) -> list[Fill]:
    """Give each fill an order of its own."""
    return [replace(each, order_id=f"order-{number}") for number, each in enumerate(fills)]


def own_id(fill: Fill) -> str:
    return str(OrderId("trend", fill.at, fill.symbol, fill.side))


def make(
    events: Sequence[Event],
    *,
    entries: Sequence[Entry] = (),
    orders: Sequence[Order] | None = None,
    runs: Sequence[RecordedOrders] = (),
    number: int = 2026,
    off_usd: str = "0",
    today: date = date(2026, 6, 1),
    oldest: datetime | None = datetime(2025, 1, 1, tzinfo=NEW_YORK),
) -> Year:
    """Return the year of an account that began with 10,000 USD, and of which all but `off_usd` adds up."""
    fills = [each for each in events if isinstance(each, Fill)]
    statement = Statement(
        account="account",
        events=events,
        entries=entries,
        orders=[order(each) for each in fills] if orders is None else orders,
        cash_usd=Decimal(0),
        holdings=lots.match(events).quantities(),
        opening_usd=Decimal(10_000),
    )
    cash_usd = Decimal(10_000) + statement.moved_usd() + Decimal(off_usd)
    return years.make(
        replace(statement, cash_usd=cash_usd), runs, strategy="trend", number=number, today=today, oldest=oldest
    )


def kinds(year: Year) -> list[Kind]:
    return [each.kind for each in year.differences]


def test_a_buy_of_the_year_before_is_the_lot_of_a_sale() -> None:
    year = make(named([buy("10", "100", DECEMBER), sell("10", "120", JANUARY)]))
    assert [show(each.closed.gain_usd) for each in year.sales] == ["200"]
    assert [each.side for each in year.fills] == [Side.SELL]


def test_the_gains_income_and_fees_are_the_movement_of_the_cash() -> None:
    events = named([buy("10", "100", DECEMBER), sell("10", "120", JANUARY), buy("5", "50", MARCH)])
    entries = [
        entry(DECEMBER, "7", Group.DIVIDEND),
        entry(JANUARY, "3", Group.DIVIDEND),
        entry(JANUARY, "-0.5", Group.FEE),
        entry(MARCH, "1000"),
    ]
    year = make(events, entries=entries)
    assert show(*year.cash_usd) == "9007 10959.5"
    assert [(what, show(usd)) for what, usd in year.cash] == [
        ("gains, short term", "200"),
        ("dividends", "3"),
        ("fees", "-0.5"),
        ("deposits and withdrawals", "1000"),
        ("paid for shares that are held longer", "750"),
    ]
    assert (show(year.unexplained_usd), kinds(year)) == ("0", [])


def test_what_happens_after_the_year_changes_nothing_in_it() -> None:
    events = named([buy("10", "100", DECEMBER), sell("10", "120", JANUARY)])
    year = make(events, number=2025, entries=[entry(MARCH, "-500")])
    assert (show(*year.cash_usd), [show(each.quantity) for each in year.held]) == ("10000 9000", ["10"])


def test_a_wash_sale_of_december_is_found_by_a_buy_of_january() -> None:
    events = named([buy("10", "100", DECEMBER), sell("10", "90", date(2025, 12, 29)), buy("10", "95", JANUARY)])
    assert show(make(events, number=2025).disallowed_usd) == "100"


def test_cash_that_no_activity_explains_is_a_difference() -> None:
    year = make(named([buy("1", "100", JANUARY)]), off_usd="-0.02")
    assert ([show(each.usd) for each in year.differences], kinds(year)) == (["-0.02"], [Kind.CASH])
    assert show(year.unexplained_usd) == "-0.02"


def test_a_fill_in_parts_of_a_cent_may_be_rounded() -> None:
    fills = named([buy("0.333", "100.01", JANUARY)])
    assert (kinds(make(fills, off_usd="0.005")), kinds(make(fills, off_usd="0.006"))) == ([], [Kind.CASH])


def test_a_sale_of_shares_that_nobody_bought_is_a_difference() -> None:
    year = make(named([sell("10", "120", JANUARY)]))
    assert kinds(year) == [Kind.NO_BUY]
    assert (show(year.gain_usd(is_long=False)), year.cash[0][0]) == ("0", "sales without a known buy")


def test_a_split_of_other_shares_is_a_difference() -> None:
    assert kinds(make([*named([buy("10", "90", JANUARY)]), split("20", "60", MARCH)])) == [Kind.SPLIT]


@pytest.mark.parametrize(("group", "kind"), [(Group.SHARES, Kind.SHARES), (Group.UNKNOWN, Kind.UNKNOWN)])
def test_what_is_not_understood_is_a_difference(group: Group, kind: Kind) -> None:
    assert kinds(make([], entries=[entry(JANUARY, "5", group)])) == [kind]
    assert kinds(make([], entries=[replace(entry(JANUARY, "5", group), is_canceled=True)])) == []


# --- orders and records ----------------------------------------------------------------------------------------------


def record(*orders: Order) -> RecordedOrders:
    return RecordedOrders(slot=datetime(2026, 1, 5, 12, tzinfo=NEW_YORK), orders=orders)


def test_a_fill_of_an_order_on_record_agrees() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    mine = order(fill, own_id(fill))
    year = make([fill], orders=[mine], runs=[record(mine)])
    assert (kinds(year), year.origins[fill.fill_id].why) == ([], "rule")


def test_an_order_of_the_bot_without_a_record_is_a_difference() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    year = make([fill], orders=[order(fill, own_id(fill))], runs=[record()])
    assert kinds(year) == [Kind.NO_RECORD]


def test_a_record_that_is_gone_is_said() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    begun = datetime(2026, 2, 1, tzinfo=NEW_YORK)
    (found,) = make([fill], orders=[order(fill, own_id(fill))], oldest=begun).differences
    assert found.words.endswith("the journal begins 2026-02-01")


def test_the_leg_of_a_bracket_is_a_stop_or_a_target() -> None:
    bought, sold = named([buy("10", "100", JANUARY), sell("10", "90", MARCH)])
    leg = order(sold, "some-id", type=OrderType.STOP)
    entered = order(bought, own_id(bought), legs=(leg,))
    year = make([bought, sold], orders=[entered], runs=[record(entered)])
    assert (kinds(year), year.origins[sold.fill_id].why) == ([], "stop")


def test_an_order_that_the_broker_has_forgotten_is_known_from_its_record() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    year = make([fill], orders=[], runs=[record(order(fill, own_id(fill)))])
    assert (kinds(year), year.origins[fill.fill_id].why) == ([], "rule")


def test_a_fill_whose_order_nobody_knows_is_a_difference() -> None:
    assert kinds(make(named([buy("10", "100", JANUARY)]), orders=[])) == [Kind.NO_ORDER]


def test_an_order_of_another_strategy_is_named() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    other = order(fill, str(OrderId("other", fill.at, "A", Side.BUY)))
    year = make([fill], orders=[other])
    assert (kinds(year), year.origins[fill.fill_id].why) == ([], "strategy other")


def test_an_order_that_is_filled_and_has_no_fill_is_a_difference() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    (found,) = make([], orders=[order(fill)]).differences
    assert (found.kind, found.words) == (
        Kind.NO_FILL,
        "buy 10 filled by the broker's orders, 0 by the activities",
    )


def test_an_order_filled_by_its_record_alone_has_no_fill_either() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    assert kinds(make([], orders=[], runs=[record(order(fill, own_id(fill)))])) == [Kind.NO_FILL]


def test_the_parts_of_a_fill_add_up_to_their_order() -> None:
    first, second = (replace(buy(quantity, "100", JANUARY, name=quantity), order_id="one") for quantity in ("4", "6"))
    whole = replace(order(first), quantity=10.0, filled_quantity=10.0)
    assert kinds(make([first, second], orders=[whole])) == []
    assert kinds(make([first], orders=[whole])) == [Kind.NO_FILL]


def test_a_record_that_cannot_be_read_is_a_difference_and_hides_the_fills_of_no_other() -> None:
    (fill,) = named([buy("10", "100", JANUARY)])
    broken = RecordedOrders(slot=fill.at, problem="its record cannot be read")
    year = make([fill], orders=[order(fill, own_id(fill))], runs=[broken])
    assert kinds(year) == [Kind.UNREADABLE]
