"""The Lambda function: lambda_handler(event, context) for AWS, and run() for every other caller."""

import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from trader import logs, wiring
from trader.app import Invocation, Members, run_slot
from trader.deadline import Deadline
from trader.model import Report
from trader.progress import Progress, no_progress
from trader.schedule.base import present

LOG = logging.getLogger("trader")


class Context(Protocol):
    """The part of Lambda's context that run() uses."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda stops the function."""


def lambda_handler(event: object, context: Context) -> Report | Mapping[str, Any]:
    """Do what the scheduled event asks for: run the bot, or send the digest. This is the entry point for AWS Lambda."""
    if isinstance(event, Mapping) and "do" in event:
        return do(event, context)
    return run(event, context)


def run(
    event: object = None,
    context: Context | None = None,
    *,
    env: Mapping[str, str] = os.environ,
    progress: Progress = no_progress,
    clock: Callable[[], datetime] = present,
    members: Members | None = None,
) -> Report:
    """Run the bot once for the event's slot and return the report; `env` holds the settings, `clock` returns the time.

    `members` returns the S&P 500 of a past day, for a run in the past; without it, that of today is used.
    An unexpected error is recorded in the journal, logged and raised. SettingsError and EventError, which only the user
    can correct, are logged and raised but not recorded: there is no slot yet.
    """
    logs.configure()
    try:
        return run_slot(
            Invocation(
                event=event,
                env=env,
                deadline=deadline_of(context),
                progress=progress,
                clock=clock,
                members=members,
            ),
            wiring,
        )
    except BaseException:
        LOG.exception("failed")
        raise


def do(
    event: object,
    context: Context | None = None,
    *,
    env: Mapping[str, str] = os.environ,
    clock: Callable[[], datetime] = present,
) -> Mapping[str, Any]:
    """Do the task that the event names, such as {"do": "digest"}, and return what became of it. Nothing is traded."""
    from trader.digest import run as digest  # imported here because a run that trades does not need it

    logs.configure()
    try:
        made = Invocation(event=event, env=env, deadline=deadline_of(context), progress=no_progress, clock=clock)
        return digest.describe(digest.find_task(event)(made, wiring))
    except BaseException:
        LOG.exception("failed")
        raise


def deadline_of(context: Context | None) -> Deadline:
    """Return the deadline that Lambda sets; without a context, as on a laptop, return one that never comes."""
    if context is None:
        return Deadline.never()
    return Deadline(lambda: context.get_remaining_time_in_millis() / 1000)
