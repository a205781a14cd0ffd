"""HTML pages rendered in Chromium, and rules for every page."""

import html
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import QUIET, find_chromium

FLAGS = [*QUIET, "--enable-logging=stderr", "--v=0", "--dump-dom"]
DARK = "--blink-settings=preferredColorScheme=0"
LIGHT = "--blink-settings=preferredColorScheme=1"
LINKS = {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}

# Points at both ends of the first chart, and away from it.
POINT = """
<script>
const chart = [...document.querySelectorAll('svg[data-left]')].find(svg => svg.getBoundingClientRect().width > 0);
const tip = document.querySelector('.tip');
const point = (type, share) => {
  const {left, width, top} = chart.getBoundingClientRect();
  chart.dispatchEvent(new PointerEvent(type, {clientX: left + share * width, clientY: top + 20}));
  return tip.textContent;
};
const shown = {before: tip.hidden, first: point('pointermove', 0), last: point('pointermove', 1)};
point('pointerleave', 0);
shown.after = tip.hidden;
document.body.textContent = 'measured' + JSON.stringify(shown) + 'end';
</script>
"""

type Browse = Callable[..., tuple[str, str]]


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Provide a function that opens a file in Chromium and returns the DOM as text and the console messages."""
    chromium = find_chromium()
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not on the PATH; CI must run these tests, so install it in the CI image")
        pytest.skip("left out: chromium is not on the PATH")

    def open_page(page: Path, *flags: str) -> tuple[str, str]:
        profile = tmp_path_factory.mktemp("profile")
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    return open_page


@pytest.fixture(scope="module")
def opened(browse: Browse, page: Path) -> tuple[str, str]:
    """Open the module's page as it is; return the DOM as text and the console messages."""
    return browse(page)


def measure(browse: Browse, page: Path, script: str, *flags: str, frame: str = "") -> Any:
    """Return the JSON that the script writes into the page; `frame` is the HTML of a page that shows measured.html."""
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    copy, framed = page.with_name("measured.html"), page.with_name("frame.html")
    copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    framed.write_text(frame, encoding="utf-8")
    dom, console = browse(framed if frame else copy, *flags)
    assert console == ""
    found = re.search(r"measured({.*})end", dom)
    assert found, dom
    return json.loads(html.unescape(found[1]))


class Elements(HTMLParser):
    """A page's elements with their attributes, its text without styles and scripts, and the text marked as an alarm."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.alarms: list[str] = []
        self._in_style = self._in_alarm = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in_style = tag in {"style", "script"}
        if tag in {"p", "td", "li", "section"}:
            self._in_alarm = "alarm" in (dict(attrs).get("class") or "").split()

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.text += f" {data.strip()}" if data.strip() else ""
            if self._in_alarm and data.strip():
                self.alarms.append(data.strip())

    def find_all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.found if name == tag)


class RulesOfPages:
    """Rules for every page, inherited by test classes.

    They use the fixture `page`, with HTML from outside, and `light` and `dark`, its measurements in each mode.
    """

    def test_the_page_fetches_nothing(self, light: Any) -> None:
        assert light["fetched"] == []

    def test_html_from_outside_adds_no_elements_to_the_page(self, light: Any) -> None:
        # Only the page's own two scripts, and the one that measures.
        assert (light["scripts"], light["images"]) == (3, 0)

    def test_the_policy_lets_the_pages_own_scripts_run(self, opened: tuple[str, str], page: Path) -> None:
        dom, _ = opened
        assert 'role="img" data-left=' in page.read_text(encoding="utf-8")
        assert re.search(r"<svg [^>]*data-left=[^>]* aria-label=", dom)

    def test_the_pointer_shows_a_charts_values(self, browse: Browse, page: Path) -> None:
        shown = measure(browse, page, POINT, "--window-size=1280,900")
        assert (shown["before"], shown["after"]) == (True, True)  # hidden
        assert shown["first"] != shown["last"]
        for words in (shown["first"], shown["last"]):
            assert re.search(r"\d{4}.*\d\.\d\d", words)

    def test_dark_mode_changes_the_page_and_the_charts(self, light: Any, dark: Any) -> None:
        assert light["page"] != dark["page"]
        assert light["ink"] != dark["ink"]

    def test_the_browser_console_stays_empty(self, opened: tuple[str, str]) -> None:
        assert opened[1] == ""

    def test_nothing_in_the_page_points_outside(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        links = [value for _, attributes in Elements(page).found for name, value in attributes.items() if name in LINKS]
        assert links
        assert [link for link in links if not (link or "").startswith(("#", "data:"))] == []
        assert "@import" not in text
        assert re.findall(r"url\((?!#)", text) == []

    def test_every_id_in_the_page_is_unique(self, page: Path) -> None:
        ids = [attributes["id"] for _, attributes in Elements(page).found if "id" in attributes]
        assert sorted(ids, key=str) == sorted(set(ids), key=str)
