"""`make tail STRATEGY=... SINCE=10m`: follow the logs as readable lines.

All times are New York time. FOLLOW=0 prints the existing records and ends.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.text import Text

from scripts import console
from scripts.cloud.aws import connect, translate_errors
from scripts.cloud.log_lines import STYLES, parse, render
from scripts.cloud.logs import choose_strategies, client_of, log_groups, period_of
from trader.model import NEW_YORK

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import FilteredLogEventTypeDef

POLL_S = 2.0
GROUPS_PER_S = 2
"""Log groups to read per second; AWS allows an account about five such requests per second."""

LATE_MS = 120_000
"""Milliseconds that each round looks back for late records; Lambda delivers them some seconds after their time."""

PREFIXES = ("cyan", "magenta", "green", "blue", "yellow")


@dataclass(slots=True)
class Source:
    """A log group, and which of its events have been seen."""

    strategy: str
    group: str
    since_ms: int
    _seen: dict[str, int] = field(default_factory=dict)

    def new(self, client: "CloudWatchLogsClient") -> "list[FilteredLogEventTypeDef]":
        """Return the events that are new since the last call, oldest first."""
        with translate_errors(f"the log {self.group}"):
            pages = client.get_paginator("filter_log_events").paginate(logGroupName=self.group, startTime=self.since_ms)
            events = [event for page in pages for event in page["events"] if event["eventId"] not in self._seen]
        self._seen |= {event["eventId"]: event["timestamp"] for event in events}
        latest_ms = max(self._seen.values(), default=0)
        self.since_ms = max(self.since_ms, latest_ms - LATE_MS)
        self._seen = {each: at_ms for each, at_ms in self._seen.items() if at_ms >= self.since_ms}
        return sorted(events, key=lambda event: event["timestamp"])


def main() -> None:
    """Print records until Ctrl-C, which is the normal way to end; with FOLLOW=0, print only the existing ones."""
    with console.plain_errors():
        try:
            follow(os.environ, as_json=console.wants_json())
        except KeyboardInterrupt:
            console.note("ended")


def follow(env: Mapping[str, str], *, as_json: bool) -> None:
    """Print the existing records and, unless FOLLOW=0, new ones as they arrive."""
    is_endless = console.flag("FOLLOW", default=True)
    period = period_of({"SINCE": env.get("SINCE") or "10m"}, datetime.now(UTC))
    cloud = connect(env)
    strategies = choose_strategies(cloud, env)
    client, since_ms = client_of(cloud), int(period.since.timestamp() * 1000)
    groups = log_groups(cloud, strategies, period)
    sources = [Source(strategy, group, since_ms) for strategy, group in zip(strategies, groups, strict=True)]
    console.note(f"{', '.join(groups)}, New York time{'; stop with Ctrl-C' if is_endless else ''}")
    while True:
        begun = time.monotonic()
        events = [(source.strategy, event) for source in sources for event in source.new(client)]
        for strategy, event in sorted(events, key=lambda each: each[1]["timestamp"]):
            say(strategy, event, strategies, as_json=as_json)
        if not is_endless:
            if not events:
                console.note(f"no record since {period.since.astimezone(NEW_YORK):%Y-%m-%d %H:%M}; try SINCE=1d")
            return
        if console.is_unread():
            return
        rest_s = max(POLL_S, len(sources) / GROUPS_PER_S) - (time.monotonic() - begun)
        time.sleep(max(rest_s, 0.1))


def say(strategy: str, event: "FilteredLogEventTypeDef", strategies: Sequence[str], *, as_json: bool) -> None:
    """Print one record, after the name of its strategy if there are several strategies."""
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    if as_json:
        content = parse(event["message"].rstrip())
        told = {"timestamp": moment.isoformat(), "strategy": strategy, "record": content}
        console.print_json(told)
        sys.stdout.flush()
        return
    level, lines = render(event["message"], moment)
    width = max(map(len, strategies))
    for line in lines:
        text = Text(line, style=STYLES.get(level, ""))
        if len(strategies) > 1:
            color = PREFIXES[list(strategies).index(strategy) % len(PREFIXES)]
            text = Text.assemble((f"{strategy:<{width}} ", color), text)
        console.OUT.print(text, soft_wrap=True)
