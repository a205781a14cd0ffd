import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import boto3
import pytest

from scripts import ROOT
from scripts.cloud import secrets
from scripts.cloud.aws import connect
from scripts.console import CommandError
from tests.aws_setup import deny
from tests.commands import Command, in_process

type Terminal = Callable[..., tuple[int, str]]
KEY_ID, SECRET = "PKTESTTESTTEST123456", "s3cr3tS3cr3ts3cr3tS3cr3ts3cr3tS3cr3t1234"
OTHER_ID, OTHER_SECRET = "PKOTHEROTHEROTHER123", "0th3r0th3r0th3r0th3r0th3r0th3r0th3r01234"
USER, PASSWORD = "/prophet-trader/trend/alpacauser", "/prophet-trader/trend/alpacapw"
FROM_ENVIRONMENT = {"STRATEGY": "trend", "ALPACAUSER": KEY_ID, "ALPACAPW": SECRET}


@pytest.fixture
def make(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(secrets.main, monkeypatch, capsys)


@pytest.fixture
def terminal(aws: dict[str, str]) -> Terminal:
    """Return a function that runs the command on a terminal, answers its prompts, and returns exit code and output."""

    def call(*answers: str, **variables: str) -> tuple[int, str]:
        environment = {**aws, "PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}"}
        main, end = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts", "secrets"],
            env={**environment, "STRATEGY": "trend", "COLUMNS": "120", **variables},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        shown = conversation(main, list(answers))
        os.close(main)
        return process.wait(timeout=30), shown

    return call


def conversation(main: int, answers: list[str]) -> str:
    """Answer each prompt; return what the terminal shows until the program ends or is silent for a minute."""
    shown, questions = "", 0
    while select.select([main], [], [], 60)[0]:
        try:
            part = os.read(main, 4096).decode()
        except OSError:  # Linux reports the end of a terminal as an error
            break
        if not part:
            break
        shown += part
        if shown.count("): ") > questions and answers:
            questions = shown.count("): ")
            time.sleep(0.05)  # getpass discards what is typed before it has turned the echo off
            os.write(main, f"{answers.pop(0)}\n".encode())
    return " ".join(shown.split())


def parameter(name: str) -> dict[str, Any]:
    [found] = boto3.client("ssm").describe_parameters(
        ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": [name]}]
    )["Parameters"]
    return dict(found)


def value(name: str) -> str:
    return boto3.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]


def names() -> Sequence[str]:
    return sorted(item["Name"] for item in boto3.client("ssm").describe_parameters()["Parameters"])


# --- from the environment ---


def test_both_keys_become_secure_strings(make: Command) -> None:
    code, _, _ = make(**FROM_ENVIRONMENT)
    assert (code, value(USER), value(PASSWORD)) == (0, KEY_ID, SECRET)
    assert {parameter(name)["Type"] for name in (USER, PASSWORD)} == {"SecureString"}


