"""A stand-in for S3 that lists and reads the files of a folder, and answers each request after 50 ms.

moto takes longer for a request than S3 does, and takes it from the processor that the measured program needs.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from scripts.testkit import aws

BUCKET = "records"
DELAY_S = 0.05
PAGE = 1_000
"""The names in a page of a list, as in S3."""


class SlowS3:
    """A server on this machine, while its context lasts."""

    def __init__(self, folder: Path, delay_s: float = DELAY_S) -> None:
        """Store the folder, whose files are the objects."""
        self._server = _Server(folder, delay_s)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which boto3 finds it."""
        return aws.environment(self._server.server_port)

    def __enter__(self) -> Self:
        """Start the server."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, folder: Path, delay_s: float) -> None:
        self.folder = folder
        self.delay_s = delay_s
        super().__init__(("127.0.0.1", 0), _Handler)

    def list_names(self) -> list[str]:
        """Return the names of all objects, in their order."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer a request for a list or for an object."""
        time.sleep(self.server.delay_s)
        url = urlsplit(self.path)
        name = unquote(url.path).removeprefix(f"/{BUCKET}").removeprefix("/")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if "lifecycle" in query:
            self._refuse("NoSuchLifecycleConfiguration")
            return
        if not name:
            self._answer(200, "application/xml", "".join(self._list(query)).encode())
            return
        try:
            body = (self.server.folder / name).read_bytes()
        except OSError:
            self._refuse("NoSuchKey")
        else:
            self._answer(200, "application/json", body)

    def _refuse(self, code: str) -> None:
        self._answer(404, "application/xml", f"<Error><Code>{code}</Code><Message>none</Message></Error>".encode())

    def _list(self, query: Mapping[str, str]) -> Iterator[str]:
        after = query.get("continuation-token") or query.get("start-after", "")
        found = [each for each in self.server.list_names() if each.startswith(query.get("prefix", "")) and each > after]
        yield '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        yield f"<Name>{BUCKET}</Name><IsTruncated>{str(len(found) > PAGE).lower()}</IsTruncated>"
        if len(found) > PAGE:
            yield f"<NextContinuationToken>{escape(found[PAGE - 1])}</NextContinuationToken>"
        for each in found[:PAGE]:
            yield f"<Contents><Key>{escape(each)}</Key><Size>1</Size></Contents>"
        yield "</ListBucketResult>"

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)
