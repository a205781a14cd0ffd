"""The rule `horizon` on the closes of Sean Kelley's published log (2018), compared with the orders in that log."""

from pathlib import Path

import pandas as pd
import pytest

from trader.alpha.horizon import Horizon
from trader.deadline import Deadline
from trader.forecasting.prophet import ProphetForecaster, deny
from trader.model import Code, Direction
from trader.schedule import sessions
from trader.settings import Settings

LOG = pd.read_csv(Path(__file__).with_name("kelley_2018.csv"), comment="#", parse_dates=["date"], na_values=[])
CLOSES = pd.Series(
    LOG["close"].to_numpy(),
    name="WMT",
    index=pd.DatetimeIndex(LOG["date"]).tz_localize("America/New_York").tz_convert("UTC"),
)
ORDERS = LOG["order"].dropna()
"""The orders that the log says were created, by the place of their bar; 385."""

RULE = Horizon.from_settings(Settings())
FIRST = RULE.forecast_spec.min_bars - 1

MAX_OTHERWISE = 3
"""Decisions that came out otherwise when this was written, of 486: the middle of each of these intervals is within 8
cents of the close, and the log has closes in whole cents and random draws of its own."""


def decides(place: int) -> bool:
    return deny("WMT", place + 1, CLOSES.index[place], RULE.forecast_spec) is None


def directions(*places: int) -> list[Direction]:
    """Return what the bot decides with the closes up to each of these bars."""
    closes = {str(place): CLOSES.iloc[: place + 1] for place in places}
    made = ProphetForecaster(RULE.forecast_spec).forecast(closes, Deadline.never())
    return [RULE.insight(each).direction for each in made.forecasts]


def logged(place: int) -> Direction:
    """Return the direction that the log shows: without an order, it was DOWN and there was nothing to sell."""
    return Direction.UP if ORDERS.get(place) == "buy" else Direction.DOWN


def test_every_order_of_the_log_is_of_a_bar_on_which_the_rule_decides() -> None:
    assert [place for place in ORDERS.index if not decides(place)] == []


def test_the_rule_decides_on_every_fifth_bar_of_the_log() -> None:
    assert [place for place in range(len(CLOSES)) if decides(place)] == list(range(FIRST, len(CLOSES), 5))


def test_sessions_are_numbered_as_the_bars_of_the_log() -> None:
    assert [sessions.number(day.date()) for day in LOG["date"]] == list(range(1, len(LOG) + 1))


def test_the_next_decision_is_that_of_the_log() -> None:
    denial = deny("WMT", FIRST + 7, CLOSES.index[FIRST + 6], RULE.forecast_spec)
    assert denial is not None
    assert (denial.code, denial.detail[-10:]) == (Code.BETWEEN_DECISIONS, str(LOG["date"][FIRST + 10].date()))


def test_the_rule_decides_as_the_log_does() -> None:
    places = range(FIRST + 5, 1000, 60)
    assert directions(*places) == [logged(place) for place in places]


@pytest.mark.slow
def test_the_rule_decides_as_the_log_does_from_its_first_to_its_last_bar() -> None:
    places = range(FIRST, len(CLOSES), 15)
    otherwise = [place for place, made in zip(places, directions(*places), strict=True) if made is not logged(place)]
    assert len(otherwise) <= MAX_OTHERWISE
