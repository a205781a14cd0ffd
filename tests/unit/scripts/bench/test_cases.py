"""The cases of `make bench`: which are measured, what is kept of them, and how the command ends."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from scripts.bench import cases, harness, main
from scripts.bench.cases import Case, When
from scripts.bench.harness import Measurement
from scripts.bench.load import Load, Watch
from scripts.commands import bench
from scripts.console import CommandError
from trader.progress import Progress
from trader.settings import SettingsError

MET = Measurement(what="this", measured="1 s", target="< 2 s", figures={"wall_s": 1.0})
SLOW = harness.is_below(12.0, 10, "that", unit="s")


def measure_met(_progress: Progress) -> list[Measurement]:
    return [MET]


def measure_slow(_progress: Progress) -> list[Measurement]:
    return [SLOW]


def measure_nothing(_progress: Progress) -> list[Measurement]:
    raise CommandError("there is no layer: make layer builds it")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., object]:
    """Return a function that runs `make bench` with cases of these tests, and returns the exit code."""
    made = [
        Case(name=name, what=f"the case {name}", main=f"{__name__}:measure_{name}")
        for name in ("met", "slow", "nothing")
    ]
    monkeypatch.setattr(cases, "CASES", {case.name: case for case in made})
    monkeypatch.setenv("OUT", str(tmp_path))

    def call(*names: str, others: float = 0.0, as_json: bool = False) -> object:
        load = Load(took_s=1.0, own_processors=1.0, others_processors=others, load_average=1.0)
        monkeypatch.setattr(Watch, "read", lambda _self: load)
        monkeypatch.setenv("CASES", ",".join(names))
        monkeypatch.setenv("JSON", "1" if as_json else "0")
        with pytest.raises(SystemExit) as ended:
            main.main()
        return ended.value.code

    return call


def names(chosen: Sequence[Case]) -> list[str]:
    return [case.name for case in chosen]


def test_the_command_names_every_case() -> None:
    assert list(bench.CASES) == ["all", *cases.CASES]


@pytest.mark.parametrize("case", cases.CASES.values(), ids=lambda case: case.name)
def test_a_case_names_a_function_that_exists(case: Case) -> None:
    module, _, function = case.main.partition(":")
    assert callable(getattr(import_module(module), function))


def test_without_cases_the_quick_ones_are_chosen() -> None:
    assert {case.when for case in cases.choose("")} == {When.DEFAULT}


def test_all_leaves_out_what_must_be_named() -> None:
    assert {case.when for case in cases.choose("all")} == {When.DEFAULT, When.ALL}


def test_a_case_that_takes_long_can_be_added_to_all() -> None:
    assert names(cases.choose("all,tests")) == [*names(cases.choose("all")), "tests"]


def test_an_unknown_case_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="there is no case 'engin'; write all, or some of run, "):
        cases.choose("run,engin")


def test_a_case_is_kept_with_what_it_depends_on(run: Callable[..., object], tmp_path: Path) -> None:
    assert run("met") == 0
    found = json.loads((tmp_path / "bench" / "met.json").read_text(encoding="utf-8"))
    assert {"case", "date", "commit", "is_changed", "machine", "load", "lines"} == set(found)
    assert (found["lines"][0]["figures"], found["load"]["is_busy"]) == ({"wall_s": 1.0}, False)


def test_the_kept_case_has_the_verdict_of_each_line(run: Callable[..., object], tmp_path: Path) -> None:
    assert run("slow", others=1.9) == 3
    found = json.loads((tmp_path / "bench" / "slow.json").read_text(encoding="utf-8"))
    assert [line["verdict"] for line in found["lines"]] == ["BUSY MACHINE"]


def test_a_miss_in_one_case_sets_the_exit_code(run: Callable[..., object]) -> None:
    assert run("slow", "met") == 1


def test_a_case_that_cannot_be_measured_leaves_the_others(
    run: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("nothing", "met") == 3
    assert "nothing was not measured: there is no layer: make layer builds it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["met.json"]


def test_json_is_a_list_of_cases(run: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    run("met", "slow", as_json=True)
    assert [each["case"] for each in json.loads(capsys.readouterr().out)] == ["met", "slow"]


def test_the_load_is_printed_below_each_case(run: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    run("met", others=0.5)
    assert "load: others used 0.5 of" in capsys.readouterr().err
