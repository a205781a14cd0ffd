import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.backtest.model import Panel, Refusal, Restatement, Result
from scripts.backtest.statistics import figures, key_figures
from scripts.backtest.yearly import Span, measure_span
from tests.backtest_results import fill, panel, result, score, year_of_trading
from tests.builders import settings
from trader.model import Code, Decision, Denial, Note


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def prices(*closes: float, **others: list[float]) -> Panel:
    return panel({"AAA": list(closes), **others})


def all_in(*closes: float, **fields: Any) -> Result:
    """Return the result of buying 100 shares with all the cash, 1,000 USD, on the first bar and holding them."""
    over = prices(*closes)
    return result(over, [fill(over, 0, "AAA", 100, 10.0)], **fields)


# --- the key figures, computed by hand -------------------------------------------------------------------------------


def test_the_return_is_measured_from_the_cash_to_the_last_bar() -> None:
    assert key_figures(all_in(10, 11, 12))["total_return_fraction"] == pytest.approx(0.2)


def test_exposure_is_the_mean_share_of_the_equity_that_is_invested() -> None:
    over = prices(10, 10, 10, 10)
    half = result(over, [fill(over, 1, "AAA", 50, 10.0), fill(over, 3, "AAA", -50, 10.0)])
    assert key_figures(half)["exposure_fraction"] == pytest.approx((0 + 0.5 + 0.5 + 0) / 4)


def test_the_drawdown_is_the_largest_fall_from_a_peak() -> None:
    assert key_figures(all_in(10, 20, 15, 25, 15))["max_drawdown_fraction"] == pytest.approx(-0.4)


def test_a_drawdown_can_begin_at_the_starting_cash() -> None:
    over = prices(8, 8, 8)
    bought_dear = result(over, [fill(over, 0, "AAA", 100, 10.0)])
    assert key_figures(bought_dear)["max_drawdown_fraction"] == pytest.approx(-0.2)


def test_only_closed_trades_count_and_wins_are_after_commission() -> None:
    over = prices(10, 10, 10, 10)
    fills = [
        fill(over, 0, "AAA", 10, 10.0),
        fill(over, 1, "AAA", -10, 11.0),
        fill(over, 1, "AAA", 10, 10.0),
        fill(over, 2, "AAA", -10, 10.1, commission_usd=2.0),  # 1 USD gained, but 2 USD paid in commission
        fill(over, 3, "AAA", 10, 10.0),
    ]
    found = key_figures(result(over, fills))
    assert (found["trades"], found["win_fraction"], found["commission_usd"]) == (2, 0.5, 2.0)


# --- yearly figures, by the dates of the span ------------------------------------------------------------------------

YEARLY = ("annual_return_fraction", "annual_volatility_fraction", "sharpe_ratio", "sortino_ratio", "calmar_ratio")
TWO_YEARS = 730 / 365.25
"""From 4 January 2021 to 4 January 2023."""


def days(first: str, last: str) -> pd.DatetimeIndex:
    return pd.bdate_range(first, last)


def weeks(first: str, last: str) -> pd.DatetimeIndex:
    return pd.date_range(first, last, freq="7D")


def hours(first: str, last: str) -> pd.DatetimeIndex:
    """Return the starts of seven hourly bars on each business day."""
    return pd.DatetimeIndex([day + pd.Timedelta(hours=9.5 + hour) for day in days(first, last) for hour in range(7)])


def rise(times: pd.DatetimeIndex, to: float = 12.1) -> Result:
    """Return the result of holding shares that rise from 10 USD to `to`, with a swing of 1%."""
    line = np.linspace(10, to, len(times)) * (1 + 0.01 * np.sin(np.arange(len(times)) * 2.3))
    closes = [10.0, *line[1:-1], to]
    over = panel({"AAA": closes}, times)
    return result(over, [fill(over, 0, "AAA", 100, 10.0)])


@pytest.mark.parametrize("bars", [days, weeks, hours])
def test_the_annual_return_is_by_the_dates_whatever_the_bars(bars: Callable[[str, str], pd.DatetimeIndex]) -> None:
    found = key_figures(rise(bars("2021-01-04", "2023-01-02")))
    assert found["annual_return_fraction"] == pytest.approx(1.21 ** (365.25 / 728) - 1)


