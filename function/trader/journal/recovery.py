"""Recovery: a run that was cut off gets its record from a later one, out of its plan and the broker's books."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf

from trader.broker.base import DEAD, BrokerError, OrderHistory, UnexpectedResponseError
from trader.journal.entry import Journal
from trader.journal.record import VERSION, Run, as_json, order_from
from trader.journal.stores import JournalError
from trader.model import Code, Json, Order, Outcome, Report, Side
from trader.schedule.slot import slot_from
from trader.settings import Settings
from trader.stages.execution import ORDER_TIME_S
from trader.stages.pipeline import RunStopped

LOG = logging.getLogger("trader")

BEFORE, AFTER = timedelta(minutes=10), timedelta(minutes=30)
"""Around a slot: its orders are in between, for an event may be five minutes late and a run take fifteen."""

MAX_LOOKED_UP = 100  # Alpaca answers some two hundred requests a minute

PLANNED_ID = re.compile(r"(?P<strategy>[a-z0-9-]+)-(?P<slot>\d{8}T\d{4}Z)-(?P<symbol>[A-Z0-9.]+)-(?P<side>buy|sell)")


@dataclass(frozen=True, slots=True)
class OrderId:
    """What the client order id of an order of ours says."""

    strategy: str
    slot: datetime
    symbol: str
    side: Side


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What a run noted before its first order, and the orders in it."""

    record: Json
    orders: Sequence[Order]


def recover(run: Run, journal: Journal, books: OrderHistory, remaining_s: Callable[[], float]) -> None:
    """Record every run of the strategy that was cut off, each noted in `run` as soon as it is done.

    Raises BrokerError or JournalError where one cannot be asked; what is left then is left to the next run. Raises
    RunStopped if another run of the strategy may be under way: of two that would look at the account and place orders
    side by side, the one that sees the other gives way. (Each has claimed its slot before it looks, so one does.)
    """
    others = [claim for claim in journal.unfinished(run.now) if claim.slot != run.slot]
    over = [claim for claim in others if claim.is_over(run.now)]
    for done, claim in enumerate(over):
        if (left_s := remaining_s()) < ORDER_TIME_S:
            extra = {"strategy": run.settings.strategy, "slots": len(over) - done, "left_s": round(left_s)}
            LOG.warning("no time to recover; the next run tries again", extra=extra)
            break
        if recover_slot(claim.slot, run.settings, journal, books, remaining_s) is not None:
            run.recovered.append(claim.slot)
    if under_way := [claim for claim in others if claim not in over]:
        slots = ", ".join(as_json(claim.slot) for claim in under_way)
        over_for_certain = max(claim.is_over_after for claim in under_way)
        detail = f"the run of {slots} has not ended yet; it is over for certain after {as_json(over_for_certain)}"
        raise RunStopped(Code.UNDER_WAY, detail)


def recover_slot(
    slot: datetime,
    settings: Settings,
    journal: Journal,
    books: OrderHistory,
    remaining_s: Callable[[], float] = lambda: inf,
) -> Json | None:
    """Write the record of a slot whose run was cut off, and return it; None if its run has ended after all."""
    plan = plan_of(slot, journal)
    if plan and (elsewhere := differing(plan, settings)):
        extra = {"strategy": settings.strategy, "slot": as_json(slot), "settings": elsewhere}
        LOG.error("a run that was cut off traded elsewhere: reconcile it with the settings that it had", extra=extra)
        return None
    listed = of_slot(books.placed(slot - BEFORE, slot + AFTER), settings.strategy, slot)
    orders = known([*listed, *unlisted(plan.orders if plan else (), listed, books, remaining_s)], plan)
    record = interrupted(slot, settings, plan, orders)
    if not journal.adopt(slot, record):
        return None
    symbols = ",".join(order.symbol for order in orders)
    extra = {"strategy": settings.strategy, "slot": as_json(slot), "orders": len(orders), "symbols": symbols}
    LOG.error("interrupted", extra={**extra, "detail": record["report"]["detail"]})
    return record


def unlisted(
    orders: Sequence[Order],
    listed: Sequence[Order],
    books: OrderHistory,
    remaining_s: Callable[[], float] = lambda: inf,
) -> list[Order]:
    """Those that the broker's list lacks and that it knows by their ids: the list may be an old one, a clock wrong.

    No more than MAX_LOOKED_UP are asked for, the first ones: orders are placed one after the other.
    """
    ids = {order.client_order_id for order in listed}
    missing = [order for order in orders if order.client_order_id not in ids]
    if len(missing) > MAX_LOOKED_UP:
        LOG.warning("not all are looked up", extra={"orders": len(missing), "looked_up": MAX_LOOKED_UP})
    found = []
    for order in missing[:MAX_LOOKED_UP]:
        if remaining_s() < ORDER_TIME_S:
            raise BrokerError("no time to look all orders of an earlier run up; the next run tries again")
        try:
            found.append(books.find(order))
        except (
            UnexpectedResponseError
        ) as error:  # nothing is placed because of it, and it would be the same the next time
            LOG.warning("%s; it is taken for not there", error)
    return [order for order in found if order is not None]


