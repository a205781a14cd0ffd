"""A stand-in for a service that takes messages: a web hook on loopback that takes, refuses, or never answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, override


class WebHook(ThreadingHTTPServer):
    """The server, the bodies that it was sent, and how it answers: with a status, or not before `answers` is set."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.taken: list[Any] = []
        self.answers = threading.Event()
        self.answers.set()

    @property
    def place(self) -> str:
        """Its host and port, for an address of Apprise: json://PLACE/, or ntfy://PLACE/topic."""
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def texts(self) -> list[str]:
        """The title and the text of each message, as one text."""
        return [f"{each['title']}\n{each['message']}" for each in self.taken]


class _Handler(BaseHTTPRequestHandler):
    server: WebHook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append(json.loads(body))
        self.server.answers.wait(MAX_WAIT_S)
        with suppress(ConnectionError):  # the caller may have given up
            self.send_response(self.server.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


MAX_WAIT_S = 30.0
"""The longest that it keeps a caller waiting, so that no thread outlives its test by much."""


@contextmanager
def web_hook(status: int = 200, *, hangs: bool = False) -> Iterator[WebHook]:
    """Start a web hook that answers with a status, or hangs."""
    with WebHook(status) as server:
        if hangs:
            server.answers.clear()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.answers.set()
            server.shutdown()
