"""Execution: targets become orders. Only this module places them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from time import sleep

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from trader.broker.base import Broker, OrderId, OrderRejectedError, OrderStateUnknownError
from trader.deadline import ORDER_TIME_S, Deadline
from trader.model import BrokerError, Code, Denial, OpenOrder, Order, OrderStatus, Side, Target
from trader.settings import Settings

CANCEL_TIME_S = 8.0
SETTLE_TIME_S = 3.0
ATTEMPTS = 3
PAUSE_S = 0.5


def plan(targets: Sequence[Target], slot: datetime, settings: Settings) -> tuple[Order, ...]:
    """Return the order for each target, with its deterministic client order id and, for a buy, its bracket. Pure."""
    return tuple(_order(target, slot, settings) for target in targets if target.change)


def tick_usd(price_usd: float) -> Decimal:
    """Return the tick of US stocks: a cent at prices from one dollar, a hundredth of a cent below (SEC Rule 612)."""
    return Decimal("0.01") if price_usd >= 1 else Decimal("0.0001")


def bracket_usd(price_usd: float, settings: Settings) -> tuple[float, float]:
    """Return the stop loss and take profit around a price, rounded to the tick and at least one tick away from it."""
    tick = tick_usd(price_usd)
    price = Decimal(repr(price_usd)).quantize(tick, ROUND_HALF_UP)
    stop, take = (
        Decimal(repr(price_usd * factor)).quantize(tick_usd(price_usd * factor), ROUND_HALF_UP)
        for factor in (1 - settings.stop_loss_fraction, 1 + settings.take_profit_fraction)
    )
    return float(max(min(stop, price - tick), Decimal("0.0001"))), float(max(take, price + tick))


def _order(target: Target, slot: datetime, settings: Settings) -> Order:
    side = Side.BUY if target.change > 0 else Side.SELL
    has_bracket = side is Side.BUY and settings.stop_loss_fraction > 0
    stop_loss_usd, take_profit_usd = bracket_usd(target.price_usd, settings) if has_bracket else (None, None)
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
    settle_time_s: float = SETTLE_TIME_S,
    may_go_on: Callable[[], None] = lambda: None,
) -> Iterator[Order | Denial]:
    """Place each order once, in the given sequence, and yield its result.

    `may_go_on` is called right before a buy is sent and before a sale is begun; it raises an error to end the run. The
    symbol's open orders and its position are read again right before each order: the decision is minutes old by then,
    and another run, a bracket's leg or the owner may have traded. A refusal concerns only its own order. An order whose
    state cannot be determined is yielded as `unknown`, and the error then ends the run, because no further order is
    safe with such a broker.
    """
    for order in orders:
        attempt = _Attempt(order, broker, deadline, settle_time_s, may_go_on)
        try:
            yield attempt.sell() if order.side is Side.SELL else attempt.buy()
        except OrderRejectedError as error:
            yield attempt.denial(error, error.code)
        except GeneratorExit:
            raise
        except BaseException as error:
            if attempt.sent is not None:
                yield replace(attempt.sent, status=OrderStatus.UNKNOWN)
            if attempt.has_lost_stop:
                yield attempt.denial(error, Code.ORDER_REJECTED)
            if attempt.sent is None or isinstance(error, BrokerError) or not isinstance(error, Exception):
                raise
            # For example a halt between two attempts. A run that leaves an order in doubt must end with an error.
            raise BrokerError(f"the state of {attempt.sent.client_order_id} is unknown; {error}") from error


class _Attempt:
    """The attempt to place one order, and its progress so far."""

    def __init__(
        self,
        order: Order,
        broker: Broker,
        deadline: Deadline,
        settle_time_s: float,
        may_go_on: Callable[[], None],
    ) -> None:
        self._order = order
        self._broker = broker
        self._deadline = deadline
        self._settle_time_s = settle_time_s
        self._may_go_on = may_go_on
        self.sent: Order | None = None  # set while the state of the order is unknown
        self.has_lost_stop = False  # its bracket is canceled, so the shares held are not protected

    def denial(self, error: BaseException, code: Code) -> Denial:
        """Return the denial with the reason and, if the stop loss is already canceled, a warning."""
        warning = "; ITS STOP LOSS IS CANCELED and the shares held are not protected" if self.has_lost_stop else ""
        detail = f"{self._order.side} {self._order.quantity:g}: {error}{warning}"
        return Denial(symbol=self._order.symbol, code=code, detail=detail, is_unprotected=self.has_lost_stop)

    def buy(self) -> Order:
        """Buy the symbol, unless it is held or on order by now."""
        self._require_time(ORDER_TIME_S)
        if self._open_orders():
            raise OrderRejectedError("another order for this symbol is open now", Code.OPEN_ORDER_PENDING)
        if self._read_held():
            raise OrderRejectedError("the symbol is held now", Code.POSITION_CAP)
        return self._submit(self._order)

    def sell(self) -> Order:
        """Cancel the bracket that reserves the shares, then sell those still held; no gate stops a sale once begun."""
        self._may_go_on()
        self._require_time(ORDER_TIME_S + CANCEL_TIME_S + self._settle_time_s)
        open_orders = self._open_orders()
        legs = [each for each in open_orders if each.is_leg]
        if len(legs) < len(open_orders):
            raise OrderRejectedError("another order for this symbol is open now", Code.OPEN_ORDER_PENDING)
        if legs and self._order.quantity < self._read_held():
            raise OrderRejectedError("a sale of only a part would cancel the bracket that protects all shares held")
        if legs:
            self._release(legs)
        held = self._read_held()
        if held <= 0:
            self.has_lost_stop = False
            raise OrderRejectedError("no shares of this symbol are held any more")
        sold = self._submit(replace(self._order, quantity=min(self._order.quantity, held)))
        return self._await_fill(sold) if legs else sold

    def _submit(self, order: Order) -> Order:
        """Send the order; after an unclear answer look it up, and resend it only if it definitely does not exist."""
        reason = ""
        for attempt in range(ATTEMPTS):
            if order.side is Side.BUY:
                self._may_go_on()
            self.sent = order
            try:
                return self._confirm(self._broker.submit(order))
            except OrderStateUnknownError as unclear:
                reason, is_final = str(unclear), unclear.is_taken or unclear.is_refused
                is_refusal = unclear.is_refused and not attempt
            except (OrderRejectedError, BrokerError) as error:
                if not attempt:
                    self.sent = None
                    raise
                # The previous attempt may have been accepted after all, and be the reason for this refusal.
                reason, is_final, is_refusal = f"{reason}; sent again: {error}", True, False
            if (found := self._look_up(order, reason)) is not None:
                return self._confirm(found)
            if is_refusal:
                self.sent = None
                raise OrderRejectedError(f"{reason}; a lookup did not find it")
            if is_final or not self._deadline.allows(ORDER_TIME_S):
                break
        # A request without an answer may still be on its way, so this is not a refusal.
        raise BrokerError(f"{order.client_order_id}: {reason}; a lookup did not find it, but it may yet be accepted")

    def _look_up(self, order: Order, reason: str) -> Order | None:
        """Look the order up at the broker twice; return None if it definitely does not exist."""
        try:
            for pause_s in (0.0, PAUSE_S):
                sleep(pause_s)
                if (found := self._broker.find(order)) is not None:
                    return found
        except BrokerError as error:
            raise BrokerError(f"{order.client_order_id}: {reason}; the lookup failed: {error}") from error
        return None

    def _confirm(self, order: Order) -> Order:
        self.sent = None
        if order.came_to_nothing:
            raise OrderRejectedError(f"the broker reports it as {order.status}")
        return order

    def _release(self, legs: Sequence[OpenOrder]) -> None:
        """Cancel the bracket legs that reserve the shares, and wait until the broker no longer lists them."""
        self.has_lost_stop = True
        for leg in legs:
            self._broker.cancel(leg)
        gone = Retrying(retry=retry_if_result(bool), stop=stop_after_delay(CANCEL_TIME_S), wait=wait_fixed(0.25))
        try:
            gone(self._open_orders)
        except RetryError as error:
            raise OrderRejectedError(
                f"its bracket is still open {CANCEL_TIME_S:.0f} s after the request to cancel it"
            ) from error

    def _await_fill(self, order: Order) -> Order:
        """Wait for the sale to fill, up to the settle time, and return it; an accepted order may still be rejected."""
        over = Retrying(
            retry=retry_if_result(lambda found: not (found.status is OrderStatus.FILLED or found.status.is_dead)),
            stop=stop_after_delay(self._settle_time_s),
            wait=wait_fixed(0.25),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else order,
        )

        def now() -> Order:
            try:
                return self._broker.find(order) or order
            except BrokerError:
                return order  # all that is certain is that it was accepted

        settled: Order = over(now)
        return self._confirm(settled)

    def _open_orders(self) -> list[OpenOrder]:
        return [each for each in self._broker.open_orders() if each.symbol == self._order.symbol]

    def _read_held(self) -> float:
        position = self._broker.positions().get(self._order.symbol)
        return position.quantity if position else 0.0

    def _require_time(self, needed_s: float) -> None:
        if (left_s := self._deadline.remaining_s()) < needed_s:
            detail = f"not placed: {left_s:.0f} s left, but it may take {needed_s:.0f} s"
            raise OrderRejectedError(detail, Code.OUT_OF_TIME)
