import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.builders import account, insight, positions, settings, target
from trader.alpha import loader
from trader.model import Account, Code, Direction, Insight, OpenOrder, Position, Side, Target
from trader.settings import Settings
from trader.stages.portfolio import subtract_reserved, targets
from trader.stages.risk import limit

UP, FLAT, DOWN = Direction.UP, Direction.FLAT, Direction.DOWN


def size(
    *insights: Insight,
    held: dict[str, Position] | None = None,
    pending: Sequence[str] = (),
    shares: int | None = None,
    **env: object,
) -> list[Target]:
    return list(targets(insights, {}, account(), held or {}, pending, settings(**env), shares_per_order=shares))


def code(
    wish: Target,
    *,
    of: Account | None = None,
    pending: Sequence[str] = (),
    held: dict[str, Position] | None = None,
    **env: object,
) -> Code | None:
    _, denials = limit([wish], of or account(), held or {}, pending, settings(**env))
    return denials[0].code if denials else None


# --- sizing ---


def test_the_cash_less_the_buffer_is_split_equally_among_buys() -> None:
    quantities = [
        each.wanted for each in size(insight("A", UP), insight("B", UP), MAX_POSITION_FRACTION=1, MAX_ORDER_USD=1e6)
    ]
    assert quantities == [475, 475]


def test_one_buy_takes_no_more_than_the_position_cap() -> None:
    assert [each.wanted for each in size(insight("A", UP))] == [100]


def test_one_buy_takes_no_more_than_the_order_cap() -> None:
    assert [each.wanted for each in size(insight("A", UP), MAX_ORDER_USD=2_550)] == [25]


def test_margin_is_never_used() -> None:
    rich = Account(equity_usd=10_000, last_equity_usd=10_000, cash_usd=1_000, buying_power_usd=40_000)
    assert [each.wanted for each in targets([insight("A", UP, 10)], {}, rich, {}, (), settings())] == [50]


def test_a_held_symbol_is_not_bought_again() -> None:
    assert size(insight("A", UP), held=positions(A=5)) == []


def test_the_whole_holding_is_sold_fractions_included() -> None:
    (sale,) = size(insight("A", DOWN), held=positions(A=12.345))
    assert (sale.held, sale.wanted) == (12.345, 0)


def test_a_symbol_that_is_not_held_is_not_sold() -> None:
    assert size(insight("A", DOWN)) == []


def test_somebody_elses_short_position_is_left_alone() -> None:
    assert size(insight("A", DOWN), insight("B", UP), held=positions(A=-5, B=-5)) == []


def test_flat_changes_nothing() -> None:
    assert size(insight("A", FLAT), insight("B", FLAT), held=positions(A=5)) == []


def test_sales_come_first_and_the_widest_gap_leads() -> None:
    wishes = size(
        insight("A", UP, gap_fraction=-0.02),
        insight("B", UP, gap_fraction=-0.09),
        insight("C", DOWN, gap_fraction=0.02),
        held=positions(C=1),
    )
    assert [each.symbol for each in wishes] == ["C", "B", "A"]


def test_a_symbol_with_an_open_order_takes_no_share_of_the_cash() -> None:
    free, pending = size(insight("A", UP), insight("P", UP), pending=["P"], MAX_POSITION_FRACTION=1, MAX_ORDER_USD=1e6)
    assert (free.wanted, pending.wanted) == (950, 950)


def test_without_brackets_fractions_of_shares_are_bought() -> None:
    (wish,) = size(insight("A", UP, 3_000), STOP_LOSS_FRACTION=0, TAKE_PROFIT_FRACTION=0)
    assert wish.wanted == 3.3333


def test_a_rule_may_trade_single_shares() -> None:
    wishes = size(insight("A", UP), insight("B", DOWN), held=positions(B=3), shares=1)
    assert [each.change for each in wishes] == [-1, 1]


def pending(side: Side, quantity: float) -> OpenOrder:
    return OpenOrder(order_id="1", client_order_id="1", symbol="P", side=side, quantity=quantity)


