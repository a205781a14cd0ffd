"""The command line: every command has its file, its options are make's variables, and nonsense is refused."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from scripts import ROOT, command
from scripts.backtest import options
from scripts.cloud.bootstrap import ASKED
from scripts.command import SECRETS
from scripts.sweep import config
from trader.settings import Settings, variables

NAMES = list(command.names())


def own_names(name: str) -> set[str]:
    return {option.name for option in command.find(name).options}


def test_every_file_of_a_command_is_in_the_index() -> None:
    files = {path.stem.replace("_", "-") for path in (ROOT / "scripts/commands").glob("[a-z]*.py")}
    assert sorted(NAMES) == sorted(files)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_names_a_function_that_exists(name: str) -> None:
    module, _, function = command.find(name).main.partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("name", NAMES)
def test_no_option_of_a_command_is_declared_twice(name: str) -> None:
    names = [option.name for option in command.find(name).all_options()]
    assert len(names) == len(set(names))


def test_a_run_takes_every_setting_but_the_secrets() -> None:
    taken = {option.name for option in command.find("run").all_options()}
    assert taken - {"AT", "JSON"} == variables().keys() - SECRETS


@pytest.mark.parametrize("name", ["backtest", "compare", "lookahead", "sweep"])
def test_every_command_that_runs_backtests_takes_their_options(name: str) -> None:
    assert own_names(name) >= options.VARIABLES.keys()


def test_a_backtest_takes_no_setting_that_it_fixes() -> None:
    taken = {option.name for option in command.find("backtest").all_options()}
    assert not taken & options.OWN.keys()


def test_a_sweep_takes_what_its_configuration_reads() -> None:
    assert own_names("sweep") - own_names("backtest") == {*config.VARIABLES, "GRID", "FRESH"}


def test_bootstrap_takes_what_it_reads() -> None:
    assert own_names("bootstrap") >= ASKED.keys()


# --- the application -------------------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Return the variables that each call of `run` has seen; the bot itself is not run."""
    seen: list[dict[str, str]] = []
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("scripts.run.local.main", lambda: seen.append(dict(os.environ)))
    return seen


def type_in(*words: str) -> Result:
    return CliRunner().invoke(command.application(), words, prog_name="prophet-trader")


def test_an_option_is_the_variable_of_the_same_name(called: list[dict[str, str]]) -> None:
    assert type_in("run", "--mode", "dry-run", "--max-order-usd=500", "--json").exit_code == 0
    (seen,) = called
    assert (seen["MODE"], seen["MAX_ORDER_USD"], seen["JSON"]) == ("dry-run", "500", "1")


@pytest.mark.parametrize("words", [["--rule-days", "20"], ["--rule-days=20"]])
def test_a_parameter_of_an_own_rule_is_an_option(called: list[dict[str, str]], words: list[str]) -> None:
    assert type_in("run", "--signal", "rules/mine.py", *words).exit_code == 0
    assert called[0]["RULE_DAYS"] == "20"


def test_an_option_wins_over_the_environment(called: list[dict[str, str]]) -> None:
    os.environ["MODE"] = "paper"
    type_in("run", "--mode", "dry-run")
    assert called[0]["MODE"] == "dry-run"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--univers", "AAPL"], "--universe"),
        (["run", "--MODE", "dry-run"], "No such option"),
        (["run", "--mode"], "requires an argument"),
        (["run", "--mode", ""], "--mode is given without a value"),
        (["run", "--mode", " "], "--mode is given without a value"),
        (["run", "--mode", "dry-run", "--mode", "paper"], "--mode is given 2 times"),
        (["run", "dry-run"], "unexpected extra argument"),
        (["run", "MODE=dry-run"], "unexpected extra argument"),
        (["run", "--alpacapw", "x"], "ALPACAPW is not taken from the command line"),
        (["run", "--alpacauser", "x"], "ALPACAUSER is not taken from the command line"),
        (["run", "--univrse", "AAPL"], "Did you mean '--universe'?"),
        (["run", "--start", "2022-01-03"], "No such option"),
        (["run", "--rule-days"], "--rule-days is given without a value"),
        (["deploy", "--rule-days", "20"], "No such option"),
        (["runn"], "did you mean run?"),
        (["Run"], "did you mean run?"),
        (["zzz"], "prophet-trader --help lists all commands"),
    ],
)
def test_a_wrong_command_line_runs_nothing(called: list[dict[str, str]], words: list[str], said: str) -> None:
    result = type_in(*words)
    assert (result.exit_code, called) == (2, [])
    assert said in result.output


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("mode", "dry-run", "mode in the environment is not a variable of run; did you mean MODE?"),
        ("Mode", "dry-run", "did you mean MODE?"),
        ("at", "2022-10-03", "did you mean AT?"),
        ("universe", "AAPL", "did you mean UNIVERSE?"),
        ("UNIVERS", "AAPL", "did you mean UNIVERSE?"),
        ("BROKERS", "alpaca", "did you mean BROKER?"),
        ("MAX_ORDER", "500", "did you mean MAX_ORDER_USD?"),
        ("JSON", "maybe", "JSON=maybe in the environment: must be 1 or 0"),
        ("HELP", "maybe", "HELP=maybe: must be 1"),
        ("HELP", "0", "HELP=0: must be 1"),
    ],
)
def test_what_a_command_would_ignore_in_the_environment_is_refused(
    called: list[dict[str, str]], name: str, value: str, said: str
) -> None:
    os.environ[name] = value
    result = type_in("run")
    assert (result.exit_code, called) == (2, [])
    assert said in result.output


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("clean", "ALL", "maybe"),
        ("plan", "LOCK", "maybe"),
        ("halt", "strategy", "trend"),
        ("halt", "STRATEGI", "trend"),
    ],
)
def test_the_environment_of_every_command_is_checked(name: str, variable: str, value: str) -> None:
    assert list(command.check_environment({variable: value}, name, []))


