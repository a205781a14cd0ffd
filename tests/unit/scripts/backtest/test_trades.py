import math
from dataclasses import replace
from typing import Any

import pytest

from scripts.backtest.model import Fill, Panel, Restatement, Result
from scripts.backtest.trades import ExitKind, trades
from tests.backtest_results import fill, panel, result, with_bracket


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


# --- shares that were restated for a split ---------------------------------------------------------------------------

AFTER_4_FOR_1 = {"AAA": [100, 104, 26, 27, 28, 29, 29, 30]}
AFTER_1_FOR_8 = {"AAA": [10, 11, 88, 96, 104, 108, 110, 112]}
HELD_ON = 2
"""The first bar in the new unit."""


def restate(prices: Panel, ratio: float, before: float, after: float, cash_usd: float = 0.0) -> Restatement:
    return Restatement(
        time=prices.close.index[HELD_ON].to_pydatetime(),
        symbol="AAA",
        ratio=ratio,
        quantity_before=before,
        quantity_after=after,
        cash_usd=cash_usd,
    )


def across(prices: Panel, split: Restatement, *fills: Fill, **fields: Any) -> Result:
    return result(prices, fills, restatements=(split,), **fields)


def test_shares_bought_before_a_split_are_sold_as_more_shares_after_it() -> None:
    prices = panel(AFTER_4_FOR_1)
    fills = fill(prices, 0, "AAA", 10, 100.0), fill(prices, 4, "AAA", -40, 28.0)
    (trade,) = trades(across(prices, restate(prices, 4.0, 10, 40), *fills))
    assert (trade.quantity, trade.entry_price_usd) == (10, 100.0)
    assert (trade.exit_quantity, trade.exit_price_usd, trade.is_open) == (40, 28.0, False)


def test_a_split_is_neither_a_gain_nor_a_loss() -> None:
    prices = panel(AFTER_4_FOR_1)
    fills = fill(prices, 0, "AAA", 10, 100.0), fill(prices, 4, "AAA", -40, 28.0)
    (trade,) = trades(across(prices, restate(prices, 4.0, 10, 40), *fills))
    assert trade.pnl_usd == pytest.approx(40 * 28 - 10 * 100)
    assert trade.return_fraction == pytest.approx(0.12)


def test_a_trade_without_a_split_sells_what_it_bought(prices: Panel) -> None:
    (trade,) = trades(run_fills(prices, fill(prices, 1, "AAA", 10, 11.0), fill(prices, 4, "AAA", -10, 14.0)))
    assert trade.exit_quantity == trade.quantity == 10


def test_the_sale_of_a_splits_own_bar_is_in_the_new_unit() -> None:
    prices = panel(AFTER_4_FOR_1)
    fills = fill(prices, 0, "AAA", 10, 100.0), fill(prices, HELD_ON, "AAA", -40, 25.0)
    (trade,) = trades(across(prices, restate(prices, 4.0, 10, 40), *fills))
    assert trade.pnl_usd == pytest.approx(0)


def test_shares_bought_after_a_split_are_not_restated() -> None:
    prices = panel(AFTER_4_FOR_1)
    fills = (
        fill(prices, 0, "AAA", 10, 100.0),
        fill(prices, 3, "AAA", 10, 27.0),
        fill(prices, 7, "AAA", -50, 30.0),
    )
    made = trades(across(prices, restate(prices, 4.0, 10, 40), *fills))
    assert [(trade.quantity, trade.exit_quantity) for trade in made] == [(10, 40), (10, 10)]
    assert [trade.pnl_usd for trade in made] == pytest.approx([40 * 30 - 1_000, 10 * 30 - 270])


def test_a_part_sold_after_a_split_has_its_share_of_the_purchase() -> None:
    prices = panel(AFTER_4_FOR_1)
    fills = fill(prices, 0, "AAA", 10, 100.0, commission_usd=4.0), fill(prices, 4, "AAA", -10, 28.0)
    sold, held = trades(across(prices, restate(prices, 4.0, 10, 40), *fills))
    assert (sold.quantity, sold.exit_quantity, sold.commission_usd) == (2.5, 10, 1.0)
    assert (held.quantity, held.exit_quantity, held.commission_usd) == (7.5, 30, 3.0)


def test_shares_still_held_after_a_split_are_valued_in_the_new_unit() -> None:
    prices = panel(AFTER_4_FOR_1)
    (trade,) = trades(across(prices, restate(prices, 4.0, 10, 40), fill(prices, 0, "AAA", 10, 100.0)))
    assert (trade.is_open, trade.exit_quantity, trade.exit_price_usd) == (True, 40, 30)
    assert trade.pnl_usd == pytest.approx(40 * 30 - 1_000)


def test_the_fraction_left_over_by_a_reverse_split_is_sold_for_the_cash_paid() -> None:
    prices = panel(AFTER_1_FOR_8)
    fills = fill(prices, 0, "AAA", 20, 10.0), fill(prices, 4, "AAA", -2, 104.0)
    fraction, rest = trades(across(prices, restate(prices, 1 / 8, 20, 2, cash_usd=44.0), *fills))
    assert (fraction.exit_reason, fraction.quantity, fraction.exit_quantity) == ("cash in lieu of a fraction", 4, 0.5)
    assert fraction.exit_price_usd * fraction.exit_quantity == pytest.approx(44)
    assert fraction.pnl_usd == pytest.approx(44 - 40)
    assert (rest.quantity, rest.exit_quantity) == (16, 2)
    assert rest.pnl_usd == pytest.approx(2 * 104 - 160)


