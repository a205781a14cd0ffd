"""The workers of a backtest: threads for the map engine, processes for Prophet's package."""

import os
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.backtest import compute, forecasts, workers
from scripts.backtest.compute import Table, Task
from scripts.backtest.model import Options, Panel
from tests.builders import daily, settings
from trader.forecasting.map import kernel
from trader.model import Engine


def only(task: Task, symbols: Sequence[str]) -> Task:
    """Return the task restricted to some of its symbols."""
    return replace(task, closes=task.closes[symbols], bars={symbol: task.bars[symbol] for symbol in symbols})


def test_threads_make_the_same_forecasts_as_one_after_the_other() -> None:
    columns = {
        f"S{seed}": daily(list(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, 160)))))
        for seed in range(12)
    }
    frame = pd.DataFrame(columns)
    panel = Panel(open=frame, high=frame, low=frame, close=frame, has_ohlc=False, source="a test")
    chosen = Options(settings=settings(ENGINE="map", HISTORY_BARS=100, UNIVERSE_LOOKBACK_BARS=10), refit_every_bars=1)
    tasks = forecasts.tasks(panel, chosen, [each.to_pydatetime() for each in frame.index[-50:]])
    halves = [only(task, some) for task in tasks for some in (list(task.bars)[::2], list(task.bars)[1::2])]
    alone: Table = {}
    together: Table = {}
    for task in tasks:
        alone |= compute.compute(task)
    with workers.pool(Engine.MAP, 4) as pool:
        for made in pool.map(compute.compute, halves):
            together |= made
    assert together == alone


def test_a_thread_of_the_map_engine_works_in_this_process() -> None:
    with workers.pool(Engine.MAP, 1) as pool:
        assert pool.submit(threading.main_thread).result() is threading.main_thread()


def test_a_search_that_cannot_be_loaded_is_reported_before_there_are_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel, "FOLDER", tmp_path)
    kernel.load.cache_clear()
    try:
        with workers.pool(Engine.MAP, 2):
            (record,) = caplog.records
            assert "the reference search in NumPy" in record.message
    finally:
        kernel.load.cache_clear()


@pytest.mark.parametrize("engine", Engine)
def test_what_changes_its_process_works_in_another(engine: Engine) -> None:
    with workers.processes(engine, 1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()


def test_prophets_package_has_processes() -> None:
    pool = workers.pool(Engine.PROPHET, 1)
    assert isinstance(pool, ProcessPoolExecutor)
    pool.shutdown()


def test_warnings_are_hidden_until_the_last_thread_is_done_and_then_shown_again() -> None:
    first, second = compute._HIDDEN_WARNINGS, compute._HIDDEN_WARNINGS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with first:
            with second:
                warnings.warn("inside", stacklevel=1)
            warnings.warn("still inside", stacklevel=1)
        with pytest.raises(UserWarning, match="outside"):
            warnings.warn("outside", stacklevel=1)
