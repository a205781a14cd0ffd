"""What is told how: the messages of runs, the digest, and the two alarms as Terraform makes them, over weeks.

A message is what the function's own `trader.problems` makes of a run's report. The alarms are those of Terraform's own
test terraform/tests/alarms.tftest.hcl; tests/cloudwatch.py evaluates them on log lines as AWS's runtime writes them.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from lambda_function import do, run
from scripts import ROOT
from scripts.cloud import cost
from scripts.cloud.cron import Schedule, read_default
from tests import terraform_here
from tests.builders import account, settings
from tests.cloudwatch import Alarm, Assumptions, Metric, MetricFilter, alarm_of_terraform
from trader import problems
from trader.codec import encode
from trader.digest import run as digest
from trader.digest.day import Day, count_silent, summarize
from trader.journal.base import Run
from trader.journal.record import build_report
from trader.model import NEW_YORK, Code, Denial, Observation, Order, OrderStatus, Outcome, Settled, Side, Unprotected
from trader.problems import Kind, Previous
from trader.schedule import sessions

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="left out: AWS's runtime client has no wheel for this system"
)

TERRAFORM = ROOT / "terraform"
README = TERRAFORM / "modules" / "monitoring" / "README.md"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

LIKELY = Assumptions()
ASSUMPTIONS = {
    "as is likely": LIKELY,
    "otherwise": Assumptions(fills_empty=False, extra_periods=0, delay=timedelta(minutes=4)),
}

BREAK = datetime(2026, 11, 17, 14, 30, tzinfo=UTC)
"""The first slot of a Tuesday's session, a week before Thanksgiving: from here on all goes wrong."""


# --- the alarms, as Terraform makes them ---


@dataclass(frozen=True, eq=False)
class Made:
    """What Terraform has made: metric filters by strategy, alarms and descriptions by name, and where failures go."""

    filters: Mapping[str, Sequence[MetricFilter]]
    alarms: Mapping[str, Alarm]
    descriptions: Mapping[str, str]
    environments: Mapping[str, Mapping[str, str]]  # of the functions, by strategy
    failures_go_to: Sequence[str]
    topic: str


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
    return read([each for module in state["root_module"]["child_modules"] for each in module["resources"]])


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
    """Return what matters here of Terraform's resources."""

    def list_values(kind: str) -> list[Mapping[str, Any]]:
        return [each["values"] for each in resources if each["type"] == kind]

    filters: dict[str, list[MetricFilter]] = {}
    for its in list_values("aws_cloudwatch_log_metric_filter"):
        (change,) = its["metric_transformation"]
        assert not change["dimensions"], "a dimension makes a metric of each value"
        strategy = its["log_group_name"].removeprefix("/aws/lambda/prophet-trader-")
        filters.setdefault(strategy, []).append(MetricFilter(change["name"], its["pattern"], change["value"]))
    alarms = {its["alarm_name"]: its for its in list_values("aws_cloudwatch_metric_alarm")}
    variables = [its["environment"][0]["variables"] for its in list_values("aws_lambda_function")]
    (topic,) = list_values("aws_sns_topic")
    return Made(
        filters=filters,
        alarms={name.removeprefix("prophet-trader-"): alarm_of_terraform(its) for name, its in alarms.items()},
        descriptions={name: its["alarm_description"] for name, its in alarms.items()},
        environments={its["STRATEGY"]: its for its in variables},
        failures_go_to=[
            its["destination_config"][0]["on_failure"][0]["destination"]
            for its in list_values("aws_lambda_function_event_invoke_config")
        ],
        topic=topic["arn"],
    )


def since(alarm: Alarm, day: date) -> Alarm:
    """Return the alarm as if it had been made on another day."""
    changed = {name: re.sub(r"> \d{8}\)", f"> {day:%Y%m%d})", text) for name, text in alarm.expressions.items()}
    assert changed != alarm.expressions
    return replace(alarm, expressions=changed)


# --- log lines ---


