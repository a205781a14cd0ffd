"""The engine runs the bot's pipeline at each bar, here with forecasts that a test chooses."""

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import pandas as pd
import pytest

from scripts.backtest.compute import Table
from scripts.backtest.engine import backtest
from scripts.backtest.judged import judge
from scripts.backtest.model import Options, Panel, Result
from tests.builders import daily, settings
from trader.model import Closes, Code, Forecast, Outcome
from trader.schedule.slot import slot_of

WARM_UP = 30
"""The number of bars up to and including the first traded one: as many as HISTORY_BARS asks for."""

LAST = date(2022, 12, 16)
"""A last day with no holiday near it."""

BELOW, ABOVE, ON = 1.1, 0.9, 1.0
"""The trend line as a multiple of the price; a price below the line means UP."""


def panel(columns: Mapping[str, Closes], *, has_ohlc: bool = False) -> Panel:
    frame = pd.DataFrame(dict(columns))
    return Panel(open=frame, high=frame, low=frame, close=frame, has_ohlc=has_ohlc, source="a test")


def prices(last: date = LAST, **columns: Sequence[float]) -> Panel:
    """Return a panel with these prices in the traded bars, and each symbol's first price in all bars before them."""
    return panel(
        {
            symbol: daily([next(each for each in traded if not math.isnan(each))] * (WARM_UP - 1) + list(traded), last)
            for symbol, traded in columns.items()
        }
    )


def options(bars: Panel, traded: int, **variables: object) -> Options:
    start = bars.close.index[-traded].tz_convert("America/New_York").date()
    small = {"HISTORY_BARS": 30, "UNIVERSE_LOOKBACK_BARS": 5, "UNIVERSE": ",".join(bars.close.columns)}
    return Options(settings=settings(**{**small, **variables}), start=start, slippage_fraction=0.0)


def lines(bars: Panel, **gaps: Sequence[float]) -> Table:
    """Return forecasts for the traded bars, with the trend line at these multiples of the price."""
    table: Table = {}
    for symbol, multiples in gaps.items():
        for at, multiple in zip(bars.close.index[-len(multiples) :], multiples, strict=True):
            time, price_usd = at.to_pydatetime(), float(bars.close[symbol].loc[at])
            table[symbol, time] = Forecast(
                symbol=symbol, time=time, price_usd=price_usd, trend_usd=price_usd * multiple
            )
    return table


def run(bars: Panel, chosen: Options, **gaps: Sequence[float]) -> Result:
    return backtest(bars, chosen, table=lines(bars, **gaps))


def fills(result: Result) -> list[tuple[str, str, float]]:
    return [(each.symbol, each.side.value, each.price_usd) for each in result.fills]


def codes(result: Result, bar: int) -> list[Code]:
    decision = result.bars[bar].decision
    return [each.code for each in decision.denials] if decision else []


def test_an_order_decided_at_one_bar_is_filled_at_the_next() -> None:
    bars = prices(A=[100, 101, 102])
    assert fills(run(bars, options(bars, 3), A=[BELOW, ON, ON])) == [("A", "buy", 101.0)]


def test_a_symbol_that_is_held_is_not_bought_again() -> None:
    bars = prices(A=[100, 100, 100, 100])
    result = run(bars, options(bars, 4), A=[BELOW] * 4)
    assert len(result.fills) == 1
    assert [each.positions for each in result.bars] == [{}, {"A": 100.0}, {"A": 100.0}, {"A": 100.0}]


def test_a_holding_above_its_line_is_sold_with_a_reason() -> None:
    bars = prices(A=[100, 100, 105, 106])
    result = run(bars, options(bars, 4), A=[BELOW, ON, ABOVE, ON])
    assert fills(result)[1] == ("A", "sell", 106.0)
    assert result.fills[1].reason.startswith("price 105.00 is 11.1% above its trend line")


def test_a_sale_frees_the_shares_from_their_bracket_first() -> None:
    bars = prices(A=[100, 100, 105, 106, 90])
    result = run(bars, options(bars, 5), A=[BELOW, ON, ABOVE, ON, ON])
    assert [each.kind for each in result.fills] == ["market", "market"]


def test_a_stop_loss_ends_a_position_between_two_decisions() -> None:
    bars = prices(A=[100, 100, 90])
    result = run(bars, options(bars, 3), A=[BELOW, ON, ON])
    assert (result.fills[1].kind, result.fills[1].price_usd, result.bars[-1].positions) == ("stop-loss", 90.0, {})


