"""The harness of the benchmarks: verdicts, exit codes, and what a measured command used."""

import json
import os
import sys
from pathlib import Path

import pytest

from scripts.bench import harness, load
from scripts.bench.harness import Measurement
from scripts.bench.load import Load, Watch
from scripts.console import CommandError

IDLE = Load(took_s=10.0, own_processors=1.0, others_processors=0.02, load_average=1.0)
BUSY = Load(took_s=10.0, own_processors=1.0, others_processors=1.2, load_average=2.2)
MET = harness.is_at_least(3.0, 2.5, "this", "3 times")
SLOW = harness.is_below(12.0, 10, "that", unit="s")
BIG = harness.is_below(400.0, 300, "memory", unit="MB")

BURN = "import time; begun = time.process_time()\nwhile time.process_time() - begun < {cpu_s}: pass"


def finish(
    lines: list[Measurement], during: Load, capsys: pytest.CaptureFixture[str], *, as_json: bool = False
) -> tuple[object, str]:
    """Finish a benchmark; return the exit code and the output."""
    with pytest.raises(SystemExit) as ended:
        harness.finish(lines, as_json=as_json, during=during)
    return ended.value.code, capsys.readouterr().out


def test_a_target_that_is_reached_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = finish([MET], BUSY, capsys)
    assert (code, "≥ 2.5 times" in out, "MISSED" in out) == (0, True, False)


def test_a_missed_target_is_marked_and_sets_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = finish([MET, SLOW], IDLE, capsys)
    assert (code, "< 10 s  MISSED" in out, out.count("MISSED")) == (1, True, 1)


def test_a_busy_machine_is_said_instead_of_a_miss_and_has_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out = finish([MET, SLOW], BUSY, capsys)
    assert (code, "< 10 s  BUSY MACHINE" in out, "MISSED" in out) == (3, True, False)


def test_a_busy_machine_is_no_excuse_for_memory(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = finish([SLOW, BIG], BUSY, capsys)
    assert (code, "< 300 MB  MISSED" in out) == (1, True)


def test_the_measurements_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = json.loads(finish([SLOW], IDLE, capsys, as_json=True)[1])
    assert (line["what"], line["measured"], line["target"], line["is_reached"]) == ("that", "12 s", "< 10 s", False)


def test_the_load_says_how_much_others_used() -> None:
    assert "others used 1.2 of" in BUSY.describe()


def test_the_work_of_the_benchmark_itself_does_not_make_the_machine_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    busy_s, own_s = iter([50.0, 69.0]), iter([5.0, 23.9])
    monkeypatch.setattr(load, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(load, "read_busy_s", lambda: next(busy_s))
    monkeypatch.setattr(load, "read_own_s", lambda: next(own_s))
    found = Watch().read()
    assert (found.own_processors, found.others_processors, found.is_busy) == (1.89, 0.01, False)


def test_what_a_command_computed_counts_as_the_benchmarks_own_work(tmp_path: Path) -> None:
    before_s = load.read_own_s()
    harness.watch([sys.executable, "-c", BURN.format(cpu_s=0.3)], str(tmp_path), dict(os.environ), "it")
    assert load.read_own_s() - before_s >= 0.3


def test_the_processor_time_of_a_command_includes_processes_that_nobody_waited_for(tmp_path: Path) -> None:
    child = BURN.format(cpu_s=0.4) + "\nopen('done', 'w').close()\ntime.sleep(60)"
    parent = (
        "import pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "while not pathlib.Path('done').exists(): time.sleep(0.01)\n"
        "time.sleep(0.5)\n"
        "child.kill()"
    )
    used = harness.watch([sys.executable, "-c", parent], str(tmp_path), dict(os.environ), "it")
    assert used.cpu_s >= 0.35


def test_the_peak_of_the_main_process_is_not_that_of_all(tmp_path: Path) -> None:
    child = "import time; x = bytearray(60_000_000); time.sleep(0.5)"
    parent = f"import subprocess, sys; x = bytearray(90_000_000); subprocess.run([sys.executable, '-c', {child!r}])"
    used = harness.watch([sys.executable, "-c", parent], str(tmp_path), dict(os.environ), "it")
    assert (90e6 < used.largest < 140e6, used.peak > 150e6) == (True, True)


def test_what_a_command_printed_is_returned(tmp_path: Path) -> None:
    used = harness.watch([sys.executable, "-c", "print('it')"], str(tmp_path), dict(os.environ), "it")
    assert used.printed == "it\n"


def test_a_command_that_fails_is_not_a_measurement(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; sys.stderr.write('no luck'); sys.exit(4)"]
    with pytest.raises(CommandError, match=r"the tool ended with 4: no luck"):
        harness.watch(words, str(tmp_path), dict(os.environ), "the tool")


def test_ways_are_measured_in_turns() -> None:
    seen: list[str] = []
    ways = {name: lambda name=name: seen.append(name) for name in ("a", "b")}
    harness.in_turns(ways, 2, "it", lambda *_: None)
    assert "".join(seen) == "ab" + "ab" * 2
