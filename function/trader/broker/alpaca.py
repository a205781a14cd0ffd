"""Alpaca as a Broker. Every field is checked before use: a missing value is an error, never a zero."""

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from http import HTTPStatus
from itertools import batched
from typing import TypeGuard

from trader.alpaca.client import AlpacaClient, JsonValue, NoAnswerError, RefusedError
from trader.broker.base import (
    CashFlow,
    MarketClock,
    OrderId,
    OrderRejectedError,
    OrderStateUnknownError,
    SharesReservedError,
    UnexpectedResponseError,
    UnreadablePositionsError,
)
from trader.logs import one_line
from trader.model import (
    NEW_YORK,
    Account,
    BrokerError,
    Code,
    OpenOrder,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
)
from trader.progress import Progress, no_progress
from trader.schedule.base import present

LOG = logging.getLogger(__name__)

MAX_TEXT_CHARACTERS = 200
"""The maximum length of a text field; Alpaca's ids have 36 characters, a client order id up to 128."""

PAGE_SIZE = 500  # Alpaca's maximum; its default is 50
ACTIVITIES_PAGE_SIZE = 100  # Alpaca's maximum
FLOW_TYPES = "CSD,CSW,JNLC,ACATC"  # deposits, withdrawals, and cash from or to another account or broker
MAX_PAGES = 4  # of the orders for some symbols together, and then for each of them
SYMBOLS_PER_REQUEST = 200  # an address of a few thousand characters

REFRESHED = timedelta(minutes=20)
"""The age up to which `refresh` finds an order whose time is not known; no run lasts longer."""

