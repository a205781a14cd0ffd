"""The embedded broker: a paper account in one local JSON file. Orders are filled at the latest close.

There is no slippage, commission, margin or partial fill. Brackets are checked against closes: a stop sells at the first
close at or below it, a take-profit limit at its own price.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from trader import codec
from trader.broker.base import CashFlow, MarketClock, OrderRejectedError, OrderStateUnknownError, SharesReservedError
from trader.model import Account, BrokerError, Closes, Code, OpenOrder, Order, OrderStatus, OrderType, Position, Side
from trader.schedule import sessions

LOG = logging.getLogger("trader")


@dataclass(slots=True, kw_only=True)
class _Book:
    """The contents of the file. `brackets` holds what ends a holding, by symbol: a buy with open legs, or a stop."""

    cash_usd: float
    last_equity_usd: float
    as_of: datetime
    positions: dict[str, Position] = field(default_factory=dict)
    brackets: dict[str, Order] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)

    def equity_usd(self) -> float:
        return self.cash_usd + sum(each.quantity * each.price_usd for each in self.positions.values())


class EmbeddedBroker:
    """A paper account at one moment. Every method raises BrokerError if the file cannot be used."""

    def __init__(
        self,
        path: Path,
        *,
        now: datetime,
        starting_cash_usd: float,
        closes: Callable[[Sequence[str]], Mapping[str, Closes]],
        is_dry: bool = False,
    ) -> None:
        """Store the arguments. `closes` returns the bars of symbols up to `now`; `is_dry` leaves the file unchanged."""
        self._path = path
        self._now = now
        self._starting_cash_usd = starting_cash_usd
        self._closes = closes
        self._is_dry = is_dry

    def clock(self) -> MarketClock:
        """Return the market's hours from the regular sessions of the New York Stock Exchange."""
        return MarketClock(is_open=sessions.is_open(self._now), next_open=sessions.next_open(self._now), now=self._now)

    def account(self) -> Account:
        """Return the account's money; its buying power is its cash."""
        with self._open() as book:
            return Account(
                equity_usd=book.equity_usd(),
                last_equity_usd=book.last_equity_usd,
                cash_usd=book.cash_usd,
                buying_power_usd=book.cash_usd,
            )

    def positions(self) -> Mapping[str, Position]:
        """Return every holding, valued at the latest close."""
        with self._open() as book:
            reserved = {symbol: order.quantity for symbol, order in book.brackets.items()}
            return {
                symbol: replace(position, available=position.quantity - reserved.get(symbol, 0))
                for symbol, position in book.positions.items()
            }

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return the legs of brackets and the stops; market orders are never open, because they are filled at once."""
        with self._open() as book:
            return tuple(leg for order in book.brackets.values() for leg in _exits(order))

    def orders_of(self, symbols: Sequence[str]) -> tuple[Order, ...]:
        """Return every order for these symbols, newest first, without advancing the account's time."""
        with self._file():
            return tuple(order for order in reversed(self._read().orders.values()) if order.symbol in symbols)

    def refresh(self, orders: Sequence[Order]) -> tuple[Order, ...]:
        """Return these orders as they are in the file, without advancing the account's time."""
        with self._file():
            kept = self._read().orders
            return tuple(kept.get(order.client_order_id, order) for order in orders)

    def latest_prices_usd(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """Return the latest close of each symbol, which is the price of every order."""
        return {symbol: float(closes.iloc[-1]) for symbol, closes in self._closes(symbols).items() if len(closes)}

    def reserve_requests(self, count: int) -> None:
        """Return at once: nothing limits the calls."""

    def submit(self, order: Order) -> Order:
        """Fill a market order at the latest close; keep a stop until a close reaches it."""
        with self._open() as book:
            if order.client_order_id in book.orders:
                raise OrderStateUnknownError(f"client order id {order.client_order_id} is taken", is_taken=True)
            accepted = replace(
                order,
                status=OrderStatus.NEW,
                order_id=f"embedded-{len(book.orders) + 1}",
                submitted_at=self._now,
            )
            if order.type is OrderType.STOP:
                _reserve(book, accepted)
            else:
                accepted = self._fill_now(book, accepted)
            book.orders[order.client_order_id] = accepted
            return accepted

    def _fill_now(self, book: _Book, order: Order) -> Order:
        price_usd = self._last_price_usd(order.symbol)
        filled = replace(
            order,
            status=OrderStatus.FILLED,
            filled_quantity=order.quantity,
            filled_price_usd=price_usd,
            filled_at=self._now,
        )
        _fill(book, filled, price_usd)
        if order.is_bracket:
            book.brackets[order.symbol] = filled
        return filled

    def find(self, order: Order) -> Order | None:
        """Return the order with the same client order id, without advancing the account's time."""
        with self._file():
            return self._read().orders.get(order.client_order_id)

    def list_orders(self, since: datetime, until: datetime) -> tuple[Order, ...]:  # noqa: ARG002 the file keeps no times
        """Return every order in the file, whatever its time, without advancing the account's time."""
        with self._file():
            return tuple(self._read().orders.values())

    def list_flows(self, since: datetime) -> tuple[CashFlow, ...]:  # noqa: ARG002 there is nothing to look for
        """Return nothing: nothing is paid into the account, or out of it."""
        return ()

    def cancel(self, order: OpenOrder | Order) -> None:
        """Cancel a stop, or both legs of a bracket, because each leg cancels the other."""
        with self._open() as book:
            ended = book.brackets.get(order.symbol)
            if ended is None or order.order_id not in {each.order_id for each in _exits(ended)}:
                return
            del book.brackets[order.symbol]
            if ended.type is OrderType.STOP:
                book.orders[ended.client_order_id] = replace(ended, status=OrderStatus.CANCELED)

    def _last_price_usd(self, symbol: str) -> float:
        closes = self._closes([symbol]).get(symbol)
        if closes is None:
            raise OrderRejectedError("there is no price at which to fill the order")
        return float(closes.iloc[-1])

    @contextmanager
    def _open(self) -> Iterator[_Book]:
        """Bring the book up to `now`, and write it back unless an error occurs."""
        with self._file():
            book = self._read()
            self._settle(book)
            yield book
            if not self._is_dry:
                self._write(book)

    @contextmanager
    def _file(self) -> Iterator[None]:
        """Lock the file against other processes."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._path}.lock", timeout=10):
                yield
        except (OSError, TimeoutError) as error:
            raise BrokerError(f"ACCOUNT_FILE={self._path} cannot be used: {error}") from error

    def _read(self) -> _Book:
        if not self._path.exists():
            cash_usd = self._starting_cash_usd
            return _Book(cash_usd=cash_usd, last_equity_usd=cash_usd, as_of=self._now)
        try:
            return _check(codec.decode(_Book, codec.parse_json(self._path.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError) as error:
            raise BrokerError(
                f"ACCOUNT_FILE={self._path} is not an embedded broker's account ({type(error).__name__}: {error}); "
                "move it away to start a new account"
            ) from error

    def _write(self, book: _Book) -> None:
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        text = json.dumps(asdict(book), indent=1, default=datetime.isoformat, allow_nan=False)
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power failure could leave an empty file under the account's name
        partial.replace(self._path)

    def _settle(self, book: _Book) -> None:
        """Advance the book to `now`: trigger stops and limits, and record the equity at the previous close."""
        if self._now < book.as_of:
            raise BrokerError(
                f"ACCOUNT_FILE={self._path} is at {book.as_of.isoformat()}, later than this run at "
                f"{self._now.isoformat()}; to go back in time, set another file or remove this one (make clean)"
            )
        closes = self._closes(list(book.positions)) if book.positions else {}
        known = {name: order.status for name, order in book.orders.items()}
        closed = sessions.previous_close(self._now)
        if book.as_of < closed:
            _pass(book, closes, closed)
            book.last_equity_usd = book.equity_usd()
        _pass(book, closes, self._now)
        for order in book.orders.values():
            if known.get(order.client_order_id) != order.status and not self._is_dry:
                extra = {"quantity": order.filled_quantity, "price_usd": order.filled_price_usd, "reason": order.reason}
                LOG.info("bracket filled", extra={"symbol": order.symbol, **extra})


def _pass(book: _Book, closes: Mapping[str, Closes], until: datetime) -> None:
    """Fill brackets and update prices up to a moment; a bar counts as complete from its start on."""
    for symbol, order in list(book.brackets.items()):
        if symbol in closes and until > book.as_of:
            _trigger(book, order, _since(closes[symbol].loc[:until], book.as_of))
    _mark(book, {symbol: series.loc[:until] for symbol, series in closes.items()})
    book.as_of = until


def _since(closes: Closes, moment: datetime) -> Closes:
    """Return the bars from `moment` on, or at least the last bar: a running bar's close is the current price."""
    later = closes.loc[moment:]
    return later if len(later) else closes.iloc[-1:]


def _trigger(book: _Book, order: Order, closes: Closes) -> None:
    """Sell at the first close that reaches the stop or the limit: at the close, or at the limit if that is lower."""
    stop_usd = order.stop_loss_usd
    assert stop_usd is not None, "only orders with a stop are kept as brackets"
    limit_usd = math.inf if order.take_profit_usd is None else order.take_profit_usd
    hit = closes[(closes <= stop_usd) | (closes >= limit_usd)]
    if hit.empty:
        return
    price_usd = float(min(hit.iloc[0], limit_usd))
    is_stop = price_usd <= stop_usd
    sale = replace(
        order,
        side=Side.SELL,
        type=OrderType.STOP if is_stop else OrderType.LIMIT,
        stop_loss_usd=stop_usd if is_stop else None,
        take_profit_usd=None if is_stop else limit_usd,
        status=OrderStatus.FILLED,
        filled_quantity=order.quantity,
        filled_price_usd=price_usd,
        filled_at=max(hit.index[0].to_pydatetime(), book.as_of),  # a running bar's close came after the last run
    )
    if order.type is not OrderType.STOP:
        leg = "stop-loss" if is_stop else "take-profit"
        sale = replace(
            sale,
            client_order_id=f"{order.client_order_id}-{leg}",
            order_id=f"{order.order_id}-{leg}",
            reason=f"{leg} of its bracket",
        )
    del book.brackets[order.symbol]
    _fill(book, sale, price_usd)
    book.orders[sale.client_order_id] = sale


def _reserve(book: _Book, stop: Order) -> None:
    """Keep a stop for shares that nothing reserves. Raises OrderRejectedError, without a change, if there are none."""
    held = book.positions.get(stop.symbol)
    if held is None or stop.quantity > held.quantity:
        raise OrderRejectedError(f"insufficient quantity available: {held.quantity if held else 0:g} held")
    if stop.symbol in book.brackets:
        raise SharesReservedError("insufficient quantity available: another stop or bracket holds the shares")
    if stop.stop_loss_usd is None or stop.stop_loss_usd >= held.price_usd:
        raise OrderRejectedError(f"a stop at {stop.stop_loss_usd} is not below the price, {held.price_usd:,.2f}")
    book.brackets[stop.symbol] = stop


def _fill(book: _Book, order: Order, price_usd: float) -> None:
    """Move the cash and the shares of one order.

    Raises OrderRejectedError, without any change, if a cash account could not fill the order.
    """
    held = book.positions.get(order.symbol)
    had = held.quantity if held else 0.0
    value_usd = round(order.quantity * price_usd, 2)
    if order.side is Side.BUY:
        if order.is_bracket and not order.quantity.is_integer():
            raise OrderRejectedError(f"a bracket order of {order.quantity:g} shares: only whole shares are allowed")
        if value_usd > book.cash_usd:
            raise OrderRejectedError(
                f"costs {value_usd:,.2f} USD, but the cash is {book.cash_usd:,.2f} USD", Code.BUYING_POWER_EXCEEDED
            )
        cost_usd = value_usd + had * (held.average_price_usd or 0.0 if held else 0.0)
        average_usd: float | None = cost_usd / (had + order.quantity)
    else:
        if order.symbol in book.brackets:
            raise SharesReservedError("insufficient quantity available: its bracket holds the shares")
        if order.quantity > had:
            raise OrderRejectedError(f"insufficient quantity available: {had:g} held")
        value_usd = -value_usd
        average_usd = held.average_price_usd if held else 0.0
    book.cash_usd = round(book.cash_usd - value_usd, 2)
    left = had + order.signed_quantity
    book.positions.pop(order.symbol, None)
    if left > 0:
        book.positions[order.symbol] = Position(
            symbol=order.symbol, quantity=left, average_price_usd=average_usd, price_usd=price_usd
        )


def _mark(book: _Book, closes: Mapping[str, Closes]) -> None:
    """Value the positions at the last of these closes; a position without closes keeps its last price."""
    for symbol, series in closes.items():
        if symbol in book.positions and len(series):
            book.positions[symbol] = replace(book.positions[symbol], price_usd=float(series.iloc[-1]))


def _exits(order: Order) -> Iterator[OpenOrder]:
    """Yield a stop, or the two legs of a bracket."""
    if order.type is OrderType.STOP:
        yield _exit(order, order.client_order_id, order.order_id)
        return
    for leg in ("stop-loss", "take-profit"):
        yield _exit(order, f"{order.client_order_id}-{leg}", f"{order.order_id}-{leg}")


def _exit(order: Order, client_order_id: str, order_id: str) -> OpenOrder:
    is_limit = order_id.endswith("take-profit")
    return OpenOrder(
        order_id=order_id,
        client_order_id=client_order_id,
        symbol=order.symbol,
        side=Side.SELL,
        quantity=order.quantity,
        is_leg=True,
        type=OrderType.LIMIT if is_limit else OrderType.STOP,
        order_class="bracket" if order.is_bracket else "",
        stop_price_usd=None if is_limit else order.stop_loss_usd,
        limit_price_usd=order.take_profit_usd if is_limit else None,
        parent_id=order.order_id if order.is_bracket else "",
    )


def _check(book: _Book) -> _Book:
    """Return the book. Raises ValueError if a position or a bracket in it is invalid."""
    for symbol, position in book.positions.items():
        if position.symbol != symbol or position.quantity <= 0 or position.price_usd <= 0:
            raise ValueError(
                f"the position of {symbol!r:.100} is invalid: another symbol, or a quantity or price not above 0"
            )
    for symbol, order in book.brackets.items():
        held = book.positions.get(symbol)
        if order.symbol != symbol or order.stop_loss_usd is None or not held or order.quantity > held.quantity:
            raise ValueError(
                f"the bracket of {symbol!r:.100} is invalid: another symbol, no stop, or more shares than held"
            )
    return book
