"""README.md is one page, and README.es.md is the same page."""

import re
from pathlib import Path

import pytest

from lambda_function import run
from scripts import ROOT

ENGLISH, SPANISH = ROOT / "README.md", ROOT / "README.es.md"
MAX_LINES, MAX_WORDS = 200, 1_200


def outline(page: Path) -> list[str]:
    """Return the levels of a page's headings, in order."""
    return re.findall(r"^(#+) ", page.read_text(encoding="utf-8"), re.MULTILINE)


def code(page: Path) -> list[str]:
    """Return the code blocks of a page, without comments."""
    blocks = re.findall(r"^```.*?^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(r" +# .*", "", block) for block in blocks]


def targets(page: Path) -> list[str]:
    """Return where the links of a page lead, but for places on it and for the other language."""
    found = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    return [target for target in found if not target.startswith("#") and target not in {ENGLISH.name, SPANISH.name}]


def test_the_readme_is_one_page() -> None:
    text = ENGLISH.read_text(encoding="utf-8")
    assert (len(text.splitlines()) <= MAX_LINES, len(text.split()) <= MAX_WORDS) == (True, True)


def test_the_spanish_page_has_the_same_headings() -> None:
    assert outline(SPANISH) == outline(ENGLISH)


def test_the_spanish_page_has_the_same_code() -> None:
    assert code(SPANISH) == code(ENGLISH)


def test_the_spanish_page_has_the_same_links() -> None:
    assert targets(SPANISH) == targets(ENGLISH)


@pytest.mark.parametrize("page", [ENGLISH, SPANISH], ids=lambda page: page.name)
def test_the_contents_name_every_heading_in_order(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    contents = re.findall(r"\[([^\]]+)\]\(#", text.split("\n## ")[0])
    assert contents == headings


def test_both_pages_name_each_other() -> None:
    named = [SPANISH.name in ENGLISH.read_text(encoding="utf-8"), ENGLISH.name in SPANISH.read_text(encoding="utf-8")]
    assert named == [True, True]


def test_the_rule_on_the_page_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", ENGLISH.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("rules").mkdir()
    Path("rules/mine.py").write_text(block)
    report = run(env={"SIGNAL": "rules/mine.py", "UNIVERSE": "AAPL,KO"})
    assert {each["symbol"]: each["direction"] for each in report["insights"]} == {"AAPL": "DOWN", "KO": "UP"}
    assert len(block.splitlines()) <= 15