def test_too_few_shares_for_one_new_one_are_paid_out_entirely() -> None:
    prices = panel(AFTER_1_FOR_8)
    split = restate(prices, 1 / 8, 4, 0, cash_usd=44.0)
    (trade,) = trades(across(prices, split, fill(prices, 0, "AAA", 4, 10.0)))
    assert (trade.exit_time, trade.is_open) == (split.time, False)
    assert trade.pnl_usd == pytest.approx(4)


def test_the_fraction_comes_from_the_shares_bought_first() -> None:
    prices = panel(AFTER_1_FOR_8)
    fills = fill(prices, 0, "AAA", 8, 10.0, reason="first"), fill(prices, 1, "AAA", 12, 11.0, reason="second")
    made = trades(across(prices, restate(prices, 1 / 8, 20, 2, cash_usd=44.0), *fills))
    assert [(trade.entry_reason, trade.exit_quantity, trade.is_open) for trade in made] == [
        ("first", 0.5, False),
        ("first", 0.5, True),
        ("second", 1.5, True),
    ]


def test_fractional_shares_survive_a_split_to_the_last_decimal() -> None:
    prices = panel({"AAA": [10, 10, 30, 30, 30, 30]})
    fills = fill(prices, 0, "AAA", 3.7, 10.0), fill(prices, 4, "AAA", -1.233333333, 30.0)
    (trade,) = trades(across(prices, restate(prices, 1 / 3, 3.7, 1.233333333), *fills))
    assert trade.quantity == pytest.approx(3.7, abs=2e-9)
    assert not trade.is_open


def test_quantities_across_a_split_have_no_rounding_errors() -> None:
    prices = panel({"AAA": [60, 60, 40, 40, 40, 40]})
    fills = fill(prices, 0, "AAA", 87.2006, 60.0), fill(prices, 4, "AAA", -130.8009, 40.0)
    (trade,) = trades(across(prices, restate(prices, 1.5, 87.2006, 130.8009), *fills))
    assert (trade.quantity, trade.exit_quantity) == (87.2006, 130.8009)  # 87.2006 * 1.5 is 130.80089999999998


def test_several_purchases_of_fractions_are_sold_after_a_split_to_the_last_share() -> None:
    prices = panel({"AAA": [10, 10, 30, 30, 30, 30]})
    bought = [fill(prices, 0, "AAA", 1.1, 10.0, client_order_id=f"buy {number}") for number in range(7)]
    sale = fill(prices, 4, "AAA", -2.566666667, 30.0)
    made = trades(across(prices, restate(prices, 1 / 3, 7.7, 2.566666667), *bought, sale))
    assert [trade.is_open for trade in made] == [False] * 7


def test_a_split_of_shares_that_nobody_holds_changes_nothing(prices: Panel) -> None:
    fills = fill(prices, 3, "AAA", 10, 13.0), fill(prices, 4, "AAA", -10, 14.0)
    (trade,) = trades(across(prices, restate(prices, 4.0, 0, 0), *fills))
    assert trade.exit_quantity == 10


def test_a_split_after_the_last_bar_of_an_interruption_is_not_in_the_valuation() -> None:
    prices = panel(AFTER_4_FOR_1)
    whole = across(prices, restate(prices, 4.0, 10, 40), fill(prices, 0, "AAA", 10, 100.0), is_complete=False)
    (trade,) = trades(replace(whole, bars=whole.bars[:HELD_ON]))
    assert (trade.exit_quantity, trade.exit_price_usd) == (10, 104)


def test_a_split_of_other_shares_than_those_held_is_an_error(prices: Panel) -> None:
    split = restate(prices, 4.0, 12, 48)
    with pytest.raises(ValueError, match=r"the 4:1 split at .* restates 12 AAA, but 10 are held"):
        trades(across(prices, split, fill(prices, 0, "AAA", 10, 10.0)))


def test_an_open_trade_is_not_valued_at_a_jump_that_nothing_confirms() -> None:
    prices = panel({"AAA": [*[10.0] * 60, 2.5]})
    (trade,) = trades(run_fills(prices, fill(prices, 2, "AAA", 10, 10.0)))
    assert trade.exit_price_usd == 10


def test_a_trade_has_the_stop_and_the_target_of_its_purchase(prices: Panel) -> None:
    buy = fill(prices, 1, "AAA", 10, 11.0)
    made = run_fills(prices, buy, fill(prices, 4, "AAA", -10, 14.0))
    (trade,) = trades(with_bracket(made, buy, stop_loss_usd=10.67, take_profit_usd=15.4))
    assert (trade.stop_loss_usd, trade.take_profit_usd) == (10.67, 15.4)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("market", ExitKind.RULE), ("stop-loss", ExitKind.STOP_LOSS), ("take-profit", ExitKind.TAKE_PROFIT)],
)
def test_a_trade_says_what_ended_it(prices: Panel, kind: str, expected: ExitKind) -> None:
    (trade,) = trades(run_fills(prices, fill(prices, 1, "AAA", 10, 11.0), fill(prices, 4, "AAA", -10, 14.0, kind=kind)))
    assert trade.exit_kind is expected


def test_a_trade_that_nothing_has_ended_is_open(prices: Panel) -> None:
    (trade,) = trades(run_fills(prices, fill(prices, 1, "AAA", 10, 11.0)))
    assert (trade.exit_kind, trade.stop_loss_usd) == (ExitKind.OPEN, None)
