"""The embedded broker's book: what its file holds, and what orders, prices and restatements do to it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR

from trader.broker.base import OrderRejectedError, SharesReservedError
from trader.broker.restating import Action, Close, Quotes, interpret, keep, measure, update
from trader.model import DECIMALS, Closes, Code, OpenOrder, Order, OrderStatus, OrderType, Position, Side, move_to_tick
from trader.prices.series import Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Restatement:
    """A holding restated for a split (`ratio` in new shares for each old one) or a dividend, or for both.

    `dividend_usd` is what was paid for the old shares, negative if the source took back an earlier dividend, and
    `fraction_usd` what was paid for the fraction of a new share. `is_doubtful`: no usual split or dividend explains it.
    """

    at: datetime
    symbol: str
    ratio: float
    quantity_before: float
    quantity_after: float
    dividend_usd: float = 0.0
    fraction_usd: float = 0.0
    is_doubtful: bool = False


@dataclass(slots=True, kw_only=True)
class Book:
    """The contents of the file. `brackets` holds what ends a holding, by symbol: a buy with open legs, or a stop.

    `quotes` holds what the price source said of each holding; files of older versions lack it. Orders stay as they were
    filled; positions, brackets and quotes are in the unit of the shares held now.
    """

    cash_usd: float
    last_equity_usd: float
    as_of: datetime
    positions: dict[str, Position] = field(default_factory=dict)
    brackets: dict[str, Order] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    quotes: dict[str, Quotes] = field(default_factory=dict)
    restatements: tuple[Restatement, ...] = ()

    def equity_usd(self) -> float:
        """Return the cash and the value of the holdings, each to the cent, as an order for it would cost."""
        values_usd = (round(each.quantity * each.price_usd, 2) for each in self.positions.values())
        return round(self.cash_usd + sum(values_usd), 2)


# --- orders --------------------------------------------------------------------------------------------------------


def reserve(book: Book, stop: Order) -> None:
    """Keep a stop for shares that nothing reserves. Raises OrderRejectedError, without a change, if there are none."""
    held = book.positions.get(stop.symbol)
    if held is None or stop.quantity > held.quantity:
        raise OrderRejectedError(f"insufficient quantity available: {held.quantity if held else 0:g} held")
    if stop.symbol in book.brackets:
        raise SharesReservedError("insufficient quantity available: another stop or bracket holds the shares")
    if stop.stop_loss_usd is None or stop.stop_loss_usd >= held.price_usd:
        raise OrderRejectedError(f"a stop at {stop.stop_loss_usd} is not below the price, {held.price_usd:,.2f}")
    book.brackets[stop.symbol] = stop


def find_day_stops(book: Book) -> list[Order]:
    """Return the stops for a part of a share: brokers take them for a day only."""
    return [order for order in book.brackets.values() if order.type is OrderType.STOP and not order.is_whole]


def expire(book: Book, stops: Sequence[Order], close: datetime) -> None:
    """End those of the stops that were placed before a close, also if a split has made their shares whole since."""
    for stop in stops:
        order = book.brackets.get(stop.symbol)
        is_there = order is not None and order.client_order_id == stop.client_order_id
        if order and is_there and order.submitted_at is not None and order.submitted_at < close:
            del book.brackets[stop.symbol]
            book.orders[order.client_order_id] = replace(order, status=OrderStatus.EXPIRED)


def fill(book: Book, order: Order, price_usd: float) -> None:
    """Move the cash and the shares of one order.

    Raises OrderRejectedError, without any change, if a cash account could not fill the order.
    """
    held = book.positions.get(order.symbol)
    had = held.quantity if held else 0.0
    value_usd = round(order.quantity * price_usd, 2)
    if order.side is Side.BUY:
        if order.is_bracket and not order.quantity.is_integer():
            raise OrderRejectedError(f"a bracket order of {order.quantity:g} shares: only whole shares are allowed")
        if value_usd > book.cash_usd:
            raise OrderRejectedError(
                f"costs {value_usd:,.2f} USD, but the cash is {book.cash_usd:,.2f} USD", Code.BUYING_POWER_EXCEEDED
            )
        cost_usd = value_usd + had * (held.average_price_usd or 0.0 if held else 0.0)
        average_usd: float | None = cost_usd / (had + order.quantity)
    else:
        if order.symbol in book.brackets:
            raise SharesReservedError("insufficient quantity available: its bracket holds the shares")
        if order.quantity > had:
            raise OrderRejectedError(f"insufficient quantity available: {had:g} held")
        value_usd = -value_usd
        average_usd = held.average_price_usd if held else 0.0
    book.cash_usd = round(book.cash_usd - value_usd, 2)
    left = had + order.signed_quantity
    book.positions.pop(order.symbol, None)
    if left > 0:
        book.positions[order.symbol] = Position(
            symbol=order.symbol, quantity=left, average_price_usd=average_usd, price_usd=price_usd
        )
    else:
        book.quotes.pop(order.symbol, None)


def exits(order: Order) -> Iterator[OpenOrder]:
    """Yield a stop, or the two legs of a bracket."""
    if order.type is OrderType.STOP:
        yield _exit(order, order.client_order_id, order.order_id)
        return
    for leg in ("stop-loss", "take-profit"):
        yield _exit(order, f"{order.client_order_id}-{leg}", f"{order.order_id}-{leg}")


def _exit(order: Order, client_order_id: str, order_id: str) -> OpenOrder:
    is_limit = order_id.endswith("take-profit")
    return OpenOrder(
        order_id=order_id,
        client_order_id=client_order_id,
        symbol=order.symbol,
        side=Side.SELL,
        quantity=order.quantity,
        is_leg=True,
        type=OrderType.LIMIT if is_limit else OrderType.STOP,
        order_class="bracket" if order.is_bracket else "",
        stop_price_usd=None if is_limit else order.stop_loss_usd,
        limit_price_usd=order.take_profit_usd if is_limit else None,
        parent_id=order.order_id if order.is_bracket else "",
    )


# --- prices --------------------------------------------------------------------------------------------------------


def advance(book: Book, series: Mapping[str, Series], until: datetime) -> None:
    """Fill brackets and update prices up to a moment; a bar counts as complete from its start on.

    Each symbol has been followed with `follow_source` before.
    """
    for symbol, each in series.items():
        if symbol in book.positions:
            _advance_symbol(book, symbol, each, until)
    book.as_of = until


def quote(book: Book, symbol: str, series: Series) -> None:
    """Keep the last closes of a holding, as far as they are in the unit of its last one."""
    closes, changes = series.visible(), series.find_changes_of_unit()
    kept = book.quotes.get(symbol)
    book.quotes[symbol] = keep(closes.loc[max(changes) :] if changes else closes, kept.since if kept else None)


def _advance_symbol(book: Book, symbol: str, series: Series, until: datetime) -> None:
    """Take one holding from bar to bar, and through the splits that nobody adjusted for."""
    series = series.until(until)
    closes, last = series.visible(), book.quotes[symbol].last
    if closes.empty or closes.index[-1] < last.at:  # these are older than what is known: they say nothing new
        return
    for split in series.find_splits():
        if split.time <= last.at:
            continue
        _pass(book, symbol, closes.loc[closes.index < split.time], until)
        if symbol not in book.positions:
            return
        restate(book, symbol, Action(shares=split.ratio), until)
        closes = closes.loc[split.visible_from :]
    if symbol in book.positions:
        _pass(book, symbol, closes, until)
    if symbol in book.positions:
        quote(book, symbol, series)


def _pass(book: Book, symbol: str, closes: Closes, until: datetime) -> None:
    """Let closes of one unit trigger the bracket of a holding, and value what is left at the last of them."""
    if closes.empty:
        return
    if symbol in book.brackets and until > book.as_of:
        _trigger(book, book.brackets[symbol], _since(closes, book.as_of))
    if symbol in book.positions:
        book.positions[symbol] = replace(book.positions[symbol], price_usd=float(closes.iloc[-1]))


def _since(closes: Closes, moment: datetime) -> Closes:
    """Return the bars from `moment` on, or at least the last bar: a running bar's close is the current price."""
    later = closes.loc[moment:]
    return later if len(later) else closes.iloc[-1:]