def test_gaps_between_the_bars_do_not_change_the_annual_return() -> None:
    whole = days("2021-01-04", "2023-01-04")
    gaps = whole.delete(range(100, 400))
    assert key_figures(rise(gaps))["annual_return_fraction"] == pytest.approx(1.21 ** (1 / TWO_YEARS) - 1)


@pytest.mark.parametrize(
    ("times", "bars_a_year"),
    [
        (days("2021-01-04", "2023-01-04"), 522 / TWO_YEARS),  # 261 business days: these prices know no holidays
        (days("2021-01-04", "2023-01-04")[::2], 261 / TWO_YEARS),
        (weeks("2021-01-04", "2023-01-02"), 104 * 365.25 / 728),
        (hours("2021-01-04", "2023-01-04"), 7 * 522 / TWO_YEARS),
        (weeks("2021-01-04", "2021-04-05"), 13 * 365.25 / 91),
    ],
    ids=["daily", "every other day", "weekly", "hourly", "weekly for three months"],
)
def test_the_bars_of_a_year_are_counted_not_assumed(times: pd.DatetimeIndex, bars_a_year: float) -> None:
    assert figures(rise(times))["data"]["bars_a_year"] == pytest.approx(bars_a_year)


@pytest.mark.parametrize("bars", [days, weeks, hours])
def test_volatility_and_ratios_are_scaled_by_the_bars_that_there_are(
    bars: Callable[[str, str], pd.DatetimeIndex],
) -> None:
    times = bars("2021-01-04", "2023-01-02")
    found, year = key_figures(rise(times)), figures(rise(times))["data"]["bars_a_year"]
    for yearly, by_bar in (
        ("annual_volatility_fraction", "bar_volatility_fraction"),
        ("sharpe_ratio", "bar_sharpe_ratio"),
        ("sortino_ratio", "bar_sortino_ratio"),
    ):
        assert found[yearly] == pytest.approx((found[by_bar] or math.nan) * math.sqrt(year))


def test_weekly_bars_are_not_taken_for_daily_ones() -> None:
    by_week, by_day = (key_figures(rise(bars("2021-01-04", "2023-01-02"))) for bars in (weeks, days))
    assert by_week["annual_return_fraction"] == pytest.approx(by_day["annual_return_fraction"])
    assert (by_week["annual_volatility_fraction"] or 1) < (by_day["annual_volatility_fraction"] or 0)


def test_the_calmar_ratio_is_the_annual_return_by_dates_over_the_maximum_drawdown() -> None:
    over = panel({"AAA": [10, 8, 12.1]}, pd.DatetimeIndex(["2021-01-04", "2022-01-04", "2023-01-04"]))
    found = key_figures(result(over, [fill(over, 0, "AAA", 100, 10.0)]))
    assert found["calmar_ratio"] == pytest.approx((1.21 ** (1 / TWO_YEARS) - 1) / 0.2)


def test_a_loss_is_annualized_too() -> None:
    found = key_figures(rise(days("2021-01-04", "2023-01-04"), to=8.1))
    assert found["annual_return_fraction"] == pytest.approx(0.81 ** (1 / TWO_YEARS) - 1)


def test_all_three_accounts_are_measured_over_the_same_span() -> None:
    found = figures(rise(days("2021-01-04", "2023-01-04")))["key_figures"]
    annual = [found[name]["annual_return_fraction"] for name in ("strategy", "buy_and_hold", "cash")]
    assert annual == pytest.approx([1.21 ** (1 / TWO_YEARS) - 1] * 2 + [0])


# --- spans that are too short for yearly figures ---------------------------------------------------------------------


def test_22_bars_have_no_yearly_figure() -> None:
    found = figures(rise(days("2021-01-04", "2021-02-02"), to=9.93))
    assert found["data"]["bars"] == 22
    assert found["data"]["bars_a_year"] is None
    for account in filter(None, found["key_figures"].values()):
        assert [account[name] for name in YEARLY] == [None] * 5


def test_the_reason_for_missing_yearly_figures_is_in_the_data() -> None:
    short, long = (figures(rise(days("2021-01-04", last)))["data"] for last in ("2021-02-02", "2021-12-31"))
    assert (short["no_yearly_figures"], long["no_yearly_figures"]) == ("the span is shorter than three months", "")


