"""`make logs QUERY=orders SINCE=1d STRATEGY=...`: run one of the queries in terraform/queries on the logs.

Terraform saves the same queries in the CloudWatch console.
"""

import contextlib
import difflib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.cells import cell_len
from rich.text import Text

from scripts import ROOT, console
from scripts.cloud.aws import CONFIG, AwsError, Cloud, UsageError, connect, translate_errors
from scripts.cloud.tables import GAP, INDENT, TableRow, flow, shorten, show_table, width_of_output
from scripts.console import format_count
from trader.logs import printable
from trader.model import NEW_YORK

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

QUERIES = ROOT / "terraform" / "queries"
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_GROUPS = 50
"""Maximum number of log groups that AWS accepts in one query."""

ROWS, MAX_ROWS = 1_000, 10_000

MAX_SYMBOLS = 6
"""Maximum number of symbols that a line of equal refusals names; JSON=1 has all."""

MAX_TITLE_FRACTION = 0.4
"""The part of a line that the names of what failed take at most."""

MIN_WHY = 20
"""The fewest characters that a line has for why something failed, even if it is too wide then."""

DETAILS_HINT = "DETAILS=1 shows all that was logged of each"

REPORT = "platform.report"
"""The line that Lambda logs at the end of each invocation."""

POLL_S, LIMIT_S = 0.5, 300.0

TIMES = (
    "is neither an age such as 30m, 6h, 1d or 2w nor a time such as 2026-11-23T15:00 (New York time unless it has a "
    "zone)"
)
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
INSIGHTS_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)")

type LogRow = Mapping[str, str]
type Seen = Callable[[Mapping[str, float]], None]
"""A callback for a query's progress so far: recordsMatched, recordsScanned and bytesScanned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The time from `since` to `until`, both included."""

    since: datetime
    until: datetime

    def __str__(self) -> str:
        since, until = (moment.astimezone(NEW_YORK) for moment in (self.since, self.until))
        return f"{since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S}, New York time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a query: its rows as AWS wrote them, and how much was scanned."""

    rows: Sequence[LogRow]
    statistics: Mapping[str, float]
    is_cut: bool  # as many rows as the limit: there may be more


def main() -> None:
    """Run the query and show its rows; without QUERY, list the queries. Finding nothing is not an error."""
    with console.plain_errors(interrupted="interrupted; the query was stopped"):
        name = os.environ.get("QUERY", "")
        if not name:
            list_queries(as_json=console.wants_json())
            return
        text = query_text(name)
        period = period_of(os.environ, datetime.now(UTC))
        limit = limit_of(os.environ)
        cloud = connect()
        groups = log_groups(cloud, choose_strategies(cloud, os.environ), period)
        with watching(f"make logs QUERY={name}") as seen:
            answer = ask(client_of(cloud), text, groups, period, limit=limit, seen=seen)
        rows = [name_strategy(row, cloud) for row in answer.rows]
        if console.wants_json():
            console.print_json(as_json(name, rows, answer, groups, period))
        elif rows:
            show(name, rows, answer, period)
        else:
            console.OUT.print(Text(nothing(name, answer, groups, period)))
        if answer.is_cut:
            console.note(
                f"cut at LIMIT={limit}: there may be more; set a higher LIMIT (up to {MAX_ROWS}) or a later SINCE"
            )


# --- the request ---------------------------------------------------------------------------------------------------


def queries() -> dict[str, str]:
    """Return the available queries by name, each with the comment at the start of its file."""
    files = sorted(QUERIES.glob("*.cwli"))
    return {file.stem: file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for file in files}


def query_text(name: str) -> str:
    """Return the text of a query. Raises UsageError, which lists the available ones, if it does not exist."""
    there = queries()
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        names = "\n".join(f"  {each:<10} {answers}" for each, answers in there.items())
        raise UsageError(f"QUERY={name}: there is no such query{meant}; choose one of these:\n{names}")
    return (QUERIES / f"{name}.cwli").read_text(encoding="utf-8")


def list_queries(*, as_json: bool) -> None:
    """Print the names of the queries and what they answer."""
    if as_json:
        console.print_json(queries())
        return
    show_table(("QUERY=", "Answers"), [TableRow(cells=each) for each in queries().items()])
    console.note("for example: make logs QUERY=orders SINCE=1d STRATEGY=trend")


