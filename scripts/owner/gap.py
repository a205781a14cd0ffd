"""What lies between live and its test: one cause at a time is put into the test until live is reached. Pure.

The first account is the test, and each further one has one more cause; so what a cause makes of the gain is the
difference between two accounts, and the causes add up to the cent, with everything that each of them leads to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from scripts.owner.decisions import Checked, Difference, check
from scripts.owner.live import (
    Books,
    find_adjustments,
    find_exits,
    find_splits,
    join_orders,
    list_flows,
    list_trades,
)
from scripts.owner.shadow import ROUNDING, Choice, Course, Decider, Part, Period, Trade, World, compare, follow
from scripts.owner.slots import Fit, fill_in, find_later_prices, find_rhythm
from scripts.owner.tape import Step
from trader.audit.fills import Why
from trader.model import NEW_YORK
from trader.progress import Progress, no_progress

LEAST_USD = 0.01
"""The smallest part that is listed."""

AT_ONCE = timedelta(minutes=1)
"""A fill within this time is not late."""


class Cause(StrEnum):
    """What makes live differ from its test, in the order in which the causes are put in."""

    SETTING = "changed setting"
    DECISION = "decision"
    MISSED = "missed slot"
    PRICE = "price"
    HAND = "hand trade"
    FLOW = "deposit or withdrawal"
    SPLIT = "split"
    DIVIDEND = "dividend"
    FILL = "fill"
    REST = "not explained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A part of a term: what one symbol's trades, a payment or a holding make of it. Without a symbol: the account."""

    cause: Cause
    at: datetime
    symbol: str
    usd: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A slot that live missed; `unknown` says why the test cannot decide at it, either."""

    slot: datetime
    why: str
    unknown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Live against its test, from the first look at the account to the last. Deposits are no gain of either."""

    since: datetime
    until: datetime
    start_usd: float
    test_usd: float
    live_usd: float
    terms: Mapping[Cause, float]
    items: Sequence[Item]
    differences: Sequence[Difference]
    missed: Sequence[Missed]
    undecided: Mapping[datetime, str]
    rhythm: str
    notes: Sequence[str]
    equity: Sequence[tuple[datetime, float]] = field(repr=False)  # of the test, at each slot


def split(
    steps: Sequence[Step],
    without: Sequence[datetime],
    books: Books,
    strategy: str,
    fit: Fit,
    *,
    refits: bool = False,
    trusts_rule: bool = False,
    again: Mapping[datetime, Choice] | None = None,
    unread: Sequence[datetime] = (),
    progress: Progress = no_progress,
) -> Gap | None:
    """Return live against its test; None if fewer than two runs saw the account.

    `fit` fits forecasts to the closes of a step. It is asked for slots that were missed and, with `refits`, for all.
    `again` are the decisions of today's code from the records, as far as they have been taken already. `unread` are the
    slots whose records cannot be read, so that nobody knows what was decided there.
    """
    rhythm = find_rhythm(steps)
    whole = [
        fit(each) if each.missed and each.bars and not each.unknown else each
        for each in fill_in(steps, without, rhythm, unread)
    ]
    if sum(each.is_seen for each in whole) < 2:
        return None
    decider = Decider(whole, trusts_rule=trusts_rule, again=again)
    checked = check(whole, decider, fit if refits else None, progress)
    found = _Splitting(whole, books, strategy, decider, checked, find_later_prices(whole, rhythm), progress)
    return found.split(rhythm.describe())