def _trigger(book: Book, order: Order, closes: Closes) -> None:
    """Sell at the first close that reaches the stop or the limit: at the close, or at the limit if that is lower."""
    stop_usd = order.stop_loss_usd
    assert stop_usd is not None, "only orders with a stop are kept as brackets"
    limit_usd = math.inf if order.take_profit_usd is None else order.take_profit_usd
    hit = closes[(closes <= stop_usd) | (closes >= limit_usd)]
    if hit.empty:
        return
    price_usd = float(min(hit.iloc[0], limit_usd))
    is_stop = price_usd <= stop_usd
    sale = replace(
        order,
        side=Side.SELL,
        type=OrderType.STOP if is_stop else OrderType.LIMIT,
        stop_loss_usd=stop_usd if is_stop else None,
        take_profit_usd=None if is_stop else limit_usd,
        status=OrderStatus.FILLED,
        filled_quantity=order.quantity,
        filled_price_usd=price_usd,
        filled_at=max(hit.index[0].to_pydatetime(), book.as_of),  # a running bar's close came after the last run
    )
    if order.type is not OrderType.STOP:
        leg = "stop-loss" if is_stop else "take-profit"
        sale = replace(
            sale,
            client_order_id=f"{order.client_order_id}-{leg}",
            order_id=f"{order.order_id}-{leg}",
            reason=f"{leg} of its bracket",
        )
    del book.brackets[order.symbol]
    fill(book, sale, price_usd)
    book.orders[sale.client_order_id] = sale


# --- restatements --------------------------------------------------------------------------------------------------


