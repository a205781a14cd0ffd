"""Execution: targets become orders, and the only room that places them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from trader.broker import Broker, BrokerError, OrderRejectedError, OrderUnclearError
from trader.model import Code, Denial, OpenOrder, Order, Side, Target
from trader.settings import Settings
from trader.slot import slot_id

ORDER_TIME_S = 45.0
"""Needed before an order is sent: its time limits and those of a look-up, and the report after it."""

CANCEL_TIME_S = 8.0
ATTEMPTS = 3


def plan(targets: Sequence[Target], slot: datetime, settings: Settings) -> tuple[Order, ...]:
    """The order for each target, with its deterministic client order id and, for a buy, its bracket. Pure."""
    return tuple(_order(target, slot, settings) for target in targets if target.change)


def client_order_id(strategy: str, slot: datetime, symbol: str, side: Side) -> str:
    """The same for every attempt at the same order, so that a broker takes it only once; at most 128 characters."""
    return f"{strategy}-{slot_id(slot)}-{symbol}-{side}"


def tick_price(price_usd: float) -> float:
    """Rounded to the tick of US stocks: a cent from one dollar on, a hundredth of a cent below (SEC Rule 612)."""
    tick = Decimal("0.01") if price_usd >= 1 else Decimal("0.0001")
    return float(Decimal(repr(price_usd)).quantize(tick, ROUND_HALF_UP))


def _order(target: Target, slot: datetime, settings: Settings) -> Order:
    side = Side.BUY if target.change > 0 else Side.SELL
    has_bracket = side is Side.BUY and settings.stop_loss_fraction > 0
    return Order(
        client_order_id=client_order_id(settings.strategy, slot, target.symbol, side),
        symbol=target.symbol,
        side=side,
        quantity=abs(target.change),
        price_usd=target.price_usd,
        stop_loss_usd=tick_price(target.price_usd * (1 - settings.stop_loss_fraction)) if has_bracket else None,
        take_profit_usd=tick_price(target.price_usd * (1 + settings.take_profit_fraction)) if has_bracket else None,
        reason=target.reason,
    )


def place(
    orders: Sequence[Order], open_orders: Sequence[OpenOrder], broker: Broker, remaining_s: Callable[[], float]
) -> Iterator[Order | Denial]:
    """Place each order once, in the order given, and yield what became of it.

    A refusal is that order's alone. An order whose fate nobody can tell is yielded as `unknown`, and then BrokerError
    ends the run: with such a broker no further order is safe.
    """
    for order in orders:
        try:
            if order.side is Side.SELL:
                yield _sell(order, open_orders, broker, remaining_s)
            else:
                yield _submit(order, broker, remaining_s)
        except OrderRejectedError as error:
            detail = f"{order.side} {order.quantity:g}: {error}"
            yield Denial(symbol=order.symbol, code=error.code, detail=detail)
        except _FateUnknownError as error:
            yield replace(order, status="unknown")
            raise BrokerError(str(error)) from error


class _FateUnknownError(Exception):
    """An order was sent, and neither its answer nor a look-up says what became of it."""


def _submit(order: Order, broker: Broker, remaining_s: Callable[[], float]) -> Order:
    """Send the order; after an unclear answer look it up, and send it again only if it is definitely not there."""
    reason = ""
    for _ in range(ATTEMPTS):
        _require_time(remaining_s)
        try:
            return _accepted(broker.submit(order))
        except OrderUnclearError as unclear:
            reason = str(unclear)
        try:
            found = broker.find(order)
        except BrokerError as error:
            raise _FateUnknownError(f"{order.client_order_id}: {reason}; looking it up: {error}") from error
        if found is not None:
            return _accepted(found)
    raise OrderRejectedError(f"not accepted in {ATTEMPTS} attempts, each looked up and not there: {reason}")


def _require_time(remaining_s: Callable[[], float]) -> None:
    if remaining_s() < ORDER_TIME_S:
        detail = f"not placed: {remaining_s():.0f} s left, and an order may take {ORDER_TIME_S:.0f}"
        raise OrderRejectedError(detail, Code.OUT_OF_TIME)


def _accepted(order: Order) -> Order:
    if order.status in {"rejected", "canceled", "expired", "suspended"} and not order.filled_quantity:
        raise OrderRejectedError(f"the broker has it as {order.status}")
    return order


def _sell(order: Order, open_orders: Sequence[OpenOrder], broker: Broker, remaining_s: Callable[[], float]) -> Order:
    """Free the shares from their bracket, and sell what is there then: a leg, or the owner, may have been faster."""
    _require_time(remaining_s)
    legs = [each for each in open_orders if each.symbol == order.symbol and each.is_leg]
    if legs:
        _release(legs, broker)
    position = broker.positions().get(order.symbol)
    held = position.quantity if position else 0.0
    if held <= 0:
        raise OrderRejectedError("nothing is held of it any more")
    try:
        return _submit(replace(order, quantity=min(order.quantity, held)), broker, remaining_s)
    except OrderRejectedError as error:
        if legs:
            raise OrderRejectedError(
                f"{error}; ITS STOP LOSS IS CANCELLED and nothing protects it", error.code
            ) from error
        raise


def _release(legs: Sequence[OpenOrder], broker: Broker) -> None:
    """Cancel the bracket legs that hold the shares, and wait until the broker says that they are gone."""
    for leg in legs:
        broker.cancel(leg)
    ids = {leg.order_id for leg in legs}
    gone = Retrying(retry=retry_if_result(bool), stop=stop_after_delay(CANCEL_TIME_S), wait=wait_fixed(0.25))
    try:
        gone(lambda: [each for each in broker.open_orders() if each.order_id in ids])
    except RetryError as error:
        raise OrderRejectedError(
            f"its stop-loss and take-profit orders are asked to be cancelled, but not gone after {CANCEL_TIME_S:.0f} s"
        ) from error