def limit_of(env: Mapping[str, str]) -> int:
    """Return LIMIT, the maximum number of rows. Raises UsageError if it is invalid."""
    text = env.get("LIMIT") or str(ROWS)
    if not re.fullmatch(r"\d{1,6}", text) or not 1 <= int(text) <= MAX_ROWS:
        raise UsageError(f"LIMIT={text}: must be a whole number from 1 to {MAX_ROWS}")
    return int(text)


def period_of(env: Mapping[str, str], now: datetime) -> Period:
    """Return the period from SINCE to UNTIL; the default is the last day. Raises UsageError if it is invalid."""
    since_text, until_text = env.get("SINCE") or "1d", env.get("UNTIL") or ""
    since, until = moment("SINCE", since_text, now), moment("UNTIL", until_text, now) if until_text else now
    for name, text, given in (("SINCE", since_text, since), ("UNTIL", until_text, until)):
        if given > now:
            raise UsageError(f"{name}={text} is in the future: it is now {now.astimezone(NEW_YORK):%Y-%m-%d %H:%M %Z}")
    if since >= until:
        end = f"UNTIL={until_text}" if until_text else "now"
        raise UsageError(f"SINCE={since_text} is not before {end}, so the period is empty; set an earlier SINCE")
    return Period(since=since, until=until)


def moment(name: str, text: str, now: datetime) -> datetime:
    """Parse a time (New York time unless it has a zone) or an age such as 1d. Raises UsageError."""
    if match := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        try:
            return now - timedelta(**{UNITS[match[2]]: int(match[1])})
        except OverflowError:
            raise UsageError(f"{name}={text} is too long ago; set a shorter age, such as 30m, 6h, 1d or 2w") from None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name}={text} {TIMES}") from None
    return (time if time.tzinfo else time.replace(tzinfo=NEW_YORK)).astimezone(UTC)


def choose_strategies(cloud: Cloud, env: Mapping[str, str]) -> Sequence[str]:
    """Return the comma-separated strategies in STRATEGY; all deployed ones if it is empty. Raises AwsError."""
    asked = [name.strip() for name in env.get("STRATEGY", "").split(",") if name.strip()]
    return (
        [cloud.require_deployed(name) for name in dict.fromkeys(asked)]
        or cloud.strategies
        or [cloud.require_deployed("")]
    )


def client_of(cloud: Cloud) -> "CloudWatchLogsClient":
    """Return a client for CloudWatch Logs in the cloud's region."""
    return cloud.session.client("logs", config=CONFIG)


def log_groups(cloud: Cloud, strategies: Sequence[str], period: Period | None = None) -> Sequence[str]:
    """Return the strategies' log groups.

    Raises AwsError if one is missing, UsageError if there are too many or `period` starts before the oldest logs.
    """
    wanted = [cloud.log_group(strategy) for strategy in strategies]
    if len(wanted) > MAX_GROUPS:
        raise UsageError(f"{len(wanted)} strategies: AWS queries {MAX_GROUPS} log groups at most; set STRATEGY")
    with translate_errors("the log groups"):
        pages = client_of(cloud).get_paginator("describe_log_groups").paginate(logGroupNamePrefix=cloud.log_group(""))
        there = {
            group["logGroupName"]: group.get("retentionInDays", 0) for page in pages for group in page["logGroups"]
        }
    if missing := [name for name in wanted if name not in there]:
        raise AwsError(
            f"there is no log group {', '.join(missing)} in account {cloud.account}, region {cloud.region}, although "
            "the strategy is deployed: it was deleted; create it again with make deploy"
        )
    kept_days = [there[name] for name in wanted]
    if period and all(kept_days) and period.since < (first := datetime.now(UTC) - timedelta(days=max(kept_days))):
        raise UsageError(
            f"SINCE is before {first.astimezone(NEW_YORK):%Y-%m-%d}: logs are kept for {max(kept_days)} days "
            "(retention_days in terraform/variables.tf); set a later SINCE"
        )
    return wanted


# --- the query -----------------------------------------------------------------------------------------------------


