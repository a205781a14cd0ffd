"""What happens within one bar, in the order that the bar allows; where it does not tell, the worse order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import backtrader as bt
import pandas as pd
import pytest

from scripts.backtest.broker import BacktraderBroker, Exchange
from scripts.backtest.engine import Feed
from scripts.backtest.model import Options
from tests import builders
from tests.builders import buy, sell
from trader.model import Order, OrderType

type Ohlc = tuple[float, float, float, float]
type Bars = Mapping[str, Sequence[Ohlc | None]]
type Step = Callable[[BacktraderBroker], None]

DAYS = pd.bdate_range("2022-01-03", periods=10, tz="America/New_York").tz_convert("UTC")

FLAT: Ohlc = (100, 100, 100, 100)


def trade(bars: Bars, *steps: Step, cash_usd: float) -> BacktraderBroker:
    """Run the bars of each symbol, None for a day without one. At each close the next step is taken."""
    chosen = replace(Options(settings=builders.settings(), slippage_fraction=0.0), cash_usd=cash_usd)
    coming = iter(steps)
    brokers: list[BacktraderBroker] = []

    class Steps(bt.Strategy):  # type: ignore[misc] # Backtrader ships no types
        def start(self) -> None:
            brokers.append(BacktraderBroker(self, chosen))

        def notify_order(self, order: Any) -> None:
            brokers[0].heard(order, bt.num2date(self.datetime[0]))

        def prenext(self) -> None:
            self.next()

        def next(self) -> None:
            next(coming, lambda _: None)(brokers[0])

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(Exchange.of(chosen, has_ohlc=True))
    for symbol, some in bars.items():
        rows = [
            (bt.date2num(day.to_pydatetime().replace(tzinfo=None)), *bar)
            for day, bar in zip(DAYS, some, strict=False)
            if bar is not None
        ]
        cerebro.adddata(Feed(rows=rows), name=symbol)
    cerebro.addstrategy(Steps)
    cerebro.run()
    return brokers[0]


def submit(*orders: Order) -> Step:
    def step(broker: BacktraderBroker) -> None:
        for order in orders:
            broker.submit(order)

    return step


def stop_of(symbol: str, price_usd: float) -> Order:
    order = sell(symbol, quantity=10, price_usd=price_usd)
    return replace(order, client_order_id=f"{symbol}-stop", type=OrderType.STOP, stop_loss_usd=price_usd)


def fills(broker: BacktraderBroker) -> list[tuple[str, str, float]]:
    return [(fill.symbol, fill.kind, fill.price_usd) for fill in broker.fills]


HOLDS_A = submit(buy("A", quantity=10, bracket=False))
"""Turn 1,000 USD of the cash into 10 shares of A."""

STOPS_A_BUYS_B = submit(stop_of("A", 95), buy("B", quantity=10, price_usd=99, bracket=False))


@pytest.mark.parametrize(
    ("bar", "price_usd"),
    [((100, 101, 94, 96), 95.0), ((90, 96, 89, 91), 90.0)],
    ids=["hit within the bar", "crossed by the opening"],
)
def test_a_stop_of_the_same_bar_does_not_pay_for_a_buy_at_the_opening(bar: Ohlc, price_usd: float) -> None:
    broker = trade({"A": [FLAT, FLAT, bar], "B": [FLAT] * 3}, HOLDS_A, STOPS_A_BUYS_B, cash_usd=1_150)
    assert fills(broker)[1:] == [("A", "stop-loss", price_usd)]
    assert [each.symbol for each in broker.refusals] == ["B"]


def test_a_stop_pays_for_a_buy_of_the_next_bar() -> None:
    bars = {"A": [FLAT, FLAT, (100, 101, 94, 96), FLAT], "B": [FLAT] * 4}
    broker = trade(bars, HOLDS_A, submit(stop_of("A", 95)), submit(buy("B", quantity=9, bracket=False)), cash_usd=1_000)
    assert fills(broker)[1:] == [("A", "stop-loss", 95.0), ("B", "market", 100.0)]


def test_a_take_profit_of_the_same_bar_does_not_pay_for_a_buy_at_the_opening() -> None:
    bars = {"A": [FLAT, FLAT, (100, 200, 100, 200)], "B": [FLAT] * 3}
    with_bracket = submit(buy("A", quantity=10))
    broker = trade(bars, with_bracket, submit(buy("B", quantity=10, bracket=False)), cash_usd=1_050)
    assert [(symbol, kind) for symbol, kind, _ in fills(broker)] == [("A", "market"), ("A", "take-profit")]
    assert [each.symbol for each in broker.refusals] == ["B"]


def test_a_sale_by_decision_pays_for_a_buy_that_was_placed_after_it() -> None:
    both = submit(sell("A", quantity=10), buy("B", quantity=10, bracket=False))
    broker = trade({"A": [FLAT] * 3, "B": [FLAT] * 3}, HOLDS_A, both, cash_usd=1_050)
    assert fills(broker)[1:] == [("A", "market", 100.0), ("B", "market", 100.0)]


def test_a_sale_by_decision_does_not_pay_for_a_buy_that_was_placed_before_it() -> None:
    both = submit(buy("B", quantity=10, bracket=False), sell("A", quantity=10))
    broker = trade({"A": [FLAT] * 3, "B": [FLAT] * 3}, HOLDS_A, both, cash_usd=1_050)
    assert fills(broker)[1:] == [("A", "market", 100.0)]


def test_of_two_buys_that_the_cash_does_not_cover_the_first_one_is_filled() -> None:
    both = submit(buy("B", quantity=6, bracket=False), buy("C", quantity=6, bracket=False))
    broker = trade({"B": [FLAT] * 2, "C": [FLAT] * 2}, both, cash_usd=1_000)
    assert (fills(broker), [each.symbol for each in broker.refusals]) == ([("B", "market", 100.0)], ["C"])


def test_the_cash_of_a_bar_is_spent_before_its_stops_are_hit() -> None:
    bars = {"A": [FLAT, FLAT, (100, 101, 94, 96)], "B": [FLAT] * 3}
    broker = trade(bars, HOLDS_A, STOPS_A_BUYS_B, cash_usd=2_000)
    assert fills(broker)[1:] == [("B", "market", 100.0), ("A", "stop-loss", 95.0)]


def test_a_stop_and_a_limit_of_one_bar_are_the_stop() -> None:
    broker = trade({"A": [FLAT, FLAT, (100, 200, 50, 100)]}, submit(buy("A", quantity=10)), cash_usd=1_000)
    assert [kind for _, kind, _ in fills(broker)] == ["market", "stop-loss"]


def test_a_stop_does_not_see_the_bar_at_whose_close_it_was_placed() -> None:
    bars: Bars = {"A": [FLAT, (100, 100, 90, 100), None, (100, 100, 96, 100)], "B": [FLAT] * 4}
    broker = trade(bars, HOLDS_A, submit(stop_of("A", 95)), cash_usd=1_000)
    assert fills(broker) == [("A", "market", 100.0)]
    assert [order.symbol for order in broker.open_orders()] == ["A"]


def test_after_days_without_a_bar_a_stop_is_filled_at_the_next_opening_below_it() -> None:
    bars: Bars = {"A": [FLAT, FLAT, None, (80, 85, 79, 84)], "B": [FLAT] * 4}
    broker = trade(bars, HOLDS_A, submit(stop_of("A", 95)), cash_usd=1_000)
    assert fills(broker)[1:] == [("A", "stop-loss", 80.0)]