def test_a_short_span_keeps_every_figure_without_a_year() -> None:
    found = key_figures(rise(days("2021-01-04", "2021-02-02"), to=9.93))
    assert found["total_return_fraction"] == pytest.approx(-0.007)
    assert [name for name, figure in found.items() if figure is None] == [*YEARLY, "win_fraction"]


@pytest.mark.parametrize(("last", "is_annualized"), [("2021-04-02", False), ("2021-04-05", True)])
@pytest.mark.parametrize("bars", [days, hours])
def test_three_months_are_enough_and_a_day_less_is_not(
    bars: Callable[[str, str], pd.DatetimeIndex], last: str, is_annualized: bool
) -> None:
    found = key_figures(rise(bars("2021-01-05", last)))
    assert [found[name] is not None for name in YEARLY] == [is_annualized] * 5


def test_three_months_can_be_as_short_as_february_allows() -> None:
    assert key_figures(rise(days("2022-11-30", "2023-02-28")))["sharpe_ratio"] is not None


def test_the_days_of_a_span_are_those_of_new_york() -> None:
    times = [datetime.fromisoformat(f"{day}T01:00Z") for day in ("2021-01-05", "2021-04-05")]
    assert measure_span([times[0], times[1]]) == Span(years=90 / 365.25, bars_a_year=365.25 / 90)
    assert measure_span([times[0].replace(hour=6), times[1]]) is None


# --- measures by bar, for any span -----------------------------------------------------------------------------------


def test_volatility_and_sharpe_ratio_come_from_the_bars_returns() -> None:
    found = key_figures(all_in(10, 11, 9.9))  # returns 0, +10%, -10%: their standard deviation is 10%
    assert found["bar_volatility_fraction"] == pytest.approx(0.1)
    assert found["bar_sharpe_ratio"] == pytest.approx(0)


def test_the_sortino_ratio_counts_only_falls_as_risk() -> None:
    found = key_figures(all_in(10, 12, 10.8))  # 0, +20%, -10%: mean 1/30, downside sqrt(0.01 / 3)
    assert found["bar_sortino_ratio"] == pytest.approx((1 / 30) / math.sqrt(0.01 / 3))


def test_the_return_over_drawdown_is_that_of_the_whole_span() -> None:
    assert key_figures(all_in(10, 8, 12))["return_over_drawdown_ratio"] == pytest.approx(0.2 / 0.2)


# --- series that are too short or too quiet to measure ---------------------------------------------------------------

BY_BAR = ("bar_volatility_fraction", "bar_sharpe_ratio", "bar_sortino_ratio")


def test_one_bar_has_a_return_but_no_volatility() -> None:
    found = key_figures(all_in(11))
    assert [found[name] for name in (*YEARLY, *BY_BAR)] == [None] * 8
    assert found["total_return_fraction"] == pytest.approx(0.1)


def test_without_bars_there_is_only_the_cash() -> None:
    nothing = result(prices(10, 11), first=2, is_complete=False)
    found = key_figures(nothing)
    assert (found["final_equity_usd"], found["total_return_fraction"], found["exposure_fraction"]) == (1_000, 0, None)
    assert figures(nothing)["key_figures"]["buy_and_hold"] is None


def test_without_trades_there_is_no_ratio_and_no_share_of_wins() -> None:
    found = key_figures(result(panel({"AAA": [10.0] * 261})))
    assert [found[name] for name in ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "win_fraction")] == [None] * 4
    assert (found["annual_volatility_fraction"], found["max_drawdown_fraction"], found["trades"]) == (0, 0, 0)


def test_an_account_that_only_rises_has_no_sortino_or_calmar() -> None:
    found = key_figures(all_in(*np.linspace(10, 12, 261)))
    assert (found["sortino_ratio"], found["calmar_ratio"], found["return_over_drawdown_ratio"]) == (None, None, None)


def test_an_account_that_loses_all_is_measured_to_the_end() -> None:
    found = key_figures(all_in(10, *[0.0] * 260))
    assert [found[f"{name}_fraction"] for name in ("total_return", "annual_return", "max_drawdown")] == [-1, -1, -1]


def test_a_return_too_large_to_annualize_is_none() -> None:
    assert key_figures(all_in(10, *[1e300] * 70))["annual_return_fraction"] is None