def ask(
    client: "CloudWatchLogsClient",
    text: str,
    groups: Sequence[str],
    period: Period,
    *,
    limit: int = MAX_ROWS,
    limit_s: float = LIMIT_S,
    seen: Seen = lambda _: None,
) -> Answer:
    """Run a query to its end. An interruption, or a timeout after `limit_s` seconds, stops it in AWS as well."""
    with translate_errors("the query"):
        query = client.start_query(
            logGroupNames=list(groups),
            startTime=int(period.since.timestamp()),
            endTime=int(period.until.timestamp()),
            queryString=text,
            limit=limit,
        )["queryId"]
    try:
        return await_answer(client, query, limit, time.monotonic() + limit_s, seen)
    except BaseException:
        with contextlib.suppress(ClientError, BotoCoreError):  # it may have ended by now
            client.stop_query(queryId=query)
        raise


def await_answer(client: "CloudWatchLogsClient", query: str, limit: int, deadline: float, seen: Seen) -> Answer:
    """Wait for the complete answer and return it. Raises AwsError if the query fails or `deadline` has passed."""
    while True:
        with translate_errors("the query"):
            result = client.get_query_results(queryId=query)
        status = result["status"]
        statistics = {name: float(str(value)) for name, value in result.get("statistics", {}).items()}
        seen(statistics)
        if status == "Complete":
            rows = [{each["field"]: each["value"] for each in row} for row in result["results"]]
            is_cut = len(rows) >= limit
            return Answer(rows=rows, statistics=statistics, is_cut=is_cut)
        if status not in {"Scheduled", "Running"}:
            raise AwsError(f"AWS ended the query without an answer ({status}); try again, or set a later SINCE")
        if time.monotonic() > deadline:
            raise AwsError("the query took too long and was stopped; set a later SINCE")
        time.sleep(POLL_S)


@contextlib.contextmanager
def watching(what: str) -> Iterator[Seen]:
    """Show on a terminal how much a query has scanned so far, and for how long it has run."""
    begun = time.monotonic()

    def words(statistics: Mapping[str, float]) -> str:
        matched, scanned = (f"{statistics.get(name, 0):,.0f}" for name in ("recordsMatched", "recordsScanned"))
        return f"{what}: {matched} of {scanned} records match; {time.monotonic() - begun:.0f} s"

    with console.ERR.status(Text(words({}))) as status:
        yield lambda statistics: status.update(Text(words(statistics)))


# --- the answer ----------------------------------------------------------------------------------------------------


def name_strategy(row: LogRow, cloud: Cloud) -> dict[str, str]:
    """Return a row without AWS's pointer, and with the strategy's name instead of its log group's."""
    prefix = f"{cloud.account}:{cloud.log_group('')}"
    strategy = {"@log": "strategy"}
    return {
        strategy.get(name, name): value.removeprefix(prefix) if name == "@log" else value
        for name, value in row.items()
        if name != "@ptr"
    }


def columns_of(rows: Sequence[LogRow]) -> Sequence[str]:
    """Return all columns in order. AWS omits empty ones from a row, so a new one goes after its left neighbor."""
    columns: list[str] = []
    for row in rows:
        place = 0
        for name in row:
            if name not in columns:
                columns.insert(place, name)
            place = columns.index(name) + 1
    return columns


def as_json(name: str, rows: Sequence[LogRow], answer: Answer, groups: Sequence[str], period: Period) -> dict[str, Any]:
    """Return the rows and their context in JSON's types: numbers as numbers, times as ISO 8601 in UTC."""
    return {
        "query": name,
        "since": period.since.isoformat(),
        "until": period.until.isoformat(),
        "log_groups": list(groups),
        "rows": [{column: parse_value(value) for column, value in row.items()} for row in rows],
        "is_cut": answer.is_cut,
        "statistics": dict(answer.statistics),
    }


def parse_value(value: str) -> str | float | int:
    """Parse a value, which AWS always returns as text: a number, a time as ISO 8601 in UTC, or else the text."""
    if NUMBER.fullmatch(value):
        return float(value) if re.search(r"[.eE]", value) else int(value)
    return f"{value.replace(' ', 'T')}Z" if INSIGHTS_TIME.fullmatch(value) else value


