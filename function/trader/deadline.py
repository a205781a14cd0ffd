"""Deadline: the time that a run has left."""

import math
from collections.abc import Callable
from dataclasses import dataclass

ORDER_TIME_S = 100.0
"""The time that an order may take: two reads, the order and its lookup, each up to its timeout, and the record."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment when the process is stopped, in seconds from now."""

    remaining_s: Callable[[], float]

    @classmethod
    def never(cls) -> "Deadline":
        """Return a deadline that never comes, as on a laptop."""
        return cls(lambda: math.inf)

    def before(self, earlier_s: float) -> "Deadline":
        """Return a deadline that comes `earlier_s` seconds before this one."""
        return Deadline(lambda: self.remaining_s() - earlier_s)

    @property
    def is_over(self) -> bool:
        """True if no time is left."""
        return self.remaining_s() <= 0

    def allows(self, needed_s: float) -> bool:
        """Check whether at least `needed_s` seconds are left."""
        return self.remaining_s() >= needed_s