# --- for comparison: buy-and-hold and cash ---------------------------------------------------------------------------


def test_buy_and_hold_spreads_the_cash_evenly_over_all_symbols() -> None:
    found = figures(result(prices(10, 15, BBB=[5, 5])))
    assert found["key_figures"]["buy_and_hold"]["total_return_fraction"] == pytest.approx((0.5 + 0.0) / 2)
    assert found["curve"]["buy_and_hold_usd"] == pytest.approx([1_000, 1_250])


def test_buy_and_hold_pays_the_same_slippage_and_commission() -> None:
    options = {"slippage_fraction": 0.01, "commission_fraction": 0.02}
    found = figures(result(prices(10, 10), options=options))["key_figures"]["buy_and_hold"]
    assert found["final_equity_usd"] == pytest.approx(1_000 / 1.01 / 1.02)
    assert found["commission_usd"] == pytest.approx(1_000 - 1_000 / 1.02)


def test_buy_and_hold_begins_at_the_first_bar_that_is_traded() -> None:
    found = figures(result(prices(8, 10, 15), first=1))
    assert found["key_figures"]["buy_and_hold"]["total_return_fraction"] == pytest.approx(0.5)


def test_a_symbol_listed_later_is_not_in_buy_and_hold_and_is_named() -> None:
    found = figures(result(prices(10, 11, BBB=[math.nan, 5])))
    assert found["key_figures"]["buy_and_hold"]["total_return_fraction"] == pytest.approx(0.1)
    assert (found["data"]["buy_and_hold_symbols"], found["data"]["not_in_buy_and_hold"]) == (["AAA"], ["BBB"])


def test_a_delisted_symbol_keeps_its_last_price_in_buy_and_hold() -> None:
    found = figures(result(prices(10, 10, 10, BBB=[10, 12, math.nan])))
    assert found["curve"]["buy_and_hold_usd"] == pytest.approx([1_000, 1_100, 1_100])


def test_cash_earns_nothing_and_risks_nothing() -> None:
    cash = figures(all_in(10, 11))["key_figures"]["cash"]
    assert (cash["total_return_fraction"], cash["max_drawdown_fraction"], cash["final_equity_usd"]) == (0, 0, 1_000)


# --- the rest of the report ------------------------------------------------------------------------------------------


def test_monthly_returns_are_compounded_and_years_have_totals() -> None:
    days = [10.0] * 20 + [11.0] + [12.1] * 19  # January has 20 bars; the 21st is 1 February
    (year,) = figures(all_in(*days))["monthly_returns"]
    assert year["year"] == 2021
    assert year["months"][:3] == [pytest.approx(0), pytest.approx(0.21), None]
    assert (year["total"], year["buy_and_hold"]) == (pytest.approx(0.21), pytest.approx(0.21))


def test_a_bar_belongs_to_its_day_in_new_york() -> None:
    over = panel({"AAA": [10, 11]})
    for name in ("open", "high", "low", "close"):
        frame = getattr(over, name)
        frame.index = frame.index.map({frame.index[0]: "2022-01-01T01:00Z", frame.index[1]: "2022-01-01T02:00Z"})
        frame.index = frame.index.astype("datetime64[us, UTC]")
    (year,) = figures(result(over))["monthly_returns"]
    assert year["year"] == 2021  # in New York it is still New Year's Eve


def test_each_symbols_result_stands_beside_buy_and_hold() -> None:
    over = panel({"AAA": [10, 10, 12, 12], "BBB": [20, 20, 20, 10], "CCC": [1, 1, 1, 1]})
    fills = [
        fill(over, 1, "AAA", 10, 10.0),
        fill(over, 2, "AAA", -10, 12.0),
        fill(over, 2, "AAA", 10, 12.0),
        fill(over, 1, "BBB", 5, 20.0),
        fill(over, 3, "BBB", -5, 10.0),
    ]
    aaa, ccc, bbb = figures(result(over, fills))["symbols"]
    assert aaa == {
        "symbol": "AAA",
        "trades": 1,
        "open_trades": 1,
        "win_fraction": 1.0,
        "pnl_usd": pytest.approx(20),
        "contribution_fraction": pytest.approx(0.02),
        "mean_bars_held": 1.0,
        "buy_and_hold_return_fraction": pytest.approx(0.2),
    }
    assert (bbb["symbol"], bbb["pnl_usd"], bbb["win_fraction"]) == ("BBB", pytest.approx(-50), 0.0)
    assert (ccc["symbol"], ccc["trades"], ccc["win_fraction"], ccc["mean_bars_held"]) == ("CCC", 0, None, None)


