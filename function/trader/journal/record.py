"""A run as JSON: its report for the caller and its record for the journal; and settings read back from a record."""

from collections.abc import Mapping
from dataclasses import replace
from math import floor
from typing import Any

from trader.codec import encode
from trader.journal.base import Run
from trader.model import Code, Denial, OrderStatus, Outcome, Report, Side
from trader.settings import Settings

VERSION = 1


def build_report(run: Run, status: Code | Outcome | str, detail: str = "") -> Report:
    """Build the report of a run, as far as it got."""
    decision = run.decision
    return {
        "strategy": run.settings.strategy,
        "slot": encode(run.slot),
        "mode": run.settings.mode.value,
        "status": str(status),
        "detail": detail,
        "investments": {order.symbol: order.signed_quantity for order in run.placed},
        "orders": encode(run.orders),
        "denials": encode(run.denials),
        "targets": encode(decision.targets if decision else ()),
        "insights": encode(decision.insights if decision else ()),
        "forecasts": encode(decision.forecasts if decision else ()),
        "account": {
            "before": encode(run.observation.account if run.observation else None),
            "after": encode(run.account_after),
        },
        "unprotected": list(find_unprotected(run)),
        "recovered": encode(run.recovered),
        "timings_s": dict(run.timings_s),
    }


def build_record(run: Run, report: Report) -> dict[str, Any]:
    """Build the record of a run: the inputs of its decisions, the decisions and the report. It contains no secrets."""
    return {
        "version": VERSION,
        "settings": run.settings.public(),
        "observation": encode(run.observation),
        "decision": encode(run.decision),
        "report": report,
    }


def find_unprotected(run: Run) -> tuple[str, ...]:
    """Return the symbols known to be held in whole shares without a stop loss; none if brackets are off."""
    if run.observation is None or not run.settings.stop_loss_fraction:
        return ()
    sales = [order for order in run.observation.open_orders if order.side is Side.SELL]
    held = {
        symbol
        for symbol, position in run.observation.positions.items()
        if max((each.quantity for each in sales if each.symbol == symbol), default=0) < floor(position.quantity)
    }
    lost = {each.symbol for each in run.outcomes if isinstance(each, Denial) and each.is_unprotected}
    orders = [each for each in run.placed if each.side is Side.SELL]
    sold = {each.symbol for each in orders if not (each.status.is_dead or each.status is OrderStatus.UNKNOWN)}
    cut_short = {each.symbol for each in orders} - sold  # ended after a partial fill, or in doubt
    return tuple(sorted((held - sold) | lost | cut_short))


def read_settings(data: Mapping[str, Any]) -> Settings:
    """Return the settings in a record, checked as usual. The secrets are empty: replay needs none."""
    texts = {name.upper(): ",".join(value) if isinstance(value, list) else str(value) for name, value in data.items()}
    checked = Settings.from_env({**texts, "ALPACAUSER": "-", "ALPACAPW": "-"}, lambda _: {})
    return replace(checked, alpacauser="", alpacapw="")
