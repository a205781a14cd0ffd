"""The tables of docs/explanation/reliability.md: made from the outcomes of a run, and compared with the page."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from scripts import ROOT
from tests.fault_injection.fault_matrix import Outcome

PAGE = ROOT / "docs" / "explanation" / "reliability.md"
FAULTS, STORIES = "outcome of the slot", "outcome of the slots"
"""The last column's heading, by which a table is found on the page."""


def rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str, str, bool, list[str]]]:
    """Yield where, what, outcome, whether all held, and violations; faults with the same outcome share a row."""
    for where, group in groupby(outcomes, key=lambda each: each.where):
        by_outcome: dict[tuple[str, bool], list[Outcome]] = {}
        for each in group:
            by_outcome.setdefault((each.outcome, each.holds), []).append(each)
        for (outcome, holds), same in by_outcome.items():
            violations = [f"{each.what}: {words}" for each in same for words in each.violations]
            yield where, ", ".join(str(each.what) for each in same), outcome, holds, violations


def as_markdown(outcomes: Sequence[Outcome], heading: str) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [f"| where | what | {heading} |", "|---|---|---|"]
    last = ""
    for where, what, outcome, holds, _ in rows(outcomes):
        lines.append(f"| {'' if where == last else where} | {what} | {outcome if holds else f'**BROKEN** {outcome}'} |")
        last = where
    return lines


def find_differences(tables: Mapping[str, Sequence[Outcome]], left_out: str = "", page: Path = PAGE) -> list[str]:
    """Return the rows that are only on the page, after a minus, and those that are only in the run, after a plus.

    `left_out` is the case that could not be run, as `where: what`; its row is not compared.
    """
    text = page.read_text(encoding="utf-8").splitlines()
    differences: list[str] = []
    for heading, outcomes in tables.items():
        there = set(_complete(_read_table(text, heading)))
        here = set(_complete(as_markdown(outcomes, heading)))
        skipped = {row for row in there if left_out and left_out.partition(": ")[2].partition(":")[0] in row}
        differences += [f"- {row}" for row in sorted(there - here - skipped)]
        differences += [f"+ {row}" for row in sorted(here - there)]
    return differences


def _read_table(lines: Sequence[str], heading: str) -> list[str]:
    """Return the lines of the table whose last column has this heading; none if the page lacks it."""
    begin = next((number for number, line in enumerate(lines) if line.endswith(f"| {heading} |")), len(lines))
    end = next((number for number in range(begin, len(lines)) if not lines[number].startswith("|")), len(lines))
    return list(lines[begin:end])


def _complete(lines: Sequence[str]) -> Iterator[str]:
    """Yield the rows of a table, each with its first column filled in."""
    where = ""
    for line in lines[2:]:
        cells = line.strip().strip("|").split("|", 1)
        where = cells[0].strip() or where
        yield f"{where} |{cells[1]}"
