"""The statement of the embedded broker's account, from its file."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from scripts.export.lots import EXACT, PLACES
from scripts.export.statement import Entry, Event, Fill, Group, Split, Statement, sort_events
from trader.broker.book import Book, Restatement
from trader.model import DECIMALS, NEW_YORK, Order, Side


def read(book: Book, name: str, opening_usd: float) -> Statement:
    """Return the statement of a book. Its file does not have the cash that it began with: `opening_usd` is that."""
    fills = [fill for order in book.orders.values() if (fill := _parse_fill(order))]
    symbols = dict.fromkeys([*(each.symbol for each in fills), *(each.symbol for each in book.restatements)])
    events: list[Event] = []
    for symbol in symbols:
        of_symbol = sorted((each for each in fills if each.symbol == symbol), key=lambda each: each.at)
        events += weave(of_symbol, [each for each in book.restatements if each.symbol == symbol])
    return Statement(
        account=name,
        events=sort_events(events),
        entries=list(_list_dividends(book.restatements)),
        orders=tuple(book.orders.values()),
        cash_usd=_decimal(book.cash_usd),
        holdings={symbol: _decimal(each.quantity) for symbol, each in book.positions.items()},
        opening_usd=_decimal(opening_usd),
    )


def weave(fills: Sequence[Fill], restatements: Sequence[Restatement]) -> list[Event]:
    """Put the splits between the fills of a symbol, which come oldest first.

    The book notes a split at the time of the run that learned of it. A stop that the same run found triggered has an
    earlier time, though it sold new shares. So a split stands at the last place up to its time at which the shares that
    it found were held.
    """
    events: list[Event] = []
    rest = list(fills)
    held = Decimal(0)
    for each in restatements:
        before = _decimal(each.quantity_before)
        running, place = held, 0 if _is_same(held, before) else None
        for at, fill in enumerate(rest):
            if fill.at > each.at:
                break
            running += fill.quantity if fill.side is Side.BUY else -fill.quantity
            place = at + 1 if _is_same(running, before) else place
        if place is None:  # an account that somebody has changed by hand: by its time
            place = sum(fill.at <= each.at for fill in rest)
        events += rest[:place]
        split = list(_parse_split(each))
        moment = min([each.at, *(fill.at for fill in rest[place : place + 1])])
        events += (replace(one, at=moment) for one in split)
        held = _decimal(each.quantity_after)
        rest = rest[place:]
    return [*events, *rest]


def _parse_fill(order: Order) -> Fill | None:
    if not order.filled_quantity or order.filled_price_usd is None or order.filled_at is None:
        return None
    amount_usd = round(order.filled_quantity * order.filled_price_usd, 2)  # as the book moves its cash
    return Fill(
        fill_id=order.client_order_id,
        at=order.filled_at,
        symbol=order.symbol,
        side=order.side,
        quantity=_decimal(order.filled_quantity),
        price_usd=_decimal(order.filled_price_usd),
        amount_usd=_decimal(amount_usd),
        order_id=order.order_id,
    )


def _parse_split(done: Restatement) -> Iterator[Split | Fill]:
    """Yield the split, and the sale of the part of a share that it left over; nothing for a dividend alone."""
    if done.ratio == 1:
        return
    before, after = _decimal(done.quantity_before), _decimal(done.quantity_after)
    added = _decimal(round(done.quantity_before * done.ratio, DECIMALS)) if done.fraction_usd else after
    yield Split(at=done.at, symbol=done.symbol, removed=before, added=added)
    if fraction := added - after:
        usd = _decimal(done.fraction_usd)
        yield Fill(
            fill_id=f"split-{done.symbol}-{done.at.astimezone(NEW_YORK):%Y-%m-%d}",
            at=done.at,
            symbol=done.symbol,
            side=Side.SELL,
            quantity=fraction,
            price_usd=EXACT.divide(usd, fraction).quantize(PLACES),
            amount_usd=usd,
            order_id="",
        )


def _list_dividends(restatements: Sequence[Restatement]) -> Iterator[Entry]:
    for number, done in enumerate(restatements, 1):
        if done.dividend_usd or done.is_doubtful:
            yield Entry(
                entry_id=f"restatement-{number}",
                day=_day(done.at),
                entered_at=done.at,
                kind="DIV" if done.dividend_usd else "RESTATED",
                group=Group.UNKNOWN if done.is_doubtful else Group.DIVIDEND,
                symbol=done.symbol,
                quantity=_decimal(done.quantity_before),
                amount_usd=_decimal(done.dividend_usd),
                words="no usual split or dividend explains how the source changed its prices" * done.is_doubtful,
            )


def _is_same(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= PLACES


def _day(moment: datetime) -> date:
    return moment.astimezone(NEW_YORK).date()


def _decimal(number: float) -> Decimal:
    """Return the decimal that a float stands for, such as 0.1, without an exponent."""
    found = Decimal(repr(float(number)))
    return found.quantize(Decimal(1)) if found == found.to_integral_value() else found.normalize()
