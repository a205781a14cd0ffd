"""The table: every boundary with everything that can go wrong at it, one fault at a time."""

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.faulty_services import BOOKS
from tests.fault_injection.harness import Answer, Event, Harness
from tests.fault_injection.harness import arena as sound
from tests.fault_injection.invariants import LOOK_UP, Audit

EVENING = datetime(2026, 1, 5, 20, 30, tzinfo=UTC)
MORNING = datetime(2026, 1, 6, 15, 0, tzinfo=UTC)
"""The slot that the fault is in: the first of its day that was delivered, so that the ranking is made in it."""

BEFORE = {"AAA": -0.02, "BBB": -0.02}
GAPS = {"AAA": 0.05, "BBB": -0.01, "CCC": -0.05, "DDD": -0.04}
"""In that slot: AAA is held and to be sold, CCC and DDD are to be bought, BBB is held and stays."""

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
"""In the order in which a run makes them."""

RECOVERY: dict[str, Sequence[Kind]] = {
    "s3 GET plan": (*READS, *REFUSALS),
    f"alpaca GET {BOOKS}": (*READS, *REFUSALS),
    "s3 PUT record": (*WRITES, *REFUSALS, *KILLS),
}
"""What a run asks about an earlier one that was cut off."""

ALSO: dict[str, Sequence[Fault]] = {
    "s3 GET claim": (Fault("s3 PUT claim", Kind.LOST, times=1),),
    LOOK_UP: (Fault("alpaca POST /orders", Kind.LOST, times=1),),
    "alpaca GET /stocks/bars": (Fault("yahoo GET chart", Kind.ERROR),),
}
"""What else has to happen for a call to be made at all."""

QUICK = {"PRICE_SOURCES": "alpaca,yahoo"}
"""Where the fault has nothing to do with prices: half the work of the other way round."""

ONCE = frozenset({Kind.LOST, *KILLS})
"""Faults that happen once in their slot; the others last for all of it."""


@dataclass(slots=True)
class Told:
    """What a story brought about."""

    answers: list[Answer] = field(default_factory=list)  # of the slot with the fault
    violations: list[str] = field(default_factory=list)
    met: bool = True  # whether the fault happened at all
    orders: int = 0  # that the books have of the slot with the fault
    note: str = ""


