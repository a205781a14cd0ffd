"""Several slots end to end: what one run leaves behind, and what the next one makes of it."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lambda_function import run
from scripts.testkit.alpaca import AlpacaFake, Answer
from tests.several_days import BOUGHT, DEAR, QUIET, SeveralDays, at, shorten_waits
from trader import wiring
from trader.journal.base import JournalError
from trader.journal.stores import Folder
from trader.model import BrokerError, Report
from trader.stages import pipeline

TEN = tuple(f"S{letter}" for letter in "ABCDEFGHIJ")
TWENTY = tuple(f"S{letter}" for letter in "ABCDEFGHIJKLMNOPQRST")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


class Slots:
    """A strategy that is run every 15 minutes from 10:00 on."""

    def __init__(self, folder: Path, fake: AlpacaFake, *symbols: str) -> None:
        self._days = SeveralDays(folder, fake, UNIVERSE=",".join(symbols or ("A",)), MAX_ORDERS_PER_RUN=20)
        self._fake = fake
        self.next = at(0, 10, 0)

    def run(self, price_usd: float, **variables: object) -> Report:
        """Run the next slot at this price of all symbols."""
        moment, self.next = self.next, self.next + timedelta(minutes=15)
        return self._days.run(moment, price_usd, **variables)

    def skip_to_monday(self) -> None:
        self._fake.close_day()
        self.next = at(5, 10, 0)


@pytest.fixture
def slots(tmp_path: Path, fake: AlpacaFake) -> Slots:
    return Slots(tmp_path, fake)


def stopped(fake: AlpacaFake, symbol: str = "A") -> Decimal:
    """Return the number of shares for which stops are working."""
    stops = [order for order in fake.open_orders(symbol) if order.type == "stop" and order.status != "pending_cancel"]
    filled = [order for order in stops if order.parent is None or order.parent.status == "filled"]
    return sum((order.remaining for order in filled), Decimal(0))


def bare(fake: AlpacaFake) -> list[str]:
    """Return the holdings without a working stop for all their shares."""
    return sorted(symbol for symbol, held in fake.positions.items() if stopped(fake, symbol) < held.quantity)


def lose_brackets(fake: AlpacaFake) -> None:
    for order in fake.open_orders():
        fake.end(order, "canceled")


def errors(caplog: pytest.LogCaptureFixture, symbol: str = "A") -> list[str]:
    """Return the errors in the log that name a symbol."""
    named = [each for each in caplog.records if each.levelno >= logging.ERROR]
    return [
        each.message
        for each in named
        if symbol in (vars(each).get("symbol"), *str(vars(each).get("symbols", "")).split(","))
    ]


def codes(report: Report) -> list[str]:
    return [denial["code"] for denial in report["denials"]]


# --- accepted is not done ------------------------------------------------------------------------------------------


def test_after_a_sale_that_is_rejected_later_the_stop_is_back_in_the_same_slot(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    fake.rejected_later = {"A"}
    real = fake.work
    fake.work = lambda order: None if order.type == "stop" else real(order)  # type: ignore[method-assign]
    report = slots.run(DEAR)
    assert (report["status"], bare(fake)) == ("ORDER_REJECTED", [])


def test_a_sale_that_ended_after_its_run_is_settled_by_the_next(
    fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots.run(BOUGHT)
    fake.fills = "never"
    monkeypatch.setattr(pipeline, "close_out", lambda *_: None)  # the run ends as soon as the sale is accepted
    slots.run(DEAR)
    monkeypatch.undo()
    fake.end(next(order for order in fake.open_orders("A") if order.type == "market"), "rejected")
    report = slots.run(QUIET)
    assert [(each["symbol"], each["status"]) for each in report.get("settled", [])] == [("A", "rejected")]
    assert bare(fake) == []


def test_buys_that_are_rejected_later_are_no_trade(fake: AlpacaFake, slots: Slots) -> None:
    fake.rejected_later = {"A"}
    report = slots.run(BOUGHT)
    assert (report["status"], report["investments"]) == ("ORDER_REJECTED", {})


# --- what counts as a stop -----------------------------------------------------------------------------------------


def take_part_of_the_profit(fake: AlpacaFake) -> None:
    take, stop = (next(o for o in fake.orders if o.parent and o.type == kind) for kind in ("limit", "stop"))
    fake.fill_part(take, 40)
    stop.status = "canceled"


def cancel_for_ever(fake: AlpacaFake) -> None:
    fake.cancel_polls = 10_000
    fake.cancel(next(order for order in fake.open_orders("A") if order.type == "stop"))


def sell_by_limit(fake: AlpacaFake) -> None:
    held = fake.positions["A"].quantity
    lose_brackets(fake)
    order = fake._new_order("A", "sell", "limit", held, "by-hand")
    order.limit_price, order.status = Decimal(150), "new"
    fake.orders.append(order)


def test_after_a_partly_filled_take_profit_the_rest_has_a_stop(
    fake: AlpacaFake, slots: Slots, caplog: pytest.LogCaptureFixture
) -> None:
    slots.run(BOUGHT)
    take_part_of_the_profit(fake)
    slots.run(QUIET)
    assert bare(fake) == []
    assert errors(caplog) == ["stop loss missing"]


@pytest.mark.parametrize("lose", [cancel_for_ever, sell_by_limit])
def test_a_holding_that_can_have_no_stop_is_named(
    lose: Callable[[AlpacaFake], None], fake: AlpacaFake, slots: Slots, caplog: pytest.LogCaptureFixture
) -> None:
    slots.run(BOUGHT)
    lose(fake)
    assert slots.run(QUIET)["unprotected"] == ["A"]
    assert errors(caplog) == ["held without a stop loss"]


def test_what_was_filled_of_an_entry_has_a_stop_when_its_slot_ends(fake: AlpacaFake, slots: Slots) -> None:
    fake.fills = "partial"
    slots.run(BOUGHT)
    assert fake.positions["A"].quantity > 0
    assert bare(fake) == []


# --- no step that cannot be taken back before the one that can fail ------------------------------------------------


class Refusing(AlpacaFake):
    """A broker that refuses orders as `refuse` says; its argument is the order's body."""

    refuse: Callable[[dict[str, str]], Answer | None] = staticmethod(lambda _: None)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        refusal = self.refuse(body) if method == "POST" else None
        return refusal or super().answer(method, path, headers, body)


