"""Journal: claims a slot, keeps each run's record and the day's ranking. stores.py has the two places for it.

runs/STRATEGY/2022-12-28/20221228T2045Z.claim    who runs this slot; whoever cannot create it does not run
runs/STRATEGY/2022-12-28/20221228T2045Z.json     the record of the run
universe/STRATEGY/2022-12-28.json                the day's ranking of the candidates
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from trader import decode
from trader.model import NEW_YORK, Json, Report
from trader.record import Run
from trader.slot import slot_id
from trader.stores import Bucket, Folder, JournalError, Store

LOG = logging.getLogger("trader")


@dataclass(frozen=True, slots=True)
class Journal:
    """One strategy's journal in a store."""

    store: Store
    strategy: str

    def claim(self, slot: datetime, claimant: str) -> bool:
        """Claim a slot for this run, for ever; False if another run has it. `claimant` tells the runs apart."""
        return self.store.create(f"{self._run(slot)}.claim", claimant)

    def save(self, run: Run, report: Report) -> None:
        """Keep the record of a run; a dry run, which claims no slot, does not touch the slot's own record."""
        self.store.write(self.record_name(run.slot, run.is_dry), json.dumps(run.record(report), allow_nan=False))

    def note(self, run: Run, status: str) -> None:
        """Keep the record of a run that is under way."""
        self.save(run, run.report(status))

    def record_name(self, slot: datetime, is_dry: bool) -> str:
        """Under which the record of a slot's run is kept."""
        return f"{self._run(slot)}{'-dry-run' if is_dry else ''}.json"

    def load(self, name: str) -> Json:
        """The record of that name. Raises JournalError if there is none."""
        text = self.store.read(name)
        if text is None:
            raise JournalError(f"there is no record {name}")
        try:
            record: Json = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JournalError(f"record {name} is not JSON: {error}") from error
        return record

    def records(self) -> list[str]:
        """The names of all records of the strategy, the oldest slot first."""
        names = self.store.names(f"runs/{self.strategy}/")
        return [name for name in names if name.endswith(".json")]

    def ranking(self, slot: datetime, basis: Json) -> dict[str, float] | None:
        """The ranking kept for the slot's day, if it was made on the same basis (universe, look-back, ...)."""
        text = self.store.read(self._universe(slot))
        if text is None:
            return None
        try:
            kept = json.loads(text)
            if kept["basis"] != basis:
                return None
            return {symbol: decode.number(value) for symbol, value in decode.mapping(kept["ranking"]).items()}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            LOG.warning("the day's ranking cannot be read and is made again", extra={"error": str(error)})
            return None

    def save_ranking(self, slot: datetime, basis: Json, ranking: Mapping[str, float]) -> None:
        """Keep the ranking for the rest of the slot's day."""
        self.store.write(self._universe(slot), json.dumps({"basis": basis, "ranking": ranking}, allow_nan=False))

    def _run(self, slot: datetime) -> str:
        return f"runs/{self.strategy}/{slot.astimezone(NEW_YORK):%Y-%m-%d}/{slot_id(slot)}"

    def _universe(self, slot: datetime) -> str:
        return f"universe/{self.strategy}/{slot.astimezone(NEW_YORK):%Y-%m-%d}.json"


def open_journal(location: str, strategy: str) -> Journal:
    """The journal at `folder:PATH` or `s3://bucket/prefix`."""
    if location.startswith("folder:"):
        return Journal(Folder(Path(location.removeprefix("folder:"))), strategy)
    parts = urlsplit(location)
    return Journal(Bucket(parts.netloc, parts.path.strip("/")), strategy)
