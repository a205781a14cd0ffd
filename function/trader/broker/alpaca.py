"""Alpaca as a Broker. Every field is checked before use: a missing value is an error, never a zero."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import TypeGuard

from trader.alpaca.client import AlpacaClient, JsonValue, NoAnswerError, RefusedError
from trader.broker.base import MarketClock, OrderRejectedError, OrderStateUnknownError, UnexpectedResponseError
from trader.logs import one_line
from trader.model import Account, BrokerError, Code, OpenOrder, Order, OrderStatus, OrderType, Position, Side
from trader.schedule.base import present

LOG = logging.getLogger(__name__)

MAX_TEXT_CHARACTERS = 200
"""The maximum length of a text field; Alpaca's ids have 36 characters, a client order id up to 128."""

PAGE_SIZE = 500  # Alpaca's maximum; its default is 50

_BLOCKS = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
_LEG_CLASSES = frozenset({"bracket", "oco", "oto"})
_NO_MONEY_OR_SHARES = 40310000
_DUPLICATE_ID = 40010001
_NOT_FOUND = 40410000


class AlpacaBroker:
    """The Broker for BROKER=alpaca; the client's base URL decides between paper and live."""

    def __init__(self, client: AlpacaClient, present: Callable[[], datetime] = present) -> None:
        """Store the arguments; no request is sent. `present` returns the current time."""
        self._client = client
        self._present = present

    def clock(self) -> MarketClock:
        """Return the market's hours from Alpaca's clock; a delayed answer does not prolong the session."""
        clock = _Fields("GET /clock", self._client.get("/clock"))
        return MarketClock(
            is_open=clock.flag("is_open"),
            next_open=clock.time("next_open"),
            closes_in_s=(clock.time("next_close") - max(clock.time("timestamp"), self._present())).total_seconds(),
        )

    def account(self) -> Account:
        """Return the account's money and whether it may trade; the buying power excludes what Alpaca would lend."""
        account = _Fields("GET /account", self._client.get("/account"))
        blocks = [f"{flag} is true" for flag in _BLOCKS if account.flag(flag)]
        status = account.text("status")
        if status != "ACTIVE":
            blocks.append(f"status is {status}")
        return Account(
            equity_usd=account.number("equity"),
            last_equity_usd=account.number("last_equity"),
            cash_usd=account.number("cash"),
            # Both exclude the cost of open buys. The second also excludes margin, and may be negative if some is used.
            buying_power_usd=min(account.number("buying_power"), account.number("non_marginable_buying_power")),
            blocked=", ".join(blocks),
        )

    def positions(self) -> Mapping[str, Position]:
        """Return every holding in US stocks, by symbol; other holdings are ignored."""
        records = _list("GET /positions", self._client.get("/positions"))
        if unknown := [record.name for record in records if not record.asset_class]:
            LOG.warning("Alpaca: GET /positions: positions without an asset class are ignored: %s", ", ".join(unknown))
        return {
            record.text("symbol"): Position(
                symbol=record.text("symbol"),
                quantity=record.number("qty"),
                average_price_usd=record.number("avg_entry_price"),
                # Null for a holding that is no longer traded. It is only displayed; no decision depends on it.
                price_usd=record.number_or_none("current_price") or record.number("avg_entry_price"),
            )
            for record in records
            if record.is_stock
        }

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return every open order in US stocks, including the legs of brackets."""
        return tuple(_open_order(record) for record in self._orders({"status": "open", "nested": "false"}))

    def list_orders(self, since: datetime, until: datetime) -> tuple[Order, ...]:
        """Return every order in US stocks submitted between the two times, of every status, without bracket legs."""
        span = {"after": since.isoformat(), "until": until.isoformat()}
        placed = []
        for record in self._orders({"status": "all", "nested": "true", **span}):
            try:
                placed.append(_read_placed_order(record))
            except _UnusableAnswerError as error:  # such as a manual order of a kind that the bot does not use
                LOG.warning("%s; the order is ignored", error)
        return tuple(placed)

    def _orders(self, query: Mapping[str, object]) -> "list[_Fields]":
        """Return all orders in US stocks that match a query of GET /orders, oldest first, read page by page."""
        found: dict[str, _Fields] = {}
        query = {**query, "direction": "asc", "limit": PAGE_SIZE}
        while True:
            page = _list("GET /orders", self._client.get("/orders", query))
            new = {record.text("id"): record for record in page if record.text("id") not in found}
            found |= new
            # Alpaca does not document whether the limit of a nested list counts the legs, so a page may end early.
            is_full = sum(1 + len(record.legs) for record in page) >= PAGE_SIZE
            if not is_full or (not new and len(page) < PAGE_SIZE):
                return [record for record in found.values() if record.is_stock]
            if not new:
                raise BrokerError(f"Alpaca: GET /orders: more than {PAGE_SIZE} orders have the same time")
            # `after` excludes its own moment, which a parent and its legs share: include it, and drop duplicates.
            after = page[-1].time("submitted_at") - timedelta(microseconds=1)
            query["after"] = after.isoformat()

    def submit(self, order: Order) -> Order:
        """Place the order once and return it with Alpaca's id and first status, which is seldom `filled`."""
        body = _request(order)
        try:
            answer = self._client.post("/orders", body)
            placed = _match_order(order, _Fields("POST /orders", answer))
        except RefusedError as error:
            raise _refusal(error) from error
        except NoAnswerError as error:
            raise OrderStateUnknownError(f"{error}; order {order.client_order_id} may have been accepted") from error
        except _UnusableAnswerError as error:
            raise OrderStateUnknownError(f"{error}; order {order.client_order_id} was probably accepted") from error
        if placed.came_to_nothing:
            raise OrderRejectedError(f"Alpaca: order {order.client_order_id} was {placed.status} immediately")
        return placed

    def find(self, order: Order) -> Order | None:
        """Return the order as Alpaca has it, by its client order id; None only if Alpaca says "order not found"."""
        query = {"client_order_id": order.client_order_id}
        try:
            answer = self._client.get("/orders:by_client_order_id", query)
        except RefusedError as error:
            # A wrong URL also answers 404, and that proves nothing about the order.
            if error.code == _NOT_FOUND and "order not found" in str(error):
                return None
            if error.status == HTTPStatus.NOT_FOUND:
                raise UnexpectedResponseError(
                    f"{error}: not Alpaca's answer for an order that does not exist; check APCA_API_BASE_URL"
                ) from error
            raise
        return _match_order(order, _Fields("GET /orders:by_client_order_id", answer))

    def cancel(self, open_order: OpenOrder) -> None:
        """Request the cancellation of an open order; an order already closed or being canceled is not an error."""
        try:
            self._client.delete(f"/orders/{open_order.order_id}")
        except RefusedError as error:
            if error.status not in (404, 422):
                raise


