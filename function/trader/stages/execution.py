"""Execution: targets become orders. Only this stage places what was decided."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import chain, repeat

from trader.broker.base import Broker, OrderId, OrderRejectedError, SharesReservedError
from trader.broker.sending import Sender
from trader.broker.waiting import CANCEL_TIME_S, await_end, cancel, looks
from trader.deadline import ORDER_TIME_S, Deadline
from trader.model import (
    BrokerError,
    Code,
    Denial,
    OpenOrder,
    Order,
    OrderStatus,
    Position,
    Shares,
    Side,
    Target,
    round_to_tick,
    tick_usd,
)
from trader.reading import Begin, Reading, in_turn
from trader.settings import Settings

FILL_TIME_S = 10.0
"""How long the last orders of a run may take to fill before what is left of them is canceled."""

FREE_TIME_S = 20.0
"""How long the shares of a canceled bracket may take to become free."""

SALE_REQUESTS = 15
"""The requests that a sale may need from its first look at the account until it is accepted."""

BUY_REQUESTS = 8
"""The requests that a buy may need, if all that it reads has to be read again."""

PRICES_AGE_S = 30.0
"""The age up to which the latest trades are good for another buy."""


type BeginGates = Callable[[Begin], Callable[[], None]]
"""Begins the reads that tell whether the run may go on, and returns the check, which raises an error to end the run."""


def plan(targets: Sequence[Target], slot: datetime, settings: Settings) -> tuple[Order, ...]:
    """Return the order for each target, with its deterministic client order id and, for a buy, its bracket. Pure."""
    return tuple(_order(target, slot, settings) for target in targets if target.change)


def bracket_usd(price_usd: float, stop_loss_fraction: float, take_profit_fraction: float) -> tuple[float, float]:
    """Return the stop loss and take profit around a price, rounded to the tick and at least one tick away from it."""
    tick = tick_usd(price_usd)
    price = round_to_tick(price_usd)
    stop, take = (round_to_tick(price_usd * factor) for factor in (1 - stop_loss_fraction, 1 + take_profit_fraction))
    return float(max(min(stop, price - tick), Decimal("0.0001"))), float(max(take, price + tick))


def _order(target: Target, slot: datetime, settings: Settings) -> Order:
    side = Side.BUY if target.change > 0 else Side.SELL
    stop_loss_usd, take_profit_usd = None, None
    if side is Side.BUY and settings.stop_loss_fraction > 0:
        stop_loss_usd, take_profit_usd = bracket_usd(
            target.price_usd,
            min(target.stop_loss_fraction or 1.0, settings.stop_loss_fraction),
            target.take_profit_fraction or settings.take_profit_fraction,
        )
        if settings.shares is Shares.FRACTIONAL:
            take_profit_usd = None  # no bracket for a part of a share: protection places the stop
    return Order(
        client_order_id=str(OrderId(settings.strategy, slot, target.symbol, side)),
        symbol=target.symbol,
        side=side,
        quantity=abs(target.change),
        price_usd=target.price_usd,
        stop_loss_usd=stop_loss_usd,
        take_profit_usd=take_profit_usd,
        reason=target.reason,
    )


def place(
    orders: Sequence[Order],
    broker: Broker,
    deadline: Deadline,
    *,
    max_drift_fraction: float,
    begin_gates: BeginGates = lambda _: lambda: None,
    require_timely: Callable[[], None] = lambda: None,
    reading: Reading = in_turn,
) -> Iterator[Order | Denial]:
    """Place each order once, in the given sequence, and yield its result.

    The gates are checked right before a buy is sent and before a sale is begun, and `require_timely`, which costs no
    request, before each further step of a sale; they raise an error to end the run. The symbol's open orders and its
    position are read again right before each order: the decision is minutes old by then, and another run, a bracket's
    leg or the owner may have traded. `reading` says whether all this is read side by side; the orders are sent one by
    one in any case, each after its own reads. A buy whose latest trade differs from the price of the decision by more
    than `max_drift_fraction` is refused.

    A refusal concerns only its own order, unless its reason is the account or the moment: then nothing further is sent.
    Once a sale has failed after its bracket was canceled, no other bracket is canceled in that run.
    An order whose state cannot be determined is yielded as `unknown`, and the error then ends the run, because no
    further order is safe with such a broker.
    """
    placement = _Placement(orders, broker, deadline, max_drift_fraction, begin_gates, require_timely, reading)
    for order in orders:
        yield from placement.place(order)


def close_out(orders: Sequence[Order], broker: Broker, fill_time_s: float = FILL_TIME_S) -> Iterator[Order | Denial]:
    """Wait until the orders are filled, cancel what is left of them, and yield each order whose state has changed.

    An order that came to nothing, or that is still open, is yielded with a denial.
    """
    sent = [order for order in orders if not order.is_final and order.status is not OrderStatus.UNKNOWN]
    if not sent:
        return
    now = await_end(sent, broker, fill_time_s)
    late = {order.client_order_id for order in now if not order.is_final}
    if late:
        now = cancel(now, broker)
    for before, order in zip(sent, now, strict=True):
        if order != before:
            yield order
        words = f"{order.side} {order.quantity:g}: "
        if order.came_to_nothing and order.client_order_id in late:
            words += f"canceled, because it was not filled {fill_time_s:g} s after the last order was sent"
            yield Denial(symbol=order.symbol, code=Code.NOT_FILLED, detail=words)
        elif order.came_to_nothing:
            words += f"accepted, but then the broker reports it as {order.status}"
            yield Denial(symbol=order.symbol, code=Code.ORDER_REJECTED, detail=words)
        elif not order.is_final:
            words += (
                f"still {order.status} {CANCEL_TIME_S:g} s after the request to cancel it; the next run tries again"
            )
            yield Denial(symbol=order.symbol, code=Code.OPEN_ORDER_PENDING, detail=words)


class _Placement:
    """The orders of one run, and what has become of them so far."""

    def __init__(
        self,
        orders: Sequence[Order],
        broker: Broker,
        deadline: Deadline,
        max_drift_fraction: float,
        begin_gates: BeginGates,
        require_timely: Callable[[], None],
        reading: Reading,
    ) -> None:
        self._buys = [order.symbol for order in orders if order.side is Side.BUY]
        self._broker = broker
        self._deadline = deadline
        self._max_drift_fraction = max_drift_fraction
        self._begin_gates = begin_gates
        self._require_timely = require_timely
        self._reading = reading
        self._sender = Sender(broker, deadline)
        self._sales: list[Order] = []  # accepted, and not known to be filled
        self._obstacle = ""  # why nothing further is sent
        self._has_lost_stop = False  # the bracket of the present order is canceled
        self._failed_symbol = ""  # whose sale failed after its bracket was canceled
        self._prices_usd: Mapping[str, float] = {}
        self._prices_error = ""  # why there are none
        self._priced_at = float("-inf")  # monotonic

    def place(self, order: Order) -> Iterator[Order | Denial]:
        """Place one order, and yield what became of it."""
        self._has_lost_stop = False
        if self._obstacle:
            yield self._deny(order, f"not sent, because {self._obstacle}", Code.ORDER_REJECTED)
            return
        try:
            yield self._sell(order) if order.side is Side.SELL else self._buy(order)
        except OrderRejectedError as error:
            if self._has_lost_stop:
                self._failed_symbol = order.symbol
            if error.is_general:
                self._obstacle = f"an order of this run was refused for a reason beyond that order ({error})"
            yield self._deny(order, error, error.code)
        except GeneratorExit:
            raise
        except BaseException as error:
            doubtful = self._sender.in_doubt
            if doubtful is not None:
                yield replace(doubtful, status=OrderStatus.UNKNOWN)
            if self._has_lost_stop:
                yield self._deny(order, error, Code.ORDER_REJECTED)
            if doubtful is None or isinstance(error, BrokerError) or not isinstance(error, Exception):
                raise
            # For example a halt between two attempts. A run that leaves an order in doubt must end with an error.
            raise BrokerError(f"the state of {doubtful.client_order_id} is unknown; {error}") from error

    def _deny(self, order: Order, reason: object, code: Code) -> Denial:
        warning = "; its stop loss was canceled for the sale" if self._has_lost_stop else ""
        return Denial(
            symbol=order.symbol,
            code=code,
            detail=f"{order.side} {order.quantity:g}: {reason}{warning}",
            is_unprotected=self._has_lost_stop,
        )

    # --- a buy -----------------------------------------------------------------------------------------------------

    def _buy(self, order: Order) -> Order:
        """Buy the symbol, unless it is held or on order by now, or its price is no longer that of the decision."""
        self._broker.reserve_requests(BUY_REQUESTS)
        has_stop_after = order.stop_loss_usd is not None and not order.is_bracket
        self._require_time(ORDER_TIME_S * (2 if has_stop_after else 1))
        are_old = time.monotonic() - self._priced_at > PRICES_AGE_S
        if not are_old:
            self._require_price(order)  # before anything is read for it
        with self._reading() as begin:
            prices = begin(lambda: self._broker.latest_prices_usd(self._buys)) if are_old else None
            open_orders, positions = begin(self._broker.open_orders), begin(self._broker.positions)
            checks = chain([self._begin_gates(begin)], repeat(self._pass_gates))  # again before another attempt
            if prices:
                self._note_prices(prices)
                self._require_price(order)
            if any(each.symbol == order.symbol for each in open_orders()):
                raise OrderRejectedError("another order for this symbol is open now", Code.OPEN_ORDER_PENDING)
            position = positions().get(order.symbol)
            if position and position.quantity:
                raise OrderRejectedError("the symbol is held now", Code.POSITION_CAP)
            return self._sender.send(order, lambda: next(checks)())

    def _pass_gates(self) -> None:
        with self._reading() as begin:
            self._begin_gates(begin)()

    def _note_prices(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Note the latest trades, which one request returns for all buys."""
        self._prices_usd, self._prices_error = {}, ""
        try:
            self._prices_usd = read()
        except BrokerError as error:  # the next buy would wait for the same answer
            self._prices_error = str(error)
        self._priced_at = time.monotonic()

    def _require_price(self, order: Order) -> None:
        """Compare the decision with the latest trade."""
        if self._prices_error:
            words = f"the latest trade cannot be compared with the price of the decision: {self._prices_error}"
            raise OrderRejectedError(words, Code.STALE_PRICE)
        price_usd = self._prices_usd.get(order.symbol)
        if price_usd is None:
            words = "the broker has no latest trade of today to compare with the price of the decision"
            raise OrderRejectedError(words, Code.STALE_PRICE)
        if abs(price_usd / order.price_usd - 1) > self._max_drift_fraction:
            decided = f"decided at {order.price_usd:,.2f} USD, but the latest trade is at {price_usd:,.2f}"
            limit = f"MAX_PRICE_DRIFT_FRACTION={self._max_drift_fraction:g}"
            raise OrderRejectedError(f"{decided}; {limit}", Code.STALE_PRICE)

    # --- a sale ----------------------------------------------------------------------------------------------------

    def _sell(self, order: Order) -> Order:
        """Sell the shares held. The bracket that reserves them is canceled only after a try without that.

        The first try shows whether the account and the moment allow a sale at all: if the only obstacle is that the
        bracket reserves the shares, it makes way.
        """
        self._broker.reserve_requests(SALE_REQUESTS)  # first, because it may take a minute
        open_orders, positions = self._read_for_sale()
        self._require_earlier_sales(open_orders, positions)
        others = [each for each in open_orders if each.symbol == order.symbol]
        exits = [each for each in others if each.is_leg]
        if len(exits) < len(others):
            raise OrderRejectedError("another order for this symbol is open now", Code.OPEN_ORDER_PENDING)
        position = positions.get(order.symbol)
        if position is None or position.quantity <= 0:
            raise OrderRejectedError("no shares of this symbol are held any more")
        sale = replace(order, quantity=min(order.quantity, position.quantity))
        if exits and sale.quantity < position.quantity:
            raise OrderRejectedError("a sale of only a part would cancel the bracket that protects all shares held")
        _require_free(sale, position, exits)
        try:
            sold = self._sender.send(sale, has_exits=bool(exits))
        except SharesReservedError:
            if not exits:
                raise
            sold = self._release_and_sell(sale, exits)
        self._sales.append(sold)
        return sold

    def _read_for_sale(self) -> tuple[Sequence[OpenOrder], Mapping[str, Position]]:
        """Return the open orders and the holdings, if the gates and the time that is left allow a sale."""
        with self._reading() as begin:
            pass_gates = self._begin_gates(begin)
            open_orders, positions = begin(self._broker.open_orders), begin(self._broker.positions)
            pass_gates()
            self._require_time(ORDER_TIME_S + FREE_TIME_S)
            return open_orders(), positions()

    def _release_and_sell(self, sale: Order, exits: Sequence[OpenOrder]) -> Order:
        """Cancel what reserves the shares, and sell them as soon as they are free.

        Of the gates, only the age of the decision stops a sale that has begun: the machine may have been asleep.
        """
        if all(each.status is OrderStatus.PENDING_CANCEL for each in exits):
            raise OrderRejectedError("its shares are reserved by orders that the broker has not finished canceling")
        if self._failed_symbol:
            words = f"its stop is kept, because the sale of {self._failed_symbol} failed after its stop was canceled"
            raise OrderRejectedError(words)
        self._require_timely()
        self._has_lost_stop = True
        # A leg cancels its sibling; so does the order of a pair that has the other one as its leg.
        parents_last = sorted(exits, key=lambda each: not each.parent_id)
        for leg in {each.parent_id or each.order_id: each for each in parents_last}.values():
            self._broker.cancel(leg)
        reason = "they are not shown as free"
        for _ in looks(FREE_TIME_S):
            self._require_timely()
            position = self._broker.positions().get(sale.symbol)
            if position is None or position.quantity <= 0:
                self._has_lost_stop = False
                raise OrderRejectedError("no shares of this symbol are held any more")
            quantity = min(sale.quantity, position.quantity)
            if position.available is not None and position.available < quantity:
                continue
            try:
                return self._sender.send(replace(sale, quantity=quantity), has_exits=True)
            except SharesReservedError as error:
                reason = str(error)
        words = f"its shares are still reserved {FREE_TIME_S:g} s after its bracket was canceled ({reason})"
        raise OrderRejectedError(words, is_general=True)

    def _require_earlier_sales(self, open_orders: Sequence[OpenOrder], positions: Mapping[str, Position]) -> None:
        """Begin no further sale if an earlier one was accepted and then came to nothing, as the next might as well."""
        pending = {each.client_order_id for each in open_orders}
        self._sales = [each for each in self._sales if each.client_order_id in pending or each.symbol in positions]
        ended = [each for each in self._sales if each.client_order_id not in pending]
        for sale in self._broker.refresh(ended) if ended else ():
            if sale.status.is_dead:
                words = f"the sale of {sale.symbol} was accepted, but then the broker reports it as {sale.status}"
                raise OrderRejectedError(words, is_general=True)

    # --- both ------------------------------------------------------------------------------------------------------

    def _require_time(self, needed_s: float) -> None:
        if (left_s := self._deadline.remaining_s()) < needed_s:
            detail = f"not placed: {left_s:.0f} s left, but it may take {needed_s:.0f} s"
            raise OrderRejectedError(detail, Code.OUT_OF_TIME)


def _require_free(sale: Order, position: Position, exits: Sequence[OpenOrder]) -> None:
    """Raise OrderRejectedError if the shares would not be free even without these exits."""
    if position.available is None:
        return
    reserved: dict[str, float] = {}
    for each in exits:  # the legs of one bracket reserve the same shares
        group = each.parent_id or (each.order_class and "bracket") or each.order_id
        reserved[group] = max(reserved.get(group, 0.0), each.quantity)
    free = position.available + sum(reserved.values())
    if free < sale.quantity:
        words = (
            f"only {free:g} of the {position.quantity:g} shares held can be sold; something else reserves the others"
        )
        raise OrderRejectedError(words)
