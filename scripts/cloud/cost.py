"""`make cost`: show how much of AWS's free tier the functions use in a month, and how many strategies would fit in it.

If strategies are deployed and have run, it adds up what their logs say was billed in the last 30 days. Otherwise it
estimates: it measures a run of each kind here in AWS's runtime interface, divides the computing time by the share of a
processor that the function's memory buys, and multiplies by the number of runs in the schedule.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from math import inf
from typing import Any, Self

import boto3
from rich.text import Text

from scripts import console
from scripts.cloud.aws import Cloud, UsageError, connect, translate_errors
from scripts.cloud.cron import Schedule, digests, kinds, once_a_day, read_default
from scripts.cloud.logs import Period, ask, client_of, log_groups, name_strategy, query_text, watching
from scripts.cloud.measure import CHOSEN, KINDS, LATENCY_S, MB_PER_PROCESSOR, Measured, measure, share_of
from scripts.cloud.tables import TableRow, show_table
from scripts.layer.target import Target
from scripts.testkit import lambda_runtime

DAYS = 30
MEMORY_MB = lambda_runtime.MEMORY_MB
FREE_GB_S, FREE_REQUESTS = 400_000, 1_000_000
USD_PER_GB_S = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
USD_PER_REQUEST = 0.20 / 1_000_000
LAMBDA_PRICES, CLOUDWATCH, SSM, S3, KMS, SNS = (
    f"https://aws.amazon.com/{service}/pricing/"
    for service in ("lambda", "cloudwatch", "systems-manager", "s3", "kms", "sns")
)
MANY = 10
"""Number of strategies in the example of what many cost."""

METRICS, ALARM_METRICS = 2, 2
"""The custom metrics of all strategies together, and those that the two alarms read: terraform/modules/monitoring."""

WRITES = {"first": 7, "later": 6, "closed": 3, "digest": 3}
"""Requests per run that S3 bills as writes, at most.

They are claim, plan, record, how its orders ended, the day's ranking, a new highest equity, and a listing of the last
days; a digest lists its day and the earlier digests, and keeps its own.
"""

MIN_WRITES = 2
"""A claim and a record: no run while the market is open does with less."""

RETENTION_DAYS = 400
"""Days that records are kept by default, in terraform/variables.tf."""

SESSIONS = 21
"""Sessions, and so digests, in 30 days."""

SECRETS = 2
"""Number of SecureStrings that a cold start reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Lambda usage of one strategy in 30 days."""

    strategy: str
    requests: float
    gb_seconds: float

    def usd(self, arch: str) -> float:
        """Return the cost in USD once the free tier is used up."""
        return self.gb_seconds * USD_PER_GB_S[arch] + self.requests * USD_PER_REQUEST


@dataclass(frozen=True, slots=True)
class Allowance:
    """A monthly free tier other than Lambda's, and how much of it a strategy uses."""

    what: str
    used: float  # by each strategy
    free: float
    unit: str
    usd_per_unit: float
    assumed: str
    source: str
    shared: float = 0.0  # by all of them together

    @property
    def fits(self) -> float:
        """The number of strategies that fit into it."""
        return (self.free - self.shared) // self.used if self.used and self.free < inf else inf

    def usd(self, strategies: int) -> float:
        """Return the monthly cost in USD of this many strategies."""
        return max(self.shared + self.used * strategies - self.free, 0) * self.usd_per_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimate of one strategy's month, from one measured run of each kind."""

    schedule: str
    memory_mb: int
    first_day: date
    counts: Mapping[str, int]
    measured: Mapping[str, Measured]

    def gb_seconds(self, kind: str) -> float:
        """Return the GB-seconds of all runs of a kind."""
        return self.counts[kind] * self.measured[kind].billed_s * self.memory_mb / 1024

    def at(self, memory_mb: int) -> Self:
        """Return the estimate for another memory, from the same measured runs."""
        measured = {kind: each.at(memory_mb) for kind, each in self.measured.items()}
        return replace(self, memory_mb=memory_mb, measured=measured)

    @property
    def use(self) -> Use:
        """The usage of all runs."""
        total = sum(map(self.gb_seconds, self.counts))
        return Use(strategy="one strategy", requests=sum(self.counts.values()), gb_seconds=total)

    def sum_of(self, each: str) -> float:
        """Return the bytes that the month's runs log (`log_bytes`) or keep (`kept_bytes`)."""
        return sum(count * float(getattr(self.measured[kind], each)) for kind, count in self.counts.items())