class _UnusableAnswerError(UnexpectedResponseError):
    """Alpaca's answer is not of the expected form."""


class _Fields:
    """A JSON object from Alpaca. Its fields are checked as they are read; numbers come as strings."""

    def __init__(self, call: str, value: JsonValue) -> None:
        if not _is_object(value):
            raise _UnusableAnswerError(f"Alpaca: {call}: expected an object, got {value!r:.200}")
        self._call = call
        self._values = value

    @property
    def asset_class(self) -> str:
        """The asset class; empty if it is missing, as for orders with several option legs."""
        return str(self._values.get("asset_class") or "")

    @property
    def is_stock(self) -> bool:
        return self.asset_class == "us_equity"

    @property
    def name(self) -> str:
        """The symbol or id, for messages."""
        return one_line(next((self._values[key] for key in ("symbol", "id") if self._values.get(key)), ""), 50)

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not (value or may_be_empty):
            raise self._unusable(name, "a string")
        if len(value) > MAX_TEXT_CHARACTERS or not value.isprintable():
            raise self._unusable(name, f"at most {MAX_TEXT_CHARACTERS} printable characters")
        return value

    def order_status(self) -> OrderStatus:
        word = self.text("status")
        status = OrderStatus(word)
        if status is OrderStatus.OTHER:
            LOG.warning("Alpaca: %s: an order has the undocumented status %r", self._call, word)
        return status

    @property
    def order_class(self) -> str:
        """The order class; empty for a plain order."""
        return self.text("order_class", may_be_empty=True)

    @property
    def legs(self) -> "list[_Fields]":
        """The legs of this order that the answer contains."""
        legs = self._values.get("legs")
        return [] if legs is None else _list(self._call, legs)

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise self._unusable(name, "true or false")
        return value

    def number(self, name: str) -> float:
        value = self._values.get(name)
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise self._unusable(name, "a finite number")
        return number

    def number_or_none(self, name: str) -> float | None:
        return None if name in self._values and self._values[name] is None else self.number(name)

    def time(self, name: str) -> datetime:
        text = self.text(name)
        try:
            time = datetime.fromisoformat(text)
        except ValueError as error:
            raise self._unusable(name, "an ISO 8601 time") from error
        if time.tzinfo is None:
            raise self._unusable(name, "a time with its offset from UTC")
        return time

    def _unusable(self, name: str, expected: str) -> _UnusableAnswerError:
        got = f"{self._values[name]!r:.100}" if name in self._values else "nothing"
        of = f" of {self.name}" if self.name else ""
        return _UnusableAnswerError(f"Alpaca: {self._call}: field {name}{of}: expected {expected}, got {got}")


def _is_object(value: JsonValue) -> TypeGuard[Mapping[str, JsonValue]]:
    return isinstance(value, dict)


def _list(call: str, value: JsonValue) -> list[_Fields]:
    if not isinstance(value, list):
        raise _UnusableAnswerError(f"Alpaca: {call}: expected a list, got {value!r:.200}")
    return [_Fields(call, item) for item in value]


def _side(record: _Fields) -> Side:
    side = record.text("side")
    if side not in tuple(Side):
        raise _UnusableAnswerError(f"Alpaca: side of an order: expected buy or sell, got {side!r}")
    return Side(side)


