"""Backtrader's broker behind the Broker protocol: when orders are filled, at which price and at what cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import backtrader as bt
import pandas as pd
import pytest

from scripts.backtest.broker import BacktraderBroker, Exchange
from scripts.backtest.engine import Feed, rows
from scripts.backtest.model import Options, Panel
from tests import builders
from tests.builders import buy, daily, sell
from trader.broker.base import OrderId, OrderRejectedError
from trader.model import Order, OrderType

type Step = Callable[[BacktraderBroker], None]


def panel(
    closes: Sequence[float],
    *,
    opens: Sequence[float] | None = None,
    highs: Sequence[float] | None = None,
    lows: Sequence[float] | None = None,
) -> Panel:
    """Return prices of AAPL on consecutive business days; with `opens`, the panel has OHLC."""

    def frame(prices: Sequence[float]) -> pd.DataFrame:
        return daily(prices).to_frame("AAPL")

    tops = [max(pair) for pair in zip(opens or closes, closes, strict=True)]
    bottoms = [min(pair) for pair in zip(opens or closes, closes, strict=True)]
    return Panel(
        open=frame(opens or closes),
        high=frame(highs or tops),
        low=frame(lows or bottoms),
        close=frame(closes),
        has_ohlc=opens is not None,
        source="a test",
    )


def after(prices: Panel, *steps: Step, **options: Any) -> BacktraderBroker:
    """Run all bars and return the broker. At each close, after the bar's fills, the next step is taken."""
    chosen = replace(Options(settings=builders.settings(), slippage_fraction=0.0), **options)
    coming = iter(steps)
    brokers: list[BacktraderBroker] = []

    class Steps(bt.Strategy):  # type: ignore[misc] # Backtrader ships no types
        def start(self) -> None:
            brokers.append(BacktraderBroker(self, chosen))

        def notify_order(self, order: Any) -> None:
            brokers[0].heard(order, bt.num2date(self.datetime[0]))

        def next(self) -> None:
            time = bt.num2date(self.datetime[0])
            brokers[0].end_of_bar(time)
            brokers[0].at(time.replace(hour=20), brokers[0].equity_usd())
            next(coming, lambda _: None)(brokers[0])

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(Exchange.of(chosen, has_ohlc=prices.has_ohlc))
    for symbol in ("AAPL", "MSFT"):  # at the same prices
        cerebro.adddata(
            Feed(rows=rows(prices, prices.close["AAPL"], [each.to_pydatetime() for each in prices.close.index])),
            name=symbol,
        )
    cerebro.addstrategy(Steps)
    cerebro.run()
    return brokers[0]


def submit(order: Order) -> Step:
    def step(broker: BacktraderBroker) -> None:
        broker.submit(order)

    return step


def wait(_: BacktraderBroker) -> None:
    """Do nothing on this bar."""


def prices_of(broker: BacktraderBroker) -> list[tuple[str, float]]:
    return [(fill.kind, fill.price_usd) for fill in broker.fills]


PLAIN = buy(quantity=10, bracket=False)


def stop_at(price_usd: float, quantity: float = 10) -> Order:
    """Return a stop like those that protect a holding without a bracket."""
    order = sell(quantity=quantity, price_usd=price_usd)
    return replace(order, client_order_id=f"{order.client_order_id}-stop", type=OrderType.STOP, stop_loss_usd=price_usd)


def test_a_buy_is_filled_at_the_next_bars_open() -> None:
    assert prices_of(after(panel([100, 104, 105], opens=[99, 102, 104]), submit(PLAIN))) == [("market", 102.0)]


def test_with_closes_alone_a_buy_is_filled_at_the_next_close() -> None:
    assert prices_of(after(panel([100, 104, 105]), submit(PLAIN))) == [("market", 104.0)]


def test_fills_at_close_uses_the_close_of_the_decision() -> None:
    assert prices_of(after(panel([100, 104]), submit(PLAIN), fills_at_close=True)) == [("market", 100.0)]


def test_an_order_placed_on_the_last_bar_is_never_filled() -> None:
    assert after(panel([100, 104]), wait, submit(PLAIN)).fills == []


def test_slippage_raises_a_buys_price_even_with_closes_alone() -> None:
    assert prices_of(after(panel([100, 104]), submit(PLAIN), slippage_fraction=0.01)) == [("market", 104 * 1.01)]


def test_slippage_lowers_the_price_of_a_sale() -> None:
    broker = after(panel([100, 100, 100]), submit(PLAIN), submit(sell(quantity=10)), slippage_fraction=0.01)
    assert prices_of(broker)[1] == ("market", 99.0)


def test_money_moves_in_whole_cents() -> None:
    third = replace(PLAIN, quantity=3.3333)
    assert after(panel([10.01, 10.01]), submit(third), cash_usd=1_000).cash_usd() == 1_000 - 33.37


