import pytest

from tests.builders import daily, forecast, settings
from trader.alpha.trend import Trend
from trader.deadline import Deadline
from trader.model import Direction, Engine
from trader.wiring import make_forecaster

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


@pytest.mark.parametrize(
    ("price_usd", "trend_usd", "direction"),
    [
        (100.0, 100.004, Direction.FLAT),
        (100.0, 99.996, Direction.FLAT),
        (100.0, 100.006, Direction.UP),
        (100.0, 99.994, Direction.DOWN),
        (0.5, 0.50004, Direction.FLAT),
        (0.5, 0.50006, Direction.UP),
    ],
)
def test_without_a_dead_band_a_line_at_the_price_to_the_tick_has_no_direction(
    price_usd: float, trend_usd: float, direction: Direction
) -> None:
    rule = Trend.from_settings(settings(SIGNAL_THRESHOLD_FRACTION=0))
    assert rule.insight(forecast(price_usd, trend_usd)).direction is direction


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("closes", [[50.0] * 60, [50.0] * 30 + [50.01] + [50.0] * 29, [50.0, 50.0 + 1e-14] * 30])
def test_without_a_dead_band_a_share_that_does_not_move_has_no_direction(engine: Engine, closes: list[float]) -> None:
    chosen = settings(SIGNAL_THRESHOLD_FRACTION=0, ENGINE=engine)
    (made,) = make_forecaster(chosen).forecast({"AAPL": daily(closes)}, Deadline.never()).forecasts
    assert Trend.from_settings(chosen).insight(made).direction is Direction.FLAT


def test_the_gap_is_the_distance_from_the_line() -> None:
    assert RULE.insight(forecast(90, 100)).gap_fraction == pytest.approx(-0.1)


def test_trend_asks_for_the_line_alone() -> None:
    assert not RULE.forecast_spec.looks_ahead
