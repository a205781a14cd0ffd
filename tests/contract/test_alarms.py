"""What rings for what: the alarms as Terraform makes them, evaluated over weeks of log lines.

Terraform's own test terraform/tests/alarms.tftest.hcl makes the metric filters and alarms of strategies with different
schedules; tests/cloudwatch.py evaluates them. A story is what each scheduled run leaves behind: the rule's count,
Lambda's metrics, and log lines as AWS's runtime writes them.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lambda_function import run
from scripts import ROOT
from scripts.cloud import cost
from scripts.cloud.cron import Schedule, once_a_day, read_default
from tests import terraform_here
from tests.cloudwatch import Alarm, Assumptions, Metric, MetricFilter, alarm_of_terraform
from trader.model import NEW_YORK, Code, Health, Outcome
from trader.schedule import sessions

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="left out: AWS's runtime client has no wheel for this system"
)

TERRAFORM = ROOT / "terraform"
README = TERRAFORM / "modules" / "monitoring" / "README.md"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

SCHEDULES = {
    "trend": read_default(),
    "hourly": "cron(30 14-20 ? * MON-FRI *)",
    "daily": once_a_day("10:00").expression,
    "late": once_a_day("15:00").expression,
    "patient": read_default(),
    "weekly": "cron(0 15 ? * MON *)",
    "twice": "cron(0 15 ? * 2,THU *)",
    "always": "cron(0/15 14-20 * * ? *)",
}
"""The schedules of the strategies in alarms.tftest.hcl that have an alarm on silence."""

DAILY_AT = {"daily": "10:00", "late": "15:00"}

ASSUMPTIONS = {
    "as is likely": Assumptions(),
    "otherwise": Assumptions(fills_empty=False, extra_periods=0, delay=timedelta(minutes=4)),
}


# --- the alarms, as Terraform makes them ---


@dataclass(frozen=True, eq=False)
class Made:
    """What the module monitoring has made: metric filters, alarms and descriptions, by strategy."""

    filters: Mapping[str, Sequence[MetricFilter]]
    alarms: Mapping[str, Mapping[str, Alarm]]  # by strategy and kind
    descriptions: Mapping[str, str]  # by strategy-kind


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Let Terraform make the alarms on a mock provider, and return what it made."""
    terraform_here.require()
    folder = tmp_path_factory.mktemp("terraform") / "terraform"
    shutil.copytree(
        TERRAFORM, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "backend.tf")
    )
    state = state_of_test(folder)
    shutil.rmtree(folder)
    (monitoring,) = [
        module for module in state["root_module"]["child_modules"] if module["address"] == "module.monitoring"
    ]
    return read(monitoring["resources"])


def state_of_test(folder: Path) -> dict[str, Any]:
    """Return what Terraform's test has applied. `make test-slow` waits for its end, which takes four times as long."""
    env = {**os.environ, "TF_IN_AUTOMATION": "1", **terraform_here.attach_provider()}
    init = ["terraform", "init", "-backend=false", "-no-color"]
    subprocess.run(init, cwd=folder, env=env, capture_output=True, check=True)
    words = ["terraform", "test", "-json", "-verbose", "-filter=tests/alarms.tftest.hcl"]
    said: list[dict[str, Any]] = []
    with subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as terraform:
        assert terraform.stdout is not None, "it is a pipe"
        for line in terraform.stdout:
            said.append(json.loads(line))
            if "test_state" in said[-1]:
                terraform.kill()  # it would remove the resources one by one, which are in its memory only
                break
    statuses = [each["test_run"].get("status") for each in said if "test_run" in each]
    assert statuses[-1:] == ["pass"], said
    state: dict[str, Any] = said[-1]["test_state"]
    return state


