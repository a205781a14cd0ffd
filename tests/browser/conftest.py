"""The assembled page, served on this machine, and Chromium to open it."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

from scripts.backtest import in_browser
from scripts.docs.browser import PartError, assemble, assembling
from scripts.docs.browser.assembling import PAGE
from tests.browser.chromium import Chromium, find_chromium

HOST = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><style>:root {{ color-scheme: light dark }}</style></head>
<body><main>{fragment}</main></body></html>
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 http.server's own name
        pass


def lack(what: str) -> NoReturn:
    """Fail in CI, where these tests must run; skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; CI must run these tests")
    pytest.skip(f"left out: {what}")


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with the page and everything that it loads.

    Only the slow tests run the page's backtest. Without one of them, Prophet is asked about the sample's last days:
    about all of it takes half a minute after each change of the code.
    """
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        if not any("theirs" in getattr(item, "fixturenames", ()) for item in request.session.items):
            patched.setattr(in_browser, "ENV", {**in_browser.ENV, "START": "2022-12-20"})
            patched.setattr(assembling, "ANSWERS", tmp_path_factory.mktemp("answers"))
        try:
            assemble(folder)
        except PartError as error:
            lack(str(error))
        fragment = (PAGE / "backtest.html").read_text(encoding="utf-8")
        (folder / "index.html").write_text(HOST.format(fragment=fragment), encoding="utf-8")
        yield folder


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Serve the site on 127.0.0.1 and return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def program() -> str:
    """Return Chromium's path."""
    return find_chromium() or lack("chromium is not on the PATH")


@pytest.fixture(scope="module")
def chromium(program: str) -> Iterator[Chromium]:
    """Start Chromium."""
    with Chromium(program) as browser:
        yield browser
