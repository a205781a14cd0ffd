"""Pages in Chromium: opened, and measured as the browser shows them; and what their HTML says without a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--dump-dom",
]
DARK = "--blink-settings=preferredColorScheme=0"
LIGHT = "--blink-settings=preferredColorScheme=1"
PHONE_PX = 360

# Runs in a copy of the page without its policy, so that an injected script would run there too. Chromium's own window
# is never as narrow as a phone, so the page can be shown in a frame, and what is measured goes to the frame's parent.
MEASURE = """
<script>
const box = element => { const {width, height} = element.getBoundingClientRect(); return {width, height}; };
const measured = {
  page: getComputedStyle(document.body).backgroundColor,
  width: window.innerWidth,
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  fetched: performance.getEntriesByType('resource').map(entry => entry.name),
  scripts: document.querySelectorAll('script').length,
  images: document.querySelectorAll('img').length,
  %s
};
if (parent !== window) parent.postMessage(measured, '*');
else document.body.textContent = 'measured' + JSON.stringify(measured) + 'end';
</script>
"""
FRAME = f"""
<!doctype html><link rel="icon" href="data:,"><body><script>
addEventListener('message', ({{data}}) => {{ document.body.textContent = 'measured' + JSON.stringify(data) + 'end'; }});
</script><iframe src="measured.html" style="width: {PHONE_PX}px; height: 900px; border: 0"></iframe>
"""
LINKS = {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}


class Browser:
    """Chromium, with a new profile for each page; `make_folder` gives a new folder."""

    def __init__(self, program: str, make_folder: Callable[[], Path]) -> None:
        self._program = program
        self._make_folder = make_folder

    def open(self, page: Path, *flags: str) -> tuple[str, str]:
        """Give the document as the browser holds it, and its console."""
        command = [self._program, *FLAGS, f"--user-data-dir={self._make_folder()}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    def measure(self, page: Path, fields: str, *flags: str, on_a_phone: bool = False) -> Any:
        """Measure sizes, colours and what was fetched, and `fields` of a JavaScript object; the console stays empty."""
        text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
        copy, frame = page.with_name("measured.html"), page.with_name("frame.html")
        copy.write_text(text.replace("</body>", f"{MEASURE % fields}</body>"), encoding="utf-8")
        frame.write_text(FRAME, encoding="utf-8")
        dom, console = self.open(frame if on_a_phone else copy, *flags)
        assert console == ""
        found = re.search(r"measured({.*})end", dom)
        assert found, dom
        return json.loads(unescape(found[1]))


def find_chromium() -> str | None:
    """Find Chromium on the PATH, by any of its names."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Elements(HTMLParser):
    """Every element with its attributes, all text outside the style sheet, and what of it is in the alarm's colour."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.alarms: list[str] = []
        self._in_style = self._in_alarm = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in_style = tag == "style"
        if tag in {"p", "td", "section"}:
            self._in_alarm = "alarm" in (dict(attrs).get("class") or "").split()

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.text += f" {data.strip()}" if data.strip() else ""
            if self._in_alarm and data.strip():
                self.alarms.append(data.strip())

    def find_all(self, tag: str) -> Iterator[dict[str, str | None]]:
        """The attributes of each element of a kind."""
        return (attributes for name, attributes in self.found if name == tag)


def assert_points_nowhere(page: Path) -> None:
    """Assert that a page has no link, style or import that leads outside."""
    links = [value for _, attributes in Elements(page).found for name, value in attributes.items() if name in LINKS]
    assert links
    assert [link for link in links if not (link or "").startswith(("#", "data:"))] == []
    text = page.read_text(encoding="utf-8")
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def assert_ids_are_unique(page: Path) -> None:
    """Assert that no two elements of a page have the same id."""
    ids = [attributes["id"] for _, attributes in Elements(page).found if "id" in attributes]
    assert sorted(ids, key=str) == sorted(set(ids), key=str)
