"""The fault matrix: every call across a boundary with every fault it can have, one at a time."""

import json
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.faulty_services import BOOKS, OF_SYMBOLS, RECENT
from tests.fault_injection.harness import STRATEGY, Answer, Event, Harness, start_harness
from tests.fault_injection.invariants import LOOK_UP, Audit
from trader.codec import encode

EVENING = datetime(2026, 1, 5, 20, 30, tzinfo=UTC)
MORNING = datetime(2026, 1, 6, 15, 0, tzinfo=UTC)
"""The slot with the fault. It is the first slot delivered that day, so its run makes the ranking."""

BEFORE = {"AAA": -0.02, "BBB": -0.02}
GAPS = {"AAA": 0.05, "BBB": -0.01, "CCC": -0.05, "DDD": -0.04}
"""In that slot, AAA is held and is to be sold, CCC and DDD are to be bought, and BBB is held and kept."""

QUARTER = timedelta(minutes=15)
SECOND = timedelta(seconds=1)

READS = (Kind.SLOW, Kind.HANG, Kind.BUSY, Kind.ERROR, Kind.DROP, Kind.MALFORMED, Kind.STALE, Kind.EMPTY)
REFUSALS = (Kind.DENIED, Kind.EXPIRED)
WRITES = (Kind.SLOW, Kind.HANG, Kind.BUSY, Kind.ERROR, Kind.LOST, Kind.DROP, Kind.MALFORMED, Kind.EMPTY)
KILLS = (Kind.KILL_BEFORE, Kind.KILL_AFTER)
ORDERS = (*WRITES, Kind.LATE, *REFUSALS)
AGAIN = "alpaca POST /orders sale, its bracket canceled"
"""The second try of a sale: the first one shows that only the bracket is in the way."""

SALE, STOP = "alpaca POST /orders sell", "alpaca POST /orders stop"
CALLS: dict[str, Sequence[Kind]] = {
    "ssm GET keys": (*READS, *REFUSALS),
    "ssm GET switch": (*READS, *REFUSALS),
    "s3 PUT claim": (*WRITES, *REFUSALS, *KILLS),
    "s3 GET claim": (*READS, *REFUSALS),
    "s3 LIST runs": (*READS, *REFUSALS),
    "alpaca GET /clock": (*READS, *REFUSALS),
    "alpaca GET /account": (*READS, *REFUSALS),
    "alpaca GET /orders": (*READS, *REFUSALS),
    "alpaca GET /positions": (*READS, *REFUSALS),
    "s3 GET account": (*READS, *REFUSALS),
    "s3 PUT account": (*WRITES, *REFUSALS, *KILLS),
    "alpaca GET /account/activities": (*READS, *REFUSALS),
    "s3 GET peak": (*READS, *REFUSALS),
    "s3 PUT peak": (*WRITES, *REFUSALS, *KILLS),
    "s3 GET ranking": (*READS, *REFUSALS),
    "yahoo GET chart": (*READS, *REFUSALS),
    "alpaca GET /stocks/bars": (*READS, *REFUSALS),
    "s3 PUT ranking": (*WRITES, *REFUSALS, *KILLS),
    f"alpaca GET {OF_SYMBOLS}": (*READS, *REFUSALS),
    "s3 PUT plan": (*WRITES, *REFUSALS, *KILLS),
    "alpaca POST /orders": (*ORDERS, *KILLS),
    "alpaca DELETE /orders": (*WRITES, *REFUSALS, *KILLS),
    AGAIN: (*ORDERS, *KILLS),
    "alpaca GET /stocks/trades/latest": (*READS, *REFUSALS),
    "alpaca POST /orders buy": (*ORDERS, *KILLS),
    LOOK_UP: (*READS, *REFUSALS),
    f"alpaca GET {RECENT}": (*READS, *REFUSALS),
    "s3 PUT record": (*WRITES, *REFUSALS, *KILLS),
    "s3 PUT settled": (*WRITES, *REFUSALS, *KILLS),
}
"""The faults of each call, in the order in which a run makes the calls."""

