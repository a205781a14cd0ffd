"""The test of what a bot did: an ideal account that goes through the slots of the records and decides at each. Pure.

It begins with the holdings and the cash of the first record, decides with today's code from each record's prices and
forecasts and from its own holdings, sizes and limits with the same stages, fills each order at once at the price of the
decision, works stops and targets on the closes as a backtest does, and pays no cost. A World says which parts of what
really happened take the place of the test's own.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.owner.bars import Bars, LazyCloses
from scripts.owner.tape import Step
from trader.alpha import loader, own
from trader.alpha.base import RuleError
from trader.broker import book as books
from trader.broker.base import OrderId, OrderRejectedError
from trader.broker.book import Book, Restatement
from trader.broker.restating import KEPT_CLOSES, Action, Close, Quotes, interpret, measure
from trader.codec import decode
from trader.forecasting.base import Forecasts
from trader.journal.record import read_settings
from trader.model import (
    NEW_YORK,
    Account,
    Decision,
    Observation,
    Ohlv,
    OpenOrder,
    Order,
    OrderType,
    Position,
    Shares,
    Side,
)
from trader.schedule import sessions
from trader.settings import Settings
from trader.stages import pipeline

ROUNDING = 1e-6
"""Less than this part of a share is the rounding of a sum of quantities."""


BEFORE = timedelta.resolution
"""A stop that is filled at the very time of a run was filled before that run looked: live's have this earlier time."""


class UndecidableError(Exception):
    """What would be decided at a slot cannot be known; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """Shares bought (positive) or sold, at a price. `name` is the client order id of the order that it came from."""

    at: datetime
    symbol: str
    quantity: float
    price_usd: float
    name: str = ""
    why: str = "rule"
    decided_usd: float | None = None
    is_all: bool = False  # nothing was held afterwards
    cost_usd: float | None = None  # if that is not the price of the shares, as for a dividend; negative if received

    @property
    def value_usd(self) -> float:
        """What it costs, to the cent; negative if cash comes in."""
        value_usd = math.copysign(round(abs(self.quantity) * self.price_usd, 2), self.quantity)
        return value_usd if self.cost_usd is None else self.cost_usd


@dataclass(frozen=True, slots=True)
class Flow:
    """A deposit or, with a negative amount, a withdrawal."""

    at: datetime
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The slots from the first look at the account to the last, and the splits that only the account shows."""

    steps: Sequence[Step]
    splits: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # at a step: new shares for each old one
    exits: Mapping[int, Sequence[Trade]] = field(default_factory=dict)  # before a step that lacks their symbol's closes

    @property
    def first(self) -> Step:
        """The step whose account the test begins with."""
        return self.steps[0]

    @property
    def last(self) -> Step:
        """The step with whose account the test's is compared; what was decided at it has not shown yet."""
        return self.steps[-1]

    def value(self, symbol: str, default_usd: float) -> float:
        """Return the price of a share at the end: the broker's if it is held, or the last close."""
        if held := self.last.positions.get(symbol):
            return held.price_usd
        bars = self.last.bars.get(symbol)
        return bars.last_usd if bars else default_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What drives an account: the test's own parts, or what really happened in their place."""

    settings: Sequence[Settings | None]  # of each step; None: they cannot be read, and what was recorded is taken
    decided: Mapping[int, Mapping[str, Order | None]] = field(default_factory=dict)  # by symbol, in place of today's
    skips_missed: bool = False
    prices: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # at a step, in place of those seen
    trades: Sequence[Trade] = ()  # whatever is decided, oldest first
    flows: Sequence[Flow] = ()
    adjustments: Sequence[Trade] = ()  # of shares and cash, right after a split or a dividend
    decides: bool = True  # otherwise nothing but `trades` changes what is held


