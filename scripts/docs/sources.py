"""A Sphinx extension, so that the same pages can be read on GitHub and on the site.

On GitHub an index page lists the pages of its folder as links; on the site those links, in their order, are the list of
contents too. Links to files outside docs/ lead to the repository. A notebook is a page with its outputs.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

from scripts import ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"(?P<text>\[[^\[\]]*\])\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]+)?\)")
NOTEBOOK = ".ipynb"
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Let Sphinx call `adapt` for each page that it reads."""
    app.connect("source-read", adapt)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def adapt(_app: Sphinx | None, name: str, source: list[str]) -> None:
    """Change the text of a page: its links to files outside docs/, and the list of contents of an index page."""
    page = DOCS / f"{name}.md"
    if (notebook := page.with_suffix(NOTEBOOK)).is_file():
        page, source[0] = notebook, write_notebook(source[0])
    text = source[0]
    source[0] = outside_code(text, lambda part: LINK.sub(lambda link: lead_to_repository(page, link), part))
    if page.stem == "index":
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *contents(page, text), "```", ""])


def write_notebook(text: str) -> str:
    """Return a notebook as a page in Markdown: each cell that is code, and below it what it printed."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```ipython3\n{source}\n```")
        if printed := "".join(line for output in cell["outputs"] for line in output.get("text", ())).strip("\n"):
            parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return the text with a function applied to what is not in a code block."""
    ends = [0, *(end for block in FENCE.finditer(text) for end in block.span()), len(text)]
    parts = [text[begin:end] for begin, end in pairwise(ends)]
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


def lead_to_repository(page: Path, link: re.Match[str]) -> str:
    """Return a link as it is, or to the repository if its file is outside docs/; only its text if that is unknown."""
    target = (page.parent / link["target"]).resolve()
    if target.is_relative_to(DOCS):
        return link[0]
    if not target.exists():
        log.warning("%s: there is no file %s", page.relative_to(ROOT), link["target"])
    if not (url := repository_url()):
        return link["text"][1:-1]
    kind = "tree" if target.is_dir() else "blob"
    return f"{link['text']}({url}/{kind}/main/{target.relative_to(ROOT)}{link['anchor'] or ''})"


def contents(page: Path, text: str) -> Iterator[str]:
    """Yield the pages that an index page lists: those of its folder, and the indexes of the folders in it."""
    seen = set()
    for link in LINK.finditer(outside_code(text, str)):
        target = (page.parent / link["target"]).resolve()
        is_page = target.parent == page.parent and target.suffix in {".md", NOTEBOOK}
        is_index = target.parent.parent == page.parent and target.name == "index.md"
        if (is_page or is_index) and target != page and target not in seen:
            seen.add(target)
            yield str(target.relative_to(page.parent).with_suffix(""))


@cache
def repository_url() -> str | None:
    """Return the repository's address on GitHub, from GitHub's own variable or git's origin; None if neither is set."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return f"https://github.com/{name}"
    asked = subprocess.run(
        ["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?$", asked.stdout.strip())
    return f"https://github.com/{found[1]}" if found else None
