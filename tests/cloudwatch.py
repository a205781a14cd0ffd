"""CloudWatch in small: metric filters, metric math, and the state of an alarm over time.

It follows CloudWatch's user guide: "Filter pattern syntax for metric filters", "Using math expressions with CloudWatch
metrics" and "Alarm evaluation". Only what this repository uses is there; anything else is an error. Where the guide
leaves something open, `Assumptions` says what is assumed, so that a test can try more than one answer.
"""

import ast
import json
import operator
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

type Values = npt.NDArray[np.float64]
"""A time series: one value for each period, NaN where there is none."""

DAY = timedelta(days=1)


# --- metric filters ---


def matches(pattern: str, line: Mapping[str, Any]) -> bool:
    """Tell whether a line matches a metric filter's pattern: comparisons of JSON fields, joined by &&."""
    for path, sign, wanted in comparisons(pattern):
        there = at(line, path)
        if there is None or isinstance(there, str) != isinstance(wanted, str):
            return False
        holds = {"=": there == wanted, "!=": there != wanted}
        holds |= {} if isinstance(wanted, str) else {">=": there >= wanted, ">": there > wanted}
        if not holds[sign]:
            return False
    return True


@cache
def comparisons(pattern: str) -> Sequence[tuple[str, str, Any]]:
    """Return the comparisons of a metric filter's pattern: path, sign and value."""
    found = []
    for term in pattern.strip("{ }").split("&&"):
        comparison = term.strip().removeprefix("(").removesuffix(")")
        match = re.fullmatch(r"(\$\.\S+) (=|!=|>=|>) (\S+)", comparison)
        assert match, f"{term} is not a comparison that these tests know"
        path, sign, text = match.groups()
        found.append((path, sign, json.loads(text)))
    return found


def at(line: Mapping[str, Any], path: str) -> Any:
    """Return the value at `$.a.b`; None if there is none."""
    value: Any = line
    for name in path.removeprefix("$.").split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True)
class MetricFilter:
    """A metric filter: the pattern of the lines, and the metric that gets a value for each."""

    metric: str
    pattern: str
    value: str

    def value_of(self, line: Mapping[str, Any]) -> float | None:
        """Return the metric's value for a line; None if the line does not match."""
        if not matches(self.pattern, line):
            return None
        return float(at(line, self.value) if self.value.startswith("$") else self.value)


# --- metrics ---


@dataclass
class Metric:
    """The data points of a metric, by time."""

    times_s: list[float] = field(default_factory=list)  # Unix times
    values: list[float] = field(default_factory=list)

    def add(self, time: datetime, value: float) -> None:
        """Add a data point, which may be older than others."""
        place = bisect_left(self.times_s, time.timestamp())
        self.times_s.insert(place, time.timestamp())
        self.values.insert(place, value)

    def between(self, begin_s: float, end_s: float) -> slice:
        """Return where the data points from one Unix time until before another are."""
        begin = bisect_left(self.times_s, begin_s)
        return slice(begin, bisect_left(self.times_s, end_s, begin))

    def is_empty(self, begin_s: float, end_s: float) -> bool:
        """Tell whether there is no data point from one Unix time until before another."""
        return not self.values[self.between(begin_s, end_s)]


STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {"Sum": sum, "Maximum": max}


# --- metric math ---


@dataclass(frozen=True)
class Assumptions:
    """What the user guide does not say.

    `fills_empty`: FILL fills a metric without any value in the whole range; otherwise it leaves it empty.
    `extra_periods`: how many periods more than asked for CloudWatch reads, to have data points for missing ones.
    `delay`: how long after its time a data point can be seen.
    """

    fills_empty: bool = True
    extra_periods: int = 2
    delay: timedelta = timedelta(minutes=2)


OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
}
CLOCK: Mapping[str, Callable[[datetime], float]] = {
    "DAY": datetime.isoweekday,
    "DATE": lambda time: time.day,
    "MONTH": lambda time: time.month,
    "YEAR": lambda time: time.year,
}


@cache
def parse(expression: str) -> ast.expr:
    """Return the tree of an expression, whose words happen to be Python's, but for AND."""
    return ast.parse(re.sub(r"\bAND\b", "and", expression), mode="eval").body


@cache
def read_clock(function: str, time_s: float) -> float:
    """Return what a function such as DAY says about a Unix time."""
    return float(CLOCK[function](datetime.fromtimestamp(time_s, UTC)))


