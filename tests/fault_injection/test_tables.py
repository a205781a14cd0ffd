"""Tests of the comparison between a run and the tables of docs/explanation/reliability.md."""

from pathlib import Path

from tests.fault_injection.fault_matrix import Outcome
from tests.fault_injection.tables import FAULTS, STORIES, as_markdown, find_differences


def outcome(where: str, what: str, words: str) -> Outcome:
    return Outcome(where=where, what=what, outcome=words, violations=())


RUN = [
    outcome("clock", "slow", "TRADED; 3 orders"),
    outcome("clock", "hang", "alarm"),
    outcome("owner", "halts", "HALTED"),
]


def write(folder: Path, lines: list[str]) -> Path:
    page = folder / "page.md"
    page.write_text("\n".join(["# Page", "", *lines, "", "The end."]))
    return page


def test_a_page_with_the_outcomes_of_the_run_has_no_differences(tmp_path: Path) -> None:
    assert find_differences({FAULTS: RUN}, page=write(tmp_path, as_markdown(RUN, FAULTS))) == []


def test_a_row_that_differs_is_named_as_it_is_on_the_page_and_in_the_run(tmp_path: Path) -> None:
    page = write(tmp_path, as_markdown(RUN, FAULTS))
    now = [RUN[0], outcome("clock", "hang", "MARKET_CLOSED"), RUN[2]]
    assert find_differences({FAULTS: now}, page=page) == ["- clock | hang | alarm ", "+ clock | hang | MARKET_CLOSED "]


def test_a_page_without_the_table_lacks_every_row(tmp_path: Path) -> None:
    assert len(find_differences({STORIES: RUN}, page=write(tmp_path, as_markdown(RUN, FAULTS)))) == len(RUN)


def test_the_row_of_a_case_that_was_left_out_is_not_compared(tmp_path: Path) -> None:
    page = write(tmp_path, as_markdown(RUN, FAULTS))
    assert find_differences({FAULTS: RUN[:2]}, "owner: halts: there is no owner", page) == []