def read(resources: Sequence[Mapping[str, Any]]) -> Made:
    """Return the metric filters and alarms among Terraform's resources."""
    filters: dict[str, list[MetricFilter]] = {}
    alarms: dict[str, dict[str, Alarm]] = {}
    descriptions: dict[str, str] = {}
    for each in resources:
        values = each["values"]
        if each["type"] == "aws_cloudwatch_log_metric_filter":
            (change,) = values["metric_transformation"]
            strategy = values["log_group_name"].removeprefix("/aws/lambda/prophet-trader-")
            filters.setdefault(strategy, []).append(MetricFilter(change["name"], values["pattern"], change["value"]))
        if each["type"] == "aws_cloudwatch_metric_alarm":
            strategy, _, kind = values["alarm_name"].removeprefix("prophet-trader-").partition("-")
            alarms.setdefault(strategy, {})[kind] = alarm_of_terraform(values)
            descriptions[f"{strategy}-{kind}"] = values["alarm_description"]
    return Made(filters, alarms, descriptions)


def since(alarm: Alarm, day: date) -> Alarm:
    """Return the alarm as if it had been made on another day."""
    changed = {name: re.sub(r"> \d{8}\)", f"> {day:%Y%m%d})", text) for name, text in alarm.expressions.items()}
    assert changed != alarm.expressions
    return replace(alarm, expressions=changed)


# --- stories ---


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What becomes of a scheduled run. `status` is that of its line `run`, which it does not log if it is empty."""

    status: str = Outcome.NOTHING_TO_DO
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the line, other than usual
    lines: Sequence[Mapping[str, Any]] = ()  # before it
    is_scheduled: bool = True  # the rule fires
    is_started: bool = True  # Lambda starts the function
    is_error: bool = False  # Lambda counts an error: raised, killed or timed out
    duration_s: float = 20


HEALTHY = Ending()
UNSEEN = Ending(status="", is_scheduled=False, is_started=False)

type Behavior = Callable[[datetime], Ending]


@cache
def live(made: Made, strategy: str, first: date, days: int, behavior: Behavior) -> dict[Any, Metric]:
    """Return the metrics of a strategy's runs on the `days` days from `first`."""
    metrics: dict[Any, Metric] = {}
    function = f"prophet-trader-{strategy}"
    for slot in Schedule(SCHEDULES[strategy]).times(first, days):
        ending = behavior(slot)
        end = slot + timedelta(seconds=ending.duration_s)
        if ending.is_scheduled:
            note(metrics, ("AWS/Events", "TriggeredRules", ("RuleName", function)), slot, 1)
        if ending.is_started:
            note(metrics, ("AWS/Lambda", "Errors", ("FunctionName", function)), slot, float(ending.is_error))
            note(metrics, ("AWS/Lambda", "Duration", ("FunctionName", function)), slot, 1000 * ending.duration_s)
        for line in [*ending.lines, *([run_line(slot, ending)] if ending.status else [])]:
            logged = as_logged({"strategy": strategy, **line})
            for its in made.filters[strategy]:
                if (value := its.value_of(logged)) is not None:
                    note(metrics, ("ProphetTrader", its.metric, ("strategy", strategy)), end, value)
    return metrics


def note(metrics: dict[Any, Metric], metric: Any, time: datetime, value: float) -> None:
    metrics.setdefault(metric, Metric()).add(time, value)


def run_line(slot: datetime, ending: Ending) -> dict[str, Any]:
    """Return the fields of the line `run` of a run."""
    trades = Health.of(ending.status) is not Health.IDLE
    return {
        "message": "run",
        "slot": f"{slot:%Y-%m-%dT%H:%M:%SZ}",
        "mode": "paper",
        "status": str(ending.status),
        "health": str(Health.of(ending.status)),
        "detail": "",
        "orders": 2 if ending.status == Outcome.TRADED else 0,
        "denials": {},
        "unprotected": 0,
        "settled": 0,
        "equity_usd": 100_000.0 if trades else None,
        "equities": {"trend": 100_000.0} if trades else {},
        "cash_usd": 5_000.0 if trades else None,
        "drawdown_fraction": 0.03 if trades else None,
        "duration_s": ending.duration_s,
        **ending.fields,
    }