def show(name: str, rows: Sequence[LogRow], answer: Answer, period: Period) -> None:
    """Print the rows as a table, with one line for each failure, and for equal refusals; DETAILS=1 has all of them."""
    say(Text(f" {queries()[name]}\n {period}\n", style="dim"))
    if name == "errors":
        failures = group_failures(rows)
        if console.flag("DETAILS"):
            for failure in failures:
                for line in describe_failure(failure, width_of_output()):
                    say(line)
        else:
            show_failures(failures)
        found = f"{format_count(len(failures), 'failure')} in {format_count(len(rows), 'row')}"
    elif name == "refusals" and not console.flag("DETAILS"):
        shown = sum_up_refusals(rows)
        show_rows(shown)
        found = f"{format_count(len(shown), 'line')} for {format_count(len(rows), 'row')}"
    else:
        show_rows(rows)
        found = format_count(len(rows), "row")
    size = answer.statistics.get("bytesScanned", 0)
    looked_at = f"{answer.statistics.get('recordsScanned', 0):,.0f} log records ({size / 1e6:,.2f} MB) scanned"
    say(Text(f"\n {found}; {looked_at}", style="dim"))


def say(line: Text) -> None:
    """Print a line as it is, however wide."""
    console.OUT.print(line, soft_wrap=True)


def show_rows(rows: Sequence[LogRow]) -> None:
    """Print rows as a table that fits the terminal."""
    columns = columns_of(rows)
    headings = ["time" if column == "@timestamp" else column for column in columns]
    numbers = {column for column in columns if all(NUMBER.fullmatch(row[column]) for row in rows if column in row)}
    cells = [TableRow(cells=[cell(column, row.get(column, "")) for column in columns]) for row in rows]
    show_table(headings, cells, numbers=numbers)


def sum_up_refusals(rows: Sequence[LogRow]) -> Sequence[LogRow]:
    """Return one row for refusals of a strategy that differ in symbol, time and numbers only: the latest, counted.

    A row that has only counts by code, as a run with very many refusals logs them, becomes one for each code.
    """
    groups: dict[tuple[str, ...], list[tuple[LogRow, int]]] = {}
    for row in rows:
        for each, count in _split_by_code(row):
            why = re.sub(r"\d[\d.,:-]*", "0", each.get("why", ""))
            same = (each.get("strategy", ""), each["code"], why.replace(each.get("symbol") or "\n", ""))
            groups.setdefault(same, []).append((each, count))
    return [_describe_refusals(group) for group in groups.values()]


def _split_by_code(row: LogRow) -> Iterator[tuple[LogRow, int]]:
    if row.get("code"):
        yield row, 1
        return
    common = {name: row[name] for name in ("@timestamp", "strategy", "slot", "why") if name in row}
    for name in sorted(row.keys() - common.keys()):
        yield {**common, "code": name.upper()}, int(float(row[name]))


def _describe_refusals(group: Sequence[tuple[LogRow, int]]) -> LogRow:
    latest, _ = group[0]  # a query returns the latest first
    symbols = list(dict.fromkeys(row["symbol"] for row, _ in group if row.get("symbol")))
    more = f" and {len(symbols) - MAX_SYMBOLS} more" if len(symbols) > MAX_SYMBOLS else ""
    return {
        "@timestamp": latest.get("@timestamp", ""),
        "strategy": latest.get("strategy", ""),
        "code": latest["code"],
        "count": str(sum(count for _, count in group)),
        "symbols": ", ".join(symbols[:MAX_SYMBOLS]) + more,
        "why": latest.get("why", ""),
    }


def group_failures(rows: Sequence[LogRow]) -> Sequence[Sequence[LogRow]]:
    """Return the rows of each request together, in the order of the first of them; one without a request is alone.

    A run that fails is logged by the bot, by Lambda's runtime and in Lambda's report.
    """
    groups: dict[object, list[LogRow]] = {}
    for number, row in enumerate(rows):
        request = row.get("request")
        groups.setdefault((row.get("strategy"), request) if request else number, []).append(row)
    return list(groups.values())


def show_failures(failures: Sequence[Sequence[LogRow]]) -> None:
    """Print one line for each failure; on a terminal, what was logged is cut where its line ends."""
    headings = ("time", "strategy", "failure", "why")
    width = width_of_output()
    told = [
        (at, strategy, shorten(what, int(width * MAX_TITLE_FRACTION)), why)
        for at, strategy, what, why in map(sum_up_failure, failures)
    ]
    before = [max(map(cell_len, column)) for column in zip(headings, *told, strict=True)][:-1]
    room = max(width - 1 - sum(each + len(GAP) for each in before), MIN_WHY)
    show_table(headings, [TableRow(cells=(*first, shorten(why, room))) for *first, why in told])
    say(Text(f"\n {DETAILS_HINT}", style="dim"))


