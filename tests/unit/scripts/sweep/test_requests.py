"""Forecasts of a sweep, divided into tasks of even size."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from scripts.backtest import compute, forecasts, options
from scripts.backtest.model import Panel
from scripts.sweep import requests
from scripts.sweep.requests import FITS, Request
from trader.model import Engine

CHOSEN = options.from_env({"ENGINE": "map", "HISTORY_BARS": "60", "UNIVERSE_LOOKBACK_BARS": "20", "UNIVERSE_SIZE": "7"})


@pytest.fixture(scope="module")
def panel() -> Panel:
    usd = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, (300, 40)), axis=0))
    usd[:120, 3] = np.nan  # listed late
    usd[250:, 5] = np.nan  # ended early
    index = pd.date_range("2021-01-01", periods=300, tz="UTC", freq="B")
    close = pd.DataFrame(usd, index=index, columns=[f"S{number}" for number in range(40)])
    return Panel(open=close, high=close, low=close, close=close, has_ohlc=False, source="a test")


@pytest.fixture(scope="module")
def needed(panel: Panel) -> list[compute.Task]:
    return forecasts.tasks(panel, CHOSEN, [time.to_pydatetime() for time in panel.close.index[100:]])


def pairs(task: compute.Task) -> set[tuple[str, datetime, datetime]]:
    """Return the symbol, the bar and the bar of the fit of each forecast of a task."""
    times = task.closes.index
    return {(symbol, times[bar], times[fit]) for symbol, bars in task.bars.items() for bar, fit in bars}


def request(fits: int, symbol: str = "AAPL") -> Request:
    rows = np.array([(row, row) for row in range(fits)], np.int32)
    return Request(engine=Engine.MAP, symbol=symbol, begin=0, rows=rows)


def test_the_tasks_together_ask_for_every_forecast_once(panel: Panel, needed: list[compute.Task]) -> None:
    some = requests.find_lacking([*needed, *needed], panel.close.index, {})
    tasks = [
        requests.to_task(each, forecasts.key(CHOSEN), panel.close) for each in requests.divide(some, {Engine.MAP: 300})
    ]
    asked = [pair for task in tasks for pair in pairs(task)]
    assert len(asked) == len(set(asked))
    assert set(asked) == {pair for task in needed for pair in pairs(task)}


def test_a_forecast_does_not_depend_on_how_they_are_divided(panel: Panel, needed: list[compute.Task]) -> None:
    some = requests.find_lacking(needed[:1], panel.close.index, {})
    made: compute.Table = {}
    for each in requests.divide(some, {Engine.MAP: 100}):
        made |= compute.compute(requests.to_task(each, forecasts.key(CHOSEN), panel.close))
    assert made == compute.compute(needed[0])


def test_a_known_forecast_is_not_asked_for(panel: Panel, needed: list[compute.Task]) -> None:
    known = {(symbol, time) for task in needed[1:] for symbol, time, _ in pairs(task)}
    some = requests.find_lacking(needed, panel.close.index, known)
    times = panel.close.index
    lacking = {(each.symbol, times[row].to_pydatetime()) for each in some for row, _ in each.rows}
    asked = {(symbol, time) for task in needed for symbol, time, _ in pairs(task)}
    assert lacking == asked - known


def test_tasks_differ_by_a_request_at_most() -> None:
    some = [request(fits) for fits in (250, 3, 250, 90, 17, 250, 120, 250, 8, 31, 250, 250, 66, 250)]
    sizes = [sum(each.fits for each in task) for task in requests.divide(some, {Engine.MAP: 500})]
    assert sum(sizes) == sum(each.fits for each in some)
    assert max(sizes) - min(sizes) <= 250


def test_many_workers_get_smaller_tasks_but_none_that_is_not_worth_it() -> None:
    some = [request(100) for _ in range(4_000)]
    least, most = FITS[Engine.MAP]
    assert requests.choose_size(some, 10)[Engine.MAP] == 400_000 // (10 * requests.TASKS_A_WORKER)
    assert requests.choose_size(some, 1)[Engine.MAP] == most
    assert requests.choose_size(some, 1_000)[Engine.MAP] == least


def test_requests_of_other_bars_have_another_name() -> None:
    assert requests.identify([request(5)]) == requests.identify([request(5)])
    assert requests.identify([request(5)]) != requests.identify([request(6)])
    assert requests.identify([request(5)]) != requests.identify([request(5, "XOM")])
