"""Whole sweeps with small tasks, on processes that really die and on a Dask cluster over TCP."""

import csv
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import date
from functools import partial
from math import comb
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from scripts import ROOT
from scripts.backtest import options, prices
from scripts.backtest.engine import backtest
from scripts.backtest.model import BacktestError
from scripts.backtest.statistics import key_figures
from scripts.console import UnwritableError
from scripts.rules.write import write
from scripts.sweep import executors, store, tasks
from scripts.sweep import sweep as sweeping
from scripts.sweep.cluster import cluster
from scripts.sweep.executors import Failure
from scripts.sweep.run import main
from scripts.sweep.walk_forward import parts
from tests.commands import Command, in_process
from tests.warm.python import python_of_clusters
from trader.model import SAMPLE_PRICES

PATH = os.pathsep.join((str(ROOT / "function"), str(ROOT)))

SMALL = {
    "GRID": "SIGNAL_THRESHOLD_FRACTION=0.001,0.02 MAX_POSITION_FRACTION=0.1,0.5",
    "UNIVERSE": "AAPL,XOM",
    "ENGINE": "map",
    "HISTORY_BARS": "100",
    "UNIVERSE_LOOKBACK_BARS": "20",
    "START": "2022-10-27",
    "REFIT_EVERY": "20",
    "FOLDS": "1",
}
"""Four settings and the default on two parts of about twenty days each, with two models for each part and symbol.

A hundred bars, because Stan's optimizer for fewer takes several times as long.
"""

