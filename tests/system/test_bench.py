"""The cases of `make bench` that run whole commands, each with a size that takes seconds on an idle machine."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from scripts import ROOT
from scripts.bench import engines, forecast_stage, growth, harness, index_backtests, peers, whole_commands
from scripts.bench.harness import Usage
from scripts.bench.whole_commands import Found
from scripts.console import CommandError
from trader.progress import no_progress


@pytest.fixture
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure once what several rounds measure."""
    for module, name in (
        (engines, "ROUNDS"),
        (forecast_stage, "ROUNDS"),
        (growth, "ROUNDS"),
        (whole_commands, "IMPORT_ROUNDS"),
        (whole_commands, "RUN_ROUNDS"),
    ):
        monkeypatch.setattr(module, name, 1)


def usage(wall_s: float) -> Usage:
    return Usage(wall_s=wall_s, cpu_s=wall_s, peak=2_000_000, largest=1_000_000, printed="{}")


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes, while others use the machine
@pytest.mark.usefixtures("one_round")
def test_a_run_is_shown_beside_its_imports_and_its_fits() -> None:
    line, memory = whole_commands.run(no_progress)
    parts_s = line.figures["imports_s"] + line.figures["fits_s"]
    assert line.limit.startswith(f"{parts_s:.1f} s: imports ")
    assert (parts_s > 0, line.figures["peak_mb"] > 50, memory.is_reached) == (True, True, True)


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes, while others use the machine
@pytest.mark.usefixtures("one_round")
def test_an_index_is_backtested_on_every_bar_with_a_whole_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_backtests, "SYMBOLS", 6)
    monkeypatch.setattr(index_backtests, "BARS", 262)
    line, _ = index_backtests.index_backtest(3, 1_000, 1_000, no_progress)
    assert (line.figures["bars"], line.figures["fits"]) == (12, 36)
    assert line.limit.split(": ")[1].startswith("36 fits x ")
    assert "pipeline" in line.bound or "backtrader" in line.bound


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes, while others use the machine
@pytest.mark.usefixtures("one_round")
def test_the_cost_of_whole_backtests_lies_beside_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "BARS", (5, 10, 20))
    monkeypatch.setattr(growth, "SYMBOLS", (2, 4, 6))
    monkeypatch.setattr(growth, "OF_SYMBOLS", 3)
    monkeypatch.setattr(growth, "OF_BARS", 5)
    by_bars, by_symbols = growth.measure(no_progress)
    assert by_bars.what == "cost by bars, best 20 of 3 symbols, 5 to 20"
    assert (by_symbols.figures["cpu_s_at_2"] > 0, "ms a symbol" in by_symbols.measured) == (True, True)


def test_the_ratio_to_the_baseline_is_that_of_runs_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASELINE", "v1")
    found = Found([usage(1.0), usage(10.0), usage(1.0)], [usage(3.0), usage(30.0), usage(3.0)])
    assert (found.ratio, found.describe().split("; ")[1]) == (3.0, "at v1: 3.0 s, CPU 3.0 s, 1 MB")


def test_a_commit_that_does_not_exist_is_refused() -> None:
    with (
        pytest.raises(CommandError, match="BASELINE=nothing: git has no such commit here"),
        whole_commands.check_out("nothing"),
    ):
        pass


def test_the_code_of_a_commit_runs_by_itself() -> None:
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("this is no clone")
    with whole_commands.check_out("HEAD") as folder:
        program = "import scripts, trader; print(scripts.__file__, trader.__file__)"
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder / 'function'}:{folder}"}
        used = harness.watch([sys.executable, "-c", program], str(folder), env, "it")
    assert used.printed.count(str(folder)) == 2


# --- other programs ---


def test_without_the_other_programs_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PYTHON", ROOT / "nothing")
    with pytest.raises(CommandError, match=r"scripts/setup.sh peers installs them"):
        peers.measure(no_progress)


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes, while others use the machine
def test_every_way_forecasts_the_same_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    closes, actual = peers.windows()
    some = dict(list(closes.items())[:3])
    monkeypatch.setattr(peers, "windows", lambda: (some, actual[:3]))
    monkeypatch.setattr(peers, "ROUNDS", 1)
    monkeypatch.setattr(peers, "PYTHON", sys.executable)  # which has statsforecast, for an example rule
    monkeypatch.setattr(peers, "STATSFORECAST", ("AutoETS",))
    lines = peers.forecasts(no_progress)
    assert [line.what.split(",")[0] for line in lines] == [
        *("Prophet's package", "Prophet's package", "this project", "this project"),
        *("statsforecast", "the last close as the forecast"),
    ]
    assert max(line.figures["error_fraction"] for line in lines) < 0.3


def test_the_actual_close_is_the_one_after_the_window() -> None:
    closes, actual = peers.windows()
    last, before, *_ = closes.values()
    assert len(last) == len(before) == peers.BARS
    assert last.index[-1] > before.index[-1]
    assert actual[1] == last[last.index > before.index[-1]].iloc[0]


def test_signals_change_with_the_averages() -> None:
    up = np.linspace(10, 20, 300)
    table = pd.DataFrame({"A": np.concatenate([up, up[::-1], up])})
    entries, exits = peers.signals(table)
    assert (int(entries.sum()), int(exits.sum())) == (2, 1)
    assert not (entries & exits).any()


def test_a_failed_program_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PYTHON", sys.executable)
    with pytest.raises(CommandError, match="no-such-way failed"), peers.program(series=np.ones((1, 5))) as ask:
        ask("no-such-way")
