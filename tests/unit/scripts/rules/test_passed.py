"""The note that a rule has passed: a deployment asks for it."""

from pathlib import Path

import pytest

from scripts.rules import passed
from scripts.rules.passed import find_obstacle, write_note
from tests.builders import SLOT

SIGNAL = "rules/mine.py"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder with a rule the current one."""
    monkeypatch.chdir(tmp_path)
    Path("rules").mkdir()
    Path(SIGNAL).write_text("x = 1\n")


def note(days: int = 50, *, passes: bool = True, source: str = "x = 1\n") -> Path:
    return write_note(
        SIGNAL, {SIGNAL: source}, {"days": days}, passes_here=True, passes_on_aws=passes, versions={}, time=SLOT
    )


def test_a_rule_that_was_never_checked_has_not_passed() -> None:
    obstacle = find_obstacle(SIGNAL, {})
    assert str(obstacle) == f"SIGNAL={SIGNAL} has not been checked as it is now; make check-rule SIGNAL={SIGNAL}"


def test_a_rule_that_passed_has_passed() -> None:
    note()
    assert find_obstacle(SIGNAL, {"days": 50}) is None


def test_a_changed_rule_has_not_passed() -> None:
    note()
    Path(SIGNAL).write_text("x = 2\n")
    assert "has not been checked as it is now" in str(find_obstacle(SIGNAL, {"days": 50}))


def test_a_rule_that_changes_during_its_check_has_not_passed() -> None:
    Path(SIGNAL).write_text("x = 2\n")
    note(source="x = 1\n")
    assert "has not been checked as it is now" in str(find_obstacle(SIGNAL, {"days": 50}))


def test_other_parameters_have_not_passed() -> None:
    note()
    assert str(find_obstacle(SIGNAL, {"days": 20})).endswith(f"make check-rule SIGNAL={SIGNAL} RULE_DAYS=20")


def test_two_strategies_may_set_one_rule_differently() -> None:
    note(50)
    note(20)
    assert [find_obstacle(SIGNAL, {"days": days}) for days in (50, 20)] == [None, None]


def test_the_last_check_counts() -> None:
    note()
    note(passes=False)
    assert "did not pass its check for AWS" in str(find_obstacle(SIGNAL, {"days": 50}))


def test_another_layer_asks_for_another_check(monkeypatch: pytest.MonkeyPatch) -> None:
    note()
    monkeypatch.setattr(passed, "hash_layer", lambda: "another")
    assert "was checked against another layer" in str(find_obstacle(SIGNAL, {"days": 50}))


@pytest.mark.parametrize("text", ["", "[]", '{"checks": 5}', '{"checks": [5]}'])
def test_a_note_that_cannot_be_read_is_none(text: str) -> None:
    note().write_text(text)
    assert find_obstacle(SIGNAL, {"days": 50})
