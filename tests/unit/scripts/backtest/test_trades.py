import math

import pytest

from scripts.backtest.model import Fill, Panel, Result
from scripts.backtest.trades import trades
from tests.backtest_results import fill, panel, result


@pytest.fixture
def prices() -> Panel:
    return panel({"AAA": [10, 11, 12, 13, 14, 15], "BBB": [20, 20, 20, 20, 20, math.nan]})


def run_fills(prices: Panel, *fills: Fill) -> Result:
    return result(prices, fills)


def test_a_purchase_and_its_sale_are_one_trade(prices: Panel) -> None:
    buy = fill(prices, 1, "AAA", 10, 11.0, reason="below its trend line")
    sale = fill(prices, 4, "AAA", -10, 14.0, reason="above its trend line")
    (trade,) = trades(run_fills(prices, buy, sale))
    assert (trade.symbol, trade.quantity, trade.bars_held, trade.is_open) == ("AAA", 10, 3, False)
    assert (trade.entry_time, trade.exit_time) == (buy.time, sale.time)
    assert (trade.entry_reason, trade.exit_reason) == ("below its trend line", "above its trend line")
    assert trade.pnl_usd == pytest.approx(30)
    assert trade.return_fraction == pytest.approx(30 / 110)


def test_the_commission_of_both_orders_is_deducted(prices: Panel) -> None:
    fills = fill(prices, 1, "AAA", 10, 11.0, commission_usd=2.0), fill(prices, 4, "AAA", -10, 14.0, commission_usd=3.0)
    (trade,) = trades(run_fills(prices, *fills))
    assert trade.commission_usd == pytest.approx(5)
    assert trade.pnl_usd == pytest.approx(25)
    assert trade.return_fraction == pytest.approx(25 / 112)


def test_a_purchase_sold_in_parts_is_one_trade_for_each_part(prices: Panel) -> None:
    fills = (
        fill(prices, 0, "AAA", 10, 10.0, commission_usd=1.0),
        fill(prices, 2, "AAA", -4, 12.0),
        fill(prices, 3, "AAA", -6, 13.0),
    )
    made = trades(run_fills(prices, *fills))
    assert [trade.quantity for trade in made] == [4, 6]
    assert [trade.pnl_usd for trade in made] == pytest.approx([4 * 2 - 0.4, 6 * 3 - 0.6])


def test_the_shares_bought_first_are_sold_first(prices: Panel) -> None:
    fills = (
        fill(prices, 0, "AAA", 5, 10.0, reason="first"),
        fill(prices, 1, "AAA", 5, 11.0, reason="second"),
        fill(prices, 3, "AAA", -7, 13.0, commission_usd=7.0),
    )
    made = trades(run_fills(prices, *fills))
    assert [(trade.entry_reason, trade.quantity, trade.is_open) for trade in made] == [
        ("first", 5, False),
        ("second", 2, False),
        ("second", 3, True),
    ]
    assert [trade.pnl_usd for trade in made] == pytest.approx([5 * 3 - 5, 2 * 2 - 2, 3 * (15 - 11)])


def test_an_open_trade_is_valued_at_the_last_close(prices: Panel) -> None:
    (trade,) = trades(run_fills(prices, fill(prices, 2, "AAA", 10, 12.0, commission_usd=1.0)))
    assert (trade.exit_time, trade.exit_reason, trade.bars_held) == (None, "still open", 3)
    assert trade.exit_price_usd == 15
    assert trade.pnl_usd == pytest.approx(29)


def test_a_delisted_symbol_is_valued_at_the_last_close_it_had(prices: Panel) -> None:
    (trade,) = trades(run_fills(prices, fill(prices, 2, "BBB", 1, 25.0)))
    assert trade.exit_price_usd == 20


def test_bars_after_an_interruption_are_ignored(prices: Panel) -> None:
    whole = run_fills(prices, fill(prices, 2, "AAA", 10, 12.0))
    cut = Result(options=whole.options, panel=prices, bars=whole.bars[:4], fills=whole.fills, is_complete=False)
    (trade,) = trades(cut)
    assert (trade.exit_price_usd, trade.bars_held) == (13, 1)


@pytest.mark.parametrize("kind", ["stop-loss", "take-profit"])
def test_a_sale_by_a_bracket_has_its_leg_as_the_reason(prices: Panel, kind: str) -> None:
    fills = fill(prices, 1, "AAA", 10, 11.0), fill(prices, 3, "AAA", -10, 13.0, kind=kind, reason="leg of its bracket")
    (trade,) = trades(run_fills(prices, *fills))
    assert trade.exit_reason == kind


def test_a_trade_stopped_in_its_first_bar_is_held_for_zero_bars(prices: Panel) -> None:
    fills = fill(prices, 1, "AAA", 10, 11.0), fill(prices, 1, "AAA", -10, 10.0, kind="stop-loss")
    (trade,) = trades(run_fills(prices, *fills))
    assert trade.bars_held == 0


def test_symbols_do_not_mix_and_trades_are_in_order_of_entry(prices: Panel) -> None:
    fills = (
        fill(prices, 0, "BBB", 1, 20.0),
        fill(prices, 1, "AAA", 1, 11.0),
        fill(prices, 2, "AAA", -1, 12.0),
        fill(prices, 3, "BBB", -1, 21.0),
    )
    made = trades(run_fills(prices, *fills))
    assert [trade.symbol for trade in made] == ["BBB", "AAA"]
    assert [trade.pnl_usd for trade in made] == pytest.approx([1, 1])


def test_fractional_shares_leave_no_remainder(prices: Panel) -> None:
    fills = (
        fill(prices, 0, "AAA", 0.3, 10.0),
        fill(prices, 1, "AAA", -0.1, 11.0),
        fill(prices, 2, "AAA", -0.2, 12.0),
    )
    assert [trade.is_open for trade in trades(run_fills(prices, *fills))] == [False, False]


def test_selling_more_than_was_bought_is_an_error(prices: Panel) -> None:
    fills = fill(prices, 0, "AAA", 1, 10.0), fill(prices, 1, "AAA", -3, 11.0)
    with pytest.raises(ValueError, match="sells 2 AAA more than was bought"):
        trades(run_fills(prices, *fills))


def test_without_fills_there_are_no_trades(prices: Panel) -> None:
    assert trades(run_fills(prices)) == ()
