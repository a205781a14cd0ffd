import base64
import io
import json
import os
import signal
import subprocess
import time
import zipfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.awslambda.responses import LambdaResponse
from rich.prompt import Confirm

from scripts import ROOT
from scripts.cloud import invoke
from scripts.console import CommandError
from tests.commands import Command, in_process
from tests.run_record import record, stop_record
from tests.warm.python import python
from trader.model import NEW_YORK

FUNCTION = "prophet-trader-trend"


def line(**fields: Any) -> str:
    return json.dumps(fields)


START = line(time="2026-11-23T15:00:01.123Z", type="platform.start", record={"requestId": "8f5077", "version": "7"})
RUN = line(
    timestamp="2026-11-23T15:00:07Z",
    level="INFO",
    message="run",
    logger="trader",
    requestId="8f5077",
    strategy="trend",
    status="TRADED",
    detail="",
    denials={"ORDER_REJECTED": 1},
    equity_usd=99981.12,
)
REPORT = line(
    time="2026-11-23T15:00:08.456Z",
    type="platform.report",
    record={
        "requestId": "8f5077",
        "metrics": {
            "durationMs": 6123.4,
            "billedDurationMs": 8200,
            "initDurationMs": 2076.1,
            "memorySizeMB": 1024,
            "maxMemoryUsedMB": 312,
        },
        "status": "success",
    },
)
FAILED = line(
    timestamp="2026-11-23T15:00:05Z",
    level="ERROR",
    message="failed",
    logger="trader",
    requestId="8f5077",
    stackTrace=['  File "/var/task/lambda_function.py", line 62, in run\n    return claimed(event)\n'],
    errorType="BrokerError",
    errorMessage="the broker answered 500",
    location="/var/task/lambda_function.py:run:62",
)


@dataclass
class Lambda:
    """A stand-in for invocations, since moto runs no code: its settings make the answer, and it keeps the events."""

    payload: str = field(default_factory=lambda: json.dumps(record()["report"]))
    error: str = ""
    log: tuple[str, ...] = (START, RUN, REPORT)
    status: int = 200
    code: str = ""
    takes_s: float = 0.0
    events: list[Any] = field(default_factory=list)

    def answer(self, response: Any) -> Any:
        assert response._get_param("Qualifier") == "live"
        assert response.headers["X-Amz-Log-Type"] == "Tail"
        response.backend.get_function(response.path.split("/")[-2], "live")
        self.events.append(json.loads(response.body))
        time.sleep(self.takes_s)
        headers = {"status": self.status, "content-type": "application/json", "x-amz-executed-version": "7"}
        if self.code:
            return self.status, headers | {"x-amzn-errortype": self.code}, '{"Message": "no"}'
        if self.error:
            headers["x-amz-function-error"] = self.error
        log = base64.b64encode("\n".join(self.log).encode()[-4096:]).decode()
        return self.status, headers | {"x-amz-log-result": log}, self.payload


@pytest.fixture
def aws_lambda(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Lambda:
    """Deploy a function, and return the stand-in that answers its invocations."""
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    boto3.client("ssm").put_parameter(Name="/prophet-trader/trend/halt", Value="false", Type="String")
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    client = boto3.client("lambda")
    client.create_function(
        FunctionName=FUNCTION,
        Runtime="python3.13",
        Role=role,
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": file.getvalue()},
        Publish=True,
    )
    client.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1")
    answers = Lambda()
    monkeypatch.setattr(LambdaResponse, "invoke", lambda response: answers.answer(response))
    return answers


@pytest.fixture
def make(aws_lambda: Lambda, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(invoke.main, monkeypatch, capsys)


# --- the event ---


def test_by_default_the_live_version_gets_one_empty_event(make: Command, aws_lambda: Lambda) -> None:
    code, said, _ = make(STRATEGY="trend")
    assert (code, aws_lambda.events) == (0, [{}])
    assert "prophet-trader-trend, version 7 event {}" in said


def test_an_event_can_be_given(make: Command, aws_lambda: Lambda) -> None:
    make(EVENT='{"time": "2026-11-23T15:00:00Z"}')
    assert aws_lambda.events == [{"time": "2026-11-23T15:00:00Z"}]


def test_an_event_can_be_in_a_file(make: Command, aws_lambda: Lambda, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"time": "2026-11-23T15:00:00Z"}')
    make(EVENT=str(tmp_path / "event.json"))
    assert aws_lambda.events == [{"time": "2026-11-23T15:00:00Z"}]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ('{"time"', "EVENT is not JSON: Expecting ':'"),
        ("[1]", "EVENT must be a JSON object such as"),
        ('{"a": NaN}', "EVENT is not JSON: NaN is not allowed in JSON"),
        ("gone.json", "EVENT=gone.json: neither an existing file nor a JSON object"),
        ("/", "EVENT=/ cannot be read: Is a directory"),
    ],
)
def test_an_invalid_event_is_not_sent(make: Command, aws_lambda: Lambda, event: str, said: str) -> None:
    code, _, errors = make(EVENT=event)
    assert (code, aws_lambda.events) == (2, [])
    assert said in errors


