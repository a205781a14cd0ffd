from datetime import date

import pytest

from tests.builders import daily, forecast, settings
from trader.alpha import loader
from trader.alpha.base import View
from trader.alpha.horizon import Horizon
from trader.alpha.interval import Interval
from trader.deadline import Deadline
from trader.forecasting.stan import Optimizer
from trader.model import Direction, Engine
from trader.wiring import make_forecaster

RULE = Interval.from_settings(settings(HORIZON_BARS=3))
RULES = [RULE, Horizon.from_settings(settings())]


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
@pytest.mark.parametrize("rule", RULES)
def test_the_rule_follows_the_farther_end_of_the_interval(
    rule: Interval | Horizon, lower_usd: float, upper_usd: float, direction: Direction
) -> None:
    assert rule.insight(forecast(100, lower_usd=lower_usd, upper_usd=upper_usd)).direction is direction


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("price_usd", "lower_usd", "upper_usd", "direction"),
    [
        (100.0, 99.0, 101.006, Direction.FLAT),
        (100.0, 98.994, 101.0, Direction.FLAT),
        (100.0, 99.0, 101.02, Direction.UP),
        (100.0, 98.98, 101.0, Direction.DOWN),
        (0.5, 0.49, 0.51006, Direction.FLAT),
        (0.5, 0.49, 0.5102, Direction.UP),
        (49.325, 49.32499999, 49.32500002, Direction.FLAT),
    ],
)
def test_ends_that_are_equally_far_to_the_tick_have_no_direction(
    rule: Interval | Horizon, price_usd: float, lower_usd: float, upper_usd: float, direction: Direction
) -> None:
    assert rule.insight(forecast(price_usd, lower_usd=lower_usd, upper_usd=upper_usd)).direction is direction


@pytest.mark.parametrize(("lower_usd", "upper_usd", "gap"), [(99, 103, 0.03), (97, 101, -0.03), (99, 101, 0.0)])
def test_the_gap_is_the_move_to_the_farther_end(lower_usd: float, upper_usd: float, gap: float) -> None:
    made = RULE.insight(forecast(100, lower_usd=lower_usd, upper_usd=upper_usd))
    assert made.gap_fraction == pytest.approx(gap)


def test_a_narrow_interval_above_the_price_has_a_direction() -> None:
    assert RULE.insight(forecast(49, lower_usd=50, upper_usd=50.0000001)).direction is Direction.UP


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("signal", ["interval", "horizon"])
@pytest.mark.parametrize(
    "closes",
    [
        [50.0] * 90,
        [0.0123] * 90,
        [49.325] * 90,
        [471_234.56] * 90,
        [50.0] * 30 + [50.01] + [50.0] * 59,
        [50.0, 50.0 + 1e-14] * 45,
    ],
    ids=["constant", "tiny", "between ticks", "large", "one tick once", "rounding"],
)
def test_a_share_that_does_not_move_has_no_direction(engine: Engine, signal: str, closes: list[float]) -> None:
    chosen = settings(SIGNAL=signal, ENGINE=engine, HISTORY_BARS=90)
    decides = date(2022, 12, 22)  # also `horizon`, for a day on which the exchange is open
    (made,) = make_forecaster(chosen).forecast({"AAPL": daily(closes, decides)}, Deadline.never()).forecasts
    assert made.lower_usd != made.upper_usd
    view = View(slot=made.time, closes={}, forecasts={"AAPL": made}, positions={})
    assert [each.direction for each in loader.load(chosen).insights(view)] == [Direction.FLAT]


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("signal", ["interval", "horizon"])
def test_what_only_rounding_moves_is_not_fitted(engine: Engine, signal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def optimize(*_: object) -> None:
        raise TimeoutError("Stan did not end")  # as on a busy machine: it takes seconds, and goes nowhere

    monkeypatch.setattr(Optimizer, "_optimize", optimize)
    closes = daily([50.0, 50.0 + 1e-14] * 45, date(2022, 12, 22))
    made = make_forecaster(settings(SIGNAL=signal, ENGINE=engine, HISTORY_BARS=90))
    assert [each.symbol for each in made.forecast({"AAPL": closes}, Deadline.never()).forecasts] == ["AAPL"]


def test_a_forecast_without_an_interval_is_an_error() -> None:
    with pytest.raises(ValueError, match="forecast of AAPL has no interval"):
        RULE.insight(forecast())


def test_the_interval_is_horizon_bars_ahead() -> None:
    assert RULE.forecast_spec.ahead_bars == 3
