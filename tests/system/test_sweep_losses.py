"""What a sweep loses when a worker, the scheduler or the sweep itself is killed in the middle, or memory runs out."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import distributed
import numpy as np
import pytest

from scripts import ROOT
from scripts.backtest import options, prices
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.sweep import executors, sweep, tasks
from scripts.sweep.cluster import cluster
from scripts.sweep.executors import Failure, Workers
from scripts.sweep.run import main
from scripts.sweep.sharing import Shared
from scripts.sweep.sweep import Swept
from scripts.sweep.tasks import Figures, ForecastJob, Job
from scripts.sweep.walk_forward import Part, parts
from tests.commands import in_process
from tests.warm.python import python, python_of_clusters

PATH = os.pathsep.join((str(ROOT / "function"), str(ROOT)))

SMALL = {
    "UNIVERSE": "AAPL,XOM,KO",
    "UNIVERSE_SIZE": "3",
    "ENGINE": "map",
    "HISTORY_BARS": "100",
    "UNIVERSE_LOOKBACK_BARS": "20",
    "START": "2022-10-27",
    "FOLDS": "1",
}
"""Two parts of about twenty days each."""

FRACTIONS = [f"0.{number}" for number in range(10, 22)]
"""The values of MAX_POSITION_FRACTION of twelve settings: 24 backtests with two groups of forecasts."""


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """Let workers import the project, as they can under make, and these tests' tasks once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        patch.setattr(executors, "PRELOADED", (*executors.PRELOADED, __name__))
        yield


@dataclass(frozen=True, slots=True)
class Plan:
    """The arguments of a sweep of twelve settings."""

    panel: Panel
    options: Sequence[Options]
    parts: Sequence[Part]

    def run(self, workers: Workers, folder: Path, judge: Callable[[Job], Figures] = tasks.figures) -> Swept:
        return sweep.sweep(
            self.panel, self.options, self.parts, workers=workers, folder=folder, judge=judge, forecast=forecast_early
        )


@pytest.fixture(scope="module")
def plan() -> Plan:
    every = [options.from_env({**SMALL, "MAX_POSITION_FRACTION": fraction}) for fraction in FRACTIONS]
    panel = prices.load(every[0])
    return Plan(panel, every, parts(prices.span(panel, every[0]), 1))