@dataclass(slots=True, kw_only=True)
class Course:
    """How an account went."""

    trades: list[Trade] = field(default_factory=list)
    restatements: Sequence[Restatement] = ()
    equity: list[tuple[datetime, float]] = field(default_factory=list)  # at each slot
    undecided: dict[int, str] = field(default_factory=dict)
    unpriced: dict[str, list[datetime]] = field(default_factory=dict)  # slots at which a holding had no price
    held: Mapping[str, float] = field(default_factory=dict)  # at the end
    gain_usd: float = 0.0  # without deposits and withdrawals


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a report needs of a decision: its orders, the directions of its insights, and symbol and code of refusals.

    There are thousands, most of them from other processes, and a whole decision takes ten times as long to send.
    """

    orders: Sequence[Order]
    directions: Mapping[str, str]
    refused: frozenset[tuple[str, str]]


# --- deciding --------------------------------------------------------------------------------------------------------


class Decider:
    """Decides at steps with today's code, and once only from equal inputs."""

    def __init__(
        self, steps: Sequence[Step], *, trusts_rule: bool = False, again: Mapping[datetime, Choice] | None = None
    ) -> None:
        """Store the arguments. With `trusts_rule`, an own rule is run as a record has it, whatever the folder has.

        `again` are decisions that today's code has taken already from the records of these slots, as decide_again()
        does.
        """
        self._steps = steps
        self._again = again or {}
        self._trusts_rule = trusts_rule
        self._known: dict[object, Choice] = {}
        self._settings: dict[object, Settings] = {}

    def read_settings(self, number: int, changes: Mapping[str, object] | None = None) -> Settings:
        """Return the settings of a step, with changes. Raises UndecidableError if they cannot be read."""
        step = self._steps[number]
        values = {**step.settings, **(changes or {})}
        key = (repr(values), repr(step.rule))
        if key not in self._settings:
            with self._rule_of(step):
                try:
                    self._settings[key] = read_settings(values)
                except (ValueError, TypeError, AttributeError) as error:
                    raise UndecidableError(f"its settings are not those of this version: {error}") from error
        return self._settings[key]

    def decide(
        self, number: int, settings: Settings, seen: Observation, prices: Mapping[str, float] = MappingProxyType({})
    ) -> Choice:
        """Return the decision of today's code from what is seen, at a step's closes and forecasts.

        `prices` stand for the last closes of their symbols. Raises UndecidableError.
        """
        key = (number, id(settings), _key(seen), tuple(sorted(prices.items())))
        if key not in self._known:
            step = self._steps[number]
            whole = _add_closes(step, seen, prices)
            forecasts = [  # the line is still the recorded one
                replace(each, price_usd=prices[symbol]) if symbol in prices else each
                for symbol, each in step.forecasts.items()
                if symbol in whole.closes
            ]
            with self._rule_of(step):
                try:
                    given = Forecasts(forecasts=tuple(forecasts))
                    self._known[key] = _choose(pipeline.decide(whole, given, loader.load(settings), settings))
                except (RuleError, ValueError) as error:
                    raise UndecidableError(f"the rule failed: {error}") from error
        return self._known[key]

    def decide_again(self, number: int, settings: Settings) -> Choice:
        """Return the decision of today's code from the record of a step, with its settings. Raises UndecidableError."""
        seen = observe_again(self._steps[number])
        if made := self._again.get(self._steps[number].slot):
            self._known[number, id(settings), _key(seen), ()] = made
        return self.decide(number, settings, seen)

    @contextmanager
    def _rule_of(self, step: Step) -> Iterator[None]:
        signal = str(step.settings.get("signal", ""))
        if not own.is_file(signal):
            yield
            return
        if not self._trusts_rule and step.rule != _read_rule(signal):
            raise UndecidableError(
                f"{signal} has changed since; RECORDED_RULE=1 runs the text in the record, which is a program"
            )
        with own.recorded(signal, step.rule):
            yield


def _read_rule(signal: str) -> Mapping[str, str]:
    try:
        return {path: source.decode("utf-8", errors="replace") for path, source in own.list_sources(signal)}
    except RuleError:
        return {}


def _choose(made: Decision) -> Choice:
    return Choice(
        orders=made.orders,
        directions={each.symbol: str(each.direction) for each in made.insights},
        refused=frozenset((each.symbol, str(each.code)) for each in made.denials),
    )


