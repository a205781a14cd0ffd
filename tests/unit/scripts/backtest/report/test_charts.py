"""The charts of spans that are unusually short."""

from scripts.backtest.report import charts
from scripts.backtest.statistics import figures
from tests.backtest_results import panel, result


def test_two_daily_bars_are_labeled_with_their_days_and_no_time() -> None:
    (wide, *_) = charts.equity(figures(result(panel({"AAA": [10.0, 11.0]})))).pictures
    assert ">00:00<" not in wide
