"""What is read before an order is read side by side, and is hardly older than if it had been read in turn."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.testkit.alpaca_api import AlpacaApi
from scripts.testkit.alpaca_direct import DirectBroker
from tests import builders
from tests.builders import SLOT, buy, sell
from tests.virtual_reads import TimedBroker, VirtualReads
from trader.alpha.base import AlphaModel
from trader.deadline import Deadline
from trader.forecasting.base import Forecaster
from trader.journal.base import RankingStore, Run
from trader.model import BrokerError, Decision, Denial, Order, RunStopped, Unprotected
from trader.prices.reader import Prices
from trader.reading import ROUND_TRIP_S, Reading, in_turn, side_by_side
from trader.stages import pipeline
from trader.stages.execution import place

READS = ("halt", "clock", "open orders", "positions", "prices", "account")
DURATIONS_S = st.fixed_dictionaries(dict.fromkeys(READS, st.floats(0.01, 30)))


def hold(*symbols: str) -> AlpacaApi:
    """Return an account that holds ten shares of each symbol."""
    alpaca = AlpacaApi(prices=dict.fromkeys("ABC", 100.0))
    alpaca.is_open = True
    for symbol in symbols:
        alpaca.hold(symbol, 10, 100)
    return alpaca


def services_of(broker: DirectBroker, read_halt_reason: Callable[[], str], reading: Reading) -> pipeline.RunServices:
    """Return the services of a run that only looks at its account and sends orders."""
    return pipeline.RunServices(
        broker=broker,
        prices=cast(Prices, None),
        forecaster=cast(Forecaster, None),
        alpha=cast(AlphaModel, None),
        journal=cast(RankingStore, None),
        read_halt_reason=read_halt_reason,
        deadline=Deadline.never(),
        reading=reading,
    )


def new_run() -> Run:
    return Run(settings=builders.settings(STOP_LOSS_FRACTION=0, TAKE_PROFIT_FRACTION=0), slot=SLOT, now=SLOT)


def send(broker: DirectBroker, orders: Sequence[Order], reading: Reading, halt: Callable[[], str]) -> list[object]:
    """Place the orders as the pipeline does."""
    gates = partial(pipeline.begin_gates, services_of(broker, halt, reading), new_run())
    return list(place(orders, broker, Deadline.never(), max_drift_fraction=0.5, begin_gates=gates, reading=reading))


def ages_of_reads(durations_s: Mapping[str, float], orders: Sequence[Order], reading: Reading) -> VirtualReads:
    """Return the ages of all reads before each of the orders."""
    reads = VirtualReads(durations_s)
    with pytest.MonkeyPatch.context() as monkeypatch:
        reads.patch(monkeypatch)

        def read_halt() -> str:
            reads.take("halt")
            return ""

        sent = send(TimedBroker(hold("A", "B"), reads), orders, reading, read_halt)
    assert all(isinstance(each, Order) for each in sent), sent
    return reads


@settings(max_examples=200)
@given(durations_s=DURATIONS_S)
@pytest.mark.parametrize("orders", [[buy("C")], [sell("A"), sell("B")]], ids=["a buy", "two sales"])
def test_no_read_before_an_order_is_older_than_in_turn_by_more_than_a_round_trip(
    orders: Sequence[Order], durations_s: Mapping[str, float]
) -> None:
    before = ages_of_reads(durations_s, orders, in_turn).ages_s
    now = ages_of_reads(durations_s, orders, side_by_side).ages_s
    assert [each.keys() for each in now] == [each.keys() for each in before]
    for ages_s, allowed_s in zip(now, before, strict=True):
        assert {name for name, age_s in ages_s.items() if age_s > allowed_s[name] + ROUND_TRIP_S + 1e-6} == set()


@pytest.mark.parametrize(
    ("order", "in_turn_s"), [(buy("C"), 5.0), (sell("A"), 4.0)], ids=["a buy, with its price", "a sale"]
)
def test_all_that_is_read_before_an_order_takes_one_round_trip(
    order: Order, in_turn_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    durations_s = dict.fromkeys(READS, 1.0)
    begun_s = VirtualReads({}).time.now_s
    assert ages_of_reads(durations_s, [order], in_turn).time.now_s - begun_s == pytest.approx(in_turn_s)
    assert ages_of_reads(durations_s, [order], side_by_side).time.now_s - begun_s == pytest.approx(1.0)


def test_halt_clock_open_orders_and_positions_are_under_way_together_before_each_sale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = DirectBroker(hold("A", "B"))
    meeting = threading.Barrier(4, timeout=10)  # nobody is answered before all are asked

    def meet[T](read: Callable[[], T]) -> Callable[[], T]:
        return lambda: (meeting.wait(), read())[1]

    for name in ("clock", "open_orders", "positions"):
        monkeypatch.setattr(broker, name, meet(getattr(broker, name)))
    sent = send(broker, [sell("A"), sell("B")], side_by_side, meet(lambda: ""))
    assert [type(each) for each in sent] == [Order, Order]


def fail_in(broker: DirectBroker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one of the broker's reads fail."""

    def fail(*_: object) -> None:
        raise BrokerError(f"{name}: no answer")

    monkeypatch.setattr(broker, name, fail)