def test_the_cost_of_open_buys_is_not_spent_again() -> None:
    assert subtract_reserved(account(10_000), [pending(Side.BUY, 30)], {"P": 100}).cash_usd == 7_000


def test_open_sales_reserve_nothing() -> None:
    assert subtract_reserved(account(10_000), [pending(Side.SELL, 30)], {}).cash_usd == 10_000


@pytest.mark.parametrize(("quantity", "prices_usd"), [(30, {}), (0, {"P": 100.0})])
def test_an_open_buy_of_unknown_cost_reserves_everything(quantity: float, prices_usd: dict[str, float]) -> None:
    cautious = subtract_reserved(account(10_000), [pending(Side.BUY, quantity)], prices_usd)
    assert cautious.spendable_usd(settings().cash_buffer_fraction) == 0


# --- limits: each refusal has its code ---


def test_an_order_within_every_cap_is_allowed() -> None:
    assert code(target(wanted=100)) is None


@pytest.mark.parametrize("gap_fraction", [-0.9, -0.41, 0.41, 999.0])
def test_a_price_too_far_from_its_line_is_refused(gap_fraction: float) -> None:
    assert code(target(gap_fraction=gap_fraction)) is Code.NO_PRICE_DATA
    assert code(target(held=10, wanted=0, gap_fraction=gap_fraction)) is Code.NO_PRICE_DATA


def test_an_open_order_blocks_another() -> None:
    assert code(target(), pending=["AAPL"]) is Code.OPEN_ORDER_PENDING


def test_a_buy_of_less_than_one_share_is_refused() -> None:
    assert code(target(wanted=0)) is Code.QUANTITY_BELOW_ONE


def test_a_fraction_worth_less_than_a_dollar_is_refused() -> None:
    assert code(target(wanted=0.0099)) is Code.QUANTITY_BELOW_ONE


def test_a_position_above_its_cap_is_refused() -> None:
    assert code(target(wanted=101)) is Code.POSITION_CAP


def test_adding_to_a_holding_is_refused() -> None:
    assert code(target(held=1, wanted=2), held=positions(AAPL=1)) is Code.POSITION_CAP


def test_a_sale_below_zero_is_refused() -> None:
    assert code(target(held=1, wanted=-1)) is Code.POSITION_CAP


def test_an_order_above_its_cap_is_refused() -> None:
    assert code(target(wanted=90), MAX_ORDER_USD=8_999) is Code.ORDER_CAP


def test_more_cash_than_is_spendable_is_refused() -> None:
    assert code(target(wanted=100), of=account(100_000, cash_usd=14_999)) is Code.BUYING_POWER_EXCEEDED


def test_the_sum_of_all_buys_is_what_counts() -> None:
    wishes = [target("A", wanted=100), target("B", wanted=100)]
    allowed, denials = limit(wishes, account(100_000, cash_usd=24_999), {}, (), settings())
    assert ([each.symbol for each in allowed], [each.code for each in denials]) == (["A"], [Code.BUYING_POWER_EXCEEDED])


@pytest.mark.parametrize(
    ("equity_usd", "refused"),
    [
        (97_003, None),  # one share at 100 USD could lose 3 USD more
        (97_002.99, Code.DAILY_LOSS_STOP),
        (97_000, Code.DAILY_LOSS_STOP),
        (50_000, Code.DAILY_LOSS_STOP),
    ],
)
def test_the_daily_loss_stop_counts_what_the_stop_of_the_buy_could_lose(
    equity_usd: float, refused: Code | None
) -> None:
    assert code(target(wanted=1), of=account(equity_usd, last_equity_usd=100_000)) is refused


def test_the_stops_of_all_buys_together_stay_within_the_daily_loss() -> None:
    wishes = [target(symbol, wanted=100) for symbol in "ABCD"]  # 300 USD at risk each
    at_a_loss = account(100_000, last_equity_usd=102_200)  # 3,066 are allowed, so 866 are left
    allowed, denials = limit(wishes, at_a_loss, {}, (), settings())
    assert ([each.symbol for each in allowed], {each.code for each in denials}) == (["A", "B"], {Code.DAILY_LOSS_STOP})