def main() -> None:
    """Show the usage according to the logs, or else an estimate."""
    with console.plain_errors(interrupted="interrupted; nothing was changed"):
        target = Target.from_env(os.environ)
        uses, days, why_not = ({}, 0, "") if wants_estimate(os.environ) else bill()
        if uses:
            answer = from_logs(list(uses.values()), days, target.arch)
        else:
            if why_not:
                console.note(f"{why_not}; this is an estimate from runs on this machine")
            answer = from_runs(estimate(target, os.environ), target.arch)
        if console.wants_json():
            console.print_json(answer)
        else:
            show(answer)


# --- from the logs -------------------------------------------------------------------------------------------------


def wants_estimate(env: Mapping[str, str]) -> bool:
    """Check whether the user explicitly requests an estimate."""
    return console.flag("ESTIMATE") or any(env.get(name) for name in ("SCHEDULE", "DAILY_AT", "MEMORY", "ENGINE"))


def bill() -> tuple[dict[str, Use], int, str]:
    """Return the last 30 days' billed usage by strategy and the number of days it covers; if there is none, say why."""
    with translate_errors("your AWS account"):
        session = boto3.Session()
        if session.get_credentials() is None:
            return {}, 0, "there are no AWS credentials"
    cloud = connect()
    if not cloud.strategies:
        return {}, 0, f"nothing is deployed in account {cloud.account}, region {cloud.region}"
    now = datetime.now(UTC)
    rows = reports(cloud, Period(since=now - timedelta(days=DAYS), until=now))
    if not rows:
        return {}, 0, f"no run of {', '.join(cloud.strategies)} in the last {DAYS} days"
    uses = {}
    for strategy in sorted({row["strategy"] for row in rows}):
        mine = [row for row in rows if row["strategy"] == strategy]
        requests, gb_seconds = (sum(float(row[name]) for row in mine) for name in ("requests", "gb_seconds"))
        uses[strategy] = Use(strategy=strategy, requests=requests, gb_seconds=gb_seconds)
    first = min(date.fromisoformat(row["day"][:10]) for row in rows)
    return uses, min((now.date() - first).days + 1, DAYS), ""


def reports(cloud: Cloud, period: Period) -> Sequence[Mapping[str, str]]:
    """Return the rows of the query `runtimes`: one for each strategy and day."""
    groups = log_groups(cloud, cloud.strategies)
    with watching("make cost") as seen:
        answer = ask(client_of(cloud), query_text("runtimes"), groups, period, seen=seen)
    return [name_strategy(row, cloud) for row in answer.rows]


def from_logs(uses: Sequence[Use], days: int, arch: str) -> dict[str, Any]:
    """Return the answer from what was billed. If `days` is below 30, only the average strategy is scaled to 30 days."""
    return {
        "source": "logs",
        "days": days,
        "strategies": [asdict(use) for use in uses],
        **of_lambda(uses, len(uses), DAYS / days, arch),
        "others": [as_json(each) for each in list_fixed_allowances()],
        "known": [f"billed durations, including init, as Lambda logged them in {days} days"],
        "assumed": [f"usage scaled from {days} to {DAYS} days to tell how many would fit"] if days < DAYS else [],
    }


def of_lambda(uses: Sequence[Use], strategies: int, scale: float, arch: str) -> dict[str, Any]:
    """Return how much of Lambda's free tier is used, and how many average strategies fit into it."""
    gb_seconds, requests = sum(use.gb_seconds for use in uses), sum(use.requests for use in uses)
    beyond = max(gb_seconds - FREE_GB_S, 0) * USD_PER_GB_S[arch] + max(requests - FREE_REQUESTS, 0) * USD_PER_REQUEST
    each = Use(strategy="", requests=scale * requests / strategies, gb_seconds=scale * gb_seconds / strategies)
    fits = min(FREE_GB_S / each.gb_seconds, FREE_REQUESTS / each.requests)
    return {
        "gb_seconds": round(gb_seconds, 1),
        "requests": round(requests),
        "free_gb_seconds": FREE_GB_S,
        "free_requests": FREE_REQUESTS,
        "share_of_gb_seconds": round(gb_seconds / FREE_GB_S, 5),
        "share_of_requests": round(requests / FREE_REQUESTS, 5),
        "strategies_that_fit": int(fits),
        "usd_beyond_free_tier": round(beyond, 2),
        "usd_of_one_more": round(each.usd(arch), 3),
        "architecture": arch,
    }


