"""The books behind the stand-in for Alpaca: cash, positions, orders and brackets, and the rules that apply to them."""

import threading
import time as timing
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any, Literal
from zoneinfo import ZoneInfo

from scripts.testkit.alpaca_activities import Activities

type JsonValue = Any
"""A decoded JSON value."""

NEW_YORK = ZoneInfo("America/New_York")
OPEN_STATUSES = frozenset({"accepted", "pending_new", "new", "held", "partially_filled", "pending_cancel", "suspended"})
OPENED = datetime(2020, 1, 1, tzinfo=UTC)
"""When the account was opened, with its first cash."""

BLOCKING_FLAGS = ("trading_blocked", "account_blocked", "trade_suspended_by_user")


class RefusalError(Exception):
    """Alpaca's refusal of a request: an HTTP status and a body with a code and a message."""

    def __init__(self, status: int, code: int, message: str, **details: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, **details}


@dataclass(slots=True, kw_only=True, eq=False)
class FakeOrder:
    """An order in the books, or a leg of a bracket; a leg's `parent` is the bracket's entry order."""

    symbol: str
    side: str
    type: str
    quantity: Decimal
    client_order_id: str
    submitted_at: datetime
    time_in_force: str = "day"
    order_class: str = ""
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    status: str = "new"
    filled_quantity: Decimal = Decimal(0)
    filled_price: Decimal | None = None
    filled_at: datetime | None = None
    ended_at: datetime | None = None  # canceled, expired or rejected
    parent: "FakeOrder | None" = None
    legs: list["FakeOrder"] = field(default_factory=list)
    polls_until_canceled: int = 0
    filled_from: float | None = None  # monotonic; the time of a delayed fill
    split_ratio: Decimal = Decimal(1)  # of the shares' splits since; the order itself stays as it was
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def is_open(self) -> bool:
        """True if the order can still be filled."""
        return self.status in OPEN_STATUSES

    @property
    def remaining(self) -> Decimal:
        """The number of shares not filled yet."""
        return self.quantity - self.filled_quantity


@dataclass(slots=True)
class FakePosition:
    """A position: the number of shares and their average price in USD."""

    quantity: Decimal
    average_price: Decimal


