"""Protection: every holding that the bot bought has a working stop for all its shares, or the run names it."""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_FLOOR

from trader.broker.base import (
    Books,
    Broker,
    OrderId,
    OrderRejectedError,
    SharesReservedError,
    UnreadablePositionsError,
)
from trader.broker.sending import Sender
from trader.broker.waiting import CANCEL_TIME_S, await_end, looks
from trader.deadline import ORDER_TIME_S, Deadline
from trader.journal.base import JournalError, Run
from trader.model import (
    DECIMALS,
    NEW_YORK,
    BrokerError,
    Denial,
    OpenOrder,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    Unprotected,
    move_to_tick,
    round_to_tick,
)
from trader.settings import Settings

LOG = logging.getLogger("trader")

SALE_TIME_S = 5.0
"""How long a sale at a price below the stop may take to fill."""

TOLERANCE = 0.02
"""The difference, as a fraction, up to which a change in quantity and one in price are the same split."""

LEAST_QUANTITY = 1e-6
"""Less than this part of a share is the rounding of a sum of quantities."""

MAX_GAP_FRACTION = 0.3
"""The furthest that a price may be below its stop for a sale; further down, it may be a split not yet applied."""

WORKING = frozenset(
    {
        OrderStatus.NEW,
        OrderStatus.ACCEPTED,
        OrderStatus.PENDING_NEW,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.PENDING_REPLACE,
        OrderStatus.HELD,
    }
)
"""The statuses in which a stop sells when its price is reached. A bracket's stop is held while its limit waits, but its
legs are also held while their entry is not completely filled; `is_working_stop` tells these cases apart."""


@dataclass(slots=True, kw_only=True)
class Holdings:
    """The account's holdings and open orders after the stage, and what it did and could not do."""

    open_orders: tuple[OpenOrder, ...] = ()
    positions: Mapping[str, Position] = field(default_factory=dict)
    is_touched: bool = False  # orders were placed or canceled, so the rest may be out of date
    fault: UnreadablePositionsError | None = None  # some holdings are missing, because they cannot be read
    vanished: frozenset[str] = frozenset()  # held as shown earlier in the run, but not as shown now


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """The shares of a holding that the bot bought and still holds, with the price for their stop."""

    quantity: float
    stop_usd: float
    order_ids: frozenset[str]  # of the bot's orders for this symbol, and their legs


type Plans = Callable[[datetime], Sequence[Order]]
"""Returns the orders that the run of a slot planned; raises JournalError if that cannot be read now."""


def protect(
    run: Run,
    broker: Broker,
    deadline: Deadline,
    *,
    held_back: str,
    is_open: bool,
    planned: Plans | None = None,
    finishing: Collection[str] = (),
    books: Books | None = None,
) -> Holdings:
    """Look at every holding, and place a stop for the shares that the bot bought and that have none.

    If the price is already at or below the stop, the shares are sold. `held_back` is the reason why nothing may be
    placed, but for the stops of the symbols in `finishing`; empty if orders may be placed. `is_open` is False while
    the market is closed: then nothing is sold at the market. `planned` is asked for the stop of a buy without a bracket
    that has had none yet. `books` reads the open orders and the holdings; None if the broker does. Each order is noted
    in `run` as soon as it is placed, and at the end what has no working stop.

    An entry or sale that an earlier slot of the strategy left open is canceled before, whatever is held back: the
    journal may not know of it. Only a dry run leaves it open.

    A healthy account costs two requests, which the run needs in any case. Raises BrokerError if the account cannot be
    read, or after an error that leaves an order in doubt. If some holdings cannot be read, the others are protected
    before that.
    """
    settings = run.settings
    books = books or broker
    holdings = _read(run, books)
    if not run.is_dry and (old := _find_old(holdings.open_orders, settings.strategy, run.slot)):
        _cancel(old, broker, settings.strategy)
        holdings = _read(run, books)
    run.unprotected.clear()
    if settings.stop_loss_fraction and (bare := _find_bare(run, holdings)):
        rights = _Rights(held_back=held_back, finishing=finishing, is_open=is_open)
        _Guard(run, broker, deadline, holdings, rights, planned).restore(bare)
    if holdings.fault:
        raise holdings.fault
    return holdings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rights:
    """What may be placed: see `protect`."""

    held_back: str
    finishing: Collection[str]
    is_open: bool

    def find_obstacle(self, symbol: str) -> str:
        """Return why no stop may be placed for a symbol; empty if one may."""
        return "" if symbol in self.finishing else self.held_back


