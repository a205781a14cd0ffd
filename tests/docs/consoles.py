"""The ```console blocks of the pages: the commands that a reader types, and what the page says they print."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts import ROOT

BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s+# .*$")
LEFT_OUT = "..."
VARYING = (
    (re.compile(r"\d+\.\d+ s\b"), "0.00 s"),  # how long something took
    (re.compile(r"\d+\.\d+ USD a second"), "0.00 USD a second"),
)


@dataclass(frozen=True, slots=True)
class Typed:
    """A command as a page shows it, with the lines below it; the lines are empty if the page shows no output."""

    command: str
    shown: Sequence[str]


def pages() -> Sequence[Path]:
    """Return every page of the documentation."""
    return [ROOT / "README.md", ROOT / "README.es.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))


def commands_on(page: Path) -> Iterator[Typed]:
    """Yield the commands of a page from top to bottom."""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        for part in re.split(r"^ *\$ ", block[2], flags=re.MULTILINE)[1:]:
            first, _, rest = part.partition("\n")
            yield Typed(COMMENT.sub("", first), rest.strip("\n").split("\n") if rest.strip() else [])


def find_difference(shown: Sequence[str], printed: str) -> str | None:
    """Return the first shown line that was not printed in its place; None if all were.

    A line `...` stands for any number of lines, and ` ...` at the end of a line for the rest of it. The time that
    something takes is not compared. Lines that are shown next to each other must have been printed so.
    """
    lines = [normalize(line) for line in printed.strip("\n").split("\n")]
    at, may_skip = 0, False
    for line in shown:
        if line.strip() == LEFT_OUT:
            may_skip = True
            continue
        wanted = normalize(line)
        end = len(lines) if may_skip else min(at + 1, len(lines))
        found = next((index for index in range(at, end) if matches(wanted, lines[index])), None)
        if found is None:
            return line
        at, may_skip = found + 1, False
    return None if may_skip or at == len(lines) else f"(the end of what is shown, but then came: {lines[at]})"


def matches(wanted: str, line: str) -> bool:
    """Tell whether a shown line stands for a printed one."""
    return line.startswith(wanted.removesuffix(LEFT_OUT)) if wanted.endswith(f" {LEFT_OUT}") else line == wanted


def normalize(line: str) -> str:
    """Return a line without what differs between two runs of the same command."""
    for pattern, text in VARYING:
        line = pattern.sub(text, line)
    return line.rstrip()