def test_the_stop_of_a_bracket_stays_as_it_is() -> None:
    bars = prices(A=[100, 100, 100, 90])
    result = run(bars, options(bars, 4), A=[BELOW, ON, ON, ON])
    assert result.fills[1].client_order_id == f"{result.fills[0].client_order_id}-stop-loss"


def test_equity_is_valued_at_the_bars_close() -> None:
    bars = prices(A=[100, 100, 110])
    assert [each.equity_usd for each in run(bars, options(bars, 3), A=[BELOW, ON, ON]).bars] == [
        100_000.0,
        100_000.0,
        101_000.0,
    ]


def test_the_daily_loss_stop_denies_buys_on_that_day_only() -> None:
    bars = prices(A=[100, 100, 98, 98], B=[50, 50, 50, 50])
    chosen = options(bars, 4, MAX_DAILY_LOSS_FRACTION=0.001, STOP_LOSS_FRACTION=0.001, MAX_POSITION_FRACTION=0.05)
    result = run(bars, chosen, A=[BELOW, ON, ON, ON], B=[ON, ON, BELOW, BELOW])
    assert (codes(result, 2), codes(result, 3)) == ([Code.DAILY_LOSS_STOP], [])


def test_the_drawdown_stop_denies_buys_on_later_days_too() -> None:
    bars = prices(A=[100, 100, 71, 71, 71], B=[50] * 5)
    chosen = options(bars, 5, MAX_DRAWDOWN_FRACTION=0.15, MAX_POSITION_FRACTION=0.9, MAX_ORDER_USD=1e6)
    result = run(bars, chosen, A=[BELOW, ON, ON, ON, ON], B=[ON, ON, ON, BELOW, BELOW])
    assert [codes(result, bar) for bar in (3, 4)] == [[Code.DRAWDOWN_STOP]] * 2


def test_a_split_that_nobody_adjusted_for_restates_what_is_held() -> None:
    bars = prices(A=[100, 100, 25, 25, 25, 25, 25, 25])
    result = run(bars, options(bars, 8), A=[BELOW, *[ON] * 7])
    assert [each.positions["A"] for each in result.bars[1:]] == [100.0] * 5 + [400.0] * 2
    assert {each.equity_usd for each in result.bars} == {100_000.0}
    assert [(each.ratio, each.time) for each in result.restatements] == [(4.0, result.bars[6].time)]


def test_across_a_split_that_nobody_adjusted_for_the_symbol_is_denied() -> None:
    bars = prices(A=[100, 100, 25, 25, 25, 25, 25, 25])
    result = run(bars, options(bars, 8), A=[ON, ON, *[BELOW] * 6])
    assert [codes(result, bar) for bar in range(2, 8)] == [[Code.NO_PRICE_DATA]] * 6
    assert not result.fills


def test_a_wrong_price_triggers_no_stop_and_values_nothing() -> None:
    bars = prices(A=[100, 100, 0.5, 100, 100])
    result = run(bars, options(bars, 5), A=[BELOW, *[ON] * 4])
    assert {each.equity_usd for each in result.bars} == {100_000.0}
    assert [each.kind for each in result.fills] == ["market"]


def test_a_position_that_lost_its_bracket_to_a_sale_gets_a_stop_again() -> None:
    traded = [100, 100, 105, math.nan, 104, 90, 90]
    bars = panel({"A": daily([100] * (WARM_UP - 1) + traded, LAST), "B": daily([50] * (WARM_UP + 6), LAST)})
    gaps = [BELOW, ON, ABOVE, ON, ON, ON, ON]
    table: Table = {
        key: each
        for key, each in lines(bars, A=gaps, B=[ON] * 7).items()
        if isinstance(each, Forecast) and each.price_usd > 0
    }
    result = backtest(bars, options(bars, 7), table=table)
    assert [each.reason.rpartition(": ")[2] for each in result.refusals] == [
        "canceled because no bar could fill it; the position's bracket is also canceled"
    ]
    assert [(each.kind, each.price_usd) for each in result.fills] == [("market", 100.0), ("stop-loss", 90.0)]
    assert [each.positions.get("A") for each in result.bars] == [None, 100.0, 100.0, 100.0, 100.0, None, None]


