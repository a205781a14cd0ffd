"""Recovery: what it reads from a plan and from the broker's books, and what it writes."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import SLOT, account, buy, sell, settings
from trader.broker.base import OrderId, UnexpectedResponseError
from trader.broker.embedded import EmbeddedBroker
from trader.deadline import ORDER_TIME_S, Deadline
from trader.journal.base import Run
from trader.journal.entry import Journal
from trader.journal.recovery import (
    PlannedRun,
    complete_orders,
    describe,
    find_unlisted,
    load_plan,
    recover,
    select_slot,
)
from trader.journal.stores import Folder
from trader.model import BrokerError, Decision, Observation, Order, OrderStatus, RunStopped, Side
from trader.wiring import open_journal

NOW = SLOT + timedelta(hours=1)
FILLED = replace(buy("A", 4), status=OrderStatus.FILLED, order_id="1", filled_quantity=4.0, filled_price_usd=99.5)


def filled(order: Order) -> Order:
    """Return the order as a broker reports it: filled, and without the reason for it."""
    return replace(
        order, status=OrderStatus.FILLED, order_id="1", filled_quantity=order.quantity, price_usd=99.5, reason=""
    )


# --- who placed an order ---


def test_an_order_id_is_parsed_into_its_parts() -> None:
    text = str(OrderId("a-b2", SLOT, "BRK.B", Side.SELL))
    assert OrderId.parse(text) == OrderId("a-b2", SLOT, "BRK.B", Side.SELL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "by hand",
        "904837e3-3b76-47ec-b432-046db621571b",
        "trend-20221228T2045Z-AAPL-buy-stop-loss",
        "trend-20221228T2045Z-AAPL-hold",
        "trend-20229928T2045Z-AAPL-buy",
        "trend-20221228T2045Z--buy",
    ],
)
def test_an_id_that_is_not_ours_is_not_parsed(text: str) -> None:
    assert OrderId.parse(text) is None


def test_a_strategy_whose_name_begins_like_ours_is_not_ours() -> None:
    names = ["a", "a-b", "a-b-c", "b"]
    orders = [replace(buy(), client_order_id=str(OrderId(name, SLOT, "AAPL", Side.BUY))) for name in names]
    assert select_slot(orders, "a-b", SLOT) == [orders[1]]


def test_the_orders_of_another_slot_are_not_selected() -> None:
    assert select_slot([buy()], "trend", SLOT + timedelta(minutes=15)) == []


# --- orders missing from the list ---


@dataclass
class Known:
    """Books that find orders by their ids, although their list is empty."""

    orders: dict[str, Order]
    error: BrokerError | None = None
    asked: list[str] = field(default_factory=list)

    def list_orders(self, since: datetime, until: datetime) -> Sequence[Order]:  # noqa: ARG002 the list is always empty
        return ()

    def find(self, order: Order) -> Order | None:
        self.asked.append(order.client_order_id)
        if self.error:
            raise self.error
        return self.orders.get(order.client_order_id)


def test_a_planned_order_that_the_list_lacks_is_found_by_its_id() -> None:
    books = Known({FILLED.client_order_id: FILLED})
    assert find_unlisted([buy("A"), buy("B")], [], books, Deadline.never()) == [FILLED]


def test_a_listed_order_is_not_looked_up() -> None:
    books = Known({})
    assert find_unlisted([buy("A")], [FILLED], books, Deadline.never()) == []
    assert books.asked == []


def test_at_most_100_orders_are_looked_up() -> None:
    books = Known({})
    find_unlisted([buy(f"A{number}") for number in range(300)], [], books, Deadline.never())
    assert len(books.asked) == 100


def test_an_unexpected_answer_does_not_stop_the_recovery() -> None:
    assert (
        find_unlisted([buy("A")], [], Known({}, UnexpectedResponseError("404, page not found")), Deadline.never()) == []
    )


def test_a_broker_that_does_not_answer_stops_the_recovery() -> None:
    with pytest.raises(BrokerError, match="no answer"):
        find_unlisted([buy("A")], [], Known({}, BrokerError("no answer")), Deadline.never())


def test_without_time_left_the_recovery_is_left_to_the_next_run() -> None:
    with pytest.raises(BrokerError, match="no time to look up all orders of an earlier run"):
        find_unlisted([buy("A")], [], Known({}), Deadline(lambda: ORDER_TIME_S - 1))


# --- what is known about the orders ---


def test_the_decided_price_and_the_reason_come_from_the_plan() -> None:
    planned = replace(buy("A", 4), reason="below its line")
    (order,) = complete_orders([filled(planned)], PlannedRun({}, [planned]))
    assert (order.price_usd, order.reason, order.status) == (100, "below its line", "filled")


def test_the_quantity_comes_from_the_broker() -> None:
    planned = sell("A", 10)
    assert complete_orders([filled(replace(planned, quantity=6))], PlannedRun({}, [planned]))[0].quantity == 6


def test_without_a_plan_an_order_is_as_the_broker_has_it() -> None:
    assert complete_orders([FILLED], None) == [FILLED]


@pytest.mark.parametrize(
    ("plan", "orders", "words"),
    [
        (
            [buy("A", 4), buy("B", 2), sell("C")],
            [filled(buy("A", 4))],
            "1 of 3 planned orders is in the broker's books: buy 4 A (filled); not placed: buy B, sell C",
        ),
        ([buy("A")], [], "0 of 1 planned orders are in the broker's books; not placed: buy A"),
        ([buy("A", 4)], [filled(buy("A", 4))], "1 of 1 planned orders is in the broker's books: buy 4 A (filled)"),
        ([], [], "0 of 0 planned orders are in the broker's books"),
    ],
)
def test_the_detail_says_what_was_placed_and_what_was_not(
    plan: Sequence[Order], orders: Sequence[Order], words: str
) -> None:
    assert describe(PlannedRun({}, plan), orders) == f"its run was cut off; {words}"


@pytest.mark.parametrize(("orders", "words"), [([], "no orders from it"), ([FILLED], "buy 4 A (filled)")])
def test_without_a_plan_the_detail_says_so(orders: Sequence[Order], words: str) -> None:
    assert describe(None, orders) == (f"its run was cut off and has no plan on record; the broker's books have {words}")


# --- a whole recovery, with a folder and the embedded broker ---


class Site:
    """The journal and account of a strategy whose runs are cut off."""

    def __init__(self, folder: Path) -> None:
        self.journal: Journal = open_journal(f"folder:{folder / 'journal'}", "trend")
        self.broker = EmbeddedBroker(
            folder / "account.json", now=SLOT, starting_cash_usd=10_000, series=lambda _symbols: {}
        )
        self.account_file = folder / "account.json"
        self.settings = settings()

    def cut_off(self, slot: datetime, *orders: Order, noted: bool = True) -> None:
        """Leave a run that claimed the slot and, if `noted`, recorded a plan with these orders."""
        self.journal.entry(slot).claim("word", slot + timedelta(minutes=5))
        decision = Decision(orders=orders)
        seen = Observation(slot=slot, now=slot, account=account(), positions={}, open_orders=(), ranking={}, closes={})
        if noted:
            run = Run(settings=self.settings, slot=slot, now=slot, observation=seen, decision=decision)
            self.journal.entry(run.slot).note_plan(run)

    def books(self, *orders: Order) -> None:
        """Put these orders in the broker's books."""
        book = {
            "cash_usd": 10_000,
            "last_equity_usd": 10_000,
            "as_of": SLOT.isoformat(),
            "positions": {},
            "brackets": {},
        }
        text = {order.client_order_id: {name: getattr(order, name) for name in Order.__slots__} for order in orders}
        self.account_file.write_text(json.dumps(book | {"orders": text}))

    def recovered(self, remaining_s: float = math.inf, now: datetime = NOW) -> list[datetime]:
        """Run recovery at `now` and return the slots it recovers."""
        run = Run(settings=self.settings, slot=now, now=now)
        recover(run, self.journal, self.broker, Deadline(lambda: remaining_s))
        return run.recovered

    def record(self, slot: datetime = SLOT) -> dict[str, Any]:
        return dict(self.journal.entry(slot).load())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_run_that_was_cut_off_gets_its_record(site: Site) -> None:
    site.cut_off(SLOT, buy("A", 4), buy("B", 2))
    site.books(filled(buy("A", 4)))
    assert site.recovered() == [SLOT]
    report = site.record()["report"]
    assert (report["status"], report["investments"], [each["symbol"] for each in report["orders"]]) == (
        "INTERRUPTED",
        {"A": 4},
        ["A"],
    )
    assert report["detail"].endswith("not placed: buy B")


