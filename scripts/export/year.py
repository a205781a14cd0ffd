"""A year of an account: its fills, lots, income and fees, and how they add up to the movement of its cash. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from scripts.export import differences, lots, wash
from scripts.export.differences import Difference, Origin
from scripts.export.lots import Closed, Ledger, Lot
from scripts.export.statement import Entry, Event, Fill, Group, Statement
from scripts.export.wash import WINDOW as WINDOW
from scripts.export.wash import Wash
from scripts.run.reconciliation import RecordedOrders

type Line = tuple[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A closed lot, and the loss that may be disallowed."""

    closed: Closed
    wash: Wash | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """All that the export says of a year."""

    strategy: str
    account: str
    number: int
    until: date  # the last day of the year that is over or under way
    fills: Sequence[Fill]
    origins: Mapping[str, Origin]
    sales: Sequence[Sale]
    held: Sequence[Lot]  # at the end
    entries: Sequence[Entry]
    cash: Sequence[Line]  # how gains, income and fees become the movement of the cash
    cash_usd: tuple[Decimal, Decimal]  # at the beginning and at the end, reckoned back from today's
    differences: Sequence[Difference]

    def gain_usd(self, *, is_long: bool) -> Decimal:
        """Return the gains less losses of short or of long term; of the sales whose buy is known."""
        gains = (each.closed.gain_usd for each in self.sales if each.closed.is_long is is_long)
        return sum((each for each in gains if each is not None), Decimal(0))

    @property
    def unexplained_usd(self) -> Decimal:
        """What the lots, income, fees and deposits do not explain of the movement of the cash."""
        start_usd, end_usd = self.cash_usd
        return end_usd - start_usd - sum((usd for _, usd in self.cash), Decimal(0))

    @property
    def disallowed_usd(self) -> Decimal:
        """The losses that may be disallowed."""
        return sum((each.wash.disallowed_usd for each in self.sales if each.wash), Decimal(0))

    def income_usd(self, group: Group) -> Decimal:
        """Return the income of a group; fees and withheld taxes are negative."""
        usd = (each.amount_usd for each in self.entries if each.group is group and not each.is_canceled)
        return sum(usd, Decimal(0))


def make(
    statement: Statement,
    runs: Sequence[RecordedOrders],
    *,
    strategy: str,
    number: int,
    today: date,
    oldest: datetime | None,
) -> Year:
    """Return the year of a statement. `runs` are the records of its trades, `oldest` the first record there is."""
    first, last = date(number, 1, 1), min(date(number, 12, 31), today)
    ledger = lots.match(statement.events)
    at_start = lots.match(_until(statement.events, first, is_included=False))
    at_end = lots.match(_until(statement.events, last))
    washes = wash.find(statement.events, ledger.closed)
    sales = [
        Sale(closed=each, wash=washes.get(place))
        for place, each in enumerate(ledger.closed)
        if first <= each.sold.day <= last
    ]
    fills = [each for each in statement.fills if first <= each.day <= last]
    entries = [each for each in statement.entries if first <= each.day <= last]
    origins = differences.find_origins(statement, runs, strategy)
    end_usd = statement.cash_usd - statement.moved_usd(first=date.fromordinal(last.toordinal() + 1))
    start_usd = statement.opening_usd + statement.moved_usd(last=date.fromordinal(first.toordinal() - 1))
    found = [
        *differences.find_in_cash(statement),
        *differences.find_in_entries(statement.entries, first, last),
        *differences.find_in_lots(statement, ledger, first, last),
        *differences.find_missing(statement, runs, strategy, first, last),
        *differences.find_unmatched(fills, origins, runs, strategy, oldest),
    ]
    return Year(
        strategy=strategy,
        account=statement.account,
        number=number,
        until=last,
        fills=fills,
        origins=origins,
        sales=sales,
        held=at_end.lots,
        entries=entries,
        cash=add_up(sales, at_start, at_end, entries),
        cash_usd=(start_usd, end_usd),
        differences=found,
    )


def add_up(sales: Sequence[Sale], at_start: Ledger, at_end: Ledger, entries: Sequence[Entry]) -> list[Line]:
    """Return what changed the cash of the year, line by line, from the lots and not from the fills.

    What was paid for all that was held at the end, less that at the start, is cash that became shares.
    """
    gains = {term: [each.closed for each in sales if each.closed.is_long is term] for term in (False, True, None)}
    lines: list[Line] = [
        ("gains, short term", _sum(each.gain_usd for each in gains[False])),
        ("gains, long term", _sum(each.gain_usd for each in gains[True])),
        ("sales without a known buy", _sum(each.proceeds_usd for each in gains[None])),
    ]
    for group in Group:
        usd = _sum(each.amount_usd for each in entries if each.group is group and not each.is_canceled)
        lines.append((f"{group}s" if group in {Group.DIVIDEND, Group.FEE} else str(group), usd))
    lines.append(("paid for shares that are held longer", at_start.cost_usd - at_end.cost_usd))
    return [line for line in lines if line[1]]


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((each for each in amounts if each is not None), Decimal(0))


def _until(events: Sequence[Event], day: date, *, is_included: bool = True) -> list[Event]:
    return [each for each in events if each.day < day or (is_included and each.day == day)]
