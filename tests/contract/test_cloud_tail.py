"""`make tail` against moto's server, on lines that real runs logged in Lambda's JSON format."""

import json
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from scripts.cloud import log_lines, tail
from tests.commands import Command, in_process
from tests.contract.test_cloud_logs import START, deploy, group, lines, put, report, start, until

__all__ = ["lines"]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="left out: AWS's runtime client has no wheel for this system"
)

MOMENT = datetime(2026, 11, 23, 20, 45, 3, tzinfo=UTC)


@pytest.fixture
def make(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command with FOLLOW=0 and returns exit code, output and errors."""

    command = in_process(tail.main, monkeypatch, capsys, is_joined=False)

    def call(*arguments: str, **variables: str) -> tuple[int, str, str]:
        return command(*arguments, **{"FOLLOW": "0", **variables})

    return call


def show(message: str | dict[str, Any]) -> Sequence[str]:
    text = message if isinstance(message, str) else json.dumps(message)
    return log_lines.render(text, MOMENT)[1]


# --- the format of a line ---


def test_a_real_runs_lines_are_readable(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    code, out, _ = make()
    assert code == 0
    assert " INFO order strategy=trend slot=2022-12-28T20:45:00Z client_order_id=trend-20221228T2045Z-" in out
    assert " WARNING denials strategy=trend" in out
    assert " INFO run strategy=trend slot=2022-12-28T20:45:00Z mode=paper status=ALREADY_RAN" in out
    assert "requestId" not in out


def test_the_records_are_in_order(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make()
    told = [line for line in out.splitlines() if not line.startswith("    ")]
    assert [line.split(" ")[2] for line in told] == [json.loads(line)["level"] for line in lines]


def test_a_line_begins_with_new_york_time_level_and_message() -> None:
    record = {"timestamp": "2026-11-23T20:45:03Z", "level": "INFO", "message": "run", "logger": "trader", "orders": 2}
    assert show(record) == ["2026-11-23 15:45:03 INFO run orders=2"]


def test_an_error_comes_with_its_traceback(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make()
    assert " ERROR failed errorType=SettingsError errorMessage=" in out
    assert "\n      File " in out


def test_the_report_of_an_invocation_is_one_short_line() -> None:
    (line,) = show(report())
    assert line == (
        "2026-11-23 15:45:03 report: 2,000 ms · 3,000 ms billed · 1,000 ms of init · 300 MB used · 1,024 MB limit"
    )


def test_lambdas_other_lines_are_shortened() -> None:
    assert show(START) == ["2026-11-23 15:45:03 start of version 3"]


@pytest.mark.parametrize(("message", "level"), [(report(), "PLATFORM"), (report(status="timeout"), "ERROR")])
def test_a_run_that_was_killed_stands_out(message: str, level: str) -> None:
    assert log_lines.render(message, MOMENT)[0] == level


@pytest.mark.parametrize(
    "message",
    [
        "plain \x1b[31mred\x07",
        {"message": "x\x1b[31m\n2026-11-23 15:45:03 INFO run"},
        {"message": "x", "level": "\x1b[31m"},
        {"message": "x", "detail": "\x1b]0;title\x07\r\u202e"},
        {"message": "x", "\x1b[31m": 1},
        {"message": "x", "stackTrace": ["\x1b[31m"]},
        {"message": "x", "name": "\x1b[31m", "args": [1], "exc_info": True, "levelname": "\x1b"},
        {"type": "platform.\x1b[31m", "record": {"status": "\x1b[31m", "metrics": {"\x1b": "\x1b"}}},
        {"type": "platform.report", "record": None},
        {"type": "platform.report", "record": {"metrics": [1]}},
        {"message": {"nested": "\x1b[31m"}},
        {"message": "%s", "percent": "%d"},
    ],
)
def test_no_record_can_steer_the_terminal_or_stop_the_command(message: str | dict[str, Any]) -> None:
    assert all(line.isprintable() for line in show(message))


def test_text_that_looks_like_markup_is_printed_unchanged(make: Command) -> None:
    deploy("trend")
    put("trend", ["[bold]text[/bold] [link=http://x]"])
    _, out, _ = make()
    assert "[bold]text[/bold] [link=http://x]" in out


def test_with_several_strategies_each_line_names_its_own(make: Command) -> None:
    deploy("swing", "trend")
    put("swing", ["first"], ago=timedelta(minutes=2))
    put("trend", ["second"], ago=timedelta(minutes=1))
    _, out, _ = make()
    assert [(line.split()[0], line.split()[-1]) for line in out.splitlines()] == [
        ("swing", "first"),
        ("trend", "second"),
    ]


def test_the_json_output_has_an_object_for_each_record(make: Command) -> None:
    deploy("trend")
    put("trend", [report(), "plain \x1b[31m"])
    _, out, _ = make("--json")
    first, second = map(json.loads, out.splitlines())
    assert (first["strategy"], first["record"]["type"], second["record"]) == (
        "trend",
        "platform.report",
        "plain \x1b[31m",
    )
    assert "\x1b" not in out


# --- the records shown ---


def test_only_recent_records_are_shown(make: Command) -> None:
    deploy("trend")
    put("trend", ["old"], ago=timedelta(minutes=20))
    put("trend", ["new"], ago=timedelta(minutes=5))
    assert ("old" in make()[1], "new" in make()[1]) == (False, True)
    assert "old" in make(SINCE="30m")[1]


def test_finding_no_record_is_reported(make: Command) -> None:
    deploy("trend")
    code, out, err = make()
    assert (code, out) == (0, "")
    assert "no record since" in err


@pytest.fixture
def source(aws: dict[str, str]) -> tail.Source:
    """Return a source that reads an empty log group from an hour ago on."""
    deploy("trend")
    since = datetime.now(UTC) - timedelta(hours=1)
    return tail.Source("trend", group("trend"), int(since.timestamp() * 1000))


def new(source: tail.Source) -> list[str]:
    return [event["message"] for event in source.new(boto3.client("logs"))]


def at(moment: datetime, *messages: str) -> None:
    """Log records with the same millisecond."""
    events = [{"timestamp": int(moment.timestamp() * 1000), "message": message} for message in messages]
    boto3.client("logs").put_log_events(logGroupName=group("trend"), logStreamName="[3]", logEvents=events)  # type: ignore[arg-type]


def test_no_record_is_shown_twice(source: tail.Source) -> None:
    at(datetime.now(UTC), "one")
    assert (new(source), new(source)) == (["one"], [])


def test_records_of_the_same_millisecond_are_all_shown(source: tail.Source) -> None:
    now = datetime.now(UTC)
    at(now, "one", "two")
    assert new(source) == ["one", "two"]
    at(now, "three")
    assert new(source) == ["three"]


def test_a_record_that_arrives_late_is_shown(source: tail.Source) -> None:
    now = datetime.now(UTC)
    at(now, "one")
    new(source)
    at(now - timedelta(seconds=90), "late")
    assert new(source) == ["late"]


def test_a_record_with_the_same_text_as_another_is_shown(source: tail.Source) -> None:
    at(datetime.now(UTC), "same")
    new(source)
    at(datetime.now(UTC), "same")
    assert new(source) == ["same"]


def test_old_records_are_forgotten(source: tail.Source) -> None:
    now = datetime.now(UTC)
    at(now - timedelta(minutes=30), *(f"old {number}" for number in range(50)))
    new(source)
    at(now, "new")
    new(source)
    assert len(source._seen) == 1


def test_more_records_than_one_answer_holds_are_all_shown(source: tail.Source) -> None:
    now = datetime.now(UTC)
    for batch in range(3):
        at(now, *(f"{batch} {number}" for number in range(4_000)))
    assert len(set(new(source))) == 12_000


# --- following ---


def test_an_interruption_ends_the_tail_without_an_error(aws: dict[str, str]) -> None:
    deploy("trend")
    put("trend", ["before"])
    process = start(aws, "tail")
    assert process.stdout is not None
    assert process.stdout.readline().endswith("before\n")
    put("trend", ["after"], ago=timedelta(0))
    assert process.stdout.readline().endswith("after\n")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"STRATEGY": "swing"}, "STRATEGY=swing is not deployed"),
        ({"SINCE": "soon"}, "SINCE=soon is neither an age"),
        ({"SINCE": "2999-01-01"}, "in the future"),
    ],
)
def test_invalid_input_is_reported(make: Command, variables: dict[str, str], said: str) -> None:
    deploy("trend")
    code, out, err = make(**variables)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_a_log_group_that_disappears_is_reported(aws: dict[str, str]) -> None:
    deploy("trend")
    put("trend", ["before"])
    process = start(aws, "tail")
    assert process.stdout is not None
    process.stdout.readline()
    boto3.client("logs").delete_log_group(logGroupName=group("trend"))
    until(lambda: process.poll() is not None)
    _, err = process.communicate()
    assert (process.returncode, "the log /aws/lambda/prophet-trader-trend: not found in AWS" in err) == (3, True)
    assert "Traceback" not in err
