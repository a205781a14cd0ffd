"""The embedded broker: a paper account in one local JSON file. Orders are filled at the latest close.

There is no slippage, commission, margin or partial fill. Brackets are checked against closes: a stop sells at the first
close at or below it, a take-profit limit at its own price. A stop for a part of a share ends with the day. If the price
source rewrites its past because of a split or a dividend, the account follows, and its equity stays as it was.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from trader import codec
from trader.broker import book as books
from trader.broker.base import CashFlow, MarketClock, OrderRejectedError, OrderStateUnknownError
from trader.broker.book import Book, Restatement
from trader.model import (
    NEW_YORK,
    Account,
    BrokerError,
    OpenOrder,
    Order,
    OrderStatus,
    OrderType,
    Position,
    round_to_tick,
)
from trader.prices.jumps import name_split
from trader.prices.series import Series
from trader.schedule import sessions
from trader.settings import Settings

LOG = logging.getLogger("trader")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOCK = ".lock"
"""What is added to the name of an account's file for that of its lock."""


def begin_anew(account_file: str) -> str:
    """Return advice for a run that this account cannot make any more: the settings of another one."""
    name = "third" if Path(account_file).stem == "second" else "second"
    clean = "; or make clean, which removes this one" if account_file == Settings.account_file else ""
    return f"begin a {name} account: ACCOUNT_FILE=out/{name}.json JOURNAL=folder:out/{name}{clean}"