def follow_source(book: Book, symbol: str, series: Series, now: datetime) -> str:
    """Restate a holding if the source has rewritten its past. Return why it is not known whether it has; else ''.

    A holding of which that is not known must be left as it is: its shares and the source's prices may differ in unit.
    """
    closes = series.visible()
    kept = book.quotes.get(symbol) or _recall(book.positions[symbol], closes, book.as_of)
    book.quotes[symbol] = kept
    splits = {each.time for each in series.find_splits()}
    for change in series.find_changes_of_unit():
        if change > kept.last.at and change not in splits:
            return f"its closes change their unit on {change:%Y-%m-%d}, by no usual ratio"
    measured = measure(kept, closes)
    if measured is None:
        was = f"they were valued at the close of {kept.last.at:%Y-%m-%d}, {kept.last.price_usd:,.2f}"
        return f"{was}, and the source's closes of today do not fit it"
    action = interpret(measured)
    if action != Action():
        book.quotes[symbol] = update(kept, measured, closes)
        restate(book, symbol, action, now)
    return ""


def restate(book: Book, symbol: str, action: Action, at: datetime) -> None:
    """Give a holding the quantity, the prices, the bracket and the cash that follow from what happened to its shares.

    The equity stays as it was, to a cent. Of whole shares, a fraction that is left over is paid out.
    """
    held = book.positions[symbol]
    dividend_usd = round(held.quantity * held.price_usd * action.paid_fraction, 2)
    if book.cash_usd + dividend_usd < 0:  # an earlier dividend was taken back, and is spent
        action, dividend_usd = Action(shares=1 / action.factor, is_doubtful=True), 0.0
    quantity, fraction_usd = round(held.quantity * action.shares, DECIMALS), 0.0
    price_usd = held.price_usd * action.factor
    if held.quantity.is_integer() and not quantity.is_integer():
        whole = float(math.floor(quantity))
        quantity, fraction_usd = whole, round((quantity - whole) * price_usd, 2)
    book.cash_usd = round(book.cash_usd + dividend_usd + fraction_usd, 2)
    done = Restatement(
        at=at,
        symbol=symbol,
        ratio=action.shares,
        quantity_before=held.quantity,
        quantity_after=quantity,
        dividend_usd=dividend_usd,
        fraction_usd=fraction_usd,
        is_doubtful=action.is_doubtful,
    )
    book.restatements += (done,)
    _restate_bracket(book, symbol, action)
    if not quantity:
        del book.positions[symbol]
        book.quotes.pop(symbol, None)
        return
    average_usd = None if held.average_price_usd is None else held.average_price_usd / action.shares
    book.positions[symbol] = replace(held, quantity=quantity, average_price_usd=average_usd, price_usd=price_usd)


def _restate_bracket(book: Book, symbol: str, action: Action) -> None:
    """Restate what ends a holding: the stop is rounded down to a tick, as brokers do, and the limit up.

    A dividend lowers both by its part of the price, because it lowers the earlier closes by the same part.
    """
    order = book.brackets.pop(symbol, None)
    if order is None:
        return
    quantity = round(order.quantity * action.shares, DECIMALS)
    if order.is_whole:
        quantity = float(math.floor(quantity))
    stop_usd, limit_usd = order.stop_loss_usd, order.take_profit_usd
    restated = replace(
        order,
        quantity=quantity,
        price_usd=order.price_usd * action.factor,
        stop_loss_usd=None if stop_usd is None else move_to_tick(stop_usd * action.factor, ROUND_FLOOR),
        take_profit_usd=None if limit_usd is None else move_to_tick(limit_usd * action.factor, ROUND_CEILING),
    )
    if quantity:
        book.brackets[symbol] = restated
    if order.type is OrderType.STOP:
        ended = replace(order, status=OrderStatus.CANCELED)
        book.orders[order.client_order_id] = restated if quantity else ended


def _recall(held: Position, closes: Closes, as_of: datetime) -> Quotes:
    """Return the price in the file of an older version, as the close of the bar in which the account was last used."""
    before = closes.loc[:as_of]
    at = before.index[-1].to_pydatetime() if len(before) else as_of
    return Quotes(since=at, closes=(Close(at=at, price_usd=held.price_usd),))


def check(book: Book) -> Book:
    """Return the book. Raises ValueError if a position, a bracket or a quote in it is invalid."""
    for symbol, position in book.positions.items():
        if position.symbol != symbol or position.quantity <= 0 or position.price_usd <= 0:
            raise ValueError(
                f"the position of {symbol!r:.100} is invalid: another symbol, or a quantity or price not above 0"
            )
    for symbol, order in book.brackets.items():
        held = book.positions.get(symbol)
        if order.symbol != symbol or order.stop_loss_usd is None or not held or order.quantity > held.quantity:
            raise ValueError(
                f"the bracket of {symbol!r:.100} is invalid: another symbol, no stop, or more shares than held"
            )
    for symbol, quotes in book.quotes.items():
        if not quotes.closes or any(each.price_usd <= 0 for each in quotes.closes):
            raise ValueError(f"the quotes of {symbol!r:.100} are invalid: there are none, or a price is not above 0")
    return book
