"""Shares of companies whose prices end: their money comes back, after ten sessions without a price."""

import math
from collections.abc import Sequence
from datetime import date, timedelta

import pandas as pd
import pytest

from scripts.backtest.compute import Table
from scripts.backtest.delisting import DELISTED_SESSIONS, Unpriced
from scripts.backtest.engine import backtest
from scripts.backtest.model import Options, Panel, Result
from scripts.backtest.statistics import figures
from scripts.backtest.trades import ExitKind, trades
from tests.builders import daily, settings
from trader.model import Forecast

WARM_UP = 30
LAST = date(2022, 12, 16)
GONE = [math.nan]


def prices(**columns: Sequence[float]) -> Panel:
    """Return a panel with these prices in the traded bars, and each symbol's first one in all bars before."""
    found = {name: daily([traded[0]] * (WARM_UP - 1) + list(traded), LAST) for name, traded in columns.items()}
    frame = pd.DataFrame(found)
    return Panel(open=frame, high=frame, low=frame, close=frame, has_ohlc=False, source="a test")


def run(bars: Panel, bought: str, *, at_bar: int = 0, fills_at_close: bool = False) -> Result:
    """Run a backtest that buys one symbol at one bar, and then holds it."""
    traded = len(bars.close) - WARM_UP + 1
    chosen = Options(
        settings=settings(
            HISTORY_BARS=30,
            UNIVERSE_LOOKBACK_BARS=5,
            UNIVERSE=",".join(bars.close.columns),
            MAX_POSITION_FRACTION="0.9",
            MAX_ORDER_USD="1e6",
        ),
        start=bars.close.index[-traded].tz_convert("America/New_York").date(),
        slippage_fraction=0.0,
        fills_at_close=fills_at_close,
    )
    table: Table = {}
    for number, time in enumerate(bars.close.index[-traded:]):
        for symbol, usd in bars.close.loc[time].dropna().items():
            trend = 1.1 * usd if symbol == bought and number == at_bar else usd
            table[str(symbol), time.to_pydatetime()] = Forecast(
                symbol=str(symbol), time=time.to_pydatetime(), price_usd=usd, trend_usd=trend
            )
    return backtest(bars, chosen, table=table)


def held(result: Result) -> list[float]:
    return [bar.positions.get("BUST", 0.0) for bar in result.bars]


def test_the_money_comes_back_at_the_last_price() -> None:
    result = run(prices(A=[100.0] * 16, BUST=[50.0, 50.0, 49.0] + GONE * 13), "BUST")
    (paid,) = [fill for fill in result.fills if fill.kind == "delisting"]
    assert (paid.price_usd, paid.commission_usd, paid.quantity) == (49.0, 0.0, result.fills[0].quantity)


def test_a_holding_without_a_price_is_kept_for_nine_sessions() -> None:
    result = run(prices(A=[100.0] * 16, BUST=[50.0, 50.0] + [50.0] + GONE * 13), "BUST")
    assert [quantity > 0 for quantity in held(result)] == [False] + [True] * 11 + [False] * 4


def test_the_account_is_worth_the_same_before_and_after() -> None:
    result = run(prices(A=[100.0] * 16, BUST=[50.0, 50.0, 49.0] + GONE * 13), "BUST")
    assert result.bars[-1].positions == {}
    assert result.bars[-1].equity_usd == result.bars[-1].cash_usd == result.bars[5].equity_usd


def test_the_money_can_be_spent_again() -> None:
    result = run(prices(A=[100.0] * 16, BUST=[50.0, 50.0, 50.0] + GONE * 13), "BUST")
    assert result.bars[11].cash_usd < result.bars[12].cash_usd
    assert result.bars[12].cash_usd == pytest.approx(100_000)


def test_a_gap_is_no_delisting() -> None:
    back = [50.0] * 3 + GONE * (DELISTED_SESSIONS - 1) + [50.0] * 3
    result = run(prices(A=[100.0] * len(back), BUST=back), "BUST")
    assert [fill.kind for fill in result.fills] == ["market"]


def test_an_open_bracket_of_it_is_canceled() -> None:
    back = [50.0] * 3 + GONE * DELISTED_SESSIONS + [20.0] * 3
    result = run(prices(A=[100.0] * len(back), BUST=back), "BUST")
    assert [fill.kind for fill in result.fills] == ["market", "delisting"]


def test_the_trade_says_what_ended_it() -> None:
    (trade,) = trades(run(prices(A=[100.0] * 16, BUST=[50.0, 50.0, 49.0] + GONE * 13), "BUST"))
    assert (trade.exit_kind, trade.exit_reason) == (ExitKind.DELISTING, "no price for 10 sessions")
    assert trade.exit_price_usd == 49.0


def test_it_is_no_order_and_costs_nothing() -> None:
    paid = figures(run(prices(A=[100.0] * 16, BUST=[50.0, 50.0, 49.0] + GONE * 13), "BUST"))["costs"]
    assert (paid["fills"], paid["slippage_usd"]) == (1, 0.0)


def test_the_embedded_broker_of_make_compare_knows_no_delisting() -> None:
    result = run(prices(A=[100.0] * 16, BUST=[50.0, 50.0, 49.0] + GONE * 13), "BUST", fills_at_close=True)
    assert [fill.kind for fill in result.fills] == ["market"]


def test_several_bars_of_a_day_are_one_session() -> None:
    hours = [
        pd.Timestamp(f"2022-12-{day} 15:30", tz="UTC") + timedelta(hours=hour) for day in (14, 15) for hour in (0, 1)
    ]
    unpriced = Unpriced(pd.DataFrame({"A": [1.0, math.nan, math.nan, math.nan]}, index=pd.DatetimeIndex(hours)))
    assert [unpriced.count("A", hour.to_pydatetime()) for hour in hours] == [0, 0, 1, 1]


def test_symbols_without_a_price_are_found_by_the_number_of_sessions() -> None:
    days = pd.bdate_range("2022-01-03", periods=5, tz="America/New_York").tz_convert("UTC")
    table = {"ENDED": [1.0] * 2 + [math.nan] * 3, "TRADED": [1.0] * 5, "LATE": [math.nan] * 5}
    unpriced = Unpriced(pd.DataFrame(table, index=days))
    last = days[-1].to_pydatetime()
    assert [sorted(unpriced.find(sessions, last)) for sessions in (3, 4)] == [["ENDED"], []]


def test_a_symbol_that_had_no_price_yet_has_not_ended() -> None:
    days = pd.bdate_range("2022-01-03", periods=20, tz="America/New_York").tz_convert("UTC")
    unpriced = Unpriced(pd.DataFrame({"A": [math.nan] * 20}, index=days))
    assert unpriced.count("A", days[-1].to_pydatetime()) == 0