def _key(seen: Observation) -> object:
    """Return what a decision depends on at a step whose prices are known."""
    return (
        seen.account,
        tuple(sorted((each.symbol, each.quantity, each.average_price_usd) for each in seen.positions.values())),
        tuple(sorted(seen.stopped_at.items())),
        tuple(sorted(seen.bought_at.items())),
        (seen.peak_equity_usd, seen.peak_problem),
        tuple((each.symbol, each.side, each.quantity) for each in seen.open_orders),
    )


def observe_again(step: Step, **changes: Any) -> Observation:  # noqa: ANN401 the fields of an Observation
    """Return what the run of a step saw beside prices, as far as its decision depends on it, with changes."""
    given: dict[str, Any] = {
        "account": step.account,
        "positions": step.positions,
        "open_orders": tuple(step.open_orders),
        "stopped_at": step.stopped_at,
        "bought_at": step.bought_at,
        "peak_equity_usd": step.peak_equity_usd,
        "peak_problem": step.peak_problem,
        **changes,
    }
    return Observation(slot=step.slot, now=step.now, ranking={}, closes={}, **given)


def _add_closes(step: Step, seen: Observation, prices: Mapping[str, float]) -> Observation:
    """Return what is seen with the closes of a step: of the symbols chosen, held and on order."""
    shown = {*step.chosen, *seen.positions, *(each.symbol for each in seen.open_orders)}
    bars = {
        symbol: each.end_at(prices[symbol]) if symbol in prices else each
        for symbol, each in step.bars.items()
        if symbol in shown
    }
    ohlv = decode(_Ohlv, {"of": {symbol: each for symbol, each in step.ohlv.items() if symbol in bars}}).of
    return replace(seen, closes=LazyCloses(bars), ohlv=ohlv)


@dataclass(frozen=True, slots=True)
class _Ohlv:
    of: Mapping[str, Ohlv]


# --- the account -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Mark:
    """The last closes of a holding as a record gave them, and since when it is held, in seconds since 1970."""

    since: int
    times: NDArray[np.int64]
    usd: NDArray[np.float64]

    @classmethod
    def at_end(cls, bars: Bars, count: int, since: int | None = None) -> "_Mark":
        first = max(0, count - KEPT_CLOSES)
        times = bars.times[first:count]
        return cls(int(times[-1]) if since is None else since, times, bars.usd[first:count])

    def to_quotes(self) -> Quotes:
        closes = tuple(
            Close(at=_moment(at), price_usd=float(usd)) for at, usd in zip(self.times, self.usd, strict=True)
        )
        return Quotes(since=_moment(self.since), closes=closes)