@pytest.fixture(scope="module")
def undisturbed(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    with executors.local(1) as workers:
        return plan.run(workers, tmp_path_factory.mktemp("undisturbed"))


# --- tasks that say when they begin and end --------------------------------------------------------------------------


def forecast_early(job: ForecastJob) -> bytes:
    return tasks.forecast(job)


def note_and_judge(log: Path, job: Job) -> Figures:
    name = f"{job.options.settings.max_position_fraction}@{job.options.start}"
    write(log, f"begun {name} {os.getpid()}")
    time.sleep(0.1)
    made = tasks.figures(job)
    write(log, f"done {name} {os.getpid()}")
    return made


def write(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(f"{line}\n")


def read(log: Path, word: str) -> list[tuple[str, int]]:
    """Return the name and the process of each task that has begun or is done."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(name, int(pid)) for what, name, pid in lines if what == word]


ENDED = Event()
"""Set when a sweep has ended that was to be disturbed."""


def wait_for(log: Path, count: int) -> None:
    """Wait until so many backtests are done."""
    while len(read(log, "done")) < count:
        assert not ENDED.is_set(), f"the sweep has ended before {count} backtests were done"
        time.sleep(0.005)


def kill_while(disturb: Callable[[], object], run: Callable[[], Swept]) -> Swept:
    """Run a sweep, and disturb it meanwhile."""
    ENDED.clear()
    with ThreadPoolExecutor(1) as other:
        disturbed = other.submit(disturb)
        try:
            return run()
        finally:
            ENDED.set()
            disturbed.result()


# --- a worker is killed ----------------------------------------------------------------------------------------------


def kill_the_last_while(log: Path, run: Callable[[], Swept]) -> tuple[Swept, int]:
    """Run a sweep, and kill the worker that has begun a task last; return what was found, and that worker's process."""
    killed: list[int] = []

    def kill() -> None:
        wait_for(log, 8)
        *_, (_, pid) = read(log, "begun")
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    found = kill_while(kill, run)
    return found, killed[0]


def check_losses(log: Path, killed: int, *, most: int) -> None:
    """Check that only tasks that were in flight on the killed worker have run twice, and no more than `most`."""
    twice = {name for name, count in Counter(name for name, _ in read(log, "begun")).items() if count > 1}
    done = [name for name, pid in read(log, "done") if pid == killed]
    unfinished = {name for name, pid in read(log, "begun") if pid == killed} - set(done)
    assert unfinished <= twice <= unfinished | set(done[-1:])  # its last result may not have left it yet
    assert len(twice) <= most


def test_one_of_three_processes_that_is_killed_costs_the_task_that_it_ran(
    plan: Plan, undisturbed: Swept, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with executors.local(3) as workers:
        found, killed = kill_the_last_while(log, lambda: plan.run(workers, tmp_path, partial(note_and_judge, log)))
    assert found == undisturbed
    check_losses(log, killed, most=1)


def test_one_of_three_workers_of_a_cluster_that_is_killed_costs_what_it_had_in_hand(
    plan: Plan, undisturbed: Swept, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with cluster(3, path=PATH, python=python_of_clusters()) as address, executors.dask(address) as workers:
        found, killed = kill_the_last_while(log, lambda: plan.run(workers, tmp_path, partial(note_and_judge, log)))
    assert found == undisturbed
    check_losses(log, killed, most=2)  # one that ran, and one whose result had not left the worker
    assert len({pid for _, pid in read(log, "begun")}) == 3


def test_all_workers_but_one_may_be_killed_with_all_copies_of_the_prices(
    plan: Plan, undisturbed: Swept, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def kill() -> None:
        wait_for(log, 8)
        first, second, *_ = sorted({pid for _, pid in read(log, "begun")})
        os.kill(first, signal.SIGKILL)
        os.kill(second, signal.SIGKILL)

    with cluster(3, path=PATH, python=python_of_clusters()) as address, executors.dask(address) as workers:
        found = kill_while(kill, lambda: plan.run(workers, tmp_path, partial(note_and_judge, log)))
    assert found == undisturbed


# --- the scheduler, or the sweep itself ------------------------------------------------------------------------------


def test_a_sweep_whose_scheduler_was_killed_goes_on_where_it_was(
    plan: Plan, undisturbed: Swept, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def kill(address: str) -> None:
        with distributed.Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            pid = client.run_on_scheduler(os.getpid)
            wait_for(log, 8)
            os.kill(pid, signal.SIGKILL)

    judge = partial(note_and_judge, log)
    with (
        pytest.raises(BacktestError, match=r"the connection to the Dask scheduler was lost; finished work is kept"),
        cluster(2, path=PATH, python=python_of_clusters()) as address,
        executors.dask(address) as workers,
    ):
        kill_while(partial(kill, address), lambda: plan.run(workers, tmp_path, judge))
    kept = len((tmp_path / "results.jsonl").read_text().splitlines())
    in_flight = len(read(log, "begun")) - kept
    with cluster(2, path=PATH, python=python_of_clusters()) as address, executors.dask(address) as workers:
        found = plan.run(workers, tmp_path, judge)
    assert found.rows == undisturbed.rows
    assert (found.computed, found.taken_up) == (24 - kept, kept)
    assert kept >= 6
    assert in_flight <= 2 + 2  # two that ran, and two whose results were on their way
    assert len(read(log, "begun")) == 24 + in_flight


def test_a_sweep_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    grid = "MAX_POSITION_FRACTION=" + ",".join(f"0.{number:03}" for number in range(100, 120))
    env = {**os.environ, **SMALL, "GRID": grid, "WORKERS": "2", "JSON": "1"}
    command = ["-m", "scripts", "sweep"]
    killed, whole = ({**env, "OUT": str(tmp_path / name)} for name in ("killed", "whole"))
    lines = tmp_path / "killed/sweep/results.jsonl"
    process = subprocess.Popen([sys.executable, *command], env=killed, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while (len(lines.read_bytes().splitlines()) if lines.exists() else 0) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = lines.read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    copied = [*python(), *command]
    again = json.loads(subprocess.run(copied, env=killed, cwd=tmp_path, check=True, capture_output=True).stdout)
    assert (again["computed"], again["taken_up"]) == (40 - kept.count(b"\n"), kept.count(b"\n"))
    assert lines.read_bytes().startswith(kept)
    subprocess.run(copied, env=whole, cwd=tmp_path, check=True, capture_output=True)
    one, other = ((tmp_path / name / "sweep/results.csv").read_bytes() for name in ("killed", "whole"))
    assert one == other


def test_forecasts_that_are_kept_are_not_made_again(plan: Plan, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with executors.local(1) as workers:
        run = partial(sweep.sweep, plan.panel, plan.options, plan.parts, folder=tmp_path, workers=workers)
        run(forecast=partial(note_and_forecast, log), judge=harmless)
        first = len(read(log, "begun"))
        (tmp_path / "results.jsonl").unlink()
    with executors.local(3) as workers:  # for which tasks are divided otherwise
        run = partial(sweep.sweep, plan.panel, plan.options, plan.parts, folder=tmp_path, workers=workers)
        assert run(forecast=partial(note_and_forecast, log), judge=harmless).computed == 24
    assert len(read(log, "begun")) == first > 0


def note_and_forecast(log: Path, job: ForecastJob) -> bytes:
    write(log, f"begun forecast {os.getpid()}")
    return tasks.forecast(job)


def harmless(_job: Job) -> Figures:
    return {"sharpe_ratio": 1.0}


# --- prices ----------------------------------------------------------------------------------------------------------


class Noted:
    """A value that notes which processes it reaches."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __reduce__(self) -> tuple[Callable[[Path], "Noted"], tuple[Path]]:
        return receive, (self.log,)


def receive(log: Path) -> Noted:
    write(log, f"received value {os.getpid()}")
    return Noted(log)


def sleep_a_little(argument: tuple[Shared[Noted], int]) -> int:
    assert isinstance(argument[0].value, Noted)
    time.sleep(0.02)
    return os.getpid()


def count_receipts(workers: Workers, log: Path) -> Sequence[int]:
    """Run forty tasks with the same value, and return how often each of the workers got it."""
    shared = Shared("digest", Noted(log))
    made = dict(workers.results(sleep_a_little, ((str(number), (shared, number)) for number in range(40))))
    receivers = Counter(pid for _, pid in read(log, "received"))
    assert set(made.values()) == set(receivers)
    return list(receivers.values())


def test_what_tasks_share_is_read_once_by_each_process(tmp_path: Path) -> None:
    with executors.local(2) as workers:
        assert count_receipts(workers, tmp_path / "log") == [1, 1]


def test_what_tasks_share_is_sent_once_to_each_worker_of_a_cluster(tmp_path: Path) -> None:
    with cluster(3, path=PATH, python=python_of_clusters()) as address, executors.dask(address) as workers:
        receipts = count_receipts(workers, tmp_path / "log")
    assert len(receipts) == 3
    assert sum(receipts) <= 4, "one for each, and one that Dask may ask for again when a worker is slow to answer"


# --- out of memory ---------------------------------------------------------------------------------------------------


def hungry(job: Job) -> Figures:
    """Need more memory than there is for one setting."""
    if job.options.settings.max_position_fraction == 0.15:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, hard))
        try:
            np.ones(2**28)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return harmless(job)


def killed_for_memory(job: Job) -> Figures:
    """Be killed with one setting, as by the kernel when memory runs out."""
    if job.options.settings.max_position_fraction == 0.15:
        os.kill(os.getpid(), signal.SIGKILL)
    return harmless(job)


def failures(plan: Plan, found: Swept) -> dict[float, list[str]]:
    return {
        each.settings.max_position_fraction: [cell.why for cell in row if isinstance(cell, Failure)]
        for each, row in zip(plan.options, found.rows, strict=True)
        if any(isinstance(cell, Failure) for cell in row)
    }


def test_a_setting_that_lacks_memory_is_named_and_the_others_go_on(plan: Plan, tmp_path: Path) -> None:
    with executors.local(2) as workers:
        failed = failures(plan, plan.run(workers, tmp_path, hungry))
    assert set(failed) == {0.15}
    assert [why.partition(" (")[0] for why in failed[0.15]] == ["its worker ran out of memory"] * 2


def test_a_setting_that_lacks_memory_on_a_cluster_is_named_and_the_others_go_on(plan: Plan, tmp_path: Path) -> None:
    with cluster(2, path=PATH, python=python_of_clusters()) as address, executors.dask(address) as workers:
        failed = failures(plan, plan.run(workers, tmp_path, hungry))
    assert set(failed) == {0.15}
    assert [why.partition(" (")[0] for why in failed[0.15]] == ["its worker ran out of memory"] * 2


@pytest.mark.slow
def test_only_the_setting_that_kills_the_workers_of_a_cluster_is_given_up(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")  # also those that wait at a dead worker
    with cluster(2, path=PATH, restarts=True) as address, executors.dask(address) as workers:
        failed = failures(plan, plan.run(workers, tmp_path, killed_for_memory))
    assert set(failed) == {0.15}
    assert all("its workers died while running it and no other task" in why for why in failed[0.15])


def test_the_command_names_a_setting_that_lacks_memory_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_memory: Any = partial(sweep.sweep, judge=hungry_figures)
    monkeypatch.setattr(sweep, "sweep", without_memory)
    command = in_process(main, monkeypatch, capsys)
    code, out, _ = command(GRID="MAX_POSITION_FRACTION=0.1,0.15", OUT=str(tmp_path), **SMALL)
    assert code == 1
    assert out.count("failed: MAX_POSITION_FRACTION=0.15 on part ") == 2
    assert "its worker ran out of memory" in out
    rows = (tmp_path / "sweep/results.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows if "out of memory" in row] == ["0.15", "0.15"]


def hungry_figures(job: Job) -> Figures:
    hungry(job)
    return tasks.figures(job)