class AlpacaBooks:
    """An account. Every public attribute may be read and set at any time.

    - `is_open`: whether the market is open; None: open on weekdays from 9:30 to 16:00 in New York, by `now`.
    - `fills`: how market orders are filled while the market is open.
    - `fill_delay_s`, `free_delay_s`: how many seconds after its acceptance a market order is filled, and after its end
      an order's shares are free, both in real time.
    - `cancel_polls`: how many requests for orders still show a canceled order as `pending_cancel`.
    - `rejected_later`, `rejected_at_once`: symbols whose orders are rejected after an answer that accepts them, or
      in the answer itself.
    - `account_overrides`: fields to replace in answers about the account; a blocking flag also refuses orders.
    - `record_overrides`: fields to replace in answers about a symbol's position and orders.
    - `unpriced`: symbols of positions whose current price is null, because they are no longer traded.
    - `traded_at`: when a symbol was last traded, if that is not now.
    - `untradable`: symbols whose orders are refused.
    - `suspended`: symbols whose trading is suspended, so that their orders wait.
    - `locked`: shares of a symbol that cannot be sold, for a reason that no order shows.
    - `flows`: deposits less withdrawals since the last close; `deposit` changes it together with the cash.
    - `transfers`: all deposits, and withdrawals as negative amounts, each with its time.
    - `activities`: all that has happened in the account, as the API lists it; `book` enters more.
    - `counts_from`: when the account's count of deposits and withdrawals, `intraday_adjustments`, begins anew; Alpaca
      does not document it.
    - `multiplier`: buying power of a margin account as a multiple of its own money.
    - `may_short`: whether selling a symbol without a position is a short sale, as in every margin account; an order
      with the intent `sell_to_close` is still refused.
    - `holidays`, `early_closes`: weekdays without a session, and days whose session ends at 13:00.
    """

    def __init__(self, *, prices: Mapping[str, float] | None = None, cash_usd: float = 100_000) -> None:
        self.prices: dict[str, float] = dict(prices or {})
        self._now = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)  # a Friday, 10:00 in New York
        self.is_simulated = False  # True once a test has set `now`
        self.is_open: bool | None = True
        self.fills: Literal["immediate", "never", "partial"] = "immediate"
        self.fill_delay_s = self.free_delay_s = 0.0
        self.cancel_polls = 0
        self.rejected_later: set[str] = set()
        self.rejected_at_once: set[str] = set()
        self.account_overrides: dict[str, JsonValue] = {}
        self.record_overrides: dict[str, dict[str, JsonValue]] = {}
        self.unpriced: set[str] = set()
        self.traded_at: dict[str, datetime] = {}
        self.untradable: set[str] = set()
        self.suspended: set[str] = set()
        self.locked: dict[str, int] = {}
        self.flows = Decimal(0)
        self.transfers: list[tuple[datetime, Decimal]] = []
        self.activities = Activities()
        self.counts_from: Literal["close", "midnight"] = "close"
        self.multiplier = 1
        self.may_short = False
        self.holidays: set[date] = set()
        self.early_closes: set[date] = set()

        self.cash = Decimal(str(cash_usd))
        self.activities.note(OPENED, "JNLC", self.cash)
        self.last_equity = self.cash
        self.positions: dict[str, FakePosition] = {}
        self.orders: list[FakeOrder] = []
        self.free_from: dict[str, float] = {}  # monotonic, by symbol; with `free_delay_s`

        self.lock = threading.RLock()
        self._tick = count()

    # --- what a test can do ----------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time in the books. Until a test sets it, the clock shows the real time instead."""
        return self._now

    @now.setter
    def now(self, moment: datetime) -> None:
        self._now, self.is_simulated = moment, True

    def deposit(self, usd: float) -> None:
        """Move cash into the account, or out of it if the amount is negative."""
        self.cash += Decimal(str(usd))
        self.flows += Decimal(str(usd))
        self.transfers.append((self.now, Decimal(str(usd))))
        self.activities.note(self.now, "CSD" if usd > 0 else "CSW", Decimal(str(usd)))

    def pay_dividend(self, symbol: str, usd_per_share: float, day: date | None = None) -> None:
        """Pay a dividend for a position, now and for a day that may have passed."""
        shares, per_share = self.positions[symbol].quantity, Decimal(str(usd_per_share))
        self.book("DIV", shares * per_share, day, symbol=symbol, qty=text(shares), per_share_amount=text(per_share))

    def book(self, kind: str, usd: float | str | Decimal, day: date | None = None, **more: str) -> None:
        """Enter an activity of any type that moves cash, now and for a day that may have passed, such as a late fee."""
        self.cash += Decimal(str(usd))
        self.activities.note(self.now, kind, Decimal(str(usd)), day, **more)

    def hold(self, symbol: str, quantity: float, average_price_usd: float | None = None) -> None:
        """Set a position without an order."""
        price = self.price(symbol) if average_price_usd is None else Decimal(str(average_price_usd))
        self.positions[symbol] = FakePosition(Decimal(str(quantity)), price)

    def hold_in_bracket(
        self, symbol: str, quantity: float, *, stop_fraction: float = 0.1, client_order_id: str = ""
    ) -> FakeOrder:
        """Buy a position with a bracket order, as a run on an earlier day would have left it."""
        price = self.price(symbol)
        order = {
            "symbol": symbol,
            "side": "buy",
            "type": "market",
            "time_in_force": "gtc",
            "order_class": "bracket",
            "qty": f"{quantity:g}",
            "stop_loss": {"stop_price": f"{price * (1 - Decimal(str(stop_fraction))):.2f}"},
            "take_profit": {"limit_price": f"{price * Decimal('1.5'):.2f}"},
            "client_order_id": client_order_id or f"of-an-earlier-day-{len(self.orders)}",
        }
        with self.lock:
            bought = self.accept(order)
            self.work(bought)
        return bought

    def open_orders(self, symbol: str | None = None) -> list[FakeOrder]:
        """Return the open orders of one symbol or of all, including legs."""
        return [order for order in self.orders if order.is_open and symbol in (None, order.symbol)]

    def fill_waiting(self) -> None:
        """Fill every waiting market order at current prices, as at the opening bell."""
        with self.lock:
            for order in [order for order in self.open_orders() if order.type == "market"]:
                if order.symbol in self.suspended:
                    continue
                self._fill(order, order.remaining, self.price(order.symbol))

    def trade(self) -> None:
        """Fill waiting market orders, and the legs and stops whose price is reached, if the market is open."""
        if not self.market_is_open():
            return
        self.fill_waiting()
        for symbol in [symbol for symbol in self.positions if symbol not in self.suspended]:
            for leg in self._exits(symbol):
                if leg.stop_price is not None and self.price(symbol) <= leg.stop_price:
                    self.trigger_stop(symbol)
                    break
                if leg.limit_price is not None and self.price(symbol) >= leg.limit_price:
                    self.trigger_take_profit(symbol)
                    break

    def trigger_stop(self, symbol: str) -> FakeOrder:
        """Fill the stop at its price or, if that is lower, at the market's, and cancel the take-profit leg."""
        return self._trigger(symbol, "stop")

    def trigger_take_profit(self, symbol: str) -> FakeOrder:
        """Fill the take-profit leg at its price, and cancel the stop-loss leg."""
        return self._trigger(symbol, "limit")

    def fill_part(self, order: FakeOrder, shares: int | Decimal) -> None:
        """Fill a part of an open order, at its limit or at the market's price."""
        with self.lock:
            self._fill(order, Decimal(shares), order.limit_price or self.price(order.symbol))

    def end(self, order: FakeOrder, status: str) -> None:
        """End an open order, such as with `rejected`; the orders that depend on it are canceled."""
        with self.lock:
            self._end(order, status)

    def move_stop(self, symbol: str, stop_price_usd: float) -> FakeOrder:
        """Replace a holding's stop by one at another price, as its owner would in the dashboard."""
        with self.lock:
            old = next(order for order in self._exits(symbol) if order.type == "stop")
            new = self._new_order(symbol, "sell", "stop", old.remaining, str(uuid.uuid4()))
            new.stop_price, new.status, new.time_in_force = Decimal(str(stop_price_usd)), old.status, old.time_in_force
            new.order_class, new.parent = old.order_class, old.parent
            if old.parent:
                old.parent.legs = [new if leg is old else leg for leg in old.parent.legs]
            old.status, old.ended_at = "replaced", self.now
            self.orders.append(new)
            return new

    def split(self, symbol: str, ratio: float) -> None:
        """Split a stock's shares into `ratio` times as many; its open orders are canceled."""
        with self.lock:
            for order in self.open_orders(symbol):
                self._end(order, "canceled")
            factor, held = Decimal(str(ratio)), self.positions[symbol]
            group = str(uuid.uuid4())
            for quantity in (-held.quantity, held.quantity * factor):  # the old shares go, the new ones come
                self.activities.note(self.now, "SPLIT", symbol=symbol, qty=text(quantity), group_id=group)
            self.positions[symbol] = FakePosition(held.quantity * factor, held.average_price / factor)
            self.prices[symbol] = float(self.price(symbol) / factor)
            for order in self.orders:
                if order.symbol == symbol:
                    order.split_ratio *= factor

    def buy_by_hand(self, symbol: str, quantity: float) -> FakeOrder:
        """Place a plain market buy as the owner would in the dashboard; `fills` applies to it."""
        with self.lock:
            order = self._new_order(symbol, "buy", "market", Decimal(str(quantity)), str(uuid.uuid4()))
            self.orders.append(order)
            self.work(order)
            return order

    def sell_by_hand(self, symbol: str) -> FakeOrder:
        """Sell a whole position as its owner would in the dashboard; the symbol's open orders are canceled first."""
        with self.lock:
            for order in self.open_orders(symbol):
                self._end(order, "canceled")
            order = self._new_order(symbol, "sell", "market", self.positions[symbol].quantity, str(uuid.uuid4()))
            self.orders.append(order)
            self._fill(order, order.quantity, self.price(symbol))
            return order

    def close_day(self) -> None:
        """Let day orders expire, and store the current equity as `last_equity`."""
        with self.lock:
            for order in self.open_orders():
                if order.time_in_force == "day":
                    self._end(order, "expired")
            self.last_equity, self.flows = self.equity, Decimal(0)

    # --- state -----------------------------------------------------------------------------------------------------

    @property
    def equity(self) -> Decimal:
        """Cash plus the market value, in USD."""
        return self.cash + self.market_value

    @property
    def counted_flows(self) -> Decimal:
        """The deposits less withdrawals in USD that the account itself counts."""
        today = self.now.astimezone(NEW_YORK).date()
        moved = [usd for moment, usd in self.transfers if moment.astimezone(NEW_YORK).date() == today]
        return self.flows if self.counts_from == "close" else sum(moved, Decimal(0))

    @property
    def market_value(self) -> Decimal:
        """The value of all positions at current prices, in USD."""
        return sum((p.quantity * self.price(symbol) for symbol, p in self.positions.items()), Decimal(0))

    @property
    def buying_power(self) -> Decimal:
        """The USD that may be spent on buys, including borrowed money."""
        return self.multiplier * self.own_buying_power

    @property
    def own_buying_power(self) -> Decimal:
        """The cash in USD that is not reserved for open buys, without borrowed money."""
        buys = [order for order in self.open_orders() if order.side == "buy"]
        return self.cash - sum((order.remaining * self.price(order.symbol) for order in buys), Decimal(0))

    def available(self, symbol: str) -> Decimal:
        """Return the number of shares not reserved for open sales; a bracket's two legs reserve the same shares."""
        if timing.monotonic() < self.free_from.get(symbol, 0.0):
            return Decimal(0)
        held = self.positions[symbol].quantity if symbol in self.positions else Decimal(0)
        claims: dict[str, Decimal] = {}
        for order in self.open_orders(symbol):
            if order.side == "sell" and (order.parent is None or order.parent.status == "filled"):
                claims[order.parent.id if order.parent else order.id] = order.remaining
        return max(Decimal(0), held - sum(claims.values(), Decimal(0)) - self.locked.get(symbol, 0))

    def price(self, symbol: str) -> Decimal:
        """Return the price of a share, in USD."""
        return Decimal(str(self.prices[symbol]))

    def market_is_open(self) -> bool:
        """Check whether the market is open now."""
        if self.is_open is not None:
            return self.is_open
        local = self.now.astimezone(NEW_YORK)
        hours = self.session(local.date())
        return hours is not None and hours[0] <= self.now < hours[1]

    def session(self, day: date) -> tuple[datetime, datetime] | None:
        """Return the opening and closing time of a day's session; None on a day without one."""
        if day.weekday() >= 5 or day in self.holidays:
            return None
        bells = (time(9, 30), time(13) if day in self.early_closes else time(16))
        opening, close = (datetime.combine(day, bell, NEW_YORK) for bell in bells)
        return opening, close

    def find(self, **wanted: str) -> FakeOrder:
        """Find an order by the values of its fields. Raises RefusalError if there is none."""
        for order in self.orders:
            if all(getattr(order, name) == value for name, value in wanted.items()):
                return order
        raise RefusalError(404, 40410000, f"order not found for {', '.join(wanted.values())}")

    # --- what Alpaca does with an order ----------------------------------------------------------------------------

    def accept(self, body: Mapping[str, JsonValue]) -> FakeOrder:
        """Check and enter an order without filling it: Alpaca answers first and fills afterwards (`work`)."""
        quantity = positive(body.get("qty"), "qty")
        order = self._new_order(
            body["symbol"], body["side"], body["type"], quantity, body.get("client_order_id") or str(uuid.uuid4())
        )
        order.time_in_force, order.order_class = body["time_in_force"], body.get("order_class", "")
        for name in ("stop_price", "limit_price"):
            if name in body:
                setattr(order, name, positive(body[name], name))
        self._check_intent(order, body.get("position_intent"))
        order.legs = self._legs_of(order, body) if order.order_class == "bracket" else []
        self._check_form(order)
        self._check_money(order)
        self.orders += [order, *order.legs]
        if order.symbol in self.rejected_at_once:
            self._end(order, "rejected")
        return order

    def work(self, order: FakeOrder) -> None:
        """Reject or fill an accepted order, as the options say."""
        if order.symbol in self.rejected_later:
            self._end(order, "rejected")
        elif order.is_open and self.market_is_open():
            order.status = "new"
            if order.type != "market" or order.symbol in self.suspended:
                return
            if self.fill_delay_s:
                order.filled_from = timing.monotonic() + self.fill_delay_s
                return
            shares = {"immediate": order.quantity, "partial": order.quantity // 2, "never": Decimal(0)}[self.fills]
            self._fill(order, shares, self.price(order.symbol))

    def cancel(self, order: FakeOrder) -> None:
        """Cancel an order and its related legs, at once or after `cancel_polls` requests.

        Raises RefusalError if the order has ended or is already being canceled.
        """
        if not order.is_open or order.status == "pending_cancel":
            raise RefusalError(422, 42210000, f'order is already in "{order.status}" state')
        if not self.cancel_polls:
            self._end(order, "canceled")
        for one in _family(order):
            if one.is_open:
                one.status, one.polls_until_canceled = "pending_cancel", self.cancel_polls

    def advance_cancels(self) -> None:
        """Count one request for orders or positions, and cancel the orders shown as pending `cancel_polls` times."""
        for order in [order for order in self.orders if order.status == "pending_cancel"]:
            if not order.polls_until_canceled:
                self._end(order, "canceled")
            order.polls_until_canceled -= 1

    def advance_fills(self) -> None:
        """Fill the orders whose delay is over."""
        for order in self.open_orders() if self.fill_delay_s and self.market_is_open() else ():
            if order.filled_from is not None and order.filled_from <= timing.monotonic():
                self._fill(order, order.remaining, self.price(order.symbol))

    def _new_order(self, symbol: str, side: str, kind: str, quantity: Decimal, client_order_id: str) -> FakeOrder:
        # A microsecond apart, so that orders submitted at the same simulated time can still be sorted.
        return FakeOrder(
            symbol=symbol,
            side=side,
            type=kind,
            quantity=quantity,
            client_order_id=client_order_id,
            status="pending_new" if self.market_is_open() else "accepted",
            submitted_at=self.now + timedelta(microseconds=next(self._tick)),
        )

    def _legs_of(self, parent: FakeOrder, body: Mapping[str, JsonValue]) -> list[FakeOrder]:
        side = "sell" if parent.side == "buy" else "buy"
        legs = [self._new_order(parent.symbol, side, kind, parent.quantity, str(uuid.uuid4())) for kind in _LEG_TYPES]
        for leg in legs:
            leg.parent, leg.status, leg.submitted_at = parent, "held", parent.submitted_at
            leg.order_class, leg.time_in_force = parent.order_class, parent.time_in_force
        legs[0].limit_price = positive(body.get("take_profit", {}).get("limit_price"), "take_profit.limit_price")
        legs[1].stop_price = positive(body.get("stop_loss", {}).get("stop_price"), "stop_loss.stop_price")
        return legs

    def _check_form(self, order: FakeOrder) -> None:
        if any(order.client_order_id == other.client_order_id for other in self.orders):
            raise RefusalError(422, 40010001, "client_order_id must be unique")
        if len(order.client_order_id) > 128:
            raise RefusalError(422, 40010001, "client_order_id must be no more than 128 characters")
        if order.symbol not in self.prices:
            raise RefusalError(422, 42210000, f'asset "{order.symbol}" not found')
        if order.quantity % 1 and (order.order_class or order.time_in_force != "day"):
            raise RefusalError(422, 42210000, "fractional orders must be simple DAY orders")
        for each in (order, *order.legs):
            _check_tick("limit_price", each.limit_price)
            _check_tick("stop_price", each.stop_price)
        if order.type == "stop" and order.side == "sell" and (order.stop_price or 0) >= self.price(order.symbol):
            raise RefusalError(422, 42210000, "stop price must be less than the current price")
        if order.legs and not (order.legs[1].stop_price or 0) < self.price(order.symbol) < (
            order.legs[0].limit_price or 0
        ):
            raise RefusalError(422, 42210000, "stop_loss must be below and take_profit above the base price")

    def _check_intent(self, order: FakeOrder, intent: str | None) -> None:
        held = self.positions[order.symbol].quantity if order.symbol in self.positions else Decimal(0)
        inferred = f"{order.side}_to_{'open' if (held >= 0) == (order.side == 'buy') or not held else 'close'}"
        if intent is not None and intent != inferred:
            message = f"position intent mismatch, inferred: {inferred}, specified: {intent}"
            raise RefusalError(422, 42210000, message)

    def _check_money(self, order: FakeOrder) -> None:
        if order.symbol in self.untradable:
            raise RefusalError(403, 40300000, f'asset "{order.symbol}" is not tradable')
        if any(self.account_overrides.get(flag) for flag in BLOCKING_FLAGS):
            raise RefusalError(403, 40310000, "account is not authorized to trade")
        opposite = [other for other in self.open_orders(order.symbol) if other.side != order.side]
        if opposite and not order.order_class:
            message = "potential wash trade detected. use complex orders"
            raise RefusalError(403, 40310000, message, existing_order_id=opposite[0].id)
        is_short = self.may_short and order.symbol not in self.positions
        if order.side == "sell" and order.quantity > (available := self.available(order.symbol)) and not is_short:
            numbers = f"requested: {text(order.quantity)}, available: {text(available)}"
            raise RefusalError(403, 40310000, f"insufficient qty available for order ({numbers})")
        if order.side == "buy" and order.quantity * self.price(order.symbol) > self.buying_power:
            raise RefusalError(403, 40310000, "insufficient buying power", buying_power=text(self.buying_power))

    def _fill(self, order: FakeOrder, shares: Decimal, price: Decimal) -> None:
        if not shares:
            return
        held = self.positions.get(order.symbol, FakePosition(Decimal(0), price))
        if order.side == "buy":
            cost = held.quantity * held.average_price + shares * price
            held = FakePosition(held.quantity + shares, cost / (held.quantity + shares))
            self.cash -= shares * price
        else:
            held = FakePosition(held.quantity - shares, held.average_price)
            self.cash += shares * price
        self.positions[order.symbol] = held
        if not held.quantity:
            del self.positions[order.symbol]
        order.filled_quantity += shares
        order.filled_price = price
        order.filled_at = self.now
        order.status = "partially_filled" if order.remaining else "filled"
        named = {"id": order.id, "symbol": order.symbol, "side": order.side, "status": order.status}
        self.activities.note_fill(self.now, named, shares, price, order.filled_quantity, order.remaining)
        if order.status == "filled" and order.legs:
            order.legs[0].status = "new"  # the take profit goes to the exchange; the stop stays held

    def _end(self, order: FakeOrder, status: str) -> None:
        for one in _family(order):
            if one.is_open:
                one.status = status if one is order else "canceled"
                one.ended_at = self.now
                if self.free_delay_s:
                    self.free_from[one.symbol] = timing.monotonic() + self.free_delay_s

    def _exits(self, symbol: str) -> list[FakeOrder]:
        """Return the open stops and limits that sell a position: the legs of filled entries, and single orders."""
        sales = [order for order in self.open_orders(symbol) if order.side == "sell" and order.type != "market"]
        return [order for order in sales if order.parent is None or order.parent.status == "filled"]

    def _trigger(self, symbol: str, kind: str) -> FakeOrder:
        with self.lock:
            legs = [order for order in self._exits(symbol) if order.type == kind]
            if not legs:
                raise LookupError(f"{symbol} has no live {kind} leg; open orders: {self.open_orders(symbol)}")
            leg = legs[0]
            price = min(leg.stop_price, self.price(symbol)) if leg.stop_price else leg.limit_price
            self._fill(leg, leg.remaining, price or Decimal(0))
            for other in _family(leg):
                if other.is_open:
                    other.status, other.ended_at = "canceled", self.now
            return leg


_LEG_TYPES = ("limit", "stop")


def _family(order: FakeOrder) -> Iterator[FakeOrder]:
    """Yield an order, then the orders that end with it: a parent's legs or a leg's sibling."""
    yield order
    relatives = order.parent.legs if order.parent else order.legs
    yield from [relative for relative in relatives if relative is not order]


def _check_tick(name: str, price: Decimal | None) -> None:
    if price is not None and price % Decimal("0.01" if price >= 1 else "0.0001"):
        message = f"invalid {name} {text(price)}. sub-penny increment does not fulfill minimum pricing criteria"
        raise RefusalError(422, 42210000, message)


def positive(value: JsonValue, name: str) -> Decimal:
    """Read a number above 0. Raises RefusalError for anything else."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal(0)
    if not number > 0:
        raise RefusalError(422, 40010001, f"{name} must be a number above 0")
    return number


def text(number: Decimal) -> str:
    """Format a number as Alpaca does, without an exponent or trailing zeros."""
    return format(number.normalize(), "f")