def test_a_flag_on_the_command_line_wins_over_the_environment(called: list[dict[str, str]]) -> None:
    os.environ["JSON"] = "maybe"
    type_in("run", "--json")
    assert called[0]["JSON"] == "1"


def test_help_in_the_environment_shows_help_and_runs_nothing(called: list[dict[str, str]]) -> None:
    os.environ["HELP"] = "1"
    result = type_in("run", "--mode", "dry-run")
    assert (result.exit_code, called) == (0, [])
    assert "Usage: prophet-trader run" in result.output


def test_a_switch_takes_1_or_0_only() -> None:
    assert "'maybe': must be 1 or 0" in type_in("plan", "--lock", "maybe").output


USUAL = Path(__file__).with_name("usual_variables.txt").read_text(encoding="utf-8").split()
"""Names that login shells, desktops, compilers, clouds and CI systems set."""


@pytest.mark.parametrize("name", NAMES)
def test_no_usual_variable_of_an_environment_is_refused(name: str) -> None:
    own = {option.name for option in command.find(name).all_options()}
    env = {each: "1" if each in own - command.OF_OTHERS else "firefox" for each in USUAL}
    assert list(command.check_environment(env, name, [])) == []


def test_the_bot_itself_refuses_no_usual_variable() -> None:
    assert Settings.from_env(dict.fromkeys(USUAL, "x"), lambda _: {}) == Settings()


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_names_all_its_options(name: str) -> None:
    said = type_in(name, "--help").output
    assert all(option.flag in said for option in command.find(name).all_options())


def test_the_help_lists_all_commands_by_group() -> None:
    said = type_in("--help").output
    assert all(f"  {name} " in said for name in NAMES)
    assert all(f"{group}:" in said for group in command.index())


def test_plain_make_fits_a_terminal_of_80_columns() -> None:
    index = (ROOT / "scripts/commands/index.txt").read_text(encoding="utf-8")
    assert [line for line in index.splitlines() if len(line) > 80] == []


def test_help_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert all(len(line) <= 80 for name in NAMES for line in type_in(name, "--help").output.splitlines())


def complete(*words: str) -> list[str]:
    *before, last = words
    shell = ShellComplete(command.application(), {}, "prophet-trader", "_PROPHET_TRADER_COMPLETE")
    return [item.value for item in shell.get_completions(list(before), last)]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["repl"], ["replay"]),
        (["run", "--max-order-"], ["--max-order-usd"]),
        (["run", "--mode", "d"], ["dry-run"]),
        (["run", "--price-sources", "file,y"], ["file,yahoo"]),
        (["layer", "--arch", ""], ["x86_64", "arm64"]),
    ],
)
def test_a_shell_can_complete_commands_options_and_words(words: list[str], completed: list[str]) -> None:
    assert complete(*words) == completed


def test_a_command_for_the_repository_says_so_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setattr("scripts.ROOT", tmp_path)
    with pytest.raises(SystemExit) as end:
        command.click_command("lint").main([], prog_name="lint")
    assert end.value.code == 3
    assert "run it in a clone, as make lint" in capsys.readouterr().err


def test_only_a_near_name_is_suggested() -> None:
    said = type_in("run", "--colour", "red").output
    assert "No such option" in said
    assert "Did you mean" not in said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("univers", "UNIVERSE"),
        ("Universe", "UNIVERSE"),
        ("max_order", "MAX_ORDER_USD"),
        ("MAX_ORDER_PER_RUN", "MAX_ORDERS_PER_RUN"),
        ("mod", "MODE"),
        ("SIGNLA", "SIGNAL"),
        ("X", None),
    ],
)
def test_the_nearest_name_is_found_in_any_case(typed: str, meant: str | None) -> None:
    assert command.nearest(typed, [option.name for option in command.find("run").all_options()]) == meant


# --- a reader that stops reading -------------------------------------------------------------------------------------


def test_a_command_does_its_work_although_nobody_reads_its_output(tmp_path: Path) -> None:
    work = "sys.stdout.write('x' * 100_000); console.OUT.print('y'); sys.stderr.write('z' * 100_000)"
    done = f"open({str(tmp_path / 'done')!r}, 'w').write(str(console.is_unread()))"
    code = f"import sys; from scripts import console; console.survive_closed_pipes(); {work}; {done}"
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=write, check=False)
    os.close(write)
    assert (process.returncode, (tmp_path / "done").read_text()) == (0, "True")