type Story = Callable[[Harness], Told]
"""What happens in an arena, and what it brought about."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault: where, what, and the story that it is told in."""

    where: str
    what: str
    story: Story
    options: tuple[tuple[str, Any], ...] = ()  # of an arena of its own, where they are not empty

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    @property
    def is_long(self) -> bool:
        """Whether clients wait for their time limits in it."""
        return "hang" in self.what or "timeout" in self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One row of the report."""

    where: str
    what: str
    outcome: str
    violations: Sequence[str]

    @property
    def holds(self) -> bool:
        return not self.violations


# --- stories ---


def slot(arena: Harness, audit: Audit, told: Told, *events: Event, at_once: bool = False, **more: Any) -> list[Answer]:
    """Deliver events and look at everything afterwards."""
    answers = arena.deliver(*events, at_once=at_once, **more)
    told.violations += audit.after(answers)
    return answers


def begun(arena: Harness) -> Audit:
    """A Tuesday morning with two holdings."""
    arena.reset(BEFORE, EVENING)
    arena.endow(AAA=100, BBB=20)
    arena.at(MORNING, GAPS)
    return Audit(arena)


def event(moment: datetime, late: timedelta = SECOND) -> Event:
    """An event for a moment, that arrives a second later."""
    return Event(slot=moment, clock=moment + late)


def healthy(
    arena: Harness,
    audit: Audit,
    told: Told,
    moment: datetime = MORNING + QUARTER,
    promised_s: float | None = None,
) -> Told:
    """A slot in which nothing goes wrong: it finds whatever was left behind, and does its own work."""
    arena.at(moment, GAPS)
    (answer,) = slot(arena, audit, told, replace(event(moment), promised_s=promised_s))
    if answer.status not in ("TRADED", "NOTHING_TO_DO") or (answer.status != "TRADED" and told.orders < 2):
        told.violations.append(f"after: the next slot ends with {answer.words}: {answer.error}")
    elif answer.report and answer.report["recovered"]:
        told.note = ", ".join(filter(None, (told.note, "INTERRUPTED by the next run")))
    return told


def one_fault(*faults: Fault) -> Story:
    """The slot with the fault, and one after it."""
    is_about_prices = any(word in fault.call for fault in faults for word in ("yahoo", "bars", "ranking"))

    def story(arena: Harness) -> Told:
        told, audit = Told(), begun(arena)
        if not is_about_prices:
            arena.env = QUICK
        its_event = replace(event(MORNING), forgets_keys=faults[0].call == "ssm GET keys")
        told.answers = slot(arena, audit, told, its_event, faults=faults)
        told.met = bool(arena.met)
        told.orders = len(arena.alpaca.accepted)
        return healthy(arena, audit, told)

    return story


def in_recovery(fault: Fault) -> Story:
    """A run that leaves orders and no record, one that recovers it and meets the fault, and one after it."""

    def story(arena: Harness) -> Told:
        told, audit = Told(), begun(arena)
        arena.env = QUICK
        slot(arena, audit, told, event(MORNING), faults=[Fault("s3 PUT record", Kind.DENIED)])
        arena.at(MORNING + QUARTER, GAPS)
        told.answers = slot(arena, audit, told, event(MORNING + QUARTER), faults=[fault])
        told.met = bool(arena.met)
        told.orders = len(arena.alpaca.accepted)
        told.note = "INTERRUPTED, at once" if (told.answers[0].report or {}).get("recovered") else ""
        return healthy(arena, audit, told, MORNING + 2 * QUARTER)

    return story


def lasting(call: str, kind: Kind) -> Fault:
    """The fault for as long as it lasts in the table."""
    return Fault(call, kind, times=1) if kind in ONCE else Fault(call, kind)


def cells() -> Iterator[Cell]:
    """The whole table."""
    for call, kinds in CALLS.items():
        for kind in kinds:
            yield Cell(call, kind, one_fault(lasting(call, kind), *ALSO.get(call, ())))
    for call, kinds in RECOVERY.items():
        for kind in kinds:
            yield Cell(f"recovery: {call}", kind, in_recovery(lasting(call, kind)))


# --- running it ---


def run(chosen: Sequence[Cell], arenas: int, done: Callable[[Outcome], None], **options: Any) -> list[Outcome]:
    """Every cell's outcome, in the order of the table; so many arenas work side by side."""
    free: queue.SimpleQueue[Harness] = queue.SimpleQueue()
    with ExitStack() as stack, ThreadPoolExecutor(arenas) as pool:

        def one(cell: Cell) -> Outcome:
            if cell.options:
                made = {name: value() if callable(value) else value for name, value in cell.options}
                with sound(**{**options, **made}) as own:
                    return outcome(cell, own)
            arena = free.get()
            try:
                return outcome(cell, arena)
            finally:
                free.put(arena)

        for _ in range(arenas):
            free.put(stack.enter_context(sound(**options)))
        longest = sorted(chosen, key=lambda cell: not cell.is_long)  # begun first, so that none is left at the end
        futures = {pool.submit(one, cell): cell for cell in longest}
        found: dict[Cell, Outcome] = {}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            done(future.result())
    return [found[cell] for cell in chosen]


def outcome(cell: Cell, arena: Harness) -> Outcome:
    """Tell a cell's story, and say in words what came of it."""
    told = cell.story(arena)
    violations = list(told.violations)
    if not told.met:
        violations.append("unmet: the fault did not happen, so nothing is shown")
    statuses = ", ".join(answer.words for answer in told.answers)
    orders = f"{told.orders} order{'' if told.orders == 1 else 's'}"
    words = "; ".join(filter(None, (statuses, orders, told.note)))
    return Outcome(where=cell.where, what=cell.what, outcome=words, violations=violations)