BLOCKED = Answer(403, {"code": 40310000, "message": "account is not authorized to trade"})
DAY_TRADE = Answer(403, {"code": 40310100, "message": "trade denied due to pattern day trading protection"})
NO_SALE = Answer(422, {"code": 42210000, "message": "no sale now"})


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    with Refusing() as fake:
        yield fake


@pytest.mark.parametrize("refusal", [BLOCKED, DAY_TRADE])
def test_ten_refused_sales_cost_no_stop(refusing: Refusing, tmp_path: Path, refusal: Answer) -> None:
    slots = Slots(tmp_path, refusing, *TEN)
    slots.run(BOUGHT)
    refusing.refuse = lambda _: refusal
    slots.run(DEAR)
    assert (len(refusing.positions), bare(refusing)) == (10, [])


def test_sales_refused_only_without_their_brackets_cost_one_stop_at_most(refusing: Refusing, tmp_path: Path) -> None:
    slots = Slots(tmp_path, refusing, *TEN)
    slots.run(BOUGHT)
    refusing.refuse = lambda body: None if refusing.open_orders(body["symbol"]) else NO_SALE
    report = slots.run(DEAR)
    assert len(bare(refusing)) == 1
    assert report["unprotected"] == bare(refusing)


def test_a_stop_lost_to_a_refused_sale_comes_back(refusing: Refusing, tmp_path: Path) -> None:
    slots = Slots(tmp_path, refusing)
    slots.run(BOUGHT)
    refusing.refuse = lambda body: (
        NO_SALE if body["type"] == "market" and not refusing.open_orders(body["symbol"]) else None
    )
    slots.run(DEAR)
    assert bare(refusing) == []