class EmbeddedBroker:
    """A paper account at one moment. Every method raises BrokerError if the file cannot be used."""

    def __init__(
        self,
        path: Path,
        *,
        now: datetime,
        starting_cash_usd: float,
        series: Callable[[Sequence[str]], Mapping[str, Series]],
        is_dry: bool = False,
    ) -> None:
        """Store the arguments. `series` returns the bars of symbols up to `now`; `is_dry` leaves the file unchanged."""
        self._path = path
        self._now = now
        self._starting_cash_usd = starting_cash_usd
        self._series = series
        self._is_dry = is_dry
        self._unknown: dict[str, str] = {}  # why it is not known whether a holding is in the unit of its prices

    def _working(self, book: Book) -> Mapping[str, Order]:
        """Return the brackets that prices can trigger."""
        return {symbol: order for symbol, order in book.brackets.items() if symbol not in self._unknown}

    def _visible(self, symbols: Sequence[str]) -> Mapping[str, Series]:
        """Return the series with closes at which orders are filled and holdings valued."""
        return {symbol: each for symbol, each in self._series(symbols).items() if len(each.visible())}

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
            reserved = {symbol: order.quantity for symbol, order in self._working(book).items()}
            return {
                symbol: replace(position, available=position.quantity - reserved.get(symbol, 0))
                for symbol, position in book.positions.items()
            }

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return the legs of brackets and the stops; market orders are never open, because they are filled at once.

        Those of a holding in an unknown unit are left out, because they do not work.
        """
        with self._open() as book:
            return tuple(leg for order in self._working(book).values() for leg in books.exits(order))

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
        return {symbol: float(each.visible().iloc[-1]) for symbol, each in self._visible(symbols).items()}

    def reserve_requests(self, count: int) -> None:
        """Return at once: nothing limits the calls."""

    def submit(self, order: Order) -> Order:
        """Fill a market order at the latest close; keep a stop until a close reaches it."""
        with self._open() as book:
            if order.client_order_id in book.orders:
                raise OrderStateUnknownError(f"client order id {order.client_order_id} is taken", is_taken=True)
            if why := self._unknown.get(order.symbol):
                raise OrderRejectedError(why)
            accepted = replace(
                order,
                status=OrderStatus.NEW,
                order_id=f"embedded-{len(book.orders) + 1}",
                submitted_at=self._now,
            )
            if order.type is OrderType.STOP:
                books.reserve(book, accepted)
            else:
                accepted = self._fill_now(book, accepted)
            book.orders[order.client_order_id] = accepted
            return accepted

    def _fill_now(self, book: Book, order: Order) -> Order:
        series = self._visible([order.symbol]).get(order.symbol)
        if series is None:
            raise OrderRejectedError("there is no price at which to fill the order")
        price_usd = float(series.visible().iloc[-1])
        filled = replace(
            order,
            status=OrderStatus.FILLED,
            filled_quantity=order.quantity,
            filled_price_usd=price_usd,
            filled_at=self._now,
        )
        books.fill(book, filled, price_usd)
        if order.symbol in book.positions:
            books.quote(book, order.symbol, series)
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

    def read_book(self) -> Book:
        """Return the account as its file has it, without advancing its time."""
        with self._file():
            return self._read()

    def list_flows(self, since: datetime) -> tuple[CashFlow, ...]:  # noqa: ARG002 there is nothing to look for
        """Return nothing: nothing is paid into the account, or out of it."""
        return ()

    def cancel(self, order: OpenOrder | Order) -> None:
        """Cancel a stop, or both legs of a bracket, because each leg cancels the other."""
        with self._open() as book:
            ended = book.brackets.get(order.symbol)
            if ended is None or order.order_id not in {each.order_id for each in books.exits(ended)}:
                return
            del book.brackets[order.symbol]
            if ended.type is OrderType.STOP:
                book.orders[ended.client_order_id] = replace(ended, status=OrderStatus.CANCELED)

    @contextmanager
    def _open(self) -> Iterator[Book]:
        """Bring the book up to `now`, and write it back unless an error occurs or only time has passed.

        So a look at the account does not move it: another run may still be for an earlier time.
        """
        with self._file():
            book = self._read()
            before = _omit_time(book)
            self._settle(book)
            yield book
            if not self._is_dry and _omit_time(book) != before:
                self._write(book)

    @contextmanager
    def _file(self) -> Iterator[None]:
        """Lock the file against other processes."""
        lock = Path(f"{self._path}{LOCK}")
        try:
            if not lock.exists():
                self._read()  # beside what is no account, no lock is left
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=10):
                yield
        except (OSError, TimeoutError) as error:
            raise BrokerError(f"ACCOUNT_FILE={self._path} cannot be used: {error}") from error

    def _read(self) -> Book:
        if not self._path.exists():
            cash_usd = self._starting_cash_usd
            return Book(cash_usd=cash_usd, last_equity_usd=cash_usd, as_of=self._now)
        if not self._path.is_file():
            raise BrokerError(f"ACCOUNT_FILE={self._path} is not a file; set it to one, such as out/account.json")
        try:
            return books.check(codec.decode(Book, codec.parse_json(self._path.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError) as error:
            raise BrokerError(
                f"ACCOUNT_FILE={self._path} is not an embedded broker's account ({type(error).__name__}: {error}); "
                "set ACCOUNT_FILE to another file, or move this one away, to start a new account"
            ) from error

    def _write(self, book: Book) -> None:
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        text = json.dumps(asdict(book), indent=1, default=datetime.isoformat, allow_nan=False)
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power failure could leave an empty file under the account's name
        partial.replace(self._path)

    def _settle(self, book: Book) -> None:
        """Advance the book to `now`: trigger stops and limits, and record the equity at the previous close."""
        if self._now < book.as_of:
            at, now = (f"{each.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York" for each in (book.as_of, self._now))
            raise BrokerError(
                f"ACCOUNT_FILE={self._path} has traded until {at}, and this run is for {now}: an account does not go "
                f"back in time. Choose a later AT, or {begin_anew(str(self._path))}"
            )
        series = self._visible(list(book.positions)) if book.positions else {}
        known = {name: order.status for name, order in book.orders.items()}
        restated = len(book.restatements)
        stops = books.find_day_stops(book)
        self._follow_sources(book, series)
        followed = {symbol: each for symbol, each in series.items() if symbol not in self._unknown}
        closed = sessions.previous_close(self._now)
        if book.as_of <= closed:  # a run at the very close is the last of its day
            for close in sorted({sessions.next_close(each.submitted_at) for each in stops if each.submitted_at}):
                if close <= closed:  # what a stop has not sold by then, it does not sell on a later day
                    books.advance(book, followed, max(book.as_of, close))
                    books.expire(book, stops, close)
            books.advance(book, followed, closed)
            book.last_equity_usd = book.equity_usd()
        books.advance(book, followed, self._now)
        if self._is_dry:
            return
        for each in book.restatements[restated:]:
            _log_restatement(each)
        for order in book.orders.values():
            if order.status is OrderStatus.FILLED and known.get(order.client_order_id) != order.status:
                extra = {
                    "quantity": order.filled_quantity,
                    "price_usd": _quote(order.filled_price_usd),
                    "reason": order.reason,
                }
                LOG.info("bracket filled", extra={"symbol": order.symbol, **extra})

    def _follow_sources(self, book: Book, series: Mapping[str, Series]) -> None:
        """Restate what is held if the source has rewritten its past, and find out where that is not known."""
        named = self._unknown
        self._unknown = {}
        for symbol, each in series.items():
            held = book.positions[symbol]
            if why := books.follow_source(book, symbol, each, self._now):
                self._unknown[symbol] = (
                    f"the {held.quantity:g} shares held may not be in the unit of the price source: {why}. They keep "
                    f"their value, and are not traded. Correct them in ACCOUNT_FILE={self._path}: the quantity and the "
                    "prices under positions and brackets, and delete the symbol under quotes; or set another file"
                )
                if symbol not in named:
                    LOG.warning(
                        "unit of the shares not known", extra={"symbol": symbol, "detail": self._unknown[symbol]}
                    )


def _quote(price_usd: float | None) -> float | None:
    """Return a price as it is quoted, to the tick."""
    return None if price_usd is None else float(round_to_tick(price_usd))


def _omit_time(book: Book) -> Book:
    """Return a copy of the book without what the passing of time alone changes."""
    return replace(
        book,
        as_of=EPOCH,
        last_equity_usd=0.0,
        positions=dict(book.positions),
        brackets=dict(book.brackets),
        orders=dict(book.orders),
        quotes=dict(book.quotes),
    )


def _log_restatement(done: Restatement) -> None:
    """Log what was done to a holding; a warning if no usual split or dividend explains it."""
    level = logging.WARNING if done.is_doubtful else logging.INFO
    extra = {"symbol": done.symbol, "quantity": done.quantity_after, "is_doubtful": done.is_doubtful}
    if done.dividend_usd:
        LOG.log(
            level, "dividend paid", extra={**extra, "quantity": done.quantity_before, "cash_usd": done.dividend_usd}
        )
    if done.ratio != 1:
        extra |= {"quantity_before": done.quantity_before, "cash_usd": done.fraction_usd}
        LOG.log(level, "shares restated", extra={**extra, "split": name_split(done.ratio)})
