"""Shared parts of the commands: options, tables, progress bars, and plain error messages."""

import io
import json
import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime

from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from trader.journal.base import JournalError
from trader.logs import MAX_CHARACTERS, describe_error, one_line, printable
from trader.model import BrokerError
from trader.prices.base import PriceSourceError
from trader.progress import Progress as Report
from trader.schedule.base import EventError
from trader.settings import SettingsError


@dataclass(frozen=True)
class _Escaped:
    """What is printed, with every character escaped that could control the terminal or reverse the text."""

    inner: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        segments = list(console.render(self.inner, options))
        if not console.is_terminal:  # in a file, the blanks up to the console's width are noise
            whole = "".join(segment.text for segment in segments if not segment.control)
            yield Segment("\n".join(printable(line.rstrip(" ")) for line in whole.split("\n")))
            return
        for segment in segments:
            if segment.control:  # Rich's own, such as for a progress bar
                yield segment
            else:
                yield Segment("\n".join(map(printable, segment.text.split("\n"))), segment.style)


class _EscapeAll(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(each) for each in renderables]


def make_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that prints text as it is: without markup, links or emoji, and only printable characters.

    Much of what commands print comes from a record, the broker, a log or S3.
    """
    made = Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
    made.push_render_hook(_EscapeAll())
    return made


OUT, ERR = make_console(), make_console(stderr=True)


class Stream(io.TextIOWrapper):
    """A standard stream that lets a command do its work although nobody reads on, as in `make run | head -1`."""

    is_unread = False

    def write(self, text: str) -> int:
        """Write the text, or drop it if the pipe is closed."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush the text, or drop it if the pipe is closed."""
        try:
            super().flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        self.is_unread = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def survive_closed_pipes() -> None:
    """Let the standard streams of this process take text that nobody reads, without an error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and type(stream) is io.TextIOWrapper:  # not one of a test
            encoding, errors, line_buffering = stream.encoding, stream.errors, stream.line_buffering
            made = Stream(stream.detach(), encoding=encoding, errors=errors, line_buffering=line_buffering)
            setattr(sys, name, made)
            setattr(sys, f"__{name}__", made)


def is_unread() -> bool:
    """Tell whether the reader of the standard output, such as head, has gone."""
    return isinstance(sys.stdout, Stream) and sys.stdout.is_unread


USABLE, FAILED, USAGE, COULD_NOT, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: it did its work; a check found something wrong; the command line or the settings are wrong; it could not
do its work; Ctrl-C."""


class CommandError(Exception):
    """A command cannot do its work; the message says why and what to do."""


class InterruptedCommandError(CommandError):
    """Ctrl-C; the message says how far the command got."""


class UnwritableError(CommandError):
    """A command cannot write one of its files."""


OFF = frozenset({"0", "false", "no"})
"""The values of a variable that turn something off."""


def flag(name: str, *, default: bool = False) -> bool:
    """Tell whether an environment variable turns something on; one that is not set, or empty, means the default."""
    return (value not in OFF) if (value := os.environ.get(name)) else default


def wants_json() -> bool:
    """Tell whether the result is to be printed as JSON."""
    return flag("JSON")


def print_json(value: object) -> None:
    """Write a result to standard output as JSON, for other programs; times are in UTC, to the second."""
    sys.stdout.write(json.dumps(value, allow_nan=False, default=_to_json) + "\n")


def _to_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} cannot be written as JSON")


def busy() -> str:
    """Return a note if this machine is too busy for reliable measurements; empty if it is not."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return f"this machine is busy (load {load:.1f} per processor)" if load > 1 else ""


def table(
    *headings: str,
    numbers: Collection[str] = (),
    whole: Collection[str] = (),
    title: str | None = None,
    padding: tuple[int, int, int, int] = (0, 1, 0, 1),
) -> Table:
    """Return an empty table in the style of all commands: `numbers` are right-aligned; they and `whole` never wrap."""
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


def format_count(number: int, noun: str) -> str:
    """Format a number with its noun: `1 order`, `1,048 orders`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def label(name: str, words: str, width: int, style: str = "") -> RenderableType:
    """Return a labeled line, with room for labels of `width` characters."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=width, style="dim")
    grid.add_column(overflow="fold", style=style)
    grid.add_row(name, Text(words))
    return grid


def note(text: str) -> None:
    """Print a note on standard error: what was chosen for the user, and how to choose something else."""
    ERR.print(text, style="dim", markup=False, soft_wrap=True)  # a command in it can be copied whole


@contextmanager
def progress() -> Iterator[Report]:
    """Show a progress bar for each task on standard error, with the time left; the bars disappear at the end."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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
    interrupted: str = "interrupted; if the run had begun, its slot is used up and its record says how far it got",
) -> Iterator[None]:
    """End the program with a plain message for an error that a user can fix; others keep their traceback."""
    # From here on, an interruption can be reported and recorded.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except (SettingsError, EventError) as error:
        ERR.print(str(error), style="red", markup=False)
        sys.exit(USAGE)
    except CommandError as error:
        ERR.print(str(error), style="red", markup=False, soft_wrap=True)  # a command in it can be copied whole
        sys.exit(INTERRUPTED if isinstance(error, InterruptedCommandError) else COULD_NOT)
    except (BrokerError, JournalError, PriceSourceError) as error:
        ERR.print(one_line(describe_error(error), MAX_CHARACTERS), style="red")
        sys.exit(COULD_NOT)
    except KeyboardInterrupt:
        ERR.print(interrupted, style="red")
        sys.exit(INTERRUPTED)