def test_nothing_is_decided_while_the_exchange_is_closed() -> None:
    bars = prices(last=date(2022, 12, 27), A=[100, 100, 100])  # closed on the 26th, because Christmas was a Sunday
    result = run(bars, options(bars, 3), A=[BELOW] * 3)
    assert [each.status for each in result.bars] == [Outcome.TRADED, Code.MARKET_CLOSED, Outcome.NOTHING_TO_DO]
    assert result.bars[1].decision is None


def test_before_a_symbol_is_listed_the_others_are_traded() -> None:
    late = daily([math.nan] * (WARM_UP - 1) + [math.nan, math.nan, 50, 50], LAST)
    bars = panel({"A": daily([100] * (WARM_UP + 3), LAST), "NEW": late})
    result = run(bars, options(bars, 4), A=[BELOW, ON, ON, ON])
    assert fills(result) == [("A", "buy", 100.0)]


def test_a_symbol_that_ends_early_is_held_at_its_last_price() -> None:
    ending = daily([100] * WARM_UP + [100, 97.5, math.nan, math.nan], LAST)
    bars = panel({"A": daily([100] * (WARM_UP + 4), LAST), "GONE": ending})
    result = backtest(
        bars,
        options(bars, 5),
        table=lines(bars, A=[ON] * 5) | lines(bars.until(bars.close.index[-3]), GONE=[BELOW, ON, ON]),
    )
    assert result.bars[-1].positions == {"GONE": 100.0}
    assert result.bars[-1].equity_usd == 100_000.0 - 250.0
    assert Code.STALE_PRICE in codes(result, 4)


def test_an_order_that_no_bar_can_fill_is_canceled_and_reported() -> None:
    bars = panel({"A": daily([100] * (WARM_UP + 3), LAST), "B": daily([50] * WARM_UP + [math.nan, 50, 50], LAST)})
    result = backtest(
        bars,
        options(bars, 4),
        table=lines(bars, A=[ON] * 4) | lines(bars.until(bars.close.index[-4]), B=[BELOW]) | lines(bars, B=[ON, ON]),
    )
    assert (result.fills, result.bars[-1].cash_usd) == ((), 100_000.0)
    assert [(each.symbol, "no bar could fill it" in each.reason) for each in result.refusals] == [("B", True)]


def test_an_order_for_a_delisted_symbol_ties_up_no_cash() -> None:
    bars = panel({"A": daily([100] * (WARM_UP + 2), LAST), "GONE": daily([50] * WARM_UP + [math.nan] * 2, LAST)})
    table = lines(bars, A=[ON, BELOW, ON]) | lines(bars.until(bars.close.index[-3]), GONE=[BELOW])
    assert fills(backtest(bars, options(bars, 3), table=table)) == [("A", "buy", 100.0)]


def test_a_symbol_is_not_a_candidate_before_its_listing() -> None:
    young = {name: daily([math.nan] * WARM_UP + [50, 50], LAST) for name in ("KO", "PEP", "PG")}
    bars = panel({"AAPL": daily([100] * (WARM_UP + 2), LAST), **young})
    result = run(bars, options(bars, 3, UNIVERSE="sp500"), AAPL=[BELOW, ON, ON])
    assert result.bars[0].status == Outcome.TRADED


def test_an_order_for_a_symbol_without_recent_bars_is_refused() -> None:
    bars = panel({"A": daily([100] * (WARM_UP + 2), LAST), "B": daily([50] * (WARM_UP - 1) + [math.nan] * 3, LAST)})
    chosen = options(bars, 3, MAX_PRICE_AGE_S=10 * 86_400)
    table = lines(bars, A=[ON] * 3) | lines(bars.until(bars.close.index[-4]), B=[BELOW])
    assert "no latest trade" in str(backtest(bars, chosen, table=table).bars[0].outcomes)


def test_intraday_symbols_are_ranked_once_a_day() -> None:
    sessions = [pd.Timestamp(f"2022-12-{day} 14:30", tz="UTC") for day in (27, 28)]
    index = pd.DatetimeIndex([each + timedelta(minutes=15 * bar) for each in sessions for bar in range(26)])
    first = [100.0 + bar for bar in range(30)] + [130.0 - bar for bar in range(22)]
    bars = panel({"A": pd.Series(first, index=index), "B": pd.Series([100.0] * 52, index=index)})
    chosen = replace(options(bars, 1, BAR_INTERVAL="15m", UNIVERSE_SIZE=1), start=date(2022, 12, 28))
    result = backtest(
        bars, replace(chosen, settings=replace(chosen.settings, history_bars=20)), table=lines(bars, A=[ON] * 26)
    )
    assert {each.symbol for bar in result.bars if bar.decision for each in bar.decision.forecasts} == {"A"}


