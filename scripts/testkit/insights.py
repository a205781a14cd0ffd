"""CloudWatch Logs Insights for moto's server, which by itself ignores `filter` and `stats`.

This is a small interpreter for the part of the query language that this repository's queries use. It refuses anything
else with MalformedQueryException instead of guessing what AWS would answer. `install()` makes all moto servers in this
process use it.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cmp_to_key, partial
from itertools import groupby
from typing import Any
from uuid import uuid4

from moto.logs.exceptions import InvalidParameterException, LogsClientError, ResourceNotFoundException
from moto.logs.responses import LogsResponse

type Value = str | float | None
"""The value of a field: text or a number; None if the event does not have the field."""

type Event = Mapping[str, Value]
type Expression = Callable[[Event], Any]

MAX_FIELDS = 200
MAX_GROUPS = 50
MAX_ROWS = 10_000

PENDING_LOOKS = 1
"""The number of times that a query is reported as running before it is complete."""


class QueryError(LogsClientError):
    """A query that AWS would refuse, or that this interpreter does not support."""

    def __init__(self, message: str) -> None:
        super().__init__("MalformedQueryException", message)


# --- tokens --------------------------------------------------------------------------------------------------------

TOKENS = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<pattern>(?<=like\ )/(?:[^/\\\n]|\\.)+/)
      | (?P<period>\d+(?:ms|s|m|h|d|w)\b)
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>`[^`]+`|@?[A-Za-z_][\w.]*)
      | (?P<sign>!=|<=|>=|[=<>()\[\],|+*/-])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a query, and its kind."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


END = Token("end", "the end of the query")


def tokens(query: str) -> list[Token]:
    """Split a query into tokens, without comments."""
    found, at = [], 0
    while at < len(query):
        match = TOKENS.match(query, at)
        if not match:
            raise QueryError(f"unexpected text: {query[at : at + 20]!r}")
        found.append(Token(str(match.lastgroup), match[0]))
        at = match.end()
    return [token for token in found if token.kind != "blank"]


# --- queries -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """An expression, and the name of its column in the result."""

    name: str
    compute: Expression


@dataclass(slots=True)
class Query:
    """An executable query: its commands in order, each a function from rows to rows."""

    commands: list[Callable[[list[dict[str, Value]]], list[dict[str, Value]]]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    is_grouped: bool = False
    is_sorted: bool = False
    limit: int = MAX_ROWS

    def run(self, events: list[dict[str, Value]], limit: int) -> tuple[list[dict[str, Value]], int]:
        """Return the rows, newest first unless sorted, and the number of events that passed the filters."""
        rows = sorted(events, key=lambda event: str(event["@timestamp"]), reverse=True)
        matched = len(rows)
        for command in self.commands:
            rows = command(rows)
            if getattr(command, "is_filter", False):
                matched = len(rows)
        rows = rows[: min(self.limit, limit)]
        names = [] if self.is_grouped else [*(self.shown or ["@timestamp", "@message"]), "@ptr"]
        return [{name: row[name] for name in names or row if row.get(name) is not None} for row in rows], matched


class Parser:
    """A parser that turns the text of a query into a Query."""

    def __init__(self, query: str) -> None:
        self._tokens = tokens(query)
        self._at = 0
        self._query = Query()

    def parse(self) -> Query:
        """Parse a query. Raises QueryError for anything that is not supported."""
        commands = {
            "fields": self._fields,
            "display": self._display,
            "filter": self._filter,
            "stats": self._stats,
            "sort": self._sort,
            "limit": self._limit,
        }
        while True:
            name = self._next("name").text
            if name not in commands:
                raise QueryError(f"unknown command {name}; supported: {', '.join(commands)}")
            commands[name]()
            if self._peek() is END:
                return self._query
            self._expect("|")

    # --- commands

    def _fields(self) -> None:
        columns = self._columns()
        self._query.shown += [column.name for column in columns]
        self._query.commands.append(lambda rows: [row | {c.name: c.compute(row) for c in columns} for row in rows])

    def _display(self) -> None:
        self._query.shown = [self._name()]
        while self._take(","):
            self._query.shown.append(self._name())

    def _filter(self) -> None:
        condition = self._or()

        def command(rows: list[dict[str, Value]]) -> list[dict[str, Value]]:
            return [row for row in rows if condition(row) is True]

        command.is_filter = True  # type: ignore[attr-defined]  # what `run` counts
        self._query.commands.append(command)

    def _stats(self) -> None:
        if self._query.is_grouped:
            raise QueryError("a second stats command is not supported")
        self._query.is_grouped = True
        figures = [self._figure()]
        while self._take(","):
            figures.append(self._figure())
        by = self._columns() if self._take("by") else []
        self._query.commands.append(partial(group_rows, by=by, figures=figures))

    def _sort(self) -> None:
        keys = [self._sort_key()]
        while self._take(","):
            keys.append(self._sort_key())
        self._query.commands.append(partial(sort_rows, keys=keys))

    def _limit(self) -> None:
        self._query.limit = int(self._next("number").text)

    # --- parts of commands

    def _columns(self) -> list[Column]:
        columns = [self._column()]
        while self._take(","):
            columns.append(self._column())
        return columns

    def _column(self) -> Column:
        begin = self._at
        compute = self._sum()
        name = "".join(map(str, self._tokens[begin : self._at])).strip("`")
        return Column(self._name() if self._take("as") else name, compute)

    def _figure(self) -> tuple[str, Callable[[Sequence[Event]], Value]]:
        begin = self._at
        function = self._next("name").text
        self._expect("(")
        if function == "count" and self._take("*"):
            argument: Expression = lambda _: 1.0  # noqa: E731 every event counts
        else:
            argument = self._sum()
        percent = float(self._next("number").text) if function == "pct" and self._expect(",") else 0.0
        self._expect(")")
        if function not in FIGURES:
            raise QueryError(f"unknown statistic {function}; supported: {', '.join(FIGURES)}")
        name = "".join(map(str, self._tokens[begin : self._at]))
        figure = FIGURES[function]

        def compute(events: Sequence[Event]) -> Value:
            found = [(str(event["@timestamp"]), value) for event in events if (value := argument(event)) is not None]
            return round_value(figure(found, percent))

        return (self._name() if self._take("as") else name), compute

    def _sort_key(self) -> tuple[str, bool]:
        name = self._name()
        return name, bool(self._take("desc") or (self._take("asc") and False))

    def _name(self) -> str:
        return self._next("name").text.strip("`")

    # --- conditions: True, False, or None where a field is missing

    def _or(self) -> Expression:
        terms = [self._and()]
        while self._take("or"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else partial(either, terms)

    def _and(self) -> Expression:
        terms = [self._not()]
        while self._take("and"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else partial(both, terms)

    def _not(self) -> Expression:
        if not self._take("not"):
            return self._comparison()
        term = self._not()

        def negate(event: Event) -> bool:
            value = term(event)
            if value is None:
                raise QueryError("`not` with a missing field is not supported, because AWS's result is not known")
            return not value

        return negate

    def _comparison(self) -> Expression:
        left = self._sum()
        if self._take("in"):
            return self._membership(left)
        if self._take("like"):
            return self._likeness(left)
        for sign in ("!=", "<=", ">=", "=", "<", ">"):
            if self._take(sign):
                return partial(comparison, sign, left, self._sum())
        return left

    def _membership(self, left: Expression) -> Expression:
        self._expect("[")
        allowed = [self._sum()]
        while self._take(","):
            allowed.append(self._sum())
        self._expect("]")
        return lambda event: any(compare("=", left(event), each(event)) for each in allowed)

    def _likeness(self, left: Expression) -> Expression:
        token = self._next("text", "pattern")
        inside = token.text[1:-1]
        wanted = re.compile(inside if token.kind == "pattern" else re.escape(inside))
        return lambda event: None if (value := left(event)) is None else bool(wanted.search(format_value(value)))

    # --- values

    def _sum(self) -> Expression:
        value = self._product()
        while sign := self._take("+") or self._take("-"):
            value = partial(calculate, sign, value, self._product())
        return value

    def _product(self) -> Expression:
        value = self._value()
        while sign := self._take("*") or self._take("/"):
            value = partial(calculate, sign, value, self._value())
        return value

    def _value(self) -> Expression:
        if self._take("("):
            inner = self._or()
            self._expect(")")
            return inner
        token = self._next("text", "number", "name")
        if token.kind == "text":
            return lambda _: token.text[1:-1]
        if token.kind == "number":
            return lambda _: float(token.text)
        if self._take("("):
            return self._call(token.text)
        name = token.text.strip("`")
        return lambda event: event.get(name)

    def _call(self, function: str) -> Expression:
        if function == "bin":
            seconds = period_s(self._next("period").text)
            self._expect(")")
            return lambda event: stamp(seconds * (moment_s(str(event["@timestamp"])) // seconds))
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._expect(")")
        if function == "ispresent" and len(arguments) == 1:
            return lambda event: arguments[0](event) is not None
        if function == "coalesce":
            return lambda event: next((v for each in arguments if (v := each(event)) is not None), None)
        raise QueryError(f"unknown function {function}; supported: bin, ispresent, coalesce")

    # --- tokens

    def _peek(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else END

    def _next(self, *kinds: str) -> Token:
        token = self._peek()
        if token.kind not in kinds:
            raise QueryError(f"expected {' or '.join(kinds)}, found {token}")
        self._at += 1
        return token

    def _take(self, text: str) -> str:
        token = self._peek()
        if token.kind not in {"name", "sign"} or token.text != text:
            return ""
        self._at += 1
        return text

    def _expect(self, text: str) -> str:
        if not self._take(text):
            raise QueryError(f"expected {text}, found {self._peek()}")
        return text


# --- values --------------------------------------------------------------------------------------------------------


def either(terms: Sequence[Expression], event: Event) -> bool | None:
    """Return True if any term is true; otherwise None if one is unknown, else False."""
    unknown = False
    for term in terms:
        if (value := term(event)) is True:
            return True
        unknown = unknown or value is None
    return None if unknown else False


def both(terms: Sequence[Expression], event: Event) -> bool | None:
    """Return True if all terms are true, evaluated from the left; otherwise the first value that is not."""
    return next((value for term in terms if (value := term(event)) is not True), True)


def comparison(sign: str, left: Expression, right: Expression, event: Event) -> bool | None:
    """Compare the values of two expressions for an event."""
    return compare(sign, left(event), right(event))


def number(value: Value) -> float | None:
    """Return a value as a number; None if it does not look like one."""
    try:
        found = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def compare(sign: str, left: Value, right: Value) -> bool | None:
    """Compare two values as numbers if both are numbers, otherwise as text; None if one is missing.

    Raises QueryError for `!=` with a missing value.
    """
    if left is None or right is None:
        if sign == "!=":
            raise QueryError("`!=` with a missing field is not supported, because AWS's result is not known")
        return None
    numbers = number(left), number(right)
    a, b = numbers if None not in numbers else (format_value(left), format_value(right))
    results = {"=": a == b, "!=": a != b, "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}  # type: ignore[operator]
    return results[sign]


def calculate(sign: str, left: Expression, right: Expression, event: Event) -> Value:
    """Return a sum, difference, product or quotient; None without two numbers, or for a division by 0."""
    a, b = number(left(event)), number(right(event))
    if a is None or b is None or (sign == "/" and b == 0):
        return None
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1)}[sign]


def format_value(value: Value) -> str:
    """Format a value as in results, where whole numbers have no decimal point."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def round_value(value: Value) -> Value:
    """Round a computed number as Insights does, to at most four decimals."""
    return round(value, 4) if isinstance(value, float) else value


