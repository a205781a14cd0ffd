"""The parts of the gauntlet, run in separate processes on all processors."""

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

from tests.fault_injection import fault_matrix, market, random_slots, scenarios, side_by_side, stories, weeks

SLOTS_A_DAY = sum(1 for _ in market.slots(weeks.FIRST))
SLOTS, LONG_SLOTS = 500, 10_000
"""The number of random slots, by default and with LONG=1."""

DAYS, LONG_DAYS = 3, 24 * 5  # memory is compared with that of the second day
HARNESSES = 18
"""The number of harnesses in one process; a case mostly waits."""

MATRIX, STORIES = "faults, one at a time", "stories over several slots"
RANDOM, WEEKS = "random slots", "slots of whole weeks"


@dataclass(slots=True)
class Result:
    """The results of the gauntlet."""

    outcomes: Sequence[fault_matrix.Outcome]
    told: Sequence[fault_matrix.Outcome]  # of the stories
    tallies: Sequence[random_slots.Tally]
    failures: Sequence[tuple[int, str]]  # of random rounds: the seed, and the shortest failing sequence
    growth: weeks.Growth
    seconds: float
    seed: int

    @property
    def holds(self) -> bool:
        """True if every invariant held in every part."""
        return all(each.holds for each in (*self.outcomes, *self.told)) and not self.failures and self.growth.holds

    @property
    def slots(self) -> int:
        return sum(tally.slots for tally in self.tallies)


# --- in worker processes ---

_QUEUE: "SimpleQueue[tuple[str, int]] | None" = None


def begin(reports: "SimpleQueue[tuple[str, int]]") -> None:
    """Set the queue for this process's progress."""
    global _QUEUE
    _QUEUE = reports


def report_step(work: str, steps: int = 1) -> None:
    """Report steps as done."""
    if _QUEUE is not None:
        _QUEUE.put((work, steps))


def cases() -> list[fault_matrix.Case]:
    """Return every case of the matrix and every scenario."""
    return [*fault_matrix.cases(), *scenarios.cases(), *side_by_side.cases()]


def faults() -> list[fault_matrix.Outcome]:
    """Run every case, and return the outcomes."""
    return fault_matrix.run(cases(), HARNESSES, lambda _: report_step(MATRIX))


def tell_stories() -> list[fault_matrix.Outcome]:
    """Play every story, and return the outcomes."""
    return fault_matrix.run(list(stories.cases()), HARNESSES // 2, lambda _: report_step(STORIES))


def round_of(seed: int) -> tuple[int, random_slots.Tally | str]:
    """Run a round of random slots; return its seed with the tally, or with the failure."""
    try:
        return seed, random_slots.run(seed, lambda _: report_step(RANDOM))
    except AssertionError as error:
        return seed, "".join(traceback.format_exception_only(error))


def whole_weeks(days: int) -> weeks.Growth:
    """Run this many weekdays without a fault."""
    return weeks.run(days, lambda _: report_step(WEEKS))


# --- the whole gauntlet ---


def run(seed: int, *, is_long: bool, report: Callable[[str, int, int], None]) -> Result:
    """Run the whole gauntlet on all processors."""
    began = time.monotonic()
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that imports happen only once
    reports: SimpleQueue[tuple[str, int]] = context.SimpleQueue()
    days, slots = (LONG_DAYS, LONG_SLOTS) if is_long else (DAYS, SLOTS)
    totals = {MATRIX: len(cases()), STORIES: len(list(stories.cases()))}
    totals |= {RANDOM: slots, WEEKS: days * SLOTS_A_DAY}
    Thread(target=follow, args=(reports, totals, report), daemon=True).start()
    workers = (os.cpu_count() or 1) + 5  # they mostly wait
    with ProcessPoolExecutor(workers, context, begin, (reports,)) as pool:
        outcomes = pool.submit(faults)
        told = pool.submit(tell_stories)
        growth = pool.submit(whole_weeks, days)
        tallies, failures = rounds(pool, seed, slots)
        result = Result(
            outcomes=outcomes.result(),
            told=told.result(),
            tallies=tallies,
            failures=failures,
            growth=growth.result(),
            seconds=time.monotonic() - began,
            seed=seed,
        )
    reports.put(("", 0))
    return result


def rounds(pool: ProcessPoolExecutor, seed: int, slots: int) -> tuple[list[random_slots.Tally], list[tuple[int, str]]]:
    """Run rounds with seeds from `seed` on, until there are enough slots or one round has failed."""
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
    """Pass on the progress that the processes report, until an empty name arrives."""
    done: Counter[str] = Counter()
    for work, total in totals.items():
        report(work, 0, total)
    while (step := reports.get())[0]:
        done[step[0]] += step[1]
        report(step[0], done[step[0]], max(totals[step[0]], done[step[0]]))