def test_the_symbols_contributions_add_up_to_the_return() -> None:
    found = figures(year_of_trading())
    total = sum(row["contribution_fraction"] for row in found["symbols"])
    assert total == pytest.approx(found["key_figures"]["strategy"]["total_return_fraction"], abs=1e-9)
    assert abs(total) > 0.01


def test_a_split_adds_nothing_to_a_symbols_contribution() -> None:
    over = panel({"AAA": [10, 10.5, 84, 84, 88, 88, 88, 88]})
    split = Restatement(
        time=over.close.index[2].to_pydatetime(),
        symbol="AAA",
        ratio=1 / 8,
        quantity_before=100,
        quantity_after=12,
        cash_usd=42.0,
    )
    found = figures(result(over, [fill(over, 0, "AAA", 100, 10.0)], restatements=(split,)))
    assert found["key_figures"]["strategy"]["final_equity_usd"] == pytest.approx(12 * 88 + 42)
    assert found["symbols"][0]["contribution_fraction"] == pytest.approx((12 * 88 + 42) / 1_000 - 1)


def test_restatements_are_reported_with_their_quantities() -> None:
    over = prices(10, 10)
    time = over.close.index[1].to_pydatetime()
    split = Restatement(time=time, symbol="AAA", ratio=4.0, quantity_before=0, quantity_after=0, cash_usd=0.0)
    assert figures(result(over, restatements=(split,)))["restatements"] == [
        {
            "time": "2021-01-05T05:00:00Z",
            "symbol": "AAA",
            "ratio": 4.0,
            "quantity_before": 0,
            "quantity_after": 0,
            "cash_usd": 0.0,
        }
    ]


def test_costs_are_the_orders_commission_and_slippage() -> None:
    over = prices(10, 10, 10, 10)
    fills = [
        fill(over, 0, "AAA", 10, 10.1, commission_usd=1.0),  # 1% above 10
        fill(over, 1, "AAA", -5, 9.9, commission_usd=0.5),  # 1% below 10
        fill(over, 2, "AAA", -5, 14.0, kind="take-profit"),  # a limit order, filled at its own price
    ]
    costs = figures(result(over, fills, options={"slippage_fraction": 0.01}))["costs"]
    assert (costs["fills"], costs["commission_usd"]) == (3, 1.5)
    assert costs["turnover_usd"] == pytest.approx(101 + 49.5 + 70)
    assert costs["slippage_usd"] == pytest.approx(10 * 0.1 + 5 * 0.1)


def test_the_curve_has_every_bar_with_drawdown_and_exposure() -> None:
    curve = figures(all_in(10, 20, 15))["curve"]
    assert curve["times"] == ["2021-01-04T05:00:00Z", "2021-01-05T05:00:00Z", "2021-01-06T05:00:00Z"]
    assert curve["equity_usd"] == pytest.approx([1_000, 2_000, 1_500])
    assert curve["drawdown_fraction"] == pytest.approx([0, 0, -0.25])
    assert curve["exposure_fraction"] == pytest.approx([1, 1, 1])


def test_denials_and_statuses_are_counted_most_frequent_first() -> None:
    over = prices(10, 10, 10)
    times = [time.to_pydatetime() for time in over.close.index]
    few = Denial(symbol="AAA", code=Code.POSITION_CAP, detail="")
    many = Denial(symbol="AAA", code=Code.STALE_PRICE, detail="")
    decided = result(over, decisions={times[0]: Decision(denials=(few, many)), times[1]: Decision(denials=(many,))})
    closed = replace(decided.bars[2], status="MARKET_CLOSED", outcomes=(many,))
    found = figures(replace(decided, bars=(*decided.bars[:2], closed)))
    assert list(found["denials"].items()) == [("STALE_PRICE", 3), ("POSITION_CAP", 1)]
    assert list(found["statuses"].items()) == [("NOTHING_TO_DO", 2), ("MARKET_CLOSED", 1)]


