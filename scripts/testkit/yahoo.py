"""A stand-in for Yahoo's chart service, reached by the real yfinance and curl_cffi through environment variables only.

It is a CONNECT proxy that answers for yahoo.com and its subdomains itself, over TLS with a certificate of its own.
"""

import argparse
import contextlib
import json
import socket
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trader.model import BAR_LENGTH, NEW_YORK
from trader.schedule import sessions

CHART = "/v8/finance/chart/"
CRUMB = "/v1/test/getcrumb"
EVERY = "*"


class Fault(Enum):
    """The ways in which a request can fail."""

    RATE_LIMITED = "429"
    RATE_LIMITED_JSON = "429 in JSON"
    SERVER_ERROR = "500 with a page of HTML"
    SERVER_ERROR_JSON = "500 with an error of the chart service"
    BAD_GATEWAY = "502 with a page of HTML"
    UNAVAILABLE = "503 with a page of HTML"
    UNAVAILABLE_JSON = "503 in JSON"
    HTML = "200 with a page of HTML instead of JSON"
    NOT_FOUND = "404 with the chart service's own error"
    NO_PAGE = "404 with a page of HTML"
    NO_DATA_THEN = "400 with the chart service's own error"
    EMPTY = "200 without any result"
    NO_BARS = "200 with a description of the symbol, and no bars"
    MALFORMED = "200 with JSON of another shape"
    STALE = "200 with bars that end three days too early"
    FORBIDDEN = "403 with a page of HTML"
    FORBIDDEN_JSON = "403 in JSON"
    UNAUTHORIZED = "401, as for a crumb that is no longer good"
    HANG = "no answer"
    DROP = "the connection is closed"


@dataclass(frozen=True)
class Listing:
    """Yahoo's data for a symbol: closes as they were paid, up to the bar that contains `last`; None is a missing price.

    Opens, highs and lows are the closes times `shape`. Dividends and capital gains are by ex-date, splits by day in new
    shares for each old one; they are among the events, and `closes` should be adjusted for the splits. The adjusted
    closes of daily bars follow from the dividends, unless `adjusted` are given; if these are empty, the answer has
    none.
    """

    closes: Sequence[float | None]
    last: datetime
    running_day_twice: bool = False
    shape: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dividends: Mapping[date, float] = field(default_factory=dict)
    capital_gains: Mapping[date, float] = field(default_factory=dict)
    splits: Mapping[date, tuple[float, float]] = field(default_factory=dict)
    adjusted: Sequence[float | None] | None = None


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    host: str
    path: str
    query: Mapping[str, str]

    @property
    def symbol(self) -> str:
        """The symbol whose chart is requested; empty for any other request."""
        return unquote(self.path.removeprefix(CHART)) if self.path.startswith(CHART) else ""