@pytest.mark.parametrize("failing", ["clock", "open_orders", "positions"])
@pytest.mark.parametrize("order", [buy("C"), sell("A")], ids=["a buy", "a sale"])
def test_no_order_is_sent_if_one_of_its_reads_fails(
    order: Order, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = DirectBroker(hold("A"))
    fail_in(broker, failing, monkeypatch)
    with pytest.raises(BrokerError, match=f"{failing}: no answer"):
        send(broker, [order], side_by_side, lambda: "")
    assert broker.alpaca.asked("POST") == []


@pytest.mark.parametrize("order", [buy("C"), sell("A")], ids=["a buy", "a sale"])
def test_a_halt_stops_an_order_although_the_other_reads_were_answered(order: Order) -> None:
    broker = DirectBroker(hold("A"))
    with pytest.raises(RunStopped, match="the owner says so"):
        send(broker, [order], side_by_side, lambda: "the owner says so")
    assert broker.alpaca.asked("POST") == []


def test_a_price_that_cannot_be_read_refuses_the_buy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = DirectBroker(hold("A"))
    fail_in(broker, "latest_prices_usd", monkeypatch)
    refused, sold = send(broker, [buy("C"), sell("A")], side_by_side, lambda: "")
    assert isinstance(refused, Denial)
    assert "latest_prices_usd: no answer" in refused.detail
    assert isinstance(sold, Order)


# --- the beginning of a run ---


def look_at_first(durations_s: Mapping[str, float], reading: Reading, *, bare: bool = False) -> VirtualReads:
    """Look at the account as a run does at its beginning, and note the ages when the account is asked for."""
    reads = VirtualReads(durations_s)
    with pytest.MonkeyPatch.context() as monkeypatch:
        reads.patch(monkeypatch)

        def read_halt() -> str:
            reads.take("halt")
            return ""

        services = services_of(TimedBroker(hold("A"), reads), read_halt, reading)
        with reading() as begin:
            _, account = pipeline.prepare(services, new_run(), begin)
            account()
            reads.use()
    return reads


@settings(max_examples=200)
@given(durations_s=DURATIONS_S)
def test_no_read_at_the_beginning_is_older_than_in_turn_by_more_than_a_round_trip(
    durations_s: Mapping[str, float],
) -> None:
    (before,), (now,) = (look_at_first(durations_s, reading).ages_s for reading in (in_turn, side_by_side))
    assert now.keys() == before.keys()
    assert {name for name, age_s in now.items() if age_s > before[name] + ROUND_TRIP_S + 1e-6} == set()


def test_the_beginning_takes_two_round_trips() -> None:
    durations_s = dict.fromkeys(READS, 1.0)
    begun_s = VirtualReads({}).time.now_s
    assert look_at_first(durations_s, in_turn).time.now_s - begun_s == pytest.approx(5.0)
    assert look_at_first(durations_s, side_by_side).time.now_s - begun_s == pytest.approx(2.0)


def test_the_account_is_read_again_after_orders_of_an_earlier_run_were_canceled() -> None:
    alpaca = hold("A")
    alpaca.fills = "never"
    old = {"symbol": "B", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"}
    alpaca.accept(old | {"client_order_id": "trend-20221227T2045Z-B-buy"})
    broker = DirectBroker(alpaca)
    services = services_of(broker, lambda: "", side_by_side)
    with side_by_side() as begin:
        _, account = pipeline.prepare(services, new_run(), begin)
        canceled = len(alpaca.asked("DELETE"))
        assert (canceled, account().buying_power_usd) == (1, broker.account().buying_power_usd)


def test_a_closed_gate_leaves_the_account_unread() -> None:
    broker = DirectBroker(hold("A"))
    services = services_of(broker, lambda: "the owner says so", side_by_side)
    with side_by_side() as begin, pytest.raises(RunStopped):
        pipeline.prepare(services, new_run(), begin)
    assert broker.alpaca.asked("GET", "/v2/account") == []


@pytest.mark.parametrize(("halted", "times"), [("", 1), ("the owner says so", 0)], ids=["open", "halted"])
def test_prices_are_prepared_for_only_if_the_gates_are_open(halted: str, times: int) -> None:
    prepared: list[str] = []
    services = services_of(DirectBroker(hold("A")), lambda: halted, side_by_side)
    services = replace(services, prepare_prices=lambda: prepared.append("prepared"))
    with suppress(RunStopped), side_by_side() as begin:
        pipeline.prepare(services, new_run(), begin)
    assert len(prepared) == times


# --- the end of a run ---


@pytest.mark.parametrize(("reading", "takes_s"), [(in_turn, 3.0), (side_by_side, 2.0)])
def test_the_account_after_the_orders_is_read_beside_the_holdings(reading: Reading, takes_s: float) -> None:
    reads = VirtualReads(dict.fromkeys(READS, 1.0))
    begun_s = reads.time.now_s
    run = new_run()
    run.unprotected["A"] = Unprotected(symbol="A", reason="a test", is_ours=True)  # so that the holdings are looked at
    with pytest.MonkeyPatch.context() as monkeypatch, reading() as begin:
        reads.patch(monkeypatch)
        services = services_of(TimedBroker(hold("A"), reads), lambda: "", reading)
        books = pipeline._BooksWithAccount(services.broker, begin, is_account_wanted=True)
        pipeline.place(services, run, Decision(orders=()), books)
        assert pipeline.closing_account(services, books.read_account) is not None
    assert reads.time.now_s - begun_s == pytest.approx(takes_s)
