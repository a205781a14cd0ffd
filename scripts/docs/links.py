"""Links of the finished site that lead nowhere: of its pages, whatever they were made from."""

from collections.abc import Iterator, Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links of a page, and the places that links can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []  # by the browser, without a click
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag links to, and its own id."""
        for name, value in attrs:
            if name in {"href", "src"} and value and not (tag == "link" and ("rel", "canonical") in attrs):
                self.links.append(value)
                if tag != "a":
                    self.loaded.append(value)
            elif name in {"id", "name"} and value:
                self.places.add(value)


@cache
def read(path: Path) -> _Page:
    """Return the links and places of a page."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@cache
def find(link: str, folder: Path) -> Path:
    """Return where a link from a page in a folder leads to: most links are on all pages."""
    target = (folder / unquote(link)).resolve()
    return target / "index.html" if target.is_dir() else target


def broken_links(site: Path) -> Sequence[str]:
    """Return a line for each link from a page of the site to a file or a place of the site that does not exist."""
    read.cache_clear()
    find.cache_clear()
    site = site.resolve()
    return [line for page in sorted(site.rglob("*.html")) for line in broken_on(page, site)]


def broken_on(page: Path, site: Path) -> Iterator[str]:
    """Yield a line for each broken link of a page."""
    for link in read(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = find(parts.path, page.parent) if parts.path else page
        place = unquote(parts.fragment)
        if not target.is_relative_to(site) or not target.is_file():
            yield f"{page.relative_to(site)}: there is no {link}"
        elif place and target.suffix == ".html" and place not in read(target).places:
            yield f"{page.relative_to(site)}: there is no place #{place} on {target.relative_to(site)}"
