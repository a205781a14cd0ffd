"""The outside services, each behind a real socket and a switchboard: Alpaca, Yahoo, and S3 and SSM from moto."""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from io import BytesIO
from typing import Any, NoReturn, Self, override
from urllib.parse import urlsplit

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from scripts.testkit.alpaca import REFUSALS, AlpacaFake, Answer
from scripts.testkit.alpaca_books import AlpacaBooks, FakeOrder
from scripts.testkit.yahoo import Fault as YahooFault
from scripts.testkit.yahoo import Listing, Request, YahooFake
from tests.fault_injection.faults import Faults, Kind

SLOW_S = 1.5
HANG_S = 45.0
"""Longer than any client of the function's waits for a single answer."""

ALPACAS_PATHS = ("/orders:by_client_order_id", "/orders", "/stocks/bars", "/clock", "/account", "/positions")
BOOKS = "/orders?status=all"
"""The list of what is over and done with, that recovery reads; `/orders` is that of open orders."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order as it was accepted, and how things stood at Alpaca at that moment."""

    order: FakeOrder
    held: Decimal
    cash: Decimal
    price: Decimal
    equities: tuple[Decimal, ...]  # now, as the slot began and, if the account's answer was stale, as it says
    last_equity: Decimal
    is_open: bool
    is_blocked: bool
    is_halted: bool


