"""Alpaca's trading and data API without a network: it answers requests from its books or with a scripted fault."""

import re
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from scripts.testkit.alpaca_books import BLOCKING_FLAGS, NEW_YORK, AlpacaBooks, FakeOrder, JsonValue, RefusalError, text
from scripts.testkit.corporate_actions import CorporateActions
from scripts.testkit.request_limit import RequestLimit

type FaultKind = Literal[
    "ok",  # no fault: lets this many requests through before the next fault
    "401", "403", "403-keys", "404-order", "408", "422", "422-id",  # not carried out
    "429", "429-null", "500-html", "503-html",  # not carried out either
    "504", "504-accepted",  # the first is not carried out, the second is
    "drop", "drop-accepted",  # the connection closes before or after the request is carried out
    "hang", "hang-accepted",  # the same after `hang_s` of silence
    "200-html", "null", "missing-field",  # carried out, with an unusable answer
]  # fmt: skip


class Request(NamedTuple):
    """A request as it arrived; `path` includes the query string."""

    method: str
    path: str
    body: JsonValue


class Answer(NamedTuple):
    """An answer: an HTTP status with a JSON value or an HTML page, and headers."""

    status: int
    payload: JsonValue = None
    html: bool = False
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class Fault:
    """A fault for the next `times` matching requests; `field` is the field that "missing-field" omits."""

    method: str
    path_prefix: str
    kind: FaultKind
    times: int
    field: str