def test_the_commission_is_deducted_and_reported() -> None:
    broker = after(panel([100, 100]), submit(PLAIN), cash_usd=10_000, commission_fraction=0.001)
    assert (broker.cash_usd(), broker.fills[0].commission_usd) == (8_999.0, 1.0)


def test_an_order_beyond_the_cash_is_refused_at_its_bar() -> None:
    broker = after(panel([100, 120]), submit(PLAIN), cash_usd=1_100)
    assert (broker.fills, broker.refusals[0].symbol) == ([], "AAPL")
    assert "not enough cash" in broker.refusals[0].reason


def test_a_refused_buy_leaves_no_bracket() -> None:
    broker = after(panel([100, 120, 90]), submit(buy(quantity=10)), cash_usd=1_100)
    assert broker.open_orders() == ()


def test_a_stop_loss_sells_at_its_price_within_a_bar() -> None:
    prices = panel([100, 100, 98], opens=[100, 100, 99], lows=[100, 100, 96])
    assert prices_of(after(prices, submit(buy())))[1] == ("stop-loss", 97.0)


def test_a_stop_loss_sells_at_an_open_below_it() -> None:
    prices = panel([100, 100, 95], opens=[100, 100, 94])
    assert prices_of(after(prices, submit(buy())))[1] == ("stop-loss", 94.0)


def test_a_stop_loss_is_active_in_the_bar_of_the_buy() -> None:
    prices = panel([100, 98, 98], opens=[100, 100, 98], lows=[100, 95, 98])
    assert prices_of(after(prices, submit(buy()))) == [("market", 100.0), ("stop-loss", 97.0)]


def test_slippage_lowers_the_price_of_a_stop_loss() -> None:
    broker = after(panel([100, 100, 90]), submit(buy()), slippage_fraction=0.01)
    assert broker.fills[1].price_usd == pytest.approx(90 * 0.99)


def test_a_take_profit_sells_at_its_price_within_a_bar() -> None:
    prices = panel([100, 100, 130], opens=[100, 100, 130], highs=[100, 100, 145])
    assert prices_of(after(prices, submit(buy()), slippage_fraction=0.01))[1] == ("take-profit", 140.0)


def test_a_take_profit_sells_at_a_better_open() -> None:
    prices = panel([100, 100, 150], opens=[100, 100, 145])
    assert prices_of(after(prices, submit(buy())))[1] == ("take-profit", 145.0)


def test_with_closes_alone_a_take_profit_sells_at_its_price() -> None:
    assert prices_of(after(panel([100, 100, 150]), submit(buy())))[1] == ("take-profit", 140.0)


def test_a_take_profit_hit_in_the_buys_bar_sells_at_its_close() -> None:
    assert prices_of(after(panel([100, 150]), submit(buy()))) == [("market", 150.0), ("take-profit", 150.0)]


def test_a_small_commission_is_rounded_up_to_a_cent() -> None:
    broker = after(panel([4.9, 4.9]), submit(replace(PLAIN, quantity=1)), cash_usd=100, commission_fraction=0.001)
    assert broker.fills[0].commission_usd == 0.01


def test_within_one_bar_the_stop_is_assumed_to_come_first() -> None:
    prices = panel([100, 100, 100], opens=[100, 100, 100], highs=[100, 100, 150], lows=[100, 100, 90])
    assert prices_of(after(prices, submit(buy())))[1:] == [("stop-loss", 97.0)]


@pytest.mark.parametrize("open_usd", [140.0, 150.0])
def test_a_bar_that_opens_at_or_above_the_take_profit_sells_there_although_it_falls(open_usd: float) -> None:
    prices = panel([100, 100, 95], opens=[100, 100, open_usd], highs=[100, 100, 151], lows=[100, 100, 92])
    broker = after(prices, submit(buy()), slippage_fraction=0.01)
    assert prices_of(broker)[1:] == [("take-profit", open_usd)]
    assert (broker.open_orders(), broker.read_holdings()) == ((), {})


def test_a_bar_that_opens_at_or_below_the_stop_sells_there_although_it_rises() -> None:
    prices = panel([100, 100, 145], opens=[100, 100, 95], highs=[100, 100, 150], lows=[100, 100, 90])
    assert prices_of(after(prices, submit(buy())))[1:] == [("stop-loss", 95.0)]


def test_a_bar_that_opens_just_below_the_take_profit_is_assumed_to_fall_first() -> None:
    prices = panel([100, 100, 95], opens=[100, 100, 139.99], highs=[100, 100, 151], lows=[100, 100, 92])
    assert prices_of(after(prices, submit(buy())))[1:] == [("stop-loss", 97.0)]