def test_what_the_run_had_decided_stays_in_its_record(site: Site) -> None:
    site.cut_off(SLOT, buy("A", 4))
    site.recovered()
    record = site.record()
    assert [order["symbol"] for order in record["decision"]["orders"]] == ["A"]
    assert record["observation"]["account"]["equity_usd"] == 100_000
    assert record["settings"] == site.settings.public()


def test_an_order_that_the_broker_refused_is_not_an_investment(site: Site) -> None:
    site.cut_off(SLOT, buy("A", 4))
    site.books(replace(buy("A", 4), status=OrderStatus.REJECTED))
    site.recovered()
    report = site.record()["report"]
    assert (report["investments"], [order["status"] for order in report["orders"]]) == ({}, ["rejected"])


def test_a_run_without_a_plan_gets_a_record_without_decisions(site: Site) -> None:
    site.cut_off(SLOT, noted=False)
    assert site.recovered() == [SLOT]
    record = site.record()
    assert (record["report"]["strategy"], record["report"]["slot"]) == ("trend", "2022-12-28T20:45:00Z")
    assert (record["settings"], record["observation"], record["decision"]) == ({}, None, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"version": 1}', '{"version": 2, "report": {}}'])
def test_a_plan_that_cannot_be_read_does_not_stop_recovery(
    site: Site, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.cut_off(SLOT, noted=False)
    site.journal.store.write(site.journal.entry(SLOT).plan_name, text)
    site.books(filled(buy("A", 4)))
    assert site.recovered() == [SLOT]
    assert site.record()["report"]["investments"] == {"A": 4}
    assert "the plan of a run that was cut off cannot be read" in {record.message for record in caplog.records}


def test_a_plan_with_an_invalid_order_is_not_loaded(site: Site) -> None:
    site.cut_off(SLOT, buy("A"))
    name = site.journal.entry(SLOT).plan_name
    record: dict[str, Any] = dict(site.journal.load(name))
    record["decision"]["orders"][0]["side"] = "hold"
    site.journal.store.write(name, json.dumps(record))
    assert load_plan(site.journal.entry(SLOT)) is None


def test_a_run_that_may_still_be_under_way_is_left_alone(site: Site) -> None:
    site.cut_off(SLOT, buy("A"))
    with pytest.raises(RunStopped, match=r"the run of 2022-12-28T20:45:00Z has not ended yet; .* 2022-12-28T20:51:00Z"):
        site.recovered(now=SLOT + timedelta(minutes=6))
    assert site.journal.list_records() == []


def test_a_past_run_is_recovered_while_another_is_under_way(site: Site) -> None:
    site.cut_off(SLOT)
    site.cut_off(NOW - timedelta(minutes=1))
    with pytest.raises(RunStopped, match="has not ended yet"):
        site.recovered()
    assert site.record()["report"]["status"] == "INTERRUPTED"


def test_the_runs_own_slot_is_left_alone(site: Site) -> None:
    site.journal.entry(NOW).claim("word", NOW - timedelta(hours=1))
    assert site.recovered() == []


def test_each_of_several_runs_is_recovered_once(site: Site) -> None:
    slots = [SLOT - timedelta(minutes=30), SLOT]
    for slot in slots:
        site.cut_off(slot)
    assert site.recovered() == slots
    assert site.recovered() == []


def test_without_time_a_slot_is_left_to_the_next_run(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.cut_off(SLOT)
    assert site.recovered(remaining_s=ORDER_TIME_S - 1) == []
    assert [record.message for record in caplog.records] == ["no time to recover; the next run tries again"]
    assert site.recovered(remaining_s=ORDER_TIME_S) == [SLOT]


def test_each_recovered_slot_is_an_error_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.cut_off(SLOT, buy("A", 4), buy("B", 2))
    site.books(filled(buy("A", 4)), filled(buy("B", 2)))
    site.recovered()
    (line,) = [vars(record) for record in caplog.records if record.levelno == logging.ERROR]
    assert (line["message"], line["strategy"], line["slot"], line["orders"], line["symbols"]) == (
        "interrupted",
        "trend",
        "2022-12-28T20:45:00Z",
        2,
        "A,B",
    )


def test_a_broker_that_cannot_be_asked_leaves_the_slot_to_the_next_run(site: Site) -> None:
    site.cut_off(SLOT)
    site.account_file.write_text("no account")
    with pytest.raises(BrokerError):
        site.recovered()
    site.account_file.unlink()
    assert site.recovered() == [SLOT]


class Crossing(Folder):
    """A store in which another run is faster: its record is written just before ours."""

    def create(self, name: str, text: str) -> bool:
        if name.endswith(".json"):
            self.write(name, '{"theirs": true}')
        return super().create(name, text)


def test_a_run_that_ends_in_the_meantime_keeps_its_own_record(tmp_path: Path, site: Site) -> None:
    site.cut_off(SLOT)
    site.journal = Journal(Crossing(tmp_path / "journal"), "trend")
    assert site.recovered() == []
    assert site.record() == {"theirs": True}


def test_a_claim_from_a_wrong_clock_does_not_stop_the_recovery(site: Site) -> None:
    for slot in (NOW + timedelta(days=400), NOW + timedelta(minutes=6)):
        site.journal.entry(slot).claim("word", slot + timedelta(minutes=5))
    assert site.recovered() == []


def test_an_endless_claim_is_over_when_no_run_can_last_longer(site: Site) -> None:
    site.journal.entry(SLOT).claim("word", NOW + timedelta(days=400))
    assert site.recovered(now=SLOT + timedelta(minutes=22)) == [SLOT]


def test_a_run_in_another_account_is_left_alone(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.cut_off(SLOT, buy("A", 4))
    site.settings = settings(ACCOUNT_FILE="another.json")
    assert site.recovered() == []
    assert site.journal.list_records() == []
    assert [vars(record)["settings"] for record in caplog.records if record.levelno == logging.ERROR] == [
        "account_file=out/account.json"
    ]


def test_a_planned_sale_that_is_missing_may_have_lost_its_stop(site: Site) -> None:
    site.cut_off(SLOT, sell("A", 4))
    site.recovered()
    assert site.record()["report"]["unprotected"] == ["A"]


def test_a_run_of_a_week_ago_is_recovered(site: Site) -> None:
    site.cut_off(SLOT)
    assert site.recovered(now=SLOT + timedelta(days=7, seconds=7)) == [SLOT]
