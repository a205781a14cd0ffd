import pytest

from tests.builders import forecast, settings
from trader.alpha.trend import Trend
from trader.model import Direction

RULE = Trend.from_settings(settings(SIGNAL_THRESHOLD_FRACTION=0.01))


@pytest.mark.parametrize(
    ("price_usd", "direction"),
    [
        (98.9, Direction.UP),
        (99.1, Direction.FLAT),
        (100, Direction.FLAT),
        (100.9, Direction.FLAT),
        (101.1, Direction.DOWN),
    ],
)
def test_trend_buys_below_the_dead_band_and_sells_above_it(price_usd: float, direction: Direction) -> None:
    assert RULE.insight(forecast(price_usd, 100)).direction is direction


def test_the_gap_is_the_distance_from_the_line() -> None:
    assert RULE.insight(forecast(90, 100)).gap_fraction == pytest.approx(-0.1)


def test_trend_asks_for_the_line_alone() -> None:
    assert not RULE.forecast_spec.looks_ahead
