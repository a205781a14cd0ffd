"""Shared parts of the commands: tables, progress bars, and how they end on a user's mistake."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime

from rich import box
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from trader.journal.base import JournalError
from trader.model import BrokerError
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
    """Check whether an environment variable switches something on."""
    return os.environ.get(name, "") not in {"", "0", "false", "no"}


def parser(command: str, description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a make command; it has --json, which JSON=1 stands for."""
    made = argparse.ArgumentParser(prog=command, description=description, epilog=epilog)
    made.add_argument("--json", action="store_true", default=flag("JSON"), help="print the result as JSON")
    return made


def print_json(value: object) -> None:
    """Write a result on standard output, for another program to read; times are UTC's, to the second."""
    sys.stdout.write(json.dumps(value, allow_nan=False, default=_to_json) + "\n")


def _to_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} cannot be JSON")


def busy() -> str:
    """Describe a machine too busy for its measured times to be trusted; empty if it is not busy."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return f"this machine is busy (load {load:.1f} for each processor)" if load > 1 else ""


def table(
    *headings: str,
    numbers: Collection[str] = (),
    whole: Collection[str] = (),
    title: str | None = None,
    padding: tuple[int, int, int, int] = (0, 1, 0, 1),
) -> Table:
    """Return an empty table in the style of all commands: `numbers` are number columns, `whole` never wrap."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="bold", padding=padding)
    made.title, made.title_justify, made.title_style = title, "left", "bold"
    for heading in headings:
        made.add_column(
            heading,
            justify="right" if heading in numbers else "left",
            no_wrap=heading in whole or heading in numbers,
            overflow="fold",
        )
    return made


def label(name: str, words: str, width: int, style: str = "") -> RenderableType:
    """Return a labelled line, with room for labels of `width` characters."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=width, style="dim")
    grid.add_column(overflow="fold", style=style)
    grid.add_row(name, Text(words))
    return grid


def note(text: str) -> None:
    """Print a note beside the result: what was chosen for the user, and how to choose otherwise."""
    ERR.print(text, style="dim", markup=False, soft_wrap=True)  # a command in it can be copied whole


@contextmanager
def progress() -> Iterator[Report]:
    """Show a bar for each piece of work on standard error, with the time left; it disappears at the end."""
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
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # from here on an interruption can be reported and recorded
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
