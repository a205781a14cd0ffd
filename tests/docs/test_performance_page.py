"""The figures of the page about performance, and those of the READMEs, are the kept ones of `make bench`."""

import re

import pytest

from scripts import ROOT
from scripts.bench import page
from scripts.bench.cases import CASES
from scripts.bench.page import Shown

PAGE = ROOT / "docs" / "explanation" / "performance.md"
UNSHOWN = {"scale"}
"""Cases that have a page of their own."""


def test_what_shows_the_kept_figures_is_up_to_date() -> None:
    assert [str(path.relative_to(ROOT)) for path in page.stale_files()] == [], "run make bench PAGE=1"


@pytest.mark.parametrize("shown", page.SHOWN, ids=lambda shown: f"{shown.page}-{shown.case}")
def test_a_figure_stands_where_it_is_looked_for(shown: Shown) -> None:
    assert len(shown.pattern.findall((ROOT / shown.page).read_text(encoding="utf-8"))) == 1


def test_the_page_has_a_table_of_every_case() -> None:
    named = re.findall(r"made by make docs: bench ([a-z]+) -->", PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(set(CASES) - UNSHOWN)


def test_the_kept_cases_are_those_of_the_command() -> None:
    assert set(page.read()) <= set(CASES)


def test_no_figure_of_the_page_is_typed_by_hand() -> None:
    text = re.sub(r"<!-- made by make docs.*?<!-- end -->", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"\d+(?:\.\d+)? (?:s|µs|MB|times|%)\b", text.replace("adds about 20 ms", "")) == []
