"""The statement of an account at Alpaca, from its activities since its beginning."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation

from scripts.export.statement import Entry, Event, Fill, Group, Split, Statement, sort_events
from trader.broker.alpaca import AlpacaBroker
from trader.broker.base import UnexpectedResponseError, UnreadablePositionsError
from trader.logs import one_line
from trader.model import NEW_YORK, Side
from trader.progress import Progress

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Before the first account at Alpaca."""

GROUPS: Mapping[str, Group] = {
    **dict.fromkeys(("DIV", "DIVCGL", "DIVCGS", "DIVROC", "DIVTXEX", "CGD"), Group.DIVIDEND),
    "INT": Group.INTEREST,
    **dict.fromkeys(("DIVFT", "DIVNRA", "DIVTW", "INTNRA", "INTTW", "WH"), Group.WITHHELD),
    **dict.fromkeys(("FEE", "CFEE", "DIVFEE", "PTC", "PTR"), Group.FEE),
    **dict.fromkeys(("CSD", "CSW", "JNLC", "ACATC", "TRANS"), Group.FLOW),
    **dict.fromkeys(("ACATS", "JNLS", "FOPT", "MA", "NC", "REORG", "SPIN", "VOF"), Group.SHARES),
}
"""What the types of activities mean that are not trades or splits; any other type is unknown."""

STOCK = re.compile(r"[A-Z0-9]{1,10}(\.[A-Z0-9]{1,5})?")
OPTION = re.compile(r"[A-Z]{1,6}\d{6}[CP]\d{8}")
SHARES_OF_OPTION = 100

type Activity = Mapping[str, object]


def read(broker: AlpacaBroker, now: datetime, progress: Progress) -> Statement:
    """Read the account. Raises BrokerError if Alpaca does not answer, or an activity cannot be read."""
    activities = broker.list_activities({}, progress)
    progress("the broker's orders", 0, 1)
    orders = broker.list_orders(BEGINNING, now)
    progress("the broker's orders", 1, 1)
    account = broker.account()
    try:
        positions = broker.positions()
    except UnreadablePositionsError as error:
        positions = error.positions
    events, entries = parse(activities)
    return Statement(
        account=f"Alpaca {account.number}".strip(),
        events=events,
        entries=entries,
        orders=orders,
        cash_usd=Decimal(repr(account.cash_usd)),
        holdings={each.symbol: Decimal(repr(each.quantity)) for each in positions.values() if each.is_stock},
    )


def parse(activities: Iterable[Activity]) -> tuple[list[Event], list[Entry]]:
    """Return the fills and splits, and all other entries. Raises UnexpectedResponseError if one cannot be read."""
    events: list[Event] = []
    entries: list[Entry] = []
    splits: defaultdict[tuple[str, date], list[Activity]] = defaultdict(list)
    for each in activities:
        kind = _text(each, "activity_type")
        if kind == "FILL" and STOCK.fullmatch(_text(each, "symbol")):
            events.append(_parse_fill(each))
        elif kind == "SPLIT" and each.get("status") != "canceled":
            splits[_text(each, "symbol"), _day(each)].append(each)
        else:
            entries.append(_parse_entry(each, kind))
    for parts in splits.values():
        split = _join(parts)
        if split is None:
            words = "a split that does not say how many shares became how many: the lots are in the old shares"
            entries += (_entry(each, Group.SHARES, words=words) for each in parts)
        else:
            events.append(split)
    return sort_events(events), entries  # a split comes before all trades of its day


def _parse_fill(activity: Activity) -> Fill:
    side = _text(activity, "side")
    quantity, price_usd = _number(activity, "qty"), _number(activity, "price")
    return Fill(
        fill_id=_text(activity, "id"),
        at=_time(activity, "transaction_time"),
        symbol=_text(activity, "symbol"),
        side=Side.BUY if side == "buy" else Side.SELL,  # sell_short is a sale too
        quantity=abs(quantity),
        price_usd=price_usd,
        amount_usd=abs(quantity) * price_usd,
        order_id=str(activity.get("order_id") or ""),
    )


