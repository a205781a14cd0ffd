"""Settlement: what became of the orders of earlier runs. An entry that nobody decided on any more is canceled."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from trader.broker.base import Broker, OrderHistory, OrderId
from trader.broker.waiting import cancel
from trader.codec import encode
from trader.deadline import ORDER_TIME_S, Deadline
from trader.journal.base import OrderStore
from trader.model import Order, Settled, Side

LOG = logging.getLogger("trader")

BEFORE, AFTER = timedelta(minutes=10), timedelta(minutes=5)
"""The time around the slots and the present in which the broker's orders are looked for: clocks differ."""

MAX_SLOTS = 30
"""The most slots that one run settles, each with two accesses to the journal; the next run goes on with the others."""

DOUBT = timedelta(days=1)
"""How long an order is looked for that the broker does not list."""


def settle(
    slots: Sequence[datetime],
    broker: Broker,
    history: OrderHistory,
    store: OrderStore,
    strategy: str,
    now: datetime,
    deadline: Deadline,
) -> list[Settled]:
    """Look at the orders of these earlier slots, cancel those still open, and return each that its record misstates.

    One request lists all orders. A slot whose orders have all ended is noted in the journal, and not looked at again.
    Raises BrokerError or JournalError if a call fails.
    """
    slots = sorted(slots)[:MAX_SLOTS]
    if not slots or not deadline.allows(ORDER_TIME_S):
        return []
    listed = history.list_orders(slots[0] - BEFORE, now + AFTER)
    own = [order for order in listed if _slot_of(order, strategy) in slots]
    ended = {order.client_order_id: order for order in cancel(own, broker)}
    settled: list[Settled] = []
    for slot in slots:
        mine = [order for order in ended.values() if _slot_of(order, strategy) == slot]
        orders = store.recorded_orders(slot)
        if orders is None:
            names = ", ".join(order.client_order_id for order in mine)
            extra = {"strategy": strategy, "slot": encode(slot), "orders": names}
            LOG.error("the record of an earlier run cannot be read; reconcile it", extra=extra)
        recorded = {order.client_order_id: order for order in orders or ()}
        settled += find_differences(recorded.values(), mine)
        # The broker must know an order that was not over, unless it has lost it or its list is not complete.
        in_doubt = [name for name, order in recorded.items() if not order.is_final and name not in ended]
        if all(order.is_final for order in mine) and not (in_doubt and now - slot < DOUBT):
            store.note_settled(slot, mine)
    for order in ended.values():
        if not order.is_final:
            extra = {"strategy": strategy, "symbol": order.symbol, "client_order_id": order.client_order_id}
            LOG.error("an order of an earlier run is still open", extra={**extra, "status": order.status})
    for each in settled:
        level = logging.ERROR if each.side is Side.SELL else logging.WARNING
        LOG.log(level, "settled", extra={"strategy": strategy, **encode(each)})
    return settled


def _slot_of(order: Order, strategy: str) -> datetime | None:
    """Return the slot of one of the strategy's own entries or sales; None for any other order, such as a stop."""
    parts = OrderId.parse(order.client_order_id)
    return parts.slot if parts and parts.strategy == strategy and not parts.stop_number else None


# --- pure ----------------------------------------------------------------------------------------------------------


def find_differences(recorded: Iterable[Order], ended: Sequence[Order]) -> list[Settled]:
    """Return the recorded orders that were filled to another extent than recorded, or came to nothing unrecorded."""
    now = {order.client_order_id: order for order in ended}
    pairs = [(then, now[then.client_order_id]) for then in recorded if then.client_order_id in now]
    return [
        Settled(
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            quantity=order.quantity,
            recorded_status=then.status,
            status=order.status,
            filled_quantity=order.filled_quantity,
            filled_price_usd=order.filled_price_usd,
        )
        for then, order in pairs
        if order.filled_quantity != then.filled_quantity or (order.status.is_dead and not then.status.is_dead)
    ]
