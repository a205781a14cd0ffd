"""What the broker knows of a period beside orders: deposits, dividends, interest and fees."""

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta

from scripts.owner.live import Books, Paid
from scripts.owner.shadow import Flow
from trader.broker.alpaca import AlpacaBroker
from trader.broker.base import OrderHistory
from trader.broker.embedded import EmbeddedBroker
from trader.logs import one_line, printable
from trader.model import NEW_YORK, BrokerError, Json, Order

KINDS: Mapping[str, str] = {
    **dict.fromkeys(("DIV", "DIVCGL", "DIVCGS", "DIVROC", "DIVTXEX", "CGD"), "dividend"),
    **dict.fromkeys(("DIVFT", "DIVNRA", "DIVTW", "DIVFEE"), "dividend"),  # what is withheld of it
    **dict.fromkeys(("INT", "INTNRA", "INTTW"), "interest"),
    **dict.fromkeys(("FEE", "CFEE", "PTC", "PTR"), "fee"),
    "SPLIT": "fraction",
}
"""What Alpaca's types of activities are here."""

BEFORE = timedelta(days=1)
"""How much earlier activities are asked for: some have a day only."""


def read(history: OrderHistory, orders: Sequence[Order] | None, since: datetime) -> tuple[Books, str]:
    """Return what the broker knows from a time on, and what it does not say. `orders` are those it has listed."""
    if isinstance(history, EmbeddedBroker):
        try:
            restatements = history.read_book().restatements
        except BrokerError as error:
            return Books(orders=orders), one_line(error)
        amounts = [(each, kind) for each in restatements for kind in ("dividend", "fraction")]
        paid = [
            Paid(at=each.at, kind=kind, usd=usd, symbol=each.symbol)
            for each, kind in amounts
            if (usd := each.dividend_usd if kind == "dividend" else each.fraction_usd)
        ]
        return Books(orders=orders, flows=(), paid=paid), ""
    if not isinstance(history, AlpacaBroker):
        return Books(orders=orders), ""
    try:
        flows = [Flow(each.at, each.usd) for each in history.list_flows(since)]
        found = history.list_activities({"activity_types": ",".join(KINDS), "after": (since - BEFORE).isoformat()})
        return Books(orders=orders, flows=flows, paid=[_parse(each) for each in found]), ""
    except (BrokerError, KeyError, TypeError, ValueError) as error:
        return Books(orders=orders), f"deposits, dividends and fees are not known: {one_line(error)}"


def _parse(activity: Json) -> Paid:
    """Return an activity. Raises KeyError, TypeError or ValueError if it cannot be read."""
    entered = activity.get("created_at")
    day = datetime.fromisoformat(activity["date"])
    at = datetime.fromisoformat(entered) if entered else datetime.combine(day, time(), NEW_YORK)
    is_canceled = activity.get("status") == "canceled"
    return Paid(
        at=at,
        kind=KINDS.get(str(activity["activity_type"]), printable(activity["activity_type"])),
        usd=0.0 if is_canceled else float(activity.get("net_amount") or 0),
        symbol=printable(activity.get("symbol") or ""),
    )
