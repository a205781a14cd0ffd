"""Faults in reads that go side by side: answers that are late, answers that overtake each other, and failures.

While an answer is late, the world changes in a way that the others must still show: they are asked for in the order in
which they would be read in turn, and so after the late one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Timer

from tests.fault_injection.fault_matrix import MORNING, QUICK, Case, Scenario, ScenarioResult, begin, event, slot
from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.faulty_services import SLOW_S
from tests.fault_injection.harness import Harness
from tests.fault_injection.scenarios import block, close_market, finish, halt, sell_by_hand

WHERE = "side by side"

SWITCH, CLOCK, ORDERS = "ssm GET switch", "alpaca GET /clock", "alpaca GET /orders"
POSITIONS, ACCOUNT, PRICES = "alpaca GET /positions", "alpaca GET /account", "alpaca GET /stocks/trades/latest"
NAMES = {
    SWITCH: "the halt switch",
    CLOCK: "the clock",
    ORDERS: "the open orders",
    POSITIONS: "the holdings",
    ACCOUNT: "the account",
    PRICES: "the prices",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the world while an answer is late: what happens, and which answer must show it."""

    what: str
    happen: Callable[[Harness], object]
    shown_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Reads that go together: their calls in the order in which they are asked for, with the calls of each before."""

    name: str
    reads: Mapping[str, int]
    changes: tuple[Change, ...] = field(default=())


def buy_by_hand(harness: Harness) -> None:
    harness.alpaca.buy_by_hand("CCC", 5)


def cancel_stop(harness: Harness) -> None:
    """Cancel the bracket of BBB, as its owner would."""
    for leg in harness.alpaca.open_orders("BBB"):
        harness.alpaca.end(leg, "canceled")


HALTS = Change("the owner halts", halt, SWITCH)
CLOSES = Change("the market closes", close_market, CLOCK)
GROUPS = (
    Group(
        name="at the beginning",
        reads={SWITCH: 0, CLOCK: 0, ORDERS: 0},
        changes=(Change("a stop is canceled by hand", cancel_stop, ORDERS), CLOSES),
    ),
    Group(
        name="at the beginning",
        reads={POSITIONS: 0, ACCOUNT: 0},
        changes=(Change("the account is blocked", block, ACCOUNT),),
    ),
    Group(
        name="before a sale",
        reads={SWITCH: 1, CLOCK: 1, ORDERS: 1, POSITIONS: 1},
        changes=(CLOSES, Change("the owner sells by hand", sell_by_hand, POSITIONS)),
    ),
    Group(
        name="before a buy",
        reads={PRICES: 0, ORDERS: 2, POSITIONS: 3, SWITCH: 2, CLOCK: 2},
        changes=(Change("the owner buys by hand", buy_by_hand, POSITIONS), HALTS, CLOSES),
    ),
)
"""The holdings are read a third time between a sale and a buy: until the shares of the sale's bracket are free."""


def with_late_answer(group: Group, late: str, kind: Kind, change: Change | None = None) -> Scenario:
    """Return a scenario with one late answer in a group, and a change while it is late."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        harness.env = QUICK
        timers: list[Timer] = []

        def happen() -> None:
            if change:
                with harness.alpaca.lock:
                    change.happen(harness)

        def begin_to_wait() -> None:
            timers.append(Timer(SLOW_S / 2, happen))
            timers[0].start()

        fault = Fault(late, kind, times=1, skip=group.reads[late], happening=begin_to_wait)
        result.answers = slot(harness, audit, result, event(MORNING), faults=[fault])
        for timer in timers:
            timer.join()
        result.met = bool(timers)
        return finish(harness, audit, result)

    return scenario


def with_failure(group: Group, failing: str) -> Scenario:
    """Return a scenario in which one read of a group fails, and all later reads of its kind."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        harness.env = QUICK
        fault = Fault(failing, Kind.ERROR, skip=group.reads[failing])
        result.answers = slot(harness, audit, result, event(MORNING), faults=[fault])
        result.met = bool(harness.met)
        return finish(harness, audit, result)

    return scenario


def cases() -> Iterator[Case]:
    """Yield the cases of each group: each answer late, each pair with a change in between, and each read failing."""
    for group in GROUPS:
        where = f"{WHERE}, {group.name}"
        order = list(group.reads)
        for late in order:
            for kind, words in ((Kind.LAG, "last"), (Kind.SLOW, "late")):
                yield Case(where, f"{NAMES[late]} answered {words}", with_late_answer(group, late, kind))
        for change in group.changes:
            for late in order[: order.index(change.shown_by)]:
                words = f"{change.what} during the wait for {NAMES[late]}"
                yield Case(where, words, with_late_answer(group, late, Kind.SLOW, change))
        for failing in order:
            yield Case(where, f"{NAMES[failing]} not answered any more", with_failure(group, failing))