# --- estimated -----------------------------------------------------------------------------------------------------


def memory_of(env: Mapping[str, str]) -> int:
    """Return MEMORY in MB. Raises UsageError if Lambda does not offer it."""
    text = env.get("MEMORY") or str(MEMORY_MB)
    if not text.isdecimal() or not 128 <= int(text[:9]) <= 10_240:
        raise UsageError(f"MEMORY={text}: must be a whole number of MB from 128 to 10240")
    return int(text)


def estimate(target: Target, env: Mapping[str, str]) -> Estimate:
    """Count the schedule's runs in the last 30 days, and measure one run of each kind."""
    memory_mb, schedule, counts = memory_of(env), *count_runs(env)
    with console.progress() as progress:
        measured = measure(target, memory_mb, progress, env.get("ENGINE", ""))
    return Estimate(
        schedule=schedule, memory_mb=memory_mb, first_day=find_first_day(), counts=counts, measured=measured
    )


def find_first_day() -> date:
    """Return the first of the days that an estimate counts the runs of."""
    return datetime.now(UTC).date() - timedelta(days=DAYS)


def count_runs(env: Mapping[str, str]) -> tuple[str, Mapping[str, int]]:
    """Return the schedule, and how many runs of each kind it had in the last 30 days. Raises UsageError."""
    daily_at, first = env.get("DAILY_AT", ""), find_first_day()
    if daily_at and env.get("SCHEDULE"):
        raise UsageError("SCHEDULE and DAILY_AT contradict each other; set only one of them")
    schedule = once_a_day(daily_at) if daily_at else Schedule(env.get("SCHEDULE") or read_default())
    counts = kinds(schedule, first, DAYS, daily_at)
    if not counts.total():
        raise UsageError(
            f"{schedule.expression} did not fire in the last {DAYS} days; set another SCHEDULE to estimate"
        )
    return schedule.expression, counts + digests(first, DAYS)


def from_runs(month: Estimate, arch: str) -> dict[str, Any]:
    """Return the answer from an estimate."""
    return {
        "source": "estimate",
        "days": DAYS,
        "schedule": month.schedule,
        "memory_mb": month.memory_mb,
        "processor_share": round(share_of(month.memory_mb), 3),
        "runs": {
            kind: {
                "what": KINDS[kind],
                "number": month.counts[kind],
                "gb_seconds": round(month.gb_seconds(kind), 1),
                **asdict(month.measured[kind]),
            }
            for kind in KINDS
        },
        "strategies": [asdict(month.use)],
        **of_lambda([month.use], 1, 1.0, arch),
        "others": [
            as_json(each) for each in (*list_fixed_allowances(month.counts["digest"]), *list_measured_allowances(month))
        ],
        "known": [
            "measured one cold run of each kind, in AWS's runtime interface and from the finished zips",
            (
                "divided each run's computing time by the function's share of a processor, "
                f"{share_of(month.memory_mb):.0%} (at most 100%)"
            ),
            f"Lambda gives a function a whole processor at {MB_PER_PROCESSOR:,} MB",
            f"compared the schedule's times, from {month.first_day} on for {DAYS} days, with the exchange's hours",
        ],
        "assumed": list_assumptions(),
    }


def list_assumptions() -> Sequence[str]:
    """Return the assumptions behind an estimate."""
    busy = console.busy()
    return [
        "every run starts cold, and its init is billed",
        f"Yahoo and Alpaca answer each request after {LATENCY_S * 1000:.0f} ms; S3 and SSM at once",
        f"the first run of each day buys {CHOSEN} stocks, and each later run sells some; most real runs do less",
        "this machine's processor and disk are as fast as Lambda's",
        *([f"{busy.upper()}: the figures are too high"] if busy else []),
    ]


# --- other free tiers ----------------------------------------------------------------------------------------------


