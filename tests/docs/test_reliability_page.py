"""docs/explanation/reliability.md lists every fault, every story and every invariant."""

import re

from scripts import ROOT
from tests.fault_injection import fault_matrix, scenarios, stories
from tests.fault_injection.invariants import INVARIANTS

PAGE = (ROOT / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")


def read_rows() -> list[tuple[str, str]]:
    """Return the columns `where` and `what` of each fault or story in the page's tables."""
    rows = re.findall(r"^\| (.*?) ?\| (.*?) \| .* \|$", PAGE.partition("| where | what |")[2], re.MULTILINE)
    found, where = [], ""
    for there, what in rows:
        where = there.strip() or where
        found += [(where, what)]
    return found


def test_the_page_lists_every_fault_and_every_story() -> None:
    texts: dict[str, list[str]] = {}
    for where, what in read_rows():
        texts.setdefault(where, []).extend(what.split(", "))
    chosen = [*fault_matrix.cases(), *scenarios.cases(), *stories.cases()]
    cases = [(case.where, str(case.what)) for case in chosen]
    assert [case for case in cases if not set(case[1].split(", ")) <= set(texts.get(case[0], []))] == []


def test_the_page_names_every_invariant() -> None:
    text = " ".join(PAGE.split())  # the page wraps its lines
    assert [words for words in INVARIANTS.values() if f"- {words}" not in text] == []
