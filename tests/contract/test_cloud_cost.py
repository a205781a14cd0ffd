"""`make cost` from moto's logs, from the schedule, and from runs in AWS's own runtime interface."""

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import boto3
import pytest
from rich.console import Console

from scripts import ROOT, console
from scripts.cloud import cost, logs, measure
from scripts.cloud.aws import UsageError
from scripts.cloud.cost import Estimate, Use
from scripts.cloud.cron import DIGEST, Schedule, digests, kinds, once_a_day, read_default
from scripts.cloud.measure import Measured
from scripts.layer.emulator import prepare_function
from scripts.layer.package import package
from scripts.layer.target import LayerError, Target
from scripts.testkit import insights
from scripts.testkit.lambda_runtime import Function
from tests.commands import Command, in_process
from tests.contract.test_cloud_logs import deploy, group, put, report
from trader.progress import no_progress

TARGET = Target("3.13", "x86_64")
needs_emulator = pytest.mark.skipif(not TARGET.runs_here, reason="left out: the emulator runs only on Linux x86_64")


@pytest.fixture
def make(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command as make does and returns exit code, output and errors."""
    insights.install()
    monkeypatch.setattr(logs, "POLL_S", 0.01)
    return in_process(cost.main, monkeypatch, capsys, is_joined=False)


# --- from the logs -------------------------------------------------------------------------------------------------


@pytest.fixture
def answer(make: Command) -> Callable[[], dict[str, Any]]:
    """Return a function that runs the command after 200 runs of 3 GB-seconds and one of 1.5."""
    deploy("swing", "trend")
    put("swing", [report(memory_mb=512)], ago=timedelta(days=2))
    put("trend", [report()] * 100, ago=timedelta(days=1))
    put("trend", [report()] * 100, ago=timedelta(minutes=1))

    def call() -> dict[str, Any]:
        code, out, err = make("--json")
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    return call


def test_billed_usage_is_summed_by_strategy(answer: Callable[[], dict[str, Any]]) -> None:
    assert answer()["strategies"] == [
        {"strategy": "swing", "requests": 1, "gb_seconds": 1.5},
        {"strategy": "trend", "requests": 200, "gb_seconds": 600},
    ]


def test_usage_is_compared_with_the_free_tier(answer: Callable[[], dict[str, Any]]) -> None:
    found = answer()
    assert (found["gb_seconds"], found["requests"], found["source"]) == (601.5, 201, "logs")
    assert found["share_of_gb_seconds"] == pytest.approx(601.5 / 400_000, abs=1e-5)
    assert found["usd_beyond_free_tier"] == 0


def test_the_strategies_that_fit_follow_from_monthly_averages(answer: Callable[[], dict[str, Any]]) -> None:
    found = answer()
    assert found["days"] == 3
    assert found["strategies_that_fit"] == int(400_000 / (601.5 / 2 * 30 / 3))


def test_the_output_is_a_table_and_a_sentence(make: Command) -> None:
    deploy("trend")
    put("trend", [report()] * 100)
    code, out, _ = make()
    assert code == 0
    assert re.search(r"trend +100 +300\.0", out)
    assert out.startswith(" Your month: 0.00 USD for one strategy: all of it is within AWS's free tiers.")
    assert "0.07% of Lambda's 400,000 free GB-seconds a month" in out
    assert "44 such strategies fit" in out
    assert "https://aws.amazon.com/lambda/pricing/" in out


def test_a_month_beyond_the_free_tiers_names_what_costs(capsys: pytest.CaptureFixture[str]) -> None:
    uses = [Use(strategy=name, requests=1_000, gb_seconds=150_000) for name in ("swing", "trend")]
    cost.show(cost.from_logs(uses, 15, "x86_64"))
    lambda_usd = 200_000 * 0.0000166667
    assert capsys.readouterr().out.startswith(
        f" Your month: {lambda_usd:.2f} USD for 2 strategies (Lambda {lambda_usd:.2f})."
    )


def test_ten_strategies_with_alarms_messages_and_digests_cost_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    uses = [Use(strategy=f"number-{number}", requests=836, gb_seconds=10_000) for number in range(10)]
    cost.show(cost.from_logs(uses, 30, "x86_64"))
    assert capsys.readouterr().out.startswith(
        " Your month: 0.00 USD for 10 strategies: all of it is within AWS's free tiers."
    )


def test_runs_before_the_last_30_days_do_not_count(make: Command) -> None:
    deploy("trend")
    put("trend", [report()], ago=timedelta(days=1))
    events = [{"timestamp": int((datetime.now(UTC) - timedelta(days=31)).timestamp() * 1000), "message": report()}]
    boto3.client("logs").put_log_events(logGroupName=group("trend"), logStreamName="[3]", logEvents=events)  # type: ignore[arg-type]
    assert json.loads(make("--json")[1])["requests"] == 1


def test_only_usage_beyond_the_free_tier_costs_money() -> None:
    use = Use(strategy="trend", requests=2_000_000, gb_seconds=500_000)
    found = cost.of_lambda([use], 1, 1.0, "x86_64")
    assert found["usd_beyond_free_tier"] == pytest.approx(100_000 * 0.0000166667 + 0.20, abs=0.005)
    assert found["strategies_that_fit"] == 0


def test_arm64_is_a_fifth_cheaper() -> None:
    use = Use(strategy="trend", requests=0, gb_seconds=1_000_000)
    assert use.usd("arm64") / use.usd("x86_64") == pytest.approx(0.8, abs=0.001)


def test_requests_limit_strategies_with_many_short_runs() -> None:
    use = Use(strategy="trend", requests=500_000, gb_seconds=100)
    assert cost.of_lambda([use], 1, 1.0, "x86_64")["strategies_that_fit"] == 2


# --- the schedule --------------------------------------------------------------------------------------------------


def hours(expression: str, day: date = date(2026, 11, 23)) -> list[str]:
    """Return the times at which a schedule fires on a day, a Monday by default."""
    return [f"{moment:%H:%M}" for moment in Schedule(expression).times(day, 1)]


def test_the_default_fires_every_quarter_of_an_hour_on_weekdays() -> None:
    times = [f"{moment:%a %H:%M}" for moment in Schedule(read_default()).times(date(2026, 11, 21), 7)]
    assert (len(times), times[0], times[-1]) == (5 * 36, "Mon 13:00", "Fri 21:45")


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("cron(30 14 ? * 2 *)", ["14:30"]),  # day 1 is Sunday
        ("cron(30 14 ? * 1 *)", []),
        ("cron(0 9,17 ? * MON *)", ["09:00", "17:00"]),
        ("cron(5/25 9 * * ? *)", ["09:05", "09:30", "09:55"]),
        ("cron(0 9 23 NOV ? 2026)", ["09:00"]),
        ("cron(0 9 23 11 ? 2027)", []),
        ("cron(0 9 24 * ? *)", []),
        ("cron(0 20-22/2 ? * * *)", ["20:00", "22:00"]),
    ],
)
def test_expressions_mean_what_aws_says(expression: str, times: list[str]) -> None:
    assert hours(expression) == times


@pytest.mark.parametrize(
    "expression",
    [
        "rate(5 minutes)",
        "cron(0 9 * * MON)",
        "cron(0 9 * * * *)",
        "cron(0 9 ? * ? *)",
        "cron(60 9 ? * MON *)",
        "cron(0 24 ? * MON *)",
        "cron(0 9 L * ? *)",
        "cron(0 9 ? * MON#1 *)",
        "cron(0 9 ? * FRI-MON *)",
        "cron(0/0 9 ? * MON *)",
        "cron(0 nine ? * MON *)",
        "",
    ],
)
def test_a_schedule_that_cannot_be_counted_is_reported(expression: str) -> None:
    with pytest.raises(UsageError, match="SCHEDULE="):
        list(Schedule(expression).times(date(2026, 11, 23), 1))


@pytest.mark.parametrize("day", [date(2026, 7, 6), date(2026, 11, 23)], ids=["summer", "winter"])
def test_a_day_has_one_first_25_later_and_ten_closed_runs(day: date) -> None:
    assert kinds(Schedule(read_default()), day, 1) == {"first": 1, "later": 25, "closed": 10}


def test_holidays_and_half_days_have_more_closed_runs() -> None:
    assert kinds(Schedule(read_default()), date(2026, 11, 26), 1) == {"first": 0, "later": 0, "closed": 36}
    assert kinds(Schedule(read_default()), date(2026, 11, 27), 1) == {"first": 1, "later": 13, "closed": 22}


@pytest.mark.parametrize("day", [date(2026, 7, 6), date(2026, 11, 23)], ids=["summer", "winter"])
def test_once_a_day_means_one_first_run_and_one_not_due(day: date) -> None:
    assert kinds(once_a_day("15:00"), day, 1, "15:00") == {"first": 1, "later": 0, "closed": 1}


@pytest.mark.parametrize("first", [date(2026, 7, 6), date(2026, 11, 9)], ids=["summer", "winter"])
def test_each_session_has_a_digest_and_an_event_that_is_not_due(first: date) -> None:
    assert digests(first, 5) == {"digest": 5, "closed": 5}


def test_a_holiday_has_no_digest() -> None:
    assert digests(date(2026, 11, 26), 1) == {"digest": 0, "closed": 2}


def test_the_digests_schedule_is_terraforms() -> None:
    assert f'expression = "{DIGEST}"' in (ROOT / "terraform" / "main.tf").read_text()


def test_once_a_day_is_terraforms_schedule() -> None:
    assert once_a_day("15:00").expression == "cron(0 19,20 ? * MON-FRI *)"


# --- the estimate --------------------------------------------------------------------------------------------------


def month(**changes: Any) -> Estimate:
    """Return an estimate for 21 trading days of the default schedule, in round figures."""
    runs = {"first": 30.0, "later": 10.0, "closed": 2.0, "digest": 100.0}
    measured = {
        kind: Measured(billed_s=billed_s, init_s=1, peak_mb=150, log_bytes=10_000, kept_bytes=100_000)
        for kind, billed_s in runs.items()
    }
    given: dict[str, Any] = {
        "schedule": read_default(),
        "memory_mb": 1_024,
        "first_day": date(2026, 10, 24),
        "counts": {"first": 21, "later": 525, "closed": 210, "digest": 21},
        "measured": measured,
    }
    return Estimate(**given | changes)


def test_gb_seconds_are_memory_times_billed_seconds_times_runs() -> None:
    found = cost.from_runs(month(), "x86_64")
    assert found["gb_seconds"] == 21 * 30 + 525 * 10 + 210 * 2 + 21 * 100
    assert found["requests"] == 777
    assert found["strategies_that_fit"] == 400_000 // 8_400


def test_twice_the_memory_costs_twice_as_much_for_the_same_time() -> None:
    assert month(memory_mb=2_048).use.gb_seconds == 2 * month().use.gb_seconds


def test_an_estimate_lists_what_is_measured_and_what_assumed() -> None:
    found = cost.from_runs(month(), "x86_64")
    assert any(
        "divided each run's computing time by the function's share of a processor, 58%" in each
        for each in found["known"]
    )
    assert "every run starts cold, and its init is billed" in found["assumed"]


def other(found: dict[str, Any], what: str) -> dict[str, Any]:
    (row,) = [row for row in found["others"] if row["what"] == what]
    return dict(row)


def test_other_free_tiers_have_the_cost_of_ten_strategies() -> None:
    found = cost.from_runs(month(), "x86_64")
    writes = 21 * 7 + 525 * 6 + 210 * 3 + 21 * 3
    assert other(found, "S3 write requests")["usd_of_10"] == pytest.approx(0.005 / 1000 * (10 * writes - 2_000))
    assert other(found, "SNS e-mails")["used"] == 21
    assert other(found, "CloudWatch logs")["used"] == pytest.approx(777 * 10_000 / 1e9, abs=1e-4)


def test_the_least_that_s3_is_asked_to_write_is_named_too() -> None:
    assert "a claim and a record of each run while the market is open are 1,092" in str(
        other(cost.from_runs(month(), "x86_64"), "S3 write requests")["assumed"]
    )


@pytest.mark.parametrize("what", ["CloudWatch custom metrics", "CloudWatch alarms", "CloudWatch dashboards"])
def test_what_all_strategies_share_holds_any_number_of_them(what: str) -> None:
    row = other(cost.from_runs(month(), "x86_64"), what)
    assert (row["used"], row["strategies_that_fit"], row["usd_of_10"]) == (0, None, 0)
    assert 0 < row["shared"] <= row["free"]


def test_the_numbers_of_metrics_and_alarms_match_terraform() -> None:
    folder = ROOT / "terraform" / "modules" / "monitoring"
    metrics = re.findall(r'^    \w+\s+= "\{', (folder / "metrics.tf").read_text(), re.MULTILINE)
    alarms = re.findall(r"^\s+metric_name\s+= ", (folder / "alarms.tf").read_text(), re.MULTILINE)
    assert (len(metrics), len(alarms)) == (cost.METRICS, cost.ALARM_METRICS)


def test_the_defaults_are_terraforms() -> None:
    variables = re.sub(" +", " ", (ROOT / "terraform" / "variables.tf").read_text())
    assert f'schedule = optional(string, "{read_default()}")' in variables
    assert f"memory_mb = optional(number, {cost.MEMORY_MB})" in variables
    assert f"default = {cost.RETENTION_DAYS}\n" in variables.partition('variable "retention_days"')[2].partition("}")[0]


def test_what_a_strategy_keeps_in_the_end_is_named() -> None:
    row = other(cost.from_runs(month(), "x86_64"), "S3 storage")
    assert f"to {777 * 100_000 / 1e9 * 400 / 30:.1f} GB of one strategy after 400 days" in row["assumed"]


def test_the_tables_of_an_estimate_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    cost.show(cost.from_runs(month(), "x86_64"))
    out = capsys.readouterr().out
    assert out.startswith(" A month of one strategy: 0.01 USD, ESTIMATED (S3 write requests 0.01).")
    assert " A month of 10 such strategies: 0.19 USD (S3 write requests 0.19)." in out
    assert "ESTIMATED monthly usage" in out
    assert re.search(r"all +777 +8,400", out)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MEMORY": "64"}, "MEMORY=64: must be a whole number of MB from 128 to 10240"),
        ({"MEMORY": "1 GB"}, "MEMORY=1 GB"),
        ({"SCHEDULE": "hourly"}, "SCHEDULE=hourly: must be cron(...)"),
        ({"SCHEDULE": "cron(0 9 ? * MON 1999)"}, "did not fire in the last 30 days"),
        ({"SCHEDULE": read_default(), "DAILY_AT": "15:00"}, "contradict each other"),
        ({"DAILY_AT": "3 p.m."}, "DAILY_AT=3 p.m.: must be a quarter hour"),
    ],
)
def test_invalid_input_is_reported(make: Command, variables: dict[str, str], said: str) -> None:
    code, out, err = make(**variables)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_an_unknown_architecture_is_reported(make: Command) -> None:
    code, out, err = make(ARCH="m68k", ESTIMATE="1")
    assert (code > 0, out, "ARCH=m68k: must be one of" in err) == (True, "", True)


def test_on_a_terminal_no_line_of_a_table_is_wider_than_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "OUT", Console(force_terminal=True, width=80, color_system=None, highlight=False))
    cost.show(cost.from_runs(month(), "x86_64"))
    tables = capsys.readouterr().out.partition("Other monthly")[2].partition("\n - ")[0]
    assert [line for line in tables.splitlines() if len(line) > 80] == []


@pytest.fixture
def _no_zip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the zips, as in a fresh clone."""
    monkeypatch.setattr("scripts.layer.target.DIST", tmp_path)


@pytest.mark.usefixtures("_no_zip")
def test_without_the_layers_zip_the_error_says_how_to_build_it() -> None:
    with pytest.raises(LayerError, match="build it with make layer"):
        measure.check(TARGET)


@pytest.mark.usefixtures("_no_zip")
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda: None, "nothing is deployed in account 123456789012, region us-east-1; this is an estimate"),
        (lambda: deploy("trend"), "no run of trend in the last 30 days; this is an estimate"),
        (lambda: os.environ.pop("AWS_ACCESS_KEY_ID"), "there are no AWS credentials; this is an estimate"),
    ],
)
def test_without_billed_runs_the_result_is_an_estimate(make: Command, prepare: Callable[[], object], said: str) -> None:
    prepare()
    code, _, err = make()
    assert (code, said in " ".join(err.split())) == (3, True)  # 3, because there is no zip to measure