class AlpacaApi(AlpacaBooks, RequestLimit):
    """The API, which carries out one request at a time.

    `bars` are each symbol's bars as (start, close); a page contains at most `page_size` of them. `corporate_actions`
    are reported, but change neither bars nor books. A hanging request is held for `hang_s`. Only the keys `key_id` and
    `secret` are accepted. Every request counts towards the limit, those that meet a fault too.
    """

    def __init__(self, *, prices: Mapping[str, float] | None = None, cash_usd: float = 100_000) -> None:
        AlpacaBooks.__init__(self, prices=prices, cash_usd=cash_usd)
        RequestLimit.__init__(self)
        self.bars: dict[str, Sequence[tuple[datetime, float]]] = {}
        self.spoilt_bars: dict[str, list[JsonValue]] = {}  # returned as they are
        self.page_size = 10_000
        self.corporate_actions = CorporateActions()
        self.key_id, self.secret = "FAKEKEY", "fake-secret"
        self.hang_s = 30.0
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._closing = threading.Event()

    def fault(self, method: str, path_prefix: str, kind: FaultKind, times: int = 1, *, field: str = "") -> None:
        """Script a fault for the next `times` matching requests; `field` is the field that "missing-field" omits."""
        self._faults.append(Fault(method, path_prefix, kind, times, field))

    def forget_faults(self) -> None:
        """End all scripted faults, however many requests they still wait for."""
        with self.lock:
            self._faults.clear()

    def asked(self, method: str, path_prefix: str = "/v2/orders") -> list[Request]:
        """Return the matching requests that arrived, including those that met a fault."""
        return [r for r in self.requests if r.method == method and r.path.startswith(path_prefix)]

    # --- one request -----------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: JsonValue) -> Answer | None:
        """Return the answer to a request; None closes the connection without one."""
        with self.lock:
            self.requests.append(Request(method, path, body))
            is_within_limit = self.count_request()
        answer = self._meet_fault(method, path, headers, body) if is_within_limit else REFUSALS["429"]
        with self.lock:
            return answer and answer._replace(headers={**answer.headers, **self.rate_headers(answer.status)})

    def _meet_fault(self, method: str, path: str, headers: Mapping[str, str], body: JsonValue) -> Answer | None:
        with self.lock:
            fault = self._next_fault(method, path)
        if fault is None or fault.kind == "ok":
            return self._do(method, path, headers, body)
        if fault.kind in REFUSALS:
            return REFUSALS[fault.kind]
        answer = None if fault.kind in ("drop", "hang") else self._do(method, path, headers, body)
        if fault.kind.startswith("hang"):
            self._closing.wait(self.hang_s)
        return _spoilt(answer, fault)

    def _next_fault(self, method: str, path: str) -> Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.method == method and path.startswith(fault.path_prefix):
                fault.times -= 1
                return fault
        return None

    def _do(self, method: str, path: str, headers: Mapping[str, str], body: JsonValue) -> Answer:
        url = urlsplit(path)
        with self.lock:
            try:
                if (headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")) != (self.key_id, self.secret):
                    return REFUSALS["401"]
                return self._route(method, url.path.removeprefix("/v2"), dict(parse_qsl(url.query)), body)
            except RefusalError as refusal:
                return Answer(refusal.status, refusal.body)

    def _route(self, method: str, path: str, query: Mapping[str, str], body: JsonValue) -> Answer:
        self.advance_fills()
        if method == "GET" and path.startswith(("/orders", "/positions")):
            self.advance_cancels()
        match (method, *path.strip("/").split("/")):
            case ("GET", "clock"):
                return Answer(200, self._clock_json())
            case ("GET", "account"):
                return Answer(200, self._account_json())
            case ("GET", "account", "activities"):
                return Answer(200, self._activities_json(query))
            case ("GET", "positions"):
                return Answer(200, [self._position_json(symbol) for symbol in sorted(self.positions)])
            case ("GET", "positions", symbol) if symbol in self.positions:
                return Answer(200, self._position_json(symbol))
            case ("GET", "positions", _):
                raise RefusalError(404, 40410000, "position does not exist")
            case ("GET", "orders"):
                return Answer(200, self._list_orders(query))
            case ("POST", "orders"):
                return Answer(200, self._submit(body))
            case ("GET", "orders", order_id):
                return Answer(200, self._order_json(self.find(id=order_id), nested=query.get("nested") == "true"))
            case ("GET", "orders:by_client_order_id"):
                return Answer(200, self._order_json(self.find(client_order_id=query["client_order_id"]), nested=True))
            case ("DELETE", "orders", order_id):
                self.cancel(self.find(id=order_id))
                return Answer(204)
            case ("GET", "stocks", "bars"):
                return Answer(200, self._bars_json(query))
            case ("GET", "stocks", "trades", "latest"):
                return Answer(200, self._trades_json(query))
            case ("GET", "v1", "corporate-actions"):
                return Answer(200, self.corporate_actions.answer(query, self.now.astimezone(NEW_YORK).date()))
        raise RefusalError(404, 40410000, "endpoint not found")

    # --- answers ---------------------------------------------------------------------------------------------------

    def _submit(self, body: JsonValue) -> JsonValue:
        order = self.accept(body)
        answer = self._order_json(order, nested=True)
        self.work(order)
        return answer

    def _list_orders(self, query: Mapping[str, str]) -> list[JsonValue]:
        nested = query.get("nested", "false").lower() == "true"
        status = query.get("status", "open")
        found = [order for order in self.orders if not (nested and order.parent)]
        if status != "all":
            found = [o for o in found if o.is_open == (status == "open") or (nested and any(x.is_open for x in o.legs))]
        if "symbols" in query:
            found = [order for order in found if order.symbol in query["symbols"].split(",")]
        if "after" in query:
            found = [order for order in found if order.submitted_at > datetime.fromisoformat(query["after"])]
        if "until" in query:
            found = [order for order in found if order.submitted_at < datetime.fromisoformat(query["until"])]
        found.sort(key=lambda order: order.submitted_at, reverse=query.get("direction", "desc") == "desc")
        limit = int(query.get("limit", 50))
        if not 1 <= limit <= 500:
            raise RefusalError(422, 42210000, "limit must be between 1 and 500")
        return [self._order_json(order, nested=nested) for order in found[:limit]]

    def _order_json(self, order: FakeOrder, *, nested: bool) -> JsonValue:
        return _order_json(order, nested=nested) | self.record_overrides.get(order.symbol, {})

    def _next(self, bell: int) -> datetime:
        """Return the next opening (0) or close (1)."""
        today = self.now.astimezone(NEW_YORK).date()
        sessions = filter(None, (self.session(today + timedelta(days=days)) for days in range(8)))
        return next(hours[bell] for hours in sessions if hours[bell] > self.now)

    def _lag(self) -> timedelta:
        """Return how far the real time is ahead of `now`; 0 if the answers show `now`."""
        return timedelta(0) if self.is_simulated or self.is_open is None else datetime.now(UTC) - self.now

    def _clock_json(self) -> JsonValue:
        # Unless the time is simulated, the clock shows the real time, with the bells as far away as from `now`.
        away = self._lag()
        moments = {"timestamp": self.now, "next_open": self._next(0), "next_close": self._next(1)}
        said = {name: (moment + away).astimezone(NEW_YORK).isoformat() for name, moment in moments.items()}
        return {**said, "is_open": self.market_is_open()}

    def _account_json(self) -> JsonValue:
        equity, cash = text(self.equity), text(self.cash)
        zeros = "accrued_fees initial_margin last_maintenance_margin maintenance_margin"
        zeros += " pending_reg_taf_fees pending_transfer_in pending_transfer_out short_market_value sma"
        return {
            **dict.fromkeys(zeros.split(), "0"),
            **dict.fromkeys(("buying_power", "regt_buying_power"), text(self.buying_power)),
            **dict.fromkeys(("non_marginable_buying_power", "options_buying_power"), text(self.own_buying_power)),
            **dict.fromkeys((*BLOCKING_FLAGS, "transfers_blocked", "shorting_enabled"), False),
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, "account")),
            "account_number": "PA0000000000",
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            "cash": cash,
            "equity": equity,
            "portfolio_value": equity,
            "last_equity": text(self.last_equity),
            "intraday_adjustments": text(self.counted_flows),
            "long_market_value": text(self.market_value),
            "multiplier": str(self.multiplier),
            "balance_asof": self.now.date().isoformat(),
            "created_at": "2020-01-01T00:00:00Z",
            "options_approved_level": 0,
            "options_trading_level": 0,
            **self.account_overrides,
        }

    def _activities_json(self, query: Mapping[str, str]) -> list[JsonValue]:
        return self.activities.answer(query)

    def _position_json(self, symbol: str) -> JsonValue:
        position, price = self.positions[symbol], self.price(symbol)
        gain, cost = price - position.average_price, position.quantity * position.average_price
        return {
            "asset_id": _asset_id(symbol),
            "symbol": symbol,
            "exchange": "NASDAQ",
            "asset_class": "crypto" if "/" in symbol else "us_equity",
            "asset_marginable": True,
            "qty": text(position.quantity),
            "qty_available": text(self.available(symbol)),
            "side": "long" if position.quantity > 0 else "short",
            "avg_entry_price": text(position.average_price),
            "current_price": None if symbol in self.unpriced else text(price),
            "lastday_price": text(price),
            "change_today": "0",
            "market_value": text(position.quantity * price),
            "cost_basis": text(cost),
            "unrealized_pl": text(position.quantity * gain),
            "unrealized_plpc": text(gain / position.average_price),
            "unrealized_intraday_pl": "0",
            "unrealized_intraday_plpc": "0",
            **self.record_overrides.get(symbol, {}),
        }

    def _trades_json(self, query: Mapping[str, str]) -> JsonValue:
        asked = [symbol for symbol in query.get("symbols", "").split(",") if symbol in self.prices]
        now = self.now + self._lag()
        trades = {
            symbol: {"t": _time(self.traded_at.get(symbol, now)), "x": "V", "p": self.prices[symbol], "s": 100}
            for symbol in asked
        }
        return {"trades": {symbol: trade for symbol, trade in trades.items() if symbol not in self.unpriced}}

    def _bars_json(self, query: Mapping[str, str]) -> JsonValue:
        start, end = datetime.fromisoformat(query["start"]), datetime.fromisoformat(query["end"])
        asked = query.get("symbols", "").split(",")
        if malformed := [symbol for symbol in asked if not re.fullmatch(r"[A-Z0-9.]+", symbol)]:
            raise RefusalError(400, 40010001, f"invalid symbol: {malformed[0]}")
        wanted = sorted(symbol for symbol in asked if symbol in self.bars)
        rows = [(s, moment, close) for s in wanted for moment, close in self.bars[s] if start <= moment <= end]
        first, size = int(query.get("page_token", 0)), min(int(query.get("limit", 1000)), self.page_size)
        bars: dict[str, list[JsonValue]] = {}
        for symbol, moment, close in rows[first : first + size]:
            bar = {"t": _time(moment), "o": close, "h": close, "l": close, "c": close, "v": 100, "n": 1, "vw": close}
            bars.setdefault(symbol, []).append(bar)
        bars |= {symbol: spoilt for symbol, spoilt in self.spoilt_bars.items() if symbol in asked}
        more = first + size < len(rows)
        return {"bars": bars, "next_page_token": str(first + size) if more else None}


