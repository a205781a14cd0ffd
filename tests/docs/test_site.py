"""make docs builds the site, and fails if anything in it leads nowhere."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.docs import __main__ as docs
from scripts.docs import links, sources


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[str]]:
    """Build the site of this repository; return its folder and the warnings."""
    folder = tmp_path_factory.mktemp("site") / "site"
    (folder / "old.html").parent.mkdir()
    (folder / "old.html").touch()
    warnings = docs.build(folder)
    return folder, warnings


@pytest.fixture
def site(built: tuple[Path, Sequence[str]]) -> Path:
    """Return the folder of this repository's site."""
    return built[0]


def test_the_site_is_built_without_a_warning(built: tuple[Path, Sequence[str]]) -> None:
    assert built[1] == []


def test_every_page_of_docs_is_on_the_site(site: Path) -> None:
    docs = ROOT / "docs"
    pages = [path.relative_to(docs).with_suffix(".html") for path in [*docs.rglob("*.md"), *docs.rglob("*.ipynb")]]
    assert [str(page) for page in pages if not (site / page).is_file()] == []


def test_no_link_of_the_site_leads_nowhere(site: Path) -> None:
    assert links.broken_links(site) == []


def test_the_site_asks_no_other_server_for_anything(site: Path) -> None:
    asked = [
        f"{page.relative_to(site)}: {link}"
        for page in sorted(site.rglob("*.html"))
        for link in links.read(page).loaded
        if "//" in link
    ]
    assert asked == []


def test_nothing_of_an_earlier_build_is_left(site: Path) -> None:
    assert not (site / "old.html").exists()


# --- planted mistakes ---

MISTAKES = {
    "page": "[x](no-page.md)",
    "page in a table": "| a | b |\n|---|---|\n| [x](no-page-in-table.md) | |",
    "place": "[x](index.md#no-place)",
    "place on the same page": "[x](#no-place-here)",
    "picture": "![x](no-picture.png)",
    "link in HTML": '<a href="no-html.html">x</a>',
    "place in HTML": '<a href="index.html#no-place-in-html">x</a>',
}
"""What is wrong on a page, by what it is; each names what does not exist."""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build a small site in which all of this is wrong, and return what is said about it."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text("# Home\n\n[page](page.md)\n")
    (folder / "docs" / "page.md").write_text("# Title\n\n" + "\n\n".join(MISTAKES.values()) + "\n")
    (folder / "docs" / "lost.md").write_text("# Lost\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(docs, "DOCS", folder / "docs")
        warnings = docs.build(folder / "site")
    return "\n".join([*warnings, *links.broken_links(folder / "site")])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_link_to_nothing_is_found(mistake: str, complaints: str) -> None:
    found = re.search(r"no-[\w-]+", MISTAKES[mistake])
    assert found is not None
    assert re.search(rf"{found[0]}\b(?!-)", complaints)


def test_a_page_that_no_index_lists_is_found(complaints: str) -> None:
    assert re.search(r"lost\.md.*isn't included in any toctree", complaints)


@pytest.mark.parametrize(
    ("problems", "code"), [((), None), (("docs/page.md:3: WARNING: a link",), 1)], ids=["sound", "wrong"]
)
def test_make_docs_ends_with_1_if_anything_is_wrong(
    problems: Sequence[str], code: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(docs, "build", lambda _site, **_: problems)
    monkeypatch.setattr("scripts.docs.browser.assemble", lambda _site: None)
    monkeypatch.setattr("scripts.docs.reference.stale_pages", dict)
    monkeypatch.setenv("OUT", str(tmp_path))
    ended = None
    try:
        docs.main()
    except SystemExit as end:
        ended = end.code
    assert ended == code


# --- links that leave docs/ ---


def adapted(page: str, text: str) -> str:
    source = [text]
    sources.adapt(None, page, source)
    return source[0]


def test_a_link_out_of_docs_leads_to_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "repository_url", lambda: "https://github.com/you/bot")
    text = adapted("how-to/deploy", "[all](../../terraform/variables.tf) and [tests](../../tests)")
    assert text == (
        "[all](https://github.com/you/bot/blob/main/terraform/variables.tf) and "
        "[tests](https://github.com/you/bot/tree/main/tests)"
    )


def test_without_a_known_repository_such_a_link_is_only_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "repository_url", lambda: None)
    assert adapted("how-to/deploy", "see [all](../../terraform/variables.tf)") == "see all"


def test_what_looks_like_a_link_in_a_code_block_stays() -> None:
    text = "```text\n[all](../../terraform/variables.tf)\n```\n"
    assert adapted("how-to/deploy", text) == text


def test_an_index_page_lists_its_links_once_and_in_their_order() -> None:
    text = adapted("how-to/index", "[b](deploy.md) [a](alarms.md#x) [b](deploy.md) [other](../reference/index.md)")
    assert text.partition(":hidden:\n")[2].split() == ["deploy", "alarms", "```"]


def test_a_notebook_is_a_page_with_its_code_and_what_it_printed() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": [{"output_type": "stream", "text": ["1\n"]}]},
        {"cell_type": "code", "source": ["x = 1"], "outputs": []},
    ]
    page = sources.write_notebook(json.dumps({"cells": cells}))
    assert page == ("# Title\nwords\n\n```ipython3\nprint(1)\n```\n\n```text\n1\n```\n\n```ipython3\nx = 1\n```")


def test_the_repository_is_githubs_own_variable_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "you/bot")
    sources.repository_url.cache_clear()
    try:
        assert sources.repository_url() == "https://github.com/you/bot"
    finally:
        sources.repository_url.cache_clear()
