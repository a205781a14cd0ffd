"""Stories over several slots and days: orders that end late, holdings that change between runs, time that jumps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from scripts.testkit.alpaca_books import FakeOrder
from scripts.testkit.web_hook import WebHook, web_hook
from tests.fault_injection.fault_matrix import (
    BEFORE,
    FOR_EVER,
    MORNING,
    QUARTER,
    QUICK,
    Case,
    ScenarioResult,
    event,
)
from tests.fault_injection.fault_matrix import STOP as ORDER_STOP
from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.harness import LIMITS, STRATEGY, Answer, Harness
from tests.fault_injection.invariants import Audit
from trader.model import NEW_YORK
from trader.schedule.base import slot_id

CALM: Mapping[str, float] = {"AAA": 0.0, "BBB": -0.01}
"""Prices at which nothing is decided; AAA and BBB are held."""

SELL: Mapping[str, float] = {**CALM, "AAA": 0.05}
BUY: Mapping[str, float] = {**CALM, "CCC": -0.05}

FRIDAY = datetime(2026, 1, 9, 20, 15, tzinfo=UTC)
HELD = {"AAA": 100, "BBB": 20}


@dataclass
class Play:
    """A story in a harness: the slots so far, and what did not go as it must."""

    harness: Harness
    moment: datetime
    gaps: Mapping[str, float] = field(default_factory=lambda: CALM)
    result: ScenarioResult = field(default_factory=ScenarioResult)
    named: set[str] = field(default_factory=set)  # at ERROR, in any slot
    words: str = ""  # for the table, if the list of statuses is not always the same

    def __post_init__(self) -> None:
        self.audit = Audit(self.harness)

    def slot(
        self,
        gaps: Mapping[str, float] | None = None,
        *,
        after: timedelta = QUARTER,
        trade: bool = True,
        faults: Sequence[Fault] = (),
        hooks: Mapping[str, Callable[[], object]] | None = None,
        change: Callable[[], object] = lambda: None,
        expected: str = "",
        twice: bool = False,
        **options: Any,
    ) -> Answer:
        """Run a slot, by default a quarter of an hour later and at the same prices, and check all invariants.

        `hooks` happen when their call arrives, or after it; `change` happens before the run, after the prices. Without
        `trade`, nothing that is open is filled before. With `twice`, another slot's run is at work at the same time.
        """
        harness = self.harness
        self.gaps = self.gaps if gaps is None else gaps
        self.moment += after
        harness.at(self.moment, self.gaps, trade=trade)
        change()
        harness.alpaca.hooks = {name: [what] for name, what in (hooks or {}).items()}
        its_event = replace(event(self.moment), **options)
        events = [its_event, replace(its_event, slot=self.moment - timedelta(minutes=1))] if twice else [its_event]
        answers = harness.deliver(*events, faults=faults, at_once=twice)
        harness.alpaca.hooks = {}
        self.result.violations += self.audit.after(answers)
        self.result.answers += answers
        lines = [line for line in harness.records if line.get("message") == "held without a stop loss"]
        self.named |= {
            name for line in lines if line["level"] == "ERROR" for name in str(line["symbols"]).split(",") if name
        }
        self.require(not expected or answers[0].words == expected, f"{answers[0].words} instead of {expected}")
        return answers[0]

    def day(self, gaps: Mapping[str, float] | None = None, **options: Any) -> Answer:
        """Run a slot on the next weekday, at the same time."""
        days = 3 if self.moment.astimezone(NEW_YORK).weekday() == 4 else 1
        return self.slot(gaps, after=timedelta(days=days), **options)

    def require(self, holds: bool, words: str) -> None:
        """Note a violation of the story's own, in words, unless it holds."""
        if not holds:
            self.result.violations.append(f"story: slot {len(self.result.answers)}: {words}")

    def require_safe(self, *symbols: str) -> None:
        """Require that these are held, with a working stop for every share."""
        alpaca = self.harness.alpaca
        for symbol in symbols:
            self.require(symbol in alpaca.positions, f"{symbol} is not held")
            self.require(symbol not in alpaca.positions or alpaca.is_covered(symbol), f"{symbol} has no stop")

    def require_gone(self, *symbols: str) -> None:
        """Require that these are neither held nor on order."""
        alpaca = self.harness.alpaca
        for symbol in symbols:
            self.require(symbol not in alpaca.positions, f"{symbol} is held")
            self.require(not alpaca.open_orders(symbol), f"{symbol} has open orders")

    # --- what happens ---

    def find(self, symbol: str, kind: str = "market", side: str = "") -> FakeOrder:
        """Return the newest open order of a symbol and a type."""
        orders = [order for order in self.harness.alpaca.open_orders(symbol) if order.type == kind]
        found = [order for order in orders if side in ("", order.side)]
        if not found:
            raise LookupError(f"{symbol} has no open {kind} order, only {self.harness.alpaca.open_orders(symbol)}")
        return found[-1]

    def end(self, symbol: str, status: str, kind: str = "market", side: str = "") -> Callable[[], None]:
        """Return a change that ends the open order of a symbol and a type."""

        def end() -> None:
            self.harness.alpaca.disturbed.update({symbol} if kind == "stop" else ())
            self.harness.alpaca.end(self.find(symbol, kind, side), status)

        return end

    def unprotect(self, symbol: str) -> None:
        """Cancel every open order of a symbol, as its owner could."""
        alpaca = self.harness.alpaca
        alpaca.disturbed.add(symbol)
        with alpaca.lock:
            for order in alpaca.open_orders(symbol):
                alpaca.end(order, "canceled")

    def set(self, **options: Any) -> Callable[[], None]:
        """Return a change of options of the stand-in for Alpaca."""
        return lambda: vars(self.harness.alpaca).update(options)

    def heal(self) -> None:
        """Let orders be filled and canceled at once again."""
        self.set(fills="immediate", cancel_polls=0, fill_delay_s=0.0, free_delay_s=0.0, suspended=set(), locked={})()


