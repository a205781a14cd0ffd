"""Deadline: how long a run may still take."""

import math
from collections.abc import Callable
from dataclasses import dataclass

ORDER_TIME_S = 100.0
"""Time that an order may take: two reads, the order and its look-up, each up to its time-outs, and the record."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which the process is stopped, as seconds from now."""

    remaining_s: Callable[[], float]

    @classmethod
    def never(cls) -> "Deadline":
        """Return a deadline that never comes, as on a laptop."""
        return cls(lambda: math.inf)

    def before(self, earlier_s: float) -> "Deadline":
        """Return the deadline for what must be done `earlier_s` seconds before this one."""
        return Deadline(lambda: self.remaining_s() - earlier_s)

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self.remaining_s() <= 0

    def allows(self, needed_s: float) -> bool:
        """Check whether `needed_s` seconds are left."""
        return self.remaining_s() >= needed_s
