import logging
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, timedelta
from functools import cache
from threading import Barrier, BrokenBarrierError

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from tests.builders import SLOT, daily, every, spec
from trader.deadline import Deadline
from trader.forecasting.base import Forecasts
from trader.forecasting.prophet import SEED, ProphetForecaster
from trader.model import NEW_YORK, Closes, Code, Forecast


def forecasts(
    closes: dict[str, Closes], signal: str = "trend", interval: str = "1d", horizon: int = 1, seconds: float = math.inf
) -> Forecasts:
    forecaster = ProphetForecaster(spec(signal, interval, horizon))
    return forecaster.forecast(closes, Deadline(lambda: seconds))


def forecast(closes: Closes, signal: str = "trend", interval: str = "1d", horizon: int = 1) -> Forecast:
    (only,) = forecasts({"AAPL": closes}, signal, interval, horizon).forecasts
    return only


RISING = daily(list(np.linspace(100, 150, 120)))
WALK = daily(list(100 * np.exp(np.cumsum(np.random.default_rng(7).normal(0, 0.01, 120)))))


def test_the_trend_of_a_straight_line_is_the_line() -> None:
    assert forecast(RISING).trend_usd == pytest.approx(150, rel=0.01)


def test_the_corners_of_the_line_span_the_history() -> None:
    line = forecast(RISING).line
    assert (line[0][0], line[-1][0]) == (RISING.index[0], RISING.index[-1])
    assert line[0][1] == pytest.approx(100, rel=0.01)


def test_a_bar_keeps_its_date_across_a_clock_change() -> None:
    weeks = forecast(daily(list(np.linspace(100, 150, 60)), last=date(2022, 12, 1))).line
    assert {time.astimezone(NEW_YORK).hour for time, _ in weeks} == {0}


def test_the_trend_signal_asks_for_no_interval() -> None:
    assert (forecast(WALK).lower_usd, forecast(WALK).horizon_time) == (None, None)


def test_the_interval_is_around_the_forecast_on_the_next_business_day() -> None:
    only = forecast(daily(list(WALK), last=date(2022, 12, 30)), "interval")  # a Friday
    assert only.horizon_time is not None
    assert only.horizon_time.astimezone(NEW_YORK).date() == date(2023, 1, 2)
    assert only.lower_usd is not None
    assert only.yhat_usd is not None
    assert only.upper_usd is not None
    assert only.lower_usd < only.yhat_usd < only.upper_usd


def test_threads_that_draw_at_the_same_time_have_the_interval_of_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    forecaster = ProphetForecaster(spec("interval"))
    model = forecaster.fit(WALK)
    alone = forecaster.predict("AAPL", WALK, model)
    draw, both_have_begun = model.predictive_samples, Barrier(2)

    def draw_together(future: pd.DataFrame) -> dict[str, np.ndarray]:
        with suppress(BrokenBarrierError):  # if one waits for the other, as it should
            both_have_begun.wait(0.2)
        return draw(future)

    monkeypatch.setattr(model, "predictive_samples", draw_together)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: forecaster.predict("AAPL", WALK, model), range(2)))
    assert found == [alone, alone]


def test_the_interval_looks_as_many_bars_ahead_as_asked() -> None:
    assert forecast(every(15, list(WALK)), "interval", "15m", 4).horizon_time == SLOT + timedelta(hours=1)


def test_the_horizon_rule_looks_at_the_eighth_day() -> None:
    only = forecast(WALK, "horizon")
    assert only.horizon_time == WALK.index[-1] + timedelta(days=8)


@pytest.mark.parametrize("last", [date(2020, 10, 29), date(2020, 3, 5)], ids=["November", "March"])
def test_the_eighth_day_is_a_calendar_day_across_a_clock_change(last: date) -> None:
    only = forecast(daily(list(WALK), last), "horizon")
    assert only.horizon_time == pd.Timestamp(last + timedelta(days=8), tz=NEW_YORK)


@pytest.mark.parametrize("last", ["2020-10-29 15:45", "2020-03-05 15:45"], ids=["November", "March"])
def test_an_intraday_bar_looks_at_the_same_time_on_the_eighth_day(last: str) -> None:
    bar = pd.Timestamp(last, tz=NEW_YORK)
    only = forecast(every(15, list(WALK), bar.to_pydatetime()), "horizon", "15m")
    assert only.horizon_time == pd.Timestamp(bar.tz_localize(None) + timedelta(days=8), tz=NEW_YORK)


@pytest.mark.parametrize("last", [date(2020, 10, 30), date(2020, 3, 6)], ids=["November", "March"])
def test_the_next_business_day_begins_at_its_own_midnight_across_a_clock_change(last: date) -> None:
    only = forecast(daily(list(WALK), last), "interval")
    assert only.horizon_time == pd.Timestamp(last + timedelta(days=3), tz=NEW_YORK)


@cache
def prophets() -> Prophet:
    """Return Prophet's own model of WALK, as the rule `interval` asks for it."""
    model = Prophet(weekly_seasonality=False, daily_seasonality=False)
    model.fit(pd.DataFrame({"ds": local(WALK), "y": WALK.to_numpy()}))
    return model


def local(closes: Closes) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(closes.index).tz_convert(NEW_YORK).tz_localize(None)