REFUSALS: Mapping[str, Answer] = {
    "401": Answer(401, {"code": 40110000, "message": "request is not authorized"}),
    "403": Answer(403, {"message": "forbidden."}),
    "403-keys": Answer(403, {"code": 40110000, "message": "access key verification failed"}),
    "404-order": Answer(404, {"code": 40410000, "message": "order not found"}),
    "408": Answer(408, {"code": 40810000, "message": "request timed out"}),
    "422": Answer(422, {"code": 42210000, "message": "order refused"}),
    "422-id": Answer(422, {"code": 40010001, "message": "request body format is invalid"}),  # code of a duplicate id
    "429": Answer(429, {"code": 42910000, "message": "too many requests."}),
    "429-null": Answer(429),
    "500-html": Answer(500, html=True),
    "503-html": Answer(503, html=True),
    "504": Answer(504, {"code": 50410000, "message": "request timed out"}),
}


def _spoilt(answer: Answer | None, fault: Fault) -> Answer | None:
    """Replace the answer to a request as the fault says; None closes the connection without one."""
    if answer is None or fault.kind in ("drop-accepted", "hang-accepted"):
        return None
    if fault.kind == "504-accepted":
        return REFUSALS["504"]
    if fault.kind == "missing-field":
        many = answer.payload if isinstance(answer.payload, list) else [answer.payload]
        cut = [{name: value for name, value in one.items() if name != fault.field} for one in many]
        return Answer(answer.status, cut if isinstance(answer.payload, list) else cut[0])
    return Answer(200, html=fault.kind == "200-html")


