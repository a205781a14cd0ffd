"""Backtrader's broker behind the bot's Broker Protocol, with these changes to its behavior.

- A bar begins with its opening: market orders are filled there, in the order in which they were placed, before any stop
  or limit. What a stop or limit brings in cannot pay for a buy of the same bar.
- Stops and limits see only bars that begin after they were placed, also if their symbol has no bar for a while.
- The legs of a bracket protect a position from the bar of its entry on, not only from the next bar: a stop loss that
  the price crosses in the entry bar is filled in that bar.
- If stop and limit fall within one bar, its opening tells which came first: at or above the limit, it is the limit. If
  it lies between them, nobody knows, and the stop is assumed to come first.
- A limit is filled at its own price or at a better opening, without slippage. With closes only, the opening is unknown,
  so the limit is filled at its own price.
- A buy of a part of a share has its stop from its fill on, as if protection had placed it at once. A broker ends such a
  stop with the day, and the next day's first run renews it, or sells at its price if that is at or below the stop. So
  with several bars a day, only the close of the bar before that run counts, as in the embedded account. A daily bar has
  its first run near its opening, and its stop from the opening on.
- Cash changes in whole cents, as at every broker.
- A market order that no bar can fill, because of a gap, is canceled.
- A split that the prices are not adjusted for changes the shares held, and cancels the symbol's orders.
- Shares of a symbol whose prices have ended are paid out at the last close.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR
from typing import Any

import backtrader as bt

from scripts.backtest.model import DELISTING, Fill, Options, Refusal, Restatement
from trader.broker.base import MarketClock, OrderRejectedError, SharesReservedError
from trader.model import DECIMALS, Account, OpenOrder, Order, OrderStatus, OrderType, Position, Side, move_to_tick
from trader.prices.jumps import name_split
from trader.schedule import sessions

MARKET, STOP_LOSS, TAKE_PROFIT = "market", "stop-loss", "take-profit"
TYPES = {
    bt.Order.Market: OrderType.MARKET,
    bt.Order.Stop: OrderType.STOP,
    bt.Order.Limit: OrderType.LIMIT,
}
"""The bot's order type for each of Backtrader's that is used here."""


STATUS = {
    bt.Order.Created: OrderStatus.ACCEPTED,
    bt.Order.Submitted: OrderStatus.ACCEPTED,
    bt.Order.Accepted: OrderStatus.ACCEPTED,
    bt.Order.Completed: OrderStatus.FILLED,
    bt.Order.Canceled: OrderStatus.CANCELED,
    bt.Order.Expired: OrderStatus.EXPIRED,
    bt.Order.Margin: OrderStatus.REJECTED,
    bt.Order.Rejected: OrderStatus.REJECTED,
}
"""The bot's order status for each of Backtrader's."""


class Cents(bt.CommInfoBase):  # type: ignore[misc] # Backtrader ships no types
    """Commission: a fraction of each order's value, plus the rounding of the value to cents."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC), ("percabs", True))

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:  # noqa: ARG002 Backtrader's own
        value = abs(size) * price
        rounding = round(value, 2) - value
        return commission_usd(size, price, self.p.commission) + (rounding if size > 0 else -rounding)


def commission_usd(quantity: float, price_usd: float, fraction: float) -> float:
    """Return the commission of an order, rounded up to a cent."""
    return math.ceil(round(abs(quantity) * price_usd * fraction * 100, 6)) / 100