class FaultyAlpaca(AlpacaFake):
    """Alpaca, who can sell short what is not held, as in a margin account, and forgets nothing."""

    def __init__(self, faults: Faults, kill: Callable[[], None], is_halted: Callable[[], bool]) -> None:
        super().__init__()
        self.faults = faults
        self.kill = kill
        self.is_halted = is_halted
        self.reset()

    def reset(self) -> None:
        """A new account, with nothing but cash."""
        with self.lock:
            self.__dict__.update(self.fresh())
            self.accepted: list[Accepted] = []
            self.equity_at_first = self.cash
            self.yesterday: dict[str, Answer | None] = {}
            self.late: list[tuple[Accepted, str, Mapping[str, str], Any]] = []  # what is still on its way to it
            self.late_ids: set[str] = set()
            self.seen: Accepted | None = None
            self.hooks: dict[str, list[Callable[[], object]]] = {}  # done once, before a call of that name is answered

    @staticmethod
    def fresh() -> dict[str, Any]:
        """The attributes of an account with nothing but cash, at the defaults of the books."""
        names = "cash last_equity positions orders cancel_polls fills rejected_later rejected_at_once account_overrides"
        books = AlpacaBooks()
        return {name: getattr(books, name) for name in names.split()} | {"is_open": None, "may_short": True}

    @override
    def accept(self, body: Mapping[str, Any]) -> FakeOrder:
        before = self.seen or self._look(body)
        order = super().accept(body)
        self.accepted.append(replace(before, order=order))
        return order

    def arrive(self) -> None:
        """Accept the orders that were still on their way; lawful is what was so when they were sent."""
        for seen, path, headers, body in self.late:
            self.seen = seen
            super().answer("POST", path, headers, body)
        self.late, self.seen = [], None

    def _look(self, body: Mapping[str, Any]) -> Accepted:
        symbol = str(body["symbol"])
        held = self.positions[symbol].quantity if symbol in self.positions else Decimal(0)
        return Accepted(
            order=None,  # type: ignore[arg-type]  # not accepted yet
            held=held,
            cash=self.cash,
            price=self.price(symbol),
            equities=(self.equity, self.equity_at_first, *self._stale_equity()),
            last_equity=self.last_equity,
            is_open=self.market_is_open(),
            is_blocked=bool(self.account_overrides),
            is_halted=self.is_halted(),
        )

    def forget(self) -> None:
        """Drop what is over and done with from the books: weeks of it would make every look at them slow."""
        with self.lock:
            alive = {id(order) for order in self.orders if order.is_open or any(leg.is_open for leg in order.legs)}
            self.orders = [order for order in self.orders if id(order) in alive or id(order.parent) in alive]

    def _stale_equity(self) -> list[Decimal]:
        told = self.yesterday.get("/v2/account")
        is_stale = f"alpaca GET /account: {Kind.STALE}" in self.faults.met
        return [Decimal(told.payload["equity"])] if told and is_stale else []

    def remember(self) -> None:
        """Keep what is true now: a stale answer will be this one."""
        for path in ("/v2/clock", "/v2/account", "/v2/positions"):
            self.yesterday[path] = self._do("GET", path, self.keys, None)
        query = "/v2/orders?status=open&nested=false&direction=asc&limit=500"
        self.yesterday["/v2/orders"] = self._do("GET", query, self.keys, None)
        self.requests.clear()

    @property
    def keys(self) -> dict[str, str]:
        return {"APCA-API-KEY-ID": self.key_id, "APCA-API-SECRET-KEY": self.secret}

    @override
    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        bare = urlsplit(path).path
        name = next(known for known in ALPACAS_PATHS if bare.removeprefix("/v2").startswith(known))
        if "status=all" in path:
            name = BOOKS
        self._happen(f"{method} {name}")
        answer = self._respond(method, name, path, headers, body)
        self._happen(f"after {method} {name}")
        return answer

    def _happen(self, name: str) -> None:
        for hook in self.hooks.pop(name, ()):
            hook()

    def _respond(self, method: str, name: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        """The answer, or what a fault makes of it."""
        kind = self.faults.next(f"alpaca {method} {name}")
        if kind is Kind.KILL_BEFORE:
            self.kill()
            return None
        if kind is Kind.SLOW:
            self._closing.wait(SLOW_S)
        if kind in REFUSED:
            return REFUSED[kind]
        if kind in (Kind.DROP, Kind.HANG):
            self._closing.wait(HANG_S if kind is Kind.HANG else 0)
            return None
        if kind is Kind.STALE:
            return self._stale(method, path, headers, body)
        if kind is Kind.LATE:
            self.late.append((self._look(body), path, headers, body))
            self.late_ids.add(body["client_order_id"])
            return None
        answer = super().answer(method, path, headers, body)
        if kind is Kind.KILL_AFTER:
            self.kill()
            return None
        if kind in (None, Kind.SLOW) or answer is None or answer.status >= 300:
            return answer
        if kind is Kind.LOST:
            return None if self.faults.calls[f"alpaca {method} {name}"] % 2 else REFUSALS["504"]
        if kind is Kind.MALFORMED:
            return Answer(200, html=True)
        return Answer(200, [] if isinstance(answer.payload, list) else {})  # empty

    def _stale(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        bare, now = urlsplit(path).path, super().answer
        if bare.endswith("by_client_order_id"):
            return REFUSALS["404-order"]
        if bare.endswith("/bars"):
            fresh = now(method, path, headers, body)
            assert fresh is not None
            bars = {symbol: rows[:-2] for symbol, rows in fresh.payload["bars"].items()}
            return Answer(200, {"bars": bars, "next_page_token": None})
        return self.yesterday.get(bare) if method == "GET" else now(method, path, headers, body)


REFUSED = {
    Kind.BUSY: REFUSALS["429"],
    Kind.ERROR: REFUSALS["503-html"],
    Kind.DENIED: Answer(403, {"code": 40300000, "message": "forbidden."}),  # of what was asked, not of the keys
    Kind.EXPIRED: REFUSALS["401"],
}


class FaultyYahoo(YahooFake):
    """Yahoo's chart service."""

    faults: Faults
    kill: Callable[[], None]

    @classmethod
    def of(cls, faults: Faults, kill: Callable[[], None]) -> Self:
        """A service without listings yet."""
        fake = cls({})
        fake.faults, fake.kill = faults, kill
        return fake

    @override
    def note(self, request: Request) -> YahooFault | None:
        if not request.symbol:
            return None  # cookies and crumbs: a chart can be had without
        del self.requests[:]  # a long run would keep them all
        kind = self.faults.next("yahoo GET chart")
        if kind in (Kind.KILL_BEFORE, Kind.KILL_AFTER):
            self.kill()
        if kind is Kind.SLOW:
            self.closing.wait(SLOW_S)
        return YAHOO.get(kind) if kind else None


YAHOO = {
    Kind.HANG: YahooFault.HANG,
    Kind.BUSY: YahooFault.RATE_LIMITED,
    Kind.ERROR: YahooFault.SERVER_ERROR,
    Kind.LOST: YahooFault.DROP,  # of a read the answer alone counts
    Kind.DROP: YahooFault.DROP,
    Kind.MALFORMED: YahooFault.MALFORMED,
    Kind.STALE: YahooFault.STALE,
    Kind.EMPTY: YahooFault.EMPTY,
    Kind.DENIED: YahooFault.FORBIDDEN,
    Kind.EXPIRED: YahooFault.UNAUTHORIZED,
    Kind.KILL_BEFORE: YahooFault.DROP,
    Kind.KILL_AFTER: YahooFault.DROP,
}


# --- AWS ---


type Environ = dict[str, Any]
type StartResponse = Callable[..., object]
type Application = Callable[[Environ, StartResponse], Iterable[bytes]]


@cache
def moto() -> Application:
    """The one moto of this process: AWS has one S3, too."""
    application: Application = DomainDispatcherApplication(create_backend_app)
    return application


class FaultyAws:
    """S3 and SSM, with the switchboard in front of moto."""

    def __init__(self, faults: Faults, kill: Callable[[], None]) -> None:
        self.faults = faults
        self.kill = kill
        self._closing = threading.Event()
        self._server = make_server("127.0.0.1", 0, self._application, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True  # type: ignore[attr-defined]  # a request that hangs ends with the process
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _application(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body: bytes = environ["wsgi.input"].read(length) if length else b""
        if environ.get("HTTP_TRANSFER_ENCODING") == "chunked":
            body = environ["wsgi.input"].read()
        environ["wsgi.input"] = BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        if environ.get("HTTP_USER_AGENT", "").endswith(OWN):
            return self._ask_moto(environ, start_response)
        service = "ssm" if "AmazonSSM" in environ.get("HTTP_X_AMZ_TARGET", "") else "s3"
        kind = self.faults.next(name_ssm_call(body) if service == "ssm" else name_s3_call(environ))
        return self._answer(kind, service, environ, start_response)

    def _answer(
        self, kind: Kind | None, service: str, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        if kind is None:
            return self._ask_moto(environ, start_response)
        if kind is Kind.SLOW:
            self._closing.wait(SLOW_S)
            return self._ask_moto(environ, start_response)
        if kind is Kind.KILL_BEFORE:
            self.kill()
            self._cut_off(environ)
        if kind in (Kind.DROP, Kind.HANG):
            self._closing.wait(HANG_S if kind is Kind.HANG else 0)
            self._cut_off(environ)
        if kind in (Kind.LOST, Kind.KILL_AFTER):
            list(self._ask_moto(environ, lambda *_: None))
            if kind is Kind.KILL_AFTER:
                self.kill()
            self._cut_off(environ)
        if kind is Kind.MALFORMED:
            if service == "s3" and environ["REQUEST_METHOD"] == "PUT":
                list(self._ask_moto(environ, lambda *_: None))  # done, and answered with nonsense
            return answer_with(start_response, 200, b"<html>Bad gateway</html>", "text/html")
        if kind is Kind.EMPTY:
            return answer_with(start_response, 200, b"{}" if service == "ssm" else b"", "application/json")
        if kind is Kind.STALE:
            return self._stale(service, environ, start_response)
        status, code = AWS_ERRORS[service][kind]
        return answer_with(start_response, status, *aws_error(service, code))

    def _stale(self, service: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """As if nothing had been written yet. (S3 and SSM do not do that; a cache in between would.)"""
        if service == "ssm" or environ["REQUEST_METHOD"] != "GET":
            return moto()(environ, start_response)
        if "list-type" in environ.get("QUERY_STRING", ""):
            listing = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>'
            return answer_with(start_response, 200, listing, "application/xml")
        return answer_with(start_response, 404, *aws_error("s3", "NoSuchKey"))

    def _ask_moto(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """What moto says. Conditional writes one by one: that S3 makes them atomic, and moto does not."""
        if "HTTP_IF_NONE_MATCH" not in environ:
            return moto()(environ, start_response)
        with _CONDITIONAL:
            return list(moto()(environ, start_response))

    def _cut_off(self, environ: Environ) -> NoReturn:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError("as the gauntlet wants it")  # the server takes it for a client that went away


_CONDITIONAL = threading.Lock()

OWN = "gauntlet"
"""At the end of the user agent of the gauntlet's own calls, which meet no fault."""

AWS_ERRORS: Mapping[str, Mapping[Kind, tuple[int, str]]] = {
    "s3": {
        Kind.BUSY: (503, "SlowDown"),
        Kind.ERROR: (500, "InternalError"),
        Kind.DENIED: (403, "AccessDenied"),
        Kind.EXPIRED: (400, "ExpiredToken"),
    },
    "ssm": {
        Kind.BUSY: (400, "ThrottlingException"),
        Kind.ERROR: (500, "InternalServerError"),
        Kind.DENIED: (400, "AccessDeniedException"),
        Kind.EXPIRED: (400, "ExpiredTokenException"),
    },
}


def aws_error(service: str, code: str) -> tuple[bytes, str]:
    """The body of an error as the service spells it, and its type."""
    if service == "ssm":
        return json.dumps(
            {"__type": code, "message": "as the gauntlet wants it"}
        ).encode(), "application/x-amz-json-1.1"
    return f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode(), "application/xml"


def answer_with(start_response: StartResponse, status: int, body: bytes, kind: str) -> Iterable[bytes]:
    """An answer."""
    start_response(f"{status} Answer", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def name_s3_call(environ: Environ) -> str:
    """What a request to S3 is for: `s3 PUT claim`."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if "list-type" in environ.get("QUERY_STRING", ""):
        return "s3 LIST runs"
    if "/universe/" in path:
        return f"s3 {method} ranking"
    return f"s3 {method} {OBJECTS[path.rpartition('.')[2]]}"


OBJECTS = {"claim": "claim", "started": "plan", "json": "record"}


def name_ssm_call(body: bytes) -> str:
    """What is read from SSM: the keys or the switch."""
    return "ssm GET switch" if b"/halt" in body else "ssm GET keys"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    @override
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


# --- prices ---


def listings(closes: Mapping[str, list[float]], now: datetime) -> dict[str, Listing]:
    """What Yahoo lists at a moment: daily closes, the last of them of the running session."""
    return {symbol: Listing(prices, now) for symbol, prices in closes.items()}


def bars(closes: Mapping[str, list[float]], now: datetime) -> dict[str, Sequence[tuple[datetime, float]]]:
    """The same as Alpaca's data API has it: a bar for each weekday, stamped with its beginning."""
    days: list[datetime] = []
    day = now
    count = max((len(prices) for prices in closes.values()), default=0)
    while len(days) < count:
        if day.weekday() < 5:
            days.append(day.replace(hour=5, minute=0, second=0, microsecond=0))
        day -= timedelta(days=1)
    days.reverse()
    return {symbol: list(zip(days[-len(prices) :], prices, strict=True)) for symbol, prices in closes.items()}
