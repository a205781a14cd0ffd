"""docs/reliability.md tells of every fault and every invariant that there are."""

import re

from scripts import ROOT
from tests.fault_injection import fault_matrix, scenarios
from tests.fault_injection.invariants import INVARIANTS

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def told() -> list[tuple[str, str]]:
    """Where and what of each fault in the page's table."""
    rows = re.findall(r"^\| (.*?) ?\| (.*?) \| .* \|$", PAGE.partition("| where | what |")[2], re.MULTILINE)
    found, where = [], ""
    for there, what in rows:
        where = there.strip() or where
        found += [(where, what)]
    return found


def test_the_page_has_every_fault_of_the_table() -> None:
    texts: dict[str, list[str]] = {}
    for where, what in told():
        texts.setdefault(where, []).extend(what.split(", "))
    cells = [(cell.where, str(cell.what)) for cell in [*fault_matrix.cells(), *scenarios.cells()]]
    assert [cell for cell in cells if not set(cell[1].split(", ")) <= set(texts.get(cell[0], []))] == []


def test_the_page_names_every_invariant() -> None:
    assert [words for words in INVARIANTS.values() if words not in PAGE] == []
