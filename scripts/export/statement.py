"""An account's statement: all that ever happened in it, as exact decimals, oldest first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter

from trader.model import NEW_YORK, Order, Side


class Group(StrEnum):
    """What an entry means for the year."""

    DIVIDEND = "dividend"
    INTEREST = "interest"
    WITHHELD = "tax withheld"
    FEE = "fee"
    FLOW = "deposits and withdrawals"
    SHARES = "shares moved"  # in a way that the lots do not follow
    UNKNOWN = "unknown"

    @property
    def is_income(self) -> bool:
        """True for what makes the owner richer or poorer without a trade."""
        return self in {Group.DIVIDEND, Group.INTEREST, Group.WITHHELD, Group.FEE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Shares bought or sold at once: an order that is filled in parts has several. The amount has no sign."""

    fill_id: str
    at: datetime
    symbol: str
    side: Side
    quantity: Decimal
    price_usd: Decimal
    amount_usd: Decimal
    order_id: str

    @property
    def day(self) -> date:
        """The trading day in New York."""
        return self.at.astimezone(NEW_YORK).date()

    @property
    def cash_usd(self) -> Decimal:
        """What it added to the cash: a negative amount for a buy."""
        return self.amount_usd if self.side is Side.SELL else -self.amount_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A split: `removed` old shares became `added` new ones."""

    at: datetime
    symbol: str
    removed: Decimal
    added: Decimal

    @property
    def day(self) -> date:
        """The day in New York."""
        return self.at.astimezone(NEW_YORK).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Anything else that the broker entered. `kind` is the broker's own word for it, `amount_usd` has a sign."""

    entry_id: str
    day: date
    entered_at: datetime | None
    kind: str
    group: Group
    symbol: str = ""
    quantity: Decimal | None = None
    amount_usd: Decimal = Decimal(0)
    is_canceled: bool = False  # then it moved nothing
    words: str = ""  # what is unusual about it
    raw: str = ""  # as the broker has it, if it is not understood


type Event = Fill | Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """All of an account. `events` change lots; `orders` are the broker's own, with legs; `notes` say what is unknown.

    `opening_usd` is the cash with which the account began, if it is not among the entries.
    """

    account: str
    events: Sequence[Event]
    entries: Sequence[Entry]
    orders: Sequence[Order]
    cash_usd: Decimal
    holdings: Mapping[str, Decimal]
    opening_usd: Decimal = Decimal(0)
    notes: Sequence[str] = field(default=())

    @property
    def fills(self) -> list[Fill]:
        """The fills, oldest first."""
        return [each for each in self.events if isinstance(each, Fill)]

    def moved_usd(self, first: date = date.min, last: date = date.max) -> Decimal:
        """Return by how much the activities of some days, both included, changed the cash."""
        return sum((usd for day, usd in self._list_moves() if first <= day <= last), Decimal(0))

    def _list_moves(self) -> Iterator[tuple[date, Decimal]]:
        yield from ((each.day, each.cash_usd) for each in self.fills)
        yield from ((each.day, each.amount_usd) for each in self.entries if not each.is_canceled)


def sort_events(events: Sequence[Event]) -> list[Event]:
    """Return the events in the order of their times; those of one moment stay in the order in which they came."""
    return sorted(events, key=attrgetter("at"))