SETTLEMENT: dict[str, Sequence[Kind]] = {
    f"alpaca GET {BOOKS}": (*READS, *REFUSALS),
    "alpaca DELETE /orders": (*WRITES, *REFUSALS, *KILLS),
    f"alpaca GET {RECENT}": (*READS, *REFUSALS),
    "s3 GET record": (*READS, *REFUSALS),
    "s3 PUT settled": (*WRITES, *REFUSALS, *KILLS),
}
"""The faults of each call that a run makes to find out what became of earlier orders."""

PROTECTION: dict[str, Sequence[Kind]] = {
    f"alpaca GET {OF_SYMBOLS}": (*READS, *REFUSALS),
    STOP: (*ORDERS, *KILLS),
    LOOK_UP: (*READS, *REFUSALS),
}
"""The faults of each call that a run makes to give a holding its stop back."""

RECOVERY: dict[str, Sequence[Kind]] = {
    "s3 GET plan": (*READS, *REFUSALS),
    f"alpaca GET {BOOKS}": (*READS, *REFUSALS),
    "s3 PUT record": (*WRITES, *REFUSALS, *KILLS),
}
"""The faults of each call that a run makes to recover an earlier one."""

ALSO: dict[str, Sequence[Fault]] = {
    "s3 GET claim": (Fault("s3 PUT claim", Kind.LOST, times=1),),
    LOOK_UP: (Fault("alpaca POST /orders", Kind.LOST, times=1),),
    "alpaca GET /stocks/bars": (Fault("yahoo GET chart", Kind.ERROR),),
    f"protect: {LOOK_UP}": (Fault(STOP, Kind.LOST, times=1),),
}
"""Other faults, without which a run would not make the call."""

QUICK = {"PRICE_SOURCES": "alpaca,yahoo"}
"""Settings for faults that do not concern prices; asking Alpaca first is half the work of asking Yahoo first."""

FOR_EVER = 1_000_000
"""More requests than any run sends."""

ONCE = frozenset({Kind.LOST, *KILLS})
"""Faults that happen once in a slot; the others last for the whole slot."""


@dataclass(slots=True)
class ScenarioResult:
    """The result of a scenario."""

    answers: list[Answer] = field(default_factory=list)  # of the slot with the fault
    violations: list[str] = field(default_factory=list)
    met: bool = True  # the fault happened
    orders: int = 0  # orders in the books from the slot with the fault
    note: str = ""
    words: str = ""  # what became of the slots, if not the list of their statuses
    is_race: bool = False  # the words are all that is always the same


