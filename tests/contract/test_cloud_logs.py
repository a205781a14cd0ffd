"""`make logs` against moto's server: each query runs on lines that real runs logged in Lambda's JSON format."""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from rich.console import Console

from lambda_function import run
from scripts import ROOT, console
from scripts.cloud import logs
from scripts.cloud.aws import AwsError, connect
from scripts.testkit import insights
from tests.commands import Command, in_process
from tests.warm.python import python
from trader.model import Code
from trader.settings import SettingsError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="left out: AWS's runtime client has no wheel for this system"
)

SLOT = "2022-12-28T20:45:00Z"
NAMES = ("decisions", "equity", "errors", "orders", "refusals", "runs", "runtimes", "settled")
SETTLED = {
    "client_order_id": "trend-20221228T2045Z-KO-buy",
    "symbol": "KO",
    "side": "buy",
    "quantity": 30,
    "recorded_status": "accepted",
    "status": "rejected",
    "filled_quantity": 0,
}
"""The fields of the line `settled`: an order that was accepted during its run, and rejected after it."""

type Rows = list[dict[str, Any]]


# --- the logs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return log lines of runs that trade, repeat, find no prices and fail, and of two errors logged directly."""
    from awslambdaric.lambda_runtime_log_utils import JsonFormatter

    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.aws_request_id = "11111111-2222-3333-4444-555555555555"
            written.append(self.format(record))

    folder, handler, log = tmp_path_factory.mktemp("run"), Keep(), logging.getLogger("trader")
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    env = {
        "JOURNAL": f"folder:{folder}/journal",
        "ACCOUNT_FILE": f"{folder}/account.json",
        "UNIVERSE_SIZE": "6",
        "MAX_ORDERS_PER_RUN": "4",
    }
    unknown = ",".join(f"Q{number}" for number in range(60))
    try:
        run({"time": SLOT}, env=env)
        run({"time": SLOT}, env=env)
        run({"time": "2022-12-28T19:45:00Z"}, env=env | {"UNIVERSE": unknown, "ACCOUNT_FILE": f"{folder}/another.json"})
        with pytest.raises(SettingsError):
            run(env={"MODE": "never"})
        log.warning("settled", extra={"strategy": "trend", **SETTLED})
        log.error("interrupted", extra={"strategy": "trend", "slot": SLOT, "symbols": "KO", "detail": "cut off"})
        log.error("held without a stop loss", extra={"strategy": "trend", "slot": SLOT, "symbols": "KO,PEP"})
    finally:
        log.removeHandler(handler)
    return written


def report(
    *, status: str = "success", duration_ms: float = 2_000, init_ms: float | None = 1_000, memory_mb: int = 1_024
) -> str:
    """Return the line that Lambda logs at the end of an invocation; since 2025, init time is billed as well."""
    init = {} if init_ms is None else {"initDurationMs": init_ms}
    metrics = {
        "durationMs": duration_ms,
        "billedDurationMs": int(duration_ms + (init_ms or 0)),
        "memorySizeMB": memory_mb,
        "maxMemoryUsedMB": 300,
        **init,
    }
    record = {"requestId": "11111111-2222-3333-4444-555555555555", "status": status, "metrics": metrics}
    return json.dumps({"time": "2026-11-23T15:00:03.000Z", "type": "platform.report", "record": record})


START = json.dumps(
    {"time": "2026-11-23T15:00:00.000Z", "type": "platform.start", "record": {"requestId": "1", "version": "3"}}
)


def deploy(*strategies: str) -> None:
    """Create the resources of Terraform that `make logs` uses."""
    for strategy in strategies:
        boto3.client("ssm").put_parameter(Name=f"/prophet-trader/{strategy}/halt", Value="false", Type="String")
        boto3.client("logs").create_log_group(logGroupName=group(strategy))
        boto3.client("logs").put_retention_policy(logGroupName=group(strategy), retentionInDays=400)
        boto3.client("logs").create_log_stream(logGroupName=group(strategy), logStreamName="[3]")


def group(strategy: str) -> str:
    return f"/aws/lambda/prophet-trader-{strategy}"


def put(strategy: str, messages: Sequence[str], *, ago: timedelta = timedelta(minutes=5)) -> None:
    """Log lines one millisecond apart, the first of them `ago` before now."""
    first_ms = int((datetime.now(UTC) - ago).timestamp() * 1000)
    events = [{"timestamp": first_ms + at, "message": message} for at, message in enumerate(messages)]
    boto3.client("logs").put_log_events(logGroupName=group(strategy), logStreamName="[3]", logEvents=events)  # type: ignore[arg-type]


