"""Tables that fit the terminal: a row that is too wide continues on lines below it, and nothing is cut.

Without a terminal, a row is one line of whatever width. No line ends in blanks.
"""

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from scripts import console

GAP = "  "
INDENT = "    "
UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """The texts of a row, one for each heading, and the style of all of them."""

    cells: Sequence[str]
    style: str = ""


def show_table(headings: Sequence[str], rows: Sequence[TableRow], *, numbers: Collection[str] = ()) -> None:
    """Print a table to standard output; the columns in `numbers` are right-aligned."""
    for line in lay_out(headings, rows, numbers=numbers, width=width_of_output()):
        console.OUT.print(line, soft_wrap=True)


def show_paragraphs(text: str, style: str = "dim") -> None:
    """Print each line of a text, wrapped to the terminal and one blank from its edge."""
    for line in text.split("\n"):
        for each in flow([line], width_of_output(), indent=" ") if line else [""]:
            console.OUT.print(Text(each, style=style), soft_wrap=True)


def width_of_output() -> int:
    """Return the width of the terminal; without one, no limit."""
    return console.OUT.width if console.OUT.is_terminal else UNLIMITED


def lay_out(
    headings: Sequence[str], rows: Sequence[TableRow], *, numbers: Collection[str] = (), width: int
) -> Iterator[Text]:
    """Yield the lines of a table, none wider than `width`.

    The first columns stand side by side, as many as fit. What is in the others follows below each row, as `name value`
    for every value that is not empty.
    """
    widths = [max(map(cell_len, (heading, *(row.cells[at] for row in rows)))) for at, heading in enumerate(headings)]
    fitting = count_fitting(widths, width)
    aligned = [heading in numbers for heading in headings[:fitting]]
    if fitting:
        yield Text(_side_by_side(headings[:fitting], widths, aligned), style="bold")
        yield Text(" " + "─" * (sum(widths[:fitting]) + len(GAP) * (fitting - 1)), style="dim")
    for row in rows:
        if fitting:
            yield Text(_side_by_side(row.cells[:fitting], widths, aligned), style=row.style)
        named = zip(headings[fitting:], row.cells[fitting:], strict=True)
        below = [f"{heading} {text}" for heading, text in named if text]
        yield from (Text(line, style=row.style or "dim") for line in flow(below, width))


def count_fitting(widths: Sequence[int], width: int) -> int:
    """Return how many of the first columns fit side by side."""
    used = 1
    for count, each in enumerate(widths):
        used += each + (len(GAP) if count else 0)
        if used > width:
            return count
    return len(widths)


def flow(parts: Sequence[str], width: int, *, indent: str = INDENT, between: str = " · ") -> Iterator[str]:
    """Yield indented lines that hold all parts, as many to a line as fit; a longer part is wrapped."""
    room = max(width - len(indent), 1)
    line = ""
    for part in parts:
        if line and cell_len(line + between + part) <= room:
            line += between + part
            continue
        if line:
            yield indent + line
        *whole, line = wrap(part, room)
        yield from (indent + each for each in whole)
    if line:
        yield indent + line


def wrap(text: str, width: int) -> Sequence[str]:
    """Return the lines of a text, broken between words where that is possible; at least one line."""
    if cell_len(text) <= width:
        return [text]
    # A wide character takes two cells, so a text that has any is broken at half the number of characters.
    characters = width if cell_len(text) == len(text) else max(width // 2, 1)
    return textwrap.wrap(text, characters, break_on_hyphens=False) or [""]


def shorten(text: str, width: int) -> str:
    """Return a text that is cut, with an ellipsis, if it is wider."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, max(width - 1, 0)).rstrip()}…"


def _side_by_side(cells: Sequence[str], widths: Sequence[int], aligned: Sequence[bool]) -> str:
    padded = []
    for text, width, is_number in zip(cells, widths, aligned, strict=False):
        blanks = " " * (width - cell_len(text))
        padded.append(blanks + text if is_number else text + blanks)
    return f" {GAP.join(padded)}".rstrip()
