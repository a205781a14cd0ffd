import json
from functools import partial

import boto3
import pytest
from moto.ssm.responses import SimpleSystemManagerResponse

from scripts.cloud import halt
from tests.aws_setup import deny
from tests.commands import Command, in_process
from tests.contract.test_parameters import put
from trader.parameters import Parameters

NAMES = {name: f"/prophet-trader/{name}/halt" for name in ("swing", "trend")}


@pytest.fixture
def make(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that calls a command by its name: halt or resume."""

    def call(name: str, *arguments: str, **variables: str) -> tuple[int, str, str]:
        return in_process(partial(halt.main, name), monkeypatch, capsys)(*arguments, **variables)

    return call


@pytest.fixture
def _two(aws: dict[str, str]) -> None:
    """Create the halt switches of two strategies, both trading."""
    for name in NAMES.values():
        boto3.client("ssm").put_parameter(Name=name, Value="false", Type="String")


def is_halted(strategy: str) -> bool:
    return bool(Parameters().read_halt_reason(NAMES[strategy]))


def version(strategy: str) -> int:
    return boto3.client("ssm").get_parameter(Name=NAMES[strategy])["Parameter"]["Version"]


# --- halt ---


@pytest.mark.usefixtures("_two")
def test_halt_stops_every_strategy_without_asking(make: Command) -> None:
    code, said, _ = make("halt")
    assert (code, is_halted("swing"), is_halted("trend")) == (0, True, True)
    assert "swing trading halted" in said


@pytest.mark.usefixtures("_two")
def test_halting_one_strategy_leaves_the_others_alone(make: Command) -> None:
    make("halt", STRATEGY="trend")
    assert (is_halted("swing"), is_halted("trend")) == (False, True)


@pytest.mark.usefixtures("_two")
def test_a_second_halt_writes_nothing(make: Command) -> None:
    make("halt", STRATEGY="trend")
    code, said, _ = make("halt", STRATEGY="trend")
    assert (code, version("trend")) == (0, 2)
    assert "trend halted halted" in said


@pytest.mark.usefixtures("_two")
def test_the_output_says_what_halting_does_not_do(make: Command) -> None:
    _, said, _ = make("halt", STRATEGY="trend")
    assert "sends no more buys and starts no more sales" in said
    assert "Positions stay, with their stop losses and take profits at Alpaca" in said
    assert "The stops of parts of a share (SHARES=fractional) end with the day and are not renewed" in said
    assert "make resume STRATEGY=trend" in said


@pytest.mark.usefixtures("_two")
def test_a_value_other_than_true_or_false_halts_and_is_not_shown(make: Command) -> None:
    put(NAMES["trend"], "hunter2")
    _, said, _ = make("halt", STRATEGY="trend")
    assert "halted (neither true nor false)" in said
    assert "hunter2" not in said


@pytest.mark.usefixtures("_two")
def test_a_strategy_that_cannot_be_halted_does_not_stop_the_rest(
    make: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny(monkeypatch, "put_parameter", NAMES["swing"])
    code, said, errors = make("halt")
    assert (code, is_halted("swing"), is_halted("trend")) == (3, False, True)
    assert "swing trading NOT SET" in said
    assert "swing: the halt switch of swing: these credentials do not allow PutParameter: " in errors


@pytest.mark.usefixtures("_two")
def test_halting_works_without_the_right_to_read(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        deny(patched, "get_parameter", NAMES["trend"])
        code, said, _ = make("halt", STRATEGY="trend")
    assert (code, is_halted("trend")) == (0, True)
    assert "trend unknown halted" in said


@pytest.mark.usefixtures("_two")
def test_halting_by_name_works_without_the_right_to_list(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "describe_parameters", None)  # a list request has no name
    code, _, _ = make("halt", STRATEGY="trend")
    assert (code, is_halted("trend")) == (0, True)


@pytest.mark.usefixtures("_two")
def test_an_overwritten_halt_is_not_a_success(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimpleSystemManagerResponse, "put_parameter", lambda _: '{"Version": 2}')
    code, _, errors = make("halt", STRATEGY="trend")
    assert code == 3
    assert "another user changed it at the same time" in errors


@pytest.mark.usefixtures("_two")
def test_a_strategy_that_is_not_deployed_gets_no_switch(make: Command) -> None:
    code, _, errors = make("halt", STRATEGY="trnd")
    assert (code, errors) == (2, "STRATEGY=trnd is not deployed in us-east-1; choose one of swing, trend")
    assert len(boto3.client("ssm").describe_parameters()["Parameters"]) == 2


def test_where_nothing_is_deployed_halt_fails_and_names_the_region(make: Command) -> None:
    code, said, errors = make("halt")
    assert (code, said) == (3, "")
    assert "nothing of prophet-trader is deployed in account 123456789012, region us-east-1" in errors


@pytest.mark.usefixtures("_two")
def test_the_json_output_has_an_object_for_each_switch(make: Command) -> None:
    _, said, _ = make("halt", JSON="1", STRATEGY="trend")
    [switch] = json.loads(said)
    assert (switch["strategy"], switch["before"], switch["now"], switch["error"]) == ("trend", "trading", "halted", "")
    assert switch["changed"].endswith("+00:00")


# --- resume ---


@pytest.mark.usefixtures("_two")
def test_resume_lets_one_strategy_trade_again(make: Command) -> None:
    make("halt")
    code, said, _ = make("resume", STRATEGY="trend")
    assert (code, is_halted("swing"), is_halted("trend")) == (0, True, False)
    assert "trend halted trading" in said
    assert "The next scheduled run of trend trades again; to run it now: make invoke STRATEGY=trend" in said


@pytest.mark.usefixtures("_two")
def test_resuming_every_strategy_needs_strategy_all(make: Command) -> None:
    make("halt")
    code, _, errors = make("resume")
    assert (code, is_halted("swing"), is_halted("trend")) == (2, True, True)
    assert errors == "resume which strategy? Set STRATEGY to one of swing, trend, or all"


@pytest.mark.usefixtures("_two")
def test_strategy_all_resumes_every_strategy(make: Command) -> None:
    make("halt")
    _, said, _ = make("resume", STRATEGY="all")
    assert "make invoke STRATEGY=swing, or make invoke STRATEGY=trend" in said
    assert (is_halted("swing"), is_halted("trend")) == (False, False)
