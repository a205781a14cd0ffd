"""Recovery of runs that were cut off: a later run records them from their plans and the broker's order history."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trader.broker.base import OrderHistory, OrderId, UnexpectedResponseError
from trader.codec import decode, encode
from trader.deadline import ORDER_TIME_S, Deadline
from trader.journal.base import DamagedError, JournalError, Run
from trader.journal.chain import build_chain
from trader.journal.entry import Journal, JournalEntry
from trader.journal.record import VERSION, build_record, build_report
from trader.model import BrokerError, BrokerName, Code, Json, Order, Outcome, Report, RunStopped, Side
from trader.settings import Settings

LOG = logging.getLogger("trader")

BEFORE, AFTER = timedelta(minutes=10), timedelta(minutes=30)
"""The time around a slot that contains its orders: an event may be five minutes late, and a run may take fifteen."""

MAX_LOOKED_UP = 100  # Alpaca allows about 200 requests a minute


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """The plan that a run saved before its first order, and the orders in it."""

    record: Json
    orders: Sequence[Order]


def recover(
    run: Run,
    journal: Journal,
    history: OrderHistory,
    deadline: Deadline,
    kept: Mapping[str, set[datetime]] | None = None,
) -> None:
    """Record every run of the strategy that was cut off, and note each in `run` as soon as it is recorded.

    `kept` is what the journal lists for the last days, if that is known.

    Raises BrokerError or JournalError if a call fails; the next run recovers the rest. Raises RunStopped if another run
    of the strategy may be under way: two runs must not trade on the account side by side, so the one that sees the
    other stops. (Each claims its slot before it looks, so at least one sees the other.)
    """
    others = [claim for claim in journal.list_unfinished(run.now, kept=kept) if claim.slot != run.slot]
    over = [claim for claim in others if claim.is_over(run.now)]
    for done, claim in enumerate(over):
        if not deadline.allows(ORDER_TIME_S):
            left_s = round(deadline.remaining_s())
            extra = {"strategy": run.settings.strategy, "slots": len(over) - done, "left_s": left_s}
            LOG.warning("no time to recover; the next run tries again", extra=extra)
            break
        if recover_slot(journal.entry(claim.slot), run.settings, history, deadline) is not None:
            run.recovered.append(claim.slot)
    if under_way := [claim for claim in others if claim not in over]:
        slots = ", ".join(encode(claim.slot) for claim in under_way)
        over_after = max(claim.is_over_after for claim in under_way)
        detail = f"the run of {slots} has not ended yet; it will certainly be over after {encode(over_after)}"
        raise RunStopped(Code.UNDER_WAY, detail)


def recover_slot(
    entry: JournalEntry, settings: Settings, history: OrderHistory, deadline: Deadline | None = None
) -> Json | None:
    """Save and return the record of a run that was cut off; None if it has one by now or used another account."""
    slot = entry.slot
    plan = load_plan(entry)
    if plan and (elsewhere := find_differing_account(plan, settings)):
        extra = {"strategy": settings.strategy, "slot": encode(slot), "settings": elsewhere}
        LOG.error(
            "a run that was cut off used another account: reconcile it with the settings that it had", extra=extra
        )
        return None
    own = select_slot(history.list_orders(slot - BEFORE, slot + AFTER), settings.strategy, slot)
    stops = [order for order in own if is_stop(order)]
    listed = [order for order in own if not is_stop(order)]
    found = find_unlisted(plan.orders if plan else (), listed, history, deadline or Deadline.never())
    orders = complete_orders([*listed, *found], plan)
    record = build_interrupted_record(slot, settings, plan, orders, stops)
    if not entry.adopt(record):
        return None
    symbols = ",".join(order.symbol for order in orders)
    extra = {"strategy": settings.strategy, "slot": encode(slot), "orders": len(orders), "symbols": symbols}
    LOG.error("interrupted", extra={**extra, "detail": record["report"]["detail"]})
    return record


def find_unlisted(
    orders: Sequence[Order], listed: Sequence[Order], history: OrderHistory, deadline: Deadline
) -> list[Order]:
    """Look up by id the planned orders that the broker's list lacks: the list may be out of date, or a clock wrong.

    Only the first MAX_LOOKED_UP are looked up, because orders are placed one after the other. Raises BrokerError if the
    time runs out.
    """
    ids = {order.client_order_id for order in listed}
    missing = [order for order in orders if order.client_order_id not in ids]
    if len(missing) > MAX_LOOKED_UP:
        LOG.warning("not all orders are looked up", extra={"orders": len(missing), "looked_up": MAX_LOOKED_UP})
    found = []
    for order in missing[:MAX_LOOKED_UP]:
        if not deadline.allows(ORDER_TIME_S):
            raise BrokerError("no time to look up all orders of an earlier run; the next run tries again")
        try:
            found.append(history.find(order))
        except UnexpectedResponseError as error:  # it contains no order, and the next run would get the same
            LOG.warning("%s; the order is treated as not placed", error)
    return [order for order in found if order is not None]


def load_plan(entry: JournalEntry) -> PlannedRun | None:
    """Load the plan of the slot's run; None if it is missing or invalid. Raises JournalError if the store fails."""
    try:
        record = entry.load_plan()
        if record is None:
            return None
        is_whole = isinstance(record["settings"], dict) and Report.__required_keys__ <= record["report"].keys()
        if record["version"] != VERSION or not is_whole:
            raise ValueError(f"it is not a plan of version {VERSION}")
        return PlannedRun(record, [decode(Order, order) for order in record["decision"]["orders"]])
    except (JournalError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, JournalError) and not isinstance(error, DamagedError):
            raise  # a later read may succeed
        extra = {"slot": encode(entry.slot), "error": f"{type(error).__name__}: {error}"}
        LOG.warning("the plan of a run that was cut off cannot be read", extra=extra)
        return None