type Scenario = Callable[[Harness], ScenarioResult]
"""A function that plays a scenario in a harness and returns the result."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A fault: where and what it is, and the scenario in which it happens."""

    where: str
    what: str
    scenario: Scenario
    options: tuple[tuple[str, Any], ...] = ()  # if not empty, the options of a separate harness
    is_slow: bool = False  # it takes a minute and more

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    @property
    def is_long(self) -> bool:
        """True if clients run into their timeouts in this case."""
        return self.is_slow or "hang" in self.what or "timeout" in self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A row of the report."""

    where: str
    what: str
    outcome: str
    violations: Sequence[str]

    @property
    def holds(self) -> bool:
        return not self.violations


# --- scenarios ---


def slot(
    harness: Harness, audit: Audit, result: ScenarioResult, *events: Event, at_once: bool = False, **more: Any
) -> list[Answer]:
    """Deliver events, and check all invariants afterwards."""
    answers = harness.deliver(*events, at_once=at_once, **more)
    result.violations += audit.after(answers)
    return answers


def begin(harness: Harness) -> Audit:
    """Set up a Tuesday morning with two holdings."""
    harness.reset(BEFORE, EVENING)
    harness.endow(AAA=100, BBB=20)
    harness.at(MORNING, GAPS)
    return Audit(harness)


def event(moment: datetime, late: timedelta = SECOND) -> Event:
    """Return an event for a moment, which arrives a second later by default."""
    return Event(slot=moment, clock=moment + late)


def check_next_slot(
    harness: Harness,
    audit: Audit,
    result: ScenarioResult,
    moment: datetime = MORNING + QUARTER,
    promised_s: float | None = None,
    *,
    trade: bool = True,
) -> ScenarioResult:
    """Run a slot without a fault, which must find whatever was left behind and do its own work.

    Without `trade`, nothing that is open is filled before.
    """
    harness.at(moment, GAPS, trade=trade)
    (answer,) = slot(harness, audit, result, replace(event(moment), promised_s=promised_s))
    if answer.status not in ("TRADED", "NOTHING_TO_DO") or (answer.status != "TRADED" and result.orders < 2):
        result.violations.append(f"after: the next slot ended with {answer.words}: {answer.error}")
    elif answer.report and answer.report["recovered"]:
        result.note = ", ".join(filter(None, (result.note, "INTERRUPTED by the next run")))
    return result


def with_one_fault(*faults: Fault) -> Scenario:
    """Return a scenario with the faults in one slot, followed by a normal slot."""
    is_about_prices = any(word in fault.call for fault in faults for word in ("yahoo", "bars", "ranking"))

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        if not is_about_prices:
            harness.env = QUICK
        if "activities" in faults[0].call:
            keep_peak(harness)
        its_event = replace(event(MORNING), forgets_keys=faults[0].call == "ssm GET keys")
        result.answers = slot(harness, audit, result, its_event, faults=faults)
        result.met = bool(harness.met)
        result.orders = len(harness.alpaca.accepted)
        return check_next_slot(harness, audit, result)

    return scenario


def keep_peak(harness: Harness) -> None:
    """Put the highest equity of the day before on record: the first run of a day asks what was paid in since."""
    peak = {"account": f"alpaca {harness.alpaca.url}", "equity_usd": 110_000, "flows_usd": 0, "as_of": encode(EVENING)}
    harness.damage(f"equity/{STRATEGY}/peak.json", json.dumps(peak).encode())


def with_fault_in_settlement(fault: Fault) -> Scenario:
    """Return a scenario in which the buys of a slot are still open when the next run settles them with a fault."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        harness.env = QUICK
        harness.at(MORNING, {**GAPS, "AAA": 0.0})
        harness.alpaca.fills, harness.alpaca.cancel_polls = "never", FOR_EVER
        slot(harness, audit, result, event(MORNING))
        with harness.alpaca.lock:
            for order in harness.alpaca.open_orders():
                if order.status == "pending_cancel":
                    order.status = "held" if order.parent else "new"  # Alpaca has not canceled it
        harness.alpaca.fills, harness.alpaca.cancel_polls = "immediate", 0
        harness.at(MORNING + QUARTER, GAPS, trade=False)
        result.answers = slot(harness, audit, result, event(MORNING + QUARTER), faults=[fault])
        result.met = bool(harness.met)
        result.orders = len(harness.alpaca.accepted)
        return check_next_slot(harness, audit, result, MORNING + 2 * QUARTER, trade=False)

    return scenario


