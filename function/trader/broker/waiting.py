"""Waiting for the broker: looks with growing pauses, each of which is one request however many orders it is for."""

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from time import sleep

from trader.broker.base import Broker
from trader.model import BrokerError, Order

LOG = logging.getLogger("trader")

PAUSES_S = (0.5, 1.0, 2.0)
"""The pauses between two looks; the last one repeats."""

CANCEL_TIME_S = 8.0
"""How long to wait until a canceled order is gone."""


def looks(for_s: float) -> Iterator[None]:
    """Yield at once, and again after each pause until the time is over."""
    until = time.monotonic() + for_s
    for pause_s in chain(PAUSES_S, repeat(PAUSES_S[-1])):
        yield
        if time.monotonic() + pause_s > until:
            return
        sleep(pause_s)


def await_end(orders: Sequence[Order], broker: Broker, for_s: float) -> tuple[Order, ...]:
    """Return the orders as they are once all of them have ended, or once the time is over."""
    now = tuple(orders)
    if all(order.is_final for order in now):
        return now
    for _ in looks(for_s):
        try:
            now = broker.refresh(now)
            if all(order.is_final for order in now):  # before the pause, which would be for nothing
                break
        except BrokerError as error:  # a later look may succeed; until then, what is known is still true
            LOG.warning("orders could not be looked at", extra={"error": str(error)})
    return now


def cancel(orders: Sequence[Order], broker: Broker) -> tuple[Order, ...]:
    """Cancel the orders that have not ended, and return all of them once they have, or once the time is over."""
    for order in orders:
        if not order.is_final:
            try:
                broker.cancel(order)
            except BrokerError as error:  # the others are canceled nevertheless, and the caller sees what is open
                extra = {"symbol": order.symbol, "client_order_id": order.client_order_id, "error": str(error)}
                LOG.warning("an order could not be canceled", extra=extra)
    return await_end(orders, broker, CANCEL_TIME_S)
