"""The control group: what its members believe, how they go, and what is said of them."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from scripts.owner import controls
from scripts.owner.bars import Bars
from scripts.owner.controls import Comparison, Control
from scripts.owner.tape import Step, parse
from tests.builders import SLOT, account
from tests.several_days import BOUGHT, QUIET, SeveralDays, at
from trader.model import Forecast
from trader.wiring import open_journal


def forecast(symbol: str, price_usd: float, trend_usd: float) -> Forecast:
    return Forecast(symbol=symbol, time=SLOT, price_usd=price_usd, trend_usd=trend_usd)


def step(**lines: tuple[float, float]) -> Step:
    """Return a slot with the price and the line of each symbol; the bar before was one dollar lower."""
    bars = {symbol: Bars(np.array([1, 2]), np.array([price - 1, price])) for symbol, (price, _) in lines.items()}
    forecasts = {symbol: forecast(symbol, *each) for symbol, each in lines.items()}
    return Step(slot=SLOT, now=SLOT, bars=bars, forecasts=forecasts)


def gaps(found: dict[str, Forecast]) -> dict[str, float]:
    return {symbol: round(each.price_usd / each.trend_usd - 1, 9) for symbol, each in found.items()}


def test_the_last_price_takes_the_bar_before_for_the_line() -> None:
    found = controls.take_last(step(A=(100, 130), B=(50, 40)), "trend")
    assert {symbol: each.trend_usd for symbol, each in found.items()} == {"A": 99, "B": 49}


def test_the_coin_deals_the_same_gaps_to_other_symbols() -> None:
    given = step(A=(100, 130), B=(50, 40), C=(10, 10.5))
    before = gaps(dict(given.forecasts))
    after = gaps(dict(controls.draw_lots(given, "trend")))
    assert sorted(after.values()) == sorted(before.values())
    assert all(after[symbol] != before[symbol] for symbol in before)


def test_the_coin_is_thrown_once_a_day_and_anew_on_the_next() -> None:
    given = step(**{f"S{number}": (100, 101 + number) for number in range(8)})
    now = gaps(dict(controls.draw_lots(given, "trend")))
    later = gaps(dict(controls.draw_lots(replace(given, slot=SLOT - timedelta(hours=2)), "trend")))
    tomorrow = gaps(dict(controls.draw_lots(replace(given, slot=SLOT + timedelta(days=1)), "trend")))
    assert now == later
    assert now != tomorrow


def test_two_strategies_throw_two_coins() -> None:
    given = step(**{f"S{number}": (100, 101 + number) for number in range(8)})
    assert gaps(dict(controls.draw_lots(given, "a"))) != gaps(dict(controls.draw_lots(given, "b")))


def test_an_interval_keeps_its_width_about_the_last_price() -> None:
    given = step(A=(100, 130))
    wide = replace(given.forecasts["A"], yhat_usd=130, lower_usd=120, upper_usd=140)
    found = controls.take_last(replace(given, forecasts={"A": wide}), "trend")["A"]
    assert (found.lower_usd, found.yhat_usd, found.upper_usd) == (89, 99, 109)


def test_each_account_goes_its_own_way_through_the_same_slots(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path, UNIVERSE="A,B")
    for day in range(6):
        days.run(at(day), {"A": BOUGHT if day == 0 else QUIET + day, "B": QUIET - day})
    journal = open_journal(days.env["JOURNAL"], "trend")
    steps = [parse(at(day), journal.store.read(name) or "")[1] for day, name in enumerate(journal.list_records())]
    found = controls.run(steps, "trend")
    assert set(found) == {Control.BOT, Control.LAST_PRICE, Control.COIN}
    assert {len(course) for course in found.values()} == {6}
    assert found[Control.BOT][-1][1] != found[Control.LAST_PRICE][-1][1]
    assert controls.run(steps, "trend") == found


def test_of_very_many_slots_the_last_one_of_each_day_counts() -> None:
    one = replace(step(A=(100, 130)), account=account())
    steps = [replace(one, slot=SLOT - timedelta(minutes=number)) for number in reversed(range(controls.MAX_STEPS))]
    assert controls.cut(steps) == steps
    tomorrow = replace(one, slot=SLOT + timedelta(days=1))
    assert controls.cut([*steps, tomorrow]) == [steps[-1], tomorrow]


def test_a_rule_without_forecasts_has_no_control_group() -> None:
    assert controls.run([], "trend") == {}


def days_of(growths: list[float]) -> dict[date, float]:
    values = 100 * np.cumprod([1.0, *growths])
    return {date(2026, 1, 1) + timedelta(days=number): float(usd) for number, usd in enumerate(values)}


def compared(bot: list[float], other: list[float]) -> Comparison:
    found = controls.compare_days(Control.COIN, "coin", days_of(bot), days_of(other))
    assert found is not None
    return found


@pytest.mark.parametrize(("gain", "words"), [(0.01, "better: +1.0"), (-0.01, "worse: -1.0"), (0.0, "not known yet: ")])
def test_the_words_follow_the_interval(gain: float, words: str) -> None:
    noise = [0.001 * (-1) ** number for number in range(252)]
    said = controls.judge(compared([1 + gain + each for each in noise], [1.0] * 252))
    assert said.startswith(words)


def test_what_it_would_take_is_said_in_sessions() -> None:
    noise = [0.01 * (-1) ** number for number in range(60)]
    said = controls.judge(compared([1.001 + each for each in noise], [1.0] * 60))
    assert "it would take about" in said
    assert "sessions at this rate" in said


def test_few_sessions_say_nothing() -> None:
    assert controls.judge(compared([1.5] * 5, [1.0] * 5)) == "too few sessions to say anything"


def test_only_days_that_both_have_are_compared() -> None:
    bot, other = days_of([1.1, 1.1]), days_of([1.0, 1.0])
    other.pop(date(2026, 1, 2))
    found = controls.compare_days(Control.COIN, "coin", bot, other)
    assert found is not None
    assert found.bot_return == pytest.approx(0.21)


def judged(*gains: float) -> list[Comparison]:
    noise = [0.001 * (-1) ** number for number in range(252)]
    made = [compared([1 + gain + each for each in noise], [1.0] * 252) for gain in gains]
    return [replace(each, name=f"control {number}") for number, each in enumerate(made)]


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((0.01, 0.01), "The forecast has earned its place"),
        ((0.01, 0.0), "Whether the forecast has earned its place is not known yet"),
        ((0.01, -0.01), "The forecast has not earned its place: control 1 did better without it"),
    ],
)
def test_the_conclusion_needs_every_control(gains: tuple[float, float], words: str) -> None:
    assert controls.conclude(judged(*gains)).startswith(words)


def test_a_benchmark_says_nothing_of_the_forecast() -> None:
    (one,) = judged(-0.01)
    assert controls.conclude([replace(one, control=Control.BENCHMARK)]) == ""
