"""What rules/momentum_rotation.py decides. Run it: make test TESTS=rules/tests/test_momentum_rotation.py"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pandas as pd
import pytest

from scripts.testkit.rules import decide
from trader.alpha import own
from trader.alpha.base import View
from trader.model import Direction, Insight

RULE = "rules/momentum_rotation.py"
FIRST = datetime(2022, 12, 1, 20, 45, tzinfo=UTC)
"""A slot on the first trading day of December, a Thursday."""


def rank(
    closes: Mapping[str, Sequence[float]],
    *,
    best: int = 1,
    lookback: int = 20,
    skip: int = 0,
    held: Mapping[str, float] | None = None,
) -> Mapping[str, Insight]:
    """Decide at FIRST."""
    return decide(RULE, closes, held=held, slot=FIRST, best=best, lookback=lookback, skip=skip)


def rise(fraction: float, bars: int = 22) -> list[float]:
    """Return closes of which the last one but today's is this much above the first."""
    return [100.0] * (bars - 2) + [100 * (1 + fraction)] * 2


def decide_on(days: Mapping[str, Sequence[str]], slot: str) -> Mapping[str, Insight]:
    """Decide at 15:45 New York on closes of these days, after enough others; KO rises, and PEP falls."""
    rule = own.load(RULE, {"best": 1, "lookback": 20, "skip": 0}, bar_interval="1d", horizon_bars=1)
    closes = {}
    for symbol, last in days.items():
        before = pd.bdate_range(end=pd.Timestamp(last[0]) - pd.Timedelta(days=1), periods=30)
        days_at_midnight = [*before, *map(pd.Timestamp, last)]
        index = pd.DatetimeIndex(days_at_midnight).tz_localize("America/New_York").tz_convert("UTC")
        step = 1 if symbol == "KO" else -1
        closes[symbol] = pd.Series([100.0 + step * number for number in range(len(index))], index=index)
    at = datetime.fromisoformat(f"{slot}T20:45:00+00:00")
    view = View(slot=at, closes=closes, forecasts={}, positions={})
    return {each.symbol: each for each in rule.insights(view)}


def directions(found: Mapping[str, Insight]) -> dict[str, str]:
    return {symbol: each.direction.name for symbol, each in found.items()}


# --- when ---


@pytest.mark.parametrize(
    ("last", "slot", "is_due"),
    [
        (["2022-11-29", "2022-11-30", "2022-12-01"], "2022-12-01", True),
        (["2022-11-30", "2022-12-01", "2022-12-02"], "2022-12-02", False),
        (["2022-09-29", "2022-09-30", "2022-10-03"], "2022-10-03", True),  # a Monday: the month began on Saturday
        (["2022-12-29", "2022-12-30", "2023-01-03"], "2023-01-03", True),  # Monday was a holiday
        (["2022-12-30", "2023-01-03", "2023-01-04"], "2023-01-04", False),
        (["2022-11-29", "2022-11-30"], "2022-12-01", True),  # today has no close yet
        (["2022-11-29", "2022-11-30"], "2022-11-30", False),  # the last day of a month
    ],
)
def test_it_changes_on_the_first_trading_day_of_a_month(last: Sequence[str], slot: str, is_due: bool) -> None:
    found = directions(decide_on({"KO": last, "PEP": last}, slot))
    assert found == ({"KO": "UP", "PEP": "DOWN"} if is_due else {"KO": "FLAT", "PEP": "FLAT"})


def test_a_symbol_that_was_not_traded_lately_does_not_make_a_second_first_day() -> None:
    days = {"KO": ["2022-11-30", "2022-12-01", "2022-12-02"], "PEP": ["2022-11-29", "2022-12-02"]}
    assert directions(decide_on(days, "2022-12-02")) == {"KO": "FLAT", "PEP": "FLAT"}


def test_on_other_days_the_reason_says_what_it_waits_for() -> None:
    days = ["2022-11-30", "2022-12-01", "2022-12-02"]
    found = decide_on({"KO": days}, "2022-12-02")["KO"]  # 131 after 111
    assert found.reason == "+18.0% in 20 days, rank 1 of 1; it is changed on the first trading day of a month"


# --- what ---


@pytest.mark.parametrize(("best", "bought"), [(1, {"AA"}), (2, {"AA", "BB"}), (3, {"AA", "BB", "CC"})])
def test_the_best_are_bought_and_all_others_sold(best: int, bought: set[str]) -> None:
    closes = {"CC": rise(0.05), "BB": rise(0.05), "AA": rise(0.10), "DD": rise(-0.01)}
    found = rank(closes, best=best, held={"DD": 5})
    assert {symbol for symbol, each in found.items() if each.direction is Direction.UP} == bought
    assert {symbol for symbol, each in found.items() if each.direction is Direction.DOWN} == set(closes) - bought


def test_the_price_of_the_day_itself_changes_nothing() -> None:
    quiet = {"AA": rise(0.10), "BB": rise(0.05)}
    wild = {"AA": [*rise(0.10)[:-1], 1.0], "BB": [*rise(0.05)[:-1], 900.0]}
    assert directions(rank(wild)) == directions(rank(quiet)) == {"AA": "UP", "BB": "DOWN"}


def test_the_bars_that_are_skipped_do_not_count() -> None:
    closes = [100.0] * 20 + [110.0] + [55.0] * 6  # 20 bars to 110, then 5 that are skipped, and today
    found = rank({"AA": closes}, skip=5)["AA"]
    assert (found.direction, found.reason) == (Direction.UP, "+10.0% in 20 days, rank 1 of 1")


def test_the_strength_is_the_return_of_a_month() -> None:
    found = rank({"AA": [100.0, *[121.0] * 43]}, lookback=42)["AA"]
    assert found.gap_fraction == pytest.approx(0.10)


def test_a_symbol_without_enough_closes_has_no_rank() -> None:
    found = rank({"AA": rise(0.5, bars=21), "BB": rise(0.05)})
    assert directions(found) == {"BB": "UP"}
