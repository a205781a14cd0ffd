"""The map engine as a Forecaster: its forecasts for symbols, times and signals, and what it leaves to Prophet."""

import logging
import math
from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from tests.builders import SLOT, daily, every, settings, spec
from trader.deadline import Deadline
from trader.forecasting.base import Forecasts
from trader.forecasting.map import forecaster, kernel, posterior_mode
from trader.forecasting.map import model as map_model
from trader.forecasting.map.forecaster import MapForecaster
from trader.forecasting.prophet import SEED, ProphetForecaster
from trader.model import NEW_YORK, Closes, Code, Forecast
from trader.wiring import make_forecaster


def forecasts(
    closes: Mapping[str, Closes],
    signal: str = "trend",
    interval: str = "1d",
    horizon: int = 1,
    seconds: float = math.inf,
) -> Forecasts:
    engine = MapForecaster(spec(signal, interval, horizon))
    return engine.forecast(closes, Deadline(lambda: seconds))


def forecast(closes: Closes, signal: str = "trend", interval: str = "1d", horizon: int = 1) -> Forecast:
    (only,) = forecasts({"AAPL": closes}, signal, interval, horizon).forecasts
    return only


def walk(seed: int, bars: int = 120) -> list[float]:
    return list(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, bars))))


RISING = daily(list(np.linspace(100, 150, 120)))
WALK = daily(walk(7))


def test_the_settings_choose_the_engine() -> None:
    chosen = {engine: type(make_forecaster(settings(ENGINE=engine))) for engine in ("prophet", "map")}
    assert chosen == {"prophet": ProphetForecaster, "map": MapForecaster}


def test_the_trend_of_a_straight_line_is_the_line() -> None:
    assert forecast(RISING).trend_usd == pytest.approx(150, rel=0.001)


def test_the_trend_is_close_to_prophets_own() -> None:
    by_prophet = ProphetForecaster(spec())
    (theirs,) = by_prophet.forecast({"AAPL": WALK}, Deadline.never()).forecasts
    assert forecast(WALK).trend_usd == pytest.approx(theirs.trend_usd, rel=0.01)


def test_the_corners_of_the_line_span_the_history() -> None:
    line = forecast(RISING).line
    assert (line[0][0], line[-1][0]) == (RISING.index[0], RISING.index[-1])
    assert line[0][1] == pytest.approx(100, rel=0.01)


def test_the_line_ends_where_the_trend_does() -> None:
    only = forecast(WALK)
    assert only.line[-1][1] == only.trend_usd


def test_the_line_has_its_corners_where_prophets_does() -> None:
    by_prophet = ProphetForecaster(spec())
    (theirs,) = by_prophet.forecast({"AAPL": WALK}, Deadline.never()).forecasts
    assert [time for time, _ in forecast(WALK).line] == [time for time, _ in theirs.line]


def test_a_bar_keeps_its_date_across_a_clock_change() -> None:
    weeks = forecast(daily(list(np.linspace(100, 150, 60)), last=date(2022, 12, 1))).line
    assert {time.astimezone(NEW_YORK).hour for time, _ in weeks} == {0}


def test_the_trend_signal_asks_for_no_interval() -> None:
    assert (forecast(WALK).lower_usd, forecast(WALK).horizon_time) == (None, None)


@pytest.mark.parametrize("bars", [1, 2, 60])
def test_the_interval_is_that_of_prophet_with_the_same_parameters(bars: int) -> None:
    last = pd.DatetimeIndex(WALK.index).tz_convert(NEW_YORK).tz_localize(None)
    model = Prophet(weekly_seasonality=False, daily_seasonality=False)
    model.fit(pd.DataFrame({"ds": last, "y": WALK.to_numpy()}))
    calendar = MapForecaster(spec("interval")).calendar(last.as_unit("ns").asi8)
    batch = map_model.Batch(calendar=calendar, values=np.asarray(WALK, float)[None])
    (fit,) = map_model.fit([batch]).fits
    assert not isinstance(fit, str)
    model.params |= {
        "k": fit.parameters[None, :1],
        "m": fit.parameters[None, 1:2],
        "delta": fit.changes[None],
        "sigma_obs": np.array([[fit.sigma]]),
    }
    np.random.seed(SEED)
    theirs = model.predict(pd.DataFrame({"ds": pd.bdate_range(last[-1], periods=bars + 1)[1:]})).iloc[-1]
    only = forecast(WALK, "interval", horizon=bars)
    assert (only.lower_usd, only.upper_usd) == pytest.approx((theirs["yhat_lower"], theirs["yhat_upper"]), rel=1e-6)


def test_the_interval_looks_as_many_bars_ahead_as_asked() -> None:
    assert forecast(every(15, walk(7)), "interval", "15m", 4).horizon_time == SLOT + timedelta(hours=1)


