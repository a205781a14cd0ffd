"""Sending an order at most once: after an unclear answer it is looked up, never sent again blindly."""

from collections.abc import Callable
from time import sleep

from trader.broker.base import Broker, OrderRejectedError, OrderStateUnknownError, SharesReservedError
from trader.deadline import ORDER_TIME_S, Deadline
from trader.model import BrokerError, Order

ATTEMPTS = 3
PAUSE_S = 0.5


class Sender:
    """Sends orders to a broker. `in_doubt` is the order whose state is unknown at the moment; None if there is none."""

    def __init__(self, broker: Broker, deadline: Deadline) -> None:
        """Store the arguments; nothing is sent."""
        self._broker = broker
        self._deadline = deadline
        self.in_doubt: Order | None = None

    def send(self, order: Order, before: Callable[[], None] = lambda: None, *, has_exits: bool = False) -> Order:
        """Send the order; after an unclear answer look it up, and resend it only if it definitely does not exist.

        `before` is called before each attempt; it raises an error to end the run. `has_exits`: a bracket or a stop is
        known to reserve the shares of a sale, so a refusal for that reason is no sign of an earlier attempt. Raises
        OrderRejectedError if the order was definitely refused or came to nothing. With any other error, the state of
        the order is unknown if `in_doubt` is set.
        """
        reason = ""
        for attempt in range(ATTEMPTS):
            before()
            self.in_doubt, is_reserved = order, False
            try:
                return self._confirm(self._broker.submit(order))
            except OrderStateUnknownError as unclear:
                reason, is_final = str(unclear), unclear.is_taken or unclear.is_refused
                is_refusal = unclear.is_refused and not attempt
            except (OrderRejectedError, BrokerError) as error:
                if not attempt:
                    self.in_doubt = None
                    raise
                # The previous attempt may have been accepted after all, and be the reason for this refusal.
                reason, is_final, is_refusal = f"{reason}; sent again: {error}", True, False
                is_reserved = has_exits and isinstance(error, SharesReservedError)
            if (found := self._look_up(order, reason)) is not None:
                return self._confirm(found)
            if is_refusal:
                self.in_doubt = None
                raise OrderRejectedError(f"{reason}; a lookup did not find it")
            if is_reserved:
                self.in_doubt = None
                raise SharesReservedError(reason)
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
        self.in_doubt = None
        if order.came_to_nothing:
            raise OrderRejectedError(f"the broker reports it as {order.status}", order=order)
        return order
