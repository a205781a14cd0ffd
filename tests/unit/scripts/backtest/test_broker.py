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
from scripts.backtest.model import Options, Panel, Refusal, Restatement
from tests import builders
from tests.builders import buy, daily, sell
from trader.broker.base import OrderId, OrderRejectedError
from trader.model import OpenOrder, Order, OrderStatus, OrderType, Position

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
            brokers[0].at(bt.num2date(self.datetime[0]).replace(hour=20), brokers[0].equity_usd())
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


def all_of(*steps: Step) -> Step:
    """Take several steps at one bar."""

    def step(broker: BacktraderBroker) -> None:
        for each in steps:
            each(broker)

    return step


def split(ratio: float, found: list[Restatement] | None = None) -> Step:
    """Carry out a split of AAPL after the bar, and note what it did in `found`."""

    def step(broker: BacktraderBroker) -> None:
        restated = broker.restate("AAPL", ratio, builders.SLOT)
        if found is not None:
            found.append(restated)

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


def test_buying_without_costs_leaves_the_equity_to_the_cent() -> None:
    orders = [replace(PLAIN, symbol=symbol, client_order_id=symbol, quantity=3.3333) for symbol in ("AAPL", "MSFT")]
    broker = after(panel([10.01, 10.01]), all_of(*map(submit, orders)), cash_usd=1_000)
    assert (broker.cash_usd(), broker.equity_usd()) == (1_000 - 2 * 33.37, 1_000)


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


def test_a_filled_stop_without_a_bracket_tells_when_it_was_filled() -> None:
    broker = after(panel([100, 100, 96, 96, 96]), submit(PLAIN), submit(stop_at(97)))
    stops = [each for each in broker.orders_of(["AAPL"]) if each.type.is_stop]
    assert len(stops) == 2  # itself, and the last stop of the symbol
    assert {each.filled_at for each in stops} == {broker.fills[1].time}


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


def test_what_is_open_is_described_anew_only_when_it_has_changed() -> None:
    seen: list[tuple[OpenOrder, ...]] = []

    def look(broker: BacktraderBroker) -> None:
        seen.append(broker.open_orders())

    after(panel([100, 100, 100, 100]), submit(buy()), look, all_of(look, submit(buy("MSFT")), look))
    (stop, *_), (same, *_), (still, _, new) = seen
    assert (stop is same is still, new.symbol) == (True, "MSFT")


def test_holdings_are_valued_once_for_all_buys_of_a_bar() -> None:
    seen: list[Position] = []

    def look(broker: BacktraderBroker) -> None:
        seen.append(broker.positions()["AAPL"])

    after(panel([100, 100, 100]), submit(PLAIN), all_of(look, submit(buy("MSFT")), look))
    assert seen[0] is seen[1]


def test_a_stop_reserves_its_shares_as_soon_as_it_is_placed() -> None:
    available: list[float | None] = []

    def look(broker: BacktraderBroker) -> None:
        available.append(broker.positions()["AAPL"].available)

    stop = replace(sell(quantity=10), type=OrderType.STOP, stop_loss_usd=90.0)
    after(panel([100, 100, 100]), submit(PLAIN), all_of(look, submit(stop), look))
    assert available == [10.0, 0.0]


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


# --- splits that the prices are not adjusted for ---------------------------------------------------------------------


def test_a_split_changes_the_shares_and_what_was_paid_for_one() -> None:
    broker = after(panel([100, 100, 25]), submit(PLAIN), split(4))
    held = broker.positions()["AAPL"]
    assert (held.quantity, held.average_price_usd, held.price_usd, held.available) == (40.0, 25.0, 25.0, 40.0)


@pytest.mark.parametrize("ratio", [4, 3 / 2, 1 / 3, 0.125, 0.01])
@pytest.mark.parametrize("quantity", [1, 30, 101, 3.3333])
def test_a_split_leaves_the_equity_as_it_is(ratio: float, quantity: float) -> None:
    seen: list[float] = []

    def note(broker: BacktraderBroker) -> None:
        seen.append(broker.equity_usd())

    steps = all_of(note, split(ratio), note)
    after(panel([100, 104, 99.99]), submit(replace(PLAIN, quantity=quantity)), wait, steps, cash_usd=20_000)
    assert seen[1] == pytest.approx(seen[0], abs=0.005)


def test_until_the_next_bar_a_split_holding_is_valued_at_the_last_close_in_the_new_unit() -> None:
    broker = after(panel([100, 104]), submit(PLAIN), split(4))
    assert (broker.positions()["AAPL"].price_usd, broker.latest_prices_usd(["AAPL", "MSFT"])) == (
        26.0,
        {"AAPL": 26.0, "MSFT": 104.0},
    )


def test_from_the_next_bar_on_a_split_holding_is_valued_at_its_close() -> None:
    broker = after(panel([100, 104, 27]), submit(PLAIN), split(4), cash_usd=2_000)
    assert broker.equity_usd() == 2_000 - 1_040 + 40 * 27


def test_two_splits_in_a_row_are_both_carried_out() -> None:
    broker = after(panel([100, 100, 100]), submit(PLAIN), wait, all_of(split(4), split(0.5)))
    held = broker.positions()["AAPL"]
    assert (held.quantity, held.average_price_usd, held.price_usd) == (20.0, 50.0, 50.0)