PROPHET = {"ENGINE": "prophet"}
"""For what must also hold with the default engine."""


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """Let workers import the project, as they can under make, and these tests' tasks once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        patch.setattr(executors, "PRELOADED", (*executors.PRELOADED, __name__))
        yield


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    command = in_process(main, monkeypatch, capsys)
    return lambda *arguments, **variables: command(*arguments, **{**SMALL, "OUT": str(tmp_path), **variables})


# --- tasks, each of which writes its name to a file to be counted ----------------------------------------------------


def note(log: Path, name: str) -> None:
    with log.open("a") as file:
        file.write(f"{name}\n")


def square(number: int) -> int:
    return number * number


def note_and_square(log: Path, number: int) -> int:
    note(log, str(number))
    time.sleep(0.02)
    return number * number


def die_once(log: Path, number: int) -> int:
    is_first = number == 3 and "3" not in log.read_text().split()
    note_and_square(log, number)
    if is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_always(log: Path, number: int) -> int:
    note_and_square(log, number)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def refuse_three(number: int) -> int:
    if number == 3:
        raise BacktestError("three cannot be traded")
    return number * number


def divide_by_zero(number: int) -> int:
    return number // (number - 3)


def results(workers: executors.Workers, function: Callable[[int], int], count: int = 8) -> dict[str, int | Failure]:
    return dict(workers.results(function, ((str(number), number) for number in range(count))))


SQUARES = {str(number): number * number for number in range(8)}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


# --- workers that die ------------------------------------------------------------------------------------------------


def test_a_killed_worker_loses_only_its_current_task(log: Path) -> None:
    with executors.local(2) as workers:
        assert results(workers, partial(die_once, log)) == SQUARES
    assert Counter(log.read_text().split()) == Counter([*SQUARES, "3"])


def test_a_task_that_kills_three_workers_is_named_and_skipped(log: Path) -> None:
    with executors.local(2) as workers:
        found = results(workers, partial(die_always, log))
    assert found.pop("3") == Failure(why=f"3 worker processes in a row died while running it; {executors.REMEDY}")
    assert found == {name: number for name, number in SQUARES.items() if name != "3"}
    assert Counter(log.read_text().split()) == Counter([*SQUARES, "3", "3"])


def test_a_worker_that_dies_between_two_tasks_is_replaced() -> None:
    with executors.local(1) as workers:
        pool = workers.lanes[0].executor
        os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):
            pool.submit(time.sleep, 60).result()
        assert results(workers, square) == SQUARES


def test_a_task_that_cannot_be_traded_fails_with_its_reason() -> None:
    with executors.local(1) as workers:
        assert results(workers, refuse_three)["3"] == Failure(why="three cannot be traded")


def test_an_unexpected_error_is_not_hidden_among_the_results() -> None:
    with pytest.raises(ZeroDivisionError), executors.local(1) as workers:
        results(workers, divide_by_zero)


def test_an_error_ends_busy_workers_at_once() -> None:
    pids = []

    def fail_while_it_sleeps() -> None:
        with executors.local(1) as workers:
            pids.append(workers.lanes[0].executor.submit(os.getpid).result())
            sleep = workers.lanes[0].executor.submit(time.sleep, 60)
            while not sleep.running():
                time.sleep(0.01)
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fail_while_it_sleeps()
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_sweep_shows_its_folds_and_writes_its_files(sweep: Command, tmp_path: Path) -> None:
    code, out, _ = sweep()
    assert code == 0
    assert "4 settings on 2 parts: 10 backtests" in out
    assert "partly luck" in out
    assert [(row["setting"], row["part"]) for row in figures(tmp_path)] == [
        (setting, part) for setting in ("1", "2", "3", "4", "default") for part in ("1", "2")
    ]
    page = (tmp_path / "sweep/sweep.html").read_text()
    assert page.count("<svg") == 3  # the logo, and the heat map for a desktop and a phone
    assert "http:" not in page
    assert "https:" not in page
    assert ElementTree.parse(tmp_path / "sweep/sweep.svg").getroot().tag.endswith("svg")


def test_a_sweep_says_whether_choosing_was_luck(sweep: Command, tmp_path: Path) -> None:
    found = json.loads(sweep("--json")[1])
    assert found["overfitting"]["ways"] == comb(8, 4)  # 43 bars are eight blocks
    assert 0 <= found["overfitting"]["probability"] <= 1
    assert " ".join((tmp_path / "sweep/sweep.html").read_text().split()).count(found["overfitting"]["verdict"]) == 1


def test_settings_tried_before_count_against_the_best(sweep: Command) -> None:
    counts = [
        json.loads(sweep("--json", GRID=f"SIGNAL_THRESHOLD_FRACTION={values}")[1])["trials"]["settings"]
        for values in ("0.001,0.02", "0.02,0.03", "0.02,0.03")
    ]
    assert counts == [2, 3, 3]


def test_parts_of_a_month_are_ranked_and_have_no_figure_for_a_year(sweep: Command, tmp_path: Path) -> None:
    code, out, _ = sweep()
    assert code == 0
    assert "Sharpe ratio per bar: chosen on one part, judged on the next" in out
    assert "1 → 2 SIGNAL_THRESHOLD_FRACTION=" in out
    for name in ("annual_return_fraction", "annual_volatility_fraction", "sharpe_ratio", "sortino_ratio"):
        assert {row[name] for row in figures(tmp_path)} == {""}
    assert "" not in {row["bar_sharpe_ratio"] for row in figures(tmp_path)}


def figures(out: Path) -> list[dict[str, str]]:
    with (out / "sweep/results.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_part_has_the_figures_of_a_backtest_of_its_days(sweep: Command, tmp_path: Path) -> None:
    sweep(**PROPHET)
    row = figures(tmp_path)[1]
    chosen = options.from_env(
        {**SMALL, **PROPHET, "SIGNAL_THRESHOLD_FRACTION": "0.001", "MAX_POSITION_FRACTION": "0.1"}
    )
    days = replace(chosen, start=date.fromisoformat(row["start"]), end=date.fromisoformat(row["end"]))
    alone = key_figures(backtest(prices.load(days), days))
    assert {name: row[name] for name in alone} == {
        name: "" if figure is None else f"{figure:.10g}" for name, figure in alone.items()
    }
    assert alone["trades"]


def test_a_sweep_can_vary_the_engine(sweep: Command, tmp_path: Path) -> None:
    code, out, _ = sweep(GRID="ENGINE=prophet,map", **PROPHET)
    assert (code, "2 settings on 2 parts" in out) == (0, True)
    known = {(row["setting"], row["part"]): row["final_equity_usd"] for row in figures(tmp_path)}
    assert known["1", "1"] == known["default", "1"]
    assert float(known["2", "1"]) == pytest.approx(float(known["1", "1"]), rel=0.02)


def test_the_same_sweep_resumes_where_it_ended(sweep: Command, tmp_path: Path) -> None:
    first = json.loads(sweep("--json")[1])
    kept = (tmp_path / "sweep/results.jsonl").read_bytes()
    again = json.loads(sweep("--json")[1])
    assert (first.pop("computed"), first.pop("taken_up")) == (10, 0)
    assert (again.pop("computed"), again.pop("taken_up")) == (0, 10)
    assert again == first
    assert (tmp_path / "sweep/results.jsonl").read_bytes() == kept
    assert "10 backtests, 10 of them done before" in sweep()[1]
    assert json.loads(sweep("--json", FRESH="1")[1])["computed"] == 10


def test_a_result_torn_by_an_interruption_is_computed_again(sweep: Command, tmp_path: Path) -> None:
    sweep()
    results_csv, lines = (tmp_path / "sweep/results.csv").read_bytes(), tmp_path / "sweep/results.jsonl"
    lines.write_bytes(lines.read_bytes()[:-40])
    assert json.loads(sweep("--json")[1])["computed"] == 1
    assert (tmp_path / "sweep/results.csv").read_bytes() == results_csv
    assert json.loads(sweep("--json")[1])["computed"] == 0


def test_only_parts_with_changed_prices_are_computed_again(sweep: Command, tmp_path: Path) -> None:
    closes = pd.read_csv(SAMPLE_PRICES, index_col=0)[["AAPL", "XOM"]].loc["2022-05":]
    file = tmp_path / "prices.csv"
    closes.to_csv(file)
    sweep(PRICE_FILE=str(file))
    closes.loc[closes.index[-1], "AAPL"] = 123.45
    closes.to_csv(file)
    again = json.loads(sweep("--json", PRICE_FILE=str(file))[1])
    assert (again["computed"], again["taken_up"]) == (5, 5)


def test_an_added_setting_does_not_repeat_the_others(sweep: Command) -> None:
    sweep()
    more = json.loads(sweep("--json", GRID="SIGNAL_THRESHOLD_FRACTION=0.001,0.02,0.03 MAX_POSITION_FRACTION=0.5")[1])
    assert (more["computed"], more["taken_up"]) == (2, 6)


def test_ctrl_c_reports_progress_and_leaves_whole_lines(tmp_path: Path) -> None:
    grid = "MAX_POSITION_FRACTION=" + ",".join(f"0.{number:03}" for number in range(100, 600))
    env = {**os.environ, **SMALL, "GRID": grid, "OUT": str(tmp_path), "WORKERS": "2"}
    command = [sys.executable, "-m", "scripts", "sweep"]
    process = subprocess.Popen(
        command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = tmp_path / "sweep/results.jsonl"
    while not lines.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # to the workers as well, as a terminal does
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said.count("\n")) == (130, 1), said
    assert re.match(
        r"interrupted after \d+ of (1,000 backtests|\d+ forecasts): they are kept in .* resumes the sweep", said
    )
    assert all(json.loads(line)["result"] for line in lines.read_text().splitlines())


def test_a_setting_that_kills_its_workers_is_named_and_retried(tmp_path: Path) -> None:
    env = {**SMALL, "UNIVERSE_SIZE": "2"}
    every = [options.from_env({**env, "MAX_POSITION_FRACTION": fraction}) for fraction in ("0.1", "0.5")]
    panel = prices.load(every[0])
    cut = parts(prices.span(panel, every[0]), 1)
    with executors.local(2) as workers:
        go = partial(sweeping.sweep, panel, every, cut, workers=workers, folder=tmp_path, forecast=nothing)
        failed = go(judge=deadly)
        assert failed.figures("sharpe_ratio") == [[1.0, 1.0], [None, None]]
        why = f"3 worker processes in a row died while running it; {executors.REMEDY}"
        assert failed.rows[1] == (Failure(why=why),) * 2
        assert go(judge=harmless).computed == 2


def test_settings_that_do_not_affect_forecasts_share_them(tmp_path: Path) -> None:
    every = [options.from_env({**SMALL, "MAX_POSITION_FRACTION": fraction}) for fraction in ("0.1", "0.5")]
    panel = prices.load(every[0])
    cut = parts(prices.span(panel, every[0]), 1)
    with executors.local(2) as workers:
        swept = sweeping.sweep(panel, every, cut, workers=workers, folder=tmp_path, judge=fake_forecasts)
    everything = [float(2 * len(part.times)) for part in cut]  # two symbols
    assert swept.figures("sharpe_ratio") == [everything, everything]
    assert len(list((tmp_path / "forecasts").iterdir())) == len(cut)


def test_settings_with_different_histories_trade_the_same_bars(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    pd.read_csv(SAMPLE_PRICES, index_col=0)[["AAPL", "XOM"]].iloc[-110:].to_csv(file)
    env = {**SMALL, "PRICE_FILE": str(file), "START": ""}
    every = [options.from_env({**env, "HISTORY_BARS": bars}) for bars in ("40", "60")]
    panel = prices.load(every[1])
    assert len(prices.span(panel, every[0])) == 71
    assert sweeping.span(panel, every) == prices.span(panel, every[1])


def fake_forecasts(job: tasks.Job) -> tasks.Figures:
    return {"sharpe_ratio": float(len(tasks.unpack_table(job.table.value)))}


def nothing(_task: object) -> bytes:
    return zlib.compress(pickle.dumps({}))


def harmless(_job: tasks.Job) -> tasks.Figures:
    return {"sharpe_ratio": 1.0}


def deadly(job: tasks.Job) -> tasks.Figures:
    if job.options.settings.max_position_fraction == 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return harmless(job)


# --- mistakes a user can correct -------------------------------------------------------------------------------------


def test_an_unknown_setting_gets_the_nearest_known_name(sweep: Command) -> None:
    code, _, said = sweep(GRID="STOP_LOS_FRACTION=0.02,0.03")
    assert code == 2
    assert "STOP_LOS_FRACTION is not a setting that a sweep can vary; did you mean STOP_LOSS_FRACTION?" in said


def test_a_span_too_short_for_the_folds_is_refused(sweep: Command) -> None:
    code, _, said = sweep(FOLDS="3")
    assert code == 3
    assert "FOLDS=3 needs 4 parts of at least 20 trading days, but the span has only 43" in said


def test_a_folder_in_use_by_another_sweep_is_refused(sweep: Command, tmp_path: Path) -> None:
    with store.folder(tmp_path, fresh=False):
        code, _, said = sweep()
    assert code == 3
    assert f"another sweep is writing to {tmp_path / 'sweep'}" in said


def test_a_full_disk_is_reported_with_the_pages_name(tmp_path: Path, sweep: Command) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / f"sweep/sweep.html.{os.getpid()}.part").symlink_to("/dev/full")
    code, _, said = sweep(GRID="MAX_POSITION_FRACTION=0.1", WORKERS="1")
    assert code == 3
    assert f"{tmp_path / 'sweep/sweep.html'} cannot be written: No space left on device" in said


def test_a_full_disk_is_reported_with_the_results_file(tmp_path: Path) -> None:
    results = store.Store(tmp_path / "results.jsonl")
    (tmp_path / "results.jsonl").symlink_to("/dev/full")
    with pytest.raises(UnwritableError, match=r"results.jsonl cannot be written: No space left on device"):
        results.keep("one", {"sharpe_ratio": 1.0})


def test_a_results_file_with_other_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"name": "one", "result": 1}\nmy notes\n')
    with pytest.raises(BacktestError, match=r"results.jsonl, line 2: this is not a result of a sweep"):
        store.Store(tmp_path / "results.jsonl")


# --- Dask ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with cluster(2, path=PATH, python=python_of_clusters()) as address:
        yield address


def test_one_worker_two_workers_and_a_cluster_give_the_same_figures(
    sweep: Command, scheduler: str, tmp_path: Path
) -> None:
    ways = {"one": {"WORKERS": "1"}, "two": {"WORKERS": "2"}, "cluster": {"SCHEDULER": scheduler}}
    for name, way in ways.items():
        code, _, said = sweep(GRID="SIGNAL_THRESHOLD_FRACTION=0.001,0.02", OUT=str(tmp_path / name), **PROPHET, **way)
        assert code == 0, said
    one, two, dask = ((tmp_path / name / "sweep/results.csv").read_bytes() for name in ways)
    assert one == two == dask


def test_the_workers_of_a_cluster_get_the_file_of_an_own_rule(
    sweep: Command, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in which no worker of the cluster is
    write("only_here")
    ways = {"one": {"WORKERS": "1"}, "cluster": {"SCHEDULER": scheduler}}
    for name, way in ways.items():
        code, _, said = sweep(SIGNAL="rules/only_here.py", GRID="RULE_DAYS=5,20", OUT=str(tmp_path / name), **way)
        assert code == 0, said
    one, dask = ((tmp_path / name / "sweep/results.csv").read_bytes() for name in ways)
    assert one == dask
    assert len({row["final_equity_usd"] for row in figures(tmp_path / "cluster")}) > 1


def test_a_cluster_with_other_code_is_refused(sweep: Command, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "sources", lambda: "changed since")
    code, _, said = sweep(SCHEDULER=scheduler)
    assert code == 3
    assert "has other versions: sources" in said
    assert "(here changed since)" in said


def test_an_untradable_task_fails_on_a_cluster_too(scheduler: str) -> None:
    with executors.dask(scheduler) as workers:
        assert results(workers, refuse_three)["3"] == Failure(why="three cannot be traded")


def test_a_killed_worker_of_a_cluster_loses_no_result(scheduler: str, log: Path) -> None:
    with executors.dask(scheduler) as workers:
        assert results(workers, partial(die_once, log)) == SQUARES


def test_a_cluster_without_living_workers_is_given_up(
    scheduler: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "CHECK_S", 0.2)
    monkeypatch.setattr(executors, "WITHOUT_WORKERS_S", 0)
    with pytest.raises(BacktestError, match="there have been no workers"), executors.dask(scheduler) as workers:
        results(workers, partial(die_always, log))


def test_workers_without_our_code_are_refused_with_the_remedy(sweep: Command) -> None:
    with cluster(1, path="", python=python_of_clusters()) as address:
        code, _, said = sweep(SCHEDULER=address)
    assert code == 3
    assert "cannot import this repository's code" in said
    assert f"dask worker {address}" in said


def test_a_scheduler_without_workers_is_refused(sweep: Command) -> None:
    with cluster(0, python=python_of_clusters()) as address:
        code, _, said = sweep(SCHEDULER=address)
    assert code == 3
    assert "the scheduler has no workers; start some with" in said


def test_an_unreachable_scheduler_is_named(sweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "CONNECT_S", 0.5)
    code, _, said = sweep(SCHEDULER="tcp://127.0.0.1:9")
    assert code == 3
    assert "SCHEDULER=tcp://127.0.0.1:9: no Dask scheduler answers there" in said