def _find_bare(run: Run, holdings: Holdings) -> Mapping[str, Position]:
    """Return the holdings without a stop for all their shares, and name those that cannot be read."""
    for symbol, words in holdings.fault.faults.items() if holdings.fault else ():
        run.unprotected[symbol] = Unprotected(symbol=symbol, reason=f"it cannot be read: {words}", is_ours=True)
    orders: dict[str, list[OpenOrder]] = {}
    for order in holdings.open_orders:
        orders.setdefault(order.symbol, []).append(order)
    return {
        symbol: position
        for symbol, position in holdings.positions.items()
        if position.quantity
        and not _is_covered(position, _count_stopped(position, orders.get(symbol, ()), run.settings))
    }


# --- pure ----------------------------------------------------------------------------------------------------------


def is_working_stop(order: OpenOrder, open_orders: Sequence[OpenOrder]) -> bool:
    """Check whether an open order is a stop that sells when its price is reached.

    Legs that wait for their entry do not: their entry is among the open orders, even if it is filled in part, or has
    ended without being filled completely, and its legs wait for ever. An order that is being canceled does not either.
    """
    if order.side is not Side.SELL or not order.type.is_stop or order.status not in WORKING:
        return False
    if order.status is not OrderStatus.HELD:
        return True
    if order.parent_status is not None and order.parent_status.is_dead:
        return False
    entries = [each for each in open_orders if each.side is Side.BUY and each.symbol == order.symbol]
    return not any(order.parent_id in ("", each.order_id) for each in entries)


def are_protected(outcomes: Sequence[Order | Denial]) -> bool:
    """Check whether every order is filled, and the stop of each buy open for all its shares, as the broker says.

    Then another look at the holdings after these orders would show nothing new.
    """
    return all(isinstance(each, Order) and _is_filled_with_stop(each) for each in outcomes)


def _is_filled_with_stop(order: Order) -> bool:
    stopped = sum(leg.quantity for leg in order.legs if leg.type.is_stop and leg.status in WORKING)
    return order.status is OrderStatus.FILLED and (order.side is Side.SELL or stopped >= order.filled_quantity)


def find_lot(symbol: str, position: Position, history: Sequence[Order], settings: Settings) -> Lot | None:
    """Return what the bot bought of a holding and what the stop price is; None if it bought nothing that is left.

    `history` holds the orders for the symbol, newest first. The stop is at the original distance from what was paid,
    and never lower than it was. After a split, what was paid for a share is what the broker says now.
    """
    history = [order for order in history if order.symbol == symbol]
    ours = [order for order in history if _is_ours(order, settings.strategy)]
    entry = _find_entry(history, settings.strategy)
    if entry is None or not entry.filled_price_usd or not position.average_price_usd:
        return None
    later = history[: history.index(entry)]
    left = count_left(entry, later, settings.strategy)
    if left <= 0:
        return None
    ratio = find_split(entry.filled_price_usd / position.average_price_usd, left, position.quantity)
    stops = [
        *_list_stops(entry, left, ratio),
        *(stop for each in later if each in ours for stop in _list_stops(each, left, ratio)),
    ]
    stops = [stop for stop in stops if ratio == 1 or stop < position.average_price_usd]
    by_setting_usd = entry.filled_price_usd / ratio * (1 - settings.stop_loss_fraction)
    stop_usd = max([by_setting_usd, *stops])
    rounded_usd = float(round_to_tick(stop_usd))
    if stop_usd < position.price_usd <= rounded_usd:  # rounding alone must not sell
        rounded_usd = move_to_tick(stop_usd, ROUND_FLOOR)
    known = [each for order in ours for each in (order, *order.legs)]
    return Lot(
        quantity=_settle_quantity(left * ratio, position.quantity, is_split=ratio != 1),
        stop_usd=rounded_usd,
        order_ids=frozenset(each.order_id for each in known),
    )