def test_notes_refusals_and_the_interruption_are_reported() -> None:
    over = panel({"AAA": [10, 11]}, notes=(Note(symbol="AAA", what="listed later"),), source="a file")
    refusal = Refusal(time=over.close.index[0].to_pydatetime(), client_order_id="x", symbol="AAA", reason="no cash")
    found = figures(result(over, refusals=(refusal,), is_complete=False))
    assert found["is_complete"] is False
    assert found["data"]["notes"] == [{"symbol": "AAA", "what": "listed later"}]
    assert found["data"]["source"] == "a file"
    assert found["refusals"][0]["reason"] == "no cash"


# --- the forecasts ---------------------------------------------------------------------------------------------------


def test_forecasts_are_counted_inside_above_and_below_their_interval() -> None:
    outcomes = (105, 95, 100, 106, 94)  # the interval includes its ends
    result_ = all_in(10, 11, scored=tuple(score("AAA", 100, 100, 5, actual) for actual in outcomes))
    scores = figures(result_)["calibration"]["overall"]
    assert (scores["inside_fraction"], scores["above_fraction"], scores["below_fraction"]) == (0.6, 0.2, 0.2)
    assert scores["forecasts"] == 5


def test_errors_are_fractions_beside_those_of_the_last_price() -> None:
    judged = (score("AAA", 100, 110, 5, 104), score("AAA", 10, 9.5, 1, 10.2))
    scores = figures(all_in(10, 11, scored=judged))["calibration"]["overall"]
    assert scores["mean_absolute_error_fraction"] == pytest.approx((0.06 + 0.07) / 2)
    assert scores["naive_mean_absolute_error_fraction"] == pytest.approx((0.04 + 0.02) / 2)
    assert scores["bias_fraction"] == pytest.approx((0.06 - 0.07) / 2)
    assert scores["error_ratio"] == pytest.approx(0.13 / 0.06)


def test_forecasts_are_judged_by_symbol_as_well() -> None:
    judged = (score("BBB", 100, 100, 5, 100), score("AAA", 100, 100, 5, 120), score("AAA", 100, 100, 5, 101))
    rows = figures(all_in(10, 11, scored=judged))["calibration"]["by_symbol"]
    assert [(row["symbol"], row["forecasts"], row["inside_fraction"]) for row in rows] == [
        ("AAA", 2, 0.5),
        ("BBB", 1, 1),
    ]


def test_prices_that_do_not_move_have_no_error_ratio() -> None:
    scores = figures(all_in(10, 11, scored=(score("AAA", 100, 101, 5, 100),)))["calibration"]["overall"]
    assert scores["error_ratio"] is None


@pytest.mark.parametrize(
    ("is_complete", "reason"), [(True, "the span has no price"), (False, "was interrupted before")]
)
def test_without_forecasts_the_report_says_why(is_complete: bool, reason: str) -> None:
    found = figures(all_in(10, 11, is_complete=is_complete))["calibration"]
    assert found["overall"] is None
    assert reason in found["reason"]


# --- as JSON ---------------------------------------------------------------------------------------------------------


def test_equal_results_have_equal_figures_except_for_timings() -> None:
    first, second = (json.dumps(figures(year_of_trading(timings_s={"all": s})), allow_nan=False) for s in (1.0, 2.0))
    assert first != second
    assert first.replace('{"all": 1.0}', "") == second.replace('{"all": 2.0}', "")


def test_the_figures_do_not_depend_on_the_output_folder() -> None:
    here, there = (figures(all_in(10, 11, options={"out": Path(out)})) for out in ("here", "there"))
    assert here == there


def test_no_figure_is_infinite_or_nan() -> None:
    over = prices(10, math.nan, 0, BBB=[math.nan, math.nan, math.nan])
    json.dumps(figures(result(over, [fill(over, 0, "AAA", 100, 10.0)])), allow_nan=False)


def test_secrets_are_not_in_the_figures() -> None:
    secret = settings(ALPACAUSER="the key id", ALPACAPW="the secret key")
    text = json.dumps(figures(all_in(10, 11, options={"settings": secret})))
    assert "the secret key" not in text
    assert "the key id" not in text