class Exchange(bt.brokers.BackBroker):  # type: ignore[misc] # Backtrader ships no types
    """Backtrader's broker with the changes listed above.

    `has_ohlc` says whether opening prices are known, and `has_days_of_bars` whether a day has several bars.
    `decided_at` is the bar of the bot's last decision, as a number. `changes` counts what may have changed any order
    that is open; `canceled` has the numbers of those that were canceled since somebody cleared it.
    """

    params = (("has_ohlc", True), ("has_days_of_bars", False))
    decided_at = 0.0
    changes = 0

    def init(self) -> None:
        """Begin without orders."""
        super().init()
        self.canceled: list[int] = []

    @classmethod
    def of(cls, options: Options, *, has_ohlc: bool) -> "Exchange":
        """Return a broker with the options' cash and costs."""
        broker = cls(
            has_ohlc=has_ohlc,
            has_days_of_bars=bool(options.decide_every) or options.settings.bar_interval != "1d",
            cash=options.cash_usd,
            coc=options.fills_at_close,
            checksubmit=False,  # this check counts a bracket's legs as income; cash is checked at the fill
            slip_perc=options.slippage_fraction,
            slip_open=True,
            slip_match=True,
            slip_out=True,  # otherwise a bar with a single price, as with closes only, would have no slippage
        )
        broker.addcommissioninfo(Cents(commission=options.commission_fraction))
        return broker

    def next(self) -> None:
        """Work the pending orders on a new bar: market orders first, each kind in the order of placing.

        Of what Backtrader's own method does, this leaves out interest, futures, expiry and the portfolio's value, which
        nobody asks for, and orders whose price the bar does not come near to, which are almost all.
        """
        self.changes += 1
        while self._toactivate:
            self._toactivate.popleft().activate()
        # Backtrader goes by age alone. Then an old stop that is hit late in a bar would pay for a buy at its opening.
        by_kind = sorted(self.pending, key=lambda order: order.exectype != bt.Order.Market)
        self.pending.clear()
        self.pending.extend(by_kind)
        self.pending.append(None)  # behind it are those that stay
        while (order := self.pending.popleft()) is not None:
            if not order.active() or self._is_out_of_reach(order):
                self.pending.append(order)
                continue
            self._try_exec(order)
            if order.alive():
                self.pending.append(order)
            elif order.status == bt.Order.Completed:
                self._bracketize(order)

    def cancel(self, order: Any, bracket: bool = False) -> bool:  # noqa: ANN401 Backtrader's order
        """Cancel an order and, unless it is told that they are being canceled, the others of its bracket."""
        self.canceled.append(order.ref)
        is_canceled: bool = super().cancel(order, bracket)
        return is_canceled

    def notify(self, order: Any) -> None:  # noqa: ANN401 Backtrader's order
        """Report an order that has ended. Backtrader would copy each earlier state, too, which nobody asks for."""
        if not order.alive():
            self.notifs.append(order)

    def _ocoize(self, order: Any, oco: Any) -> None:  # noqa: ANN401 Backtrader's order
        """Do nothing: orders cancel each other by their bracket only, and this would search all that are pending."""

    def _ococheck(self, order: Any) -> None:  # noqa: ANN401 Backtrader's order
        """Do nothing, see above."""

    def _is_out_of_reach(self, order: Any) -> bool:  # noqa: ANN401 Backtrader's order
        """Check whether no price of a bar fills a stop or a limit; both are sales."""
        lines = order.data.lines
        if order.exectype == bt.Order.Limit:
            return bool(lines.high[0] < order.created.price)
        if order.exectype == bt.Order.Stop:
            price_usd = order.created.price
            return bool(lines.low[0] > price_usd and lines.open[0] > price_usd and lines.close[0] > price_usd)
        return False

    def _bracketize(self, order: Any, cancel: bool = False) -> None:  # noqa: ANN401 Backtrader's order
        super()._bracketize(order, cancel)
        while self._toactivate:
            self._toactivate.popleft().activate()

    def _try_exec_limit(self, order: Any, popen: float, phigh: float, plow: float, plimit: float) -> None:  # noqa: ANN401, ARG002 Backtrader's own
        if phigh < plimit or not _has_new_bar(order):  # only sales have limits
            return
        entered_now = order.parent is not None and order.parent.executed.dt == order.data.datetime[0]
        is_known = self.p.has_ohlc or entered_now  # with closes only, the entry bar has one price: the buy's
        self._execute(order, ago=0, price=max(popen, plimit) if is_known else plimit)

    def _try_exec_stop(
        self,
        order: Any,  # noqa: ANN401 Backtrader's order
        popen: float,
        phigh: float,
        plow: float,
        pcreated: float,
        pclose: float,
    ) -> None:
        if not _has_new_bar(order) or self._opens_at_limit(order, popen):
            return
        if self.p.has_days_of_bars and self._has_ended(order):
            popen = phigh = plow = pclose  # what the run at this close, which renews the stop, sees of the bar
        super()._try_exec_stop(order, popen, phigh, plow, pcreated, pclose)

    def _has_ended(self, stop: Any) -> bool:  # noqa: ANN401 Backtrader's order
        """Check whether a stop for a part of a share has ended with its day and no run of today has renewed it."""
        begun = stop.parent.executed.dt if stop.parent else stop.created.dt
        today = math.floor(stop.data.datetime[0])  # in UTC, in which a session has one date
        return not float(stop.created.size).is_integer() and math.floor(max(begun, self.decided_at)) < today

    def restate(self, data: Any, ratio: float, quantity: float, cash_usd: float) -> None:  # noqa: ANN401 Backtrader's data feed
        """Replace a position by its new shares, `ratio` for each old one, and add the cash paid for a fraction."""
        position = self.positions[data]
        position.fix(quantity, position.price / ratio)
        self.cash += cash_usd
        self.changes += 1

    def _opens_at_limit(self, stop: Any, open_usd: float) -> bool:  # noqa: ANN401 Backtrader's order
        """Check whether a bar opens at or above the limit of a stop's bracket, whose turn comes after the stop's."""
        legs = self._pchildren[stop.parent.ref] if stop.parent else ()
        return any(leg.exectype == bt.Order.Limit and open_usd >= leg.created.price for leg in legs)