def _order_json(order: FakeOrder, *, nested: bool) -> JsonValue:
    nothing = "hwm notional replaced_at replaced_by replaces trail_percent trail_price"
    ended = _time(order.ended_at)
    return {
        **dict.fromkeys(nothing.split()),
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": _time(order.submitted_at),
        "updated_at": _time(max(filter(None, (order.submitted_at, order.filled_at, order.ended_at)))),
        "submitted_at": _time(order.submitted_at),
        "filled_at": _time(order.filled_at) if order.status == "filled" else None,
        "canceled_at": ended if order.status == "canceled" else None,
        "expired_at": ended if order.status == "expired" else None,
        "failed_at": ended if order.status == "rejected" else None,
        "expires_at": _time(order.submitted_at + timedelta(days=1 if order.time_in_force == "day" else 90)),
        "asset_id": _asset_id(order.symbol),
        "asset_class": "crypto" if "/" in order.symbol else "us_equity",
        "symbol": order.symbol,
        "qty": text(order.quantity),
        "filled_qty": text(order.filled_quantity),
        "filled_avg_price": None if order.filled_price is None else text(order.filled_price),
        "order_class": order.order_class,
        "order_type": order.type,
        "type": order.type,
        "side": order.side,
        "position_intent": "buy_to_open" if order.side == "buy" else "sell_to_close",
        "time_in_force": order.time_in_force,
        "limit_price": None if order.limit_price is None else text(order.limit_price),
        "stop_price": None if order.stop_price is None else text(order.stop_price),
        "status": order.status,
        "extended_hours": False,
        "legs": [_order_json(leg, nested=False) for leg in order.legs] if nested and order.legs else None,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _asset_id(symbol: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, symbol))