def test_the_same_bars_give_the_same_forecast_alone_or_among_others() -> None:
    among = forecasts({"MSFT": RISING, "AAPL": WALK, "KO": RISING}, "interval").forecasts[1]
    assert among == forecast(WALK, "interval")


def test_a_symbol_with_a_missing_bar_is_fitted_to_the_bars_it_has() -> None:
    holed = WALK.drop(WALK.index[[20, 55, 56]])
    among = forecasts({"MSFT": RISING, "HOLED": holed, "KO": WALK}).forecasts[1]
    assert (among.trend_usd, among.line) == (forecast(holed).trend_usd, forecast(holed).line)


def test_a_symbol_listed_later_is_fitted_to_the_bars_it_has() -> None:
    young = WALK.iloc[-40:]
    among = forecasts({"OLD": WALK, "YOUNG": young}).forecasts[1]
    assert (among.line[0][0], among.trend_usd) == (young.index[0], forecast(young).trend_usd)


def test_forecasts_come_in_the_order_asked_for() -> None:
    closes = {"D": RISING, "A": WALK.iloc[-40:], "C": RISING, "B": WALK.iloc[-40:]}
    assert [each.symbol for each in forecasts(closes).forecasts] == ["D", "A", "C", "B"]


def test_the_time_zone_of_the_closes_does_not_matter() -> None:
    elsewhere = WALK.tz_convert("Asia/Tokyo")
    both = forecasts({"AAPL": WALK, "MSFT": elsewhere}).forecasts
    assert both[0].trend_usd == both[1].trend_usd


def test_more_symbols_than_fit_in_a_batch_are_all_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecaster, "AT_ONCE", 3)
    many = {f"S{number}": daily(walk(number, 60 + number % 2)) for number in range(11)}
    alone = {symbol: forecast(closes).trend_usd for symbol, closes in many.items()}
    assert {each.symbol: each.trend_usd for each in forecasts(many).forecasts} == alone


def test_a_symbol_with_three_bars_is_denied_and_the_others_are_not() -> None:
    both = forecasts({"NEW": daily([1, 2, 3]), "AAPL": RISING})
    assert [(each.symbol, each.code, each.detail) for each in both.denials] == [
        ("NEW", Code.FORECAST_FAILED, "3 bars; the forecast needs 30")
    ]
    assert [each.symbol for each in both.forecasts] == ["AAPL"]


def test_identical_timestamps_deny_only_that_symbol() -> None:
    doubled = WALK.copy()
    doubled.index = pd.DatetimeIndex([*WALK.index[:-1], WALK.index[-2]])
    both = forecasts({"BAD": doubled, "AAPL": RISING})
    assert [(each.symbol, each.code) for each in both.denials] == [("BAD", Code.FORECAST_FAILED)]
    assert "timestamps are not strictly increasing" in both.denials[0].detail
    assert both.forecasts == forecasts({"AAPL": RISING}).forecasts


@pytest.mark.parametrize("price", [math.inf, -math.inf])
def test_an_infinite_price_denies_only_that_symbol(price: float) -> None:
    spoilt = WALK.copy()
    spoilt.iloc[5] = price
    both = forecasts({"BAD": spoilt, "AAPL": RISING})
    assert [(each.symbol, each.code) for each in both.denials] == [("BAD", Code.FORECAST_FAILED)]
    assert both.forecasts == forecasts({"AAPL": RISING}).forecasts


def test_a_trend_line_that_ends_below_zero_is_denied() -> None:
    falling = daily([*np.linspace(1000, 1, 60), *[0.001] * 2])
    (denial,) = forecasts({"AAPL": falling}).denials
    assert "which is not a price" in denial.detail


@pytest.mark.parametrize("price", [1e-9, 50.0, 1e9])
def test_a_constant_price_has_a_flat_line(price: float) -> None:
    only = forecast(daily([price] * 60))
    assert {only.trend_usd, *(at for _, at in only.line)} == {price}


def test_on_a_friday_the_eighth_day_is_left_to_prophet(caplog: pytest.LogCaptureFixture) -> None:
    friday = {"AAPL": daily(walk(7), last=date(2022, 12, 23))}
    by_prophet = ProphetForecaster(spec("horizon"))
    with caplog.at_level(logging.INFO, "trader"):
        made = forecasts(friday, "horizon")
    assert made == by_prophet.forecast(friday, Deadline.never())
    (record,) = [each for each in caplog.records if each.message == "handed to Prophet"]
    assert vars(record)["reason"] == "its history says nothing about a Saturday, 00:00"


@pytest.mark.parametrize("last", [date(2022, 12, 28), date(2022, 12, 29)])
def test_with_weekly_terms_the_line_is_at_the_prices_level(last: date) -> None:
    falling = np.linspace(100, 25, 120) * np.exp(np.random.default_rng(3).normal(0, 0.01, 120))
    only = forecast(daily(list(falling), last=last), "horizon")
    assert only.line[0][1] == pytest.approx(100, rel=0.05)
    assert only.trend_usd == only.line[-1][1] == pytest.approx(25, rel=0.05)


