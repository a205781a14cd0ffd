import pytest

from tests.builders import forecast
from trader.alpha.models import insight
from trader.model import Direction


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
def test_trend_buys_below_the_line_and_sells_above_it_outside_the_dead_band(
    price_usd: float, direction: Direction
) -> None:
    assert insight(forecast(price_usd, 100), "trend", 0.01).direction is direction


def test_the_gap_is_the_distance_from_the_line() -> None:
    assert insight(forecast(90, 100), "trend", 0.01).gap_fraction == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("lower_usd", "upper_usd", "direction"),
    [
        (99, 103, Direction.UP),
        (97, 101, Direction.DOWN),
        (101, 103, Direction.UP),
        (97, 99, Direction.DOWN),
        (99, 101, Direction.FLAT),
    ],
)
@pytest.mark.parametrize("signal", ["interval", "horizon"])
def test_the_interval_rule_goes_where_the_interval_reaches_further(
    signal: str, lower_usd: float, upper_usd: float, direction: Direction
) -> None:
    assert insight(forecast(100, lower_usd=lower_usd, upper_usd=upper_usd), signal, 0.01).direction is direction


def test_the_interval_rule_without_an_interval_is_an_error() -> None:
    with pytest.raises(ValueError, match="forecast of AAPL has no interval"):
        insight(forecast(), "interval", 0.01)
