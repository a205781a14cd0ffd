"""A stand-in for Alpaca's trading and data API over real HTTP, with books to inspect and faults to script.

with AlpacaFake(prices={"AAPL": 190.0}) as fake:
    fake.fault("POST", "/v2/orders", "504-accepted")
    ...                       # point the bot at fake.url
    assert len(fake.orders) == 1
"""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from scripts.testkit.alpaca_api import REFUSALS, AlpacaApi, Answer, FaultKind

__all__ = ["REFUSALS", "AlpacaFake", "Answer", "FaultKind"]


class AlpacaFake(AlpacaApi):
    """An HTTP server for the stand-in, used as a context manager. `latency_s` is the delay before each answer."""

    def __init__(self, *, prices: Mapping[str, float] | None = None, cash_usd: float = 100_000) -> None:
        super().__init__(prices=prices, cash_usd=cash_usd)
        self.latency_s = 0.0
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """The base URL of both APIs, trading and data."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings that point a run at this server, with keys that it accepts."""
        addresses = dict.fromkeys(("APCA_API_BASE_URL", "APCA_API_DATA_URL"), self.url)
        return {"BROKER": "alpaca", **addresses, "ALPACAUSER": self.key_id, "ALPACAPW": self.secret}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake: AlpacaFake
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # sends headers and body in one packet; a second packet would wait 40 ms

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.fake._closing.wait(self.fake.latency_s)
        answer = self.fake.answer(self.command, self.path, dict(self.headers), body)
        if answer is None:
            self.close_connection = True
            return
        text = "<html><body>Bad gateway</body></html>" if answer.html else json.dumps(answer.payload)
        content = b"" if answer.status == 204 else text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/html" if answer.html else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names the standard library calls

    def log_message(self, *_: object) -> None:
        """Log nothing; the stand-in records its `requests`."""
