"""Links from Markdown files to files in the repository are not broken."""

import re
import subprocess
from pathlib import Path

import pytest

from scripts import ROOT

LINK = re.compile(r"\]\(([^)\s#]+)?(#[^)\s]+)?\)")
FILES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        if target.startswith("../../actions/workflows/"):  # GitHub's own page about a workflow, and its badge
            target = f".github/workflows/{target.split('/')[4]}"
        file = (page.parent / target).resolve() if target else page
        is_there = file.exists() and (not anchor or file.suffix != ".md" or anchor[1:] in anchors(file))
        broken += [] if is_there else [f"{target}{anchor}"]
    assert broken == []