def period_s(text: str) -> float:
    """Convert a period such as 5m to seconds."""
    amount, unit = re.findall(r"\d+|[a-z]+", text)
    return float(amount) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[unit]


def stamp(seconds: float) -> str:
    """Format a time, in seconds since 1970, as Insights does, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def moment_s(text: str) -> float:
    """Convert a time from `stamp` back to seconds since 1970."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


# --- commands ------------------------------------------------------------------------------------------------------

type Found = list[tuple[str, Any]]


def numbers(found: Found) -> list[float]:
    """Return the values that are numbers."""
    return [value for _, each in found if (value := number(each)) is not None]


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile by the nearest-rank method; None without values."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)] if values else None


FIGURES: dict[str, Callable[[Found, float], Any]] = {
    "count": lambda found, _: float(len(found)),
    "count_distinct": lambda found, _: float(len({value for _, value in found})),
    "sum": lambda found, _: math.fsum(numbers(found)) if numbers(found) else None,
    "avg": lambda found, _: math.fsum(numbers(found)) / len(numbers(found)) if numbers(found) else None,
    "min": lambda found, _: min(numbers(found), default=None),
    "max": lambda found, _: max(numbers(found), default=None),
    "pct": lambda found, percent: percentile(numbers(found), percent),
    "earliest": lambda found, _: min(found, default=(None, None), key=lambda each: each[0])[1],
    "latest": lambda found, _: max(found, default=(None, None), key=lambda each: each[0])[1],
}


