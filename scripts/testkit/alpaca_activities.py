"""The activities of the account behind the stand-in: what GET /v2/account/activities lists, page by page.

A fill has the time of its trade, anything else the day that it is for, and is listed from `created_at` on: fees and
dividends come later than what they are for. The ids begin with the time in New York, or with the day and zeros, and the
list is in the order of the ids, as Alpaca's is.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
MAX_PAGE = 100

type JsonValue = Any
"""A decoded JSON value."""


@dataclass(slots=True, kw_only=True)
class Activity:
    """An activity as it is listed, and when it was entered."""

    entered_at: datetime
    fields: dict[str, JsonValue]


@dataclass(slots=True)
class Activities:
    """All activities of the account. `forgotten` are types that the list leaves out, as an old account's may be."""

    entered: list[Activity] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)

    def note_fill(
        self,
        at: datetime,
        order: Mapping[str, str],
        shares: Decimal,
        price: Decimal,
        cumulative: Decimal,
        left: Decimal,
    ) -> None:
        """Note that an order, of which `order` has id, symbol, side and status, was filled, or filled further."""
        fields = {
            "id": f"{at.astimezone(NEW_YORK):%Y%m%d%H%M%S}{at.microsecond // 1000:03d}::{uuid.uuid4()}",
            "activity_type": "FILL",
            "transaction_time": _time(at),
            "type": "partial_fill" if left else "fill",
            "price": _text(price),
            "qty": _text(shares),
            "side": order["side"],
            "symbol": order["symbol"],
            "leaves_qty": _text(left),
            "order_id": order["id"],
            "cum_qty": _text(cumulative),
            "order_status": order["status"],
        }
        self.entered.append(Activity(entered_at=at, fields=fields))

    def note(self, at: datetime, kind: str, usd: Decimal = Decimal(0), day: date | None = None, **more: str) -> None:
        """Note anything else, entered at a time, and for a day that is that of the time unless it is given."""
        day = day or at.astimezone(NEW_YORK).date()
        fields = {
            "id": f"{day:%Y%m%d}000000000::{uuid.uuid4()}",
            "activity_type": kind,
            "date": day.isoformat(),
            "created_at": _time(at),
            "net_amount": _text(usd),
            "currency": "USD",
            "status": "executed",
            **more,
        }
        self.entered.append(Activity(entered_at=at, fields=fields))

    def answer(self, query: Mapping[str, str]) -> list[JsonValue]:
        """Return a page. Without `activity_types`, all types are listed; without `direction`, the newest first."""
        wanted = query["activity_types"].split(",") if "activity_types" in query else None
        found = [
            each.fields
            for each in sorted(self.entered, key=lambda each: str(each.fields["id"])[:17])
            if each.fields["activity_type"] not in self.forgotten
            and (wanted is None or each.fields["activity_type"] in wanted)
            and ("after" not in query or each.entered_at > _moment(query["after"]))
            and ("until" not in query or each.entered_at < _moment(query["until"]))
        ]
        if query.get("direction", "desc") == "desc":
            found.reverse()
        ids = [each["id"] for each in found]
        first = ids.index(query["page_token"]) + 1 if "page_token" in query else 0
        return [dict(each) for each in found[first : first + min(int(query.get("page_size", MAX_PAGE)), MAX_PAGE)]]


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text(number: Decimal) -> str:
    return format(number.normalize(), "f")
