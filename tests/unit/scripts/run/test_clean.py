"""What make clean removes, what it keeps, and when it asks."""

import json
from pathlib import Path

import pytest

from scripts.run import clean
from tests.commands import Command, in_process


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return make clean in a folder with a run, a page, a cache, a sweep and an unfinished layer."""
    monkeypatch.chdir(tmp_path)
    for name in ("account.json", "account.json.lock", "run.html", "cache/yahoo/AAPL.json", "sweep/result.json"):
        write(f"out/{name}", "x" * 1_500)
    write("layer/build/numpy/core.so", "x")
    record("20221228T2045Z.json", "embedded")
    return in_process(clean.main, monkeypatch, capsys)


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def record(name: str, broker: str, journal: str = "out/journal") -> None:
    write(f"{journal}/runs/trend/2022-12-28/{name}", json.dumps({"settings": {"broker": broker}}))


def left() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_it_removes_runs_pages_and_the_layers_build_and_keeps_what_took_hours(make: Command) -> None:
    code, said, _ = make()
    assert (code, left()) == (0, ["out/cache/yahoo/AAPL.json", "out/sweep/result.json"])
    assert "removed out/journal (36 bytes)" in said
    assert "kept out/sweep (1.5 kB): the results of sweeps; ALL=1 removes it too" in said


@pytest.mark.parametrize("name", ["out/notes.txt", "out/mine.json", "out/plans/a.tfplan", "out/run.html.old"])
def test_it_keeps_and_lists_what_no_command_writes(make: Command, name: str) -> None:
    write(name, "x")
    said = make()[1]
    assert name in left()
    top = "/".join(name.split("/")[:2])
    assert f"kept {top} (1 byte): may be yours; ALL=1 removes it too" in said


def test_a_second_account_is_removed_instead_of_the_first_if_the_settings_name_it(make: Command) -> None:
    record("20221228T2045Z.json", "embedded", "out/second")
    for name in ("out/second.json", "out/second.json.lock"):
        write(name, "x")
    said = make(JOURNAL="folder:out/second", ACCOUNT_FILE="out/second.json")[1]
    assert not [name for name in left() if "second" in name]
    assert Path("out/account.json").exists()
    assert "kept out/journal" in said


def test_an_account_outside_of_out_is_left_alone(make: Command) -> None:
    write("mine.json", "x")
    make(ACCOUNT_FILE="mine.json")
    assert Path("mine.json").exists()


def test_all_removes_everything(make: Command) -> None:
    write("out/notes.txt", "x")
    assert make(ALL="1")[0] == 0
    assert left() == []


def test_nothing_there_is_no_error(make: Command) -> None:
    make(ALL="1")
    assert make()[:2] == (0, "nothing to remove")


def test_json_names_what_was_removed_and_kept(make: Command) -> None:
    answer = json.loads(make(JSON="1")[1])
    assert {"path": "out/run.html", "size_bytes": 1_500} in answer["removed"]
    assert [each["path"] for each in answer["kept"]] == ["out/cache", "out/sweep"]


def test_a_journal_outside_of_out_is_left_alone(make: Command) -> None:
    record("20221228T2045Z.json", "alpaca", "elsewhere")
    code, said, _ = make(JOURNAL="folder:elsewhere")
    assert (code, Path("elsewhere/runs").is_dir()) == (0, True)
    assert "kept elsewhere" in said


# --- records of an account at Alpaca -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["20221228T2045Z.json", "20221228T2045Z.started"])
@pytest.mark.parametrize("journal", ["out/journal", "out/second", "out/alpaca/journal", "out"])
def test_without_a_terminal_records_of_a_real_account_are_not_removed(make: Command, name: str, journal: str) -> None:
    record(name, "alpaca", journal)
    before = left()
    code, _, errors = make(ALL="1")
    assert (code, left()) == (3, before)
    assert "out/ has 1 record of runs at Alpaca" in errors
    assert "CONFIRM=yes removes them" in errors


def test_records_that_are_kept_need_no_question(make: Command) -> None:
    record("20221228T2045Z.json", "alpaca", "out/second")
    assert make()[0] == 0
    assert Path("out/second/runs").is_dir()


def test_a_record_that_cannot_be_read_may_be_of_a_real_account(make: Command) -> None:
    write("out/journal/runs/trend/2022-12-28/20221228T2030Z.json", "{")
    assert make()[0] == 3


def test_a_dry_run_at_alpaca_needs_no_question(make: Command) -> None:
    record("20221228T2045Z-dry-run.json", "alpaca")
    assert make()[0] == 0


def test_confirm_removes_them(make: Command) -> None:
    record("20221228T2045Z.json", "alpaca")
    assert make(CONFIRM="yes")[0] == 0
    assert not Path("out/journal").exists()


@pytest.mark.parametrize(("answer", "code"), [("remove", 0), ("yes", 3), ("", 3)])
def test_at_a_terminal_the_word_is_typed(
    make: Command, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    record("20221228T2045Z.json", "alpaca")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert make()[0] == code
    assert Path("out/journal").exists() is (code != 0)
