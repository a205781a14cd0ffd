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
from typing import Any, Literal, NoReturn, Self, cast, override
from urllib.parse import parse_qsl, urlsplit

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from scripts.testkit.alpaca import REFUSALS, AlpacaFake, Answer
from scripts.testkit.alpaca_books import AlpacaBooks, FakeOrder
from scripts.testkit.yahoo import Fault as YahooFault
from scripts.testkit.yahoo import Listing, Request, YahooFake
from tests.fault_injection.faults import Faults, Kind, is_call

LAG_S, SLOW_S = 0.3, 1.5
"""Seconds until a late answer: less than ROUND_TRIP_S of trader.reading, and more."""

HANG_S = 45.0
"""Seconds without an answer: longer than any of the function's clients waits for one."""

PATHS = (
    "/orders:by_client_order_id",
    "/orders",
    "/stocks/trades/latest",
    "/stocks/bars",
    "/corporate-actions",
    "/clock",
    "/account/activities",
    "/account",
    "/positions",
)
BOOKS, OF_SYMBOLS, RECENT = "/orders?status=all", "/orders?symbols", "/orders?after"
"""The lists of all orders between two times, of some symbols, and since a time; `/orders` lists the open orders."""

WORKING = frozenset({"new", "accepted", "pending_new", "partially_filled", "held"})
"""The statuses of a stop that sells when its price is reached."""


def name_alpaca_call(method: str, path: str, body: Any) -> str:
    """Return the name of a request to Alpaca, such as `GET /orders?after` or `POST /orders stop`."""
    url = urlsplit(path)
    name = next(known for known in PATHS if url.path.removeprefix("/v2").removeprefix("/v1").startswith(known))
    if method == "POST":
        is_stop = isinstance(body, dict) and "-stop" in str(body.get("client_order_id"))
        return f"POST {name} {'stop' if is_stop else body['side']}"
    if "status=all" in url.query:
        name = OF_SYMBOLS if "symbols=" in url.query else BOOKS if "until=" in url.query else RECENT
    return f"{method} {name}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted order, and the state at Alpaca at that moment."""

    order: FakeOrder
    held: Decimal
    cash: Decimal
    price: Decimal
    equities: tuple[Decimal, ...]  # now, at the slot's start and, if the account's answer was stale, in that answer
    last_equity: Decimal  # with what was paid in and out since
    is_open: bool
    is_blocked: bool
    is_halted: bool

    @property
    def is_stop(self) -> bool:
        """True if the order protects a holding, by its id."""
        return "-stop" in self.order.client_order_id