def _list_stops(order: Order, left: float, ratio: float) -> Iterator[float]:
    """Yield the stop price of an order, if it has one, in the unit of the shares held now.

    After a split, an order's quantity tells whether it is from before: brokers restate both or neither. `left` shares
    of before are held now. An entry that has its stop in a leg is told by that.
    """
    if order.stop_loss_usd is None:
        return
    quantity = next((leg.quantity for leg in order.legs if leg.type.is_stop), order.quantity)
    is_old = quantity > 0 and abs(math.log(quantity / left)) <= abs(math.log(quantity / (left * ratio)))
    yield order.stop_loss_usd / ratio if is_old else order.stop_loss_usd


def _settle_quantity(quantity: float, held: float, *, is_split: bool) -> float:
    """Return how many shares of a holding are a lot's, without the rounding of sums, or of a split's prices.

    The ratio of a split is that of two prices, one of which the broker rounds, so that it is exact to TOLERANCE only.
    """
    if held.is_integer() and (is_split or abs(quantity - round(quantity)) <= LEAST_QUANTITY):
        return min(held, float(round(quantity)))
    if abs(quantity - held) <= (TOLERANCE * held if is_split else LEAST_QUANTITY):
        return held
    nearest = float(round(quantity))
    return min(held, nearest if abs(quantity - nearest) <= LEAST_QUANTITY else round(quantity, DECIMALS))


def count_left(entry: Order, later: Sequence[Order], strategy: str) -> float:
    """Return how many of the shares that an entry bought are left after the later orders, which come newest first.

    What somebody else has sold since is first of what he has bought since.
    """
    left, of_others = entry.filled_quantity, 0.0
    for order in (*entry.legs, *(each for parent in reversed(later) for each in (parent, *parent.legs))):
        if order.side is Side.BUY:
            of_others += order.filled_quantity
            continue
        is_own = order in entry.legs or _is_ours(order, strategy)
        taken = 0.0 if is_own else min(of_others, order.filled_quantity)
        of_others -= taken
        left -= order.filled_quantity - taken
    return left


def is_bought_twice(history: Sequence[Order], others: float, strategy: str) -> bool:
    """Check whether shares beside the last lot may be the strategy's too: it bought before, and nobody else enough."""
    earlier_buys = [order for order in history if _is_ours(order, strategy) and _is_filled_buy(order)][1:]
    of_others = sum(
        order.filled_quantity if order.side is Side.BUY else -order.filled_quantity
        for parent in history
        if not _is_ours(parent, strategy)
        for order in (parent, *parent.legs)
    )
    return bool(earlier_buys) and others > max(0.0, of_others)


def find_split(by_price: float, left: float, quantity: float) -> float:
    """Return how many shares a share has become: `by_price`, if the number of shares has changed as much; otherwise 1.

    A reverse split leaves whole shares only, so the number may be the next lower one.
    """
    expected = left * by_price
    is_same = abs(quantity / expected - 1) <= TOLERANCE or quantity == math.floor(expected)
    return by_price if abs(by_price - 1) > TOLERANCE and is_same else 1.0


def find_open_entry(history: Sequence[Order], strategy: str) -> Order | None:
    """Return the strategy's newest buy if shares of it are left. `history` is that of one symbol, newest first."""
    entry = _find_entry(history, strategy)
    is_open = entry is not None and count_left(entry, history[: history.index(entry)], strategy) > LEAST_QUANTITY
    return entry if is_open else None