def as_logged(fields: Mapping[str, Any], level: int = logging.INFO) -> dict[str, Any]:
    """Return a line as AWS's runtime writes it to the log, with its fields."""
    from awslambdaric.lambda_runtime_log_utils import JsonFormatter

    extra = {name: value for name, value in fields.items() if name != "message"}
    record = logging.getLogger("trader").makeRecord("trader", level, "", 1, fields["message"], (), None, extra=extra)
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def measure(made: Made, lines: Sequence[tuple[datetime, str, Mapping[str, Any]]]) -> dict[Any, Metric]:
    """Return the metrics of log lines, each with its time and its strategy."""
    metrics: dict[Any, Metric] = {}
    for moment, strategy, line in lines:
        for its in made.filters[strategy]:
            if (value := its.value_of(line)) is not None:
                metrics.setdefault(("ProphetTrader", its.metric), Metric()).add(moment, value)
    return metrics


DIGEST = as_logged({"message": "digest", "strategy": "trend", "health": "healthy"}) if sys.platform == "linux" else {}


def list_digests(
    first: date, days: int, *, until: datetime | None = None, on_holidays: bool = True, strategy: str = "trend"
) -> list[tuple[datetime, str, Mapping[str, Any]]]:
    """Return the lines of a strategy's digests on the weekdays from `first`, with or without holidays."""
    found: list[tuple[datetime, str, Mapping[str, Any]]] = []
    for day in (first + number * DAY for number in range(days)):
        moment = datetime.combine(day, digest.AT, NEW_YORK) + MINUTE
        is_due = day.weekday() < 5 and (on_holidays or sessions.session(day) is not None)
        if is_due and (until is None or moment < until):
            found.append((moment.astimezone(UTC), strategy, DIGEST))
    return found


def rings(
    made: Made,
    kind: str,
    first: date,
    days: int,
    lines: Sequence[tuple[datetime, str, Mapping[str, Any]]],
    assumptions: Assumptions = LIKELY,
) -> list[datetime]:
    """Return when an alarm rings in a story. The alarm was made on the first day, and is looked at from the second."""
    alarm = since(made.alarms[kind], first) if kind == "silent" else made.alarms[kind]
    begin = datetime.combine(first, time(), UTC)
    return list(alarm.times_it_rings(measure(made, lines), begin + DAY, begin + days * DAY, assumptions))


def list_lines(caplog: pytest.LogCaptureFixture, act: Callable[[], object]) -> list[logging.LogRecord]:
    """Return the lines that the function logs."""
    monitored = logging.getLogger("trader")
    monitored.addHandler(caplog.handler)
    try:
        act()
    finally:
        monitored.removeHandler(caplog.handler)
    return list(caplog.records)


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return {"JOURNAL": f"folder:{tmp_path}/journal", "ACCOUNT_FILE": f"{tmp_path}/account.json", "UNIVERSE_SIZE": "2"}


def test_a_real_digest_is_counted(made: Made, env: Mapping[str, str], caplog: pytest.LogCaptureFixture) -> None:
    holiday = {"do": "digest", "time": "2026-11-26T21:15:00Z"}
    line = next(each for each in list_lines(caplog, lambda: do(holiday, env=env)) if each.message == "digest")
    logged = as_logged({"message": line.message})
    assert [its.metric for its in made.filters["trend"] if its.value_of(logged)] == ["Digests"]