type Story = Callable[[Play], None]
_STORIES: list[tuple[str, str, datetime, Story]] = []


def story(about: str, what: str, *, begins: datetime = MORNING) -> Callable[[Story], Story]:
    """Enter a story in the list. It begins a quarter of an hour after `begins`, with two holdings of an earlier day."""

    def enter(function: Story) -> Story:
        _STORIES.append((about, what, begins, function))
        return function

    return enter


def play(begins: datetime, function: Story) -> Callable[[Harness], ScenarioResult]:
    """Return a scenario that plays a story."""

    def scenario(harness: Harness) -> ScenarioResult:
        harness.reset(BEFORE, begins - timedelta(days=1))
        harness.env = QUICK
        harness.endow(**HELD)
        harness.alpaca.accepted.clear()
        told = Play(harness, begins)
        try:
            function(told)
        except LookupError as error:  # an order that should be there is not
            told.require(False, f"the story cannot go on: {error}")
        return finish(told)

    return scenario


def finish(told: Play) -> ScenarioResult:
    """Return the result of a story, with its outcome in words."""
    result, accepted = told.result, told.harness.alpaca.accepted
    told.heal()
    runs = [(words, len(list(same))) for words, same in groupby(answer.words for answer in result.answers)]
    statuses = ", ".join(f"{words} ({times} times)" if times > 1 else words for words, times in runs)
    result.words = told.words or statuses
    stops = sum(each.is_stop for each in accepted)
    result.orders = len(accepted) - stops
    notes = [f"{stops} stop{'s' if stops > 1 else ''}" if stops else ""]
    notes.append(f"named: {', '.join(sorted(told.named))}" if told.named else "")
    result.note = "; ".join(filter(None, notes))
    return result


def cases() -> Iterator[Case]:
    """Yield one case for each story."""
    for about, what, begins, function in _STORIES:
        yield Case(about, what, play(begins, function))
    many = tuple(f"S{letter}" for letter in "ABCDEFGHIJKLMNOPQRST")
    limits = {**LIMITS, "MAX_ORDERS_PER_RUN": 20}
    options = {"symbols": many, "limits": limits, "variables": {"PATIENT": "1"}}
    yield Case(LIMIT, "20 sales whose fills take 1 s", sell_twenty, tuple(options.items()), is_slow=True)


# --- orders that end late ------------------------------------------------------------------------------------------

LATE, PART, PENDING = "late end", "filled in part", "cancel pending"


@story(LATE, "a buy is rejected after its answer")
def _(told: Play) -> None:
    told.set(fills="never")()
    answer = told.slot(BUY, hooks={"GET /orders?after": told.end("CCC", "rejected", side="buy")})
    told.require("ORDER_REJECTED" in denials(answer, "CCC"), f"the report says {denials(answer, 'CCC')}")
    told.require_gone("CCC")
    told.heal()
    told.slot(expected="TRADED")
    told.require_safe("AAA", "BBB", "CCC")


@story(LATE, "a sale is rejected after its answer, three slots running")
def _(told: Play) -> None:
    told.set(fills="never")()
    for _ in range(3):
        answer = told.slot(SELL, hooks={"GET /orders?after": told.end("AAA", "rejected", side="sell")})
        told.require("ORDER_REJECTED" in denials(answer, "AAA"), f"the report says {denials(answer, 'AAA')}")
        told.require_safe("AAA", "BBB")


@story(LATE, "a sale is rejected after its run")
def _(told: Play) -> None:
    told.set(fills="never")()
    told.slot(SELL, hooks={"after POST /orders sell": told.set(cancel_polls=FOR_EVER)})
    told.require("AAA" in told.named, "AAA is not named")
    told.heal()
    told.slot(CALM, change=told.end("AAA", "rejected", side="sell"), trade=False)
    told.require_safe("AAA")
    told.require(bool(told.result.answers[-1].report["settled"]), "the rejection is not in the report")  # type: ignore[index]


@story(LATE, "a stop is rejected after its answer")
def _(told: Play) -> None:
    told.slot(
        change=lambda: told.unprotect("BBB"), hooks={"after POST /orders stop": told.end("BBB", "rejected", "stop")}
    )
    told.require("BBB" in told.named, "BBB is not named")
    told.slot()
    told.require_safe("AAA", "BBB")


@story(LATE, "a stop is rejected between two runs")
def _(told: Play) -> None:
    told.slot()
    told.slot(change=told.end("BBB", "rejected", "stop"))
    told.require_safe("AAA", "BBB")


@story(LATE, "a stop is rejected, and its holding is not shown any more")
def _(told: Play) -> None:
    told.slot(
        {"AAA": -0.02, "BBB": -0.01},
        change=lambda: told.unprotect("AAA"),
        hooks={"after POST /orders stop": told.end("AAA", "rejected", "stop")},
        faults=[Fault("alpaca GET /positions", Kind.EMPTY, skip=1)],
    )
    told.require("AAA" in told.named, "AAA is not named")
    told.require(told.harness.alpaca.positions["AAA"].quantity == HELD["AAA"], "more of AAA was bought")
    told.slot()
    told.require_safe("AAA", "BBB")


@story(LATE, "orders are filled 0.4 s after their answer")
def _(told: Play) -> None:
    told.slot({**SELL, "CCC": -0.05}, change=told.set(fill_delay_s=0.4), expected="TRADED")
    told.require_safe("BBB", "CCC")
    told.require_gone("AAA")