def as_logged(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line as AWS's runtime writes it to the log, with its fields."""
    from awslambdaric.lambda_runtime_log_utils import JsonFormatter

    extra = {name: value for name, value in fields.items() if name != "message"}
    record = logging.getLogger("trader").makeRecord(
        "trader", logging.INFO, "", 1, fields["message"], (), None, extra=extra
    )
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


@cache
def usual(strategy: str, then: Behavior = lambda _: HEALTHY) -> Behavior:
    """Return a behavior that does nothing while the market is closed or the run is not due, and otherwise `then`."""

    def behave(slot: datetime) -> Ending:
        if strategy in DAILY_AT and f"{slot.astimezone(NEW_YORK):%H:%M}" != DAILY_AT[strategy]:
            return Ending(status=Code.NOT_DUE, duration_s=1)
        return then(slot) if sessions.is_open(slot) else Ending(status=Code.MARKET_CLOSED, duration_s=2)

    return behave


def rings(
    made: Made, strategy: str, kind: str, first: date, days: int, behavior: Behavior, assumptions: Assumptions
) -> list[datetime]:
    """Return when an alarm rings in a story. The alarm was made on the first day, and is looked at from the second."""
    alarm = made.alarms[strategy][kind]
    alarm = since(alarm, first) if kind == "silent" else alarm
    begin = datetime.combine(first, time(), UTC)
    metrics = live(made, strategy, first, days, behavior)
    return list(alarm.times_it_rings(metrics, begin + DAY, begin + days * DAY, assumptions))


def test_the_stories_lines_have_the_fields_of_a_real_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    env = {"JOURNAL": f"folder:{tmp_path}/journal", "ACCOUNT_FILE": f"{tmp_path}/account.json", "UNIVERSE_SIZE": "2"}
    monitored = logging.getLogger("trader")
    monitored.addHandler(caplog.handler)
    try:
        run({"time": "2022-12-28T20:45:00Z"}, env=env)
    finally:
        monitored.removeHandler(caplog.handler)
    real = next(record for record in caplog.records if record.getMessage() == "run")
    ours = run_line(BREAK, HEALTHY) | {"strategy": "trend"}
    usual_fields = vars(logging.makeLogRecord({})).keys()
    assert vars(real).keys() - usual_fields - {"message", "asctime"} == ours.keys() - {"message"}


# --- quiet ---

SPANS = {
    "the end of summer time, Thanksgiving, Christmas and New Year": (date(2026, 10, 26), 80),
    "the beginning of summer time and Good Friday": (date(2027, 3, 8), 30),
    "Juneteenth and Independence Day": (date(2027, 6, 10), 34),
}


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("strategy", SCHEDULES)
def test_a_healthy_strategy_is_never_called_silent(
    made: Made, strategy: str, span: tuple[date, int], assumptions: Assumptions
) -> None:
    assert rings(made, strategy, "silent", *span, usual(strategy), assumptions) == []


@pytest.mark.parametrize(
    "kind", ["errors", "duration", "attention", "order-problems", "unprotected", "drawdown", "missing-run"]
)
@pytest.mark.parametrize("strategy", ["trend", "late"])
def test_a_healthy_month_rings_nothing(made: Made, strategy: str, kind: str) -> None:
    assert rings(made, strategy, kind, date(2026, 11, 9), 30, usual(strategy), Assumptions()) == []


@pytest.mark.parametrize("strategy", ["trend", "hourly", "daily", "late"])
def test_a_lost_session_between_healthy_ones_is_not_called_silence(made: Made, strategy: str) -> None:
    lost = usual(strategy, lambda slot: replace(HEALTHY, status="" if slot.date() == date(2026, 11, 18) else "TRADED"))
    assert rings(made, strategy, "silent", date(2026, 11, 9), 14, lost, Assumptions()) == []


def test_one_bad_slot_between_good_ones_rings_nothing(made: Made) -> None:
    def behave(slot: datetime) -> Ending:
        return Ending(status=Code.NO_PRICE_DATA) if f"{slot:%H:%M}" == "14:30" else HEALTHY

    assert rings(made, "trend", "attention", date(2026, 11, 9), 7, usual("trend", behave), Assumptions()) == []


def test_a_strategy_deployed_on_a_weekend_is_not_called_silent_before_it_could_run(made: Made) -> None:
    assert rings(made, "trend", "silent", date(2026, 11, 21), 9, usual("trend"), Assumptions()) == []


@pytest.mark.parametrize("strategy", ["off", "unheard", "monthly", "first", "seasonal"])
def test_a_strategy_that_is_off_or_not_on_every_week_has_no_alarm_on_silence(made: Made, strategy: str) -> None:
    assert made.alarms[strategy].keys() == made.alarms["trend"].keys() - {"silent"}


# --- every bad ending rings ---

BREAK = datetime(2026, 11, 17, 14, 30, tzinfo=UTC)
"""The first slot of a Tuesday's session, a week before Thanksgiving: from here on all goes wrong."""

LATE = {
    "at once": 4 * MINUTE,
    "at the next run": 20 * MINUTE,
    "after 15 minutes": 20 * MINUTE,
    "after 12 minutes": 15 * MINUTE,
    "after 2 sessions": 2 * DAY + 2 * HOUR,
}
"""The words of the README for how late an alarm rings after the first bad run, and what they allow."""


@dataclass(frozen=True, eq=False)
class Wrong:
    """A bad ending: what becomes of each run from BREAK on, the alarm that rings, and how late."""

    ending: Ending
    alarm: str
    late: str
    is_always: bool = False  # also while the market is closed


def attention(status: Code | str) -> Wrong:
    return Wrong(Ending(status=status), "attention", "after 15 minutes")


def failed(**more: Any) -> Ending:
    return Ending(status=Outcome.FAILED, is_error=True, **more)


WRONG = {
    "the account is blocked": attention(Code.ACCOUNT_BLOCKED),
    "no prices, for weeks": attention(Code.NO_PRICE_DATA),
    "stale prices": attention(Code.STALE_PRICE),
    "every forecast fails": attention(Code.FORECAST_FAILED),
    "every run is out of time": attention(Code.OUT_OF_TIME),
    "every order is refused": Wrong(
        Ending(status=Code.ORDER_REJECTED, fields={"denials": {"ORDER_REJECTED": 3}}), "order-problems", "at once"
    ),
    "the two clocks disagree": attention("CLOCK_SKEW"),
    "a status that nobody has thought of": attention("SOMETHING_NEW"),
    "the halt switch is on, or cannot be read": attention(Code.HALTED),
    "the halt switch is forgotten": Wrong(Ending(status=Code.HALTED), "silent", "after 2 sessions"),
    "the market counts as closed for ever": Wrong(Ending(status=Code.MARKET_CLOSED), "silent", "after 2 sessions"),
    "no run is ever due": Wrong(Ending(status=Code.NOT_DUE), "silent", "after 2 sessions"),
    "an earlier run is always under way": Wrong(Ending(status=Code.UNDER_WAY), "silent", "after 2 sessions"),
    "the rule is disabled or deleted": Wrong(UNSEEN, "silent", "after 2 sessions", is_always=True),
    "the function is deleted": Wrong(
        Ending(status="", is_started=False), "missing-run", "after 12 minutes", is_always=True
    ),
    "runs are throttled": Wrong(Ending(status="", is_started=False), "missing-run", "after 12 minutes"),
    "no line reaches the log": Wrong(Ending(status=""), "missing-run", "after 12 minutes"),
    "every slot is claimed before its run": Wrong(Ending(status=Code.ALREADY_RAN), "missing-run", "after 12 minutes"),
    "a run fails": Wrong(failed(), "errors", "at once"),
    "a setting makes no sense, or a key is missing": Wrong(Ending(status="", is_error=True), "errors", "at once"),
    "a run is killed": Wrong(Ending(status="", is_error=True), "errors", "at once"),
    "a run is killed and its error is not counted": Wrong(Ending(status=""), "missing-run", "after 12 minutes"),
    "a run times out": Wrong(Ending(status="", is_error=True, duration_s=300), "errors", "at once"),
    "a run is slow": Wrong(Ending(duration_s=250), "duration", "at once"),
    "a run is cut off between its orders": Wrong(
        Ending(lines=[{"message": "interrupted", "slot": "2026-11-17T14:15:00Z", "orders": 2}]),
        "order-problems",
        "at the next run",
    ),
    "an order is rejected after its run": Wrong(Ending(fields={"settled": 1}), "order-problems", "at the next run"),
    "an order is filled after its run": Wrong(Ending(fields={"settled": 2}), "order-problems", "at the next run"),
    "one order of several is refused": Wrong(
        Ending(status=Outcome.TRADED, fields={"denials": {"ORDER_REJECTED": 1}}), "order-problems", "at once"
    ),
    "a holding has no working stop": Wrong(Ending(fields={"unprotected": 1}), "unprotected", "at once"),
    "a halted bot has a holding without a stop": Wrong(
        Ending(status=Code.HALTED, fields={"unprotected": 1}), "unprotected", "at once"
    ),
    "the equity is 20 % below its highest": Wrong(Ending(fields={"drawdown_fraction": 0.2}), "drawdown", "at once"),
}
"""Every bad ending, in the README's words."""


@cache
def go_wrong(wrong: Wrong) -> Behavior:
    """Return the behavior of the strategy trend that is healthy until BREAK."""
    healthy, bad = usual("trend"), usual("trend", lambda _: wrong.ending)
    return lambda slot: healthy(slot) if slot < BREAK else wrong.ending if wrong.is_always else bad(slot)


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_bad_ending_rings_its_alarm_in_time(made: Made, wrong: Wrong, assumptions: Assumptions) -> None:
    first, *_ = [*rings(made, "trend", wrong.alarm, date(2026, 11, 13), 8, go_wrong(wrong), assumptions), None]
    assert first is not None, "it never rings"
    ended = BREAK + timedelta(seconds=wrong.ending.duration_s)
    # The last healthy run was at 15:45 in New York on the day before, when the count of sessions begins.
    if wrong.alarm == "silent":
        ended = BREAK.replace(day=16, hour=21, minute=0)
        assert first >= ended + 2 * DAY, "two sessions are not over yet"
    assert BREAK <= first <= ended + LATE[wrong.late] + assumptions.delay


def test_the_readme_says_what_rings_for_what() -> None:
    rows = re.findall(r"^\| (.+?) \| `([\w-]+)` \| (.+?) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    told = {what: (alarm, late) for what, alarm, late in rows if late in LATE}
    assert told == {what: (wrong.alarm, wrong.late) for what, wrong in WRONG.items()}


def test_equity_that_is_halved_in_a_month_rings_once_a_fifth_is_lost(made: Made) -> None:
    def behave(slot: datetime) -> Ending:
        return Ending(fields={"drawdown_fraction": (slot - datetime(2026, 11, 9, tzinfo=UTC)) / (60 * DAY)})

    first, *again = rings(made, "trend", "drawdown", date(2026, 11, 9), 26, usual("trend", behave), Assumptions())
    assert first.date() == date(2026, 11, 23)  # two weeks: the first slot after a fall of 12 / 60 was on a weekend
    assert len(again) <= 2  # once more after a weekend or a holiday, not every morning


@pytest.mark.parametrize("strategy", ["hourly", "daily", "late"])
def test_a_strategy_with_one_run_an_hour_or_less_needs_one_bad_run_to_ring(made: Made, strategy: str) -> None:
    def behave(slot: datetime) -> Ending:
        return Ending(status=Code.NO_PRICE_DATA) if slot.date() == date(2026, 11, 18) else HEALTHY

    assert rings(made, strategy, "attention", date(2026, 11, 16), 4, usual(strategy, behave), Assumptions())


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
@pytest.mark.parametrize(
    ("strategy", "days"),
    [("hourly", 2), ("daily", 2), ("late", 3), ("patient", 4), ("always", 2), ("weekly", 7), ("twice", 7)],
)
def test_a_disabled_rule_is_found_whatever_the_schedule(
    made: Made, strategy: str, days: int, assumptions: Assumptions
) -> None:
    """A strategy runs once more on Monday 30 November 2026, and then never again."""
    last = datetime(2026, 11, 30, 23, tzinfo=UTC)
    behave = usual(strategy)
    found = rings(
        made,
        strategy,
        "silent",
        date(2026, 11, 14),
        26,
        lambda slot: behave(slot) if slot < last else UNSEEN,
        assumptions,
    )
    (first,) = found
    assert last - 8 * HOUR + days * DAY <= first <= last + days * DAY + 2 * HOUR


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
def test_a_strategy_that_never_ran_rings_after_its_sessions(made: Made, assumptions: Assumptions) -> None:
    (first,) = rings(made, "trend", "silent", date(2026, 11, 14), 12, lambda _: UNSEEN, assumptions)
    assert first.date() == date(2026, 11, 18)


def test_weeks_of_silence_are_told_once(made: Made) -> None:
    assert (
        len(rings(made, "trend", "silent", date(2026, 11, 9), 45, go_wrong(WRONG["no run is ever due"]), Assumptions()))
        == 1
    )


def test_a_resumed_strategy_is_no_longer_called_silent(made: Made) -> None:
    def behave(slot: datetime) -> Ending:
        return Ending(status=Code.HALTED) if date(2026, 11, 10) <= slot.date() < date(2026, 11, 17) else HEALTHY

    alarm = since(made.alarms["trend"]["silent"], date(2026, 11, 2))
    metrics = live(made, "trend", date(2026, 11, 2), 20, usual("trend", behave))
    states = [alarm.rings(metrics, datetime(2026, 11, 17, hour, tzinfo=UTC), Assumptions()) for hour in (14, 15, 16)]
    assert states == [True, False, False]  # the market opens at 14:30


# --- numbers and words ---


def test_no_alarm_exceeds_what_cloudwatch_allows(made: Made) -> None:
    for alarms in made.alarms.values():
        for alarm in alarms.values():
            alarm.check_limits()


def test_a_strategy_has_at_most_eight_alarms_and_ten_metrics(made: Made) -> None:
    for strategy, alarms in made.alarms.items():
        assert len(alarms) <= 8
        assert len({each.metric for each in made.filters[strategy]}) <= 10


def test_the_free_tier_holds_one_strategy_as_make_cost_counts_it(made: Made) -> None:
    metrics = {each.metric for each in made.filters["trend"]}
    watched = sum(len(alarm.sources) for alarm in made.alarms["trend"].values())
    assert (len(metrics), watched) == (cost.METRICS, cost.ALARM_METRICS)
    assert max(len(metrics), watched) <= 10


def test_every_alarm_that_reads_the_log_reads_a_metric_that_exists(made: Made) -> None:
    for strategy, alarms in made.alarms.items():
        known = {each.metric for each in made.filters[strategy]}
        sources = [source for alarm in alarms.values() for source in alarm.sources.values()]
        assert {source.name for source in sources if source.namespace == "ProphetTrader"} <= known


def test_every_description_says_what_to_do(made: Made) -> None:
    commands = re.compile(r"make (logs|deploy|resume|reconcile|halt)")
    assert [name for name, text in made.descriptions.items() if not commands.search(text)] == []


def test_every_query_that_a_description_names_is_there(made: Made) -> None:
    named = {name for text in made.descriptions.values() for name in re.findall(r"QUERY=(\w+)", text)}
    assert named <= {path.stem for path in (TERRAFORM / "queries").glob("*.cwli")}


@pytest.mark.parametrize(
    ("strategy", "limit"),
    [("trend", 0.2), ("patient", 0.2), ("daily", 0.1), ("late", 0.3)],
    ids=["no setting", "no limit of the bot's own", "the bot's own limit", "set for the alarm"],
)
def test_the_limit_of_drawdown_is_the_bots_own_unless_set(made: Made, strategy: str, limit: float) -> None:
    assert made.alarms[strategy]["drawdown"].threshold == limit


def test_an_alarm_on_silence_does_not_count_what_was_before_it(made: Made) -> None:
    today = datetime.now(UTC).date()
    (text,) = {alarms["silent"].expressions["silent"] for alarms in [made.alarms["trend"]]}
    assert re.findall(r"> (\d{8})\)", text)[0] in {f"{today - back * DAY:%Y%m%d}" for back in (0, 1)}
