"""Possible wash sales: a sale at a loss, with a buy of the same symbol within 30 days before or after it. Pure.

It can only say *possible*: the owner's other accounts, options, and funds that are substantially the same count too,
and nobody knows them here. Each bought share replaces one sold share at most, the earliest first. What was bought
before the sale counts only if it was still held after it; the rest of the very purchase that was sold counts as none.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import groupby

from scripts.export.lots import EXACT, PLACES, Closed
from scripts.export.statement import Event, Fill, Split
from trader.model import Side

WINDOW = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """Shares, in those of the sale, that may replace sold ones, and the buy that they came from."""

    bought: Fill
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Wash:
    """A loss that may be disallowed, and the shares that may replace the sold ones."""

    disallowed_usd: Decimal
    replacements: Sequence[Replacement]


@dataclass(slots=True, eq=False)
class _Buy:
    """A buy: its place among the events, and in shares of the beginning, what is left of it to hold or to replace."""

    fill: Fill
    place: int
    held: Fraction
    unused: Fraction


def find(events: Sequence[Event], closed: Sequence[Closed]) -> Mapping[int, Wash]:
    """Return the possible wash sales by the place of the lot in `closed`, which come in the order of the sales."""
    units = _find_units(events)
    places = {id(each): place for place, each in enumerate(events)}
    buys: defaultdict[str, dict[int, _Buy]] = defaultdict(dict)
    for place, each in enumerate(events):
        if isinstance(each, Fill) and each.side is Side.BUY:
            quantity = Fraction(each.quantity) / units[id(each)]
            buys[each.symbol][id(each)] = _Buy(each, place, quantity, quantity)
    found: dict[int, Wash] = {}
    for _, group in groupby(enumerate(closed), key=lambda each: id(each[1].sold)):
        lots = list(group)
        sale = lots[0][1].sold
        bought, unit = buys[sale.symbol], units[id(sale)]
        for _, lot in lots:  # all that this sale sold is gone before anything can replace it
            if lot.bought is not None:
                bought[id(lot.bought)].held -= Fraction(lot.quantity) / unit
        for at, lot in lots:
            if lot.gain_usd is not None and lot.gain_usd < 0:
                taken = list(_replace(lot, bought.values(), places[id(sale)], Fraction(lot.quantity) / unit))
                if taken:
                    found[at] = _make(lot, taken, unit)
    return found


def _replace(lot: Closed, buys: Iterable[_Buy], place: int, need: Fraction) -> Iterator[tuple[Fill, Fraction]]:
    """Take the shares that may replace a lot's, the earliest first, and yield them with their buys."""
    for buy in buys:
        if buy.fill is lot.bought or abs(buy.fill.day - lot.sold.day) > WINDOW:
            continue
        taken = min(need, buy.unused, buy.held if buy.place < place else buy.unused)
        if taken > 0:
            buy.unused -= taken
            need -= taken
            yield buy.fill, taken


def _make(lot: Closed, taken: Sequence[tuple[Fill, Fraction]], unit: Fraction) -> Wash:
    """Return the wash sale of a lot: its loss counts by the share."""
    assert lot.gain_usd is not None, "only a lot with a loss can be one"
    part = sum(quantity for _, quantity in taken) * unit / Fraction(lot.quantity)
    return Wash(
        disallowed_usd=_round(-Fraction(lot.gain_usd) * part),
        replacements=[Replacement(bought=fill, quantity=_round(quantity * unit)) for fill, quantity in taken],
    )


def _find_units(events: Sequence[Event]) -> Mapping[int, Fraction]:
    """Return for each fill how many of its shares one share of the beginning had become by then."""
    now: defaultdict[str, Fraction] = defaultdict(lambda: Fraction(1))
    units = {}
    for each in events:
        if isinstance(each, Split):
            now[each.symbol] *= Fraction(each.added) / Fraction(each.removed)
        else:
            units[id(each)] = now[each.symbol]
    return units


def _round(number: Fraction) -> Decimal:
    exact = EXACT.divide(Decimal(number.numerator), Decimal(number.denominator))
    return exact.quantize(PLACES, context=EXACT)