def test_keys_are_encrypted_with_awss_managed_key(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    assert {parameter(name)["KeyId"] for name in (USER, PASSWORD)} == {"alias/aws/ssm"}


def test_keys_are_tagged_with_project_and_strategy(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    tags = boto3.client("ssm").list_tags_for_resource(ResourceType="Parameter", ResourceId=USER)["TagList"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"project": "prophet-trader", "strategy": "trend"}


def test_names_and_versions_are_shown_but_no_value(make: Command) -> None:
    _, said, noted = make(**FROM_ENVIRONMENT)
    assert "ALPACAUSER" in said
    assert "written" in said
    assert not any(secret in said + noted for secret in (KEY_ID, SECRET))


def test_the_same_values_again_make_no_new_version(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    code, said, _ = make(**FROM_ENVIRONMENT, JSON="1")
    assert code == 0
    assert [(row["result"], row["version"]) for row in json.loads(said)] == [("unchanged", 1), ("unchanged", 1)]


def test_only_changed_values_are_written(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    _, said, _ = make(**{**FROM_ENVIRONMENT, "ALPACAPW": OTHER_SECRET}, JSON="1")
    assert [(row["variable"], row["result"], row["version"]) for row in json.loads(said)] == [
        ("ALPACAUSER", "unchanged", 1),
        ("ALPACAPW", "written", 2),
    ]


def test_keys_can_be_written_without_the_right_to_read(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make(**FROM_ENVIRONMENT)
    deny(monkeypatch, "get_parameters", USER, PASSWORD)
    code, said, _ = make(**FROM_ENVIRONMENT, JSON="1")
    assert (code, [row["version"] for row in json.loads(said)]) == (0, [2, 2])


def test_each_strategy_has_its_own_keys(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    make(STRATEGY="swing", ALPACAUSER=OTHER_ID, ALPACAPW=OTHER_SECRET, PROJECT="mine")
    assert names() == ["/mine/swing/alpacapw", "/mine/swing/alpacauser", PASSWORD, USER]


def test_a_live_accounts_key_is_accepted_with_a_warning(make: Command) -> None:
    code, _, noted = make(**{**FROM_ENVIRONMENT, "ALPACAUSER": "AKTESTTESTTEST123456"})
    assert code == 0
    assert "REAL MONEY" in noted


def test_keys_that_look_swapped_get_a_warning(make: Command) -> None:
    _, _, noted = make(**{**FROM_ENVIRONMENT, "ALPACAUSER": SECRET, "ALPACAPW": KEY_ID})
    assert "is this really the key id, and not the secret key?" in noted


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ALPACAPW": ""}, "ALPACAPW is not set, but the other one is"),
        ({"ALPACAUSER": " "}, "ALPACAUSER is not set, but the other one is"),
        ({"ALPACAPW": "two words-and-more"}, "this is not an Alpaca secret key"),
        ({"ALPACAPW": "bell\a-and-more"}, "this is not an Alpaca secret key"),
        ({"ALPACAPW": "short"}, "this is not an Alpaca secret key"),
        ({"ALPACAUSER": "x" * 129}, "this is not an Alpaca key id"),
        ({"ALPACAUSER": "ssm:/prophet-trader/trend/alpacauser"}, "the key id is a reference to a parameter"),
        ({"ALPACAPW": KEY_ID}, "the key id and the secret key are the same"),
        ({"STRATEGY": "Trend"}, "STRATEGY=Trend: must be at most 32 lower-case letters"),
        ({"STRATEGY": "a/b"}, "STRATEGY=a/b: must be at most 32 lower-case letters"),
    ],
)
def test_invalid_keys_are_refused_and_nothing_is_written(make: Command, variables: dict[str, str], said: str) -> None:
    code, _, errors = make(**{**FROM_ENVIRONMENT, **variables})
    assert (code, names()) == (1, [])
    assert said in errors
    assert "two words" not in errors


def test_one_account_for_several_strategies_is_refused() -> None:
    with pytest.raises(CommandError, match=r"no two may share an account: set STRATEGY to .* \(swing, trend\)"):
        secrets.from_environment(FROM_ENVIRONMENT, ["swing", "trend"])


def test_without_terminal_or_variables_the_error_names_them(make: Command) -> None:
    code, _, errors = make(STRATEGY="trend")
    assert (code, names()) == (1, [])
    assert "there is no terminal to ask for the keys on; set ALPACAUSER" in errors


# --- failures ---


def test_a_parameter_that_keeps_no_secret_is_refused_with_advice(make: Command) -> None:
    boto3.client("ssm").put_parameter(Name=PASSWORD, Value="x", Type="String")
    code, said, errors = make(**FROM_ENVIRONMENT)
    assert (code, said, names()) == (1, "", [PASSWORD])
    assert f"aws ssm delete-parameter --name {PASSWORD}" in errors


def test_after_a_failed_second_write_the_first_is_named(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", PASSWORD)
    code, said, errors = make(**FROM_ENVIRONMENT, JSON="1")
    assert (code, [row["variable"] for row in json.loads(said)]) == (1, ["ALPACAUSER"])
    assert "ALPACAUSER of trend WAS written, but ALPACAPW was NOT" in errors
    assert "it is safe to run it again: make secrets STRATEGY=trend" in errors


def test_after_a_failed_first_write_nothing_is_changed(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", USER)
    code, _, errors = make(**FROM_ENVIRONMENT)
    assert (code, names()) == (1, [])
    assert "the keys of trend are unchanged" in errors


def test_running_again_completes_a_half_written_pair(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        deny(patched, "put_parameter", PASSWORD)
        make(**FROM_ENVIRONMENT)
    code, _, _ = make(**FROM_ENVIRONMENT)
    assert (code, value(USER), value(PASSWORD)) == (0, KEY_ID, SECRET)


def test_a_value_quoted_by_aws_is_not_shown(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "put_parameter", PASSWORD, quoting=f"may not write {SECRET}")
    _, said, errors = make(**FROM_ENVIRONMENT)
    assert "may not write (secret)" in errors
    assert SECRET not in said + errors


@pytest.mark.usefixtures("aws")
def test_no_repr_shows_a_key(make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    stored = secrets.parameters(connect(), "trend")
    assert stored["alpacapw"].value == SECRET
    shown = repr(stored) + repr(secrets.Keys(KEY_ID, SECRET))
    assert not any(secret in shown for secret in (KEY_ID, SECRET))


# --- on a terminal ---


def test_both_keys_can_be_entered_in_one_hidden_line(terminal: Terminal) -> None:
    code, shown = terminal(f"{KEY_ID}   {SECRET}")
    assert (code, value(USER), value(PASSWORD)) == (0, KEY_ID, SECRET)
    assert not any(secret in shown for secret in (KEY_ID, SECRET))


def test_after_the_key_id_alone_the_secret_key_is_asked_for(terminal: Terminal) -> None:
    code, shown = terminal(KEY_ID, SECRET)
    assert (code, value(USER), value(PASSWORD)) == (0, KEY_ID, SECRET)
    assert "Secret key of trend (not shown):" in shown


def test_enter_keeps_the_current_keys(terminal: Terminal, make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    code, shown = terminal("")
    assert (code, parameter(PASSWORD)["Version"]) == (0, 1)
    assert "Enter keeps the current one" in shown


def test_enter_keeps_nothing_if_only_one_key_is_stored(terminal: Terminal) -> None:
    boto3.client("ssm").put_parameter(Name=USER, Value=KEY_ID, Type="SecureString")
    code, shown = terminal("", f"{KEY_ID} {SECRET}")
    assert (code, value(PASSWORD)) == (0, SECRET)
    assert "Enter keeps" not in shown


def test_a_new_key_id_does_not_keep_the_old_secret_key(terminal: Terminal, make: Command) -> None:
    make(**FROM_ENVIRONMENT)
    terminal(OTHER_ID, "", f"{OTHER_ID} {OTHER_SECRET}")
    assert (value(USER), value(PASSWORD)) == (OTHER_ID, OTHER_SECRET)


def test_after_unusable_input_it_asks_again(terminal: Terminal) -> None:
    code, shown = terminal("", "one two three", f"{KEY_ID} {SECRET}")
    assert (code, value(PASSWORD)) == (0, SECRET)
    assert shown.count("try again (Ctrl-C to stop)") == 2


def test_another_strategys_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([f"{KEY_ID} {SECRET}", f"{OTHER_ID} {OTHER_SECRET}"])
    monkeypatch.setattr(secrets, "getpass", lambda _: next(answers))
    nothing = {variable: secrets.Parameter(name=variable) for variable in secrets.VARIABLES}
    assert secrets.ask("trend", nothing, {KEY_ID: "swing"}) == secrets.Keys(OTHER_ID, OTHER_SECRET)


def test_the_end_of_the_input_is_reported(terminal: Terminal) -> None:
    code, shown = terminal("\x04")
    assert (code, names()) == (1, [])
    assert "nothing was entered, so these keys are unchanged" in shown
    assert "Traceback" not in shown