class FaultyAlpaca(AlpacaFake):
    """A stand-in for Alpaca that allows short sales, as a margin account does, and keeps every accepted order."""

    def __init__(self, faults: Faults, kill: Callable[[], None], is_halted: Callable[[], bool]) -> None:
        super().__init__()
        self.faults = faults
        self.kill = kill
        self.is_halted = is_halted
        self.reset()

    def reset(self) -> None:
        """Open a new account with nothing but cash."""
        with self.lock:
            self.__dict__.update(self.fresh())
            self.accepted: list[Accepted] = []
            self.equity_at_first = self.cash
            self.yesterday: dict[str, Answer | None] = {}
            self.covered_at_first: dict[
                str, Decimal
            ] = {}  # shares whose stops covered all of them, at the slot's start
            self.decided: dict[str, Decimal] = {}  # the price when an order was accepted, by the order's id
            self.disturbed: set[str] = set()  # symbols whose stop somebody else has ended in this slot
            self.moved: set[str] = set()  # symbols whose stop its owner has moved
            self.late: list[tuple[Accepted, str, Mapping[str, str], Any]] = []  # orders still on their way
            self.late_ids: set[str] = set()
            self.seen: Accepted | None = None
            self.hooks: dict[str, list[Callable[[], object]]] = {}  # by call, or "after" a call; run once

    @staticmethod
    def fresh() -> dict[str, Any]:
        """Return the attributes of an account with nothing but cash, with the defaults of the books."""
        names = "cash last_equity positions orders cancel_polls fills rejected_later rejected_at_once account_overrides"
        names += " record_overrides unpriced untradable suspended locked flows transfers activities fill_delay_s"
        names += " free_delay_s free_from"
        books = AlpacaBooks()
        return {name: getattr(books, name) for name in names.split()} | {"is_open": None, "may_short": True}

    @override
    def accept(self, body: Mapping[str, Any]) -> FakeOrder:
        before = self.seen or self._look(body)
        order = super().accept(body)
        self.accepted.append(replace(before, order=order))
        self.decided[order.id] = before.price
        return order

    def arrive(self) -> None:
        """Accept the orders still on their way; they are judged by the state at the time they were sent."""
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
            last_equity=self.last_equity + self.flows,
            is_open=self.market_is_open(),
            is_blocked=bool(self.account_overrides),
            is_halted=self.is_halted(),
        )

    def begin_slot(self) -> None:
        """Note the equity, and which holdings are protected, when a slot begins."""
        with self.lock:
            self.disturbed.clear()
            self.equity_at_first = self.equity
            self.covered_at_first = {
                symbol: position.quantity // 1 for symbol, position in self.positions.items() if self.is_covered(symbol)
            }

    def working_stops(self, symbol: str) -> list[FakeOrder]:
        """Return the stops that sell a holding when their price is reached; a leg that waits for its entry does not."""
        return [
            order
            for order in self.open_orders(symbol)
            if order.side == "sell"
            and order.type == "stop"
            and order.status in WORKING
            and (order.parent is None or order.parent.status == "filled")
        ]

    def is_covered(self, symbol: str, shares: Decimal | None = None) -> bool:
        """Tell whether working stops cover this many shares, by default all whole shares of the holding."""
        wanted = self.positions[symbol].quantity // 1 if shares is None else shares
        return sum((stop.remaining for stop in self.working_stops(symbol)), Decimal(0)) >= wanted

    def forget(self) -> None:
        """Drop finished orders from the books: weeks of them would make every read slow."""
        with self.lock:
            alive = {id(order) for order in self.orders if order.is_open or any(leg.is_open for leg in order.legs)}
            self.orders = [order for order in self.orders if id(order) in alive or id(order.parent) in alive]

    def _stale_equity(self) -> list[Decimal]:
        told = self.yesterday.get("/v2/account")
        is_stale = f"alpaca GET /account: {Kind.STALE}" in self.faults.met
        return [Decimal(told.payload["equity"])] if told and is_stale else []

    def remember(self) -> None:
        """Keep the current answers, to be given as stale answers later."""
        for path in ("/v2/clock", "/v2/account", "/v2/positions"):
            self.yesterday[path] = self._do("GET", path, self.keys, None)
        query = "/v2/orders?nested=true&direction=asc&limit=500"
        self.yesterday["/v2/orders"] = self._do("GET", f"{query}&status=open", self.keys, None)
        self.yesterday["all"] = self._do("GET", f"{query.replace('asc', 'desc')}&status=all", self.keys, None)
        trades = f"/v2/stocks/trades/latest?symbols={','.join(self.prices)}"
        self.yesterday["/v2/stocks/trades/latest"] = self._do("GET", trades, self.keys, None)
        self.requests.clear()

    @property
    def keys(self) -> dict[str, str]:
        return {"APCA-API-KEY-ID": self.key_id, "APCA-API-SECRET-KEY": self.secret}

    @override
    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        name = name_alpaca_call(method, path, body)
        self._happen(name)
        answer = self._respond(method, name, path, headers, body)
        is_refused = answer is not None and answer.status >= 400
        self._happen(f"after refused {name}" if is_refused else f"after {name}")
        return answer

    def _happen(self, name: str) -> None:
        for wanted in [wanted for wanted in self.hooks if is_call(name, wanted)]:
            for hook in self.hooks.pop(wanted):
                hook()

    def _respond(self, method: str, name: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        """Return the answer, or what the planned fault makes of it; None closes the connection."""
        kind = self.faults.next(f"alpaca {name}")
        if kind is Kind.KILL_BEFORE:
            self.kill()
            return None
        if kind in (Kind.LAG, Kind.SLOW):
            self._closing.wait(LAG_S if kind is Kind.LAG else SLOW_S)
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
        if kind in (None, Kind.LAG, Kind.SLOW) or answer is None or answer.status >= 300:
            return answer
        if kind is Kind.LOST:
            return None if self.faults.calls[f"alpaca {name}"] % 2 else REFUSALS["504"]
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
        if method != "GET":
            return now(method, path, headers, body)
        if bare.endswith("/activities"):
            return Answer(200, [])
        query = dict(parse_qsl(urlsplit(path).query))
        return self._stale_orders(query) if query.get("status") == "all" else self.yesterday.get(bare)

    def _stale_orders(self, query: Mapping[str, str]) -> Answer | None:
        """Return the orders that a query would have found one slot ago."""
        told = self.yesterday.get("all")
        if told is None:
            return None
        first, last, symbols = query.get("after"), query.get("until"), query.get("symbols", "").split(",")
        found = [
            order
            for order in told.payload
            if (first is None or datetime.fromisoformat(order["submitted_at"]) > datetime.fromisoformat(first))
            and (last is None or datetime.fromisoformat(order["submitted_at"]) < datetime.fromisoformat(last))
            and ("symbols" not in query or order["symbol"] in symbols)
        ]
        return Answer(200, found if query.get("direction") == "desc" else found[::-1])


REFUSED = {
    Kind.BUSY: REFUSALS["429"],
    Kind.ERROR: REFUSALS["503-html"],
    Kind.DENIED: Answer(403, {"code": 40300000, "message": "forbidden."}),  # denied access, although the keys are valid
    Kind.EXPIRED: REFUSALS["401"],
}


class FaultyYahoo(YahooFake):
    """A stand-in for Yahoo's chart service that asks the switchboard."""

    faults: Faults
    kill: Callable[[], None]

    @classmethod
    def of(cls, faults: Faults, kill: Callable[[], None]) -> Self:
        """Return a service without listings."""
        fake = cls({})
        fake.faults, fake.kill = faults, kill
        return fake

    @override
    def note(self, request: Request) -> YahooFault | None:
        if not request.symbol:
            return None  # a cookie or crumb, which charts do not need
        del self.requests[:]  # or a long run would keep all of them
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
    Kind.LOST: YahooFault.DROP,  # for a read, only the answer matters
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
type Service = Literal["s3", "ssm"]


@cache
def moto(service: Service) -> Application:
    """Return this process's only moto for a service, so that all servers share one S3."""
    application: Any = create_backend_app(service)  # its type of start_response is narrower than WSGI's
    return cast("Application", application)


class FaultyAws:
    """S3 and SSM from moto, behind the switchboard."""

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
        service: Service = "ssm" if "AmazonSSM" in environ.get("HTTP_X_AMZ_TARGET", "") else "s3"
        if environ.get("HTTP_USER_AGENT", "").endswith(OWN):
            return self._ask_moto(service, environ, start_response)
        kind = self.faults.next(name_ssm_call(body) if service == "ssm" else name_s3_call(environ))
        return self._answer(kind, service, environ, start_response)

    def _answer(
        self, kind: Kind | None, service: Service, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        if kind is None:
            return self._ask_moto(service, environ, start_response)
        if kind in (Kind.LAG, Kind.SLOW):
            self._closing.wait(LAG_S if kind is Kind.LAG else SLOW_S)
            return self._ask_moto(service, environ, start_response)
        if kind is Kind.KILL_BEFORE:
            self.kill()
            self._cut_off(environ)
        if kind in (Kind.DROP, Kind.HANG):
            self._closing.wait(HANG_S if kind is Kind.HANG else 0)
            self._cut_off(environ)
        if kind in (Kind.LOST, Kind.KILL_AFTER):
            list(self._ask_moto(service, environ, lambda *_: None))
            if kind is Kind.KILL_AFTER:
                self.kill()
            self._cut_off(environ)
        if kind is Kind.MALFORMED:
            if service == "s3" and environ["REQUEST_METHOD"] == "PUT":
                list(self._ask_moto(service, environ, lambda *_: None))  # done, but answered with HTML
            return answer_with(start_response, 200, b"<html>Bad gateway</html>", "text/html")
        if kind is Kind.EMPTY:
            return answer_with(start_response, 200, b"{}" if service == "ssm" else b"", "application/json")
        if kind is Kind.STALE:
            return self._stale(service, environ, start_response)
        status, code = AWS_ERRORS[service][kind]
        return answer_with(start_response, status, *aws_error(service, code))

    def _stale(self, service: Service, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer an S3 read as if nothing had been written, as a cache in between could; answer the rest normally."""
        if service == "ssm" or environ["REQUEST_METHOD"] != "GET":
            return moto(service)(environ, start_response)
        if "list-type" in environ.get("QUERY_STRING", ""):
            listing = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>'
            return answer_with(start_response, 200, listing, "application/xml")
        return answer_with(start_response, 404, *aws_error("s3", "NoSuchKey"))

    def _ask_moto(self, service: Service, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Return moto's answer, one conditional write at a time: in S3 they are atomic, in moto they are not."""
        if "HTTP_IF_NONE_MATCH" not in environ:
            return moto(service)(environ, start_response)
        with _CONDITIONAL:
            return list(moto(service)(environ, start_response))

    def _cut_off(self, environ: Environ) -> NoReturn:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError("planned by the gauntlet")  # the server treats this as a client that disconnected


_CONDITIONAL = threading.Lock()

OWN = "gauntlet"
"""The end of the user agent in the gauntlet's own calls, which get no faults."""

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


def aws_error(service: Service, code: str) -> tuple[bytes, str]:
    """Return an error's body in the service's format, and its content type."""
    if service == "ssm":
        return json.dumps({"__type": code, "message": "planned by the gauntlet"}).encode(), "application/x-amz-json-1.1"
    return f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode(), "application/xml"


def answer_with(start_response: StartResponse, status: int, body: bytes, kind: str) -> Iterable[bytes]:
    """Send the status and headers, and return the body."""
    start_response(f"{status} Answer", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def name_s3_call(environ: Environ) -> str:
    """Return the name of a request to S3, such as `s3 PUT claim`."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if "list-type" in environ.get("QUERY_STRING", ""):
        return "s3 LIST runs"
    if "/universe/" in path:
        return f"s3 {method} ranking"
    if "/equity/" in path:
        return f"s3 {method} peak"
    if "/accounts/" in path:
        return f"s3 {method} account"
    return f"s3 {method} {OBJECTS[path.rpartition('.')[2]]}"


OBJECTS = {"claim": "claim", "started": "plan", "json": "record", "settled": "settled", "replaced": "replaced"}


def name_ssm_call(body: bytes) -> str:
    """Return the name of a request to SSM: it reads the keys or the switch."""
    return "ssm GET switch" if b"/halt" in body else "ssm GET keys"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    @override
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


# --- prices ---


def listings(closes: Mapping[str, list[float]], now: datetime) -> dict[str, Listing]:
    """Return Yahoo's listings at a moment: daily closes, the last of them the running session's."""
    return {symbol: Listing(prices, now) for symbol, prices in closes.items()}


def bars(closes: Mapping[str, list[float]], now: datetime) -> dict[str, Sequence[tuple[datetime, float]]]:
    """Return the same closes in the form of Alpaca's data API: a bar for each weekday, stamped with the day's start."""
    days: list[datetime] = []
    day = now
    count = max((len(prices) for prices in closes.values()), default=0)
    while len(days) < count:
        if day.weekday() < 5:
            days.append(day.replace(hour=5, minute=0, second=0, microsecond=0))
        day -= timedelta(days=1)
    days.reverse()
    return {symbol: list(zip(days[-len(prices) :], prices, strict=True)) for symbol, prices in closes.items()}