def test_the_fraction_of_a_share_that_a_split_leaves_is_paid_out() -> None:
    found: list[Restatement] = []
    broker = after(panel([100, 100, 66]), submit(buy(quantity=5, bracket=False)), split(1.5, found), cash_usd=1_000)
    assert (broker.read_holdings(), broker.cash_usd()) == ({"AAPL": 7.0}, 533.33)
    (restated,) = found
    assert (restated.symbol, restated.ratio, restated.cash_usd) == ("AAPL", 1.5, 33.33)
    assert (restated.quantity_before, restated.quantity_after) == (5.0, 7.0)
    assert restated.time == builders.SLOT


def test_a_holding_that_a_reverse_split_leaves_no_whole_share_of_is_paid_out() -> None:
    broker = after(panel([100, 100, 800]), submit(buy(quantity=5, bracket=False)), split(0.125), cash_usd=1_000)
    assert (broker.read_holdings(), broker.cash_usd(), broker.equity_usd()) == ({}, 1_000.0, 1_000.0)


def test_a_whole_number_of_new_shares_is_not_lost_to_rounding() -> None:
    broker = after(panel([100, 100, 4_900]), submit(buy(quantity=49, bracket=False)), split(1 / 49))
    assert (broker.read_holdings(), broker.cash_usd()) == ({"AAPL": 1.0}, 100_000.0 - 4_900)


def test_a_fractional_holding_stays_fractional() -> None:
    found: list[Restatement] = []
    after(panel([100, 100, 66]), submit(replace(PLAIN, quantity=3.3333)), split(1.5, found))
    assert (found[0].quantity_after, found[0].cash_usd) == (4.99995, 0.0)


def test_new_shares_are_sold_at_the_new_price() -> None:
    broker = after(panel([100, 100, 25, 26]), submit(PLAIN), split(4), submit(sell(quantity=40)), cash_usd=2_000)
    assert (broker.read_holdings(), broker.cash_usd()) == ({}, 2_000 - 1_000 + 40 * 26.0)


def test_a_split_of_a_symbol_that_is_not_held_changes_nothing() -> None:
    found: list[Restatement] = []
    broker = after(panel([100, 25, 25]), split(4, found), submit(replace(PLAIN, price_usd=25)))
    assert (found[0].quantity_before, found[0].quantity_after, found[0].cash_usd) == (0.0, 0.0, 0.0)
    assert prices_of(broker) == [("market", 25.0)]


def exits(broker: BacktraderBroker) -> list[tuple[OrderType, float, float | None]]:
    return [(each.type, each.quantity, each.stop_price_usd or each.limit_price_usd) for each in broker.open_orders()]


def test_a_split_restates_a_bracket() -> None:
    broker = after(panel([100, 100, 25, 25]), submit(buy()), split(4))
    assert exits(broker) == [(OrderType.STOP, 40.0, 24.25), (OrderType.LIMIT, 40.0, 35.0)]
    assert (broker.refusals, broker.positions()["AAPL"].available) == ([], 0.0)


def test_a_split_restates_a_stop_down_to_a_tick() -> None:
    broker = after(panel([100, 100, 100, 33]), submit(PLAIN), submit(stop_at(97)), split(3))
    assert exits(broker) == [(OrderType.STOP, 30.0, 32.33)]


def test_a_restated_stop_is_filled_in_the_new_unit() -> None:
    broker = after(panel([100, 100, 25, 24, 24]), submit(buy()), split(4))
    assert [(each.kind, each.quantity, each.price_usd) for each in broker.fills[1:]] == [("stop-loss", 40.0, 24.0)]
    assert broker.read_holdings() == {}


def test_of_a_split_that_leaves_no_whole_share_nothing_is_open() -> None:
    broker = after(panel([100, 100, 10_000, 10_000]), submit(buy()), split(0.01))
    assert (broker.open_orders(), broker.read_holdings()) == ((), {})


def test_a_split_cancels_a_buy_with_its_bracket_and_reports_it() -> None:
    broker = after(panel([100, 25, 25]), all_of(submit(buy()), split(4)))
    assert (broker.fills, broker.open_orders()) == ([], ())
    assert broker.refusals == [
        Refusal(
            time=builders.SLOT,
            client_order_id=buy().client_order_id,
            symbol="AAPL",
            reason="buy 10: canceled because a 4:1 split changes the shares",
        )
    ]


def test_a_split_cancels_a_sale_and_reports_it() -> None:
    broker = after(
        panel([100, 100, 800]), submit(buy(quantity=16, bracket=False)), all_of(submit(sell(quantity=16)), split(0.125))
    )
    assert (len(broker.fills), broker.read_holdings()) == (1, {"AAPL": 2.0})
    assert [each.reason for each in broker.refusals] == ["sell 16: canceled because a 1:8 split changes the shares"]


def test_a_split_leaves_the_orders_and_holdings_of_other_symbols() -> None:
    other = replace(buy("MSFT"), client_order_id="trend-20221227T2045Z-MSFT-buy")
    waiting = replace(PLAIN, symbol="MSFT", client_order_id="trend-20221228T2045Z-MSFT-buy")
    broker = after(panel([100, 100, 100]), submit(other), all_of(submit(waiting), split(4)))
    assert (len(broker.open_orders()), broker.refusals, broker.read_holdings()) == (2, [], {"MSFT": 20.0})


def test_an_order_that_has_ended_is_described_once_however_often_it_is_asked_for() -> None:
    found: list[Order] = []

    def ask(broker: BacktraderBroker) -> None:
        found.extend(broker.orders_of(["AAPL"]))

    after(panel([100.0] * 4), submit(buy(quantity=1)), ask, ask)
    first, again = found
    assert (first.status, first.filled_quantity) == (OrderStatus.FILLED, 1)
    assert first is again
