"""A run as JSON: its report for the caller and its record for the journal; and settings read back from a record."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trader.alpha import own
from trader.codec import encode
from trader.journal.base import Run
from trader.journal.chain import build_chain
from trader.model import Code, Denial, Order, OrderStatus, Outcome, Report, Side, Unprotected
from trader.settings import Settings

VERSION = 1
BARE = "held without a working stop: "
"""The beginning of the detail of an UNPROTECTED denial."""


def build_report(run: Run, status: Code | Outcome | str, detail: str = "") -> Report:
    """Build the report of a run, as far as it got."""
    decision = run.decision
    return {
        "strategy": run.settings.strategy,
        "slot": encode(run.slot),
        "mode": run.settings.mode.value,
        "status": str(status),
        "detail": detail,
        "investments": {order.symbol: order.signed_quantity for order in run.placed if not order.came_to_nothing},
        "orders": encode(run.orders),
        "denials": encode((*run.denials, *map(_denial, run.unprotected.values()))),
        "targets": encode(decision.targets if decision else ()),
        "insights": encode(decision.insights if decision else ()),
        "forecasts": encode(decision.forecasts if decision else ()),
        "account": {
            "before": encode(run.observation.account if run.observation else None),
            "after": encode(run.account_after),
        },
        "unprotected": list(find_unprotected(run)),
        "recovered": encode(run.recovered),
        "settled": encode(run.settled),
        "stops": encode(run.stops),
        "timings_s": dict(run.timings_s),
    }


def build_record(run: Run, report: Report) -> dict[str, Any]:
    """Build the record of a run: the inputs of its decisions, the decisions, the report and the chain; no secrets."""
    settings = run.settings.public()
    return {
        "version": VERSION,
        "settings": settings,
        "observation": encode(run.observation),
        "decision": encode(run.decision),
        "report": report,
        "chain": build_chain(settings, run.previous),
        **_describe_rule(run.settings.signal),
    }


def _describe_rule(signal: str) -> dict[str, dict[str, str]]:
    """Return the text of an own rule's files by path, so that the run can be replayed when they have changed."""
    if not own.is_file(signal):
        return {}
    return {"rule": {path: source.decode("utf-8", errors="replace") for path, source in own.list_decided(signal)}}


def find_unprotected(run: Run) -> tuple[str, ...]:
    """Return the symbols known to be held without a working stop loss; none if brackets are off.

    If the broker could not be asked after the last order, these include what the run's own orders may have left so.
    """
    if not run.settings.stop_loss_fraction:
        return ()
    lost = {each.symbol for each in run.outcomes if isinstance(each, Denial) and each.is_unprotected}
    followed = {each.symbol for each in run.stops if not each.came_to_nothing}
    in_doubt = {order.symbol for order in run.placed if _may_leave_bare(order, is_followed=order.symbol in followed)}
    return tuple(sorted({*run.unprotected, *(set() if run.is_guarded else lost | in_doubt)}))


def _may_leave_bare(order: Order, *, is_followed: bool) -> bool:
    """Check whether an order may leave shares without a stop: a sale cancels it first, and a buy's may not work yet.

    A buy without a bracket needs a stop that follows it.
    """
    if order.side is Side.SELL:
        return order.status is not OrderStatus.FILLED
    has_dead_stop = any(leg.type.is_stop and leg.status.is_dead for leg in order.legs)
    has_none = not order.is_bracket and not is_followed
    return order.filled_quantity > 0 and (order.status is not OrderStatus.FILLED or has_dead_stop or has_none)


def _denial(bare: Unprotected) -> Denial:
    return Denial(symbol=bare.symbol, code=Code.UNPROTECTED, detail=f"{BARE}{bare.reason}", is_unprotected=bare.is_ours)


def read_settings(data: Mapping[str, Any]) -> Settings:
    """Return the settings in a record, checked as usual. The secrets are empty: replay needs none."""
    texts = {name.upper(): ",".join(value) if isinstance(value, list) else str(value) for name, value in data.items()}
    checked = Settings.from_env({**texts, "ALPACAUSER": "-", "ALPACAPW": "-"}, lambda _: {})
    return replace(checked, alpacauser="", alpacapw="")
