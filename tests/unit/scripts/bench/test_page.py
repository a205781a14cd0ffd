"""What is kept for the page about performance, and what is made of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import harness, kept, page
from scripts.bench.growth import line_of
from scripts.bench.harness import Measurement
from scripts.bench.load import Load

LINE = Measurement(
    what="make backtest | two years",
    measured="12.4 s",
    target="≤ 13 s",
    limit="2 s: 10,000 fits",
    bound="orders 60%",
    figures={"wall_s": 12.4},
)
SLOW = harness.is_below(12.0, 10, "that", unit="s")


def measured(name: str, *lines: Measurement, others: float = 0.0) -> Mapping[str, Any]:
    """Return a case as it is kept."""
    load = Load(took_s=9.0, own_processors=1.0, others_processors=others, load_average=1.0)
    found: Mapping[str, Any] = json.loads(json.dumps(kept.to_json(name, lines, load)))
    return found


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Put the pages into a folder of the test."""
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(page, "DATA", tmp_path / "docs" / "data" / "bench.json")
    monkeypatch.setattr(page, "PICTURE", tmp_path / "docs" / "images" / "growth.svg")
    for shown in page.SHOWN:
        path = tmp_path / shown.page
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"text {shown.before}99 and text\n")
    page.read.cache_clear()
    yield tmp_path
    page.read.cache_clear()


def names() -> Sequence[str]:
    return list(page.read())


def test_a_measured_case_replaces_the_one_before_and_leaves_the_others() -> None:
    page.take_over([measured("sample", LINE), measured("files", SLOW)], also_busy=False)
    page.take_over([measured("files", LINE)], also_busy=False)
    assert (names(), page.read()["files"]["lines"][0]["measured"]) == (["sample", "files"], "12.4 s")


def test_what_a_busy_machine_has_slowed_down_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    page.take_over([measured("sample", LINE, others=1.5)], also_busy=False)
    assert (names(), "sample is not taken over" in capsys.readouterr().err) == ([], True)


def test_a_busy_machine_does_not_change_a_number_of_bytes() -> None:
    page.take_over([measured("layer", harness.is_below(9.0, 10, "zip", unit="MB"), others=1.5)], also_busy=False)
    assert (names(), "was busy" in "\n".join(page.tables("layer"))) == (["layer"], False)


def test_it_is_shown_with_a_note_if_that_is_asked_for() -> None:
    page.take_over([measured("sample", LINE, others=1.5)], also_busy=True)
    assert "**the machine was busy" in "\n".join(page.tables("sample"))


def test_a_duration_in_the_readme_is_the_measured_one(repository: Path) -> None:
    page.take_over([measured("sample", LINE)], also_busy=False)
    assert "text # two years in 12 and text" in (repository / "README.md").read_text(encoding="utf-8")


def test_a_duration_that_was_not_measured_stays(repository: Path) -> None:
    page.take_over([measured("sample", LINE)], also_busy=False)
    assert "in about 99 and text" in (repository / "README.md").read_text(encoding="utf-8")


def test_a_table_shows_the_limit_beside_each_figure() -> None:
    page.take_over([measured("sample", LINE)], also_busy=False)
    head, _, row, *_ = page.tables("sample")
    assert head == "| what | measured | wanted | limit | bounded by |"
    assert row == "| make backtest \\| two years | 12.4 s | ≤ 13 s | 2 s: 10,000 fits | orders 60% |"


def test_a_column_without_a_word_is_left_out() -> None:
    page.take_over([measured("files", SLOW)], also_busy=False)
    assert next(page.tables("files")) == "| what | measured | wanted |"


def test_a_missed_target_is_marked() -> None:
    page.take_over([measured("files", SLOW)], also_busy=False)
    assert "| that | 12 s | < 10 s **missed** |" in list(page.tables("files"))


def test_below_a_table_stands_when_and_where_it_was_measured() -> None:
    found = measured("files", SLOW, others=0.04)
    page.take_over([found], also_busy=False)
    last = list(page.tables("files"))[-1]
    assert [found["date"][:10] in last, found["commit"] in last, "others used 0.0 processors" in last] == [True] * 3


def test_a_case_that_was_not_measured_says_how_to() -> None:
    assert "`make bench CASES=peers PAGE=1`" in "\n".join(page.tables("peers"))


def test_an_unknown_case_has_no_table() -> None:
    with pytest.raises(KeyError):
        list(page.tables("engines"))


def test_the_picture_is_drawn_from_the_kept_points(repository: Path) -> None:
    lines = [line_of(f"cost by {unit}s", unit, {10: 1.0, 20: 2.0, 30: 3.0}) for unit in ("bar", "symbol")]
    page.take_over([measured("growth", *lines)], also_busy=False)
    assert (repository / "docs" / "images" / "growth.svg").read_text(encoding="utf-8").count("<circle") == 6


def test_the_picture_stands_below_its_table_once_it_is_there() -> None:
    assert page.SHOWS_PICTURE not in list(page.tables("growth"))
    lines = [line_of(f"cost by {unit}s", unit, {10: 1.0, 20: 2.0, 30: 3.0}) for unit in ("bar", "symbol")]
    page.take_over([measured("growth", *lines)], also_busy=False)
    assert list(page.tables("growth"))[-1] == page.SHOWS_PICTURE