def sum_up_failure(rows: Sequence[LogRow]) -> tuple[str, str, str, str]:
    """Return when a failure was logged first, its strategy, what was logged of it, and the first words about why."""
    rows = list(reversed(rows))  # a query returns the latest first
    told = [row for row in rows if row.get("event") != REPORT] or rows
    titles = dict.fromkeys(title for row in told if (title := _title(row)))
    inner = {title.partition(": ")[2] for title in titles}  # the runtime repeats the error's kind alone
    whys = [row[name] for name in ("why", "symbols") for row in told if row.get(name)]
    first = rows[0]
    return (
        cell("@timestamp", first.get("@timestamp", "")),
        printable(first.get("strategy", "")),
        ", ".join(title for title in titles if title not in inner),
        _first_words(whys[0]) if whys else "",
    )


def _first_words(text: str) -> str:
    """Return the first line of a text, and the next one if the first only introduces it."""
    lines = [printable(line.strip()) for line in text.expandtabs(2).splitlines() if line.strip()]
    more = f" {lines[1].removeprefix('- ')}" if lines and lines[0].endswith(":") and len(lines) > 1 else ""
    return f"{lines[0]}{more}" if lines else ""


def _title(row: LogRow) -> str:
    what = [row.get("event", "").removeprefix("platform."), row.get("kind", "")]
    return ": ".join(printable(each) for each in what if each)


def describe_failure(rows: Sequence[LogRow], width: int) -> Iterator[Text]:
    """Yield the lines of a block: when and which strategy, then what was logged, oldest first, and nothing twice."""
    rows = list(reversed(rows))  # a query returns the latest first
    first = rows[0]
    heading = [cell("@timestamp", first.get("@timestamp", "")), printable(first.get("strategy", ""))]
    request = [f"request {printable(first['request'])}"] if first.get("request") else []
    for number, line in enumerate(flow(["  ".join(filter(None, heading)), *request], width, indent=" ")):
        yield Text(line, style="" if number else "bold")
    told = [_tell_apart(row) for row in rows]
    for number, row in enumerate(rows):
        if told[number] not in told[:number] and not any(told[number] < other for other in told):
            yield from _describe_event(row, width)
    yield Text()


def _tell_apart(row: LogRow) -> Set[tuple[str, str]]:
    """Return what a row says beyond what all rows of its failure say."""
    return {item for item in row.items() if item[0] not in ("@timestamp", "strategy", "request")} - {("event", REPORT)}


def _describe_event(row: LogRow, width: int) -> Iterator[Text]:
    lines = [printable(line.expandtabs(2)) for line in row.get("why", "").splitlines() if line.strip()]
    wheres = [f"{name} {cell(name, row[name])}" for name in ("slot", "symbols") if row.get(name)]
    for line in flow([_title(row), *wheres], width):
        yield Text(line, style="red")
    for line in lines:
        yield from (Text(each) for each in flow([line.strip()], width, indent=INDENT * 2))


def cell(column: str, value: str) -> str:
    """Format a value for people: times in New York, numbers with at most four decimals."""
    if column == "day":  # the same in UTC and New York: no session crosses midnight in either
        return value[:10]
    if INSIGHTS_TIME.fullmatch(value):
        return new_york(datetime.fromisoformat(value).replace(tzinfo=UTC))
    if ISO_TIME.fullmatch(value):
        return new_york(datetime.fromisoformat(value))
    if NUMBER.fullmatch(value) and "." in value:
        return f"{float(value):.4f}".rstrip("0").rstrip(".")
    return " ".join(printable(line.strip()) for line in value.splitlines())


def new_york(moment: datetime) -> str:
    """Format a time as New York time, without seconds if they are zero."""
    local = moment.astimezone(NEW_YORK)
    return f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}"


def nothing(name: str, answer: Answer, groups: Sequence[str], period: Period) -> str:
    """Return a message that nothing was found, where the query looked, and what to try next."""
    scanned = answer.statistics.get("recordsScanned", 0)
    looked = f"among {scanned:,.0f} log records" if scanned else "and no log record at all"
    hint = (
        "look further back: SINCE=1w"
        if scanned == 0 or name == "runs"
        else "see what the runs did: make logs QUERY=runs"
    )
    return f"nothing found: no {name} {looked} in {', '.join(groups)}, {period}; {hint}"