@story(LATE, "a buy is filled as it is canceled")
def _(told: Play) -> None:
    told.set(fills="never")()
    told.slot(BUY, hooks={"DELETE /orders": lambda: fill(told, "CCC")}, expected="TRADED")
    told.require_safe("CCC")


@story(LATE, "a sale is filled as it is canceled")
def _(told: Play) -> None:
    def watch() -> None:
        told.harness.alpaca.hooks["DELETE /orders"] = [lambda: fill(told, "AAA")]

    told.slot(SELL, change=told.set(fills="never"), hooks={"after POST /orders sell": watch}, expected="TRADED")
    told.require_gone("AAA")


@story(LATE, "a buy is filled after its run")
def _(told: Play) -> None:
    told.set(fills="never", cancel_polls=FOR_EVER)()
    told.slot(BUY)
    told.heal()
    answer = told.slot(change=lambda: fill(told, "CCC"), trade=False)
    told.require(bool(answer.report and answer.report["settled"]), "the fill is not in the report")
    told.require_safe("AAA", "BBB", "CCC")


@story(LATE, "a sale is filled after its run")
def _(told: Play) -> None:
    told.set(fills="never")()
    told.slot(SELL, hooks={"after POST /orders sell": told.set(cancel_polls=FOR_EVER)})
    told.heal()
    answer = told.slot(CALM, change=lambda: fill(told, "AAA"), trade=False)
    told.require(bool(answer.report and answer.report["settled"]), "the fill is not in the report")
    told.require_gone("AAA")


@story(PART, "the entry, the rest is canceled")
def _(told: Play) -> None:
    told.set(fills="partial")()
    told.slot(BUY, expected="TRADED")
    told.require_safe("AAA", "BBB", "CCC")
    told.slot()
    told.require_safe("CCC")


@story(PART, "the entry, its rest is never canceled")
def _(told: Play) -> None:
    told.set(fills="partial", cancel_polls=FOR_EVER)()
    for _ in range(2):
        told.slot(BUY, trade=False)
        told.require("CCC" in told.named, "CCC is not named")
    told.heal()
    told.slot(change=told.end("CCC", "canceled"), trade=False)
    told.require_safe("AAA", "BBB", "CCC")


@story(PART, "the entry, the request to cancel it is refused")
def _(told: Play) -> None:
    told.slot(BUY, change=told.set(fills="partial"), faults=[Fault("alpaca DELETE /orders", Kind.DENIED)])
    told.require("CCC" in told.named, "CCC is not named")
    told.heal()
    told.slot(trade=False)
    told.require_safe("AAA", "BBB", "CCC")


@story(PART, "a sale, the rest is canceled")
def _(told: Play) -> None:
    told.slot(SELL, hooks={"after POST /orders sell": told.set(), "POST /orders sell": told.set(fills="partial")})
    told.require_safe("AAA", "BBB")
    told.require(told.harness.alpaca.positions["AAA"].quantity == 50, "half of AAA is not sold")
    told.heal()
    told.slot(expected="TRADED")
    told.require_gone("AAA")


@story(PART, "the take profit, which ends the stop")
def _(told: Play) -> None:
    def take() -> None:
        told.harness.alpaca.fill_part(told.find("BBB", "limit"), 8)
        told.find("BBB", "stop").status = "canceled"

    told.slot(change=take)
    told.require_safe("AAA", "BBB")
    told.require(told.harness.alpaca.positions["BBB"].quantity == 12, "not 12 are left")


@story(PART, "the take profit, its stop is reduced")
def _(told: Play) -> None:
    def take() -> None:
        stop = told.find("BBB", "stop")
        told.harness.alpaca.fill_part(told.find("BBB", "limit"), 8)
        stop.quantity -= 8

    told.slot(change=take, expected="NOTHING_TO_DO")
    told.require_safe("AAA", "BBB")
    told.require(not told.harness.alpaca.accepted, "an order was placed")


@story(PART, "the stop, which ends the take profit")
def _(told: Play) -> None:
    def stop_out() -> None:
        told.harness.alpaca.fill_part(told.find("BBB", "stop"), 8)
        told.find("BBB", "limit").status = "canceled"

    told.slot(change=stop_out, expected="NOTHING_TO_DO")
    told.require_safe("AAA", "BBB")


@story(PENDING, "the legs of a sale, for some looks")
def _(told: Play) -> None:
    told.slot(SELL, change=told.set(cancel_polls=2), expected="TRADED")
    told.require_gone("AAA")


@story(PENDING, "the legs of a sale, for three slots")
def _(told: Play) -> None:
    told.set(cancel_polls=FOR_EVER)()
    for _ in range(3):
        told.named.discard("AAA")
        told.slot(SELL)
        told.require("AAA" in told.named, "AAA is not named")
        told.require_safe("BBB")
    told.heal()
    for order in told.harness.alpaca.open_orders("AAA"):
        told.harness.alpaca.end(order, "canceled")
    told.slot()
    told.require_gone("AAA")


@story(PENDING, "a buy that is not filled, for three slots")
def _(told: Play) -> None:
    told.set(fills="never", cancel_polls=FOR_EVER)()
    for _ in range(3):
        told.slot(BUY, trade=False)
    buys = [each for each in told.harness.alpaca.accepted if each.order.side == "buy"]
    told.require(len(buys) == 1, f"{len(buys)} buys of CCC")
    told.heal()
    for order in told.harness.alpaca.open_orders("CCC"):
        told.harness.alpaca.end(order, "canceled")
    told.slot(expected="TRADED")
    told.require_safe("AAA", "BBB", "CCC")


# --- the market ----------------------------------------------------------------------------------------------------

HALT, GAP, SPLIT, CASH = "suspended stock", "gap through a stop", "split", "deposit or withdrawal"
SMALL = "a part of a share"
FRACTIONAL = {**QUICK, "SHARES": "fractional"}