def test_a_strategy_that_is_not_deployed_is_not_run(make: Command, aws_lambda: Lambda) -> None:
    code, _, errors = make(STRATEGY="trnd")
    assert (code, aws_lambda.events) == (2, [])
    assert "STRATEGY=trnd is not deployed" in errors


# --- the output ---


@pytest.mark.usefixtures("aws_lambda")
def test_the_result_is_shown_as_in_make_run(make: Command) -> None:
    _, said, _ = make()
    assert "3 orders placed, 2 refused, 1 left alone" in said
    assert "Status TRADED" in said
    assert "ORDER_REJECTED" in said
    assert "Equity 100,000.00 99,981.12" in said


def test_a_stopped_run_is_shown_with_what_to_do(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.payload = json.dumps(stop_record("HALTED", "the halt switch is true")["report"])
    code, said, _ = make()
    assert code == 0
    assert "HALTED: the halt switch is true" in said


def test_a_log_line_is_readable_and_has_new_york_time(
    make: Command, aws_lambda: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_lambda.log = (RUN,)
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        _, said, _ = make()
    time.tzset()
    assert said.endswith(
        "2026-11-23 10:00:07 INFO run strategy=trend status=TRADED detail='' "
        "denials=\"{'ORDER_REJECTED': 1}\" equity_usd=99981.12"
    )


def test_lambdas_report_is_one_line(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.log = (START, REPORT)
    _, said, _ = make()
    assert said.endswith(
        "2026-11-23 10:00:01 start of version 7 2026-11-23 10:00:08 report: "
        "6,123 ms · 8,200 ms billed · 2,076 ms of init · 312 MB used · 1,024 MB limit"
    )


def test_a_truncated_first_line_is_shown_as_cut(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.log = ('eason": "the price", "order_quantity": 37}', REPORT)
    _, said, _ = make()
    assert '…eason": "the price", "order_quantity": 37}' in said


def test_lines_in_text_format_are_shown_unchanged(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.log = ("START RequestId: 8f5077 Version: 7", "REPORT RequestId: 8f5077\tDuration: 1.00 ms")
    _, said, _ = make()
    assert said.endswith("START RequestId: 8f5077 Version: 7 REPORT RequestId: 8f5077 Duration: 1.00 ms")


def test_no_text_in_the_log_can_control_the_terminal(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.log = (
        line(timestamp="?", level="INFO", message="\x1b[31m%s", name="x", a="\x07", stackTrace=["\x1b[31m"]),
        "\x1b]0;title",
    )
    code, said, _ = make()
    assert code == 0
    assert not {"\x1b", "\x07"} & set(said)


def test_an_answer_that_is_not_a_report_is_shown_unchanged(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.payload = '{"hello": "world"}'
    code, said, _ = make()
    assert code == 0
    assert 'not the report of a run: { "hello": "world" }' in said


def test_the_json_output_has_the_whole_answer(make: Command, aws_lambda: Lambda) -> None:
    code, said, _ = make(JSON="1", EVENT='{"a": 1}')
    answer = json.loads(said)
    assert (code, answer["status"], answer["version"], answer["error"]) == (0, 200, "7", "")
    assert (answer["event"], answer["payload"], answer["log"][1]["message"]) == ({"a": 1}, record()["report"], "run")


STALE = [
    {"symbol": f"ZZ{number}", "code": "STALE_PRICE", "detail": f"the last price is {number} days old"}
    for number in range(503)
]


def test_many_symbols_refused_with_one_code_are_one_line_below_missing_stop_losses(
    make: Command, aws_lambda: Lambda
) -> None:
    report = record()["report"] | {"denials": STALE, "unprotected": ["AAPL"]}
    aws_lambda.payload = json.dumps(report)
    _, said, _ = make()
    assert said.count("STALE_PRICE") == 1
    assert said.index("Without a stop loss: AAPL") < said.index("503 symbols STALE_PRICE (ZZ0, ZZ1")


# --- a strategy that trades once a day ---


NOON = datetime(2026, 11, 23, 12, tzinfo=NEW_YORK)
DAILY = {"DAILY_AT": "15:45", "MODE": "paper"}


def test_a_daily_strategy_says_before_it_trades_that_it_trades_again(capsys: pytest.CaptureFixture[str]) -> None:
    invoke.warn_of_second_run("trend", DAILY, {}, NOON)
    said = " ".join(capsys.readouterr().err.split())
    assert "trend trades once a day, at 15:45 New York time (DAILY_AT). It is 12:00 there" in said
    assert "the run at 15:45 may place more" in said


@pytest.mark.parametrize(
    ("settings", "event", "now"),
    [
        ({"MODE": "paper"}, {}, NOON),
        (DAILY | {"MODE": "dry-run"}, {}, NOON),
        (DAILY, {"time": "2026-11-23T20:45:00Z"}, NOON),
        (DAILY, {}, NOON.replace(hour=15, minute=45)),
    ],
    ids=["not daily", "a dry run", "an event of its own time", "at its time"],
)
def test_other_runs_say_nothing(
    capsys: pytest.CaptureFixture[str], settings: dict[str, str], event: dict[str, str], now: datetime
) -> None:
    invoke.warn_of_second_run("trend", settings, event, now)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_daily_strategy_runs_only_after_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(Confirm, "ask", lambda *_, **__: False)
    with pytest.raises(CommandError, match="nothing was started"):
        invoke.warn_of_second_run("trend", DAILY, {}, NOON)
    monkeypatch.setattr(Confirm, "ask", lambda *_, **__: True)
    invoke.warn_of_second_run("trend", DAILY, {}, NOON)


@pytest.mark.usefixtures("aws_lambda")
def test_the_time_of_the_deployed_function_counts(make: Command) -> None:
    client = boto3.client("lambda")
    client.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": {"DAILY_AT": "03:00"}})
    client.publish_version(FunctionName=FUNCTION)
    client.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="2")
    _, _, noted = make()
    assert "trend trades once a day, at 03:00 New York time" in noted


# --- failures ---


def test_a_failed_function_is_shown_with_its_error_and_log(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.error, aws_lambda.log = "Unhandled", (FAILED,)
    aws_lambda.payload = '{"errorType": "BrokerError", "errorMessage": "the broker answered 500", "stackTrace": []}'
    code, said, _ = make()
    assert code == 3
    assert "The function failed: BrokerError: the broker answered 500 Check the broker's list of orders first" in said
    assert "ERROR failed errorType=BrokerError errorMessage='the broker answered 500' File \"/var/task" in said


def runtimes_line(error: str, message: str) -> str:
    """Return the line that Lambda's own runtime logs about an error that ends a run."""
    trace = ['  File "/var/runtime/bootstrap.py", line 1, in handle\n']
    return line(
        timestamp="2026-11-23T15:00:06Z", level="ERROR", errorType=error, errorMessage=message, stackTrace=trace
    )


def test_an_error_that_was_logged_twice_is_shown_once_with_one_traceback(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.error, aws_lambda.log = "Unhandled", (FAILED, runtimes_line("BrokerError", "the broker answered 500"))
    aws_lambda.payload = '{"errorType": "BrokerError", "errorMessage": "the broker answered 500"}'
    _, said, _ = make()
    assert (said.count('File "/var/'), said.count("errorType=BrokerError")) == (1, 1)


MISSING = "invalid settings:\n  - ALPACAUSER=ssm:/prophet-trader/trend/alpacauser: the parameter does not exist"


def test_missing_keys_are_answered_with_make_secrets_and_without_a_traceback(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.error = "Unhandled"
    aws_lambda.log = (
        FAILED.replace("BrokerError", "SettingsError").replace("the broker answered 500", json.dumps(MISSING)[1:-1]),
        runtimes_line("SettingsError", MISSING),
    )
    aws_lambda.payload = json.dumps({"errorType": "SettingsError", "errorMessage": MISSING})
    _, said, _ = make()
    assert "nothing was traded. Store the keys: make secrets STRATEGY=trend" in said
    assert 'File "/var' not in said


def test_a_private_errors_name_is_shown_without_its_underscore(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.error = "Unhandled"
    aws_lambda.payload = '{"errorType": "_UnusableAnswerError", "errorMessage": "Alpaca: no cash"}'
    _, said, _ = make()
    assert "The function failed: UnusableAnswerError: Alpaca: no cash" in said


def test_an_error_in_the_settings_says_that_nothing_was_traded(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.error = "Unhandled"
    aws_lambda.payload = '{"errorType": "SettingsError", "errorMessage": "invalid settings:\\n  - MODE"}'
    code, said, _ = make()
    assert code == 3
    assert "invalid settings: - MODE The run had not begun, and nothing was traded." in said


def test_a_timeout_is_a_failure(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.error, aws_lambda.payload = "Unhandled", '{"errorMessage": "8f5077 Task timed out after 300.00 seconds"}'
    code, said, _ = make()
    assert code == 3
    assert "The function failed: 8f5077 Task timed out after 300.00 seconds" in said


def test_a_failed_function_also_gives_exit_code_3_with_json(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.error, aws_lambda.payload = "Unhandled", '{"errorMessage": "no"}'
    code, said, _ = make(JSON="1")
    assert (code, json.loads(said)["error"]) == (3, "Unhandled")


def test_a_call_that_lambda_fails_is_not_repeated(
    make: Command, aws_lambda: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    aws_lambda.status, aws_lambda.code = 500, "ServiceException"
    code, _, errors = make()
    assert (code, len(aws_lambda.events)) == (3, 1)
    assert "the function may have run, so it is not called again" in errors


def test_a_throttled_call_is_not_repeated_and_says_that_nothing_ran(make: Command, aws_lambda: Lambda) -> None:
    aws_lambda.status, aws_lambda.code = 429, "TooManyRequestsException"
    code, _, errors = make()
    assert (code, len(aws_lambda.events)) == (3, 1)
    assert "was not run: the function or the account has reached its limit of concurrent runs" in errors


def test_a_call_without_an_answer_is_not_repeated(
    make: Command, aws_lambda: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoke, "ONCE", invoke.ONCE.merge(Config(read_timeout=0.5)))
    aws_lambda.takes_s = 1.5
    code, _, errors = make()
    assert (code, len(aws_lambda.events)) == (3, 1)
    assert "the function may have run or still be running, so it is not called again" in errors
    assert "make tail STRATEGY=trend" in errors


def test_a_call_waits_longer_than_any_function_may_take() -> None:
    assert vars(invoke.ONCE)["read_timeout"] > 900


def test_an_interruption_says_that_the_function_keeps_running(aws: dict[str, str], aws_lambda: Lambda) -> None:
    aws_lambda.takes_s = 6
    environment = {**aws, "PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}"}
    command = [*python(), "-m", "scripts", "invoke"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not aws_lambda.events and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "interrupted, but the function goes on running in AWS; see what it does: make tail STRATEGY=trend" in said
    assert "Traceback" not in said
