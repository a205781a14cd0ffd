"""`make tail STRATEGY=... SINCE=10m`: the log as it is written, one readable line for each record.

Times are New York's. FOLLOW=0 prints what there is, and ends.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from scripts import console
from scripts.cloud.aws import connect, translate_errors
from scripts.cloud.logs import choose_strategies, client_of, log_groups, period_of, printable
from trader.logs import TextFormatter
from trader.model import NEW_YORK

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import FilteredLogEventTypeDef

POLL_S = 2.0
GROUPS_PER_S = 2
"""AWS lets an account ask for events some five times a second; with many strategies the rounds are longer."""

LATE_MS = 120_000
"""Lambda hands records over seconds after their time: each round looks so far back for those that are late."""

BLANK = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
OF_LAMBDA = frozenset({"timestamp", "level", "message", "logger", "requestId", "stackTrace", "location"})
"""Fields that every record has, or that are shown in another way than name=value."""

STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red", "PLATFORM": "dim"}
PREFIXES = ("cyan", "magenta", "green", "blue", "yellow")


@dataclass(slots=True)
class Source:
    """One log group, and what of it has been seen."""

    strategy: str
    group: str
    since_ms: int
    _seen: dict[str, int] = field(default_factory=dict)

    def new(self, client: "CloudWatchLogsClient") -> "list[FilteredLogEventTypeDef]":
        """The events that were not there before, oldest first, each just once."""
        with translate_errors(f"the log {self.group}"):
            pages = client.get_paginator("filter_log_events").paginate(logGroupName=self.group, startTime=self.since_ms)
            events = [event for page in pages for event in page["events"] if event["eventId"] not in self._seen]
        self._seen |= {event["eventId"]: event["timestamp"] for event in events}
        latest_ms = max(self._seen.values(), default=0)
        self.since_ms = max(self.since_ms, latest_ms - LATE_MS)
        self._seen = {each: at_ms for each, at_ms in self._seen.items() if at_ms >= self.since_ms}
        return sorted(events, key=lambda event: event["timestamp"])


def main() -> None:
    """Print records until Ctrl-C, which is the ordinary way to end, or with FOLLOW=0 until there are no more."""
    parser = console.parser(
        "make tail",
        f"{__doc__} Variables: STRATEGY (one, or several with commas; all by default), SINCE (10m by "
        "default; 30m, 6h, 1d ago, or a time), FOLLOW.",
    )
    arguments = parser.parse_args()
    with console.plain_errors():
        try:
            follow(os.environ, as_json=arguments.json)
        except KeyboardInterrupt:
            console.note("ended")
        except BrokenPipeError:  # whoever read this, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def follow(env: Mapping[str, str], *, as_json: bool) -> None:
    """Print what there is, and what comes unless FOLLOW=0."""
    is_endless = env.get("FOLLOW", "1") not in {"0", "false", "no"}
    period = period_of({"SINCE": env.get("SINCE") or "10m"}, datetime.now(UTC))
    cloud = connect(env)
    strategies = choose_strategies(cloud, env)
    client, since_ms = client_of(cloud), int(period.since.timestamp() * 1000)
    groups = log_groups(cloud, strategies, period)
    sources = [Source(strategy, group, since_ms) for strategy, group in zip(strategies, groups, strict=True)]
    console.note(f"{', '.join(groups)}, New York time{'; Ctrl-C ends it' if is_endless else ''}")
    while True:
        begun = time.monotonic()
        events = [(source.strategy, event) for source in sources for event in source.new(client)]
        for strategy, event in sorted(events, key=lambda each: each[1]["timestamp"]):
            say(strategy, event, strategies, as_json=as_json)
        if not is_endless:
            if not events:
                console.note(f"no record since {period.since.astimezone(NEW_YORK):%Y-%m-%d %H:%M}; try SINCE=1d")
            return
        rest_s = max(POLL_S, len(sources) / GROUPS_PER_S) - (time.monotonic() - begun)
        time.sleep(max(rest_s, 0.1))


def say(strategy: str, event: "FilteredLogEventTypeDef", strategies: Sequence[str], *, as_json: bool) -> None:
    """Print one record, with its strategy before it if there are several."""
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    content = parse_record(event["message"])
    if as_json:
        told = {"timestamp": moment.isoformat(), "strategy": strategy, "record": content or event["message"].rstrip()}
        console.print_json(told)
        sys.stdout.flush()
        return
    level, lines = readable(content, event["message"], moment)
    width = max(map(len, strategies))
    for line in lines:
        text = Text(line, style=STYLES.get(level, ""))
        if len(strategies) > 1:
            colour = PREFIXES[list(strategies).index(strategy) % len(PREFIXES)]
            text = Text.assemble((f"{strategy:<{width}} ", colour), text)
        console.OUT.print(text, soft_wrap=True)


def parse_record(message: str) -> dict[str, Any] | None:
    """The message's JSON object; None if it is none."""
    try:
        content = json.loads(message)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def readable(content: Mapping[str, Any] | None, message: str, moment: datetime) -> tuple[str, Sequence[str]]:
    """A record's level, and its lines, without the power to do anything to a terminal."""
    if content is None:
        return "", [f"{clock(moment)} {printable(message.rstrip())}"]
    kind = content.get("type")
    if isinstance(kind, str) and kind.startswith("platform."):
        return platform(kind.removeprefix("platform."), content.get("record"), moment)
    level = str(content.get("level", "INFO"))
    level = level if level in logging.getLevelNamesMapping() else "INFO"
    fields = {name: value for name, value in content.items() if name not in OF_LAMBDA | BLANK}
    record = logging.makeLogRecord({**fields, "levelname": level, "msg": "", "args": ()})
    record.msg = str(content.get("message", ""))
    line = printable(_Formatter(moment).format(record))  # a field's name may be hostile, too
    return level, [line, *traceback(content.get("stackTrace"))]


class _Formatter(TextFormatter):
    """The trader's own lines, at a given moment in New York."""

    def __init__(self, moment: datetime) -> None:
        super().__init__()
        self._clock = clock(moment)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 the name and the arguments are logging's
        """The event's time, not the present."""
        return self._clock


def clock(moment: datetime) -> str:
    """A time as it begins each line."""
    return f"{moment.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}"


def traceback(entries: object) -> Iterator[str]:
    """The lines of a traceback, indented."""
    if isinstance(entries, list):
        for entry in entries:
            yield from (f"    {printable(line)}" for line in str(entry).splitlines())


def platform(kind: str, record: object, moment: datetime) -> tuple[str, Sequence[str]]:
    """A line of Lambda's own: the report with what it cost, of the others the kind and how it went."""
    found = record if isinstance(record, dict) else {}
    metrics = found.get("metrics")
    figures = metrics if isinstance(metrics, dict) else {}
    status = found.get("status", "")
    level = "ERROR" if kind == "report" and status != "success" else "PLATFORM"
    words = [kind.upper(), *(f"{name}={found[name]}" for name in ("status", "errorType", "version") if found.get(name))]
    words += [f"{name}={value}" for name, value in figures.items()]
    return level, [f"{clock(moment)} {printable(' '.join(words))}"]


if __name__ == "__main__":
    main()