NEAR, NEAR_STOP_FRACTION = "rules/near_stop.py", 0.01
"""A rule that buys what has fallen, with a stop closer than that of the settings."""

NEAR_RULE = f"""
from trader.alpha.rule import ForecastKind, Rule

class NearStop(Rule):
    forecast = ForecastKind.NONE
    bars = 30

    def decide(self, view):
        for symbol, closes in view.closes.items():
            change = closes.iloc[-1] / closes.iloc[-2] - 1
            reason = "the last change"
            yield view.judge(symbol, -change, up=change < -0.03, reason=reason, stop_loss_fraction={NEAR_STOP_FRACTION})
"""


@story(HALT, "bought on Friday, traded again on Monday", begins=FRIDAY)
def _(told: Play) -> None:
    told.slot(BUY, change=told.set(suspended={"CCC"}), expected="NOT_FILLED")
    told.require_gone("CCC")
    told.heal()
    told.day({**CALM, "CCC": 0.3})
    told.require_gone("CCC")
    told.require_safe("AAA", "BBB")


@story(HALT, "bought on Friday, never canceled, traded again on Monday", begins=FRIDAY)
def _(told: Play) -> None:
    told.slot(BUY, change=told.set(suspended={"CCC"}, cancel_polls=FOR_EVER))
    told.set(cancel_polls=0)()
    told.find("CCC").status = "new"  # Alpaca has lost the request to cancel it
    told.day({**CALM, "CCC": 0.05}, trade=False)
    told.heal()
    told.require(not told.harness.alpaca.open_orders("CCC"), "Friday's order is open on Monday")
    told.slot()
    told.require_gone("CCC")


@story(HALT, "held over a weekend, it opens below its stop", begins=FRIDAY)
def _(told: Play) -> None:
    told.slot(change=told.set(suspended={"BBB"}))
    told.require_safe("BBB")
    told.day({**CALM, "BBB": -0.29}, change=told.heal)  # no split's ratio
    told.harness.alpaca.trade()
    told.slot(expected="PAUSED")
    told.require_gone("BBB")
    sold = [order for order in told.harness.alpaca.orders if order.symbol == "BBB" and order.type == "stop"]
    told.require(sold[-1].filled_price == told.harness.alpaca.price("BBB"), "the stop was filled above the market")


@story(GAP, "the stop is filled, nothing is bought again that day")
def _(told: Play) -> None:
    told.slot()
    for _ in range(3):
        answer = told.slot({**CALM, "BBB": -0.1})
        told.require("PAUSED" in denials(answer, "BBB"), f"the report says {denials(answer, 'BBB')}")
        told.require_gone("BBB")
    told.day(expected="TRADED")
    told.require_safe("AAA", "BBB")


@story(GAP, "the stop is missing, the price below it")
def _(told: Play) -> None:
    told.slot({**CALM, "BBB": -0.1}, trade=False, change=lambda: told.unprotect("BBB"))
    told.require_gone("BBB")


@story(GAP, "the stop is missing, the price below it, the market closed")
def _(told: Play) -> None:
    low = {**CALM, "BBB": -0.1}
    told.slot(
        low, after=timedelta(hours=-2), trade=False, change=lambda: told.unprotect("BBB"), expected="MARKET_CLOSED"
    )
    told.require("BBB" in told.named, "BBB is not named")
    told.slot(low, after=timedelta(hours=2))
    told.require_gone("BBB")


@story(SPLIT, "two for one, its orders canceled")
def _(told: Play) -> None:
    told.slot()
    told.day({**CALM, "BBB": -0.505}, trade=False, change=lambda: split(told, "BBB", 2))
    told.require_safe("AAA", "BBB")
    told.slot()
    told.require(told.harness.alpaca.positions["BBB"].quantity == 40, "not 40 are held")


@story(SPLIT, "one for four, its orders canceled")
def _(told: Play) -> None:
    told.slot()
    told.day({**CALM, "BBB": 2.96}, trade=False, change=lambda: split(told, "BBB", 0.25))
    told.require_safe("AAA", "BBB")
    told.slot()


@story(SPLIT, "one for eight leaves a fraction")
def _(told: Play) -> None:
    told.slot()
    told.day({**CALM, "BBB": 6.92}, trade=False, change=lambda: split(told, "BBB", 0.125))
    told.require_safe("BBB")


@story(SMALL, "bought, and its stop renewed the next morning")
def _(told: Play) -> None:
    told.harness.env = FRACTIONAL
    told.slot(BUY, expected="TRADED")
    told.require_safe("AAA", "BBB", "CCC")
    told.require(told.harness.alpaca.positions["CCC"].quantity % 1 > 0, "CCC is held in whole shares")
    told.day()
    told.require_safe("AAA", "BBB", "CCC")


def lose_first_stop(kind: Kind) -> Story:
    """Return a story in which the order for the stop fails in a way, and the next slot makes it good."""

    def tell(told: Play) -> None:
        told.harness.env = FRACTIONAL
        told.slot(BUY, faults=[Fault(ORDER_STOP, kind)])
        told.slot()
        told.require_safe("AAA", "BBB", "CCC")

    return tell


story(SMALL, "its stop is asked for, but Alpaca does not answer")(lose_first_stop(Kind.LOST))
story(SMALL, "killed between buy and stop")(lose_first_stop(Kind.KILL_BEFORE))