class _Account:
    """The account of a course at one moment."""

    def __init__(self, first: Step) -> None:
        assert first.account is not None, "the first step was seen"
        self.book = Book(
            cash_usd=first.account.cash_usd,
            last_equity_usd=first.account.last_equity_usd,
            as_of=first.now,
            positions=dict(first.positions),
            brackets=_read_brackets(first),
        )
        self.start_usd = self.book.equity_usd()
        self.peak_usd = first.peak_equity_usd or 0.0
        self.bought_at = dict(first.bought_at)
        self.stopped_at: dict[str, datetime] = {}
        self._began = first.now
        self._bars = first.bars  # of the last step
        self._marks = {
            symbol: _Mark.at_end(bars, len(bars.times))
            for symbol, bars in first.bars.items()
            if symbol in first.positions
        }

    # --- prices ---

    def restate(self, step: Step, splits: Mapping[str, float]) -> None:
        """Follow the splits and dividends that have come to be known since the last step."""
        self._bars = step.bars
        for symbol in list(self.book.positions):
            if bars := step.bars.get(symbol):
                self._follow(symbol, bars, step.now)
            elif symbol in splits:
                books.restate(self.book, symbol, Action(shares=splits[symbol]), step.now)
                self._marks.pop(symbol, None)

    def advance(self, step: Step, *, has_exits: bool) -> list[Trade]:
        """Bring the account up to a step as the embedded broker does; return the sales by its stops and targets."""
        sold: list[Trade] = []
        closed = sessions.previous_close(step.now)
        if self.book.as_of <= closed:
            sold += self._pass(step, closed, has_exits=has_exits)
            self.book.last_equity_usd = self.book.equity_usd()
        sold += self._pass(step, step.now, has_exits=has_exits)
        self.peak_usd = max(self.peak_usd, self.book.equity_usd())
        return sold

    def _follow(self, symbol: str, bars: Bars, now: datetime) -> None:
        """Restate a holding if the source has rewritten its past."""
        mark = self._marks.get(symbol)
        if mark is None or _is_unchanged(mark, bars):
            return
        series = bars.to_series(symbol)
        change = measure(mark.to_quotes(), series)
        action = interpret(change) if change else Action()
        if action != Action():
            books.restate(self.book, symbol, action, now)
            self._marks.pop(symbol)

    def _pass(self, step: Step, until: datetime, *, has_exits: bool) -> list[Trade]:
        began, begin, end = self.book.as_of, math.ceil(self.book.as_of.timestamp()), math.floor(until.timestamp())
        sold: list[Trade] = []
        for symbol in list(self.book.positions):
            bars = step.bars.get(symbol)
            count = int(bars.times.searchsorted(end, "right")) if bars else 0
            mark = self._marks.get(symbol)
            if bars is None or not count or (mark and bars.times[count - 1] < mark.times[-1]):
                continue
            order = self.book.brackets.get(symbol) if has_exits else None
            if order and until > began and (sale := self._trigger(order, bars, begin, count)):
                sold.append(sale)
                continue
            held = self.book.positions[symbol]
            if (usd := float(bars.usd[count - 1])) != held.price_usd:
                self.book.positions[symbol] = _price(held, usd)
            self._marks[symbol] = _Mark.at_end(bars, count, mark.since if mark else None)
        self.book.as_of = until
        return sold

    def _trigger(self, order: Order, bars: Bars, begin: int, count: int) -> Trade | None:
        """Sell at the first close that reaches the stop or the limit."""
        first = min(int(bars.times.searchsorted(begin)), count - 1)
        for row in range(first, count):
            at = max(_moment(bars.times[row]), self.book.as_of)
            if sale := self._reach(order, float(bars.usd[row]), at):
                return sale
        return None

    def _reach(self, order: Order, usd: float, at: datetime) -> Trade | None:
        """Sell if a price reaches the stop or the limit: at the price, or at the limit if that is lower."""
        stop_usd = order.stop_loss_usd or 0.0
        limit_usd = math.inf if order.take_profit_usd is None else order.take_profit_usd
        if stop_usd < usd < limit_usd:
            return None
        price_usd = min(usd, limit_usd)
        is_stop = price_usd <= stop_usd
        if is_stop:
            self.stopped_at[order.symbol] = at
        trade = Trade(
            at=at,
            symbol=order.symbol,
            quantity=-order.quantity,
            price_usd=price_usd,
            name=f"{order.client_order_id}-{'stop-loss' if is_stop else 'take-profit'}",
            why="stop" if is_stop else "target",
            decided_usd=stop_usd if is_stop else limit_usd,
        )
        del self.book.brackets[order.symbol]
        self.move(trade)
        return trade

    def watch(self, exits: Sequence[Trade]) -> list[Trade]:
        """Work stops and targets at the prices at which live's were filled: no record has closes of that symbol."""
        sold = []
        for each in exits:
            order = self.book.brackets.get(each.symbol)
            if order and (sale := self._reach(order, each.price_usd, each.at + BEFORE)):
                sold.append(sale)
            elif held := self.book.positions.get(each.symbol):
                self.book.positions[each.symbol] = _price(held, each.price_usd)
        return sold

    # --- trades ---

    def move(self, trade: Trade) -> None:
        """Move the cash and the shares of a trade, whatever it does to the cash."""
        held = self.book.positions.pop(trade.symbol, None)
        had = held.quantity if held else 0.0
        left = had + trade.quantity
        self.book.cash_usd = round(self.book.cash_usd - trade.value_usd, 2)
        if abs(left) <= ROUNDING and held is None:
            return
        if abs(left) <= ROUNDING:
            self.book.brackets.pop(trade.symbol, None)
            self._marks.pop(trade.symbol, None)
            self.bought_at.pop(trade.symbol, None)
            return
        is_bought = trade.quantity > 0 and trade.cost_usd is None
        average_usd = held.average_price_usd if held and not is_bought else trade.price_usd
        price_usd = held.price_usd if held and trade.cost_usd is not None else trade.price_usd
        self.book.positions[trade.symbol] = Position(
            symbol=trade.symbol, quantity=left, average_price_usd=average_usd, price_usd=price_usd
        )
        if held is None and (bars := self._bars.get(trade.symbol)):
            self._marks[trade.symbol] = _Mark.at_end(bars, len(bars.times))
        if (exits := self.book.brackets.get(trade.symbol)) and exits.quantity > left:
            self.book.brackets[trade.symbol] = replace(exits, quantity=left)

    def cut(self, trade: Trade) -> Trade | None:
        """Return a trade of somebody else as far as this account can make it; None if it cannot."""
        held = self.book.positions.get(trade.symbol)
        if trade.cost_usd is not None:
            return trade if held or not trade.quantity else None
        if trade.quantity > 0:
            return trade
        had = held.quantity if held else 0.0
        sold = had if trade.is_all else min(had, -trade.quantity)
        return replace(trade, quantity=-sold) if sold > 0 else None

    def pay_in(self, usd: float) -> None:
        """Move cash in or out; the highest equity moves by the same fraction."""
        before_usd = self.book.equity_usd()
        self.book.cash_usd = round(self.book.cash_usd + usd, 2)
        self.peak_usd *= self.book.equity_usd() / before_usd if before_usd > 0 else 1.0

    def fill(self, order: Order, price_usd: float, step: Step, *, has_stop_only: bool) -> Trade | None:
        """Fill an order at once, and keep its stop and target; None if a cash account could not fill it."""
        if order.side is Side.SELL:
            self.book.brackets.pop(order.symbol, None)
        had = order.symbol in self.book.positions
        try:
            books.fill(self.book, order, price_usd)
        except OrderRejectedError:
            return None
        if order.side is Side.BUY:
            self.bought_at[order.symbol] = step.now
            if order.stop_loss_usd is not None:
                kind = OrderType.STOP if has_stop_only else OrderType.MARKET
                self.book.brackets[order.symbol] = replace(order, type=kind)
        if (bars := step.bars.get(order.symbol)) and not had:
            self._marks[order.symbol] = _Mark.at_end(bars, len(bars.times))
        return Trade(
            at=step.now,
            symbol=order.symbol,
            quantity=order.signed_quantity,
            price_usd=price_usd,
            name=order.client_order_id,
            decided_usd=price_usd,
        )

    # --- what a run would see ---

    def show(self, step: Step, flows_usd: float | None, *, knows_others: bool) -> Observation:
        """Return what a run would see of this account at a step."""
        book = self.book
        account = Account(
            equity_usd=book.equity_usd(),
            last_equity_usd=book.last_equity_usd,
            cash_usd=book.cash_usd,
            buying_power_usd=book.cash_usd,
            flows_usd=flows_usd,
        )
        known = {symbol: at for symbol, at in step.stopped_at.items() if at < self._began}
        stopped_at = {**known, **self.stopped_at}
        return observe_again(
            step,
            account=account,
            positions=dict(book.positions),
            open_orders=tuple(
                each for each in step.open_orders if knows_others and _is_of_others(each.client_order_id)
            ),
            stopped_at={
                symbol: at
                for symbol, at in stopped_at.items()
                if symbol in step.chosen and symbol not in book.positions
            },
            bought_at=self.bought_at if step.bought_at or step.rule else {},  # only an own rule asks for it
            peak_equity_usd=None if step.peak_problem else self.peak_usd,
        )


