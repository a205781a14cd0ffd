"""Corporate actions as Alpaca's data API reports them: `GET /v1/corporate-actions`."""

from collections.abc import Mapping
from datetime import date, timedelta

from scripts.testkit.alpaca_books import JsonValue, RefusalError

TYPES = {
    "forward_split": "forward_splits",
    "reverse_split": "reverse_splits",
    "unit_split": "unit_splits",
    "stock_dividend": "stock_dividends",
}
"""The types that the stand-in knows, and the names of their lists in an answer."""

MAX_LIMIT = 1000


class CorporateActions:
    """The corporate actions of all symbols, in the order in which they were added.

    A page contains at most `page_size` of them; `spoilt` replaces the whole answer.
    """

    def __init__(self) -> None:
        self.page_size = MAX_LIMIT
        self.spoilt: JsonValue = None
        self._actions: list[tuple[str, dict[str, JsonValue]]] = []

    def add_split(self, symbol: str, day: date, new: float, old: float) -> None:
        """Add a split in which `new` shares replace `old` ones on a day."""
        kind = "forward_split" if new > old else "reverse_split"
        cusips = {"cusip": "000000000"} if new > old else {"old_cusip": "000000000", "new_cusip": "000000001"}
        self.add(kind, symbol, day, {"new_rate": new, "old_rate": old, **cusips})

    def add_stock_dividend(self, symbol: str, day: date, rate: float) -> None:
        """Add a dividend of `rate` shares for each share on a day."""
        self.add("stock_dividend", symbol, day, {"rate": rate, "cusip": "000000000"})

    def add_unit_split(self, old_symbol: str, new_symbol: str, day: date, new: float, old: float) -> None:
        """Add a split of units into shares of another symbol on a day."""
        rates = {"old_symbol": old_symbol, "old_rate": old, "new_symbol": new_symbol, "new_rate": new}
        others = {"alternate_symbol": f"{new_symbol}W", "alternate_rate": 0.5, "effective_date": day.isoformat()}
        self.add("unit_split", "", day, {**rates, **others})

    def add(self, kind: str, symbol: str, day: date, fields: Mapping[str, JsonValue]) -> None:
        """Add an action of a kind, processed on its day; `fields` are added to those of all kinds."""
        dated = {"symbol": symbol, "ex_date": day.isoformat()} if symbol else {}
        action = {"id": f"{len(self._actions)}", "process_date": day.isoformat(), **dated, **fields}
        self._actions.append((kind, action))

    def answer(self, query: Mapping[str, str], today: date) -> JsonValue:
        """Return a page of the actions that a query asks for, and the token of the next page."""
        if self.spoilt is not None:
            return self.spoilt
        limit = int(query.get("limit", 100))
        kinds = query.get("types", ",".join(TYPES)).split(",")
        start, end = (date.fromisoformat(query.get(name, today.isoformat())) for name in ("start", "end"))
        if not 1 <= limit <= MAX_LIMIT or start > end or not set(kinds) <= set(TYPES):
            raise RefusalError(400, 40010001, "invalid limit, types, start or end")
        symbols = set(query["symbols"].split(","))
        days = {(start + timedelta(days=number)).isoformat() for number in range((end - start).days + 1)}
        found = [
            (kind, action)
            for kind, action in self._actions
            if kind in kinds
            and action["process_date"] in days
            and symbols & {action.get(name) for name in ("symbol", "old_symbol", "new_symbol")}
        ]
        found.sort(key=lambda each: each[1]["process_date"])
        first, size = int(query.get("page_token", 0)), min(limit, self.page_size)
        page: dict[str, list[JsonValue]] = {}
        for kind, action in found[first : first + size]:
            page.setdefault(TYPES[kind], []).append(action)
        more = first + size < len(found)
        return {"corporate_actions": page, "next_page_token": str(first + size) if more else None}