def test_without_brackets_the_daily_loss_stop_counts_the_loss_so_far_only() -> None:
    of = account(97_000.01, last_equity_usd=100_000)
    assert code(target(wanted=1), of=of, STOP_LOSS_FRACTION=0, TAKE_PROFIT_FRACTION=0) is None


@pytest.mark.parametrize(
    ("equity_usd", "flows_usd", "refused"),
    [
        (99_000, 5_000, Code.DAILY_LOSS_STOP),  # a deposit hides a loss of 6,000
        (244_000, 150_000, Code.DAILY_LOSS_STOP),  # which may have been made before the deposit
        (247_001, 150_000, None),  # a loss of 2,999 is within the limit
        (60_000, -40_000, None),  # a withdrawal is no loss
        (100_000 + 5_000, 5_000, None),
    ],
)
def test_deposits_and_withdrawals_are_neither_gain_nor_loss(
    equity_usd: float, flows_usd: float, refused: Code | None
) -> None:
    of = replace(account(equity_usd, last_equity_usd=100_000), flows_usd=flows_usd)
    assert code(target(wanted=1), of=of) is refused


@pytest.mark.parametrize(
    ("bars", "pause", "refused"), [(0, 1, Code.PAUSED), (1, 1, None), (1, 2, Code.PAUSED), (0, 0, None)]
)
def test_a_symbol_that_was_stopped_out_pauses(bars: int, pause: int, refused: Code | None) -> None:
    chosen = settings(PAUSE_AFTER_STOP_BARS=pause)
    _, denials = limit([target(wanted=1)], account(), {}, (), chosen, bars_since_stop={"AAPL": bars})
    assert [each.code for each in denials] == ([refused] if refused else [])


@pytest.mark.parametrize(
    ("peak_usd", "limit_fraction", "refused"),
    [
        (125_000, 0.2, Code.DRAWDOWN_STOP),
        (124_999, 0.2, None),
        (None, 0.2, Code.EQUITY_UNKNOWN),
        (1e9, 0.0, None),
        (None, 0.0, None),
    ],
)
def test_no_buys_once_equity_is_far_below_its_highest(
    peak_usd: float | None, limit_fraction: float, refused: Code | None
) -> None:
    chosen = settings(MAX_DRAWDOWN_FRACTION=limit_fraction)
    _, denials = limit([target(wanted=1)], account(100_000), {}, (), chosen, peak_equity_usd=peak_usd)
    assert [each.code for each in denials] == ([refused] if refused else [])


def test_a_highest_equity_that_is_not_known_is_refused_with_its_reason() -> None:
    chosen = settings(MAX_DRAWDOWN_FRACTION=0.2)
    _, denials = limit([target(wanted=1)], account(), {}, (), chosen, peak_problem="the file is damaged; delete it")
    assert "the file is damaged; delete it" in denials[0].detail


@pytest.mark.parametrize("drawdown", [0.0, 0.2])
def test_without_the_deposits_of_the_day_nothing_is_bought(drawdown: float) -> None:
    of = replace(account(), flows_usd=None)
    assert code(target(wanted=1), of=of, MAX_DRAWDOWN_FRACTION=drawdown) is Code.EQUITY_UNKNOWN


def test_what_is_not_known_never_stops_a_sale() -> None:
    of, held = replace(account(), flows_usd=None), positions(AAPL=10)
    assert code(target(held=10, wanted=0), of=of, held=held, MAX_DRAWDOWN_FRACTION=0.2) is None


def test_without_yesterdays_equity_new_buys_are_refused() -> None:
    assert code(target(wanted=1), of=account(last_equity_usd=0)) is Code.DAILY_LOSS_STOP


def test_the_daily_loss_never_stops_a_sale() -> None:
    assert code(target(held=10, wanted=0), of=account(1, last_equity_usd=100_000), held=positions(AAPL=10)) is None


def test_the_order_limit_of_a_run_admits_sales_first() -> None:
    wishes = [target("S", held=1, wanted=0), target("A", wanted=1), target("B", wanted=1)]
    allowed, denials = limit(wishes, account(), positions(S=1), (), settings(MAX_ORDERS_PER_RUN=2))
    assert ([each.symbol for each in allowed], [each.code for each in denials]) == (["S", "A"], [Code.ORDER_CAP])


