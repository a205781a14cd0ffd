"""docs/explanation/reliability.md lists every fault, every story and every invariant; other pages know their number."""

import re

import pytest

from scripts import ROOT
from tests.fault_injection import runner, stories
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
    cases = [(case.where, str(case.what)) for case in [*runner.cases(), *stories.cases()]]
    assert [case for case in cases if not set(case[1].split(", ")) <= set(texts.get(case[0], []))] == []


def test_the_page_names_every_invariant() -> None:
    text = " ".join(PAGE.split())  # the page wraps its lines
    assert [words for words in INVARIANTS.values() if f"- {words}" not in text] == []


@pytest.mark.parametrize(
    "page", ["README.md", "README.es.md", "docs/explanation/protection.md", "docs/explanation/reliability.md"]
)
def test_a_page_that_counts_faults_or_stories_has_their_number(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    # "faults and" are those that the random slots have met
    told = re.findall(r"(\d+) (faults\b(?! and)|fallos|stories)|\| (faults|stories)[^|]* \| (\d+) \|", text)
    numbers = {(left or right, what or where) for left, what, where, right in told}
    faults, count = len(runner.cases()), len([*stories.cases()])
    assert numbers
    assert numbers <= {(str(faults), "faults"), (str(faults), "fallos"), (str(count), "stories")}