def _find_entry(history: Sequence[Order], strategy: str) -> Order | None:
    """Return the strategy's newest buy that was filled, at least in part."""
    return next((each for each in history if _is_ours(each, strategy) and _is_filled_buy(each)), None)


def _is_filled_buy(order: Order) -> bool:
    return order.side is Side.BUY and order.filled_quantity > 0


def _is_ours(order: Order | OpenOrder, strategy: str) -> bool:
    parts = OrderId.parse(order.client_order_id)
    return parts is not None and parts.strategy == strategy


def _find_old(open_orders: Sequence[OpenOrder], strategy: str, slot: datetime) -> list[OpenOrder]:
    """Return the open entries and sales of the strategy's earlier slots."""
    ids = [(order, OrderId.parse(order.client_order_id)) for order in open_orders]
    return [
        order
        for order, parts in ids
        if parts and parts.strategy == strategy and parts.slot < slot and not parts.stop_number
    ]


def _count_stopped(position: Position, open_orders: Sequence[OpenOrder], settings: Settings) -> float:
    """Return the number of shares of a holding for which working stops are open that are not far too low."""
    orders = [each for each in open_orders if each.symbol == position.symbol]
    working = [each for each in orders if is_working_stop(each, orders)]
    return sum(each.quantity for each in working if not _is_far_too_low(each.stop_price_usd, position, settings))


def _is_far_too_low(stop_usd: float | None, position: Position, settings: Settings) -> bool:
    """Check whether a stop is at less than half of its price, such as one from before a reverse split."""
    right_usd = (position.average_price_usd or 0.0) * (1 - settings.stop_loss_fraction)
    return stop_usd is not None and stop_usd < right_usd / 2


def _is_covered(position: Position, stopped: float) -> bool:
    """Check whether working stops cover all shares of a holding, parts of a share included."""
    return position.is_stock and position.quantity > 0 and position.quantity - LEAST_QUANTITY <= stopped


def _hidden_stops(
    history: Sequence[Order], open_orders: Sequence[OpenOrder], positions: Mapping[str, Position]
) -> Iterator[OpenOrder]:
    """Yield the open stops that belong to filled entries and that the broker's list of open orders lacks.

    Alpaca is known to leave a bracket's held stop out of that list. But the history may also be old: a stop whose
    shares are free, as the holding says, is not there any more.
    """
    listed = {each.order_id for each in open_orders}
    for entry in history:
        for leg in entry.legs if entry.status is OrderStatus.FILLED else ():
            if not leg.type.is_stop or leg.status not in WORKING or leg.order_id in listed:
                continue
            position = positions.get(leg.symbol)
            if position is not None and _are_reserved(position, leg.quantity - leg.filled_quantity):
                yield OpenOrder(
                    order_id=leg.order_id,
                    client_order_id=leg.client_order_id,
                    symbol=leg.symbol,
                    side=leg.side,
                    quantity=leg.quantity - leg.filled_quantity,
                    is_leg=True,
                    type=leg.type,
                    status=leg.status,
                    stop_price_usd=leg.stop_loss_usd,
                    parent_id=entry.order_id,
                )


def _are_reserved(position: Position, quantity: float) -> bool:
    """Check whether orders may reserve that many shares of a holding."""
    return position.available is None or position.quantity - position.available >= quantity


def _has_begun_sale(run: Run, symbol: str) -> bool:
    """Check whether the run sent a sale of a symbol, or canceled its stop for one."""
    return any(
        each.symbol == symbol and (each.is_unprotected if isinstance(each, Denial) else each.side is Side.SELL)
        for each in run.outcomes
    )


# --- with the broker -----------------------------------------------------------------------------------------------