def plan_of(slot: datetime, journal: Journal) -> PlannedRun | None:
    """What the slot's run noted; None if it did not come that far, or it is no plan, which must stop nobody."""
    try:
        record = journal.started(slot)
        if record is None:
            return None
        is_whole = isinstance(record["settings"], dict) and Report.__required_keys__ <= record["report"].keys()
        if record["version"] != VERSION or not is_whole:
            raise ValueError(f"not what a run of version {VERSION} notes")
        return PlannedRun(record, [order_from(order) for order in record["decision"]["orders"]])
    except (JournalError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, JournalError) and not isinstance(error.__cause__, ValueError):
            raise  # it may be there when it is read again
        extra = {"slot": as_json(slot), "error": f"{type(error).__name__}: {error}"}
        LOG.warning("the plan of a run that was cut off cannot be read", extra=extra)
        return None


# --- pure ----------------------------------------------------------------------------------------------------------


def order_id(client_order_id: str) -> OrderId | None:
    """The parts of a client order id; None if it is none of ours, as those of a bracket's legs."""
    match = PLANNED_ID.fullmatch(client_order_id)
    slot = slot_from(match["slot"]) if match else None
    if match is None or slot is None:
        return None
    return OrderId(match["strategy"], slot, match["symbol"], Side(match["side"]))


def of_slot(orders: Sequence[Order], strategy: str, slot: datetime) -> list[Order]:
    """Those that the strategy placed in the slot: its name may begin another's, so the ids are taken apart."""
    ids = [(order, order_id(order.client_order_id)) for order in orders]
    return [order for order, parts in ids if parts and (parts.strategy, parts.slot) == (strategy, slot)]


def differing(plan: PlannedRun, settings: Settings) -> str:
    """The settings that say that the run's account was another, whose books are elsewhere; empty if it was this one."""
    then, now = plan.record["settings"], settings.public()
    where = "apca_api_base_url" if settings.broker == "alpaca" else "account_file"
    names = [name for name in ("broker", where) if name in then and then[name] != now[name]]
    return ", ".join(f"{name}={then[name]}" for name in names)


def known(orders: Sequence[Order], plan: PlannedRun | None) -> list[Order]:
    """The orders as the broker has them, with what only the plan knows."""
    planned = {order.client_order_id: order for order in plan.orders} if plan else {}
    return [
        replace(order, price_usd=meant.price_usd, reason=meant.reason)
        if (meant := planned.get(order.client_order_id))
        else order
        for order in orders
    ]


def interrupted(slot: datetime, settings: Settings, plan: PlannedRun | None, orders: Sequence[Order]) -> Json:
    """The record of a run that was cut off; without its plan, `settings` say whose it was and in which mode."""
    nothing = Run(settings=settings, slot=slot, now=slot)
    empty = {**nothing.record(nothing.report(Outcome.INTERRUPTED)), "settings": {}}
    record = plan.record if plan else empty
    report = {
        **record["report"],
        "status": Outcome.INTERRUPTED.value,
        "detail": detail(plan, orders),
        "investments": {order.symbol: order.signed_quantity for order in orders if not came_to_nothing(order)},
        "orders": as_json(orders),
        "unprotected": sorted({*record["report"]["unprotected"], *unsold(plan, orders)}),
    }
    return {**record, "report": report}


def unsold(plan: PlannedRun | None, orders: Sequence[Order]) -> set[str]:
    """What was to be sold and is not: its bracket may have been cancelled already."""
    there = {order.client_order_id for order in orders if not came_to_nothing(order)}
    planned = plan.orders if plan else ()
    return {order.symbol for order in planned if order.side is Side.SELL and order.client_order_id not in there}


def came_to_nothing(order: Order) -> bool:
    """Whether nothing of the order was filled, or will be."""
    return order.status in DEAD and not order.filled_quantity


def detail(plan: PlannedRun | None, orders: Sequence[Order]) -> str:
    """How far the run came, in a sentence."""
    placed = ", ".join(f"{order.side} {order.quantity:g} {order.symbol} ({order.status})" for order in orders)
    if plan is None:
        return f"its run was cut off, and has no plan on record; the broker's books have {placed or 'no order of it'}"
    there = {order.client_order_id for order in orders}
    missing = ", ".join(f"{order.side} {order.symbol}" for order in plan.orders if order.client_order_id not in there)
    count = sum(order.client_order_id in there for order in plan.orders)
    are = "is" if count == 1 else "are"
    parts = [f"its run was cut off; {count} of {len(plan.orders)} planned orders {are} in the broker's books"]
    return "".join([*parts, f": {placed}" if placed else "", f"; not placed: {missing}" if missing else ""])
