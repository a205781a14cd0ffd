"""Whole trading weeks in one process, whose memory and open files must not grow."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

import numpy as np

from tests.fault_injection import market
from tests.fault_injection.harness import Event, start_harness
from tests.fault_injection.invariants import Audit

MAX_GROWTH_MB = 5.0
MAX_ADDED_FILES = 16
"""The maximum number of extra open files. Kept connections come and go; a leak in every slot would soon exceed it."""

SETTLED_DAYS = 1
FIRST = date(2025, 10, 20)
"""A Monday; the 24 weeks from here on include both clock changes, four holidays and two half days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The totals of a number of days. Memory is the process's, in MB; `settled` is after the second day."""

    slots: int
    orders: int
    settled_mb: float
    end_mb: float
    settled_files: int
    end_files: int
    statuses: dict[str, int]
    violations: tuple[str, ...]

    @property
    def growth_mb(self) -> float:
        return self.end_mb - self.settled_mb

    @property
    def holds(self) -> bool:
        is_flat = self.growth_mb < MAX_GROWTH_MB and self.end_files - self.settled_files < MAX_ADDED_FILES
        return is_flat and not self.violations


def run(days: int, done: Callable[[int], None] = lambda _: None, first: date = FIRST, **options: Any) -> Growth:
    """Run this many weekdays, with every slot of the schedule."""
    random = np.random.default_rng(1)
    statuses: dict[str, int] = {}
    violations: list[str] = []
    memory: list[float] = []
    files: list[int] = []
    slots = 0
    with start_harness(**options) as made:
        audit = Audit(made)
        for day in islice(market.weekdays(first, 1 + days // 5), days):
            for moment in market.slots(day):
                gaps = dict(zip(market.SYMBOLS, random.choice([-0.05, -0.02, 0, 0, 0.02, 0.05], 6), strict=True))
                made.at(moment, gaps)
                answers = made.deliver(Event(slot=moment, clock=moment))
                violations += audit.after(answers)
                slots += 1
                for answer in answers:
                    statuses[answer.status] = statuses.get(answer.status, 0) + 1
                done(slots)
            memory.append(made.memory_bytes() / 1e6)
            files.append(made.open_files())
            made.alpaca.forget()
    settled = min(len(memory) - 1, SETTLED_DAYS)
    return Growth(
        slots=slots,
        orders=audit.looked_at,
        settled_mb=memory[settled],
        end_mb=memory[-1],
        settled_files=files[settled],
        end_files=files[-1],
        statuses=statuses,
        violations=tuple(violations),
    )
