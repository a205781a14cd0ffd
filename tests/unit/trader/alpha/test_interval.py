import pytest

from tests.builders import forecast, settings
from trader.alpha.horizon import Horizon
from trader.alpha.interval import Interval
from trader.model import Direction

RULE = Interval.from_settings(settings(HORIZON_BARS=3))


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
@pytest.mark.parametrize("rule", [RULE, Horizon.from_settings(settings())])
def test_the_rule_follows_the_farther_end_of_the_interval(
    rule: Interval | Horizon, lower_usd: float, upper_usd: float, direction: Direction
) -> None:
    assert rule.insight(forecast(100, lower_usd=lower_usd, upper_usd=upper_usd)).direction is direction


def test_a_forecast_without_an_interval_is_an_error() -> None:
    with pytest.raises(ValueError, match="forecast of AAPL has no interval"):
        RULE.insight(forecast())


def test_the_interval_is_horizon_bars_ahead() -> None:
    assert RULE.forecast_spec.ahead_bars == 3
