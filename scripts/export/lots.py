"""Tax lots, first in, first out: every share sold is matched with the oldest of its symbol. Pure.

Money and quantities are conserved to the last digit: the parts of a lot add up to what was paid for it.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Context, Decimal

from scripts.export.statement import Event, Fill, Split
from trader.model import Side

EXACT = Context(prec=60)
PLACES = Decimal("1e-9")
"""The precision of Alpaca's quantities and of a part of what was paid for a lot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """Shares of one buy that are still held, in today's shares, and what was paid for them."""

    bought: Fill
    quantity: Decimal
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Shares of one buy that one sale has sold. `bought` and `cost_usd` are None if no buy of them is known."""

    bought: Fill | None
    sold: Fill
    quantity: Decimal
    cost_usd: Decimal | None
    proceeds_usd: Decimal

    @property
    def gain_usd(self) -> Decimal | None:
        """The gain, negative for a loss."""
        return None if self.cost_usd is None else self.proceeds_usd - self.cost_usd

    @property
    def is_long(self) -> bool | None:
        """True if the shares were held for more than one year."""
        return None if self.bought is None else is_long(self.bought.day, self.sold.day)


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What was sold, what is still held, and the splits that did not fit the lots."""

    closed: list[Closed] = field(default_factory=list)
    held: dict[str, deque[Lot]] = field(default_factory=lambda: defaultdict(deque))
    misfits: list[tuple[Split, Decimal]] = field(default_factory=list)  # with the shares of the lots

    @property
    def lots(self) -> list[Lot]:
        """The lots that are held, by symbol, the oldest first."""
        return [lot for symbol in sorted(self.held) for lot in self.held[symbol]]

    @property
    def cost_usd(self) -> Decimal:
        """What was paid for all that is held."""
        return sum((lot.cost_usd for lot in self.lots), Decimal(0))

    def quantities(self) -> dict[str, Decimal]:
        """Return the shares held by symbol."""
        found = {symbol: sum((lot.quantity for lot in lots), Decimal(0)) for symbol, lots in self.held.items()}
        return {symbol: quantity for symbol, quantity in found.items() if quantity}


def is_long(bought: date, sold: date) -> bool:
    """Check whether shares were held for more than one year. The day of the buy does not count, that of the sale does.

    So what was bought on 28 February 2023 is held for more than a year from 1 March 2024 on.
    """
    begun = bought + timedelta(days=1)
    try:
        return sold >= begun.replace(year=begun.year + 1)
    except ValueError:  # begun on 29 February
        return sold >= date(begun.year + 1, 3, 1)


def match(events: Iterable[Event]) -> Ledger:
    """Match the sales with the lots. `events` come oldest first."""
    ledger = Ledger()
    for event in events:
        if isinstance(event, Split):
            _split(ledger, event)
        elif event.side is Side.BUY:
            lot = Lot(bought=event, quantity=event.quantity, cost_usd=event.amount_usd)
            ledger.held[event.symbol].append(lot)
        else:
            _sell(ledger, event)
    return ledger


def _sell(ledger: Ledger, sale: Fill) -> None:
    """Close lots with a sale; what no lot covers is closed without one."""
    left, left_usd, lots = sale.quantity, sale.amount_usd, ledger.held[sale.symbol]
    while left and lots:
        lot = lots.popleft()
        quantity = min(left, lot.quantity)
        cost_usd = _take(lot.cost_usd, quantity, lot.quantity)
        proceeds_usd = _take(left_usd, quantity, left)
        if quantity < lot.quantity:
            lots.appendleft(replace(lot, quantity=lot.quantity - quantity, cost_usd=lot.cost_usd - cost_usd))
        ledger.closed.append(
            Closed(bought=lot.bought, sold=sale, quantity=quantity, cost_usd=cost_usd, proceeds_usd=proceeds_usd)
        )
        left, left_usd = left - quantity, left_usd - proceeds_usd
    if left:
        ledger.closed.append(Closed(bought=None, sold=sale, quantity=left, cost_usd=None, proceeds_usd=left_usd))


def _split(ledger: Ledger, split: Split) -> None:
    """Give each lot its new shares. What was paid stays as it is; the last lot takes what rounding leaves."""
    lots = ledger.held[split.symbol]
    held = sum((lot.quantity for lot in lots), Decimal(0))
    if held != split.removed:
        ledger.misfits.append((split, held))
    left, left_new, new = held, _take(split.added, held, split.removed), deque[Lot]()
    for lot in lots:
        quantity = _take(left_new, lot.quantity, left)
        new.append(replace(lot, quantity=quantity))
        left, left_new = left - lot.quantity, left_new - quantity
    ledger.held[split.symbol] = new


def _take(whole: Decimal, part: Decimal, of: Decimal) -> Decimal:
    """Return the part of an amount that belongs to some of the shares; all of it for all of them."""
    if part == of:
        return whole
    exact = EXACT.divide(EXACT.multiply(whole, part), of)
    return exact.quantize(PLACES, context=EXACT)