@story(SMALL, "killed between buy and the closer stop that its rule asked for")
def _(told: Play) -> None:
    rule = told.harness.task / NEAR
    rule.parent.mkdir(exist_ok=True)
    rule.write_text(NEAR_RULE, encoding="utf-8")
    told.harness.env = {**FRACTIONAL, "SIGNAL": NEAR}
    told.slot(BUY, faults=[Fault(ORDER_STOP, Kind.KILL_BEFORE)])
    told.slot()
    told.require_safe("AAA", "BBB", "CCC")
    paid = told.harness.alpaca.positions["CCC"].average_price
    prices = [stop.stop_price or Decimal(0) for stop in told.harness.alpaca.working_stops("CCC")]
    meant = paid * Decimal(str(1 - NEAR_STOP_FRACTION))
    told.require(all(price >= meant - Decimal("0.01") for price in prices), f"stops at {prices} instead of {meant:.2f}")


def add_ended_stops(told: Play, symbol: str, count: int) -> None:
    """Add stops of the bot's that ended with their day, as years of holding a part of a share leave them."""
    alpaca, last = told.harness.alpaca, told.find(symbol, "stop")
    name = f"{STRATEGY}-{slot_id(told.moment + timedelta(minutes=1))}-{symbol}-stop"
    with alpaca.lock:
        for _ in range(count):
            stop = alpaca._new_order(symbol, "sell", "stop", last.quantity, f"{name}{len(alpaca.orders)}")
            stop.status, stop.stop_price, stop.time_in_force = "expired", last.stop_price, "day"
            alpaca.orders.append(stop)


@story(SMALL, "its buy is older than 2,000 stops for the day")
def _(told: Play) -> None:
    told.harness.env = FRACTIONAL
    told.slot(BUY, expected="TRADED")
    add_ended_stops(told, "CCC", 2_100)
    told.day()
    told.require_safe("AAA", "BBB", "CCC")


@story(SMALL, "its buy is older than all orders that are read")
def _(told: Play) -> None:
    told.harness.env = FRACTIONAL
    told.slot(BUY, expected="TRADED")
    add_ended_stops(told, "CCC", 4_100)
    told.day()
    told.require("CCC" in told.named, "CCC is not named")
    told.require_safe("AAA", "BBB")


@story(SMALL, "the next morning below its stop")
def _(told: Play) -> None:
    told.harness.env = FRACTIONAL
    told.slot(BUY, expected="TRADED")
    told.day({**CALM, "CCC": -0.12})
    told.require_gone("CCC")


@story(SMALL, "sold by the rule, its stop makes way")
def _(told: Play) -> None:
    told.harness.env = FRACTIONAL
    told.slot(BUY, expected="TRADED")
    told.slot({**CALM, "CCC": 0.05}, expected="TRADED")
    told.require_gone("CCC")


@story(CASH, "5,000 paid in on a day down 6 %")
def _(told: Play) -> None:
    alpaca = told.harness.alpaca
    told.slot()
    alpaca.last_equity = alpaca.equity / Decimal("0.94")
    alpaca.deposit(5_000)
    answer = told.slot(BUY)
    told.require("DAILY_LOSS_STOP" in denials(answer, "CCC"), f"the report says {denials(answer, 'CCC')}")
    told.require(not alpaca.accepted, "something was bought")


@story(CASH, "a tenth paid out")
def _(told: Play) -> None:
    told.slot()
    told.harness.alpaca.deposit(-10_000)
    told.slot(BUY, expected="TRADED")
    told.require_safe("AAA", "BBB", "CCC")


# --- messages ------------------------------------------------------------------------------------------------------

MESSAGES = "messages"


def address(hook: WebHook) -> Mapping[str, str]:
    """Return the settings with which messages go to a web hook."""
    return {**QUICK, "MESSAGE_URL": f"json://{hook.place}/"}


def refuse_buy(told: Play) -> Answer:
    """Run a slot whose buy is refused after its answer, which needs a person."""
    told.set(fills="never")()
    return told.slot(BUY, hooks={"GET /orders?after": told.end("CCC", "rejected", side="buy")})


@story(MESSAGES, "a buy is refused twice, and told once")
def _(told: Play) -> None:
    with web_hook() as hook:
        told.harness.env = address(hook)
        refuse_buy(told)
        refuse_buy(told)
    told.require(len(hook.texts) == 1 and "order refused (CCC)" in hook.texts[0], f"the messages are {hook.texts}")
    told.require_safe("AAA", "BBB")


def refuse_message(status: int = 200, *, hangs: bool = False) -> Story:
    """Return a story in which a buy is refused, and the message of it does not get through."""

    def tell(told: Play) -> None:
        with web_hook(status, hangs=hangs) as hook:
            told.harness.env = address(hook)
            refuse_buy(told)
            told.heal()
            told.slot(BUY, expected="TRADED")
        told.require(len(hook.taken) == 1, f"{len(hook.taken)} messages were tried")
        told.require_safe("AAA", "BBB", "CCC")

    return tell


story(MESSAGES, "a buy is refused, the service answers 500")(refuse_message(500))
story(MESSAGES, "a buy is refused, the service never answers")(refuse_message(hangs=True))


@story(MESSAGES, "the digest's event comes twice")
def _(told: Play) -> None:
    with web_hook() as hook:
        told.harness.env = address(hook)
        told.slot(BUY, expected="TRADED")
        evening = told.moment.astimezone(NEW_YORK).replace(hour=16, minute=15)
        before = len(told.harness.alpaca.requests)
        statuses = [told.harness.tell(evening)["status"] for _ in range(2)]
        methods = {each.method for each in told.harness.alpaca.requests[before:]}
        told.require(statuses == ["SENT", "ALREADY_SENT"], f"the digests ended as {statuses}")
        told.require(len(hook.texts) == 1, f"{len(hook.texts)} digests were sent")
        told.require(methods == {"GET"}, f"the digest sent {methods} to Alpaca")
        told.day(CALM)
    told.require_safe("AAA", "BBB", "CCC")


# --- a person beside -----------------------------------------------------------------------------------------------

