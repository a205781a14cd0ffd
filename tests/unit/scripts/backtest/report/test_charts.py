"""What the charts show, and those of spans that are unusually short."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from scripts.backtest.model import Result
from scripts.backtest.report import charts
from scripts.backtest.statistics import figures
from scripts.report.formatting import MINUS
from tests.backtest_results import fill, panel, result, with_bracket, year_of_trading


def words(picture: str) -> list[str]:
    return re.findall(r">([^<]*)</text>", picture)


def paths(picture: str, style: str) -> list[str]:
    return [path for path, found in re.findall(r'<path d="([^"]*)" style="([^"]*)"/>', picture) if style in found]


def card(done: Result, symbol: str) -> str:
    """Return the price chart of a symbol."""
    shown = figures(done)
    trades: Sequence[Any] = [trade for trade in shown["trades"] if trade["symbol"] == symbol]
    return str(charts.PriceCharts(shown, done).draw(symbol, trades)[0])


@pytest.fixture(scope="module")
def year() -> dict[str, charts.Chart]:
    return charts.charts(figures(year_of_trading()))


def test_two_daily_bars_are_labeled_with_their_days_and_no_time() -> None:
    (wide, *_) = charts.equity(figures(result(panel({"AAA": [10.0, 11.0]})))).pictures
    assert words(wide)[:2] == ["4 Jan", "5 Jan"]


def test_on_a_phone_fewer_dates_fit_and_the_names_of_lines_have_two_lines(year: dict[str, charts.Chart]) -> None:
    wide, narrow = year["equity"].pictures
    dates = [[each for each in words(picture) if re.fullmatch(r"\w{3} \d{4}", each)] for picture in (wide, narrow)]
    assert [len(each) for each in dates] == [6, 3]
    assert [each[0] for each in dates] == ["Mar 2021", "Mar 2021"]
    assert "Strategy 105,221" in words(wide)
    assert {"Strategy", "105,221"} <= set(words(narrow))


def test_the_equity_is_compared_with_dashed_cash(year: dict[str, charts.Chart]) -> None:
    for picture in year["equity"].pictures:
        assert len(paths(picture, "var(--muted); stroke-width: 1.1; stroke-dasharray")) == 1
        assert len(paths(picture, "fill: none; stroke: var(--accent)")) == 1
        assert len(paths(picture, "fill: none; stroke: var(--ink)")) == 1


def test_the_drawdown_hangs_from_zero_at_the_top(year: dict[str, charts.Chart]) -> None:
    for picture in year["drawdown"].pictures:
        ticks = [each for each in words(picture) if each.endswith("%")]
        assert "0%" in ticks
        assert all(each.startswith(MINUS) for each in ticks if each != "0%")
        (filled,) = paths(picture, "fill: var(--accent)")
        assert min(float(y) for y in re.findall(r" ([\d.]+)", filled)) == 6  # the top


def test_the_invested_share_is_on_a_scale_of_the_whole(year: dict[str, charts.Chart]) -> None:
    for picture in year["exposure"].pictures:
        assert words(picture)[-5:] == ["0%", "25%", "50%", "75%", "100%"]


def test_the_rolling_ratio_begins_where_its_first_window_ends(year: dict[str, charts.Chart]) -> None:
    for picture in year["rolling"].pictures:
        (ratio,) = paths(picture, "fill: none; stroke: var(--accent)")
        left = float(re.findall(r"M([\d.]+)", ratio)[0])
        assert left > 52 + 100  # far from the axis
        assert len(paths(picture, "stroke: var(--ink); stroke-width: 0.9; stroke-dasharray")) == 1


def test_gains_and_losses_have_their_sides_colors_and_numbers() -> None:
    over = panel({"AAA": [10.0, 12.0], "BBB": [10.0, 9.0]})
    done = result(over, [fill(over, 0, "AAA", 30, 10.0), fill(over, 0, "BBB", 20, 10.0)])
    for picture in charts.results(figures(done)).pictures:
        assert words(picture)[-4:] == ["AAA", "+60", "BBB", f"{MINUS}20"]
        (gain,), (loss,) = (paths(picture, f"fill: var(--{color})") for color in ("up", "down"))
        (zero,) = paths(picture, "stroke: var(--muted)")
        middle, right, left = (
            float(re.findall(r"[\d.]+", path)[place]) for path, place in ((zero, 0), (gain, 2), (loss, 2))
        )
        assert left < middle < right


def test_prices_have_the_trend_line_the_spans_held_and_a_mark_for_each_order() -> None:
    done = year_of_trading()
    drawn = card(done, "AAA")
    assert len(paths(drawn, "fill: none; stroke: var(--ink)")) == 1
    assert len(paths(drawn, "fill: none; stroke: var(--accent)")) == 1
    trades = [trade for trade in figures(done)["trades"] if trade["symbol"] == "AAA"]
    spans = [span for color in ("up", "down") for span in paths(drawn, f"var(--{color}); fill-opacity: 0.16")]
    assert sum(span.count("M") for span in spans) == len(trades)
    marks = [path for path in paths(drawn, "fill: var(--") if "z" in path]
    orders = sum(1 + (trade["exit_time"] is not None) for trade in trades)
    assert sum(path.count("z") for path in marks) == orders


def test_a_stop_is_dashed_while_its_shares_are_held() -> None:
    over = panel({"AAA": [10.0, 11.0, 12.0, 11.0, 11.0]})
    buy = fill(over, 1, "AAA", 10, 11.0)
    sale = fill(over, 3, "AAA", -10, 11.5)
    done = with_bracket(result(over, [buy, sale]), buy, stop_loss_usd=10.67, take_profit_usd=15.4)
    (stop,) = paths(card(done, "AAA"), "stroke: var(--down); stroke-width: 1.1; stroke-dasharray")
    (left, height), (right, same) = re.findall(r"([\d.]+) ([\d.]+)", stop)
    assert height == same
    assert (float(left), float(right)) == pytest.approx((28.8 + 329.4 / 4, 28.8 + 329.4 * 3 / 4), abs=0.01)


def test_a_symbol_without_forecasts_and_with_a_late_first_price_has_its_closes_only() -> None:
    drawn = card(result(panel({"AAA": [float("nan"), 11.0, 12.0], "BBB": [1.0, 1.0, 1.0]})), "AAA")
    (closes,) = paths(drawn, "fill: none; stroke: var(--ink)")
    assert closes.count("L") == 1
    assert paths(drawn, "var(--accent)") == []
