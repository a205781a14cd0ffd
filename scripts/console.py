"""What the commands share: a progress bar, and how they end when something is wrong that a user can put right."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from trader.broker.base import BrokerError
from trader.journal.base import JournalError
from trader.prices.base import PriceSourceError
from trader.progress import Progress as Report
from trader.schedule.base import EventError
from trader.settings import SettingsError

OUT, ERR = Console(highlight=False), Console(stderr=True, highlight=False)

USABLE, FAILED, USAGE = 0, 1, 2
"""Exit codes."""


class CommandError(Exception):
    """A command cannot do its work; the message says why, and what to do."""


class UnwritableError(CommandError):
    """A file of the command's own cannot be written."""


def flag(name: str) -> bool:
    """Whether a variable of the environment switches something on."""
    return os.environ.get(name, "") not in {"", "0", "false", "no"}


def note(text: str) -> None:
    """A word beside the result: what was chosen for the user, and how to choose otherwise."""
    ERR.print(text, style="dim", markup=False, soft_wrap=True)  # a command in it can be copied whole


@contextmanager
def progress() -> Iterator[Report]:
    """A bar for each work under way, with the time left, on standard error, gone when all is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TextColumn("left:"), TimeRemainingColumn())
    with Progress(*columns, *left, console=ERR, transient=True, disable=not ERR.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def report(work: str, done: int, total: int) -> None:
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=total)
            bars.update(tasks[work], completed=done, total=total)

        yield report


@contextmanager
def plain_errors(
    interrupted: str = "interrupted; if the run had begun, its slot is used up and its record says how far it came",
) -> Iterator[None]:
    """End the program with a sentence for what a user can put right; anything else keeps its traceback."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on an interruption can be told and recorded
    try:
        yield
    except (SettingsError, EventError) as error:
        ERR.print(str(error), style="red", markup=False)
        sys.exit(USAGE)
    except CommandError as error:
        ERR.print(str(error), style="red", markup=False, soft_wrap=True)  # a command in it can be copied whole
        sys.exit(FAILED)
    except (BrokerError, JournalError, PriceSourceError) as error:
        ERR.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        ERR.print(interrupted, style="red")
        sys.exit(FAILED)