PERSON = "a person beside it"


@story(PERSON, "buys more of a holding")
def _(told: Play) -> None:
    answer = told.slot(change=lambda: told.harness.alpaca.buy_by_hand("BBB", 10))
    told.require("BBB" in (answer.report or {})["unprotected"], "BBB is not named")
    told.require(not told.harness.alpaca.accepted, "an order was placed")


@story(PERSON, "sells a part of a holding")
def _(told: Play) -> None:
    told.slot(change=lambda: sell_part(told, "BBB", 8))
    told.require_safe("AAA", "BBB")
    told.slot(expected="NOTHING_TO_DO")


@story(PERSON, "places a limit sale in place of the bracket")
def _(told: Play) -> None:
    def limit() -> None:
        told.unprotect("BBB")
        order = told.harness.alpaca.accept(
            {
                "symbol": "BBB",
                "side": "sell",
                "type": "limit",
                "qty": "20",
                "limit_price": "90",
                "time_in_force": "gtc",
            }
        )
        told.harness.alpaca.accepted.pop()
        told.harness.alpaca.work(order)

    for change in (limit, lambda: None):
        told.named.clear()
        told.slot(change=change)
        told.require("BBB" in told.named, "BBB is not named")
    told.slot(change=lambda: told.unprotect("BBB"))
    told.require_safe("AAA", "BBB")


@story(PERSON, "cancels the bracket")
def _(told: Play) -> None:
    for _ in range(2):
        told.slot(change=lambda: told.unprotect("BBB"))
        told.require_safe("AAA", "BBB")


@story(PERSON, "cancels the bracket during a run")
def _(told: Play) -> None:
    told.slot(BUY, hooks={"after GET /positions": lambda: told.unprotect("BBB")})
    told.slot()
    told.require_safe("AAA", "BBB", "CCC")


@story(PERSON, "moves the stop")
def _(told: Play) -> None:
    alpaca = told.harness.alpaca
    alpaca.moved.add("BBB")
    told.slot(change=lambda: alpaca.move_stop("BBB", 50))
    told.require_safe("AAA", "BBB")
    told.slot(change=lambda: alpaca.move_stop("BBB", 59))
    told.require_safe("AAA", "BBB")
    told.require(not alpaca.accepted, "an order was placed")


@story(PERSON, "sells all and buys some again")
def _(told: Play) -> None:
    def change_hands() -> None:
        told.harness.alpaca.sell_by_hand("BBB")
        told.harness.alpaca.buy_by_hand("BBB", 7)

    answer = told.slot(change=change_hands)
    told.require("BBB" in (answer.report or {})["unprotected"], "BBB is not named")
    told.require("BBB" not in told.named, "BBB is named at ERROR, although the bot did not buy it")
    told.require(not told.harness.alpaca.accepted, "an order was placed")


# --- the account ---------------------------------------------------------------------------------------------------

LIMIT, ACCOUNT, SHARES = "request limit", "account", "shares"
BOTH: Mapping[str, float] = {**CALM, "AAA": 0.05, "BBB": 0.06}
"""Prices at which both holdings are sold, BBB first."""


@story(LIMIT, "429 on every order, two slots")
def _(told: Play) -> None:
    for _ in range(2):
        told.slot(BOTH, faults=[Fault("alpaca POST /orders", Kind.BUSY)])
        told.require_safe("AAA", "BBB")
    told.slot(expected="TRADED")
    told.require_gone("AAA", "BBB")


@story(LIMIT, "429 on every order once a bracket is canceled")
def _(told: Play) -> None:
    told.slot(BOTH, faults=[Fault("alpaca POST /orders", Kind.BUSY, skip=1)])
    told.require("BBB" in told.named, "BBB is not named")
    told.require_safe("AAA")
    told.slot(CALM)
    told.require_safe("AAA", "BBB")


@story(LIMIT, "429 on canceling orders that are not filled, until nothing can be read")
def _(told: Play) -> None:
    busy = Fault("alpaca DELETE /orders", Kind.BUSY, skip=1)
    told.slot({**SELL, "CCC": -0.05}, change=told.set(fills="never"), faults=[busy])
    told.require("AAA" in told.named, "AAA is not named")
    told.heal()
    told.slot(CALM, trade=False)
    told.require_safe("AAA", "BBB")


@story(LIMIT, "used up by another program")
def _(told: Play) -> None:
    alpaca = told.harness.alpaca

    def use_up() -> None:
        alpaca.requests_per_minute = 200
        alpaca.use_requests(200)

    told.slot(BOTH, change=use_up)
    alpaca.requests_per_minute = None
    told.require_safe("AAA", "BBB")
    told.slot(expected="TRADED")


def sell_twenty(harness: Harness) -> ScenarioResult:
    """Sell twenty holdings within 200 requests a minute, with the function's real waits."""
    calm = dict.fromkeys(harness.symbols, -0.005)
    harness.reset(calm, MORNING - timedelta(days=1))
    harness.env = {**QUICK, "UNIVERSE": ",".join(harness.symbols), "MAX_ORDERS_PER_RUN": "20"}
    harness.endow(**dict.fromkeys(harness.symbols, 10))
    told, alpaca = Play(harness, MORNING), harness.alpaca
    refused: list[str] = []
    alpaca.requests_per_minute, alpaca.fill_delay_s, alpaca.cancel_polls = 200, 1.0, 1
    count = alpaca.count_request

    def count_request() -> bool:
        if is_allowed := count():
            return is_allowed
        refused.append(alpaca.requests[-1].path)
        return False

    vars(alpaca)["count_request"] = count_request
    before = len(alpaca.requests)
    told.slot(dict.fromkeys(harness.symbols, 0.05), expected="TRADED")
    requests = len(alpaca.requests) - before
    told.require(not refused and requests <= 200, f"{requests} requests, {len(refused)} of them were refused")
    told.require_gone(*harness.symbols)
    result = finish(told)
    result.note = "no request refused"
    return result