# --- any market, account and settings ---

SYMBOLS = [f"S{number}" for number in range(12)]


@st.composite
def situations(draw: st.DrawFn) -> tuple[tuple[Insight, ...], Account, dict[str, Position], list[str], Settings]:
    """Draw a situation; half of the draws buy more than one symbol, and some both buy and sell."""
    chosen = draw(st.lists(st.sampled_from(SYMBOLS), unique=True, min_size=6))
    direction, price_usd, gap = st.sampled_from([UP, UP, DOWN, FLAT]), st.floats(1, 500), st.floats(-0.39, 0.39)
    insights = tuple(insight(symbol, draw(direction), draw(price_usd), draw(gap)) for symbol in chosen)
    quantity = st.sampled_from([0.5, 1.0, 7.25, 100.0, -3.0])
    held = positions(**{symbol: draw(quantity) for symbol in draw(st.sets(st.sampled_from(SYMBOLS), max_size=4))})
    equity_usd = draw(st.floats(1e4, 1e6))
    of = Account(
        equity_usd=equity_usd,
        last_equity_usd=equity_usd * draw(st.sampled_from([1, 1, 1, 1, 1.02, 1.05, 0])),
        cash_usd=equity_usd * draw(st.sampled_from([1, 1, 0.5, 0.1, 0, -0.1])),
        buying_power_usd=equity_usd * draw(st.sampled_from([1, 4, 0.3])),
    )
    bracket = draw(st.booleans())
    chosen_settings = settings(
        CASH_BUFFER_FRACTION=draw(st.sampled_from([0, 0.05, 0.3])),
        MAX_POSITION_FRACTION=draw(st.sampled_from([0.3, 0.05, 1])),
        MAX_ORDER_USD=draw(st.sampled_from([25_000, 1e6, 500])),
        MAX_ORDERS_PER_RUN=draw(st.sampled_from([15, 15, 3, 1])),
        STOP_LOSS_FRACTION=0.03 if bracket else 0,
        TAKE_PROFIT_FRACTION=0.4 if bracket else 0,
        SIGNAL=draw(st.sampled_from(loader.names())),
    )
    return insights, of, held, draw(st.lists(st.sampled_from(SYMBOLS), unique=True, max_size=2)), chosen_settings


@examples(max_examples=300)
@given(situations())
def test_no_situation_breaks_a_rule_that_protects_money(
    situation: tuple[tuple[Insight, ...], Account, dict[str, Position], list[str], Settings],
) -> None:
    insights, of, held, pending, chosen = situation
    shares = loader.facts(chosen.signal).shares_per_order
    wishes = targets(insights, {}, of, held, pending, chosen, shares_per_order=shares)
    allowed, denials = limit(wishes, of, held, pending, chosen)
    buys = [each for each in allowed if each.change > 0]
    sells = [each for each in allowed if each.change < 0]
    assert len(allowed) <= chosen.max_orders_per_run
    assert len({each.symbol for each in allowed}) == len(allowed), "two orders for one symbol"
    assert not {each.symbol for each in allowed} & set(pending)
    assert not {each.symbol for each in buys} & set(held), "a held symbol bought again"
    assert all(0 <= each.wanted < each.held == held[each.symbol].quantity for each in sells), "sold what is not held"
    costs = [each.change * each.price_usd for each in buys]
    assert all(cost <= min(chosen.max_order_usd, chosen.max_position_fraction * of.equity_usd) for cost in costs)
    assert sum(costs) <= max(0, min(of.cash_usd, of.buying_power_usd) - chosen.cash_buffer_fraction * of.equity_usd) * (
        1 + 1e-12
    )
    assert all(each.wanted.is_integer() for each in buys) or not chosen.stop_loss_fraction
    assert all(math.isfinite(each.wanted) for each in allowed)
    assert {each.symbol for each in allowed} | {each.symbol for each in denials} <= {each.symbol for each in insights}