def test_in_the_bar_of_the_buy_the_stop_is_assumed_to_come_first() -> None:
    prices = panel([100, 95], opens=[100, 100], highs=[100, 151], lows=[100, 92])
    assert prices_of(after(prices, submit(buy())))[1:] == [("stop-loss", 97.0)]


def test_a_buy_at_an_open_above_its_take_profit_is_sold_at_once() -> None:
    prices = panel([100, 95], opens=[100, 150], highs=[100, 151], lows=[100, 92])
    assert prices_of(after(prices, submit(buy()))) == [("market", 150.0), ("take-profit", 150.0)]


def test_after_one_bracket_took_its_profit_at_the_open_the_next_one_has_a_stop() -> None:
    def again(broker: BacktraderBroker) -> None:
        broker.submit(replace(buy(), client_order_id="trend-20221229T2045Z-AAPL-buy"))

    prices = panel(
        [100, 100, 95, 100, 90],
        opens=[100, 100, 150, 100, 99],
        highs=[100, 100, 151, 100, 99],
        lows=[100, 100, 92, 100, 90],
    )
    broker = after(prices, submit(buy()), wait, again)
    assert prices_of(broker) == [("market", 100.0), ("take-profit", 150.0), ("market", 100.0), ("stop-loss", 97.0)]


def test_a_stop_without_a_bracket_sells_within_a_bar_that_opens_high() -> None:
    prices = panel([100, 100, 95], opens=[100, 100, 150], highs=[100, 100, 151], lows=[100, 100, 92])
    assert prices_of(after(prices, submit(PLAIN), submit(stop_at(97))))[1:] == [("stop-loss", 97.0)]


def test_a_sale_by_decision_takes_the_open_of_a_bar_that_touches_both() -> None:
    def sell_it(broker: BacktraderBroker) -> None:
        broker.cancel(broker.open_orders()[0])
        broker.submit(sell(quantity=10))

    prices = panel([100, 100, 95], opens=[100, 100, 150], highs=[100, 100, 151], lows=[100, 100, 92])
    broker = after(prices, submit(buy()), sell_it)
    assert (prices_of(broker)[1:], broker.read_holdings()) == ([("market", 150.0)], {})


def test_a_filled_leg_cancels_the_other() -> None:
    broker = after(panel([100, 100, 90, 150]), submit(buy()))
    assert ([fill.kind for fill in broker.fills], broker.open_orders()) == (["market", "stop-loss"], ())


def test_the_legs_are_open_orders_once_the_buy_is_filled() -> None:
    broker = after(panel([100, 100]), submit(buy()))
    assert [(each.is_leg, each.side.value, each.quantity) for each in broker.open_orders()] == [
        (True, "sell", 10.0)
    ] * 2


def test_the_ids_of_legs_are_not_those_of_the_bots_orders() -> None:
    broker = after(panel([100, 100]), submit(buy()))
    assert [OrderId.parse(each.client_order_id) for each in broker.open_orders()] == [None, None]


def test_an_order_waiting_for_its_bar_is_open_and_its_legs_are_not() -> None:
    broker = after(panel([100]), submit(buy()))
    assert [(each.is_leg, each.side.value) for each in broker.open_orders()] == [(False, "buy")]


def test_canceling_one_leg_cancels_the_other() -> None:
    def cancel(broker: BacktraderBroker) -> None:
        broker.cancel(broker.open_orders()[0])

    assert after(panel([100, 100, 100, 90]), submit(buy()), cancel).open_orders() == ()


def test_the_same_client_order_id_is_not_taken_twice() -> None:
    def again(broker: BacktraderBroker) -> None:
        with pytest.raises(OrderRejectedError, match="is taken"):
            broker.submit(PLAIN)

    assert len(after(panel([100, 100, 100]), submit(PLAIN), again).fills) == 1


def test_an_order_is_found_by_its_client_order_id_with_its_fill() -> None:
    found = after(panel([100, 104]), submit(PLAIN)).find(PLAIN)
    assert found is not None
    assert (found.status, found.filled_quantity, found.filled_price_usd) == ("filled", 10.0, 104.0)


def test_an_order_never_sent_is_not_found() -> None:
    assert after(panel([100])).find(PLAIN) is None


def test_equity_is_cash_and_holdings_at_the_last_close() -> None:
    broker = after(panel([100, 104, 110]), submit(PLAIN), cash_usd=2_000)
    assert (broker.cash_usd(), broker.equity_usd()) == (960.0, 960.0 + 1_100.0)
    assert broker.positions()["AAPL"].average_price_usd == 104.0


def test_the_clock_keeps_the_exchanges_hours() -> None:
    broker = after(panel([100]))
    broker.at(datetime.fromisoformat("2022-12-25T20:00:00+00:00"), 0.0)
    assert not broker.clock().is_open
