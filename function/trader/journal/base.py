"""The run that a journal records, and the interfaces of its stores."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from trader.model import Account, Decision, Denial, Json, Mode, Observation, Order, Position, Settled, Side, Unprotected
from trader.settings import Settings

STARTED = "STARTED"
"""The status in a run's plan, which is saved before the first order: the run has decided and is placing orders."""


class JournalError(Exception):
    """The journal cannot be read or written. The run stops, because nothing else prevents trading twice."""


class DamagedError(JournalError):
    """A text in the journal is not what a run wrote; reading it again will not help."""


class Store(Protocol):
    """A store for texts, each under a name. Every method raises JournalError if the store cannot be used.

    `read` raises DamagedError if what is stored is not text.
    """

    def create(self, name: str, text: str) -> bool:
        """Store a text under a new name, atomically. Return False and change nothing if the name is taken."""

    def write(self, name: str, text: str) -> None:
        """Store a text, and replace any previous one."""

    def read(self, name: str) -> str | None:
        """Return the text under a name; None if there is none."""

    def remove(self, name: str) -> None:
        """Remove the text under a name, if there is one. Raises JournalError in a store that other machines share."""

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Return the names that begin with a prefix, in alphabetical order; with `after`, only those that follow it.

        An empty record is left out: a full disk may leave one behind, and it records nothing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The highest equity of an account on record. It has all deposits and withdrawals up to `as_of`.

    `flows_usd` is the account's own count of them at that time, None if it gave none. The count begins anew every day,
    so it is compared only with another of the same day, New York time.
    """

    account: str  # its broker and place
    equity_usd: float
    flows_usd: float | None
    as_of: datetime


class RankingStore(Protocol):
    """The part of a journal that the pipeline uses: the day's ranking, the highest equity and the plan of the run."""

    def note_plan(self, run: "Run") -> None:
        """Save the plan of a run right before its first order."""

    def ranking(self, basis: Json) -> dict[str, float] | None:
        """Return the saved ranking of the slot's day; None if none has the same basis (universe, lookback, ...)."""

    def save_ranking(self, basis: Json, ranking: Mapping[str, float]) -> None:
        """Save the ranking for the rest of the slot's day."""

    def load_peak(self) -> Peak | None:
        """Return the highest equity on record; None if there is none. Raises DamagedError if it cannot be read."""

    def save_peak(self, peak: Peak) -> None:
        """Save the highest equity, in place of the one on record."""


class OrderStore(Protocol):
    """The part of a journal that knows the orders of earlier runs."""

    def planned_orders(self, slot: datetime) -> Sequence[Order]:
        """Return the orders that a slot's run planned; none if there is no plan that can be read."""

    def recorded_orders(self, slot: datetime) -> Sequence[Order] | None:
        """Return the orders in the record of a slot's run; None if there is no record that can be read."""

    def note_settled(self, slot: datetime, orders: Sequence[Order]) -> None:
        """Save how the orders of a slot ended; no later run looks at them again."""


@dataclass(slots=True, kw_only=True)
class Run:
    """The state of one run so far, so that even the record of a failed run shows what is known."""

    settings: Settings
    slot: datetime
    now: datetime
    index: Sequence[str] | None = None  # the members of the S&P 500 on its day; None: those of today
    claimant: str = field(default_factory=lambda: uuid4().hex)  # the word in its claim
    previous: Mapping[str, str] = field(default_factory=dict)  # the SHA-256 of the records before, by slot id
    previous_record: Json | None = None  # the newest of them
    observation: Observation | None = None
    decision: Decision | None = None
    outcomes: list[Order | Denial] = field(default_factory=list)
    recovered: list[datetime] = field(default_factory=list)  # slots of runs that were cut off
    unsettled: list[datetime] = field(default_factory=list)  # slots whose orders may not have ended when their run did
    settled: list[Settled] = field(default_factory=list)
    held: dict[str, Position] = field(default_factory=dict)  # as the broker showed them last, and not sold by the run
    stops: list[Order] = field(default_factory=list)  # placed to protect holdings
    unprotected: dict[str, Unprotected] = field(default_factory=dict)
    has_plan: bool = False  # the plan is in the journal, so orders may have been sent
    is_guarded: bool = False  # `unprotected` is what the broker showed after the last order
    account_after: Account | None = None
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def is_dry(self) -> bool:
        """True if the run only decides and places no orders."""
        return self.settings.mode is Mode.DRY_RUN

    @property
    def may_give_back(self) -> bool:
        """True if the run has made nothing of its slot, and only this machine knows of the slot and of the account.

        The run came to no insight and sent no order. With a real broker the slot is over when the run is, and S3 offers
        no safe way to remove a claim: it may be a later one by the time the request arrives.
        """
        decided = bool(self.decision and self.decision.insights)
        is_unused = not (self.is_dry or decided or self.has_plan or self.outcomes or self.stops)
        return is_unused and self.settings.is_local

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Measure the wall time of a stage in seconds and note it in `timings_s`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.timings_s[stage] = round(time.perf_counter() - begun, 3)

    def note(self, outcome: Order | Denial) -> None:
        """Note an order or a denial; an order replaces its own earlier state."""
        if isinstance(outcome, Order):
            self._note_sale(outcome)
            for index, each in enumerate(self.outcomes):
                if isinstance(each, Order) and each.client_order_id == outcome.client_order_id:
                    self.outcomes[index] = outcome
                    return
        self.outcomes.append(outcome)

    def note_stop(self, order: Order) -> None:
        """Note an order that protects a holding, in place of its own earlier state."""
        self._note_sale(order)
        self.stops = [each for each in self.stops if each.client_order_id != order.client_order_id] + [order]

    def _note_sale(self, order: Order) -> None:
        if order.side is Side.SELL and order.filled_quantity:
            self.held.pop(order.symbol, None)

    @property
    def placed(self) -> tuple[Order, ...]:
        """The orders that were sent."""
        return tuple(each for each in self.outcomes if isinstance(each, Order))

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders that were sent; in a dry run, those that were planned."""
        if self.is_dry:
            return self.decision.orders if self.decision else ()
        return self.placed

    @property
    def denials(self) -> tuple[Denial, ...]:
        """All denials, in the order of the stages."""
        decided = self.decision.denials if self.decision else self.observation.denials if self.observation else ()
        return decided + tuple(each for each in self.outcomes if isinstance(each, Denial))