def list_fixed_allowances(digests_sent: int = SESSIONS) -> Sequence[Allowance]:
    """Return the free tiers that a strategy uses regardless of its runs, if it sends so many digests by e-mail."""
    for_all = "two for all strategies together"
    dashboard = "one for all strategies, with three metrics of AWS's own for each; above 50 metrics it costs 3 USD"
    emails = "a digest each session, to one address; a message is sent only when something is wrong"
    parameters = "two keys, the halt switch and an address for messages"
    return [
        Allowance("CloudWatch custom metrics", 0, 10, "metrics", 0.30, for_all, CLOUDWATCH, METRICS),
        Allowance("CloudWatch alarms", 0, 10, "alarm metrics", 0.10, for_all, CLOUDWATCH, ALARM_METRICS),
        Allowance("CloudWatch dashboards", 0, 3, "dashboard", 3.0, dashboard, CLOUDWATCH, 1),
        Allowance("SNS e-mails", digests_sent, 1_000, "e-mails", 2.0 / 100_000, emails, SNS),
        Allowance("SSM standard parameters", 4, inf, "parameters", 0, parameters, SSM),
    ]


def list_measured_allowances(month: Estimate) -> Sequence[Allowance]:
    """Return the free tiers that a strategy's runs use, from the measured runs."""
    log_gb, kept_gb = (month.sum_of(name) / 1e9 for name in ("log_bytes", "kept_bytes"))
    writes = sum(WRITES[kind] * count for kind, count in month.counts.items())
    secrets = SECRETS * month.use.requests
    lines, first_year = "as much as the measured runs logged", "free in an account's first 12 months only"
    records, keys = (
        (
            f"the records of one month; they accumulate, to {kept_gb * RETENTION_DAYS / DAYS:,.1f} GB of one strategy "
            f"after {RETENTION_DAYS} days; {first_year}"
        ),
        "two SecureStrings, decrypted at each cold start; MESSAGE_URL is a third, if you set it",
    )
    least = MIN_WRITES * sum(count for kind, count in month.counts.items() if kind in {"first", "later"})
    at_most = f"at most; a claim and a record of each run while the market is open are {least:,}; {first_year}"
    return [
        Allowance("CloudWatch logs", log_gb, 5, "GB", 0.50, lines, CLOUDWATCH),
        Allowance("S3 storage", kept_gb, 5, "GB", 0.023, records, S3),
        Allowance("S3 write requests", writes, 2_000, "requests", 0.005 / 1000, at_most, S3),
        Allowance("KMS requests", secrets, 20_000, "requests", 0.03 / 10_000, keys, KMS),
    ]


def as_json(each: Allowance) -> dict[str, Any]:
    """Return an allowance in JSON's types; null means no limit."""
    found = asdict(each) | {
        "used": round(each.used, 4),
        "shared": each.shared,
        "strategies_that_fit": each.fits,
        f"usd_of_{MANY}": each.usd(MANY),
    }
    return {name: None if value == inf else value for name, value in found.items()}


# --- shown ---------------------------------------------------------------------------------------------------------


def show(answer: Mapping[str, Any]) -> None:
    """Print what a month costs, then how the free tiers are used, then what is known and what is assumed."""
    say(headline(answer), style="bold")
    if answer["source"] == "estimate":
        show_runs(answer)
    else:
        show_strategies(answer)
    say(verdict(answer), style="bold")
    show_others(answer)
    lines = [*answer["known"], *(f"assumed: {each}" for each in answer["assumed"])]
    lines += [f"assumed: {each['what']}: {each['assumed']}" for each in answer["others"]]
    sources = dict.fromkeys([LAMBDA_PRICES, *(each["source"] for each in answer["others"])])
    lines.append(f"free tiers and prices are those of us-east-1: {' '.join(sources)}")
    say("\n" + "\n".join(f" - {line}" for line in lines), style="dim")


def say(text: str, style: str = "") -> None:
    """Print text as it is, however wide."""
    console.OUT.print(Text(text, style=style), soft_wrap=True)


def headline(answer: Mapping[str, Any]) -> str:
    """Return what a month costs, and what of: the strategies that ran, or one of the estimated kind."""
    costs_usd = month_usd(answer)
    strategies = len(answer["strategies"])
    whose = "one strategy" if strategies == 1 else f"{strategies} strategies"
    if answer["source"] == "estimate":
        many_usd = month_usd(answer, MANY)
        return (
            f" A month of one strategy: {sum(costs_usd.values()):,.2f} USD, ESTIMATED{list_parts(costs_usd)}.\n"
            f" A month of {MANY} such strategies: {sum(many_usd.values()):,.2f} USD{list_parts(many_usd)}.\n"
        )
    return f" Your month: {sum(costs_usd.values()):,.2f} USD for {whose}{list_parts(costs_usd)}.\n"