@pytest.fixture
def _insights(monkeypatch: pytest.MonkeyPatch, aws: dict[str, str]) -> None:
    insights.install()
    insights.STARTED.clear()
    monkeypatch.setattr(logs, "POLL_S", 0.01)


@pytest.fixture
def make(_insights: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command as make does and returns exit code, output and errors."""
    return in_process(logs.main, monkeypatch, capsys, is_joined=False)


@pytest.fixture
def rows(make: Command, lines: list[str]) -> Callable[..., Rows]:
    """Return a function that runs a query on a log of `lines` and Lambda's own records and returns the rows."""
    deploy("trend")
    put(
        "trend",
        [START, *lines, report(), report(status="timeout", duration_ms=300_000, init_ms=None), "no JSON at all"],
    )

    def call(query: str, **variables: str) -> Rows:
        code, out, err = make("--json", QUERY=query, **variables)
        assert code == 0, err
        found: Rows = json.loads(out)["rows"]
        return found

    return call


def find_lines(lines: list[str], message: str) -> Rows:
    return [line for line in map(json.loads, lines) if line["message"] == message]


# --- each query finds exactly what it should -----------------------------------------------------------------------


def test_orders_are_the_placed_orders(rows: Callable[..., Rows], lines: list[str]) -> None:
    placed = {(each["symbol"], each["side"], each["quantity"], each["status"]) for each in find_lines(lines, "order")}
    assert placed
    assert {(row["symbol"], row["side"], row["quantity"], row["status"]) for row in rows("orders")} == placed


def test_an_order_is_listed_with_its_prices_slot_and_strategy(rows: Callable[..., Rows], lines: list[str]) -> None:
    row, order = rows("orders")[-1], find_lines(lines, "order")[0]
    names = ("strategy", "slot", "price_usd", "stop_loss_usd", "take_profit_usd")
    assert {name: row[name] for name in names} == {name: order[name] for name in names}


def test_decisions_are_all_insights_with_their_quantities(rows: Callable[..., Rows], lines: list[str]) -> None:
    made = {each["symbol"]: [each["gap_fraction"], each["order_quantity"]] for each in find_lines(lines, "decision")}
    assert len(made) == 6
    found = {row["symbol"]: [row["gap_fraction"], row["order_quantity"]] for row in rows("decisions")}
    assert found == {symbol: pytest.approx(values) for symbol, values in made.items()}


def test_refusals_are_listed_with_code_and_values(rows: Callable[..., Rows], lines: list[str]) -> None:
    refused = {(each["symbol"], each["code"], each["detail"]) for each in find_lines(lines, "denial")}
    assert refused
    assert {(row["symbol"], row["code"], row["why"]) for row in rows("refusals") if "symbol" in row} == refused


def test_very_many_refusals_are_summed_up(rows: Callable[..., Rows]) -> None:
    (summary,) = [row for row in rows("refusals") if "symbol" not in row]
    assert (summary["no_price_data"], "code" in summary) == (60, False)


def test_the_summary_of_refusals_has_a_count_for_every_code() -> None:
    asked = re.findall(r"codes\.(\w+) as (\w+)", logs.query_text("refusals"))
    assert sorted(asked) == sorted((code.value, code.value.lower()) for code in Code)


def test_equal_refusals_are_one_line_with_their_number() -> None:
    refused = [refusal("KO", "0 shares cost 1.20 USD"), refusal("PEP", "0 shares cost 17.00 USD")]
    (line,) = logs.sum_up_refusals(refused)
    assert (line["code"], line["count"], line["symbols"]) == ("QUANTITY_BELOW_ONE", "2", "KO, PEP")


def test_refusals_of_different_reasons_or_strategies_stay_apart() -> None:
    refused = [refusal("KO", "too dear"), refusal("KO", "too late"), refusal("KO", "too dear", strategy="swing")]
    assert [line["count"] for line in logs.sum_up_refusals(refused)] == ["1", "1", "1"]


def test_a_summary_of_very_many_refusals_is_a_line_for_each_code() -> None:
    summary = {"strategy": "trend", "slot": SLOT, "why": "no prices", "no_price_data": "60", "stale_price": "2"}
    lines = logs.sum_up_refusals([summary])
    assert [(line["code"], line["count"]) for line in lines] == [("NO_PRICE_DATA", "60"), ("STALE_PRICE", "2")]


def test_a_line_of_equal_refusals_names_few_symbols() -> None:
    (line,) = logs.sum_up_refusals([refusal(f"Q{number}", "no prices") for number in range(9)])
    assert line["symbols"].endswith("Q5 and 3 more")


def refusal(symbol: str, why: str, *, strategy: str = "trend") -> dict[str, str]:
    return {"strategy": strategy, "slot": SLOT, "symbol": symbol, "code": "QUANTITY_BELOW_ONE", "why": why}


def test_errors_are_failures_timeouts_and_lost_stop_losses(rows: Callable[..., Rows]) -> None:
    found = [(row["event"], row.get("kind"), row.get("symbols")) for row in rows("errors")]
    assert found == [
        ("platform.report", "timeout", None),
        ("held without a stop loss", None, "KO,PEP"),
        ("interrupted", None, "KO"),
        ("failed", "SettingsError", None),
    ]


def test_a_run_that_was_cut_off_is_listed_with_its_progress(rows: Callable[..., Rows]) -> None:
    (row,) = [row for row in rows("errors") if row["event"] == "interrupted"]
    assert (row["slot"], row["why"]) == (SLOT, "cut off")


def test_orders_that_ended_otherwise_are_listed_with_both_states(rows: Callable[..., Rows]) -> None:
    (row,) = rows("settled")
    assert {name: row[name] for name in SETTLED} == SETTLED
    assert row["strategy"] == "trend"


def test_an_error_says_which_strategy_and_request(rows: Callable[..., Rows]) -> None:
    assert {(row["strategy"], row["request"]) for row in rows("errors")} == {
        ("trend", "11111111-2222-3333-4444-555555555555")
    }


def test_runtimes_are_billed_gb_seconds_and_cold_starts(rows: Callable[..., Rows]) -> None:
    (day,) = rows("runtimes")
    names = ("strategy", "requests", "cold_starts", "longest_ms", "p95_ms", "peak_mb", "gb_seconds")
    assert {name: day[name] for name in names} == {
        "strategy": "trend",
        "requests": 2,
        "cold_starts": 1,
        "longest_ms": 300_000,
        "p95_ms": 300_000,
        "peak_mb": 300,
        "gb_seconds": 303,
    }


def test_equity_is_the_latest_value_of_each_hour(rows: Callable[..., Rows], lines: list[str]) -> None:
    last = [each["equity_usd"] for each in find_lines(lines, "run") if "equity_usd" in each][-1]
    (hour,) = rows("equity")
    assert (hour["strategy"], hour["equity_usd"]) == ("trend", last)


def test_runs_are_listed_latest_first_with_their_outcome(rows: Callable[..., Rows], lines: list[str]) -> None:
    found = [(row["status"], row["orders"]) for row in rows("runs")]
    assert found == [(each["status"], each["orders"]) for each in reversed(find_lines(lines, "run"))]
    assert [status for status, _ in found] == ["NO_PRICE_DATA", "ALREADY_RAN", "TRADED"]


@pytest.mark.parametrize("name", NAMES)
def test_a_query_says_in_its_first_line_what_it_answers(name: str) -> None:
    assert logs.queries()[name].endswith(".")
    assert set(logs.queries()) == set(NAMES)


# --- the request ---------------------------------------------------------------------------------------------------


def test_the_query_file_is_run_on_all_strategies_log_groups(make: Command) -> None:
    deploy("swing", "trend")
    make(QUERY="orders")
    asked = insights.STARTED[-1]
    assert asked.query == (ROOT / "terraform" / "queries" / "orders.cwli").read_text()
    assert list(asked.groups) == [group("swing"), group("trend")]


def test_a_single_strategy_can_be_queried(make: Command, lines: list[str]) -> None:
    deploy("swing", "trend")
    put("swing", lines)
    _, out, _ = make(QUERY="orders", STRATEGY="trend")
    assert "nothing found" in out


def test_strategies_can_be_named_with_commas(make: Command) -> None:
    deploy("fast", "swing", "trend")
    make(QUERY="orders", STRATEGY="trend, swing")
    assert list(insights.STARTED[-1].groups) == [group("trend"), group("swing")]


@pytest.mark.parametrize(("since", "found"), [("1h", True), ("30m", True), ("2w", True), ("4m", False)])
def test_only_the_range_is_searched(make: Command, lines: list[str], since: str, found: bool) -> None:
    deploy("trend")
    put("trend", lines)
    code, out, _ = make(QUERY="orders", SINCE=since)
    assert (code, "nothing found" not in out) == (0, found)


def test_until_ends_the_range(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make(QUERY="orders", SINCE="2d", UNTIL="1d")
    assert "nothing found" in out


def test_a_time_without_a_zone_is_in_new_york() -> None:
    now = datetime(2026, 11, 23, 20, tzinfo=UTC)
    period = logs.period_of({"SINCE": "2026-11-23T09:30", "UNTIL": "2026-11-23T15:00:00Z"}, now)
    assert (period.since, period.until) == (datetime(2026, 11, 23, 14, 30, tzinfo=UTC), now.replace(hour=15))


def test_a_date_means_midnight_in_new_york() -> None:
    period = logs.period_of({"SINCE": "2026-07-01"}, datetime(2026, 11, 23, tzinfo=UTC))
    assert period.since == datetime(2026, 7, 1, 4, tzinfo=UTC)


# --- the output ----------------------------------------------------------------------------------------------------


def test_the_table_has_new_york_times_and_says_so(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make(QUERY="orders")
    assert "New York time" in out
    assert "2022-12-28 15:45" in out
    assert "20:45" not in out.replace("20:45:", "")
    assert "@ptr" not in out


def test_numbers_are_right_aligned(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make(QUERY="decisions")
    table = out[out.index("slot") :].splitlines()
    end = table[0].index("order_quantity") + len("order_quantity")
    assert {line[end - 1 : end + 1].strip().isdigit() for line in table[2:8]} == {True}


def test_the_number_of_searched_records_is_shown(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make(QUERY="runs")
    assert f"3 rows; {len(lines)} log records" in out


def test_no_text_from_a_log_can_steer_the_terminal_or_look_like_markup(make: Command) -> None:
    deploy("trend")
    put("trend", [json.dumps({"message": "run", "status": "TRADED", "detail": "\x1b[31m[bold]red\nnext\u202e"})])
    _, out, _ = make(QUERY="runs")
    assert r"\x1b[31m[bold]red next\u202e" in out


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Make the command print as on a terminal of this width, without colors."""
    monkeypatch.setattr(console, "OUT", Console(force_terminal=True, width=width, color_system=None, highlight=False))


@pytest.mark.parametrize("width", [80, 110])
@pytest.mark.parametrize("query", NAMES)
def test_on_a_terminal_no_line_is_wider_than_it(
    make: Command, lines: list[str], monkeypatch: pytest.MonkeyPatch, query: str, width: int
) -> None:
    deploy("trend")
    put("trend", [*lines, report(status="timeout", duration_ms=300_000, init_ms=None)])
    on_a_terminal(monkeypatch, width)
    _, out, _ = make(QUERY=query)
    table = out.splitlines()[3:]
    assert len(table) > 3
    assert [line for line in table if len(line) > width] == []


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_terminal_of_any_width_an_order_keeps_all_its_values(
    make: Command, lines: list[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    deploy("trend")
    put("trend", lines)
    on_a_terminal(monkeypatch, width)
    _, out, _ = make(QUERY="orders")
    order = find_lines(lines, "order")[0]
    names = ("symbol", "side", "quantity", "price_usd", "stop_loss_usd", "take_profit_usd", "status")
    assert [name for name in names if logs.cell(name, str(order[name])) not in out] == []


def test_piped_output_has_one_line_for_each_row_and_no_blanks_at_its_end(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make(QUERY="orders")
    assert [line for line in out.splitlines() if line != line.rstrip()] == []
    assert len([line for line in out.splitlines() if "trend" in line]) == len(find_lines(lines, "order"))


REQUEST = "11111111-2222-3333-4444-555555555555"
FAILED_RUN = [  # the latest first, as the query returns them
    {"@timestamp": "2026-11-27 15:00:08.000", "strategy": "trend", "event": "platform.report", "kind": "error"},
    {
        "@timestamp": "2026-11-27 15:00:07.500",
        "strategy": "trend",
        "kind": "SettingsError",
        "why": "invalid settings:\n  - MODE=lve: must be one of dry-run, paper, live",
    },
    {
        "@timestamp": "2026-11-27 15:00:07.000",
        "strategy": "trend",
        "event": "failed",
        "kind": "SettingsError",
        "why": "invalid settings:\n  - MODE=lve: must be one of dry-run, paper, live",
        "slot": "2026-11-27T15:00:00Z",
    },
]


def test_a_failure_that_was_logged_three_times_is_one_line() -> None:
    [failure] = logs.group_failures([{**row, "request": REQUEST} for row in FAILED_RUN])
    assert logs.sum_up_failure(failure) == (
        "2026-11-27 10:00:07",
        "trend",
        "failed: SettingsError",
        "invalid settings: MODE=lve: must be one of dry-run, paper, live",
    )


def test_a_timeout_that_only_lambda_has_logged_is_a_line_too() -> None:
    row = {"@timestamp": "2026-11-27 15:05:00.000", "strategy": "trend", "event": "platform.report", "kind": "timeout"}
    assert logs.sum_up_failure([row]) == ("2026-11-27 10:05", "trend", "report: timeout", "")


def test_all_that_one_run_logged_is_named_in_its_line() -> None:
    rows = [
        {"@timestamp": "2026-11-27 15:00:08.000", "event": "held without a stop loss", "symbols": "KO,PEP"},
        {"@timestamp": "2026-11-27 15:00:07.000", "event": "interrupted", "symbols": "KO", "why": "cut off\nTraceback"},
    ]
    assert logs.sum_up_failure(rows)[2:] == ("interrupted, held without a stop loss", "cut off")


def test_errors_are_one_line_each_on_a_narrow_terminal_and_all_that_was_logged_with_details(
    make: Command, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy("trend")
    put("trend", [*lines, report(status="timeout", duration_ms=300_000, init_ms=None)])
    on_a_terminal(monkeypatch, 80)
    _, out, _ = make(QUERY="errors")
    (table,) = [line for line in out.splitlines() if " trend " in line]
    assert "1 failure in " in out
    assert logs.DETAILS_HINT in out
    assert len(table) <= 80
    _, whole, _ = make(QUERY="errors", DETAILS="1")
    assert logs.DETAILS_HINT not in whole
    assert "\n        cut off\n" in whole


def test_a_failure_that_was_logged_three_times_is_one_block() -> None:
    rows = [{**row, "request": REQUEST} for row in FAILED_RUN]
    [failure] = logs.group_failures(rows)
    assert [line.plain for line in logs.describe_failure(failure, 80)] == [
        f" 2026-11-27 10:00:07  trend · request {REQUEST}",
        "    failed: SettingsError · slot 2026-11-27 10:00",
        "        invalid settings:",
        "        - MODE=lve: must be one of dry-run, paper, live",
        "    report: error",
        "",
    ]


def test_failures_of_different_requests_are_blocks_of_their_own() -> None:
    rows = [{"@timestamp": "2026-11-27 15:00:07.000", "event": "failed", "request": name} for name in ("b", "a", "b")]
    assert [len(group) for group in logs.group_failures(rows)] == [2, 1]


def test_errors_without_a_request_stay_apart() -> None:
    rows = [{"@timestamp": "2026-11-27 15:00:07.000", "event": "failed"}] * 2
    assert [len(group) for group in logs.group_failures(rows)] == [1, 1]


def test_different_things_that_one_run_logged_are_all_in_its_block() -> None:
    rows = [
        {"@timestamp": "2026-11-27 15:00:08.000", "event": "held without a stop loss", "symbols": "KO,PEP"},
        {"@timestamp": "2026-11-27 15:00:07.000", "event": "interrupted", "symbols": "KO", "why": "cut off"},
    ]
    shown = [line.plain.strip() for line in logs.describe_failure(rows, 80)]
    assert shown[1:] == ["interrupted · symbols KO", "cut off", "held without a stop loss · symbols KO,PEP", ""]


def test_a_cut_at_the_limit_is_reported(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    code, out, err = make("--json", QUERY="decisions", LIMIT="2")
    assert (code, len(json.loads(out)["rows"]), json.loads(out)["is_cut"]) == (0, 2, True)
    assert "cut at LIMIT=2" in err


def test_a_column_of_later_rows_only_keeps_its_place() -> None:
    rows = [{"a": "1", "d": "4"}, {"a": "1", "b": "2", "c": "3", "d": "4"}]
    assert logs.columns_of(rows) == ["a", "b", "c", "d"]


def test_json_has_numbers_and_utc_times(make: Command, lines: list[str]) -> None:
    deploy("trend")
    put("trend", lines)
    _, out, _ = make("--json", QUERY="runs")
    answer = json.loads(out)
    assert datetime.fromisoformat(answer["rows"][0]["@timestamp"]).utcoffset() == timedelta(0)
    assert answer["statistics"]["recordsScanned"] == len(lines)
    assert answer["log_groups"] == [group("trend")]


def test_finding_nothing_is_no_error_and_names_the_log_group(make: Command) -> None:
    deploy("trend")
    code, out, err = make(QUERY="orders", SINCE="6h")
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert "nothing found: no orders and no log record at all in /aws/lambda/prophet-trader-trend" in said
    assert "SINCE=1w" in out


def test_if_there_are_runs_but_no_orders_the_runs_are_suggested(make: Command) -> None:
    deploy("trend")
    put("trend", [json.dumps({"message": "run", "status": "MARKET_CLOSED"})])
    _, out, _ = make(QUERY="orders")
    assert "make logs QUERY=runs" in out


def test_without_a_query_all_queries_are_listed(make: Command) -> None:
    code, out, _ = make()
    assert code == 0
    assert all(name in out for name in NAMES)
    assert "with their prices and outcomes" in " ".join(out.split())


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"QUERY": "order"}, "did you mean orders?"),
        ({"QUERY": "../orders"}, "there is no such query"),
        ({"QUERY": "nonsense"}, "runtimes"),
        ({"SINCE": "yesterday"}, "SINCE=yesterday is neither an age"),
        ({"SINCE": "0m"}, "so the period is empty"),
        ({"SINCE": "1h", "UNTIL": "2h"}, "SINCE=1h is not before UNTIL=2h"),
        ({"SINCE": "2999-01-01"}, "in the future"),
        ({"UNTIL": "2999-01-01"}, "in the future"),
        ({"SINCE": "999999w"}, "is too long ago"),
        ({"SINCE": "500d"}, "logs are kept for 400 days"),
        ({"SINCE": "1d; rm"}, "neither an age"),
        ({"LIMIT": "0"}, "LIMIT=0: must be a whole number from 1 to 10000"),
        ({"LIMIT": "many"}, "LIMIT=many"),
        ({"LIMIT": "10001"}, "LIMIT=10001"),
        ({"STRATEGY": "swing"}, "STRATEGY=swing is not deployed in us-east-1; choose one of trend"),
    ],
)
def test_invalid_input_is_reported(make: Command, variables: dict[str, str], said: str) -> None:
    deploy("trend")
    code, out, err = make(**{"QUERY": "orders", **variables})
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_having_nothing_deployed_is_an_error_that_says_so(make: Command) -> None:
    code, _, err = make(QUERY="orders")
    assert (code, "nothing of prophet-trader is deployed" in err) == (3, True)


def test_a_deleted_log_group_is_reported(make: Command) -> None:
    deploy("trend")
    boto3.client("logs").delete_log_group(logGroupName=group("trend"))
    code, _, err = make(QUERY="orders")
    assert (code, "there is no log group /aws/lambda/prophet-trader-trend" in err) == (3, True)


# --- slow queries --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_insights")
def test_a_query_that_takes_too_long_is_stopped_in_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insights, "PENDING_LOOKS", 10_000)
    deploy("trend")
    cloud = connect()
    period = logs.period_of({}, datetime.now(UTC))
    with pytest.raises(AwsError, match="took too long"):
        logs.ask(logs.client_of(cloud), logs.query_text("runs"), [group("trend")], period, limit_s=0.1)
    assert insights.STARTED[-1].stopped


@pytest.mark.usefixtures("_insights")
def test_an_interruption_stops_the_query_in_aws(monkeypatch: pytest.MonkeyPatch, aws: dict[str, str]) -> None:
    monkeypatch.setattr(insights, "PENDING_LOOKS", 10_000)
    deploy("trend")
    process = start(aws, QUERY="runs")
    until(lambda: bool(insights.STARTED) and insights.STARTED[-1].looks > 0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, "interrupted; the query was stopped" in err) == (130, True)
    assert insights.STARTED[-1].stopped


def start(aws: dict[str, str], module: str = "logs", **variables: str) -> subprocess.Popen[str]:
    """Start a command in a separate process."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'function'}:{ROOT}", **aws, **variables}
    command = [*python(), "-m", "scripts", module]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool], max_s: float = 30) -> None:
    end = time.monotonic() + max_s
    while not condition():
        assert time.monotonic() < end, "timed out waiting for the condition"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _sigint() -> Iterator[None]:
    """Restore the SIGINT handler, which commands replace."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