def group_rows(
    rows: list[dict[str, Value]],
    by: Sequence[Column],
    figures: Sequence[tuple[str, Callable[[Sequence[Event]], Value]]],
) -> list[dict[str, Value]]:
    """Return one row for each combination of values of the grouping columns."""

    def key(row: Event) -> tuple[str, ...]:
        return tuple("" if (value := column.compute(row)) is None else format_value(value) for column in by)

    groups = [list(group) for _, group in groupby(sorted(rows, key=key), key)]
    return [
        {column.name: column.compute(group[0]) for column in by} | {name: compute(group) for name, compute in figures}
        for group in groups
    ]


def sort_rows(rows: list[dict[str, Value]], keys: Sequence[tuple[str, bool]]) -> list[dict[str, Value]]:
    """Sort rows as AWS documents it: text before numbers, and digits within text by their length, then their value."""

    def compare(a: Event, b: Event) -> int:
        for name, descending in keys:
            left, right = natural(a.get(name)), natural(b.get(name))
            if left != right:
                return (1 if left > right else -1) * (-1 if descending else 1)
        return 0

    return sorted(rows, key=cmp_to_key(compare))


def natural(value: Value) -> tuple[Any, ...]:
    """Return the sort key of a value; missing values come first."""
    if value is None:
        return (0,)
    if (figure := number(value)) is not None:
        return 2, figure
    chunks = re.findall(r"\d+|\D+", str(value))
    return 1, [(0, len(chunk), chunk) if chunk.isdigit() else (1, 0, chunk) for chunk in chunks]


