"""The reference is made from the code, and is up to date."""

from pathlib import Path

import pytest

from scripts import ROOT, command
from scripts.console import CommandError
from scripts.docs import reference
from trader.model import Code, Report
from trader.settings import variables


def made(kind: str, name: str = "") -> str:
    return "\n".join(reference.GENERATORS[kind](name))


def test_the_generated_parts_of_the_pages_are_up_to_date() -> None:
    assert [str(path.relative_to(ROOT)) for path in reference.stale_pages()] == [], "run make docs"


def test_every_setting_is_in_exactly_one_table() -> None:
    tables = "".join(made("settings", group) for group in [*reference.GROUPS, "limits"])
    assert [name for name in variables() if tables.count(f"\n| `{name}` |") + tables.startswith(name) != 1] == []


def test_a_setting_is_shown_with_its_default_and_with_what_is_allowed() -> None:
    rows = made("settings", "limits").splitlines()
    assert "| `MAX_ORDERS_PER_RUN` | `20` | a whole number from 1 to 500 |" in "".join(
        row for row in rows if "ORDERS" in row
    )


def test_every_reason_code_has_its_section_with_what_to_do() -> None:
    text = made("codes")
    assert [code for code in Code if f"### {code.value}\n" not in text] == []
    assert text.count("**What to do.**") == len(Code)


def test_every_field_of_a_report_has_its_row() -> None:
    text = made("report-fields")
    assert [name for name in Report.__annotations__ if f"| `{name}` |" not in text] == []


def test_every_command_has_a_page_and_a_link_in_the_index() -> None:
    text = made("commands")
    assert [name for name in command.names() if f"[`make {name}`]({name}.md)" not in text] == []
    assert [name for name in command.names() if not reference.page_of(name).is_file()] == []


def test_a_command_that_is_gone_leaves_no_page() -> None:
    pages = {path.stem for path in reference.COMMANDS.glob("*.md")} - {"index"}
    assert sorted(pages - set(command.names())) == []


def test_a_new_command_gets_a_page_with_its_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    monkeypatch.setattr(reference, "COMMANDS", tmp_path / "commands")
    page = reference.stale_pages()[tmp_path / "commands" / "rollback.md"]
    assert page.startswith("# make rollback\n")
    assert "`--version VERSION`" in page or "`VERSION=" in page


def test_what_a_person_wrote_around_a_generated_part_stays(tmp_path: Path) -> None:
    page = "# Mine\nbefore\n<!-- made by make docs: exit-codes -->\nold\n<!-- end -->\nafter\n"
    text = reference.fill(page, ROOT / "docs" / "mine.md")
    assert (text.startswith("# Mine\nbefore\n"), text.endswith("<!-- end -->\nafter\n"), "old" in text) == (
        True,
        True,
        False,
    )


@pytest.mark.parametrize("mark", ["nonsense", "command no-such-command", "settings no-such-group"])
def test_an_unknown_mark_is_an_error_with_its_page(mark: str) -> None:
    with pytest.raises(CommandError, match=r"docs/mine\.md: no part is called .*" + mark):
        reference.fill(f"<!-- made by make docs: {mark} -->\n<!-- end -->\n", ROOT / "docs" / "mine.md")
