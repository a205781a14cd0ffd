"""The fault matrix: every call across a boundary with every fault it can have, one at a time."""

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.faulty_services import BOOKS
from tests.fault_injection.harness import Answer, Event, Harness, start_harness
from tests.fault_injection.invariants import LOOK_UP, Audit

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
    "s3 GET ranking": (*READS, *REFUSALS),
    "yahoo GET chart": (*READS, *REFUSALS),
    "alpaca GET /stocks/bars": (*READS, *REFUSALS),
    "s3 PUT ranking": (*WRITES, *REFUSALS, *KILLS),
    "s3 PUT plan": (*WRITES, *REFUSALS, *KILLS),
    "alpaca DELETE /orders": (*WRITES, *REFUSALS, *KILLS),
    "alpaca POST /orders": (*WRITES, Kind.LATE, *REFUSALS, *KILLS),
    LOOK_UP: (*READS, *REFUSALS),
    "s3 PUT record": (*WRITES, *REFUSALS, *KILLS),
}
"""The faults of each call, in the order in which a run makes the calls."""

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
}
"""Other faults, without which a run would not make the call."""

QUICK = {"PRICE_SOURCES": "alpaca,yahoo"}
"""Settings for faults that do not concern prices; asking Alpaca first is half the work of asking Yahoo first."""

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


type Scenario = Callable[[Harness], ScenarioResult]
"""A function that plays a scenario in a harness and returns the result."""


@dataclass(frozen=True, slots=True)
class Case:
    """A fault: where and what it is, and the scenario in which it happens."""

    where: str
    what: str
    scenario: Scenario
    options: tuple[tuple[str, Any], ...] = ()  # if not empty, the options of a separate harness

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    @property
    def is_long(self) -> bool:
        """True if clients run into their timeouts in this case."""
        return "hang" in self.what or "timeout" in self.what


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
) -> ScenarioResult:
    """Run a slot without a fault, which must find whatever was left behind and do its own work."""
    harness.at(moment, GAPS)
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
        its_event = replace(event(MORNING), forgets_keys=faults[0].call == "ssm GET keys")
        result.answers = slot(harness, audit, result, its_event, faults=faults)
        result.met = bool(harness.met)
        result.orders = len(harness.alpaca.accepted)
        return check_next_slot(harness, audit, result)

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
    return Fault(call, kind, times=1) if kind in ONCE else Fault(call, kind)


def cases() -> Iterator[Case]:
    """Yield every case of the matrix."""
    for call, kinds in CALLS.items():
        for kind in kinds:
            yield Case(call, kind, with_one_fault(make_fault(call, kind), *ALSO.get(call, ())))
    for call, kinds in RECOVERY.items():
        for kind in kinds:
            yield Case(f"recovery: {call}", kind, with_fault_in_recovery(make_fault(call, kind)))


# --- running the matrix ---


def run(chosen: Sequence[Case], harnesses: int, done: Callable[[Outcome], None], **options: Any) -> list[Outcome]:
    """Return the outcome of every chosen case, in their order, with this many harnesses in parallel."""
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
        longest = sorted(chosen, key=lambda case: not case.is_long)  # long cases first, so that none is left at the end
        futures = {pool.submit(one, case): case for case in longest}
        found: dict[Case, Outcome] = {}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            done(future.result())
    return [found[case] for case in chosen]


def outcome(case: Case, harness: Harness) -> Outcome:
    """Play a case's scenario, and return its outcome in words."""
    result = case.scenario(harness)
    violations = list(result.violations)
    if not result.met:
        violations.append("unmet: the fault did not happen, so the case shows nothing")
    statuses = ", ".join(answer.words for answer in result.answers)
    orders = f"{result.orders} order{'' if result.orders == 1 else 's'}"
    words = "; ".join(filter(None, (statuses, orders, result.note)))
    return Outcome(where=case.where, what=case.what, outcome=words, violations=violations)