def _read(run: Run, books: Books) -> Holdings:
    """Read the open orders and the holdings. If only the orders cannot be read, no holding is known to be protected."""
    # The orders are read first: one that is filled in between is then in both, and not in neither.
    try:
        open_orders = books.open_orders()
    except BrokerError as error:
        reason = f"the open orders cannot be read: {error}"
        for symbol in books.positions() if run.settings.stop_loss_fraction else ():
            run.unprotected[symbol] = Unprotected(symbol=symbol, reason=reason, is_ours=True)
        raise
    fault = None
    try:
        positions = books.positions()
    except UnreadablePositionsError as error:
        positions, fault = error.positions, error
    vanished = run.held.keys() - positions.keys() - (fault.faults.keys() if fault else set())
    run.held |= positions
    return Holdings(
        open_orders=open_orders,
        positions={**positions, **{symbol: run.held[symbol] for symbol in vanished}},
        fault=fault,
        vanished=frozenset(vanished),
    )


def _cancel(orders: Sequence[OpenOrder], broker: Broker, strategy: str) -> None:
    """Cancel orders that nobody owns any more, and wait until they are gone. A failure is logged."""
    extra = {"strategy": strategy, "symbols": ",".join(order.symbol for order in orders)}
    LOG.warning("orders of an earlier run are open and are canceled", extra=extra)
    ids = {order.order_id for order in orders}
    new = [order for order in orders if order.status is not OrderStatus.PENDING_CANCEL]
    try:
        for order in new:
            broker.cancel(order)
        for _ in looks(CANCEL_TIME_S if new else 0.0):
            if not ids & {order.order_id for order in broker.open_orders()}:
                return
    except BrokerError as error:
        extra |= {"error": str(error)}
    LOG.error("orders of an earlier run are still open", extra=extra)