# --- events --------------------------------------------------------------------------------------------------------


def discover_fields(message: str) -> dict[str, Value]:
    """Return the fields of a message, with dots in the names of nested ones; empty if the message is not a JSON object.

    Raises QueryError if there are more than MAX_FIELDS.
    """
    try:
        content = json.loads(message)
    except ValueError:
        return {}
    if not isinstance(content, dict):
        return {}
    fields = dict(flatten("", content))
    if len(fields) > MAX_FIELDS:
        raise QueryError(f"an event has {len(fields)} fields, but AWS finds at most {MAX_FIELDS}")
    return fields


def flatten(prefix: str, content: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Value]]:
    """Yield each value with its path, the names joined by dots; nulls are left out."""
    items = content.items() if isinstance(content, dict) else ((str(n), each) for n, each in enumerate(content))
    for name, value in items:
        if isinstance(value, dict | list):
            yield from flatten(f"{prefix}{name}.", value)
        elif isinstance(value, bool | int | float):
            yield f"{prefix}{name}", float(value)
        elif value is not None:
            yield f"{prefix}{name}", str(value)


def events_of(groups: Sequence[Any], start_s: int, end_s: int) -> tuple[list[dict[str, Value]], float]:
    """Return the events of moto's log groups in a time range, including both ends, and the number of bytes scanned."""
    found: list[dict[str, Value]] = []
    size = 0
    for group in groups:
        for stream in group.streams.values():
            for event in stream.events:
                if not start_s * 1000 <= event.timestamp <= end_s * 1000 + 999:
                    continue
                size += len(event.message.encode())
                system = {
                    "@timestamp": stamp(event.timestamp / 1000),
                    "@message": event.message,
                    "@log": f"{group.account_id}:{group.name}",
                    "@logStream": stream.log_stream_name,
                    "@ptr": str(event.event_id),
                }
                found.append(discover_fields(event.message) | system)
    return found, float(size)