def test_the_line_of_a_run_has_the_fields_that_the_dashboard_draws(
    env: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    records = list_lines(caplog, lambda: run({"time": "2022-12-28T20:45:00Z"}, env=env))
    line = next(vars(each) for each in records if each.message == "run")
    assert line["equities"] == {"trend": line["equity_usd"]}
    assert {"strategy", "status", "orders", "settled", "unprotected", "duration_s", "denials"} <= line.keys()


# --- the alarm on silence ---

SPANS = {
    "the end of summer time, Thanksgiving, Christmas and New Year": (date(2026, 10, 26), 80),
    "the beginning of summer time and Good Friday": (date(2027, 3, 8), 30),
    "Juneteenth and Independence Day": (date(2027, 6, 10), 34),
}


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("on_holidays", [True, False], ids=["holidays have a line", "holidays have none"])
def test_strategies_with_their_digests_are_never_called_silent(
    made: Made, span: tuple[date, int], on_holidays: bool, assumptions: Assumptions
) -> None:
    lines = list_digests(*span, on_holidays=on_holidays)
    assert rings(made, "silent", *span, lines, assumptions) == []


def test_one_lost_digest_is_not_called_silence(made: Made) -> None:
    lines = [each for each in list_digests(date(2026, 11, 9), 14) if each[0].date() != date(2026, 11, 18)]
    assert rings(made, "silent", date(2026, 11, 9), 14, lines) == []


def test_what_was_deployed_on_a_weekend_is_not_called_silent_before_its_first_digest(made: Made) -> None:
    assert rings(made, "silent", date(2026, 11, 21), 9, list_digests(date(2026, 11, 21), 9)) == []


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
def test_what_never_had_a_digest_rings_after_two_sessions(made: Made, assumptions: Assumptions) -> None:
    (first,) = rings(made, "silent", date(2026, 11, 14), 12, [], assumptions)
    assert first.date() == date(2026, 11, 18)


def test_weeks_of_silence_are_told_once(made: Made) -> None:
    lines = list_digests(date(2026, 11, 9), 45, until=BREAK)
    assert len(rings(made, "silent", date(2026, 11, 9), 45, lines)) == 1


def test_the_first_digest_afterwards_ends_the_silence(made: Made) -> None:
    lines = [each for each in list_digests(date(2026, 11, 2), 20) if not 10 <= each[0].day < 17]
    alarm, metrics = since(made.alarms["silent"], date(2026, 11, 2)), measure(made, lines)
    hours = [datetime(2026, 11, 17, hour, tzinfo=UTC) for hour in (20, 21, 22)]
    assert [alarm.rings(metrics, hour, Assumptions()) for hour in hours] == [True, True, False]  # 16:15 is 21:15 UTC


def test_it_is_quiet_as_long_as_one_of_two_strategies_has_digests(made: Made) -> None:
    first, days = date(2026, 11, 9), 30
    lines = [*list_digests(first, days, until=BREAK), *list_digests(first, days, strategy="interval")]
    assert rings(made, "silent", first, days, sorted(lines, key=lambda line: line[0])) == []


def test_it_does_not_count_what_was_before_it(made: Made) -> None:
    today = datetime.now(UTC).date()
    (day,) = re.findall(r"> (\d{8})\)", made.alarms["silent"].expressions["silent"])
    assert day in {f"{today - back * DAY:%Y%m%d}" for back in (0, 1)}


# --- every trouble is told ---


def nothing(run: Run) -> None:
    """Leave a run as it is."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Wrong:
    """A trouble: what each run from BREAK on is like, what tells it, and how late.

    A run without a status leaves no report. `told` is what the README says: a message by its kind, the digest, an
    alarm, or the e-mail by which Lambda reports an event that it could not deliver or finish.
    """

    told: str
    late: str
    status: str = Outcome.NOTHING_TO_DO
    change: Callable[[Run], None] = nothing
    used_fraction: float = 0.1  # of the run's time
    is_alone: bool = True  # no other strategy is deployed
    has_digest: bool = True  # its function still runs for the digest, and the line of it is read


def message(kind: Kind) -> str:
    return f"message `{kind}`"


def no_work(status: str) -> Wrong:
    return Wrong(status=status, told=message(Kind.ATTENTION), late="after 15 minutes")


def unhealthy(status: str) -> Wrong:
    return Wrong(status=status, told="digest", late="after 2 sessions")


def refuse(run: Run) -> None:
    run.outcomes.append(Denial(symbol="KO", code=Code.ORDER_REJECTED, detail="no"))


def settle(status: OrderStatus) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        run.settled.append(
            Settled(
                client_order_id="trend-x-KO-buy",
                symbol="KO",
                side=Side.BUY,
                quantity=3,
                recorded_status=OrderStatus.PENDING_NEW,
                status=status,
                filled_quantity=3 if status is OrderStatus.FILLED else 0,
            )
        )

    return change


def lose_sight(run: Run) -> None:
    sale = Order(client_order_id="trend-x-KO-sell", symbol="KO", side=Side.SELL, quantity=3, price_usd=60)
    run.outcomes.append(replace(sale, status=OrderStatus.UNKNOWN))


def lay_bare(run: Run) -> None:
    run.is_guarded = True
    run.unprotected = {"KO": Unprotected(symbol="KO", reason="the stop was refused", is_ours=True)}


def recover(run: Run) -> None:
    run.recovered.append(BREAK - 15 * MINUTE)


def fall(run: Run) -> None:
    run.observation = Observation(
        slot=run.slot,
        now=run.now,
        account=account(80_000),
        positions={},
        open_orders=(),
        ranking={},
        closes={},
        peak_equity_usd=100_000,
    )


WRONG = {
    "the account is blocked": Wrong(status=Code.ACCOUNT_BLOCKED, told=message(Kind.BLOCKED), late="at once"),
    "no prices, for weeks": no_work(Code.NO_PRICE_DATA),
    "stale prices": no_work(Code.STALE_PRICE),
    "every forecast fails": no_work(Code.FORECAST_FAILED),
    "every run is out of time": no_work(Code.OUT_OF_TIME),
    "the two clocks disagree": no_work("CLOCK_SKEW"),
    "a status that nobody has thought of": no_work("SOMETHING_NEW"),
    "the halt switch is on, or cannot be read": Wrong(
        status=Code.HALTED, told=message(Kind.HALTED), late="after 15 minutes"
    ),
    "the halt switch is forgotten": unhealthy(Code.HALTED),
    "the market counts as closed for ever": unhealthy(Code.MARKET_CLOSED),
    "no run is ever due": unhealthy(Code.NOT_DUE),
    "an earlier run is always under way": unhealthy(Code.UNDER_WAY),
    "every slot is claimed before its run": unhealthy(""),
    "the rule of the runs is disabled or deleted": unhealthy(""),
    "a run fails": Wrong(status=Outcome.FAILED, told=message(Kind.FAILED), late="at once"),
    "a setting makes no sense, or a key is missing": Wrong(status="", told="Lambda's e-mail", late="at once"),
    "a run is killed": Wrong(status="", told="Lambda's e-mail", late="at once"),
    "a run times out": Wrong(status="", told="Lambda's e-mail", late="at once"),
    "runs are throttled, or too late": Wrong(status="", told="Lambda's e-mail", late="after a minute"),
    "a run is cut off between its orders": Wrong(
        change=recover, told=message(Kind.INTERRUPTED), late="at the next run"
    ),
    "a run is slow": Wrong(used_fraction=0.9, told=message(Kind.SLOW), late="at once"),
    "every order is refused": Wrong(
        status=Code.ORDER_REJECTED, change=refuse, told=message(Kind.REFUSED), late="at once"
    ),
    "one order of several is refused": Wrong(
        status=Outcome.TRADED, change=refuse, told=message(Kind.REFUSED), late="at once"
    ),
    "an order's fate is unknown": Wrong(
        status=Outcome.TRADED, change=lose_sight, told=message(Kind.ORDER_UNKNOWN), late="at once"
    ),
    "an order is rejected after its run": Wrong(
        change=settle(OrderStatus.REJECTED), told=message(Kind.CHANGED), late="at the next run"
    ),
    "an order is filled after its run": Wrong(
        change=settle(OrderStatus.FILLED), told=message(Kind.CHANGED), late="at the next run"
    ),
    "a holding has no working stop": Wrong(change=lay_bare, told=message(Kind.UNPROTECTED), late="at once"),
    "a halted bot has a holding without a stop": Wrong(
        status=Code.HALTED, change=lay_bare, told=message(Kind.UNPROTECTED), late="at once"
    ),
    "the equity is 20 % below its highest": Wrong(change=fall, told=message(Kind.DRAWDOWN), late="at once"),
    "a function is deleted, beside others": Wrong(
        status="", is_alone=False, has_digest=False, told="digest", late="on the next session"
    ),
    "no function runs any more": Wrong(status="", has_digest=False, told="alarm `silent`", late="after 2 sessions"),
    "no line of any function reaches the log": Wrong(has_digest=False, told="alarm `silent`", late="after 2 sessions"),
    "a message cannot be sent": Wrong(told="alarm `unsent`", late="at once"),
}
"""Every trouble, in the README's words."""

LATE = {
    "at once": timedelta(),
    "at the next run": timedelta(),  # the run at BREAK finds what an earlier one left
    "after 15 minutes": 15 * MINUTE,
    "after a minute": MINUTE,
    "on the next session": DAY + 7 * HOUR,  # its close, and 15 minutes more
    "after 2 sessions": 2 * DAY + 10 * HOUR,  # that is on the evening of the second one
}
"""The README's words for how late a trouble is told, and the time after BREAK that they allow."""

MESSAGES = {what: wrong for what, wrong in WRONG.items() if wrong.told.startswith("message")}
DIGESTS = {what: wrong for what, wrong in WRONG.items() if wrong.told == "digest" and wrong.is_alone}
OF_LAMBDA = {what: wrong for what, wrong in WRONG.items() if wrong.told == "Lambda's e-mail"}
SETTINGS = settings(JOURNAL="s3://bucket")


def list_slots(first: date, days: int) -> list[datetime]:
    """Return the slots of the default schedule within the sessions of these days."""
    return [slot for slot in Schedule(read_default()).times(first, days) if sessions.is_open(slot)]


def tell(wrong: Wrong, first: date, days: int, until: datetime | None = None) -> list[tuple[datetime, str]]:
    """Return what the messages of the scheduled runs tell, by slot and kind.

    While the market is open, runs are bad from BREAK on, until `until`; the others are good.
    """
    previous: Previous | None = None
    told = []
    for slot in Schedule(read_default()).times(first, days):
        run = Run(settings=SETTINGS, slot=slot, now=slot)
        good = Outcome.NOTHING_TO_DO if sessions.is_open(slot) else Code.MARKET_CLOSED
        bad = wrong if sessions.is_open(slot) and slot >= BREAK and not (until and slot >= until) else None
        if bad:
            bad.change(run)
        report = build_report(run, bad.status if bad else good)
        found = problems.find(run, report, bad.used_fraction if bad else 0.1, previous)
        if sent := problems.write("trend", slot, "paper", found):
            told += [(slot, kind) for kind in re.findall(r"^- ([a-z ]+):", sent.text, re.MULTILINE)]
        previous = problems.read_previous({"report": {**report, "problems": encode(found)}})
    return told


def test_a_healthy_month_sends_no_message() -> None:
    assert tell(WRONG["a run fails"], date(2026, 11, 9), 30, until=BREAK) == []


@pytest.mark.parametrize("wrong", MESSAGES.values(), ids=MESSAGES)
def test_a_trouble_is_told_by_its_message_in_time(wrong: Wrong) -> None:
    kind = wrong.told.removeprefix("message `").removesuffix("`")
    told = [slot - BREAK for slot, its_kind in tell(wrong, date(2026, 11, 16), 2) if its_kind == kind]
    assert told == [LATE[wrong.late]]


@pytest.mark.parametrize("wrong", MESSAGES.values(), ids=MESSAGES)
def test_what_lasts_for_a_week_is_told_once_a_day(wrong: Wrong) -> None:
    told = [(slot.day, kind) for slot, kind in tell(wrong, date(2026, 11, 16), 5)]
    assert {day for day, _ in told} == {17, 18, 19, 20}
    assert len(set(told)) == len(told)


def test_one_bad_slot_between_good_ones_sends_no_message() -> None:
    assert tell(WRONG["no prices, for weeks"], date(2026, 11, 16), 3, until=BREAK + MINUTE) == []


@pytest.mark.parametrize("wrong", DIGESTS.values(), ids=DIGESTS)
def test_sessions_without_a_healthy_run_are_told_by_the_digest_in_time(made: Made, wrong: Wrong) -> None:
    """Count as the digest does: in a day's records, and in the days that the digests before have kept."""
    days = [date(2026, 11, 13) + number * DAY for number in range(12)]
    history: list[Day] = []
    told = []
    for day in filter(sessions.session, days):
        records = []
        for slot in list_slots(day, 1):
            status = wrong.status if slot >= BREAK else Outcome.NOTHING_TO_DO
            report = build_report(Run(settings=SETTINGS, slot=slot, now=slot), status)
            if status not in {"", Code.NOT_DUE}:  # these leave no record
                records.append((encode(slot), {"report": report}))
        history.append(Day(day=day.isoformat(), healthy_runs=summarize(records).healthy))
        if count_silent(history) >= int(made.environments["trend"]["SILENT_SESSIONS"]):
            told.append(datetime.combine(day, digest.AT, NEW_YORK))
    assert BREAK + DAY <= told[0] <= BREAK + LATE[wrong.late]


def test_a_function_that_is_gone_is_told_by_the_digest_of_another_on_the_next_session(made: Made) -> None:
    wrong = WRONG["a function is deleted, beside others"]
    watch = {name: its["WATCH"] for name, its in made.environments.items()}
    assert watch == {"trend": "interval", "interval": "trend"}
    before = [Day(day="2026-11-17", watched=("trend",))]
    other = settings(STRATEGY="interval", WATCH=watch["interval"])
    assert digest.find_silent(other, before, seen=set()) == ["trend"]
    assert datetime(2026, 11, 18, *(digest.AT.hour, digest.AT.minute), tzinfo=NEW_YORK) <= BREAK + LATE[wrong.late]


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
def test_if_no_digest_comes_any_more_the_alarm_rings_on_the_second_session(
    made: Made, assumptions: Assumptions
) -> None:
    late = {wrong.late for wrong in WRONG.values() if wrong.told == "alarm `silent`"}
    (first, *_) = rings(
        made, "silent", date(2026, 11, 9), 14, list_digests(date(2026, 11, 9), 14, until=BREAK), assumptions
    )
    last = datetime(2026, 11, 16, 21, 15, tzinfo=UTC)
    assert last + 2 * DAY <= first <= last + 2 * DAY + 4 * HOUR
    assert {LATE[each] for each in late} == {2 * DAY + 10 * HOUR}
    assert first <= BREAK + 2 * DAY


@pytest.mark.parametrize("assumptions", ASSUMPTIONS.values(), ids=ASSUMPTIONS)
def test_a_message_that_cannot_be_sent_rings_at_once_and_once(made: Made, assumptions: Assumptions) -> None:
    line = as_logged({"message": "message not sent", "strategy": "trend", "channel": "sns"}, logging.ERROR)
    lines = [(slot, "trend", line) for slot in list_slots(BREAK.date(), 1)]
    first, *more = rings(made, "unsent", date(2026, 11, 13), 8, lines, assumptions)
    assert BREAK <= first <= BREAK + assumptions.delay + 2 * MINUTE
    assert more == []


def test_other_lines_ring_no_alarm_on_messages(made: Made) -> None:
    lines = [(slot, "trend", as_logged({"message": "message sent"})) for slot in list_slots(BREAK.date(), 1)]
    assert rings(made, "unsent", date(2026, 11, 13), 8, lines) == []


@pytest.mark.parametrize("what", OF_LAMBDA)
def test_what_no_code_of_ours_can_tell_goes_from_lambda_to_the_topic(made: Made, what: str) -> None:
    """For the alias and for $LATEST of both strategies."""
    assert made.failures_go_to == [made.topic] * 4, what


def test_every_function_sends_its_messages_to_the_topic(made: Made) -> None:
    assert {its["MESSAGE_TOPIC"] for its in made.environments.values()} == {made.topic}


def test_the_readme_says_what_is_told_how() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    told = {what: (how, late) for what, how, late in rows if late in LATE}
    assert told == {what: (wrong.told, wrong.late) for what, wrong in WRONG.items()}


# --- numbers and words ---


def test_no_alarm_exceeds_what_cloudwatch_allows(made: Made) -> None:
    for alarm in made.alarms.values():
        alarm.check_limits()


def test_all_strategies_share_the_metrics_and_alarms_that_make_cost_counts(made: Made) -> None:
    metrics = {each.metric for filters in made.filters.values() for each in filters}
    watched = sum(len(alarm.sources) for alarm in made.alarms.values())
    assert made.filters.keys() == {"trend", "interval"}
    assert (len(metrics), watched) == (cost.METRICS, cost.ALARM_METRICS)


def test_every_alarm_reads_a_metric_that_the_log_of_each_strategy_feeds(made: Made) -> None:
    sources = {source.metric for alarm in made.alarms.values() for source in alarm.sources.values()}
    for filters in made.filters.values():
        assert sources == {("ProphetTrader", each.metric) for each in filters}


def test_every_description_says_what_to_do(made: Made) -> None:
    commands = re.compile(r"make (logs|deploy|resume|reconcile|halt)")
    assert [name for name, text in made.descriptions.items() if not commands.search(text)] == []


def test_every_query_that_a_description_names_is_there(made: Made) -> None:
    named = {name for text in made.descriptions.values() for name in re.findall(r"QUERY=(\w+)", text)}
    assert named <= {path.stem for path in (TERRAFORM / "queries").glob("*.cwli")}