@dataclass
class YahooFake:
    """A server that answers from `listings`, used as a context manager; symbols are in Yahoo's spelling (BRK-B)."""

    listings: dict[str, Listing]
    latency_s: float = 0.0
    requests: list[Request] = field(default_factory=list)
    errors: list[BaseException | None] = field(default_factory=list)
    _faults: dict[str, Iterator[Fault]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.closing = Event()
        self._server = _Server(self, _certificate(folder))
        self._certificate = folder / "ca.pem"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._stack.close()
        assert self.errors == [], "the stand-in itself failed"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point yfinance at this server."""
        proxy, certificate = f"http://127.0.0.1:{self._server.server_address[1]}", str(self._certificate)
        names = {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return names | {"CURL_CA_BUNDLE": certificate, "REQUESTS_CA_BUNDLE": certificate}

    def plan(self, fault: Fault, on: str = EVERY, times: int | None = None) -> None:
        """Fail the next `times` requests (None: all) for a symbol's chart, for a path or for EVERY chart."""
        self._faults[on] = repeat(fault) if times is None else repeat(fault, times)

    def charts(self, symbol: str) -> int:
        """Return how often the symbol's chart was requested."""
        return Counter(request.symbol for request in self.requests)[symbol]

    def note(self, request: Request) -> Fault | None:
        """Record a request, and return its fault; None if it has none."""
        with self._lock:
            self.requests.append(request)
            keys = (request.symbol, EVERY) if request.symbol else (request.path,)
            return next(chain.from_iterable(self._faults.get(key, ()) for key in keys), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, fake: YahooFake, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake
        self.tls = tls

    def handle_error(self, *_: object) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # a client that disconnects is not the stand-in's fault
            self.fake.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    host = ""

    def log_message(self, *args: object) -> None:
        pass  # the stand-in records its requests

    def do_CONNECT(self) -> None:
        self.host = self.path.partition(":")[0]
        if self.host != "yahoo.com" and not self.host.endswith(".yahoo.com"):
            self.send_error(403, f"only Yahoo's hosts are served, not {self.host}")
            return
        self.send_response_only(200)
        self.end_headers()
        self.connection: socket.socket = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)  # type: ignore[assignment]  # as the base class makes it

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.connection.close()  # the server knows only the connection before it was wrapped

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        request = Request(self.host, url.path, query)
        fault = self.server.fake.note(request)
        self.server.fake.closing.wait(self.server.fake.latency_s)
        if fault is Fault.HANG:
            self.server.fake.closing.wait(30)
        if fault in (Fault.HANG, Fault.DROP):
            self.close_connection = True
            return
        if fault is Fault.STALE:
            self._answer(*self._success(request, until=3 * 86_400))
            return
        self._answer(*(_failure(fault, request) if fault else self._success(request)))

    def _success(self, request: Request, until: int = 0) -> tuple[int, str]:
        if request.path == CRUMB:
            return 200, "crumb"
        if not request.symbol:
            return (404 if request.host == "fc.yahoo.com" else 200), "<html></html>"  # cookie and consent pages
        listing = self.server.fake.listings.get(request.symbol)
        if listing and until:
            end = str(int(listing.last.timestamp()) - until)
            request = replace(request, query={**request.query, "period2": end})
        return (200, json.dumps(_chart(request, listing))) if listing else _failure(Fault.NOT_FOUND, request)

    def _answer(self, status: int, body: str) -> None:
        kind = "application/json" if body.startswith("{") else "text/html"
        expires = "Max-Age=31557600; Domain=.yahoo.com; Path=/; SameSite=None; Secure; HttpOnly"
        cookie = f"Set-Cookie: A3=d=fake; {expires}\r\n" if self.host == "fc.yahoo.com" else ""
        head = f"HTTP/1.1 {status} Answer\r\nContent-Type: {kind};charset=utf-8\r\n{cookie}"
        self.wfile.write(f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode())  # one packet


def _failure(fault: Fault, request: Request) -> tuple[int, str]:
    page = "<html><body>Will be back soon</body></html>"
    if fault is Fault.NO_BARS:
        return 200, json.dumps(_chart(request, Listing([], datetime.now(UTC))))
    return {
        Fault.RATE_LIMITED: (429, "Too Many Requests\r\n"),
        Fault.RATE_LIMITED_JSON: (429, _error("finance", "Too Many Requests", "Rate limited")),
        Fault.SERVER_ERROR: (500, page),
        Fault.SERVER_ERROR_JSON: (500, _error("chart", "Internal Server Error", "No server is available")),
        Fault.BAD_GATEWAY: (502, page),
        Fault.UNAVAILABLE: (503, page),
        Fault.UNAVAILABLE_JSON: (503, _error("finance", "Service Unavailable", "Come back later")),
        Fault.FORBIDDEN: (403, page),
        Fault.FORBIDDEN_JSON: (403, _error("finance", "Forbidden", "Access is denied")),
        Fault.UNAUTHORIZED: (401, _error("finance", "Unauthorized", "Invalid Crumb")),
        Fault.HTML: (200, page),
        Fault.NOT_FOUND: (404, _error("chart", "Not Found", "No data found, symbol may be delisted")),
        Fault.NO_PAGE: (404, page),
        Fault.NO_DATA_THEN: (400, _error("chart", "Bad Request", "Data doesn't exist for startDate = 1, endDate = 2")),
        Fault.EMPTY: (200, json.dumps({"chart": {"result": [], "error": None}})),
        Fault.MALFORMED: (
            200,
            json.dumps({"chart": {"result": [{"indicators": {"quote": [{"a": 1}]}}], "error": None}}),
        ),
    }[fault]


def _error(part: str, code: str, description: str) -> str:
    return json.dumps({part: {"result": None, "error": {"code": code, "description": description}}})


class _Bar(NamedTuple):
    start_s: int
    close: float | None
    adjusted: float | None


def _chart(request: Request, listing: Listing) -> dict[str, Any]:
    interval = request.query["interval"]
    starts = _starts(listing.last, interval, len(listing.closes))
    adjusted = adjusted_closes(listing, starts) if listing.adjusted is None else listing.adjusted or listing.closes
    bars = [
        _Bar(int(start.timestamp()), *of_bar) for start, *of_bar in zip(starts, listing.closes, adjusted, strict=True)
    ]
    if listing.running_day_twice:
        bars[-1:] = [_Bar(bars[-1].start_s, 1.0, 1.0), bars[-1]._replace(start_s=int(listing.last.timestamp()))]
    first, end = int(request.query.get("period1", 0)), int(request.query.get("period2", 2**40))
    bars = [bar for bar in bars if first <= bar.start_s < end]
    result: dict[str, Any] = {"meta": _meta(request, listing, interval), "indicators": {"quote": [{}]}}
    if bars:
        has_adjusted = interval == "1d" and listing.adjusted != ()
        result |= {
            "timestamp": [bar.start_s for bar in bars],
            "indicators": _indicators(bars, listing.shape, has_adjusted=has_adjusted),
        }
    if events := _events(listing, first, end):
        result["events"] = events
    return {"chart": {"result": [result], "error": None}}


def adjusted_closes(listing: Listing, starts: Sequence[datetime]) -> list[float | None]:
    """Return closes adjusted as Yahoo does it: those before an ex-date by the dividend's part of the last of them."""
    factors = [1.0] * len(starts)
    for day, dividend in listing.dividends.items():
        before = [number for number, start in enumerate(starts) if start.date() < day]
        paid = [close for number in before if (close := listing.closes[number]) is not None]
        if paid and len(before) < len(starts):
            for number in before:
                factors[number] *= 1 - dividend / paid[-1]
    return [close and close * factor for close, factor in zip(listing.closes, factors, strict=True)]


def _events(listing: Listing, first: int, end: int) -> dict[str, Any]:
    """Return the events from `first` to `end`, each at its day's opening, as Yahoo dates them."""

    def within[T](events: Mapping[date, T]) -> dict[int, T]:
        opened = {int(datetime.combine(day, sessions.OPEN, NEW_YORK).timestamp()): each for day, each in events.items()}
        return {at: each for at, each in opened.items() if first <= at < end}

    splits = {
        str(at): {"date": at, "numerator": new, "denominator": old, "splitRatio": f"{new:g}:{old:g}"}
        for at, (new, old) in within(listing.splits).items()
    }
    paid = {
        kind: {str(at): {"amount": amount, "date": at} for at, amount in within(events).items()}
        for kind, events in (("dividends", listing.dividends), ("capitalGains", listing.capital_gains))
    }
    return {kind: events for kind, events in {**paid, "splits": splits}.items() if events}


def _indicators(bars: Sequence[_Bar], shape: tuple[float, float, float], *, has_adjusted: bool) -> dict[str, Any]:
    closes = [bar.close for bar in bars]
    volume = [None if close is None else 1_000_000 for close in closes]
    opens, highs, lows = ([close and close * factor for close in closes] for factor in shape)
    quote = {"open": opens, "high": highs, "low": lows, "close": closes, "volume": volume}
    return {"quote": [quote]} | ({"adjclose": [{"adjclose": [bar.adjusted for bar in bars]}]} if has_adjusted else {})


def _meta(request: Request, listing: Listing, interval: str) -> dict[str, Any]:
    meta = {
        "currency": "USD",
        "symbol": request.symbol,
        "exchangeName": "NMS",
        "instrumentType": "EQUITY",
        "regularMarketTime": int(listing.last.timestamp()),
        "exchangeTimezoneName": "America/New_York",
        "priceHint": 2,
        "dataGranularity": interval,
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    }
    if interval == "1d":
        return meta
    days = sorted({start.date() for start in _starts(listing.last, interval, len(listing.closes))})
    hours = [[int(at.timestamp()) for at in bells] for day in days if (bells := sessions.session(day))]
    zone = {"timezone": "EST", "gmtoffset": -18000}
    return meta | {"tradingPeriods": [[zone | {"start": start, "end": end}] for start, end in hours]}


@lru_cache
def _starts(last: datetime, interval: str, count: int) -> tuple[datetime, ...]:
    """Return the starts of `count` bars up to the one that contains `last`, in New York time."""
    day = last.astimezone(NEW_YORK).date()
    starts: list[datetime] = []
    while len(starts) < count:
        if bells := sessions.session(day):
            begun = [start for start in _session(*bells, BAR_LENGTH[interval]) if start <= last]
            starts = begun + starts
        day -= timedelta(days=1)
    return tuple(starts[len(starts) - count :])


def _session(opening: datetime, close: datetime, length: timedelta) -> list[datetime]:
    return [opening + length * number for number in range(-((opening - close) // length))]


def _certificate(folder: Path) -> ssl.SSLContext:
    """Write a test authority to ca.pem, and return a TLS context with its certificate for Yahoo's hosts."""
    now = datetime.now(UTC)

    def build(common_name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in ("*.yahoo.com", "*.finance.yahoo.com")])
    authority = build("Test authority", authority_key, authority=True).sign(authority_key, hashes.SHA256())
    leaf = build("yahoo.com", key, authority=False).add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    (folder / "leaf.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.sign(authority_key, hashes.SHA256()).public_bytes(pem)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "leaf.pem")
    return context


def main() -> None:
    """Print the environment as one line of JSON, then serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=500, help="number of symbols: S000, S001, ... (default 500)")
    parser.add_argument("--bars", type=int, default=250, help="bars per symbol (default 250)")
    parser.add_argument("--latency-s", type=float, default=0.15, help="seconds before each answer (default 0.15)")
    arguments = parser.parse_args()
    listing = Listing([100 + bar / 10 for bar in range(arguments.bars)], datetime.now(UTC))
    listings = {f"S{number:03}": listing for number in range(arguments.symbols)}
    with YahooFake(listings, latency_s=arguments.latency_s) as fake:
        print(json.dumps(fake.environment), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