# --- moto ----------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A started query."""

    rows: list[dict[str, Value]]
    statistics: dict[str, float]
    query: str
    groups: Sequence[str]
    looks: int = 0
    stopped: bool = False

    @property
    def status(self) -> str:
        """The state of the query as AWS spells it."""
        if self.stopped:
            return "Cancelled"
        return "Complete" if self.looks > PENDING_LOOKS else "Running"


STARTED: list[Running] = []
"""All queries started in this process, for tests to inspect."""


def start_query(response: LogsResponse) -> str:
    """Run a query, and keep its results."""
    name, names = response._get_param("logGroupName"), response._get_param("logGroupNames") or []
    if bool(name) == bool(names) or len(names) > MAX_GROUPS:
        raise InvalidParameterException("give exactly one of logGroupName and logGroupNames, and at most 50 groups")
    limit = int(response._get_param("limit") or MAX_ROWS)
    if not 1 <= limit <= MAX_ROWS:
        raise InvalidParameterException(f"limit must be from 1 to {MAX_ROWS}")
    groups = response.logs_backend.groups
    chosen = [name] if name else names
    for each in chosen:
        if each not in groups:
            raise ResourceNotFoundException(f"Log group '{each}' does not exist for account ID '123456789012'")
    start_s, end_s = response._get_int_param("startTime"), response._get_int_param("endTime")
    if start_s is None or end_s is None or start_s > end_s:
        raise InvalidParameterException("startTime must not be after endTime")
    text = response._get_param("queryString")
    query = Parser(text).parse()
    events, size = events_of([groups[each] for each in chosen], start_s, end_s)
    rows, matched = query.run(events, limit)
    figures = {"recordsMatched": float(matched), "recordsScanned": float(len(events)), "bytesScanned": size}
    identity = str(uuid4())
    _queries(response)[identity] = Running(rows, figures, text, chosen)
    STARTED.append(_queries(response)[identity])
    return json.dumps({"queryId": identity})


def get_query_results(response: LogsResponse) -> str:
    """Return the results so far; those of a running query may be incomplete."""
    running = _query(response)
    running.looks += 1
    rows = running.rows if running.status == "Complete" else running.rows[:1]
    results = [[{"field": name, "value": format_value(value)} for name, value in row.items()] for row in rows]
    return json.dumps({"results": results, "statistics": running.statistics, "status": running.status})


def stop_query(response: LogsResponse) -> str:
    """Stop a running query."""
    running = _query(response)
    if running.status != "Running":
        raise InvalidParameterException("Query is not running")
    running.stopped = True
    return json.dumps({"success": True})


def _query(response: LogsResponse) -> Running:
    identity = response._get_param("queryId")
    if identity not in _queries(response):
        raise ResourceNotFoundException("Query not found")
    return _queries(response)[identity]


def _queries(response: LogsResponse) -> dict[str, Running]:
    kept: dict[str, Running] = vars(response.logs_backend).setdefault("insights_queries", {})
    return kept


def install() -> None:
    """Make all moto servers in this process use this interpreter."""
    for action in (start_query, get_query_results, stop_query):
        setattr(LogsResponse, action.__name__, action)