def _price(held: Position, price_usd: float) -> Position:
    """Return a holding with another price: replace() would take three times as long, for each bar of each holding."""
    return Position(
        symbol=held.symbol,
        quantity=held.quantity,
        average_price_usd=held.average_price_usd,
        price_usd=price_usd,
        available=held.available,
        is_stock=held.is_stock,
    )


def _read_brackets(first: Step) -> dict[str, Order]:
    """Return what ends the holdings that are there at the beginning: the lowest target and the highest stop of each."""
    found: dict[str, Order] = {}
    waiting = [decode(OpenOrder, each) for each in first.legs]
    for symbol, held in first.positions.items():
        legs = [each for each in waiting if each.symbol == symbol and each.side is Side.SELL]
        stops = [each.stop_price_usd for each in legs if each.stop_price_usd is not None]
        limits = [each.limit_price_usd for each in legs if each.limit_price_usd is not None and not each.stop_price_usd]
        if stops:
            found[symbol] = Order(
                client_order_id=next(each.client_order_id for each in legs if each.stop_price_usd is not None),
                symbol=symbol,
                side=Side.BUY,
                quantity=held.quantity,
                price_usd=held.price_usd,
                stop_loss_usd=max(stops),
                take_profit_usd=min(limits) if limits else None,
                type=OrderType.MARKET if limits else OrderType.STOP,
            )
    return found