def _join(parts: list[Activity]) -> Split | None:
    """Return the split that takes the old shares out and puts the new ones in; None if one of them is missing."""
    quantities = [_number(each, "qty") if each.get("qty") else Decimal(0) for each in parts]
    removed = -sum((each for each in quantities if each < 0), Decimal(0))
    added = sum((each for each in quantities if each > 0), Decimal(0))
    if not removed or not added:
        return None
    at = datetime.combine(_day(parts[0]), time(), NEW_YORK)
    return Split(at=at, symbol=_text(parts[0], "symbol"), removed=removed, added=added)


def _parse_entry(activity: Activity, kind: str) -> Entry:
    if kind == "FILL":  # of an option, or in crypto
        fill = _parse_fill(activity)
        factor = SHARES_OF_OPTION if OPTION.fullmatch(fill.symbol) else 1
        entry = _entry(activity, Group.UNKNOWN, words=f"{fill.side} {fill.quantity} {fill.symbol}: not a stock")
        return _replace_amount(entry, fill, factor)
    words = ""
    group = GROUPS.get(kind, Group.UNKNOWN)
    sub_type = str(activity.get("activity_sub_type") or "")
    if kind == "DIV" and sub_type == "SDIV":
        group, words = Group.SHARES, "a dividend in shares"
    elif kind == "DIVROC":
        words = "a return of capital: it lowers what was paid for the shares, and lots.csv does not do that"
    elif group is Group.SHARES:
        words = "shares came, went or changed their name, and the lots do not follow that"
    elif group is Group.UNKNOWN:
        words = "not a type that this command knows"
    return _entry(activity, group, words=words)


def _replace_amount(entry: Entry, fill: Fill, factor: int) -> Entry:
    return Entry(
        entry_id=entry.entry_id,
        day=fill.day,
        entered_at=fill.at,
        kind="FILL",
        group=entry.group,
        symbol=fill.symbol,
        quantity=fill.quantity,
        amount_usd=fill.cash_usd * factor,
        words=entry.words,
        raw=entry.raw,
    )


def _entry(activity: Activity, group: Group, *, words: str) -> Entry:
    kind, sub_type = _text(activity, "activity_type"), str(activity.get("activity_sub_type") or "")
    is_trade = kind == "FILL"
    return Entry(
        entry_id=_text(activity, "id"),
        day=_time(activity, "transaction_time").astimezone(NEW_YORK).date() if is_trade else _day(activity),
        entered_at=_time(activity, "created_at") if activity.get("created_at") else None,
        kind=f"{kind} {sub_type}".strip(),
        group=group,
        symbol=str(activity.get("symbol") or ""),
        quantity=_number(activity, "qty") if activity.get("qty") else None,
        amount_usd=_number(activity, "net_amount") if activity.get("net_amount") else Decimal(0),
        is_canceled=activity.get("status") == "canceled",
        words=words,
        raw=json.dumps(activity, sort_keys=True) if group in {Group.SHARES, Group.UNKNOWN} else "",
    )


def _text(activity: Activity, name: str) -> str:
    value = activity.get(name)
    if not isinstance(value, str) or not value:
        raise _unusable(activity, name, "a text")
    return value


def _number(activity: Activity, name: str) -> Decimal:
    value = activity.get(name)
    try:
        number = Decimal(str(value)) if isinstance(value, str | int | float) else Decimal("nan")
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise _unusable(activity, name, "a number")
    return number


def _time(activity: Activity, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(activity, name))
    except ValueError:
        raise _unusable(activity, name, "a time") from None
    if moment.tzinfo is None:
        raise _unusable(activity, name, "a time with its offset from UTC")
    return moment


def _day(activity: Activity) -> date:
    """Return the day of an entry: that of the broker, or of the moment in New York at which it was entered."""
    if not activity.get("date"):
        return _time(activity, "created_at").astimezone(NEW_YORK).date()
    try:
        return date.fromisoformat(_text(activity, "date")[:10])
    except ValueError:
        raise _unusable(activity, "date", "a day") from None


def _unusable(activity: Activity, name: str, expected: str) -> UnexpectedResponseError:
    return UnexpectedResponseError(
        f"Alpaca: an activity has {name}={activity.get(name)!r:.100}, which is not {expected}: "
        f"{one_line(json.dumps(activity), 300)}"
    )