def _open_order(record: _Fields) -> OpenOrder:
    # In the flat list nothing links a leg to its parent, and both have the parent's order class. But the bot opens
    # every bracket with a buy and never sells short, so the sales in one of these classes are the legs.
    side = _side(record)
    return OpenOrder(
        order_id=record.text("id"),
        client_order_id=record.text("client_order_id"),
        symbol=record.text("symbol"),
        side=side,
        quantity=_left(record),
        is_leg=side is Side.SELL and record.order_class in _LEG_CLASSES,
    )


def _left(record: _Fields) -> float:
    """Return the shares still to be filled; 0 if the order is for an amount in dollars, which has no share count."""
    quantity = record.number_or_none("qty")
    return 0.0 if quantity is None else round(quantity - record.number("filled_qty"), 9)


def _match_order(order: Order, record: _Fields) -> Order:
    """Return the order with Alpaca's values; its quantity and bracket may differ from those requested.

    Raises UnexpectedResponseError if the record has another client order id, symbol or side.
    """
    there = (record.text("client_order_id"), record.text("symbol"), _side(record))
    ours = (order.client_order_id, order.symbol, order.side)
    if there != ours:
        raise _UnusableAnswerError(
            f"Alpaca: the order with client order id {there[0]} is to {there[2]} {there[1]}, but {ours[0]} is to "
            f"{ours[2]} {ours[1]}; use another STRATEGY name if two bots share the account"
        )
    quantity = record.number_or_none("qty")
    stop_loss_usd, take_profit_usd = _bracket(order, record)
    return replace(
        order,
        quantity=order.quantity if quantity is None else quantity,
        stop_loss_usd=stop_loss_usd,
        take_profit_usd=take_profit_usd,
        order_id=record.text("id"),
        status=record.order_status(),
        filled_quantity=record.number("filled_qty"),
        filled_price_usd=record.number_or_none("filled_avg_price"),
    )


def _read_placed_order(record: _Fields) -> Order:
    """Return an order that is known only from Alpaca's record."""
    order = Order(
        client_order_id=record.text("client_order_id"),
        symbol=record.text("symbol"),
        side=_side(record),
        quantity=0.0,  # stays 0 for an amount in dollars, which the bot never orders
        price_usd=record.number_or_none("filled_avg_price") or 0.0,
    )
    return _match_order(order, record)


def _bracket(order: Order, record: _Fields) -> tuple[float | None, float | None]:
    """Return stop loss and take profit from the record's legs, or as requested if a bracket's record has no legs."""
    if record.order_class != "bracket":
        return None, None
    stop_loss_usd, take_profit_usd = order.stop_loss_usd, order.take_profit_usd
    for leg in record.legs:
        stop, limit = leg.number_or_none("stop_price"), leg.number_or_none("limit_price")
        if stop is not None:
            stop_loss_usd = stop
        elif limit is not None:
            take_profit_usd = limit
    return stop_loss_usd, take_profit_usd


def _request(order: Order) -> dict[str, object]:
    """Return the body of a market order: for the day, or good till canceled if its legs must outlive the day."""
    if not order.client_order_id:
        raise ValueError(f"an order for {order.symbol} has no client order id; without one it could be placed twice")
    body: dict[str, object] = {
        "symbol": order.symbol,
        "side": order.side.value,
        "type": OrderType.MARKET.value,
        "time_in_force": "day",
        "qty": _decimal_text(order.quantity),
        "client_order_id": order.client_order_id,
    }
    if order.side is Side.SELL:
        body["position_intent"] = "sell_to_close"  # otherwise Alpaca goes short if the owner has sold in the meantime
    if order.stop_loss_usd is not None and order.take_profit_usd is not None:
        body |= {
            "time_in_force": "gtc",
            "order_class": "bracket",
            "stop_loss": {"stop_price": _decimal_text(order.stop_loss_usd)},
            "take_profit": {"limit_price": _decimal_text(order.take_profit_usd)},
        }
    return body


def _decimal_text(number: float) -> str:
    """Return a number in plain decimals, without exponent, binary rounding noise or trailing zeros."""
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"quantity or price {number} of an order: must be finite and above 0")
    places = Decimal("1e-9")  # Alpaca's maximum precision
    return format(Decimal(repr(float(number))).quantize(places).normalize(), "f")


def _refusal(error: RefusedError) -> OrderRejectedError | OrderStateUnknownError:
    if error.code == _DUPLICATE_ID:
        # Alpaca also uses this code for other faults of a request.
        is_taken = "must be unique" in str(error)
        words = f"{error}: an order with this id may already exist"
        return OrderStateUnknownError(words, is_taken=is_taken, is_refused=not is_taken)
    if error.code == _NO_MONEY_OR_SHARES and "buying power" in str(error).lower():
        return OrderRejectedError(str(error), Code.BUYING_POWER_EXCEEDED)
    return OrderRejectedError(str(error))
