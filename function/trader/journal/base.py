"""What a journal keeps, and what it is kept in."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from trader.model import Account, Decision, Denial, Json, Mode, Observation, Order
from trader.settings import Settings

STARTED = "STARTED"
"""The status in the plan of a run, kept before its first order: it has decided, and is placing orders."""


class JournalError(Exception):
    """The journal cannot be read or written: without it nothing guards against trading twice, so the run stops."""


class Store(Protocol):
    """Where texts are kept by name. Every method raises JournalError if the store cannot be used."""

    def create(self, name: str, text: str) -> bool:
        """Keep a text under a name that is free; return False, and change nothing, if it is taken. Atomic."""

    def write(self, name: str, text: str) -> None:
        """Keep a text, in place of any before it."""

    def read(self, name: str) -> str | None:
        """Return the text under a name; None if there is none."""

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Return the names that begin with a prefix, in alphabetical order; with `after` only those that follow it."""


class RankingStore(Protocol):
    """Keeps what the pipeline computes once a day, and what it is about to place."""

    def note_plan(self, run: "Run") -> None:
        """Keep what is known of a run right before its first order."""

    def ranking(self, basis: Json) -> dict[str, float] | None:
        """Return the ranking kept for the slot's day, if it was made on the same basis (universe, look-back, ...)."""

    def save_ranking(self, basis: Json, ranking: Mapping[str, float]) -> None:
        """Keep the ranking for the rest of the slot's day."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One run as far as it got, so that the record of one that fails half-way tells that much."""

    settings: Settings
    slot: datetime
    now: datetime
    observation: Observation | None = None
    decision: Decision | None = None
    outcomes: list[Order | Denial] = field(default_factory=list)
    recovered: list[datetime] = field(default_factory=list)  # slots of runs that were cut off
    account_after: Account | None = None
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def is_dry(self) -> bool:
        """Whether the run decides and places nothing."""
        return self.settings.mode is Mode.DRY_RUN

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Measure one stage, in seconds of wall time."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.timings_s[stage] = round(time.perf_counter() - begun, 3)

    @property
    def placed(self) -> tuple[Order, ...]:
        """The orders that were sent."""
        return tuple(each for each in self.outcomes if isinstance(each, Order))

    @property
    def orders(self) -> tuple[Order, ...]:
        """What became of the planned orders: the placed ones, or the plan itself where nothing may be placed."""
        if self.is_dry:
            return self.decision.orders if self.decision else ()
        return self.placed

    @property
    def denials(self) -> tuple[Denial, ...]:
        """Every refusal, in the order of the stages."""
        decided = self.decision.denials if self.decision else self.observation.denials if self.observation else ()
        return decided + tuple(each for each in self.outcomes if isinstance(each, Denial))