_ACCOUNT_NUMBER = re.compile(r"[A-Za-z0-9-]{1,64}")
_ACTIVITIES = "GET /account/activities"
_BLOCKS = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
_LEG_CLASSES = frozenset({"bracket", "oco", "oto"})
_CLOSED = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})
_CLOSED |= {OrderStatus.REPLACED}
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
        now = clock.time("timestamp")
        return MarketClock(
            is_open=clock.flag("is_open"),
            next_open=clock.time("next_open"),
            closes_in_s=(clock.time("next_close") - max(now, self._present())).total_seconds(),
            now=now,
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
            flows_usd=account.optional_number("intraday_adjustments"),  # an older API does not send it
            number=account.account_number(),
        )

    def positions(self) -> Mapping[str, Position]:
        """Return every holding, by symbol."""
        records = _list("GET /positions", self._client.get("/positions"))
        found: dict[str, Position] = {}
        faults: dict[str, str] = {}
        for record in records:
            try:
                held = _position(record)
                found[held.symbol] = held
            except _UnusableAnswerError as error:
                faults[record.name] = str(error)
        if faults:
            raise UnreadablePositionsError(found, faults)
        return found

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return every open order in US stocks, including the legs of brackets, whose entries may be filled."""
        found = [each for record in self._orders({"status": "open", "nested": "true"}) for each in _open_orders(record)]
        return tuple({order.order_id: order for order in found}.values())

    def orders_of(self, symbols: Sequence[str]) -> tuple[Order, ...]:
        """Return the latest orders for these symbols, those of each newest first.

        At most MAX_PAGES answers are for several symbols together. If there are more orders, as there are after a year
        of stops for the day, each symbol is read on by itself, again from so many answers: eight years of such stops.
        What is not read is older than all that is, so no sale can be missing after a buy.
        """
        orders: dict[str, Order] = {}
        for some in batched(symbols, SYMBOLS_PER_REQUEST, strict=False):
            query: dict[str, object] = {"status": "all", "nested": "true", "symbols": ",".join(some)}
            query |= {"direction": "desc", "limit": PAGE_SIZE}
            if not self._read_back(query, orders):
                for symbol in some:
                    self._read_back(query | {"symbols": symbol}, orders)
        return tuple(orders.values())

    def _read_back(self, query: dict[str, object], orders: dict[str, Order]) -> bool:
        """Add orders by id, newest first, and move the query's `until` back; return whether these are all."""
        for _ in range(MAX_PAGES):
            page = _list("GET /orders", self._client.get("/orders", query))
            orders |= {each.order_id: each for each in _read_placed_orders(one for one in page if one.is_stock)}
            if sum(1 + len(record.legs) for record in page) < PAGE_SIZE:
                return True
            until = page[-1].time("submitted_at") + timedelta(microseconds=1)  # `until` excludes its own moment
            query["until"] = until.isoformat()
        return False

    def refresh(self, orders: Sequence[Order]) -> tuple[Order, ...]:
        """Return these orders as Alpaca has them now, with one request for all of them."""
        times = [order.submitted_at for order in orders if order.submitted_at]
        earliest = min(times) if len(times) == len(orders) else self._present() - REFRESHED
        query = {"status": "all", "nested": "true", "after": (earliest - timedelta(seconds=1)).isoformat()}
        found = {record.text("client_order_id"): record for record in self._orders(query)}
        return tuple(
            _match_order(order, found[order.client_order_id]) if order.client_order_id in found else order
            for order in orders
        )

    def latest_prices_usd(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """Return the price of each symbol's latest trade on the IEX feed, which every account may read.

        A trade of another day in New York is left out. Raises BrokerError if all trades are of other days.
        """
        call = "GET /stocks/trades/latest"
        midnight = self._present().astimezone(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
        prices: dict[str, float] = {}
        old: list[str] = []
        for some in batched(symbols, SYMBOLS_PER_REQUEST, strict=False):
            answer = _Fields(call, self._client.get_data(call[4:], {"symbols": ",".join(some), "feed": "iex"}))
            for symbol, trade in answer.objects("trades").items():
                price_usd, traded_at = trade.usable_number("p"), trade.usable_time("t")
                if symbol not in some or price_usd is None or price_usd <= 0 or traded_at is None:
                    continue
                if midnight <= traded_at < midnight + timedelta(days=1):
                    prices[symbol] = price_usd
                else:
                    old.append(f"{symbol} is from {traded_at.isoformat(timespec='minutes')}")
        if old:
            words = f"Alpaca: {call}: not of today: the latest trade of {', of '.join(old)}"
            if not prices:
                raise BrokerError(words)
            LOG.warning("%s", words)
        return prices

    def reserve_requests(self, count: int) -> None:
        """Wait until `count` requests can be sent without a pause. Raises OrderRejectedError if there is no time."""
        if not self._client.reserve(count):
            words = f"the limit on requests does not allow {count} more in the time that is left"
            raise OrderRejectedError(words, Code.OUT_OF_TIME, is_general=True)

    def list_orders(self, since: datetime, until: datetime) -> tuple[Order, ...]:
        """Return every order in US stocks submitted between the two times, of every status, with bracket legs."""
        span = {"after": since.isoformat(), "until": until.isoformat()}
        return tuple(_read_placed_orders(self._orders({"status": "all", "nested": "true", **span})))

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

    def list_flows(self, since: datetime) -> tuple[CashFlow, ...]:
        """Return every deposit and withdrawal of cash after a time; shares moved are not included."""
        after = (since - timedelta(days=1)).isoformat()
        found = self.list_activities({"activity_types": FLOW_TYPES, "after": after})
        records = [_Fields(_ACTIVITIES, record) for record in found]
        times = [(record.activity_time(), record) for record in records if record.status != "canceled"]
        return tuple(CashFlow(at, record.number("net_amount")) for at, record in times if at > since)

    def list_activities(
        self, query: Mapping[str, object], progress: Progress = no_progress
    ) -> tuple[Mapping[str, JsonValue], ...]:
        """Return the account's activities that match a query as Alpaca has them, oldest first, read page by page."""
        query = {**query, "direction": "asc", "page_size": ACTIVITIES_PAGE_SIZE}
        found: dict[str, Mapping[str, JsonValue]] = {}
        while True:
            page = _list(_ACTIVITIES, self._client.get("/account/activities", query))
            new = {record.text("id"): record.values for record in page if record.text("id") not in found}
            found |= new
            progress("activities", len(found), len(found) + (len(page) == ACTIVITIES_PAGE_SIZE))
            if len(page) < ACTIVITIES_PAGE_SIZE:
                return tuple(found.values())
            if not new:
                raise BrokerError(f"Alpaca: {_ACTIVITIES}: the same page again")
            query["page_token"] = page[-1].text("id")

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

    def cancel(self, order: OpenOrder | Order) -> None:
        """Request the cancellation of an open order; an order already closed or being canceled is not an error."""
        try:
            self._client.delete(f"/orders/{order.order_id}")
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
    def values(self) -> Mapping[str, JsonValue]:
        """The object as it came."""
        return self._values

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

    @property
    def status(self) -> str:
        """The status, which older records of activities do not have."""
        return str(self._values.get("status") or "")

    def activity_time(self) -> datetime:
        """Return when an account activity was entered, or the beginning of its day if only that is known."""
        entered = self.time_or_none("created_at")
        if entered is not None:
            return entered
        try:
            return datetime.combine(date.fromisoformat(self.text("date")[:10]), time(), NEW_YORK)
        except ValueError as error:
            raise self._unusable("date", "a date") from error

    def account_number(self) -> str:
        """Return the account's number, which is part of a name in the journal."""
        number = self.text("account_number")
        if not _ACCOUNT_NUMBER.fullmatch(number):
            raise self._unusable("account_number", "letters, digits and hyphens")
        return number

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

    def optional_number(self, name: str) -> float | None:
        """Return a number, or None if the field is missing, null or empty."""
        return None if self._values.get(name) in (None, "") else self.number(name)

    def usable_number(self, name: str) -> float | None:
        """Return a number, or None if there is none; nonsense is logged. For values without which the bot can go on."""
        return _try_to_read(self.optional_number, name)

    def objects(self, name: str) -> "dict[str, _Fields]":
        """Return the objects in a field, by key; anything else in it is left out."""
        value = self._values.get(name)
        if not _is_object(value):
            raise self._unusable(name, "an object")
        return {key: _Fields(self._call, item) for key, item in value.items() if _is_object(item)}

    def usable_time(self, name: str) -> datetime | None:
        """Return a time, or None if there is none; nonsense is logged. For values without which the bot can go on."""
        return _try_to_read(self.time_or_none, name)

    def time_or_none(self, name: str) -> datetime | None:
        return None if self._values.get(name) is None else self.time(name)

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


def _try_to_read[T](read: Callable[[str], T | None], name: str) -> T | None:
    try:
        return read(name)
    except _UnusableAnswerError as error:
        LOG.warning("%s; it is treated as missing", error)
        return None


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


def _position(record: _Fields) -> Position:
    record.text("asset_class")  # without it, nobody can tell whether the bot bought it
    if not record.is_stock:
        quantity = record.optional_number("qty") or 0.0
        return Position(
            symbol=record.name, quantity=quantity, average_price_usd=None, price_usd=0.0, available=0.0, is_stock=False
        )
    average_usd = record.usable_number("avg_entry_price")
    return Position(
        symbol=record.text("symbol"),
        quantity=record.number("qty"),
        average_price_usd=average_usd,
        # Null for a holding that is no longer traded. No decision to trade depends on it.
        price_usd=record.usable_number("current_price") or average_usd or 0.0,
        available=record.usable_number("qty_available"),
    )


def _open_orders(record: _Fields) -> Iterator[OpenOrder]:
    """Yield an order of a nested list if it is open, and each of its legs that is."""
    for each, parent in ((record, None), *((leg, record) for leg in record.legs)):
        if OrderStatus(each.text("status")) not in _CLOSED:
            yield _open_order(each, parent)


def _open_order(record: _Fields, parent: _Fields | None) -> OpenOrder:
    # A list may show a leg without its entry. But the bot opens every bracket with a buy and never sells short, so the
    # sales in one of these classes are the legs.
    side, client_order_id = _side(record), record.text("client_order_id")
    parts = OrderId.parse(client_order_id)
    is_stop = parts is not None and parts.stop_number > 0
    return OpenOrder(
        order_id=record.text("id"),
        client_order_id=client_order_id,
        symbol=record.text("symbol"),
        side=side,
        quantity=_left(record),
        is_leg=side is Side.SELL and (parent is not None or record.order_class in _LEG_CLASSES or is_stop),
        type=OrderType(record.text("type")),
        status=record.order_status(),
        order_class=record.order_class,
        stop_price_usd=record.optional_number("stop_price"),
        limit_price_usd=record.optional_number("limit_price"),
        parent_id=parent.text("id") if parent else "",
        parent_status=parent.order_status() if parent else None,
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
        submitted_at=record.time_or_none("submitted_at"),
        filled_at=_find_fill_time(record),
        legs=tuple(_read_placed_order(leg) for leg in record.legs),
    )


def _find_fill_time(record: _Fields) -> datetime | None:
    """Return when an order was last filled; None if it was not, or nobody knows.

    Alpaca states no time for an order that was filled in part and then ended: the time of its last change is taken.
    """
    filled_at = record.usable_time("filled_at")
    if filled_at is not None or not record.number("filled_qty"):
        return filled_at
    changes = ("updated_at", "canceled_at", "expired_at", "failed_at", "replaced_at")
    return max(filter(None, map(record.usable_time, changes)), default=None)


def _read_placed_orders(records: Iterable[_Fields]) -> Iterator[Order]:
    for record in records:
        try:
            yield _read_placed_order(record)
        except _UnusableAnswerError as error:  # such as a manual order of a kind that the bot does not use
            LOG.warning("%s; the order is ignored", error)


def _read_placed_order(record: _Fields) -> Order:
    """Return an order that is known only from Alpaca's record."""
    order = Order(
        client_order_id=record.text("client_order_id"),
        symbol=record.text("symbol"),
        side=_side(record),
        quantity=0.0,  # stays 0 for an amount in dollars, which the bot never orders
        price_usd=record.number_or_none("filled_avg_price") or 0.0,
        type=OrderType(record.text("type")),
        stop_loss_usd=record.optional_number("stop_price"),
        take_profit_usd=record.optional_number("limit_price"),
    )
    return _match_order(order, record)


def _bracket(order: Order, record: _Fields) -> tuple[float | None, float | None]:
    """Return stop loss and take profit from the record's legs, or as requested if a bracket's record has no legs.

    A buy without a bracket keeps the stop that it was planned with, for the order that follows it.
    """
    if order.type is not OrderType.MARKET:
        return order.stop_loss_usd, order.take_profit_usd
    if record.order_class != "bracket":
        return None if order.is_bracket else order.stop_loss_usd, None
    stop_loss_usd, take_profit_usd = order.stop_loss_usd, order.take_profit_usd
    for leg in record.legs:
        stop, limit = leg.number_or_none("stop_price"), leg.number_or_none("limit_price")
        if stop is not None:
            stop_loss_usd = stop
        elif limit is not None:
            take_profit_usd = limit
    return stop_loss_usd, take_profit_usd


def _request(order: Order) -> dict[str, object]:
    """Return the body of an order: for the day, or good till canceled if it or its legs must outlive the day."""
    if not order.client_order_id:
        raise ValueError(f"an order for {order.symbol} has no client order id; without one it could be placed twice")
    body: dict[str, object] = {
        "symbol": order.symbol,
        "side": order.side.value,
        "type": order.type.value,
        "time_in_force": "day",
        "qty": _decimal_text(order.quantity),
        "client_order_id": order.client_order_id,
    }
    if order.side is Side.SELL:
        body["position_intent"] = "sell_to_close"  # otherwise Alpaca goes short if the owner has sold in the meantime
    if order.type is OrderType.STOP:
        if order.stop_loss_usd is None:
            raise ValueError(f"{order.client_order_id} is a stop without a stop price")
        lasting = "gtc" if order.is_whole else "day"  # the only one that Alpaca takes for a part of a share
        body |= {"time_in_force": lasting, "stop_price": _decimal_text(order.stop_loss_usd)}
    elif order.stop_loss_usd is not None and order.take_profit_usd is not None:
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
    words = str(error).lower()
    if error.code == _NO_MONEY_OR_SHARES and "insufficient qty" in words:
        return SharesReservedError(str(error))
    if error.code == _NO_MONEY_OR_SHARES and "buying power" in words:
        return OrderRejectedError(str(error), Code.BUYING_POWER_EXCEEDED)
    is_about_the_order = error.status == HTTPStatus.UNPROCESSABLE_ENTITY or "asset" in words or "wash trade" in words
    return OrderRejectedError(str(error), is_general=not is_about_the_order)