@pytest.mark.parametrize("bars", [1, 2, 60])
def test_the_interval_is_prophets_own_at_the_end_of_all_bars_up_to_the_horizon(bars: int) -> None:
    future = pd.DataFrame({"ds": pd.bdate_range(local(WALK)[-1], periods=bars + 1)[1:]})
    np.random.seed(SEED)
    theirs = prophets().predict(future).iloc[-1]
    only = forecast(WALK, "interval", horizon=bars)
    assert (only.lower_usd, only.upper_usd) == pytest.approx((theirs["yhat_lower"], theirs["yhat_upper"]), rel=1e-12)


def test_the_interval_widens_with_the_horizon() -> None:
    widths = [
        upper - lower for lower, upper in (ends(forecast(WALK, "interval", horizon=bars)) for bars in (1, 20, 60))
    ]
    assert widths[0] < widths[1] < widths[2]
    assert widths[2] > 2 * widths[0]


def test_a_model_fitted_earlier_has_the_interval_of_all_bars_since() -> None:
    earlier = ProphetForecaster(spec("interval", bars=60))
    model = earlier.fit(WALK.iloc[:-20])
    np.random.seed(SEED)
    future = pd.DataFrame({"ds": pd.bdate_range(local(WALK)[-20], periods=80)})
    theirs = model.predict(future).iloc[-1]
    made = earlier.predict("AAPL", WALK, model)
    assert ends(made) == pytest.approx((theirs["yhat_lower"], theirs["yhat_upper"]), rel=1e-12)


def ends(made: Forecast) -> tuple[float, float]:
    assert made.lower_usd is not None
    assert made.upper_usd is not None
    return made.lower_usd, made.upper_usd


def test_the_same_bars_give_the_same_forecast_alone_or_among_others() -> None:
    among = forecasts({"MSFT": RISING, "AAPL": WALK, "KO": RISING}, "interval").forecasts[1]
    assert among == forecast(WALK, "interval")


def test_forecasts_come_in_the_order_asked_for() -> None:
    order = [each.symbol for each in forecasts(dict.fromkeys("DACB", RISING)).forecasts]
    assert order == ["D", "A", "C", "B"]


def test_a_symbol_with_three_bars_is_denied_and_the_others_are_not() -> None:
    both = forecasts({"NEW": daily([1, 2, 3]), "AAPL": RISING})
    assert [(each.symbol, each.code, each.detail) for each in both.denials] == [
        ("NEW", Code.FORECAST_FAILED, "3 bars; the forecast needs 30")
    ]
    assert [each.symbol for each in both.forecasts] == ["AAPL"]


def test_the_horizon_rule_needs_ninety_bars() -> None:
    assert forecasts({"AAPL": RISING.iloc[-89:]}, "horizon").denials[0].code is Code.FORECAST_FAILED


def test_an_infinite_price_denies_only_that_symbol() -> None:
    spoilt = RISING.copy()
    spoilt.iloc[5] = math.inf
    both = forecasts({"BAD": spoilt, "AAPL": RISING})
    assert [(each.symbol, each.code) for each in both.denials] == [("BAD", Code.FORECAST_FAILED)]
    assert [each.symbol for each in both.forecasts] == ["AAPL"]


def test_a_trend_line_that_ends_below_zero_is_denied() -> None:
    falling = daily([*np.linspace(1000, 1, 60), *[0.001] * 2])
    (denial,) = forecasts({"AAPL": falling}).denials
    assert "which is not a price" in denial.detail


def test_a_constant_price_has_a_flat_line() -> None:
    assert forecast(daily([50] * 60)).trend_usd == pytest.approx(50, rel=1e-6)


def test_the_trend_is_identical_to_prophets_own() -> None:
    model = Prophet(weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0)
    dates = pd.DatetimeIndex(WALK.index).tz_convert(NEW_YORK).tz_localize(None)
    model.fit(pd.DataFrame({"ds": dates, "y": WALK.to_numpy()}))
    theirs = model.predict(pd.DataFrame({"ds": dates[-1:]}))["trend"].iloc[0]
    assert forecast(WALK).trend_usd == theirs


def test_symbols_without_time_left_are_denied() -> None:
    late = forecasts({"AAPL": RISING, "MSFT": RISING}, seconds=0)
    assert [(each.symbol, each.code) for each in late.denials] == [
        ("AAPL", Code.OUT_OF_TIME),
        ("MSFT", Code.OUT_OF_TIME),
    ]


def test_nothing_to_forecast_is_not_an_error() -> None:
    assert forecasts({}) == Forecasts()


def test_fitting_writes_nothing_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        forecast(WALK, "horizon")
    assert [record for record in caplog.records if record.name.startswith(("prophet", "cmdstanpy"))] == []


def test_fitting_in_threads_leaves_the_warning_filters_as_they_were(recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("default")
    before = list(warnings.filters)
    forecasts({f"S{number}": WALK for number in range(12)})
    assert warnings.filters == before
    assert [str(each.message) for each in recwarn] == []


def test_progress_is_reported_for_each_symbol() -> None:
    told: list[tuple[str, int, int]] = []
    forecaster = ProphetForecaster(spec())
    forecaster.forecast({"A": RISING, "B": RISING}, Deadline.never(), lambda *step: told.append(step))
    assert told == [("trend lines", 1, 2), ("trend lines", 2, 2)]