@story(ACCOUNT, "blocked after the first of two sales")
def _(told: Play) -> None:
    block = told.set(account_overrides={"trading_blocked": True})
    told.slot(BOTH, hooks={"after POST /orders sell": block})
    told.require_gone("BBB")
    told.require_safe("AAA")
    told.slot(expected="ACCOUNT_BLOCKED")
    told.require_safe("AAA")
    told.set(account_overrides={})()
    told.slot(expected="TRADED")
    told.require_gone("AAA")


@story(ACCOUNT, "blocked between a bracket and its sale")
def _(told: Play) -> None:
    block = told.set(account_overrides={"trading_blocked": True})
    told.slot(BOTH, hooks={"after DELETE /orders": block})
    told.require("BBB" in told.named, "BBB is not named")
    told.named.clear()
    told.slot(expected="ACCOUNT_BLOCKED")
    told.require("BBB" in told.named, "BBB is not named again")
    told.require_safe("AAA")
    told.set(account_overrides={})()
    told.slot(CALM)
    told.require_safe("AAA", "BBB")


@story(ACCOUNT, "killed three times between a bracket and its sale")
def _(told: Play) -> None:
    for _ in range(3):
        told.slot(SELL, faults=[Fault("alpaca POST /orders sell", Kind.KILL_BEFORE, times=1, skip=1)])
    told.slot(CALM)
    told.require_safe("AAA", "BBB")


@story(SHARES, "free 1.5 s after their bracket is canceled")
def _(told: Play) -> None:
    told.slot(SELL, change=told.set(free_delay_s=1.5), expected="TRADED")
    told.require_gone("AAA")


@story(SHARES, "not free in time after their bracket is canceled")
def _(told: Play) -> None:
    told.slot(SELL, change=told.set(free_delay_s=20.0))
    told.require("AAA" in told.named, "AAA is not named")
    told.heal()
    told.harness.alpaca.free_from.clear()
    told.slot(CALM)
    told.require_safe("AAA", "BBB")


@story(SHARES, "40 of 140 locked, 100 in the bracket")
def _(told: Play) -> None:
    told.slot(change=lambda: told.harness.alpaca.buy_by_hand("AAA", 40))
    told.slot(SELL, change=told.set(locked={"AAA": 40}))
    told.require(told.harness.alpaca.is_covered("AAA", Decimal(100)), "the bracket is gone")
    told.require(not told.harness.alpaca.accepted, "an order was placed")
    told.heal()
    told.slot(expected="TRADED")
    told.require_gone("AAA")


@story(SHARES, "40 of 100 locked, although the bracket has them")
def _(told: Play) -> None:
    told.slot(SELL, change=told.set(locked={"AAA": 40}))
    told.require("AAA" in told.named, "AAA is not named")
    told.heal()
    told.slot(expected="TRADED")
    told.require_gone("AAA")


# --- time and prices -----------------------------------------------------------------------------------------------

TIME, PRICES = "time", "prices"


@story(TIME, "the machine sleeps for 18 hours before the first order")
def _(told: Play) -> None:
    told.slot({**SELL, "CCC": -0.05}, hooks={"after GET /positions": lambda: told.harness.sleep(18)})
    told.require(not told.harness.alpaca.accepted, "an order of yesterday was sent")
    told.require_safe("AAA", "BBB")
    told.day(expected="TRADED")


@story(TIME, "the machine sleeps for 20 minutes between two orders")
def _(told: Play) -> None:
    told.slot({**SELL, "CCC": -0.05}, hooks={"after POST /orders sell": lambda: told.harness.sleep(1 / 3)})
    told.require_gone("AAA", "CCC")
    told.slot(after=2 * QUARTER, expected="TRADED")
    told.require_safe("BBB", "CCC")


@story(TIME, "this machine's clock is 3 hours slow")
def _(told: Play) -> None:
    def hurry() -> None:
        told.harness.alpaca.now += timedelta(hours=3)
        told.unprotect("BBB")

    told.slot({**SELL, "CCC": -0.05}, change=hurry, expected="alarm: BrokerError")
    told.require(all(each.is_stop for each in told.harness.alpaca.accepted), "an order was sent")
    told.require_safe("AAA", "BBB")


@story(TIME, "this machine's clock is 2 hours fast")
def _(told: Play) -> None:
    def wait() -> None:
        told.harness.alpaca.now -= timedelta(hours=2)

    gaps = {**SELL, "CCC": -0.05}
    told.slot(gaps, after=10 * QUARTER, change=wait, is_clock_wrong=True, expected="alarm: BrokerError")
    told.require(not told.harness.alpaca.accepted, "an order was sent")
    told.require_safe("AAA", "BBB")


@story(PRICES, "every source is frozen since the morning")
def _(told: Play) -> None:
    def rise() -> None:
        told.harness.alpaca.prices["CCC"] = round(told.harness.alpaca.prices["CCC"] * 1.18, 2)

    answer = told.slot(BUY, change=rise)
    told.require("STALE_PRICE" in denials(answer, "CCC"), f"the report says {denials(answer, 'CCC')}")
    told.require_gone("CCC")
    told.slot(expected="TRADED")


@story(PRICES, "there are none for two days")
def _(told: Play) -> None:
    sources = [Fault("yahoo GET chart", Kind.ERROR), Fault("alpaca GET /stocks/bars", Kind.ERROR)]
    told.slot(BUY, faults=sources, change=lambda: told.unprotect("BBB"), expected="NO_PRICE_DATA")
    told.require_safe("AAA", "BBB")
    told.day(faults=sources, expected="NO_PRICE_DATA")
    told.day(expected="TRADED")
    told.require_safe("AAA", "BBB", "CCC")