# --- a share of a processor ----------------------------------------------------------------------------------------

SPIN = """
    import subprocess, sys, time
    WORK = "for _ in range(60): sum(range(400_000))"
    def handler(event, context):
        begun, used = time.perf_counter(), time.process_time()
        used_by_child = 0
        if event == "wait":
            time.sleep(0.5)
        elif event == "child":
            code = f"import time\\n{WORK}\\nprint(time.process_time())"
            used_by_child = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        else:
            exec(WORK)
        return {"processor_s": time.process_time() - used + used_by_child}
"""


@pytest.fixture(scope="module")
def spin(tmp_path_factory: pytest.TempPathFactory) -> Function:
    """Prepare a function that computes or waits and returns the processor time it used, in seconds."""
    task = tmp_path_factory.mktemp("task")
    (task / "handler.py").write_text(dedent(SPIN))
    return prepare_function(TARGET, task, [], "handler.handler")


@needs_emulator
@pytest.mark.parametrize("event", ["compute", "child", "wait"])
def test_computing_is_counted_and_waiting_is_not(spin: Function, event: str) -> None:
    with measure.run_on_one_processor(spin, {}) as interface:
        interface.invoke("wait")  # so that starting Python does not count
        before_s = interface.processor_s
        figures = interface.invoke(event)
        assert interface.processor_s - before_s == pytest.approx(figures["processor_s"], abs=0.1)
        assert (figures["processor_s"] > 0.2) == (event != "wait")