class _Splitting:
    """A split in the making."""

    def __init__(
        self,
        steps: Sequence[Step],
        books: Books,
        strategy: str,
        decider: Decider,
        checked: Checked,
        later: Mapping[int, Mapping[str, float]],
        progress: Progress,
    ) -> None:
        self._steps = steps
        self._decider = decider
        self._checked = checked
        self._later = later
        self._progress = progress
        orders = join_orders(books.orders, steps)
        self._orders = {each.client_order_id: each for each in orders}
        self._trades = [each for each in list_trades(orders, strategy, steps) if self._is_inside(each.at)]
        flows = list_flows(steps) if books.flows is None else books.flows
        self._flows = [each for each in flows if self._is_inside(each.at)]
        self._paid = None if books.paid is None else [each for each in books.paid if self._is_inside(each.at)]
        splits, exits = find_splits(steps, self._trades), find_exits(steps, self._trades)
        self._period = Period(steps=steps, splits=splits, exits=exits)

    def _is_inside(self, at: datetime) -> bool:
        return self._steps[0].now <= at < self._steps[-1].now

    def split(self, rhythm: str) -> Gap:
        """Put in one cause after another, and return what each has made of the gain."""
        checked = self._checked
        base = World(settings=checked.tested, prices=self._later)
        worlds = list(self._list_worlds(base))
        terms: dict[Cause, float] = {}
        items: list[Item] = []
        world = base
        test = course = follow(self._period, world, self._decider)
        for done, (cause, next_world) in enumerate(worlds, 1):
            self._progress("live against its test", done, len(worlds))
            is_same = next_world == world or (cause is Cause.MISSED and not any(each.missed for each in self._steps))
            after = course if is_same else follow(self._period, next_world, self._decider)
            terms[cause] = round(after.gain_usd - course.gain_usd, 2)
            items += self._list_parts(cause, course, after)
            world, course = next_world, after
        live_usd = self._measure_live()
        terms[Cause.REST] = rest_usd = round(live_usd - course.gain_usd, 2)
        items += self._explain_rest(course, rest_usd)
        first, last = self._period.first, self._period.last
        assert first.account is not None, "a period begins with a look at the account"
        return Gap(
            since=first.slot,
            until=last.slot,
            start_usd=first.account.equity_usd,
            test_usd=test.gain_usd,
            live_usd=live_usd,
            terms=terms,
            items=sorted((each for each in items if abs(each.usd) >= LEAST_USD), key=lambda each: -abs(each.usd)),
            differences=checked.differences,
            missed=[
                Missed(slot=each.slot, why=each.missed, unknown=each.unknown) for each in self._steps if each.missed
            ],
            undecided=checked.undecided | {self._steps[number].slot: why for number, why in test.undecided.items()},
            rhythm=rhythm,
            notes=[*checked.notes, *_describe_unpriced(test)],
            equity=test.equity,
        )

    def _list_worlds(self, world: World) -> Iterator[tuple[Cause, World]]:
        """Yield worlds, each with one more cause."""
        yield Cause.SETTING, (world := replace(world, settings=self._checked.settings))
        yield Cause.DECISION, (world := replace(world, decided=self._checked.recorded))
        yield Cause.MISSED, (world := replace(world, skips_missed=True))
        yield Cause.PRICE, (world := replace(world, prices={}))
        by_hand = tuple(each for each in self._trades if each.why == Why.HAND)
        yield Cause.HAND, (world := replace(world, trades=by_hand))
        yield Cause.FLOW, (world := replace(world, flows=tuple(self._flows)))
        live = World(settings=(), trades=self._trades, flows=self._flows, skips_missed=True, decides=False)
        adjusted = find_adjustments(follow(self._period, live, self._decider), self._steps, self._paid)
        splits = tuple(each for each in adjusted if each.why == "split")
        yield Cause.SPLIT, (world := replace(world, adjustments=splits))
        yield Cause.DIVIDEND, (world := replace(world, adjustments=tuple(adjusted)))
        yield Cause.FILL, replace(live, adjustments=adjusted)

    # --- what the accounts' trades say ---

    def _list_parts(self, cause: Cause, before: Course, after: Course) -> Iterator[Item]:
        parts = compare(before, after, self._period) if before is not after else []
        for part in parts:
            yield Item(
                cause=cause, at=part.at, symbol=part.symbol, usd=round(part.usd, 2), words=self._describe(cause, part)
            )

    def _describe(self, cause: Cause, part: Part) -> str:
        if cause is Cause.FILL:
            return self._describe_fill(part)
        if cause in {Cause.SPLIT, Cause.DIVIDEND}:
            return _describe_adjustments(part)
        if cause is Cause.HAND and any(each.why == Why.HAND for each in part.after):
            return f"by hand: {_list(each for each in part.after if each.why == Why.HAND)}"
        if cause is Cause.MISSED and (
            step := next((each for each in self._steps if each.now == part.at and each.missed), None)
        ):
            return f"{step.missed}; the test: {_list(part.before)}"
        first, then = _list(part.before) or "nothing", _list(part.after) or "nothing"
        return f"{then}; in the test: {first}"

    def _describe_fill(self, part: Part) -> str:
        """Say what became of an order that the test filled at once at the price of its decision."""
        if len(part.before) == len(part.after) == 1:
            meant, made = part.before[0], part.after[0]
            words = []
            if abs(meant.quantity - made.quantity) > ROUNDING:
                words.append(f"{abs(made.quantity):g} instead of {abs(meant.quantity):g} {_verb(made)}")
            change = made.price_usd / meant.price_usd - 1
            if abs(change) >= 5e-6:
                where = "decision" if meant.why == "rule" else f"test's {meant.why}"
                words.append(f"filled {abs(change):.2%} {'above' if change > 0 else 'below'} the {where}")
            if made.at - meant.at > AT_ONCE and made.name == meant.name:
                words.append(f"late, on {made.at.astimezone(NEW_YORK):%Y-%m-%d %H:%M}")
            return ", ".join(words) or "filled otherwise"
        if part.before and not part.after:
            order = self._orders.get(part.before[0].name)
            became = "no order was sent" if order is None else f"its order is {order.status}"
            return f"not filled ({became}); the test: {_list(part.before)}"
        return f"{_list(part.after)}; in the test: {_list(part.before) or 'nothing'}"

    # --- what is not a trade ---

    def _measure_live(self) -> float:
        first, last = self._period.first.account, self._period.last.account
        assert first is not None, "a period begins with a look at the account"
        assert last is not None, "a period ends with one"
        return round(last.equity_usd - first.equity_usd - sum(each.usd for each in self._flows), 2)

    def _find_more_shares(self, course: Course) -> Mapping[str, float]:
        """Return the shares that live holds at the end beyond its trades, negative if they are fewer."""
        held = {symbol: each.quantity for symbol, each in self._period.last.positions.items()}
        more = {symbol: held.get(symbol, 0.0) - course.held.get(symbol, 0.0) for symbol in held.keys() | course.held}
        return {symbol: shares for symbol, shares in more.items() if abs(shares) > ROUNDING}

    def _explain_rest(self, course: Course, usd: float) -> Iterator[Item]:
        """Yield what is known of the rest: shares without an order, fees and interest; and what nobody explains."""
        at = self._period.last.slot
        for symbol, shares in self._find_more_shares(course).items():
            worth_usd = round(shares * self._period.value(symbol, 0.0), 2)
            words = f"{shares:+g} shares that no order explains"
            yield Item(cause=Cause.REST, at=at, symbol=symbol, usd=worth_usd, words=words)
            usd -= worth_usd
        for each in self._paid or ():
            if each.kind not in {"dividend", "fraction"}:
                yield Item(cause=Cause.REST, at=each.at, symbol=each.symbol, usd=each.usd, words=each.kind)
                usd -= each.usd
        words = "what the account has beyond its trades, such as interest, or fees if negative"
        yield Item(cause=Cause.REST, at=at, symbol="", usd=round(usd, 2), words=words)


