"""make hands over all that was typed, unchanged, and what has no meaning for the command is refused before it begins.

make itself is real; in place of Python stands a program that notes what make gave it, and the notes are then checked in
this process. So a hundred command lines take a second.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts import ROOT, command, make
from scripts.command import Application

PYTHON = """#!/bin/sh
printf '%s' "$MAKEFLAGS" >flags
printf '%s' "$MAKE_GOALS" >goals
tr '\\0' '\\n' </proc/$PPID/cmdline >words
printf '%s\\n' "$*" >>calls
"""


@dataclass(frozen=True)
class Called:
    """What became of a command line: the words that the application was given, or the exit code and what was said."""

    words: Sequence[str] | None = None
    code: int = 0
    said: str = ""


type Make = Callable[..., Called]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, the index, and the program that stands in place of Python."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "scripts/commands").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/commands/index.txt", tmp_path / "scripts/commands")
    for file in ("requirements/run.txt", "requirements/dev.txt", "requirements/uv.txt", ".python-version"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "scripts/setup.sh").touch()
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    for stamp in (".set-up", ".set-up-dev"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


@pytest.fixture
def type_make(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Make:
    """Return a function that calls make with some words, and hands over what make passed on."""

    def call(*words: str, env: Mapping[str, str] | None = None) -> Called:
        given = {"PATH": os.environ["PATH"], **(env or {})}
        done = subprocess.run(["make", *words], cwd=folder, env=given, capture_output=True, text=True, check=False)
        if not (folder / "calls").exists():
            return Called(code=done.returncode, said=done.stderr)
        reached: list[Sequence[str]] = []
        arguments = (folder / "calls").read_text().splitlines()[0].split()[2:]
        monkeypatch.setattr("os.environ", {**given, "MAKEFLAGS": (folder / "flags").read_text()})
        os.environ["MAKE_GOALS"] = (folder / "goals").read_text()
        typed = (folder / "words").read_text().split("\n")[1:-1]
        monkeypatch.setattr(make, "read_words", lambda _: typed)
        monkeypatch.setattr("sys.argv", ["make", *arguments])
        monkeypatch.setattr(Application, "__call__", lambda _, words, **__: reached.append(words))
        try:
            make.main()
        except SystemExit as end:
            return Called(code=int(end.code or 0), said=capsys.readouterr().err)
        return Called(words=reached[0])

    return call


@pytest.mark.parametrize(
    ("words", "handed_over"),
    [
        (["run"], ["run"]),
        (["run", "MODE=dry-run"], ["run", "--mode=dry-run"]),
        (["MODE=dry-run", "run"], ["run", "--mode=dry-run"]),
        (["run", "JSON=1"], ["run", "--json"]),
        (["run", "JSON=0"], ["run"]),
        (["run", "HELP=1"], ["run", "--help"]),
        (["run", "PRICE_FILE=my prices.csv"], ["run", "--price-file=my prices.csv"]),
        (["replay", "RUN=s3://bucket/a=b"], ["replay", "--run=s3://bucket/a=b"]),
        (["-s", "-k", "-j2", "run", "AT=2022-10-03"], ["run", "--at=2022-10-03"]),
        (["-o", ".venv/.set-up", "-C", ".", "run"], ["run"]),
        (["sweep", "GRID=A=1,2 B=3"], ["sweep", "--grid=A=1,2 B=3"]),
        (["test", 'TESTS=tests/a -k "a or b"'], ["test", '--tests=tests/a -k "a or b"']),
    ],
    ids=" ".join,
)
def test_a_right_command_line_is_handed_over(type_make: Make, words: list[str], handed_over: list[str]) -> None:
    assert type_make(*words) == Called(words=handed_over)


WRONG = {
    # names: another case, misspelled, shortened, of another command, of make or of another program
    "run mode=dry-run": "did you mean MODE?",
    "run Mode=dry-run": "did you mean MODE?",
    "run universe=AAPL": "did you mean UNIVERSE?",
    "run Universe=AAPL": "did you mean UNIVERSE?",
    "run UNIVERS=AAPL": "did you mean UNIVERSE?",
    "run UNIVERSES=AAPL": "did you mean UNIVERSE?",
    "run MOD=dry-run": "did you mean MODE?",
    "run mode=dry-run BROKER=alpaca": "did you mean MODE?",
    "run BROKERS=alpaca": "did you mean BROKER?",
    "run MAX_ORDER=500": "did you mean MAX_ORDER_USD?",
    "run MAX_ORDER_PER_RUN=3": "did you mean MAX_ORDERS_PER_RUN?",
    "run MAX-ORDER-USD=500": "did you mean MAX_ORDER_USD?",
    "run at=2022-10-03": "did you mean AT?",
    "run SINGAL=interval": "did you mean SIGNAL?",
    "run json=1": "did you mean JSON?",
    "run help=1": "did you mean HELP?",
    "run CASH=5000": "CASH is not a variable of make run",
    "run START=2022-01-03": "START is not a variable of make run",
    "run GRID=X=1": "GRID is not a variable of make run",
    "run DRY_RUN=1": "DRY_RUN is not a variable of make run",
    "run SHELL=/bin/false": "SHELL is not a variable of make run",
    "run PY=python3": "PY is not a variable of make run",
    "run PYTHONPATH=x": "PYTHONPATH is not a variable of make run",
    "run CC=gcc": "CC is not a variable of make run",
    "run X=1": "X is not a variable of make run",
    "run ALPACAPW=secret": "ALPACAPW is not taken from the command line",
    "run ALPACAUSER=id": "ALPACAUSER is not taken from the command line",
    "backtest start=2022-09-01": "did you mean START?",
    "backtest AT=2022-10-03": "AT is not a variable of make backtest",
    "backtest MODE=dry-run": "MODE is not a variable of make backtest",
    "backtest MODE=paper": "MODE is not a variable of make backtest",
    "backtest BROKER=alpaca": "BROKER is not a variable of make backtest",
    "sweep grid=X=1": "did you mean GRID?",
    "deploy MODE=live": "MODE is not a variable of make deploy",
    "halt strategy=trend": "did you mean STRATEGY?",
    "halt STRATEGIE=trend": "did you mean STRATEGY?",
    "lint FIX=1": "FIX is not a variable of make lint",
    "setup PYTHON=3.12": "PYTHON is not a variable of make setup",
    # values: none, or two
    "run MODE=": "MODE is given without a value",
    "run AT=": "AT is given without a value",
    "run MODE?=": "MODE is given without a value",
    "run MODE:=": "MODE is given without a value",
    "halt STRATEGY=": "STRATEGY is given without a value",
    "run JSON=": "JSON is given without a value",
    "run JSON=maybe": "JSON=maybe: must be 1 or 0",
    "run MODE=dry-run MODE=paper": "MODE is given twice",
    "run MODE=dry-run MODE:=paper": "MODE is given twice",
    # goals: words, values after a blank, several
    "run MODE= dry-run": "write MODE=dry-run without a blank",
    "run UNIVERSE=AAPL MSFT": "write UNIVERSE=AAPL,MSFT without a blank",
    "run UNIVERSE=AAPL, MSFT": "write UNIVERSE=AAPL,MSFT without a blank",
    "run dry-run": "there is no target 'dry-run'",
    "run MODE dry-run": "there is no target 'MODE'",
    "run run": "run must be the only target",
    "run replay": "run must be the only target",
    "run deploy": "run must be the only target",
    "clean run": "run must be the only target",
    "test run": "run must be the only target",
    "backtest run": "backtest must be the only target",
    "deploy destroy": "deploy must be the only target",
    "halt resume": "halt must be the only target",
    "lint tests": "did you mean make test?",
    "runn": "there is no target 'runn'; did you mean make run?",
    "RUN": "there is no target 'RUN'; did you mean make run?",
    "xyz": "there is no target 'xyz'",
    "tests": "there is no target 'tests'; did you mean make test?",
    "scripts": "there is no target 'scripts'",
    "runn MODE=dry-run": "did you mean make run?",
    "dry-run run": "there is no target 'dry-run'",
    "run MODE = dry-run": "empty variable name",
    # options of make's that were meant for the command
    "run -mode=dry-run": "make reads -mode=dry-run as an option of its own",
    "run mode=dry-run MAKEFLAGS=": "MAKEFLAGS is not a variable of make run",
    "run mode=dry-run MAKEOVERRIDES=": "MAKEOVERRIDES is not a variable of make run",
    "run HELP=maybe": "HELP=maybe: must be 1",
    "run HELP=0": "HELP=0: must be 1",
    "run HELP=": "HELP=: must be 1",
    "run -o MODE=dry-run": "make reads -o MODE=dry-run as an option of its own",
    "run -W MODE=dry-run": "make reads -W MODE=dry-run as an option of its own",
    "run --old-file MODE=dry-run": "make reads --old-file as an option of its own",
    "run --what-if MODE=dry-run": "make reads --what-if as an option of its own",
    "run -broker=alpaca": "make reads -broker=alpaca as an option of its own",
    "run --mode=dry-run": "unrecognized option",
    "run --universe AAPL": "unrecognized option",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_runs_nothing(type_make: Make, line: str) -> None:
    called = type_make(*line.split(" "))
    assert (called.words, called.code) == (None, 2)
    assert WRONG[line] in called.said


def test_all_problems_are_said_at_once(type_make: Make) -> None:
    said = type_make("run", "univers=AAPL", "MODE=", "AT=1", "AT=2").said
    assert sorted(said.splitlines()) == [
        "AT is given twice: AT=1 and AT=2; give it once",
        "MODE is given without a value; write MODE=value without blanks, or leave it out for the default",
        "nothing was run",
        "univers is not a variable of make run; did you mean UNIVERSE? (make run HELP=1 lists them)",
    ]


def test_targets_that_compute_nothing_can_be_combined(type_make: Make) -> None:
    assert type_make("lint", "test", "TESTS=tests/unit").words == ["lint"]


def test_a_variable_that_no_goal_takes_is_refused_before_the_first_goal(type_make: Make) -> None:
    assert "TEST is not a variable" in type_make("lint", "test", "TEST=tests/unit").said


def test_the_environment_of_another_make_is_not_taken_for_words(type_make: Make) -> None:
    called = type_make("run", env={"MAKEFLAGS": "k", "MODE": "dry-run"})
    assert called.words == ["run"]


def test_the_command_sees_nothing_of_make(type_make: Make) -> None:
    type_make("run", "MODE=dry-run")
    assert not os.environ.keys() & {*make.MAKES_OWN, "MODE"}


# --- no value of a variable runs as a command, in the shell or in make itself ----------------------------------------

PAYLOADS = {
    "the end of double quotes": '";touch owned;"',
    "the end of single quotes": "';touch owned;'",
    "a separator": "x; touch owned",
    "a second line": "x\ntouch owned",
    "the shell's substitution": "$(touch owned)",
    "the shell's substitution, escaped for make": "$$(touch owned)",
    "backquotes": "`touch owned`",
    "make's own shell": "$(shell touch owned)",
    "make's own shell, in braces": "${shell touch owned}",
    "make's own shell, in an expression": "$(eval X := $(shell touch owned))",
    "an option of the command": "--eval=$(shell touch owned)",
    "blanks and backslashes": r"a  b\ c\\d\ ",
    "a quotation mark and an equals sign": "\"a'=b:=c",
}
VARIABLES = sorted({option.name for _, _, made in command.iterate_all() for option in made.all_options()})


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_value_reaches_the_command_unchanged(type_make: Make, payload: str) -> None:
    assert type_make("replay", f"RUN={PAYLOADS[payload]}").words == ["replay", f"--run={PAYLOADS[payload]}"]


@pytest.mark.parametrize("is_in_environment", [False, True], ids=["command line", "environment"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_variable_of_any_target_runs_as_a_command(folder: Path, payload: str, is_in_environment: bool) -> None:
    given = dict.fromkeys(VARIABLES, PAYLOADS[payload])
    words = [] if is_in_environment else [f"{name}={value}" for name, value in given.items()]
    env = {"PATH": os.environ["PATH"], **(given if is_in_environment else {})}
    subprocess.run(["make", "--keep-going", *command.names(), *words], cwd=folder, env=env, check=False)
    assert len((folder / "calls").read_text().splitlines()) == len(command.names())
    assert not (folder / "owned").exists()


@pytest.mark.parametrize("goal", ["$(shell touch owned)", "`touch owned`", "x;touch owned"])
def test_no_goal_runs_as_a_command(folder: Path, goal: str) -> None:
    subprocess.run(["make", "--keep-going", "run", goal], cwd=folder, capture_output=True, check=False)
    assert not (folder / "owned").exists()


def test_an_unknown_goal_is_refused_before_anything_is_set_up(folder: Path) -> None:
    shutil.rmtree(folder / ".venv")
    done = subprocess.run(["make", "runn"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no such target; plain make lists all targets" in done.stderr


@pytest.mark.parametrize("flag", ["-n", "--dry-run", "-t", "-q", "-sn"])
def test_makes_own_dry_run_is_not_taken_for_the_bots(folder: Path, flag: str) -> None:
    done = subprocess.run(["make", "run", flag], cwd=folder, capture_output=True, text=True, check=False)
    assert "the dry run of the bot is: make run MODE=dry-run" in done.stdout
    assert not (folder / "calls").exists()


@pytest.mark.parametrize("words", [["run"], ["run", "-s"], ["run", "--no-print-directory", "-k"], ["run", "RUN=nqt"]])
def test_other_flags_of_make_are_passed_over_in_silence(folder: Path, words: list[str]) -> None:
    assert not subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_plain_make_lists_all_targets_without_any_set_up(folder: Path) -> None:
    shutil.rmtree(folder / ".venv")
    said = subprocess.run(["make"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {name} " in said for name in command.names())