def _is_unchanged(mark: _Mark, bars: Bars) -> bool:
    """Check whether the complete ones of the kept closes are still there as they were."""
    kept = mark.times[:-1]
    if len(kept) == 0:
        return False
    first = int(bars.times.searchsorted(kept[0]))
    rows = slice(first, first + len(kept))
    if bars.times[rows].tobytes() == kept.tobytes():  # as nearly always; so few numbers are soonest compared as bytes
        return bars.usd[rows].tobytes() == mark.usd[:-1].tobytes()
    places = np.searchsorted(bars.times, kept)
    if places[-1] >= len(bars.times):
        return False
    return np.array_equal(bars.times[places], kept) and np.array_equal(bars.usd[places], mark.usd[:-1])


def _is_of_others(client_order_id: str) -> bool:
    return OrderId.parse(client_order_id) is None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


# --- the course ------------------------------------------------------------------------------------------------------


def follow(period: Period, world: World, decider: Decider) -> Course:
    """Take an account through the slots of a period, up to the last look at the account."""
    account, course = _Account(period.first), Course()
    trades, flows, adjustments = deque(world.trades), deque(world.flows), deque(world.adjustments)
    moved_usd = 0.0

    def make(waiting: deque[Trade], until: datetime) -> None:
        while waiting and waiting[0].at < until:
            trade = waiting.popleft()
            if made := account.cut(trade) if world.decides else trade:
                account.move(made)
                course.trades.append(made)

    for number, step in enumerate(period.steps):
        opening = datetime.combine(step.now.astimezone(NEW_YORK), time(), NEW_YORK)
        make(trades, min(opening, step.now))
        while flows and flows[0].at < step.now:
            moved_usd += flows[0].usd
            account.pay_in(flows.popleft().usd)
        is_left_out = step.missed and (world.skips_missed or step.unknown or not step.bars)
        if not is_left_out:
            account.restate(step, period.splits.get(number, {}))
        make(trades, step.now)  # shares are split, and pay dividends, overnight
        if is_left_out:
            continue
        if world.decides:
            course.trades += account.watch(period.exits.get(number, ()))
        course.trades += account.advance(step, has_exits=world.decides)
        for symbol in account.book.positions.keys() - step.bars.keys():
            course.unpriced.setdefault(symbol, []).append(step.slot)
        make(adjustments, step.now + timedelta.resolution)
        course.equity.append((step.slot, account.book.equity_usd()))
        if world.decides and step is not period.last:
            _decide(number, step, world, account, decider, course)
    _value_at_end(account, period)
    course.restatements = account.book.restatements
    course.held = {symbol: each.quantity for symbol, each in account.book.positions.items()}
    course.gain_usd = round(account.book.equity_usd() - account.start_usd - moved_usd, 2)
    return course