# --- pure ----------------------------------------------------------------------------------------------------------


def select_slot(orders: Sequence[Order], strategy: str, slot: datetime) -> list[Order]:
    """Select the strategy's orders in the slot, by their parsed ids: one strategy's name may begin with another's."""
    ids = [(order, OrderId.parse(order.client_order_id)) for order in orders]
    return [order for order, parts in ids if parts and (parts.strategy, parts.slot) == (strategy, slot)]


def is_stop(order: Order) -> bool:
    """Check whether one of the bot's orders protects a holding, by its id."""
    parts = OrderId.parse(order.client_order_id)
    return parts is not None and parts.stop_number > 0


def find_differing_account(plan: PlannedRun, settings: Settings) -> str:
    """Return the settings that show that the run used another account, as text; empty if it used this one."""
    then, now = plan.record["settings"], settings.public()
    where = "apca_api_base_url" if settings.broker is BrokerName.ALPACA else "account_file"
    names = [name for name in ("broker", where) if name in then and then[name] != now[name]]
    return ", ".join(f"{name}={then[name]}" for name in names)


def complete_orders(orders: Sequence[Order], plan: PlannedRun | None) -> list[Order]:
    """Return the broker's orders, completed with what only the plan has: price, reason, and a plain buy's stop."""
    planned = {order.client_order_id: order for order in plan.orders} if plan else {}
    return [
        _complete_order(order, meant) if (meant := planned.get(order.client_order_id)) else order for order in orders
    ]


def _complete_order(order: Order, meant: Order) -> Order:
    stop_loss_usd = order.stop_loss_usd if meant.is_bracket else meant.stop_loss_usd
    return replace(order, price_usd=meant.price_usd, reason=meant.reason, stop_loss_usd=stop_loss_usd)


def build_interrupted_record(
    slot: datetime, settings: Settings, plan: PlannedRun | None, orders: Sequence[Order], stops: Sequence[Order] = ()
) -> Json:
    """Build the record of a run that was cut off; without a plan, `settings` give its strategy and mode."""
    nothing = Run(settings=settings, slot=slot, now=slot)
    empty = {
        **build_record(nothing, build_report(nothing, Outcome.INTERRUPTED)),
        "settings": {},
        "chain": build_chain({}, {}),
    }
    empty.pop("rule", None)
    record = plan.record if plan else empty
    report = {
        **record["report"],
        "status": Outcome.INTERRUPTED.value,
        "detail": describe(plan, orders),
        "investments": {order.symbol: order.signed_quantity for order in orders if not order.came_to_nothing},
        "orders": encode(orders),
        "stops": encode(stops),
        "unprotected": sorted({*record["report"]["unprotected"], *find_unsold(plan, orders)}),
    }
    return {**record, "report": report}


def find_unsold(plan: PlannedRun | None, orders: Sequence[Order]) -> set[str]:
    """Return the symbols with a planned sale that was not made; their brackets may already be canceled."""
    there = {order.client_order_id for order in orders if not order.came_to_nothing}
    planned = plan.orders if plan else ()
    return {order.symbol for order in planned if order.side is Side.SELL and order.client_order_id not in there}


def describe(plan: PlannedRun | None, orders: Sequence[Order]) -> str:
    """Describe in one sentence how far the run got."""
    placed = ", ".join(f"{order.side} {order.quantity:g} {order.symbol} ({order.status})" for order in orders)
    if plan is None:
        return f"its run was cut off and has no plan on record; the broker's books have {placed or 'no orders from it'}"
    there = {order.client_order_id for order in orders}
    missing = ", ".join(f"{order.side} {order.symbol}" for order in plan.orders if order.client_order_id not in there)
    count = sum(order.client_order_id in there for order in plan.orders)
    are = "is" if count == 1 else "are"
    parts = [f"its run was cut off; {count} of {len(plan.orders)} planned orders {are} in the broker's books"]
    return "".join([*parts, f": {placed}" if placed else "", f"; not placed: {missing}" if missing else ""])