class Math:
    """The evaluation of an alarm's expressions for periods that start at these Unix times."""

    def __init__(self, starts_s: Sequence[float], assumptions: Assumptions) -> None:
        self._starts_s = starts_s
        self._assumptions = assumptions
        self._clocks: dict[str, Values] = {}

    def compute(self, expression: str, series: Mapping[str, Values]) -> Values:
        """Return the time series of an expression over others, by id."""
        value = self._value(parse(expression), series)
        assert not isinstance(value, float), f"{expression} is no time series, so no alarm can watch it"
        return value

    def _value(self, node: ast.expr, series: Mapping[str, Values]) -> Values | float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return series[name]
            case ast.BinOp(left=left, op=sign, right=right):
                return self._arithmetic(OPERATORS[type(sign)], self._value(left, series), self._value(right, series))
            case ast.Compare(left=left, ops=[sign], comparators=[right]):
                return self._comparison(OPERATORS[type(sign)], self._value(left, series), self._value(right, series))
            case ast.BoolOp(op=ast.And(), values=terms):
                columns = [self._series(self._value(term, series)) for term in terms]
                return np.all([is_true(column) for column in columns], axis=0).astype(float)
            case ast.Call(func=ast.Name(id=function), args=arguments):
                return self._call(function, [self._value(each, series) for each in arguments])
        raise AssertionError(f"{ast.unparse(node)} is not metric math that these tests know")

    def _series(self, value: Values | float) -> Values:
        return np.full(len(self._starts_s), value) if isinstance(value, float) else value

    def _arithmetic(self, apply: Callable[[Any, Any], Any], left: Values | float, right: Values | float) -> Values:
        """A missing value counts as 0 beside one that is there; where no series has a value, the result has none."""
        if isinstance(left, float) or isinstance(right, float):
            assert not (isinstance(left, float) and isinstance(right, float)), "no alarm has a sum of numbers"
            result: Values = apply(left, right)
            return result
        are_missing = np.isnan(left) & np.isnan(right)
        return np.where(are_missing, np.nan, apply(np.nan_to_num(left), np.nan_to_num(right)))

    def _comparison(self, apply: Callable[[Any, Any], Any], left: Values | float, right: Values | float) -> Values:
        left, right = self._series(left), self._series(right)
        return np.where(np.isnan(left) | np.isnan(right), np.nan, apply(left, right))

    def _call(self, function: str, arguments: Sequence[Values | float]) -> Values | float:
        match function, arguments:
            case ("FILL", [np.ndarray() as values, float() as filler]):
                if not self._assumptions.fills_empty and np.all(np.isnan(values)):
                    return values
                return np.where(np.isnan(values), filler, values)
            case ("SUM", [np.ndarray() as values]):
                return float(np.nansum(values))
            case ("RUNNING_SUM", [np.ndarray() as values]):
                return np.where(np.isnan(values), np.nan, np.nancumsum(values))
            case ("DAY" | "DATE" | "MONTH" | "YEAR", [np.ndarray()]):  # from the times of the periods, also empty ones
                return self._clock(function)
            case ("IF", [np.ndarray() as condition, then, otherwise]):
                # "has the value of 0" where the condition is true and the series has no value
                chosen = np.where(is_true(condition), np.nan_to_num(self._series(then)), self._series(otherwise))
                return np.where(np.isnan(condition), np.nan, chosen)
        raise AssertionError(f"{function} is not a function of metric math that these tests know")

    def _clock(self, function: str) -> Values:
        if function not in self._clocks:
            self._clocks[function] = np.array([read_clock(function, start_s) for start_s in self._starts_s])
        return self._clocks[function]


def is_true(values: Values) -> npt.NDArray[np.bool_]:
    """Tell for each period whether there is a value, and it is not 0."""
    return np.asarray(~np.isnan(values) & (values != 0))


# --- alarms ---


@dataclass(frozen=True)
class Source:
    """A metric that an alarm reads: its namespace, name and one dimension, and the statistic of a period."""

    namespace: str
    name: str
    dimension: tuple[str, str]
    statistic: str

    @property
    def metric(self) -> tuple[str, str, tuple[str, str]]:
        """The metric's identity."""
        return self.namespace, self.name, self.dimension