def with_fault_in_protection(*faults: Fault) -> Scenario:
    """Return a scenario in which the stop of BBB is gone, and the run that puts it back meets the fault."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        harness.env = QUICK
        with harness.alpaca.lock:
            for leg in harness.alpaca.open_orders("BBB"):
                harness.alpaca.end(leg, "canceled")
        result.answers = slot(harness, audit, result, event(MORNING), faults=faults)
        result.met = bool(harness.met)
        result.orders = len(harness.alpaca.accepted)
        check_next_slot(harness, audit, result)
        if not harness.alpaca.is_covered("BBB"):
            result.violations.append("bare: BBB has no stop after the next slot")
        return result

    return scenario


def with_fault_in_recovery(fault: Fault) -> Scenario:
    """Return a scenario in which a run leaves no record, its recovery meets the fault, and a third run follows."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        harness.env = QUICK
        slot(harness, audit, result, event(MORNING), faults=[Fault("s3 PUT record", Kind.DENIED)])
        harness.at(MORNING + QUARTER, GAPS)
        result.answers = slot(harness, audit, result, event(MORNING + QUARTER), faults=[fault])
        result.met = bool(harness.met)
        result.orders = len(harness.alpaca.accepted)
        result.note = "INTERRUPTED, at once" if (result.answers[0].report or {}).get("recovered") else ""
        return check_next_slot(harness, audit, result, MORNING + 2 * QUARTER)

    return scenario


def make_fault(call: str, kind: Kind) -> Fault:
    """Return a fault that happens once or lasts for the slot, as its kind does in the matrix."""
    if call == AGAIN:
        return replace(make_fault(SALE, kind), skip=1)
    return Fault(call, kind, times=1) if kind in ONCE else Fault(call, kind)


def cases() -> Iterator[Case]:
    """Yield every case of the matrix."""
    for call, kinds in CALLS.items():
        for kind in kinds:
            yield Case(call, kind, with_one_fault(make_fault(call, kind), *ALSO.get(call, ())))
    for call, kinds in SETTLEMENT.items():
        for kind in kinds:
            yield Case(f"settle: {call}", kind, with_fault_in_settlement(make_fault(call, kind)))
    for call, kinds in PROTECTION.items():
        for kind in kinds:
            also = ALSO.get(f"protect: {call}", ())
            yield Case(f"protect: {call}", kind, with_fault_in_protection(make_fault(call, kind), *also))
    for call, kinds in RECOVERY.items():
        for kind in kinds:
            yield Case(f"recovery: {call}", kind, with_fault_in_recovery(make_fault(call, kind)))


# --- running the matrix ---

UNMET = "unmet: the fault did not happen, so the case shows nothing"
"""The violation of a case that shows nothing."""


def run(chosen: Sequence[Case], harnesses: int, done: Callable[[Outcome], None], **options: Any) -> list[Outcome]:
    """Return the outcome of every chosen case, in their order, with this many harnesses in parallel.

    A case whose fault did not happen is played once more, by itself: on a busy machine, the function may time out
    before the call that the fault waits for.
    """
    free: queue.SimpleQueue[Harness] = queue.SimpleQueue()
    with ExitStack() as stack, ThreadPoolExecutor(harnesses) as pool:

        def one(case: Case) -> Outcome:
            if case.options:
                made = {name: value() if callable(value) else value for name, value in case.options}
                with start_harness(**{**options, **made}) as own:
                    return outcome(case, own)
            harness = free.get()
            try:
                return outcome(case, harness)
            finally:
                free.put(harness)

        for _ in range(harnesses):
            free.put(stack.enter_context(start_harness(**options)))
        # The longest cases first, so that none is left at the end.
        longest = sorted(chosen, key=lambda case: (not case.is_slow, not case.is_long))
        futures = {pool.submit(one, case): case for case in longest}
        found: dict[Case, Outcome] = {}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            done(future.result())
        found |= {case: one(case) for case in chosen if UNMET in found[case].violations}
    return [found[case] for case in chosen]


def outcome(case: Case, harness: Harness) -> Outcome:
    """Play a case's scenario, and return its outcome in words."""
    result = case.scenario(harness)
    violations = list(result.violations)
    if not result.met:
        violations.append(UNMET)
    statuses = result.words or ", ".join(answer.words for answer in result.answers)
    orders = "" if result.is_race else f"{result.orders} order{'' if result.orders == 1 else 's'}"
    words = "; ".join(filter(None, (statuses, orders, "" if result.is_race else result.note)))
    return Outcome(where=case.where, what=case.what, outcome=words, violations=violations)
