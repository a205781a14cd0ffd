"""The page about performance. Its figures are kept in docs/data/bench.json; all that shows them is made of that file.

`make bench PAGE=1` replaces the measured cases in it, draws the picture, and writes the figures of the READMEs again;
`make docs` makes the tables. Tests compare all of them with the file, so that no figure is typed by hand.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scripts import ROOT, console, files
from scripts.bench.cases import CASES

DATA = ROOT / "docs" / "data" / "bench.json"
PICTURE = ROOT / "docs" / "images" / "growth.svg"
SHOWS_PICTURE = (
    "[![The cost of a backtest by bars and by symbols, and the line through the points]"
    "(../images/growth.svg)](../images/growth.svg)"
)
COLUMNS = {"what": "what", "measured": "measured", "target": "wanted", "limit": "limit", "bound": "bounded by"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A figure that stands in a text: the page, what stands before it, its case and line, and how it is written."""

    page: str
    before: str
    case: str
    line: int
    write: Callable[[Mapping[str, float]], str]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Where the figure is."""
        return re.compile(rf"({re.escape(self.before)})([\d.,]+)")

    def fill(self, text: str, kept: Mapping[str, Any]) -> str:
        """Return the page's text with the figure as it was measured; as it is if the case was not."""
        if self.case not in kept:
            return text
        figure = self.write(kept[self.case]["lines"][self.line]["figures"])
        return self.pattern.sub(lambda found: found[1] + figure, text)


def whole_seconds(figures: Mapping[str, float]) -> str:
    """Write the duration of a command, such as `12`."""
    return f"{figures['wall_s']:.0f}"


def whole_minutes(figures: Mapping[str, float]) -> str:
    """Write the duration of a command in minutes."""
    return f"{figures['wall_s'] / 60:.0f}"


SHOWN = (
    Shown(page="README.md", before="# two years in ", case="sample", line=0, write=whole_seconds),
    Shown(page="README.es.md", before="# dos años en ", case="sample", line=0, write=whole_seconds),
    Shown(
        page="docs/how-to/backtest.md",
        before="On 2 cores the two years take about ",
        case="sample",
        line=0,
        write=whole_seconds,
    ),
    Shown(page="README.md", before="runs the tests, in about ", case="tests", line=0, write=whole_minutes),
    Shown(page="README.es.md", before="ejecuta las pruebas, en unos ", case="tests", line=0, write=whole_minutes),
)


@cache
def read() -> Mapping[str, Any]:
    """Return the kept cases by name."""
    found: Mapping[str, Any] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {}
    return found


def take_over(found: Sequence[Mapping[str, Any]], *, also_busy: bool) -> None:
    """Keep the measured cases for the pages, and make again what shows them.

    Those measured on a busy machine are left out, unless `also_busy`; their tables say so then.
    """
    taken = {each["case"]: each for each in found if also_busy or not is_slowed(each)}
    for name in [each["case"] for each in found if each["case"] not in taken]:
        console.note(f"{name} is not taken over into the page, as others used the machine; PAGE=busy takes it over")
    known = {**read(), **taken}
    kept = {name: known[name] for name in CASES if name in known}
    files.write_text(DATA, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    read.cache_clear()
    for path, text in stale_files().items():
        files.write_text(path, text)
        console.note(f"{path.relative_to(ROOT)} written")
    console.note("now run: make docs")


def is_slowed(kept: Mapping[str, Any]) -> bool:
    """Tell whether others used so much of the machine that the times of a case are too long."""
    return bool(kept["load"]["is_busy"]) and any(line["is_timed"] for line in kept["lines"])


def stale_files() -> Mapping[Path, str]:
    """Return what the picture and the READMEs should contain, where they do not."""
    kept = read()
    made: dict[Path, str] = {}
    if "growth" in kept:
        from scripts.bench.growth_chart import draw

        made[PICTURE] = draw(kept["growth"]["lines"])
    for shown in SHOWN:
        path = ROOT / shown.page
        made[path] = shown.fill(made.get(path) or path.read_text(encoding="utf-8"), kept)
    return {path: text for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text}


# --- the tables -------------------------------------------------------------------------------------------------------


def tables(name: str) -> Iterator[str]:
    """Yield the table of a case, with what it depends on below it. Raises KeyError if there is no such case."""
    case = CASES[name]
    kept = read().get(name)
    if kept is None:
        yield f"*Not measured yet: `make bench CASES={name} PAGE=1` measures {case.what}.*"
        return
    columns = [column for column in COLUMNS if any(line[column] for line in kept["lines"])]
    yield row(*(COLUMNS[column] for column in columns))
    yield "|---" * len(columns) + "|"
    for line in kept["lines"]:
        verdict = f" **{line['verdict'].lower()}**" if line["verdict"] else ""
        yield row(*(line[column] + (verdict if column == "target" else "") for column in columns))
    yield from ("", describe(name, kept))
    if name == "growth":
        yield from ("", SHOWS_PICTURE)


def row(*cells: str) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def describe(name: str, kept: Mapping[str, Any]) -> str:
    """Return how a case was measured."""
    load, machine = kept["load"], kept["machine"]
    commit = kept["commit"] + (", with changes" if kept["is_changed"] else "")
    busy = "; **the machine was busy, so the times are too long**" if is_slowed(kept) else ""
    return (
        f"`make bench CASES={name}` on {kept['date'][:10]} at {commit}: {machine['cores']} cores of "
        f"{machine['processor']}, Python {machine['python']}; others used {load['others_processors']:.1f} "
        f"processors{busy}."
    )