type Metrics = Mapping[tuple[str, str, tuple[str, str]], Metric]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A metric alarm: what it reads, what it computes, in order, and when it is in alarm."""

    name: str
    sources: Mapping[str, Source]
    expressions: Mapping[str, str]  # each may use the ones after it; the first is watched
    period: timedelta
    periods: int
    datapoints: int
    comparison: str
    threshold: float
    missing: str

    @property
    def is_multi_day(self) -> bool:
        """Whether it looks back over more than a day; then it is evaluated once an hour, with data up to the hour."""
        return self.period * self.periods > DAY

    @property
    def step(self) -> timedelta:
        """The time between two evaluations."""
        return timedelta(hours=1) if self.is_multi_day else timedelta(minutes=1)

    def check_limits(self) -> None:
        """Check the limits of PutMetricAlarm: at most seven days, and one day with a period below an hour."""
        assert self.period * self.periods <= (7 * DAY if self.period >= timedelta(hours=1) else DAY)
        assert 1 <= self.datapoints <= self.periods
        assert len(self.sources) <= 10
        assert len(self.expressions) <= 10

    def rings(self, metrics: Metrics, now: datetime, assumptions: Assumptions) -> bool:
        """Tell whether the alarm is in the state ALARM when it is evaluated at `now`."""
        end_s = (now.replace(minute=0) if self.is_multi_day else now).timestamp()
        seen_s = (now - assumptions.delay).timestamp()
        count = self.periods + assumptions.extra_periods
        period_s = self.period.total_seconds()
        begin_s = end_s - count * period_s
        found = {name: metrics.get(source.metric, Metric()) for name, source in self.sources.items()}
        is_silent = all(metric.is_empty(begin_s, min(end_s, seen_s)) for metric in found.values())
        if self.missing == "notBreaching" and is_silent:
            return False
        series = {
            name: self._read(STATISTICS[self.sources[name].statistic], metric, begin_s, min(end_s, seen_s), count)
            for name, metric in found.items()
        }
        math = Math([begin_s + period_s * number for number in range(count)], assumptions)
        for name, expression in reversed(list(self.expressions.items())):
            series[name] = math.compute(expression, series)
        watched = series[next(iter(self.expressions), next(iter(self.sources)))]
        there = [self._is_breaching(value) for value in watched[~np.isnan(watched)][-self.periods :].tolist()]
        assert self.missing in {"breaching", "notBreaching"}, f"{self.missing} is not used in this repository"
        fillers = [self.missing == "breaching"] * (self.periods - len(there))
        return sum(there + fillers) >= self.datapoints

    def _read(
        self,
        statistic: Callable[[Sequence[float]], float],
        metric: Metric,
        begin_s: float,
        end_s: float,
        count: int,
    ) -> Values:
        """Return the statistic of each of `count` periods from one Unix time until before another."""
        place = metric.between(begin_s, end_s)
        period_s = self.period.total_seconds()
        groups: dict[int, list[float]] = {}
        for time_s, value in zip(metric.times_s[place], metric.values[place], strict=True):
            groups.setdefault(int((time_s - begin_s) // period_s), []).append(value)
        values = np.full(count, np.nan)
        for number, group in groups.items():
            values[number] = statistic(group)
        return values

    def _is_breaching(self, value: float) -> bool:
        return {
            "GreaterThanOrEqualToThreshold": value >= self.threshold,
            "GreaterThanThreshold": value > self.threshold,
            "LessThanThreshold": value < self.threshold,
        }[self.comparison]

    def times_it_rings(
        self, metrics: Metrics, begin: datetime, end: datetime, assumptions: Assumptions
    ) -> Iterator[datetime]:
        """Yield each time between two moments at which the alarm goes from OK to ALARM, and so tells its owner."""
        was = False
        now = begin.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while now < end:
            rings = self.rings(metrics, now, assumptions)
            if rings and not was:
                yield now
            was = rings
            now += self.step


def alarm_of_terraform(values: Mapping[str, Any]) -> Alarm:
    """Return an alarm from the values of a resource aws_cloudwatch_metric_alarm."""
    queries = values["metric_query"] or []
    stats = {query["id"]: query["metric"][0] for query in queries if query["metric"]} or {
        "metric": {**values, "stat": values["statistic"]}
    }
    sources = {
        name: Source(stat["namespace"], stat["metric_name"], next(iter(stat["dimensions"].items())), stat["stat"])
        for name, stat in stats.items()
    }
    assert all(len(stat["dimensions"]) == 1 for stat in stats.values())
    (period_s,) = {stat["period"] for stat in stats.values()}
    watched = [query["id"] for query in queries if query["return_data"]]
    assert len(watched) <= 1
    expressions = {query["id"]: query["expression"] for query in queries if query["expression"]}
    return Alarm(
        name=values["alarm_name"],
        sources=sources,
        expressions=dict(sorted(expressions.items(), key=lambda item: item[0] not in watched)),
        period=timedelta(seconds=period_s),
        periods=values["evaluation_periods"],
        datapoints=values["datapoints_to_alarm"] or values["evaluation_periods"],
        comparison=values["comparison_operator"],
        threshold=values["threshold"],
        missing=values["treat_missing_data"],
    )
