"""PAUSE_AFTER_STOP_BARS, and the price at which a stop is filled: every broker must see both in the same way."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import override

import pandas as pd
import pytest

from scripts.backtest.engine import backtest
from scripts.backtest.model import Options, Panel
from scripts.testkit.alpaca import AlpacaFake
from scripts.testkit.alpaca_books import FakeOrder, JsonValue
from tests.builders import settings
from tests.several_days import BARS, FIRST, RISE, SeveralDays, at, bars_before

BOUGHT, STOP, BELOW = 104.0, 100.88, 98.0


@dataclass(frozen=True)
class Story:
    """What a strategy did: the runs that bought, counted from 0, and the prices at which its stops were filled."""

    bought: list[int]
    stopped_at_usd: list[float]


type Play = Callable[..., Story]
"""Runs a strategy once a bar at these prices, with these settings."""


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


@pytest.fixture(params=["embedded", "alpaca", "backtest"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Return how to run a strategy at each broker."""

    def times(count: int, interval: str) -> list[datetime]:
        return [at(0, 10) + bar * timedelta(minutes=15) if interval == "15m" else at(bar) for bar in range(count)]

    def in_backtest(prices: Sequence[float], interval: str = "1d", **variables: object) -> Story:
        earlier = [*RISE[:5], *RISE]  # a backtest begins with the first bar of a day, and needs bars before it
        index = bars_before(times(len(prices), interval)[-1], interval, len(earlier) + len(prices))
        closes = pd.DataFrame({"A": [*earlier, *prices]}, index=pd.DatetimeIndex(index).tz_convert("UTC"))
        panel = Panel(open=closes, high=closes, low=closes, close=closes, has_ohlc=False, source="a test")
        names = {"ENGINE": "map", "UNIVERSE": "A", "UNIVERSE_LOOKBACK_BARS": 1, "HISTORY_BARS": BARS}
        chosen = settings(**names, BAR_INTERVAL=interval, **variables)
        options = Options(settings=chosen, start=FIRST, fills_at_close=True, slippage_fraction=0.0)
        result = backtest(panel, options)
        bars = result.bars[-len(prices) :]
        return Story(
            [number for number, bar in enumerate(bars) if bar.decision and bar.decision.orders],
            [fill.price_usd for fill in result.fills if fill.kind == "stop-loss"],
        )

    def in_runs(prices: Sequence[float], interval: str = "1d", **variables: object) -> Story:
        fake = request.getfixturevalue("fake") if request.param == "alpaca" else None
        strategy = SeveralDays(tmp_path, fake, BAR_INTERVAL=interval, **variables)
        moments = times(len(prices), interval)
        reports = [strategy.run(moment, price_usd) for moment, price_usd in zip(moments, prices, strict=True)]
        bought = [number for number, report in enumerate(reports) if report["investments"].get("A", 0) > 0]
        if fake:
            filled = [float(each.filled_price or 0) for each in fake.orders if each.type == "stop" and each.filled_at]
        else:
            orders = json.loads((tmp_path / "account.json").read_text())["orders"].values()
            filled = [each["filled_price_usd"] for each in orders if each["type"] == "stop"]
        return Story(bought, filled)

    return in_backtest if request.param == "backtest" else in_runs