def _decide(number: int, step: Step, world: World, account: _Account, decider: Decider, course: Course) -> None:
    """Decide at a step, and fill the orders: the sales first, as the bot places them."""
    prices = {symbol: usd for symbol, usd in world.prices.get(number, {}).items() if symbol in step.bars}
    settings = world.settings[number]
    orders: dict[str, Order] = {}
    try:
        if settings is None:
            raise UndecidableError("its settings are not those of this version")
        flows_usd = (step.account.flows_usd if step.account else 0.0) if world.flows else 0.0
        seen = account.show(step, flows_usd, knows_others=bool(world.trades))
        made = decider.decide(number, settings, seen, prices)
        orders = {each.symbol: each for each in made.orders}
    except UndecidableError as error:
        course.undecided[number] = str(error)
        orders = {each.symbol: each for each in step.decided or ()}
    for symbol, instead in world.decided.get(number, {}).items():
        orders.pop(symbol, None)
        if instead is not None:
            orders[symbol] = instead
    has_stop_only = bool(settings and settings.shares is Shares.FRACTIONAL)
    for order in sorted(orders.values(), key=lambda each: each.side is Side.BUY):
        held = account.book.positions.get(order.symbol)
        if order.side is Side.SELL:
            if held is None or held.quantity <= 0:
                continue
            order = replace(order, quantity=min(order.quantity, held.quantity))
        bars = step.bars.get(order.symbol)
        price_usd = prices.get(order.symbol) or (bars.last_usd if bars else order.price_usd)
        if trade := account.fill(order, price_usd, step, has_stop_only=has_stop_only):
            course.trades.append(trade)


def _value_at_end(account: _Account, period: Period) -> None:
    """Value every holding at the price that the broker has for it, as live is valued."""
    for symbol, held in account.book.positions.items():
        account.book.positions[symbol] = replace(held, price_usd=period.value(symbol, held.price_usd))


# --- two courses -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one symbol's different trades make of the difference between two courses, until both hold the same again."""

    symbol: str
    usd: float
    at: datetime
    before: Sequence[Trade]
    after: Sequence[Trade]


def compare(before: Course, after: Course, period: Period) -> list[Part]:
    """Return the parts of what one course gained more than another; what they do not add up to is rounding."""
    actions = {(each.at, each.symbol): each for each in (*before.restatements, *after.restatements)}
    parts: list[Part] = []
    symbols = dict.fromkeys(each.symbol for course in (before, after) for each in course.trades)
    for symbol in symbols:
        own = sorted((each for each in actions.values() if each.symbol == symbol), key=lambda each: each.at)
        parts += _compare_symbol(symbol, before, after, own, period)
    return sorted(parts, key=lambda each: -abs(each.usd))


def _compare_symbol(
    symbol: str, before: Course, after: Course, actions: Sequence[Restatement], period: Period
) -> Iterator[Part]:
    ours, theirs = ([each for each in course.trades if each.symbol == symbol] for course in (before, after))
    tagged = [(each, False) for each in ours if each not in theirs]
    tagged += [(each, True) for each in theirs if each not in ours]
    tagged.sort(key=lambda each: each[0].at)
    ahead, usd, open_ = 0.0, 0.0, []  # shares of the end, that `after` has more
    for place, (trade, is_after) in enumerate(tagged):
        worth_usd, shares = _worth(trade, actions, period)
        sign = 1 if is_after else -1
        ahead, usd = ahead + sign * shares, usd + sign * worth_usd
        open_.append((trade, is_after))
        is_last = place == len(tagged) - 1
        if not is_last and (abs(ahead) > ROUNDING or _is_of(tagged[place + 1][0], trade)):
            continue
        if abs(usd) >= 0.005:
            yield Part(
                symbol=symbol,
                usd=usd,
                at=open_[0][0].at,
                before=[each for each, is_its in open_ if not is_its],
                after=[each for each, is_its in open_ if is_its],
            )
        usd, open_ = 0.0, []


def _is_of(trade: Trade, other: Trade) -> bool:
    return bool(trade.name) and trade.name == other.name


def _worth(trade: Trade, actions: Sequence[Restatement], period: Period) -> tuple[float, float]:
    """Return what a trade adds to the gain by the end, and the shares that it has become."""
    shares, paid_usd = trade.quantity, 0.0
    for each in actions:
        if each.at > trade.at and each.quantity_before:
            paid_usd += shares * each.dividend_usd / each.quantity_before
            shares *= each.ratio
    return shares * period.value(trade.symbol, trade.price_usd) + paid_usd - trade.value_usd, shares