def test_shares_that_are_free_late_are_sold(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    fake.free_delay_s = 0.1
    assert slots.run(DEAR)["status"] == "TRADED"
    assert fake.positions == {}


def test_after_shares_that_are_not_free_in_time_the_next_run_restores_the_stop(
    fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots.run(BOUGHT)
    fake.free_delay_s = 60.0
    assert slots.run(DEAR)["unprotected"] == ["A"]
    fake.free_from.clear()
    slots.run(QUIET)
    assert bare(fake) == []


# --- no order outlives its decision --------------------------------------------------------------------------------


def test_an_entry_that_is_not_filled_is_gone_when_its_slot_ends(fake: AlpacaFake, slots: Slots) -> None:
    fake.fills = "never"
    report = slots.run(BOUGHT)
    assert (codes(report), fake.open_orders()) == (["NOT_FILLED"], [])


def leave_an_entry_open(fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill a run after its entry, which stays open because its symbol is halted at the exchange."""
    fake.fills = "never"
    monkeypatch.setattr(fake, "trade", lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "close_out", kill)
        with pytest.raises(SystemExit):
            slots.run(BOUGHT)
    assert [order.side for order in fake.open_orders() if not order.parent] == ["buy"]


def test_an_entry_of_a_run_that_was_killed_on_friday_is_canceled_on_monday(
    fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_an_entry_open(fake, slots, monkeypatch)
    slots.skip_to_monday()
    report = slots.run(QUIET)
    assert [(each["symbol"], each["status"]) for each in report.get("settled", [])] == [("A", "canceled")]
    assert fake.open_orders() == []


def test_an_entry_that_the_journal_does_not_know_is_canceled(
    fake: AlpacaFake, slots: Slots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_an_entry_open(fake, slots, monkeypatch)
    slots.run(QUIET, JOURNAL=f"folder:{tmp_path / 'another'}")
    assert fake.open_orders() == []


def kill(*_: object) -> None:
    raise SystemExit("killed")


def test_after_a_run_that_was_killed_between_cancel_and_sale_the_stop_comes_back(
    fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots.run(BOUGHT)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "close_out", kill)
        patch.setattr("trader.stages.execution.looks", kill)
        with pytest.raises(SystemExit):
            slots.run(DEAR)
    assert bare(fake) == ["A"]
    slots.run(QUIET)
    assert bare(fake) == []


# --- protection, also when nothing may be traded -------------------------------------------------------------------


def test_while_trading_is_halted_a_lost_stop_is_named_and_not_placed(
    fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    sent = len(fake.asked("POST"))
    monkeypatch.setattr(wiring.PARAMETERS, "read_halt_reason", lambda _: "the switch is on")
    report = slots.run(QUIET)
    assert (report["status"], report["unprotected"]) == ("HALTED", ["A"])
    assert (errors(caplog), len(fake.asked("POST"))) == (["held without a stop loss"], sent)


def test_a_halt_between_two_orders_holds_back_the_stop_too(
    refusing: Refusing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(tmp_path, refusing, "A", "B")
    slots.run(BOUGHT)
    refusing.refuse = lambda body: (
        NO_SALE if body["type"] == "market" and not refusing.open_orders(body["symbol"]) else None
    )
    reasons = iter(["", "", *["the switch is on"] * 9])
    monkeypatch.setattr(wiring.PARAMETERS, "read_halt_reason", lambda _: next(reasons))
    report = slots.run(DEAR)
    assert (report["status"], [order["type"] for order in report.get("stops", [])]) == ("HALTED", [])
    assert report["unprotected"] == bare(refusing) != []


@pytest.mark.parametrize(
    "trouble",
    [
        {"MAX_DAILY_LOSS_FRACTION": 0.0001},
        {"MAX_PRICE_AGE_S": 1},
        {"PRICE_SOURCES": "alpaca"},  # which has no bars
    ],
)
def test_a_lost_stop_comes_back_whatever_keeps_the_bot_from_trading(
    fake: AlpacaFake, slots: Slots, trouble: dict[str, object]
) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    slots.run(QUIET, **trouble)
    assert bare(fake) == []


def test_a_lost_stop_comes_back_while_the_market_is_closed(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    fake.is_open = False
    assert slots.run(QUIET)["status"] == "MARKET_CLOSED"
    assert bare(fake) == []


def test_in_a_blocked_account_a_lost_stop_is_named(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    fake.account_overrides = {"account_blocked": True}
    report = slots.run(QUIET)
    assert (report["status"], report["unprotected"]) == ("ACCOUNT_BLOCKED", ["A"])


def test_without_a_clock_a_lost_stop_comes_back(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    fake.fault("GET", "/v2/clock", "422")
    with pytest.raises(Exception, match="GET /clock"):
        slots.run(QUIET)
    assert bare(fake) == []


@pytest.mark.parametrize("method", ["create", "names"])
def test_without_its_journal_the_bot_restores_a_lost_stop(
    fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    monkeypatch.setattr(Folder, method, fail)
    with pytest.raises(JournalError):
        slots.run(QUIET)
    assert bare(fake) == []


def test_without_its_journal_the_bot_names_what_has_no_stop(
    fake: AlpacaFake, slots: Slots, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    fake.rejected_at_once = {"A"}
    monkeypatch.setattr(Folder, "create", fail)
    with pytest.raises(JournalError):
        slots.run(QUIET)
    assert errors(caplog) == ["held without a stop loss"]


def fail(*_: object, **__: object) -> None:
    raise JournalError("the journal is down")


def test_the_reason_for_a_missing_stop_is_in_the_report(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    sell_by_limit(fake)
    (denial,) = slots.run(QUIET)["denials"]
    assert "reserved by an order that this strategy did not place" in denial["detail"]


def test_a_dry_run_names_a_lost_stop_and_writes_nothing(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    lose_brackets(fake)
    written = [request for request in fake.requests if request.method != "GET"]
    report = slots.run(QUIET, MODE="dry-run")
    assert report["unprotected"] == ["A"]
    assert [request for request in fake.requests if request.method != "GET"] == written


# --- the age of a decision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["observe", "decide"])
def test_a_decision_of_yesterday_is_not_carried_out(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    real = getattr(pipeline, stage)

    def fall_asleep(*arguments: object) -> object:
        result = real(*arguments)
        fake.now += timedelta(days=1)
        return result

    days = SeveralDays(tmp_path, fake)
    days.set_price(at(0, 10, 0), BOUGHT)
    monkeypatch.setattr(pipeline, stage, fall_asleep)
    report = run({"time": fake.now.isoformat()}, env=days.env, clock=lambda: fake.now)
    assert (report["status"], fake.orders) == ("OUT_OF_TIME", [])


@pytest.mark.parametrize("difference_s", [-7200, -61, 61, 7200])
def test_between_two_clocks_that_contradict_each_other_nothing_is_traded_but_a_lost_stop_comes_back(
    fake: AlpacaFake, tmp_path: Path, difference_s: int
) -> None:
    days = SeveralDays(tmp_path, fake)
    days.run(at(0, 10, 0), BOUGHT)
    lose_brackets(fake)
    days.set_price(at(0, 10, 15), DEAR)
    with pytest.raises(BrokerError, match="set this machine's clock by NTP"):
        run(None, env=days.env, clock=lambda: fake.now + timedelta(seconds=difference_s))
    assert bare(fake) == []


# --- requests ------------------------------------------------------------------------------------------------------


def test_twenty_sales_stay_within_the_limit_on_requests(fake: AlpacaFake, tmp_path: Path) -> None:
    slots = Slots(tmp_path, fake, *TWENTY)
    slots.run(BOUGHT, CASH_BUFFER_FRACTION=0)
    fake.cancel_polls, fake.requests_per_minute = 1, 200
    held = len(fake.positions)
    slots.run(DEAR)
    assert (held, len(fake.positions)) == (20, 0)


def test_a_quiet_run_costs_one_request_more_than_it_needs_for_its_decision(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(QUIET)
    before = len(fake.requests)
    slots.run(QUIET)
    assert len(fake.requests) - before == 5  # clock, orders, positions, account; and earlier stops


def test_a_run_with_one_buy_costs_twelve_requests(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    assert len(fake.requests) == 12


def test_a_run_with_one_sale_costs_thirteen_requests(fake: AlpacaFake, slots: Slots) -> None:
    slots.run(BOUGHT)
    before = len(fake.requests)
    slots.run(DEAR)
    assert len(fake.requests) - before == 13


def test_a_run_is_on_record_with_what_it_settled(fake: AlpacaFake, slots: Slots, tmp_path: Path) -> None:
    slots.run(BOUGHT)
    (settled,) = (tmp_path / "journal").rglob("*.settled")
    orders: Sequence[dict[str, str]] = json.loads(settled.read_text())["orders"]
    assert [(order["symbol"], order["status"]) for order in orders] == [("A", "filled")]