def test_the_last_hour_of_a_session_is_decided_on_before_the_close() -> None:
    assert slot_of(datetime.fromisoformat("2022-12-28T20:30:00+00:00"), "1h").isoformat() == "2022-12-28T15:59:00-05:00"


def test_a_buy_that_costs_more_than_the_cash_is_a_refusal() -> None:
    bars = prices(A=[100, 130, 130])
    chosen = options(bars, 3, MAX_POSITION_FRACTION=1, MAX_ORDER_USD=1e6)
    result = run(bars, chosen, A=[BELOW, ON, ON])
    assert (fills(result), [each.symbol for each in result.refusals]) == ([], ["A"])


def test_a_repeated_backtest_gives_identical_results() -> None:
    bars = prices(A=[100, 101, 102, 90], B=[50, 51, 52, 53])
    chosen = options(bars, 4)
    first, second = (run(bars, chosen, A=[BELOW, ON, ABOVE, ON], B=[BELOW, BELOW, ABOVE, ON]) for _ in range(2))
    assert (first.bars, first.fills) == (second.bars, second.fills)


def test_an_interrupted_backtest_keeps_its_results_so_far() -> None:
    bars = prices(A=[100, 100, 100, 100])

    def interrupt(_work: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    result = backtest(bars, options(bars, 4), table=lines(bars, A=[BELOW, ON, ON, ON]), progress=interrupt)
    assert (len(result.bars), result.is_complete, len(result.fills)) == (2, False, 1)


def test_progress_is_reported_in_bars() -> None:
    bars, told = prices(A=[100, 100]), []
    backtest(bars, options(bars, 2), table=lines(bars, A=[ON, ON]), progress=lambda *step: told.append(step))
    assert told == [("bars", 1, 2), ("bars", 2, 2)]


def test_a_daily_bar_is_decided_on_at_the_days_last_slot() -> None:
    half_day = daily([1], date(2022, 11, 25)).index[0].to_pydatetime()
    assert slot_of(half_day, "1d").isoformat() == "2022-11-25T12:45:00-05:00"


def test_a_shorter_bar_is_decided_on_in_its_last_minute() -> None:
    assert slot_of(datetime.fromisoformat("2022-12-28T20:30:00+00:00"), "15m").minute == 44


def test_the_last_bar_of_a_session_does_not_see_the_next_price() -> None:
    sessions = [pd.Timestamp(f"2022-12-{day} 14:30", tz="UTC") for day in (23, 27, 28)]
    index = pd.DatetimeIndex([each + timedelta(minutes=15 * bar) for each in sessions for bar in range(26)])
    bars = panel({"A": pd.Series([100.0] * 76 + [100, 140], index=index)})
    chosen = options(bars, 2, BAR_INTERVAL="15m", HISTORY_BARS=30)
    result = backtest(bars, replace(chosen, start=date(2022, 12, 28)), table=lines(bars, A=[ON] * 26))
    seen = [each.decision.forecasts[0].price_usd for each in result.bars if each.decision]
    assert seen == [100.0] * 25 + [140.0]


def test_an_error_in_a_run_ends_the_backtest() -> None:
    bars = prices(A=[100, 100])
    other = lines(prices(A=[77, 77]), A=[BELOW, BELOW])
    with pytest.raises(AssertionError, match="made from other prices"):
        backtest(bars, options(bars, 2), table=other)


def test_the_search_for_garbage_is_as_before_once_a_backtest_has_ended() -> None:
    before = gc.get_threshold()
    bars = prices(A=[100.0] * 40)
    run(bars, options(bars, 3), A=[0.9] * 3)
    assert gc.get_threshold() == before


def test_a_panel_is_judged_once_as_long_as_it_is_in_use() -> None:
    bars = prices(A=[100.0] * 40)
    assert judge(bars, "1d") is judge(bars, "1d")
    assert judge(replace(bars, source="another"), "1d") is not judge(bars, "1d")


def test_what_was_judged_of_a_panel_that_is_gone_is_kept_for_no_other() -> None:
    def is_its_own(bars: int) -> bool:
        given = prices(A=[100.0] * bars)
        return judge(given, "1d").fitted is given.close

    assert all(is_its_own(bars) for bars in (40, 30, 20))