@pytest.mark.parametrize(("pause", "again"), [(0, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("interval", ["1d", "15m"])
def test_a_stopped_symbol_is_bought_again_after_so_many_new_bars(
    play: Play, interval: str, pause: int, again: int
) -> None:
    prices = [BOUGHT, BELOW, BELOW, BELOW, BELOW]
    assert play(prices, interval, PAUSE_AFTER_STOP_BARS=pause).bought == [0, again]


def test_each_stop_begins_a_pause_of_its_own(play: Play) -> None:
    prices = [BOUGHT, BELOW, BELOW, 92.0, 92.0, 92.0]
    assert play(prices, PAUSE_AFTER_STOP_BARS=1, MAX_DAILY_LOSS_FRACTION=0.5).bought == [0, 2, 4]


@pytest.mark.parametrize("price_usd", [98.0, 90.0])
def test_a_stop_that_a_gap_passes_is_filled_at_the_market(play: Play, price_usd: float) -> None:
    assert play([BOUGHT, price_usd]).stopped_at_usd == [price_usd]


def test_within_a_day_the_pause_is_until_the_next_day(fake: AlpacaFake, tmp_path: Path) -> None:
    strategy = SeveralDays(tmp_path, fake)
    strategy.run(at(0), BOUGHT)
    fake.close_day()
    reports = [strategy.run(at(1, hour), BELOW) for hour in range(10, 16)]
    fake.close_day()
    reports.append(strategy.run(at(2, 10), BELOW))
    denied = [[each["code"] for each in report["denials"]] for report in reports]
    assert denied == [["PAUSED"]] * 6 + [[]]


def fill_stop(fake: AlpacaFake, shares: int) -> None:
    """Fill a part of the stop, which is then canceled; the rest of the holding is sold by hand."""
    stop = next(order for order in fake.open_orders("A") if order.type == "stop")
    fake.fill_part(stop, shares)
    fake.end(stop, "canceled")
    if "A" in fake.positions:
        fake.sell_by_hand("A")


@pytest.mark.parametrize("shares", [1, 94])
def test_a_stop_that_was_filled_in_part_begins_a_pause(fake: AlpacaFake, tmp_path: Path, shares: int) -> None:
    strategy = SeveralDays(tmp_path, fake)
    strategy.run(at(0), BOUGHT)
    fake.now = at(1, 10)
    fill_stop(fake, shares)
    reports = [strategy.run(at(1, 11), BOUGHT), strategy.run(at(2, 11), BOUGHT)]
    assert [report["status"] for report in reports] == ["PAUSED", "TRADED"]


def test_a_stop_that_was_not_filled_begins_no_pause(fake: AlpacaFake, tmp_path: Path) -> None:
    strategy = SeveralDays(tmp_path, fake)
    strategy.run(at(0), BOUGHT)
    fake.sell_by_hand("A")
    assert strategy.run(at(1), BOUGHT)["status"] == "TRADED"


def test_a_stop_whose_rest_is_sold_by_the_bot_begins_a_pause(fake: AlpacaFake, tmp_path: Path) -> None:
    strategy = SeveralDays(tmp_path, fake)
    bought = strategy.run(at(0), BOUGHT)["investments"]["A"]
    stop, limit = (next(order for order in fake.orders if order.type == kind) for kind in ("stop", "limit"))
    fake.fill_part(stop, int(bought) - 5)
    limit.quantity = stop.remaining
    sold = strategy.run(at(0, 15, 50), 115.5)
    assert sold["investments"] == {"A": -5}
    assert strategy.run(at(0, 15, 55), BOUGHT)["status"] == "PAUSED"


class Timeless(AlpacaFake):
    """A stand-in whose orders have no times but those of their submission."""

    @override
    def _order_json(self, order: FakeOrder, *, nested: bool) -> JsonValue:
        record = super()._order_json(order, nested=nested)
        for each in (record, *(record["legs"] or ())):
            each |= dict.fromkeys(("filled_at", "updated_at", "canceled_at"))
        return record


def test_a_stop_filled_at_an_unknown_time_counts_as_filled_now(tmp_path: Path) -> None:
    with Timeless() as fake:
        strategy = SeveralDays(tmp_path, fake)
        strategy.run(at(0), BOUGHT)
        reports = [strategy.run(at(day), BELOW) for day in (1, 5)]
    assert [report["status"] for report in reports] == ["PAUSED", "PAUSED"]


def test_a_sale_below_a_lost_stop_begins_a_pause_too(fake: AlpacaFake, tmp_path: Path) -> None:
    strategy = SeveralDays(tmp_path, fake)
    strategy.run(at(0), BOUGHT)
    for leg in fake.open_orders("A"):
        fake.end(leg, "canceled")
    report = strategy.run(at(1), BELOW)
    assert [(each["side"], each["type"]) for each in report.get("stops", [])] == [("sell", "market")]
    assert [each["code"] for each in report["denials"]] == ["PAUSED"]