def _describe_adjustments(part: Part) -> str:
    made = [each for each in part.after if each.cost_usd is not None]
    shares, usd = sum(each.quantity for each in made), -sum(each.value_usd for each in made)
    words = [*([f"{shares:+g} shares"] if shares else []), *([f"{usd:+,.2f} USD"] if usd else [])]
    return f"{' and '.join(words) or 'other trades'} beside what the prices say is due"


def _describe_unpriced(test: Course) -> Iterator[str]:
    """Yield what the test held without a price: the records have the closes of what is chosen and of what live held."""
    for symbol, slots in test.unpriced.items():
        since = slots[0].astimezone(NEW_YORK)
        slots_words = f"at {len(slots):,} slots" if len(slots) > 1 else "at a slot"
        yield f"The test holds {symbol} {slots_words} from {since:%Y-%m-%d %H:%M} on without a price on record"


def _verb(trade: Trade) -> str:
    return "bought" if trade.quantity > 0 else "sold"


def _list(trades: Iterator[Trade] | Sequence[Trade]) -> str:
    """Return the first trades in words: `bought 95 at 104.50`."""
    words = [f"{_verb(each)} {abs(each.quantity):g} at {each.price_usd:,.2f}" for each in trades]
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return f"{', '.join(words[:3])}{more}"
