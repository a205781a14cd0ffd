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
from typing import Any, TypeIs

import numpy as np
import numpy.typing as npt

type Values = npt.NDArray[np.float64]
"""A row for each evaluation of an alarm, with one value for each period, NaN where there is none; or only a column."""

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
        match = re.fullmatch(r"(\$\.\S+) (=|!=|>=|>) (\"[^\"]*\"|\S+)", comparison)
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

    def reduce(self, statistic: str, begins_s: Values, ends_s: Values) -> Values:
        """Return the statistic of the data points from each Unix time until before another; NaN if there is none."""
        places = np.searchsorted(self.times_s, np.stack([begins_s, np.maximum(begins_s, ends_s)], axis=-1))
        values = STATISTICS[statistic].reduceat([*self.values, np.nan], places.ravel())[::2].reshape(begins_s.shape)
        return np.where(places[..., 0] < places[..., 1], values, np.nan)


STATISTICS: Mapping[str, np.ufunc] = {"Sum": np.add, "Maximum": np.maximum}


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
CLOCK: Mapping[str, Callable[[npt.NDArray[np.datetime64]], npt.NDArray[np.int64]]] = {
    "DAY": lambda times: (times.astype("M8[D]").astype(int) + 3) % 7 + 1,  # the first day of Unix was a Thursday
    "DATE": lambda times: (times.astype("M8[D]") - times.astype("M8[M]").astype("M8[D]")).astype(int) + 1,
    "MONTH": lambda times: times.astype("M8[M]").astype(int) % 12 + 1,
    "YEAR": lambda times: times.astype("M8[Y]").astype(int) + 1970,
}


@cache
def parse(expression: str) -> ast.expr:
    """Return the tree of an expression, whose words happen to be Python's, but for AND."""
    return ast.parse(re.sub(r"\bAND\b", "and", expression), mode="eval").body


class Math:
    """The evaluations of an alarm's expressions for periods that start at these Unix times: a row for each evaluation.

    A number is a float, or a row's own: an array of one dimension.
    """

    def __init__(self, starts_s: Values, assumptions: Assumptions) -> None:
        self._starts_s = starts_s
        self._assumptions = assumptions

    def compute(self, expression: str, series: Mapping[str, Values]) -> Values:
        """Return the time series of an expression over others, by id."""
        value = self._value(parse(expression), series)
        assert is_series(value), f"{expression} is no time series, so no alarm can watch it"
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
        return np.broadcast_to(column(value), self._starts_s.shape)

    def _arithmetic(self, apply: Callable[[Any, Any], Any], left: Values | float, right: Values | float) -> Values:
        """A missing value counts as 0 beside one that is there; where no series has a value, the result has none."""
        if is_series(left) and is_series(right):
            are_missing = np.isnan(left) & np.isnan(right)
            return np.where(are_missing, np.nan, apply(or_zero(left), or_zero(right)))
        assert is_series(left) or is_series(right), "no alarm has a sum of numbers"
        result: Values = apply(column(left), column(right))
        return result

    def _comparison(self, apply: Callable[[Any, Any], Any], left: Values | float, right: Values | float) -> Values:
        left, right = self._series(left), self._series(right)
        return np.where(np.isnan(left) | np.isnan(right), np.nan, apply(left, right))

    def _call(self, function: str, arguments: Sequence[Values | float]) -> Values | float:
        assert is_series(arguments[0]), f"{function} is used of time series only"
        match function, arguments:
            case ("FILL", [np.ndarray() as values, float() as filler]):
                are_filled = np.isnan(values)
                if not self._assumptions.fills_empty:
                    are_filled &= ~np.all(are_filled, axis=1, keepdims=True)
                return np.where(are_filled, filler, values)
            case ("SUM", [np.ndarray() as values]):
                total: Values = np.nansum(values, axis=1)
                return total
            case ("RUNNING_SUM", [np.ndarray() as values]):
                return np.where(np.isnan(values), np.nan, np.nancumsum(values, axis=1))
            case ("DAY" | "DATE" | "MONTH" | "YEAR", [np.ndarray()]):  # from the times of the periods, also empty ones
                return CLOCK[function](self._starts_s.astype("M8[s]")).astype(float)
            case ("IF", [np.ndarray() as condition, then, otherwise]):
                # "has the value of 0" where the condition is true and the series has no value
                chosen = np.where(is_true(condition), or_zero(self._series(then)), self._series(otherwise))
                return np.where(np.isnan(condition), np.nan, chosen)
        raise AssertionError(f"{function} is not a function of metric math that these tests know")