@needs_emulator
def test_a_function_and_its_children_share_one_processor(spin: Function) -> None:
    allowed = os.sched_getaffinity(0)
    with measure.run_on_one_processor(spin, {}) as interface:
        interface.invoke("wait")
        assert len(os.sched_getaffinity(interface.pid)) == 1
        assert os.sched_getaffinity(0) == allowed


def test_a_smaller_share_stretches_computing_but_not_waiting() -> None:
    run = Measured(billed_s=0, init_s=0, peak_mb=150, log_bytes=0, kept_bytes=0, waited_s=1.0, computed_s=2.0)
    assert run.at(1_769).billed_s == 1.0 + 2.0
    assert run.at(3_538).billed_s == 1.0 + 2.0  # a second processor is of no use to one thread
    assert run.at(512).billed_s == pytest.approx(1.0 + 2.0 * 1_769 / 512, abs=1e-3)


def test_a_run_that_stops_in_time_is_billed_no_longer() -> None:
    digest = Measured(billed_s=0, init_s=0, peak_mb=150, log_bytes=0, kept_bytes=0, computed_s=100.0, max_s=300.0)
    assert (digest.at(1_769).billed_s, digest.at(512).billed_s) == (100.0, 300.0)


def test_1769_mb_get_one_processor() -> None:
    assert measure.share_of(1_769) == 1
    assert measure.share_of(1_024) == pytest.approx(0.579, abs=0.001)


# --- the measurement (make bench-cost runs all of it) --------------------------------------------------------------


@pytest.fixture
def _zips() -> None:
    """Require the finished layer and package the current function, both of which are measured."""
    if not TARGET.zip.is_file():
        missing = "left out: there is no layer to measure; run make layer"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    package()


@needs_emulator
@pytest.mark.usefixtures("_zips")
def test_an_unexpected_run_is_not_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measure.DONE, "closed", ("MARKET_CLOSED", 1, 0, False))
    with pytest.raises(LayerError, match="the measured run was not a run while the market is closed"):
        measure.measure(TARGET, cost.MEMORY_MB, no_progress)
