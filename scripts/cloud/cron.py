"""EventBridge schedules: when an AWS cron expression fires, and which kind of run starts each time."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, cached_property

from scripts import ROOT
from scripts.cloud.usage import UsageError
from scripts.console import CommandError
from trader.model import NEW_YORK
from trader.schedule import sessions

VARIABLES = ROOT / "terraform/variables.tf"
DAILY_AT = r"09:(30|45)|1[0-5]:(00|15|30|45)"
MONTHS = {
    name: number
    for number, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), start=1)  # noqa: SIM905 as AWS lists them
}
WEEKDAYS = {name: number for number, name in enumerate("SUN MON TUE WED THU FRI SAT".split(), start=1)}  # noqa: SIM905 as AWS lists them
FIELDS: Sequence[tuple[str, int, int, Mapping[str, int]]] = (
    ("minutes", 0, 59, {}),
    ("hours", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of the week", 1, 7, WEEKDAYS),
    ("year", 1970, 2199, {}),
)


@cache
def read_default() -> str:
    """Return the schedule of a strategy that sets none: the default in Terraform's variables.

    Raises CommandError in an installed package, which has no Terraform and cannot deploy.
    """
    if not VARIABLES.is_file():
        raise CommandError("the default schedule is in terraform/variables.tf, which only a clone has; set SCHEDULE")
    found = re.search(r'^\s*schedule\s*=\s*optional\(string, "(cron\([^"]+\))"\)', VARIABLES.read_text("utf-8"), re.M)
    assert found, f"{VARIABLES} has the default of schedule"
    return found[1]


@dataclass(frozen=True)
class Schedule:
    """An AWS cron expression such as cron(0/15 13-21 ? * MON-FRI *), in UTC."""

    expression: str

    @cached_property
    def _allowed(self) -> tuple[frozenset[int], ...]:
        match = re.fullmatch(r"cron\(([^()]*)\)", self.expression)
        parts = match[1].split() if match else []
        if len(parts) != len(FIELDS):
            raise UsageError(f"SCHEDULE={self.expression}: must be cron(...) with six fields, such as {read_default()}")
        if [index for index, part in enumerate(parts) if part == "?"] not in ([2], [4]):
            raise UsageError(
                f"SCHEDULE={self.expression}: put ? in exactly one of the day fields, third or fifth, and in no other"
            )
        return tuple(self._values(part, *field) for part, field in zip(parts, FIELDS, strict=True))

    def _values(self, part: str, name: str, low: int, high: int, words: Mapping[str, int]) -> frozenset[int]:
        values: set[int] = set()
        for element in [] if part == "?" else part.split(","):
            match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9][0-9]?))?", element)
            if not match:
                raise self._wrong(name, element)
            first, last, step = match.groups()
            begin = self._value(first, name, words) if first else low
            end = self._value(last, name, words) if last else high if step or not first else begin
            if not low <= begin <= end <= high:
                raise self._wrong(name, element)
            values |= set(range(begin, end + 1, int(step or 1)))
        return frozenset(values or range(low, high + 1))

    def _value(self, text: str, name: str, words: Mapping[str, int]) -> int:
        if text in words:
            return words[text]
        if not re.fullmatch(r"0|[1-9][0-9]{0,3}", text):
            raise self._wrong(name, text)
        return int(text)

    def _wrong(self, name: str, element: str) -> UsageError:
        return UsageError(
            f"SCHEDULE={self.expression}: {element} is not valid in the field {name} (L, W and # are not supported)"
        )

    def is_on(self, day: date) -> bool:
        """Check whether the schedule fires on a day."""
        _, _, days, months, weekdays, years = self._allowed
        weekday = day.isoweekday() % 7 + 1  # in AWS, Sunday is 1
        return day.day in days and day.month in months and weekday in weekdays and day.year in years

    def times(self, first: date, days: int) -> Iterator[datetime]:
        """Yield the times, in UTC, at which the schedule fires on the `days` days from `first`."""
        minutes, hours = (sorted(each) for each in self._allowed[:2])
        for day in (first + timedelta(days=number) for number in range(days)):
            if self.is_on(day):
                for hour in hours:
                    yield from (datetime.combine(day, time(hour, minute), UTC) for minute in minutes)


DIGEST = "cron(15 20,21 ? * MON-FRI *)"
"""When a strategy's digest is started: a quarter past four in New York, in summer or in winter (terraform/main.tf)."""


def once_a_day(daily_at: str) -> Schedule:
    """Return the schedule that Terraform makes from `daily_at`, New York time: it fires at both possible UTC hours."""
    if not re.fullmatch(DAILY_AT, daily_at):
        raise UsageError(f"DAILY_AT={daily_at}: must be a quarter hour of the New York session, such as 15:00")
    hour, minute = map(int, daily_at.split(":"))
    return Schedule(f"cron({minute} {hour + 4},{hour + 5} ? * MON-FRI *)")


def kinds(schedule: Schedule, first: date, days: int, daily_at: str = "") -> Counter[str]:
    """Count runs by kind: a day's `first` (ranks the S&P 500), its `later` ones, and `closed` (market closed).

    With `daily_at`, a run at the wrong one of the two UTC hours counts as `closed`, because it also does nothing.
    """
    found: Counter[str] = Counter(first=0, later=0, closed=0)
    begun: set[date] = set()
    for moment in schedule.times(first, days):
        here = moment.astimezone(NEW_YORK)
        if not sessions.is_open(moment) or (daily_at and f"{here:%H:%M}" != daily_at):
            found["closed"] += 1
        elif here.date() in begun:
            found["later"] += 1
        else:
            begun.add(here.date())
            found["first"] += 1
    return found


def digests(first: date, days: int) -> Counter[str]:
    """Count the events of the digest's rule by kind: a `digest` each session; the others do nothing, like `closed`."""
    times = list(Schedule(DIGEST).times(first, days))
    sent = len({moment.date() for moment in times if sessions.session(moment.date())})
    return Counter(digest=sent, closed=len(times) - sent)
