"""Random trading weeks with several faults in every slot, generated and shortened by hypothesis."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from scripts.testkit.alpaca_books import RefusalError
from tests.fault_injection import market
from tests.fault_injection.fault_matrix import (
    AGAIN,
    CALLS,
    FOR_EVER,
    ONCE,
    PROTECTION,
    RECOVERY,
    SETTLEMENT,
)
from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.faulty_services import BOOKS
from tests.fault_injection.harness import Event, Harness, start_harness
from tests.fault_injection.invariants import LOOK_UP, Audit
from tests.fault_injection.scenarios import cancel_all

SLOTS, SEQUENCES = 42, 1
"""The number of slots in a sequence, and of sequences in a round."""


def sell_one(harness: Harness) -> None:
    with harness.alpaca.lock:
        for symbol, position in harness.alpaca.positions.items():
            if position.quantity > 0:
                harness.alpaca.sell_by_hand(symbol)
                return


def trigger_one(harness: Harness) -> None:
    with harness.alpaca.lock:
        for order in harness.alpaca.open_orders():
            if order.parent and order.type == "stop" and order.parent.status == "filled":
                harness.alpaca.trigger_stop(order.symbol)
                return


def end_one(status: str, kind: str, side: str) -> Callable[[Harness], None]:
    """Return a change that ends an open order of this type with this status."""

    def end(harness: Harness) -> None:
        alpaca = harness.alpaca
        with alpaca.lock:
            for order in alpaca.open_orders():
                if (order.type, order.side) == (kind, side) and order.status != "held":
                    alpaca.disturbed.add(order.symbol)
                    alpaca.end(order, status)
                    return

    return end


def unprotect_one(harness: Harness) -> None:
    """Cancel every order of a holding, as its owner could."""
    with harness.alpaca.lock:
        for symbol in list(harness.alpaca.positions)[-1:]:
            unprotect(harness, symbol)


def fill_part_of_leg(kind: str) -> Callable[[Harness], None]:
    """Return a change that fills half of a leg, which ends its sibling."""

    def fill(harness: Harness) -> None:
        alpaca = harness.alpaca
        with alpaca.lock:
            for leg in alpaca.open_orders():
                is_live = leg.parent is not None and leg.parent.status == "filled" and leg.status in ("new", "held")
                if is_live and leg.type == kind and leg.remaining > 1 and alpaca.market_is_open():
                    alpaca.disturbed.add(leg.symbol)
                    alpaca.fill_part(leg, int(leg.remaining // 2))
                    for other in leg.parent.legs if leg.parent else ():
                        if other is not leg and other.is_open:
                            other.status = "canceled"
                    return

    return fill


def buy_one(harness: Harness) -> None:
    """Buy some shares of a holding by hand."""
    alpaca = harness.alpaca
    with alpaca.lock:
        for symbol in list(alpaca.positions)[:1]:
            if alpaca.market_is_open() and alpaca.own_buying_power > 10 * alpaca.price(symbol):
                alpaca.buy_by_hand(symbol, 3)


def sell_some(harness: Harness) -> None:
    """Sell a third of a holding by hand, for which its orders have to go."""
    alpaca = harness.alpaca
    with alpaca.lock:
        for symbol, position in list(alpaca.positions.items())[:1]:
            if alpaca.market_is_open() and position.quantity > 3:
                unprotect(harness, symbol)
                before = len(alpaca.accepted)
                order = {"symbol": symbol, "side": "sell", "type": "market", "time_in_force": "day"}
                with suppress(RefusalError):  # such as for a blocked account
                    alpaca.work(alpaca.accept({**order, "qty": f"{position.quantity // 3}"}))
                del alpaca.accepted[before:]


def limit_one(harness: Harness) -> None:
    """Place a plain limit sale of a holding by hand in place of its bracket."""
    alpaca = harness.alpaca
    with alpaca.lock:
        for symbol, position in list(alpaca.positions.items())[:1]:
            if position.quantity % 1 == 0 and position.quantity > 0:
                unprotect(harness, symbol)
                before = len(alpaca.accepted)
                limit = f"{alpaca.price(symbol) * 2:.2f}"
                order = {
                    "symbol": symbol,
                    "side": "sell",
                    "type": "limit",
                    "time_in_force": "gtc",
                    "limit_price": limit,
                }
                with suppress(RefusalError):
                    alpaca.accept({**order, "qty": f"{position.quantity}"})
                del alpaca.accepted[before:]


def unprotect(harness: Harness, symbol: str) -> None:
    harness.alpaca.disturbed.add(symbol)
    for order in harness.alpaca.open_orders(symbol):
        harness.alpaca.end(order, "canceled")


def heal(harness: Harness) -> None:
    """Let orders be filled and canceled at once again, and finish what is pending."""
    vars(harness.alpaca).update(fills="immediate", cancel_polls=0, fill_delay_s=0.0, free_delay_s=0.0, locked={})
    with harness.alpaca.lock:
        for order in harness.alpaca.open_orders():
            if order.status == "pending_cancel":
                order.polls_until_canceled = 0


MARKETS: Mapping[str, Callable[[Harness], object]] = {
    "nothing": lambda _: None,
    "the owner halts trading": lambda harness: harness.halt(True),
    "the owner sells something by hand": sell_one,
    "the account is blocked": lambda harness: harness.alpaca.account_overrides.update(trading_blocked=True),
    "orders are filled at once": lambda harness: setattr(harness.alpaca, "fills", "immediate"),
    "orders are filled partially": lambda harness: setattr(harness.alpaca, "fills", "partial"),
    "orders are not filled": lambda harness: setattr(harness.alpaca, "fills", "never"),
    "unfilled orders are canceled": cancel_all,
    "an order will be rejected": lambda harness: harness.alpaca.rejected_later.update({"CCC"}),
    "no order will be rejected": lambda harness: harness.alpaca.rejected_later.clear(),
    "canceling takes time": lambda harness: setattr(harness.alpaca, "cancel_polls", 2),
    "canceling takes for ever": lambda harness: setattr(harness.alpaca, "cancel_polls", FOR_EVER),
    "all is well again": heal,
    "fills take time": lambda harness: setattr(harness.alpaca, "fill_delay_s", 0.4),
    "shares are free late": lambda harness: setattr(harness.alpaca, "free_delay_s", 1.0),
    "a stop is rejected": end_one("rejected", "stop", "sell"),
    "the owner cancels what protects a holding": unprotect_one,
    "a take profit is filled in part": fill_part_of_leg("limit"),
    "a stop is filled in part": fill_part_of_leg("stop"),
    "the owner buys some by hand": buy_one,
    "the owner sells some by hand": sell_some,
    "the owner places a limit sale": limit_one,
    "money is paid in": lambda harness: harness.alpaca.deposit(5_000),
    "money is paid out": lambda harness: harness.alpaca.deposit(-5_000),
}
HOOKS: Mapping[str, Callable[[Harness], object]] = {
    "sold by hand": sell_one,
    "halted": lambda harness: harness.halt(True),
    "a leg is filled": trigger_one,
    "blocked": lambda harness: harness.alpaca.account_overrides.update(trading_blocked=True),
    "a buy is rejected": end_one("rejected", "market", "buy"),
    "a sale is rejected": end_one("rejected", "market", "sell"),
    "a stop is rejected": end_one("rejected", "stop", "sell"),
    "the owner cancels what protects a holding": unprotect_one,
    "waiting orders are filled": lambda harness: harness.alpaca.fill_waiting(),
}
HOOKED = (
    "GET /account",
    "GET /positions",
    "after GET /orders",
    "after GET /positions",
    "after POST /orders",
    "GET /orders?after",
    "after DELETE /orders",
)

SLOW_KINDS = {Kind.HANG, Kind.SLOW}
"""Faults left to the matrix: with them, ten thousand slots would take days."""

FAULTS = [
    Fault(call, kind, times, skip)
    for call, kinds in {**SETTLEMENT, **PROTECTION, **RECOVERY, **CALLS}.items()
    if call != AGAIN
    for kind in kinds
    if kind not in SLOW_KINDS and not (kind is Kind.STALE and call in ("alpaca GET /orders", "alpaca GET /positions"))
    for times in ((1,) if kind in ONCE else (1, 2, 1_000_000))
    for skip in (0, 1, 2)
]
"""Stale orders and positions are left to the matrix as well: if both are stale, earlier buys cannot be known."""

LIES = (
    {f"alpaca GET {BOOKS}: {kind}" for kind in (Kind.STALE, Kind.EMPTY)},
    {
        *(f"{LOOK_UP}: {kind}" for kind in (Kind.STALE, Kind.EMPTY)),
        *(f"s3 GET plan: {kind}" for kind in (Kind.STALE, Kind.EMPTY, Kind.MALFORMED)),
    },
)
"""One fault from each set hides an order: it is missing from Alpaca's list, and its id is unknown or not found."""


