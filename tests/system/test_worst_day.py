"""The loss of one day, in percent of the equity at the last close, when everything goes wrong at the default settings.

Ten holdings of a tenth each are bought on one day, and all of them fall on a later one. The figures are those of
docs/explanation/reliability.md.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from tests.several_days import SeveralDays, at
from trader.model import Report

TEN = ",".join("ABCDEFGHIJ")
BOUGHT = 104.0
DAYS = 60

FALL = 0.9699
"""A little more than the stop's distance."""

FALLING = [BOUGHT * FALL**step for step in range(1, 20)]
"""A stop's distance every 15 minutes."""

GAP = [BOUGHT * 0.9 * FALL**step for step in range(20)]
"""An opening ten percent lower, which all stops miss, and then the same."""


def lose(folder: Path, prices: Sequence[float], risen: float = 0.0, **variables: object) -> float:
    """Return the day's loss in percent, after these prices every 15 minutes and 60 days of an even rise to `risen`."""
    bot = SeveralDays(folder, UNIVERSE=TEN, **variables)
    assert len(bot.run(at(0), BOUGHT)["investments"]) == 10
    for day in range(1, DAYS):
        bot.set_price(at(day), BOUGHT * (1 + risen * day / DAYS))
    before_usd = equity_usd(bot.run(at(DAYS), BOUGHT * (1 + risen)))
    reports = [
        bot.run(at(DAYS + 1, 9, 30) + slot * timedelta(minutes=15), price_usd) for slot, price_usd in enumerate(prices)
    ]
    return round(100 * (1 - equity_usd(reports[-1]) / before_usd), 1)


def equity_usd(report: Report) -> float:
    account = report["account"]["after"]
    assert account
    return float(account["equity_usd"])


@pytest.mark.parametrize("pause", [0, 1])
def test_ten_stops_cost_one_stop_each_whatever_the_pause(tmp_path: Path, pause: int) -> None:
    assert lose(tmp_path, FALLING, PAUSE_AFTER_STOP_BARS=pause) == 2.8


@pytest.mark.parametrize("pause", [0, 1])
def test_a_gap_through_all_stops_costs_the_gap(tmp_path: Path, pause: int) -> None:
    assert lose(tmp_path, GAP, PAUSE_AFTER_STOP_BARS=pause) == 9.5


def test_holdings_that_have_risen_can_lose_their_gain_in_a_day(tmp_path: Path) -> None:
    assert lose(tmp_path, [BOUGHT * 1.2, BOUGHT * 0.97], risen=0.39) == 29.0


def test_stops_that_are_reached_one_by_one_cost_more_because_others_take_their_place(tmp_path: Path) -> None:
    others = [*"KLMNOPQRST"]
    bot = SeveralDays(tmp_path, UNIVERSE=f"{TEN},{','.join(others)}")
    prices = dict.fromkeys(TEN.split(","), BOUGHT) | dict.fromkeys(others, 110.0)  # the others are on their line
    old = [*bot.run(at(0), prices)["investments"]]
    before_usd = equity_usd(bot.run(at(1), prices))
    new: list[str] = []
    slots = iter(range(26))
    while old:
        fallen = new or [old.pop()]
        prices |= {symbol: prices[symbol] * FALL for symbol in fallen}
        prices |= dict.fromkeys([others.pop()] if others else [], BOUGHT)  # one more is worth buying
        report = bot.run(at(2, 9, 30) + next(slots) * timedelta(minutes=15), prices)
        new = [symbol for symbol, quantity in report["investments"].items() if quantity > 0]
    after_usd = equity_usd(report)
    assert round(100 * (1 - after_usd / before_usd), 1) == 3.4
