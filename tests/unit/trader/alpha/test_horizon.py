from tests.builders import settings
from trader.alpha.horizon import Horizon

RULE = Horizon.from_settings(settings(HORIZON_BARS=3))


def test_the_interval_is_for_the_eighth_day_despite_horizon_bars() -> None:
    assert (RULE.forecast_spec.ahead_days, RULE.forecast_spec.ahead_bars) == (8, None)


def test_prophets_defaults_are_used() -> None:
    assert set(RULE.forecast_spec.seasonalities) == {"yearly", "weekly", "daily"}


def test_it_trades_single_shares() -> None:
    assert RULE.facts.shares_per_order == 1


def test_it_decides_on_every_fifth_trading_day() -> None:
    assert RULE.forecast_spec.every_sessions == 5