def _describe_stop(symbol: str, time: datetime) -> Order:
    """Return a stop that was filled in a bar, as an order without a quantity of its own."""
    return Order(
        client_order_id=f"stop-of-{symbol}",
        symbol=symbol,
        side=Side.SELL,
        quantity=0.0,
        price_usd=0.0,
        type=OrderType.STOP,
        status=OrderStatus.FILLED,
        filled_at=time,
    )


def _has_new_bar(order: Any) -> bool:  # noqa: ANN401 Backtrader's order
    """Check whether the symbol's current bar is later than the one at whose close the order was placed."""
    is_new: bool = order.data.datetime[0] > order.created.dt
    return is_new


@dataclass(frozen=True, slots=True)
class _Sent:
    """An order of the bot, and Backtrader's order for it."""

    number: int  # from 1
    order: Order
    own: Any  # Backtrader's order


class BacktraderBroker:
    """The bot's Broker: Backtrader fills orders at the next bar, or with `fills_at_close` at the current close."""

    def __init__(self, strategy: Any, options: Options) -> None:  # noqa: ANN401 a bt.Strategy
        """Place orders through `strategy`, whose data feeds are named after their symbols."""
        self._strategy = strategy
        self._options = options
        self._feeds = {feed._name: feed for feed in strategy.datas}
        self._closes = {name: feed.lines.close for name, feed in self._feeds.items()}
        self._sent: dict[str, _Sent] = {}
        self._held: dict[str, float] = {}  # in the order of the last change, as in the embedded broker
        self._now: datetime | None = None
        self._restated: dict[str, tuple[int, float]] = {}  # after how many bars, and that bar's close in the new unit
        self._history: dict[str, dict[str, None]] = {}  # by symbol, the names of the orders that orders_of returns
        self._last_stop: dict[str, Order] = {}  # the last one that was filled, without a quantity of its own
        self._filled_at: dict[str, datetime] = {}  # the start of the bar in which an order was filled, by its id
        self._last_equity_usd = options.cash_usd
        self._ended: dict[str, Order | None] = {}  # orders that do not change any more, once they have been asked for
        self._own: dict[str, Any] = {}  # Backtrader's orders by order id
        self._open: dict[int, OpenOrder] = {}  # by Backtrader's number, as of so many changes
        self._open_as_of = -1
        self._shown: dict[int, tuple[object, OpenOrder]] = {}  # by Backtrader's number, with what may change of it
        self._positions: dict[str, Position] | None = None  # None if they have to be read
        self.fills: list[Fill] = []
        self.refusals: list[Refusal] = []

    # --- called by the strategy --------------------------------------------------------------------------------

    def at(self, now: datetime, last_equity_usd: float) -> None:
        """Set the current time, and the equity at the last session's close."""
        self._now = now
        self._last_equity_usd = last_equity_usd
        self._strategy.broker.decided_at = self._strategy.datetime[0]

    def heard(self, own: Any, time: datetime, executed: datetime | None = None) -> None:  # noqa: ANN401 Backtrader's order
        """Record an order update from Backtrader; both times are starts of bars.

        `time` is the current bar, and `executed` the one that filled the order, if it is another.
        """
        name, kind = own.info["client_order_id"], own.info["kind"]
        order = self._sent[name].order
        is_leg = self._is_leg(own)
        if own.status == bt.Order.Completed:
            quantity = abs(own.executed.size)
            self.fills.append(
                Fill(
                    time=time,
                    client_order_id=self._name(own),
                    symbol=order.symbol,
                    side=order.side if kind == MARKET else Side.SELL,
                    kind=kind,
                    quantity=quantity,
                    price_usd=own.executed.price,
                    decided_price_usd=own.info["decided_price_usd"],
                    commission_usd=commission_usd(quantity, own.executed.price, self._options.commission_fraction),
                    reason=f"{kind.replace('-', ' ')} of its bracket" if is_leg else order.reason,
                )
            )
            if not is_leg:
                self._filled_at[name] = executed or time
            if kind == STOP_LOSS:
                self._last_stop[order.symbol] = _describe_stop(order.symbol, time)
            self._positions = None
            self._held.pop(order.symbol, None)
            if size := self._strategy.broker.getposition(self._feeds[order.symbol]).size:
                self._held[order.symbol] = size
        elif own.status in {bt.Order.Margin, bt.Order.Rejected} and kind == MARKET:
            reason = f"{order.side} {order.quantity:g}: not enough cash at its fill price"
            self._refuse(order, time, reason)
        if not own.alive():
            self._shown.pop(own.ref, None)
            self._own.pop(own.info["order_id"], None)
            if not is_leg:
                self._ended[name] = None
            if order.symbol not in self._held:
                self._forget(order.symbol)

    def _forget(self, symbol: str) -> None:
        """Leave a round trip that is over out of a symbol's history, but for stops: of those, the bot asks the last."""
        names = self._history[symbol]
        for name in [each for each in names if "-stop" not in each and not self._sent[each].own.alive()]:
            del names[name]

    def end_of_bar(self, time: datetime) -> None:
        """Cancel market orders that no bar has filled: they are day orders, as at Alpaca."""
        for own in self._strategy.broker.get_orders_open():
            if own.exectype != bt.Order.Market:
                continue
            order = self._sent[own.info["client_order_id"]].order
            lost = "; the position's bracket is also canceled" if order.side is Side.SELL else ""
            reason = f"{order.side} {order.quantity:g}: canceled because no bar could fill it{lost}"
            self._strategy.broker.cancel(own)
            self._refuse(order, time, reason)

    def restate(self, symbol: str, ratio: float, time: datetime) -> Restatement:
        """Carry out a split after the current bar; `time` is the start of the symbol's next one, in the new unit.

        `ratio` is in new shares for each old one. Market orders for the symbol are canceled; stops and limits follow
        the split. Whole shares stay whole: the fraction of one that is left over is paid out at the last close.
        """
        self._cancel_market_orders(symbol, time, f"canceled because a {name_split(ratio)} split changes the shares")
        before, cash_usd = self._held.pop(symbol, 0.0), 0.0
        after = round(before * ratio, DECIMALS)
        if before:
            feed, price_usd = self._feeds[symbol], self._close_usd(symbol) / ratio
            if before == math.floor(before):
                whole = float(math.floor(after))
                after, cash_usd = whole, round((after - whole) * price_usd, 2)
            self._strategy.broker.restate(feed, ratio, after, cash_usd)
            self._restated[symbol] = (len(feed), price_usd)
            self._restate_exits(symbol, ratio, after)
        if after:
            self._held[symbol] = after
        return Restatement(
            time=time,
            symbol=symbol,
            ratio=ratio,
            quantity_before=before,
            quantity_after=after,
            cash_usd=cash_usd,
        )

    def pay_out(self, symbol: str, time: datetime, reason: str) -> None:
        """Turn shares that cannot be traded any more into cash at the last close, and cancel the symbol's orders."""
        self._cancel_market_orders(symbol, time, f"canceled because of {reason}")
        for own in [own for own in self._exits() if own.data._name == symbol]:
            self._strategy.broker.cancel(own)
        quantity, price_usd = self._held.pop(symbol), self._close_usd(symbol)
        self._strategy.broker.restate(self._feeds[symbol], 1.0, 0.0, round(quantity * price_usd, 2))
        self.fills.append(
            Fill(
                time=time,
                client_order_id=f"{DELISTING}-of-{symbol}",
                symbol=symbol,
                side=Side.SELL,
                kind=DELISTING,
                quantity=quantity,
                price_usd=price_usd,
                decided_price_usd=price_usd,
                commission_usd=0.0,
                reason=reason,
            )
        )

    def cash_usd(self) -> float:
        """Return the cash, rounded to a cent."""
        return float(round(self._strategy.broker.getcash(), 2))

    def equity_usd(self) -> float:
        """Return the cash plus the positions at their last closes, each to the cent, as the embedded account does."""
        values_usd = (round(size * self._close_usd(symbol), 2) for symbol, size in self._held.items())
        return float(round(self.cash_usd() + sum(values_usd), 2))

    def read_holdings(self) -> dict[str, float]:
        """Return the quantity held of each symbol."""
        return dict(self._held)

    # --- the Broker Protocol ------------------------------------------------------------------------------------

    def clock(self) -> MarketClock:
        """Return the market clock, based on the regular sessions of the New York Stock Exchange."""
        assert self._now is not None, "the strategy calls at() first"
        return MarketClock(is_open=sessions.is_open(self._now), next_open=sessions.next_open(self._now), now=self._now)

    def account(self) -> Account:
        """Return the account; its buying power is its cash."""
        cash_usd = self.cash_usd()
        return Account(
            equity_usd=self.equity_usd(),
            last_equity_usd=self._last_equity_usd,
            cash_usd=cash_usd,
            buying_power_usd=cash_usd,
        )

    def positions(self) -> Mapping[str, Position]:
        """Return every position, valued at its last close."""
        open_orders = self._read_open()
        if self._positions is None:
            reserved = {each.symbol for each in open_orders.values() if each.is_leg}
            self._positions = {
                symbol: Position(
                    symbol=symbol,
                    quantity=size,
                    average_price_usd=self._strategy.broker.getposition(self._feeds[symbol]).price,
                    price_usd=self._close_usd(symbol),
                    available=0.0 if symbol in reserved else size,
                )
                for symbol, size in self._held.items()
            }
        return dict(self._positions)

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return the orders waiting to be filled, and the bracket legs that protect positions."""
        return tuple(self._read_open().values())

    def _read_open(self) -> Mapping[int, OpenOrder]:
        """Return the open orders by Backtrader's number; within a bar, only what is placed or canceled changes them.

        The bot asks before each of its orders, and there may be a thousand legs.
        """
        exchange = self._strategy.broker
        if self._open_as_of != exchange.changes:
            self._open, self._positions, self._open_as_of = {}, None, exchange.changes
            for own in exchange.pending:
                self._note_open(own)
        for number in exchange.canceled:
            if (gone := self._open.pop(number, None)) and gone.is_leg:
                self._free(gone.symbol)
        exchange.canceled.clear()
        return self._open

    def _note_open(self, own: Any) -> None:  # noqa: ANN401 Backtrader's order
        """Note an open order; legs become active when their buy is filled."""
        if own.active():
            self._open[own.ref] = shown = self._show(own)
            if shown.is_leg:  # it reserves shares
                self._positions = None

    def _free(self, symbol: str) -> None:
        """Note that a leg does not reserve the shares of a symbol any more."""
        if not self._positions or symbol not in self._positions:
            return
        if not any(each.is_leg and each.symbol == symbol for each in self._open.values()):
            position = self._positions[symbol]
            self._positions[symbol] = replace(position, available=position.quantity)

    def _show(self, own: Any) -> OpenOrder:  # noqa: ANN401 Backtrader's order
        """Return an open order as the bot sees it."""
        state = own.status, own.executed.remsize, own.price
        known = self._shown.get(own.ref)
        if known is None or known[0] != state:
            known = self._shown[own.ref] = state, self._describe_open(own)
        return known[1]

    def _describe_open(self, own: Any) -> OpenOrder:  # noqa: ANN401 Backtrader's order
        return OpenOrder(
            order_id=own.info["order_id"],
            client_order_id=self._name(own),
            symbol=own.data._name,
            side=Side.BUY if own.isbuy() else Side.SELL,
            quantity=abs(own.executed.remsize),
            is_leg=own.info["kind"] != MARKET,
            type=TYPES[own.exectype],
            status=STATUS[own.status],
            stop_price_usd=own.price if own.exectype == bt.Order.Stop else None,
            limit_price_usd=own.price if own.exectype == bt.Order.Limit else None,
            parent_id=own.parent.info["order_id"] if own.parent else "",
        )

    def _is_leg(self, own: Any) -> bool:  # noqa: ANN401 Backtrader's order
        """Check whether an order is a leg of a bracket."""
        return own.info["kind"] != MARKET and self._sent[own.info["client_order_id"]].order.side is Side.BUY

    def _name(self, own: Any) -> str:  # noqa: ANN401 Backtrader's order
        """Return the client order id; that of a leg is not the bot's, as at the other brokers."""
        name: str = own.info["client_order_id"]
        return f"{name}-{own.info['kind']}" if self._is_leg(own) else name

    def _exits(self) -> Iterator[Any]:
        """Yield Backtrader's orders that wait to end a position: active legs, and stops."""
        return (own for own in self._strategy.broker.get_orders_open() if own.active() and own.info["kind"] != MARKET)

    def orders_of(self, symbols: Sequence[str]) -> tuple[Order, ...]:
        """Return the bot's orders for these symbols since each was last not held, newest first, and its last stop."""
        names = [name for symbol in set(symbols) for name in self._history.get(symbol, ())]
        sent = sorted(names, key=lambda name: -self._sent[name].number)
        stops = [self._last_stop[symbol] for symbol in symbols if symbol in self._last_stop]
        return (*stops, *(self._describe_order(name) for name in sent))

    def refresh(self, orders: Sequence[Order]) -> tuple[Order, ...]:
        """Return these orders as they are now."""
        return tuple(self._describe_order(order.client_order_id) for order in orders)

    def latest_prices_usd(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """Return the current close of each symbol, at which the bot has decided."""
        return {symbol: self._close_usd(symbol) for symbol in symbols if len(self._closes.get(symbol, ()))}

    def reserve_requests(self, count: int) -> None:
        """Return at once: nothing limits the calls."""

    def submit(self, order: Order) -> Order:
        """Place the order with Backtrader, including its bracket."""
        if order.client_order_id in self._sent:
            raise OrderRejectedError(f"client order id {order.client_order_id} is taken")
        open_orders = self._read_open().values()
        if order.side is Side.SELL and any(each.is_leg and each.symbol == order.symbol for each in open_orders):
            raise SharesReservedError("insufficient quantity available: its bracket holds the shares")
        self._sent[order.client_order_id] = sent = self._place(order)
        self._note_open(sent.own)
        return self._describe_order(order.client_order_id)

    def find(self, order: Order) -> Order | None:
        """Find an order by its client order id."""
        return self._describe_order(order.client_order_id) if order.client_order_id in self._sent else None

    def cancel(self, order: OpenOrder | Order) -> None:
        """Cancel an order; canceling one leg of a bracket cancels the other."""
        if own := self._own.get(order.order_id):
            self._strategy.broker.cancel(own)

    def _cancel_market_orders(self, symbol: str, time: datetime, reason: str) -> None:
        """Cancel the open market orders of a symbol, with the legs that wait for them."""
        for own in self._strategy.broker.get_orders_open():
            if own.data._name == symbol and own.info["kind"] == MARKET:
                self._strategy.broker.cancel(own)
                order = self._sent[own.info["client_order_id"]].order
                self._refuse(order, time, f"{order.side} {order.quantity:g}: {reason}")

    def _restate_exits(self, symbol: str, ratio: float, quantity: float) -> None:
        """Give what ends a holding its new quantity and price, as the embedded broker does."""
        for own in list(self._exits()):
            if own.data._name != symbol:
                continue
            if not quantity:
                self._strategy.broker.cancel(own)
                continue
            rounding = ROUND_FLOOR if own.exectype == bt.Order.Stop else ROUND_CEILING
            own.price = own.created.price = move_to_tick(own.created.price / ratio, rounding)
            own.size = own.created.size = -quantity
            own.created.remsize = own.executed.remsize = -quantity

    def _refuse(self, order: Order, time: datetime, reason: str) -> None:
        refusal = Refusal(time=time, client_order_id=order.client_order_id, symbol=order.symbol, reason=reason)
        self.refusals.append(refusal)

    def _place(self, order: Order) -> _Sent:
        feed = self._feeds.get(order.symbol)
        if feed is None or not len(feed):
            raise OrderRejectedError("the symbol has had no bar since the backtest began")
        number = len(self._sent) + 1  # Backtrader's own numbers continue from one backtest to the next

        def info(kind: str, decided_price_usd: float | None) -> dict[str, Any]:
            return {
                "order_id": f"backtrader-{number}" if kind == MARKET else f"backtrader-{number}-{kind}",
                "client_order_id": order.client_order_id,
                "kind": kind,
                "decided_price_usd": decided_price_usd,
            }

        if order.type is OrderType.STOP:
            stop = {"exectype": bt.Order.Stop, "price": order.stop_loss_usd}
            own = self._strategy.sell(data=feed, size=order.quantity, **stop, **info(STOP_LOSS, order.stop_loss_usd))
            return self._note(number, order, own)
        if order.side is Side.SELL:
            own = self._strategy.sell(data=feed, size=order.quantity, **info(MARKET, order.price_usd))
            return self._note(number, order, own)
        legs = {STOP_LOSS: (bt.Order.Stop, order.stop_loss_usd), TAKE_PROFIT: (bt.Order.Limit, order.take_profit_usd)}
        given = {kind: leg for kind, leg in legs.items() if leg[1] is not None}
        own = self._strategy.buy(data=feed, size=order.quantity, transmit=not given, **info(MARKET, order.price_usd))
        for number_of_leg, (kind, (exectype, price_usd)) in enumerate(given.items(), 1):
            leg = self._strategy.sell(
                data=feed,
                size=order.quantity,
                parent=own,
                exectype=exectype,
                price=price_usd,
                transmit=number_of_leg == len(given),
                **info(kind, price_usd),
            )
            self._own[leg.info["order_id"]] = leg
        return self._note(number, order, own)

    def _note(self, number: int, order: Order, own: Any) -> _Sent:  # noqa: ANN401 Backtrader's order
        self._own[own.info["order_id"]] = own
        self._history.setdefault(order.symbol, {})[order.client_order_id] = None
        return _Sent(number, order, own)

    def _describe_order(self, client_order_id: str) -> Order:
        if ended := self._ended.get(client_order_id):
            return ended
        sent = self._sent[client_order_id]
        filled = abs(sent.own.executed.size)
        order = replace(
            sent.order,
            status=STATUS[sent.own.status],
            order_id=sent.own.info["order_id"],
            filled_quantity=filled,
            filled_price_usd=sent.own.executed.price if filled else None,
            filled_at=self._filled_at.get(client_order_id),
        )
        if client_order_id in self._ended:
            self._ended[client_order_id] = order
        return order

    def _close_usd(self, symbol: str) -> float:
        """Return the last close, in the unit of the shares held now."""
        close, restated = self._closes[symbol], self._restated.get(symbol)
        return restated[1] if restated and restated[0] == len(close) else float(close[0])