class _Guard:
    """The stops that one run restores."""

    def __init__(
        self,
        run: Run,
        broker: Broker,
        deadline: Deadline,
        holdings: Holdings,
        rights: _Rights,
        planned: Plans | None,
    ) -> None:
        self._run = run
        self._settings = run.settings
        self._broker = broker
        self._deadline = deadline
        self._holdings = holdings
        self._rights = rights
        self._planned = planned
        self._sender = Sender(broker, deadline)

    def restore(self, bare: Mapping[str, Position]) -> None:
        """Restore the stop of each of these holdings, or note why it has none."""
        failure: BrokerError | None = None
        stocks = [symbol for symbol, position in bare.items() if position.is_stock]
        try:
            history = self._broker.orders_of(stocks) if stocks else ()
        except BrokerError as error:
            for symbol in bare:
                self._name(symbol, f"its orders cannot be read: {error}", is_ours=True)
            raise
        history = self._complete(history, stocks)
        self._holdings.open_orders += tuple(_hidden_stops(history, self._holdings.open_orders, bare))
        for symbol, position in bare.items():
            if _is_covered(position, self._count_stopped(position)):
                continue
            try:
                self._restore_one(symbol, position, history)
            except BrokerError as error:  # the other holdings are protected nevertheless
                failure = failure or error
                self._name(symbol, str(error), is_ours=True)
                if self._sender.in_doubt is not None:
                    self._take_down(replace(self._sender.in_doubt, status=OrderStatus.UNKNOWN))
                    self._sender.in_doubt = None
        if failure:
            raise failure

    def _complete(self, history: Sequence[Order], symbols: Iterable[str]) -> list[Order]:
        """Return the orders, those entries that had no stop yet with the one that they were planned with.

        A broker does not know it, as such a buy is no bracket. Once there has been a stop, that one tells the price.
        """
        entries: dict[str, datetime] = {}  # with their slots
        for symbol in symbols:
            orders = [order for order in history if order.symbol == symbol]
            entry = _find_entry(orders, self._settings.strategy)
            parts = OrderId.parse(entry.client_order_id) if entry else None
            if entry is None or parts is None or entry.stop_loss_usd is not None:
                continue
            later = orders[: orders.index(entry)]
            if not any(each.stop_loss_usd is not None and _is_ours(each, parts.strategy) for each in later):
                entries[entry.client_order_id] = parts.slot
        plans = self._read_plans(entries)
        return [
            replace(order, stop_loss_usd=plans[order.client_order_id].stop_loss_usd)
            if order.client_order_id in plans
            else order
            for order in history
        ]

    def _read_plans(self, entries: Mapping[str, datetime]) -> Mapping[str, Order]:
        """Return these entries as they were planned, by id. A warning names those of which no plan can be read."""
        plans = {each.client_order_id: each for each in (self._run.decision.orders if self._run.decision else ())}
        error = ""
        if not self._rights.held_back:
            try:
                for slot in {slot for name, slot in entries.items() if name not in plans}:
                    plans |= {each.client_order_id: each for each in (self._planned(slot) if self._planned else ())}
            except JournalError as failure:  # no reason to leave a holding bare; a second try would take as long
                error = str(failure)
            if unknown := [name for name in entries if name not in plans]:
                words = "a stop is at STOP_LOSS_FRACTION below what was paid, even if the rule asked for a closer one"
                extra = {"strategy": self._settings.strategy, "orders": ", ".join(unknown), "detail": words}
                LOG.warning("the plan of a buy is not known", extra=extra | ({"error": error} if error else {}))
        return {name: plans[name] for name in entries if name in plans}

    def _restore_one(self, symbol: str, position: Position, history: Sequence[Order]) -> None:
        lot = find_lot(symbol, position, history, self._settings)
        if lot is None and symbol in self._holdings.vanished:
            return  # as its orders show, it has been sold
        if lot is not None and self._is_rest_of_others(position, lot):
            return
        if refusal := self._refuse(position, lot, history):
            reason, is_ours = refusal
            self._name(symbol, reason, is_ours=is_ours)
            return
        assert lot is not None, "a holding without a lot is refused"
        missing = self._count_missing(position, lot)
        try:
            order = self._place(symbol, position, missing, lot)
        except OrderRejectedError as error:
            self._name(symbol, str(error), is_ours=True)
            return
        if order.quantity < missing:
            self._name(symbol, f"only {order.quantity:g} of {missing:g} shares were free for a stop", is_ours=True)
        is_sale = order.type is OrderType.MARKET
        words = "sold, because the price is at or below its stop" if is_sale else "a stop is placed"
        extra: dict[str, object] = {"strategy": self._settings.strategy, "symbols": symbol, "stop_usd": lot.stop_usd}
        extra["quantity"] = order.quantity
        if order.is_whole or self._has_lost_stop(symbol, history):
            LOG.error("stop loss missing", extra={**extra, "detail": f"held without a working stop; {words}"})
        elif is_sale:
            LOG.warning("sold below its stop", extra={**extra, "detail": f"its stop for the day has ended; {words}"})
        else:
            LOG.info("stop for the day", extra={**extra, "detail": words})

    def _has_lost_stop(self, symbol: str, history: Sequence[Order]) -> bool:
        """Check whether a stop of this strategy ended today, although stops for a part of a share last for the day."""
        today = self._run.now.astimezone(NEW_YORK).date()
        stops = [each for each in history if each.symbol == symbol and each.type.is_stop and each.status.is_dead]
        return any(
            each.status is not OrderStatus.EXPIRED
            and each.submitted_at is not None
            and each.submitted_at.astimezone(NEW_YORK).date() == today
            for each in stops
            if _is_ours(each, self._settings.strategy)
        )

    def _count_stopped(self, position: Position) -> float:
        return _count_stopped(position, self._holdings.open_orders, self._settings)

    def _count_missing(self, position: Position, lot: Lot) -> float:
        """Return how many shares of the bot's have no stop. A stop of somebody else is for his shares first."""
        orders = self._holdings.open_orders
        strategy = self._settings.strategy
        own = [each for each in orders if {each.order_id, each.parent_id} & lot.order_ids or _is_ours(each, strategy)]
        by_own = _count_stopped(position, own, self._settings)
        by_others = self._count_stopped(position) - by_own
        of_others = position.quantity - lot.quantity
        return round(lot.quantity - by_own - max(0.0, by_others - of_others), DECIMALS)

    def _is_rest_of_others(self, position: Position, lot: Lot) -> bool:
        """Check whether all that lacks a stop is a part of a share that somebody else bought, as dividends may."""
        has_stop = lot.quantity >= 1 and self._count_missing(position, lot) < LEAST_QUANTITY
        return has_stop and position.quantity - lot.quantity < 1 and not self._find_odd_price(position, lot)

    def _refuse(self, position: Position, lot: Lot | None, history: Sequence[Order]) -> tuple[str, bool] | None:
        """Return why nothing may be done about a holding, and whether the bot bought it."""
        orders = [order for order in history if order.symbol == position.symbol]
        is_ours = any(order.filled_quantity and _is_ours(order, self._settings.strategy) for order in orders)
        if not position.is_stock:
            return "it is not in US stocks", False
        if position.quantity < 0:
            return "it is a short position", False
        if not position.average_price_usd:
            return "the broker does not say what was paid for it", is_ours
        entry = _find_entry(orders, self._settings.strategy)
        if entry is not None and not entry.filled_price_usd:
            return "the broker does not say at which price this strategy bought it", True
        if lot is None and entry is None and any(_is_ours(order, self._settings.strategy) for order in orders):
            return "the order that bought it is older than the orders that the broker lists", True
        if lot is None:
            return "this strategy did not buy it", False
        if position.symbol in self._holdings.vanished:  # a stop for shares that are gone could sell them short
            return "the broker does not show it any more, though it did earlier in this run", True
        if self._count_missing(position, lot) < LEAST_QUANTITY:
            others = position.quantity - lot.quantity
            words = f"{others:g} of {position.quantity:g} shares were not bought by this strategy"
            if is_bought_twice(orders, others, self._settings.strategy):
                return f"{words}'s last buy, but by an earlier one, it seems", True
            return words, False
        if odd := self._find_odd_price(position, lot):
            return f"{odd}; a split may not have been applied everywhere, so check its orders", True
        if obstacle := self._rights.find_obstacle(position.symbol):
            return f"no stop is placed: {obstacle}", True
        if not self._deadline.allows(ORDER_TIME_S):
            return f"{self._deadline.remaining_s():.0f} s are left, but an order may take {ORDER_TIME_S:.0f} s", True
        return None

    def _find_odd_price(self, position: Position, lot: Lot) -> str:
        """Return which price of a holding contradicts its stop so much that nothing is done; empty if none does."""
        orders = [each for each in self._holdings.open_orders if each.symbol == position.symbol]
        stops = [each.stop_price_usd for each in orders if is_working_stop(each, orders)]
        for stop_usd in (lot.stop_usd, *stops):
            if stop_usd is not None and _is_far_too_low(stop_usd, position, self._settings):
                return f"a stop at {stop_usd:,.2f} is far below what was paid, {position.average_price_usd:,.2f}"
        if 0 < position.price_usd < lot.stop_usd * (1 - MAX_GAP_FRACTION):
            return f"its price, {position.price_usd:,.2f}, is far below its stop, {lot.stop_usd:,.2f}"
        return ""

    def _place(self, symbol: str, position: Position, quantity: float, lot: Lot) -> Order:
        """Place a stop for the shares that are free, or sell them if the price is at or below it."""
        self._holdings.is_touched = True
        is_below = 0 < position.price_usd <= lot.stop_usd
        quantity = self._free(symbol, position, quantity, lot)
        if is_below:
            return self._sell(symbol, quantity, lot, position.price_usd)
        stop = self._order(symbol, quantity, lot, OrderType.STOP)
        try:
            return self._send_once_free(stop, CANCEL_TIME_S if position.available is None else 0.0)
        except SharesReservedError:
            raise
        except OrderRejectedError as error:
            price_usd = self._broker.positions()[symbol].price_usd if symbol in self._broker.positions() else 0.0
            if error.is_general or not 0 < price_usd <= lot.stop_usd:
                raise
            return self._sell(symbol, quantity, lot, price_usd)  # it has fallen below the stop in the meantime

    def _sell(self, symbol: str, quantity: float, lot: Lot, price_usd: float) -> Order:
        if not self._rights.is_open:
            words = (
                f"its price, {price_usd:,.2f}, is at or below its stop, {lot.stop_usd:,.2f}, and the market is closed"
            )
            raise OrderRejectedError(words)
        sale = self._send(self._order(symbol, quantity, lot, OrderType.MARKET))
        (done,) = await_end([sale], self._broker, SALE_TIME_S)
        self._take_down(done)
        if done.status is not OrderStatus.FILLED:
            raise OrderRejectedError(f"its sale below the stop, {lot.stop_usd:,.2f}, is {done.status}")
        return done

    def _send_once_free(self, order: Order, for_s: float) -> Order:
        """Send an order, and again while its shares are reserved and the time is not over."""
        refusal: SharesReservedError | None = None
        for _ in looks(for_s):
            try:
                return self._send(order, has_exits=True)
            except SharesReservedError as error:
                refusal = error
        assert refusal is not None, "there is at least one look"
        raise refusal

    def _send(self, order: Order, *, has_exits: bool = False) -> Order:
        """Send an order, and note it, also if the broker took it and then rejected it at once."""
        try:
            return self._take_down(self._sender.send(order, has_exits=has_exits))
        except OrderRejectedError as error:
            if error.order is not None:
                self._take_down(error.order)
            raise

    def _free(self, symbol: str, position: Position, quantity: float, lot: Lot) -> float:
        """Cancel the bot's own orders that reserve the shares without protecting them; return the shares free then."""
        if position.available is not None and position.available >= quantity:
            return quantity
        orders = [each for each in self._holdings.open_orders if each.symbol == symbol and each.side is Side.SELL]
        idle = [each for each in orders if not is_working_stop(each, self._holdings.open_orders)]
        own = [each for each in idle if {each.order_id, each.parent_id} & lot.order_ids]
        for order in own:
            self._broker.cancel(order)
        free = 0.0
        for _ in looks(CANCEL_TIME_S if own or not idle else 0.0):  # nobody cancels the orders of others
            now = self._broker.positions().get(symbol)
            if now is None:
                raise OrderRejectedError("it is not held any more")
            if now.available is None or now.available >= quantity:
                return quantity
            free = now.available if quantity % 1 else math.floor(now.available)
        if free > LEAST_QUANTITY:
            return free
        by = "orders that are still being canceled" if own else "an order that this strategy did not place"
        raise OrderRejectedError(f"none of its shares is free; they are reserved by {by if idle else 'the broker'}")

    def _order(self, symbol: str, quantity: float, lot: Lot, kind: OrderType) -> Order:
        in_parts = "a stop for the day" if kind is OrderType.STOP else "below its stop, which has ended with its day"
        number = 1 + sum(order.symbol == symbol for order in self._run.stops)
        return Order(
            client_order_id=str(OrderId(self._settings.strategy, self._run.slot, symbol, Side.SELL, number)),
            symbol=symbol,
            side=Side.SELL,
            quantity=quantity,
            price_usd=lot.stop_usd,
            stop_loss_usd=lot.stop_usd if kind is OrderType.STOP else None,
            type=kind,
            reason="its stop loss was missing" if quantity.is_integer() else in_parts,
        )

    def _take_down(self, order: Order) -> Order:
        """Note an order that was placed, or what has become of it."""
        self._run.note_stop(order)
        return order

    def _name(self, symbol: str, reason: str, *, is_ours: bool) -> None:
        is_ours = is_ours or _has_begun_sale(self._run, symbol)  # whoever bought it, the run may have cost it its stop
        self._run.unprotected[symbol] = Unprotected(symbol=symbol, reason=reason, is_ours=is_ours)