# --- a run that cannot trade protects all the same -----------------------------------------------------------------

GATE = "a stop is missing"


@story(GATE, "and the market is closed")
def _(told: Play) -> None:
    told.slot(after=timedelta(hours=-2), change=lambda: told.unprotect("BBB"), expected="MARKET_CLOSED")
    told.require_safe("AAA", "BBB")


@story(GATE, "and trading is halted")
def _(told: Play) -> None:
    def halt() -> None:
        told.harness.halt(True)
        told.unprotect("BBB")

    told.slot(change=halt, expected="HALTED")
    told.require("BBB" in told.named, "BBB is not named")
    told.harness.halt(False)
    told.slot()
    told.require_safe("AAA", "BBB")


@story(GATE, "and the account may not buy: beyond the daily loss")
def _(told: Play) -> None:
    def fall() -> None:
        told.harness.alpaca.last_equity *= 2
        told.unprotect("BBB")

    told.slot(BUY, change=fall)
    told.require_safe("AAA", "BBB")


@story(GATE, "and the journal cannot be written")
def _(told: Play) -> None:
    claim = [Fault("s3 PUT claim", Kind.DENIED)]
    told.slot(change=lambda: told.unprotect("BBB"), faults=claim, expected="alarm: JournalError")
    told.require_safe("AAA", "BBB")


@story(GATE, "and the journal cannot be read")
def _(told: Play) -> None:
    listing = [Fault("s3 LIST", Kind.DENIED)]
    told.slot(change=lambda: told.unprotect("BBB"), faults=listing, expected="alarm: JournalError")
    told.require_safe("AAA", "BBB")


@story(GATE, "and two runs look at once")
def _(told: Play) -> None:
    told.slot(twice=True)  # starts both processes
    told.slot(change=lambda: told.unprotect("BBB"), twice=True)
    told.slot()  # each of the two may have given way to the other
    told.require_safe("AAA", "BBB")
    stops = told.harness.alpaca.working_stops("BBB")
    told.require(len(stops) == 1, f"{len(stops)} stops")
    told.words = "one of them or the next run protects it"


# --- damaged files -------------------------------------------------------------------------------------------------

CONTENTS: Mapping[str, bytes] = {
    "not UTF-8": b"\xff\xfe\x00{",
    "empty": b"",
    "of another type": b'[1, {"until": 7}]',
    "cut off": b'{"claimant": "a", "version": 1, "report": {"orders": [',
}


def damage(kind: str, content: bytes) -> Story:
    """Return a story in which a file of the journal is damaged, in each of two slots, and the next day follows."""

    def tell(told: Play) -> None:
        # A claim and a plan are read only if the run has left no record.
        is_cut_off = kind in ("claim", "plan")
        faults = [Fault("s3 PUT record", Kind.KILL_BEFORE, times=1)] if is_cut_off else []
        for gaps in ({**SELL, "CCC": -0.05}, {**CALM, "DDD": -0.05}):
            told.slot(gaps, faults=faults)
            place = locate(told, kind)
            told.require(is_cut_off or place in told.harness.objects(), f"there is no {place}")
            told.harness.damage(place, content)
        told.slot()
        last = told.result.answers[-1]
        told.require(last.words in ("TRADED", "NOTHING_TO_DO"), f"the next run ended with {last.words}: {last.error}")
        told.day({**CALM, "EEE": -0.05}, expected="TRADED")
        told.require_safe("BBB", "CCC", "DDD", "EEE")

    return tell


def locate(told: Play, kind: str) -> str:
    """Return the place of a file of the last slot in the journal."""
    day = f"{told.moment.astimezone(NEW_YORK):%Y-%m-%d}"
    if kind in ("ranking", "highest equity"):
        return f"universe/{STRATEGY}/{day}.json" if kind == "ranking" else f"equity/{STRATEGY}/peak.json"
    ending = {"claim": "claim", "plan": "started", "record": "json", "settled": "settled"}[kind]
    return f"runs/{STRATEGY}/{day}/{slot_id(told.moment)}.{ending}"


for _kind in ("claim", "plan", "record", "ranking", "settled", "highest equity"):
    for _words, _content in CONTENTS.items():
        story(f"damaged file: {_kind}", _words)(damage(_kind, _content))


# --- helpers -------------------------------------------------------------------------------------------------------


def denials(answer: Answer, symbol: str) -> list[str]:
    """Return the codes of the denials for a symbol."""
    return [each["code"] for each in (answer.report or {"denials": []})["denials"] if each["symbol"] == symbol]


def fill(told: Play, symbol: str) -> None:
    """Fill the waiting market order of a symbol, whatever was asked of it."""
    order, alpaca = told.find(symbol), told.harness.alpaca
    for each in (order, *order.legs):
        if each.status == "pending_cancel":
            each.status = "held" if each.parent else "new"
    alpaca.fill_part(order, int(order.remaining))


def split(told: Play, symbol: str, ratio: float) -> None:
    """Split the shares of a symbol whose price has already changed."""
    price = told.harness.alpaca.prices[symbol]
    told.harness.alpaca.disturbed.add(symbol)
    told.harness.alpaca.split(symbol, ratio)
    told.harness.alpaca.prices[symbol] = price


def sell_part(told: Play, symbol: str, shares: int) -> None:
    """Sell a part of a holding by hand, for which its bracket has to go."""
    told.unprotect(symbol)
    alpaca = told.harness.alpaca
    alpaca.accept({"symbol": symbol, "side": "sell", "type": "market", "qty": f"{shares}", "time_in_force": "day"})
    alpaca.work(alpaca.accepted.pop().order)