def can_be_known(faults: Sequence[Fault]) -> bool:
    """Tell whether every order can still be found despite these faults."""
    names = {f"{fault.call}: {fault.kind}" for fault in faults}
    return not all(names & lies for lies in LIES)


GAPS = (-0.06, -0.03, -0.005, 0.0, 0.005, 0.03, 0.06)


@dataclass(slots=True)
class Tally:
    """The totals of a round of random slots."""

    slots: int = 0
    orders: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)


class Weeks(RuleBasedStateMachine):
    """Two weeks of one account; each step is a slot."""

    harness: ClassVar[Harness]
    tally: ClassVar[Tally]
    done: ClassVar[Callable[[int], None]]

    @initialize(week=st.sampled_from(sorted(market.WEEK_OF)), first=st.integers(0, 24), salt=st.integers(0, 1 << 16))
    def begin(self, week: str, first: int, salt: int) -> None:
        """Open a new account in one of the weeks."""
        assume(salt)  # reject hypothesis's first sequence, all zeros, which repeats the same fault
        moments = [moment for day in market.weekdays(market.WEEK_OF[week], 2) for moment in market.slots(day)]
        self.moments = iter(moments[first:])
        self.harness.reset({}, moments[first] - timedelta(days=1))
        self.audit = Audit(self.harness)

    @rule(
        pause=st.sampled_from((0, 0, 0, 0, 1, 5, 20)),
        gaps=st.fixed_dictionaries({symbol: st.sampled_from(GAPS) for symbol in market.SYMBOLS}),
        faults=st.lists(st.sampled_from(FAULTS), min_size=2, max_size=6, unique_by=lambda fault: fault.call).filter(
            can_be_known
        ),
        happens=st.sampled_from(sorted(MARKETS)),
        hook=st.one_of(st.none(), st.tuples(st.sampled_from(HOOKED), st.sampled_from(sorted(HOOKS)))),
        sources=st.sampled_from(("yahoo,alpaca", "alpaca,yahoo", "alpaca,yahoo")),
        delivery=st.sampled_from(("once", "once", "once", "once", "twice", "an hour late", "four minutes late")),
    )
    def slot(
        self,
        pause: int,
        gaps: Mapping[str, float],
        faults: Sequence[Fault],
        happens: str,
        hook: tuple[str, str] | None,
        sources: str,
        delivery: str,
    ) -> None:
        """Run the next slot, or one some slots later, with its faults and events."""
        moment = next(self.moments, None)
        for _ in range(pause):
            moment = next(self.moments, moment)
        if moment is None:
            return
        if self.harness.halted:
            self.harness.halt(False)  # otherwise most slots would be halted
        self.harness.alpaca.account_overrides = {}
        self.harness.at(moment, gaps)
        MARKETS[happens](self.harness)
        if hook:
            self.harness.alpaca.hooks = {hook[0]: [lambda: HOOKS[hook[1]](self.harness)]}
        self.harness.env = {"PRICE_SOURCES": sources}
        answers = self.harness.deliver(*events(moment, delivery), faults=faults)
        self.harness.alpaca.hooks = {}
        self.count(answers)
        violations = self.audit.after(answers)
        assert not violations, "\n".join(violations)

    def count(self, answers: Sequence[Any]) -> None:
        """Add a slot to the tally."""
        self.tally.slots += 1
        self.tally.orders += len(self.harness.alpaca.accepted) - self.audit.looked_at
        for name, times in self.harness.met.items():
            self.tally.faults[name] = self.tally.faults.get(name, 0) + times
        for answer in answers:
            self.tally.statuses[answer.status] = self.tally.statuses.get(answer.status, 0) + 1
        type(self).done(self.tally.slots)


def events(moment: datetime, delivery: str) -> list[Event]:
    """Return the events that are delivered for a slot."""
    if delivery == "an hour late":
        return [Event(slot=moment - timedelta(hours=1), clock=moment)]
    if delivery == "four minutes late":
        return [Event(slot=moment, clock=moment + timedelta(minutes=4))]
    return [Event(slot=moment, clock=moment)] * (2 if delivery == "twice" else 1)


def run(number: int, done: Callable[[int], None] = lambda _: None, **options: Any) -> Tally:
    """Run a round of random slots; raise AssertionError with the shortest sequence that breaks an invariant."""
    tally = Tally()
    with start_harness(**options) as made:
        machine = seed(number)(type("Weeks", (Weeks,), {"harness": made, "tally": tally, "done": staticmethod(done)}))
        profile = settings(
            max_examples=SEQUENCES,
            stateful_step_count=SLOTS + 1,  # begin() counts as a step
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(machine, settings=profile)
    return tally