@pytest.mark.parametrize("last", [date(2020, 10, 29), date(2020, 3, 5)], ids=["November", "March"])
def test_the_eighth_day_is_a_calendar_day_across_a_clock_change(last: date, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trader"):
        only = forecast(daily(walk(7), last), "horizon")
    assert only.horizon_time == pd.Timestamp(last + timedelta(days=8), tz=NEW_YORK)
    assert "handed to Prophet" not in caplog.messages


@pytest.mark.parametrize("last", ["2020-10-29 15:45", "2020-03-05 15:45"], ids=["November", "March"])
def test_an_intraday_bar_looks_at_the_same_time_on_the_eighth_day(last: str, caplog: pytest.LogCaptureFixture) -> None:
    end = pd.Timestamp(last, tz=NEW_YORK)
    days = pd.bdate_range(end=end.normalize(), periods=8)
    times = [day + pd.Timedelta(minutes=570 + 15 * bar) for day in days for bar in range(26)]
    closes = pd.Series(walk(7, len(times)), index=pd.DatetimeIndex(times).tz_convert("UTC"))
    with caplog.at_level(logging.INFO, "trader"):
        only = forecast(closes, "horizon", "15m")
    assert only.horizon_time == pd.Timestamp(end.tz_localize(None) + timedelta(days=8), tz=NEW_YORK)
    assert "handed to Prophet" not in caplog.messages


@pytest.mark.parametrize("last", [date(2020, 10, 30), date(2020, 3, 6)], ids=["November", "March"])
def test_the_next_business_day_begins_at_its_own_midnight_across_a_clock_change(last: date) -> None:
    only = forecast(daily(walk(7), last), "interval")
    assert only.horizon_time == pd.Timestamp(last + timedelta(days=3), tz=NEW_YORK)


def test_a_failure_of_the_engine_is_logged_and_left_to_prophet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(map_model, "fit", no_room)
    by_prophet = ProphetForecaster(spec())
    assert forecasts({"AAPL": WALK}) == by_prophet.forecast({"AAPL": WALK}, Deadline.never())
    assert "the map engine failed" in next(each.message for each in caplog.records if each.levelno == logging.ERROR)


def test_with_daily_terms_the_line_is_at_the_prices_level() -> None:
    days = pd.bdate_range("2022-12-19", periods=8, tz=NEW_YORK)
    times = [day + pd.Timedelta(minutes=570 + 15 * bar) for day in days for bar in range(26)]
    closes = pd.Series(walk(7, len(times)), index=pd.DatetimeIndex(times).tz_convert("UTC"))
    only = forecast(closes, "horizon", "15m")
    assert only.trend_usd == pytest.approx(closes.iloc[-1], rel=0.1)


def test_on_other_days_the_eighth_day_is_close_to_prophets_own() -> None:
    by_prophet = ProphetForecaster(spec("horizon"))
    (theirs,) = by_prophet.forecast({"AAPL": WALK}, Deadline.never()).forecasts
    only = forecast(WALK, "horizon")
    assert only.horizon_time == theirs.horizon_time
    assert only.trend_usd != theirs.trend_usd  # it was not left to Prophet
    assert only.yhat_usd == pytest.approx(theirs.yhat_usd, rel=0.01)


def test_a_symbol_without_a_mode_is_handed_to_prophet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel, "load", lambda: None)
    monkeypatch.setattr(posterior_mode, "MAX_STEPS", 1)
    by_prophet = ProphetForecaster(spec())
    with caplog.at_level(logging.INFO, "trader"):
        made = forecasts({"AAPL": WALK})
    assert made == by_prophet.forecast({"AAPL": WALK}, Deadline.never())
    (record,) = [each for each in caplog.records if each.message == "handed to Prophet"]
    assert (vars(record)["symbol"], "not found" in vars(record)["reason"]) == ("AAPL", True)


def test_symbols_without_time_left_are_denied() -> None:
    late = forecasts({"AAPL": RISING, "MSFT": WALK}, seconds=0)
    assert [(each.symbol, each.code) for each in late.denials] == [
        ("AAPL", Code.OUT_OF_TIME),
        ("MSFT", Code.OUT_OF_TIME),
    ]


def test_nothing_to_forecast_is_not_an_error() -> None:
    assert forecasts({}) == Forecasts()


def test_progress_is_reported() -> None:
    told: list[tuple[str, int, int]] = []
    engine = MapForecaster(spec())
    engine.forecast({"A": RISING, "B": WALK}, Deadline.never(), lambda *step: told.append(step))
    assert told == [("trend lines", 2, 2)]
