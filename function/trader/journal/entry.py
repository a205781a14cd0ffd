"""Journal: claims a slot, keeps each run's record and the day's ranking. stores.py has the two places for it.

runs/STRATEGY/2022-12-28/20221228T2045Z.claim    who runs this slot; whoever cannot create it does not run
runs/STRATEGY/2022-12-28/20221228T2045Z.started  what the run was about to place, kept before its first order
runs/STRATEGY/2022-12-28/20221228T2045Z.json     the record of the run; a claim without one is of an unfinished run
universe/STRATEGY/2022-12-28.json                the day's ranking of the candidates
"""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from trader import codec
from trader.journal.record import Run, as_json
from trader.journal.stores import Bucket, Folder, JournalError, Store
from trader.model import NEW_YORK, Json, Report
from trader.schedule.slot import MAX_EVENT_DELAY_S, slot_from, slot_id

LOG = logging.getLogger("trader")

REMEMBERED = timedelta(days=8)
"""How far back unfinished runs are looked for: a schedule of once a week is within it."""

AHEAD = timedelta(minutes=5)
"""A claim for a later slot than that was made by a clock that is wrong, and is left alone."""

MARGIN = timedelta(seconds=60)
"""Clocks differ, and a run that is stopped may have a request on its way."""

MAX_RUN_TIME = timedelta(seconds=900)
"""Lambda lets no function run longer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed slot, and when its run is over for certain; None where nothing limits it, as on a laptop."""

    slot: datetime
    until: datetime | None

    @property
    def is_over_after(self) -> datetime:
        """After that its run is certainly not under way any more, whatever the claim says: it may be wrong."""
        if self.until is None:
            return self.slot + MAX_RUN_TIME
        return min(self.until, self.slot + timedelta(seconds=MAX_EVENT_DELAY_S) + MAX_RUN_TIME) + MARGIN

    def is_over(self, now: datetime) -> bool:
        """Whether its run is certainly not under way any more."""
        return now > self.is_over_after


@dataclass(frozen=True, slots=True)
class Journal:
    """One strategy's journal in a store."""

    store: Store
    strategy: str

    def claim(self, slot: datetime, claimant: str, until: datetime | None = None) -> bool:
        """Claim a slot for this run, for ever; False if another run has it.

        `claimant` tells the runs apart, `until` is when this one is over for certain.
        """
        text = json.dumps({"claimant": claimant, "until": as_json(until)})
        return self.store.create(f"{self._run(slot)}.claim", text)

    def unfinished(self, now: datetime, back: timedelta = REMEMBERED) -> list[Claim]:
        """The claims of the last days whose runs have no record, the oldest first: under way, or cut off.

        It takes one listing, and one read for each of them.
        """
        kept = self.kept(now - back)
        slots = [slot for slot in sorted(kept["claim"] - kept["json"]) if slot <= now + AHEAD]
        return [Claim(slot, self._until(slot)) for slot in slots]

    def kept(self, since: datetime) -> dict[str, set[datetime]]:
        """The slots since then of which there is a `claim`, a plan (`started`) or a record (`json`)."""
        kept: defaultdict[str, set[datetime]] = defaultdict(set)
        for name in self.store.names(self._runs, after=f"{self._runs}{since.astimezone(NEW_YORK):%Y-%m-%d}"):
            run, _, kind = name.rpartition(".")
            slot = slot_from(run.rpartition("/")[2])
            if slot and slot >= since and self._run(slot) == run:
                kept[kind].add(slot)
        return kept

    def save(self, run: Run, report: Report) -> None:
        """Keep the record of a run; a dry run, which claims no slot, does not touch the slot's own record."""
        self.store.write(self.record_name(run.slot, run.is_dry), _text(run.record(report)))

    def note(self, run: Run, status: str) -> None:
        """Keep what is known of a run that is under way, beside the record that it will have when it ends."""
        self.store.write(self.started_name(run.slot), _text(run.record(run.report(status))))

    def adopt(self, slot: datetime, record: Json) -> bool:
        """Keep the record of a run that was cut off; False, and no change, if the slot has a record by now."""
        return self.store.create(self.record_name(slot, is_dry=False), _text(record))

    def record_name(self, slot: datetime, is_dry: bool) -> str:
        """Under which the record of a slot's run is kept."""
        return f"{self._run(slot)}{'-dry-run' if is_dry else ''}.json"

    def started_name(self, slot: datetime) -> str:
        """Under which is kept what a slot's run was about to place."""
        return f"{self._run(slot)}.started"

    def load(self, name: str) -> Json:
        """The record of that name. Raises JournalError if there is none."""
        record = self._read(name)
        if record is None:
            raise JournalError(f"there is no record {name}")
        return record

    def records(self) -> list[str]:
        """The names of all records of the strategy, the oldest slot first."""
        names = self.store.names(self._runs)
        return [name for name in names if name.endswith(".json")]

    def started(self, slot: datetime) -> Json | None:
        """What a slot's run was about to place; None if it did not come that far. Raises JournalError like `load`."""
        return self._read(self.started_name(slot))

    def ranking(self, slot: datetime, basis: Json) -> dict[str, float] | None:
        """The ranking kept for the slot's day, if it was made on the same basis (universe, look-back, ...)."""
        text = self.store.read(self._universe(slot))
        if text is None:
            return None
        try:
            kept = codec.loaded(text)
            if kept["basis"] != basis:
                return None
            return {symbol: codec.number(value) for symbol, value in codec.mapping(kept["ranking"]).items()}
        except (ValueError, KeyError, TypeError) as error:
            LOG.warning("the day's ranking cannot be read and is made again", extra={"error": str(error)})
            return None

    def save_ranking(self, slot: datetime, basis: Json, ranking: Mapping[str, float]) -> None:
        """Keep the ranking for the rest of the slot's day."""
        self.store.write(self._universe(slot), _text({"basis": basis, "ranking": ranking}))

    def _read(self, name: str) -> Json | None:
        text = self.store.read(name)
        try:
            record: Json | None = None if text is None else codec.loaded(text)
        except ValueError as error:
            raise JournalError(f"record {name} is not JSON: {error}") from error
        return record

    def _until(self, slot: datetime) -> datetime | None:
        """When the run that claimed the slot is over for certain, as far as its claim says so."""
        try:
            text = self.store.read(f"{self._run(slot)}.claim") or ""
            if not text.startswith("{"):
                return None  # as claims once were: a word and nothing else
            until = codec.loaded(text)["until"]
            return None if until is None else codec.moment(until).astimezone(UTC)
        except (ValueError, KeyError, TypeError) as error:
            LOG.warning("a claim cannot be read", extra={"slot": as_json(slot), "error": str(error)})
            return None

    @property
    def _runs(self) -> str:
        return f"runs/{self.strategy}/"

    def _run(self, slot: datetime) -> str:
        return f"{self._runs}{slot.astimezone(NEW_YORK):%Y-%m-%d}/{slot_id(slot)}"

    def _universe(self, slot: datetime) -> str:
        return f"universe/{self.strategy}/{slot.astimezone(NEW_YORK):%Y-%m-%d}.json"


def _text(value: Json) -> str:
    return json.dumps(value, allow_nan=False)


def open_journal(location: str, strategy: str) -> Journal:
    """The journal at `folder:PATH` or `s3://bucket/prefix`."""
    if location.startswith("folder:"):
        return Journal(Folder(Path(location.removeprefix("folder:"))), strategy)
    parts = urlsplit(location)
    return Journal(Bucket(parts.netloc, parts.path.strip("/")), strategy)