def is_series(value: Values | float) -> TypeIs[Values]:
    """Tell whether a value is a time series, and no number."""
    return isinstance(value, np.ndarray) and value.ndim == 2


def column(value: Values | float) -> Values | float:
    """Return a series or a float as it is, and each row's own number as a column beside the series."""
    return value if isinstance(value, float) or value.ndim == 2 else value[:, np.newaxis]


def or_zero(values: Values) -> Values:
    """Return the values, and 0 where there is none."""
    return np.where(np.isnan(values), 0, values)


def is_true(values: Values) -> npt.NDArray[np.bool_]:
    """Tell for each period whether there is a value, and it is not 0."""
    return np.asarray(~np.isnan(values) & (values != 0))


# --- alarms ---


@dataclass(frozen=True)
class Source:
    """A metric that an alarm reads: its namespace and name, without dimensions, and the statistic of a period."""

    namespace: str
    name: str
    statistic: str

    @property
    def metric(self) -> tuple[str, str]:
        """The metric's identity."""
        return self.namespace, self.name


type Metrics = Mapping[tuple[str, str], Metric]


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
        return bool(self.states(metrics, np.array([now.timestamp()]), assumptions)[0])

    def states(self, metrics: Metrics, nows_s: Values, assumptions: Assumptions) -> npt.NDArray[np.bool_]:
        """Tell for each Unix time whether the alarm is in the state ALARM when it is evaluated then."""
        assert self.missing in {"breaching", "notBreaching"}, f"{self.missing} is not used in this repository"
        found = {name: metrics.get(source.metric, Metric()) for name, source in self.sources.items()}
        count = self.periods + assumptions.extra_periods
        period_s = self.period.total_seconds()
        ends_s = nows_s - nows_s % 3_600 if self.is_multi_day else nows_s
        begins_s = ends_s - count * period_s
        until_s = np.minimum(ends_s, nows_s - assumptions.delay.total_seconds())
        if self.missing == "notBreaching":  # then it is OK where no metric has a data point: nothing to evaluate
            read = [np.isfinite(metric.reduce("Sum", begins_s, until_s)) for metric in found.values()]
            states = np.any(read, axis=0)
        else:
            states = np.full(len(nows_s), True)
        starts_s = begins_s[states, np.newaxis] + period_s * np.arange(count)
        stops_s = np.minimum(starts_s + period_s, until_s[states, np.newaxis])
        series = {
            name: metric.reduce(self.sources[name].statistic, starts_s, stops_s) for name, metric in found.items()
        }
        math = Math(starts_s, assumptions)
        for name, expression in reversed(list(self.expressions.items())):
            series[name] = math.compute(expression, series)
        watched = series[next(iter(self.expressions), next(iter(self.sources)))]
        are_there = ~np.isnan(watched)
        later = np.cumsum(are_there[:, ::-1], axis=1)[:, ::-1]
        are_counted = are_there & (later <= self.periods)  # the latest values, as many as there are periods
        breaching = np.sum(are_counted & COMPARISONS[self.comparison](watched, self.threshold), axis=1)
        if self.missing == "breaching":
            breaching += self.periods - np.sum(are_counted, axis=1)
        states[states] = breaching >= self.datapoints
        return states

    def times_it_rings(
        self, metrics: Metrics, begin: datetime, end: datetime, assumptions: Assumptions
    ) -> Iterator[datetime]:
        """Yield each time between two moments at which the alarm goes from OK to ALARM, and so tells its owner."""
        first = begin.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        nows_s = np.arange(first.timestamp(), end.timestamp(), self.step.total_seconds())
        states = self.states(metrics, nows_s, assumptions)
        turns = states & ~np.concatenate([[False], states[:-1]])
        for now_s in nows_s[turns].tolist():
            yield datetime.fromtimestamp(now_s, UTC)


COMPARISONS: Mapping[str, Callable[[Values, float], npt.NDArray[np.bool_]]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
}


def alarm_of_terraform(values: Mapping[str, Any]) -> Alarm:
    """Return an alarm from the values of a resource aws_cloudwatch_metric_alarm."""
    queries = values["metric_query"] or []
    stats = {query["id"]: query["metric"][0] for query in queries if query["metric"]} or {
        "metric": {**values, "stat": values["statistic"]}
    }
    sources = {name: Source(stat["namespace"], stat["metric_name"], stat["stat"]) for name, stat in stats.items()}
    assert not any(stat["dimensions"] for stat in stats.values()), "a dimension makes a metric of each value"
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