def list_parts(costs_usd: Mapping[str, float]) -> str:
    """Return what the costs are of, as the end of a sentence."""
    parts = [f"{what} {usd:,.2f}" for what, usd in costs_usd.items() if round(usd, 2)]
    return f" ({', '.join(parts)})" if parts else ": all of it is within AWS's free tiers"


def month_usd(answer: Mapping[str, Any], copies: int = 1) -> dict[str, float]:
    """Return the cost in USD of the answer's strategies in 30 days, by service, beyond the free tiers.

    `copies` is how many times these strategies are there.
    """
    scale, strategies = copies * DAYS / answer["days"], copies * len(answer["strategies"])
    use_usd = (
        max(answer["gb_seconds"] * scale - FREE_GB_S, 0) * USD_PER_GB_S[answer["architecture"]]
        + max(answer["requests"] * scale - FREE_REQUESTS, 0) * USD_PER_REQUEST
    )
    others_usd = {
        each["what"]: each["usd_per_unit"]
        * max(each["shared"] + each["used"] * strategies - (inf if each["free"] is None else each["free"]), 0)
        for each in answer["others"]
    }
    return {"Lambda": use_usd, **others_usd}


def show_runs(answer: Mapping[str, Any]) -> None:
    """Print the estimated month by kind of run."""
    title = f" ESTIMATED monthly usage of one strategy: {answer['schedule']}, {answer['memory_mb']:,} MB\n"
    rows = []
    for run in answer["runs"].values():
        name, _, work = run["what"].partition(": ")
        figures = (f"{run['number']:,}", f"{run['init_s']:.2f}", f"{run['billed_s']:.2f}", f"{run['gb_seconds']:,.0f}")
        rows.append((name, *figures, work))
    rows.append(("all", f"{answer['requests']:,}", "", "", f"{answer['gb_seconds']:,.0f}", ""))
    numbers = ("Runs", "Init s", "Billed s", "GB-seconds")
    show_titled(title, ("Run", *numbers, "Its work:"), rows, numbers)


def show_strategies(answer: Mapping[str, Any]) -> None:
    """Print what was billed, by strategy."""
    rows = [(use["strategy"], f"{use['requests']:,.0f}", f"{use['gb_seconds']:,.1f}") for use in answer["strategies"]]
    rows.append(("all", f"{answer['requests']:,}", f"{answer['gb_seconds']:,.1f}"))
    title = f" Billed in the last {DAYS} days, according to the logs\n"
    numbers = ("Requests", "GB-seconds")
    show_titled(title, ("Strategy", *numbers), rows, numbers)


def show_titled(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> None:
    """Print a table below its title; its last row is a sum."""
    say(title, style="bold")
    last = len(rows) - 1
    styled = [TableRow(cells=cells, style="bold" if number == last else "") for number, cells in enumerate(rows)]
    show_table(headings, styled, numbers=set(numbers))


def verdict(answer: Mapping[str, Any]) -> str:
    """Return sentences that say how much of Lambda's free tier is used, how many strategies fit, and what it costs."""
    fit = answer["strategies_that_fit"]
    many = f"{fit:,} such {'strategy fits' if fit == 1 else 'strategies fit'}"
    return (
        f"\n {answer['share_of_gb_seconds']:.2%} of Lambda's {FREE_GB_S:,} free GB-seconds a month, "
        f"{answer['share_of_requests']:.2%} of its {FREE_REQUESTS:,} free requests: {many}.\n"
        f" Once the free tier is used up, a strategy costs {answer['usd_of_one_more']:.2f} USD a month "
        f"({answer['architecture']}).\n"
    )


def show_others(answer: Mapping[str, Any]) -> None:
    """Print the other free tiers, and what many strategies would cost."""
    rows = []
    for each in answer["others"]:
        used = f"{each['shared'] + each['used']:,.3f}".rstrip("0").rstrip(".")
        free, fits = (
            "no limit" if each[name] is None else f"{each[name]:,.0f}" for name in ("free", "strategies_that_fit")
        )
        rows.append((each["what"], f"{used} {each['unit']}", free, fits, f"{each[f'usd_of_{MANY}']:,.2f}"))
    total_usd = sum(each[f"usd_of_{MANY}"] for each in answer["others"])
    rows.append(("sum", "", "", "", f"{total_usd:,.2f}"))
    numbers = ("One strategy", "Free", "Strategies", f"USD for {MANY}")
    show_titled(" Other monthly free tiers, and how many strategies fit into each\n", ("What", *numbers), rows, numbers)
