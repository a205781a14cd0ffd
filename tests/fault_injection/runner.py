"""The parts of the gauntlet, each in processes of its own, on all processors."""

import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from threading import Thread

from tests.fault_injection import fault_matrix, market, random_slots, scenarios, weeks

SLOTS_A_DAY = sum(1 for _ in market.slots(weeks.FIRST))
SLOTS, LONG_SLOTS = 500, 10_000
"""Random ones."""

DAYS, LONG_DAYS = 3, 24 * 5  # memory is compared with that of the second day
HARNESSES = 14
"""Side by side in one process: most of the time of a fault is waiting."""

MATRIX, RANDOM, WEEKS = "faults, one at a time", "random slots", "slots of whole weeks"


@dataclass(slots=True)
class Result:
    """All that the gauntlet found."""

    outcomes: Sequence[fault_matrix.Outcome]
    tallies: Sequence[random_slots.Tally]
    failures: Sequence[tuple[int, str]]  # the seed of a random round, and the shortest sequence
    growth: weeks.Growth
    seconds: float
    seed: int

    @property
    def holds(self) -> bool:
        """Whether every invariant held everywhere."""
        return all(each.holds for each in self.outcomes) and not self.failures and self.growth.holds

    @property
    def slots(self) -> int:
        return sum(tally.slots for tally in self.tallies)


# --- in a process of its own each ---

_QUEUE: "SimpleQueue[tuple[str, int]] | None" = None


def begin(reports: "SimpleQueue[tuple[str, int]]") -> None:
    """Note where this process's progress goes."""
    global _QUEUE
    _QUEUE = reports


def report_step(work: str, steps: int = 1) -> None:
    """A step is done."""
    if _QUEUE is not None:
        _QUEUE.put((work, steps))


def cases() -> list[fault_matrix.Case]:
    """Every case of the matrix."""
    return [*fault_matrix.cases(), *scenarios.cases()]


def faults() -> list[fault_matrix.Outcome]:
    """Every case of the matrix."""
    return fault_matrix.run(cases(), HARNESSES, lambda _: report_step(MATRIX))


def round_of(seed: int) -> tuple[int, random_slots.Tally | str]:
    """A round of random slots, or how it failed."""
    try:
        return seed, random_slots.run(seed, lambda _: report_step(RANDOM))
    except AssertionError as error:
        return seed, "".join(traceback.format_exception_only(error))


def whole_weeks(days: int) -> weeks.Growth:
    """Weekdays without a fault."""
    return weeks.run(days, lambda _: report_step(WEEKS))


# --- all of it ---


def run(seed: int, *, is_long: bool, report: Callable[[str, int, int], None]) -> Result:
    """The whole gauntlet, on all processors."""
    began = time.monotonic()
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # all that is imported here is imported once
    reports: SimpleQueue[tuple[str, int]] = context.SimpleQueue()
    days, slots = (LONG_DAYS, LONG_SLOTS) if is_long else (DAYS, SLOTS)
    totals = {MATRIX: len(cases()), RANDOM: slots, WEEKS: days * SLOTS_A_DAY}
    Thread(target=follow, args=(reports, totals, report), daemon=True).start()
    workers = (os.cpu_count() or 1) + 4  # for most of the time they wait
    with ProcessPoolExecutor(workers, context, begin, (reports,)) as pool:
        outcomes = pool.submit(faults)
        growth = pool.submit(whole_weeks, days)
        tallies, failures = rounds(pool, seed, slots)
        result = Result(
            outcomes=outcomes.result(),
            tallies=tallies,
            failures=failures,
            growth=growth.result(),
            seconds=time.monotonic() - began,
            seed=seed,
        )
    reports.put(("", 0))
    return result


def rounds(pool: ProcessPoolExecutor, seed: int, slots: int) -> tuple[list[random_slots.Tally], list[tuple[int, str]]]:
    """Rounds with seeds from `seed` on, until there are slots enough or one has failed."""
    seeds = count(seed)
    of_a_round = random_slots.SLOTS * random_slots.SEQUENCES
    waiting: set[Future[tuple[int, random_slots.Tally | str]]] = set()
    tallies: list[random_slots.Tally] = []
    failures: list[tuple[int, str]] = []
    while not failures and sum(tally.slots for tally in tallies) < slots:
        lacking = slots - sum(tally.slots for tally in tallies) - len(waiting) * of_a_round
        waiting |= {pool.submit(round_of, next(seeds)) for _ in range(max(0, -(-lacking // of_a_round)))}
        done = next(as_completed(waiting))
        waiting.remove(done)
        of, outcome = done.result()
        if isinstance(outcome, str):
            failures.append((of, outcome))
            for future in waiting:
                future.cancel()
        else:
            tallies.append(outcome)
    return tallies, failures


def follow(
    reports: "SimpleQueue[tuple[str, int]]", totals: dict[str, int], report: Callable[[str, int, int], None]
) -> None:
    """Show the progress that the processes report, until there is an empty name."""
    done: Counter[str] = Counter()
    for work, total in totals.items():
        report(work, 0, total)
    while (step := reports.get())[0]:
        done[step[0]] += step[1]
        report(step[0], done[step[0]], max(totals[step[0]], done[step[0]]))
