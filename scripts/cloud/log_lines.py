"""Readable log lines: the function's records, formatted as in out/run.log, and Lambda's own lines about a run.

All times are New York time. No record can send control characters to the terminal.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from trader.logs import TextFormatter, printable
from trader.model import NEW_YORK

ENVELOPE = frozenset({"timestamp", "level", "message", "logger", "requestId", "stackTrace", "location"})
"""Fields that Lambda's JSON format adds to a record."""

RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Field names that the logging module reserves."""

REPORTED = {
    "durationMs": "ms",
    "billedDurationMs": "ms billed",
    "initDurationMs": "ms of init",
    "maxMemoryUsedMB": "MB used",
    "memorySizeMB": "MB limit",
}
STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red", "PLATFORM": "dim"}
FORMATTER = TextFormatter()
FORMATTER.converter = lambda epoch_s: datetime.fromtimestamp(epoch_s or 0, NEW_YORK).timetuple()


def parse(message: str) -> Any:  # noqa: ANN401 any JSON
    """Return the JSON object in a message; the unchanged text if it is not a JSON object."""
    try:
        content = json.loads(message)
    except ValueError:
        return message
    return content if isinstance(content, dict) else message


def render(message: str, moment: datetime | None = None) -> tuple[str, Sequence[str]]:
    """Return a record's level (PLATFORM for Lambda's own lines, empty for plain text) and its lines.

    `moment` is the time to show; the default is the time in the record itself.
    """
    content = parse(message)
    if not isinstance(content, dict):
        text = printable(message.rstrip().expandtabs(1))
        return "", [f"{clock(moment)} {text}" if moment else text]
    moment = moment or _time(content.get("timestamp") or content.get("time"))
    kind = content.get("type")
    if isinstance(kind, str) and kind.startswith("platform."):
        record = content.get("record")
        return _platform(kind.removeprefix("platform."), record if isinstance(record, dict) else {}, moment)
    level = str(content.get("level", "INFO"))
    level = level if level in logging.getLevelNamesMapping() else "INFO"
    fields = {name: value for name, value in content.items() if name not in ENVELOPE | RESERVED}
    record = logging.makeLogRecord({**fields, "levelname": level, "msg": "", "args": (), "created": moment.timestamp()})
    record.msg = str(content.get("message", ""))
    line = printable(FORMATTER.format(record))  # field names may be hostile as well
    return level, [line, *_traceback(content.get("stackTrace"))]


def clock(moment: datetime) -> str:
    """Format a time for the start of a line."""
    return f"{moment.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}"


def _time(text: object) -> datetime:
    """Parse a time in the log; return the epoch if it is invalid."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _traceback(entries: object) -> Iterator[str]:
    """Yield the lines of a traceback, indented."""
    for entry in entries if isinstance(entries, list) else ():
        yield from (f"    {printable(line)}" for line in str(entry).splitlines())


def _platform(kind: str, record: Mapping[str, Any], moment: datetime) -> tuple[str, Sequence[str]]:
    """Return the level and text of one of Lambda's own lines: a report's figures, else the event and its outcome."""
    metrics, status = record.get("metrics"), record.get("status", "success")
    figures = metrics if isinstance(metrics, dict) else {}
    if kind == "start":
        words = f"start of version {record.get('version')}"
    elif kind == "report":
        known = [name for name in REPORTED if isinstance(figures.get(name), int | float)]
        parts = [f"{figures[name]:,.0f} {REPORTED[name]}" for name in known]
        failure = [] if status == "success" else [status, *([record["errorType"]] if "errorType" in record else [])]
        words = f"report: {' · '.join(map(str, [*failure, *parts]))}"
    else:
        words = " ".join([kind, *(f"{name}={record[name]}" for name in ("status", "errorType") if record.get(name))])
    level = "ERROR" if kind == "report" and status != "success" else "PLATFORM"
    return level, [f"{clock(moment)} {printable(words)}"]
