"""README against the code."""

from scripts import ROOT
from trader.model import Code


def test_the_readme_names_every_reason_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [code for code in Code if f"`{code}`" not in text] == []
