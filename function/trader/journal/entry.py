"""The journal: it claims a slot, and keeps the record of each run and the ranking of each day.

runs/STRATEGY/2022-12-28/20221228T2045Z.claim    the run that has this slot; a run that cannot create it stops
runs/STRATEGY/2022-12-28/20221228T2045Z.started  the plan: what the run is about to place, saved before its first order
runs/STRATEGY/2022-12-28/20221228T2045Z.json     the record of the run; a claim without one means an unfinished run
runs/STRATEGY/2022-12-28/20221228T2045Z-unused.json  the record of a run that gave its slot back
runs/STRATEGY/2022-12-28/20221228T2045Z-HASH.replaced  the record that another one has replaced
runs/STRATEGY/2022-12-28/20221228T2045Z.settled  how its orders ended; a plan without it means that they may be open
universe/STRATEGY/2022-12-28.json                the ranking of the candidates on that day
equity/STRATEGY/peak.json                        the highest equity so far
"""

import json
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trader import codec
from trader.journal.base import STARTED, DamagedError, JournalError, Peak, Run, Store
from trader.journal.chain import hash_text, names_of
from trader.journal.record import build_record, build_report
from trader.logs import one_line, redact
from trader.model import NEW_YORK, Json, Order, Report
from trader.schedule.base import MAX_EVENT_DELAY_S, parse_slot_id, slot_id

LOG = logging.getLogger("trader")

REMEMBERED = timedelta(days=8)
"""The age up to which unfinished runs are looked for; long enough for a weekly schedule."""

AHEAD = timedelta(minutes=5)
"""The furthest that a claimed slot may lie ahead. A later one was claimed by a wrong clock and is ignored."""

MARGIN = timedelta(seconds=60)
"""The safety margin after the end of a run: clocks differ, and a stopped run may have a request under way."""

MAX_RUN_TIME = timedelta(seconds=900)
"""Lambda's limit for the duration of a run."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MAX_PREVIOUS = 500
"""The most records that one record names; there is one, unless many runs ended before they could look for it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed slot. Its run has certainly ended by `until`; None if nothing limits it, as on a laptop."""

    slot: datetime
    until: datetime | None

    @property
    def is_over_after(self) -> datetime:
        """The time after which the run has certainly ended, even if `until` in the claim is wrong."""
        if self.until is None:
            return self.slot + MAX_RUN_TIME
        return min(self.until, self.slot + timedelta(seconds=MAX_EVENT_DELAY_S) + MAX_RUN_TIME) + MARGIN

    def is_over(self, now: datetime) -> bool:
        """Check whether the run has certainly ended by `now`."""
        return now > self.is_over_after


@dataclass(frozen=True, slots=True)
class Journal:
    """One strategy's journal in a store."""

    store: Store
    strategy: str

    def entry(self, slot: datetime, *, is_dry: bool = False) -> "JournalEntry":
        """Return the entry of a slot. A dry run claims no slot, and has a record of its own next to the slot's."""
        return JournalEntry(self.store, self.strategy, slot, is_dry)

    def list_unfinished(
        self, now: datetime, back: timedelta = REMEMBERED, kept: Mapping[str, set[datetime]] | None = None
    ) -> list[Claim]:
        """List the recent claims without a record, oldest first; their runs are under way or were cut off.

        This costs one listing of the store, unless `kept` is a recent result of `list_slots`, and one read for each
        claim in the list.
        """
        kept = self.list_slots(now - back) if kept is None else kept
        slots = [slot for slot in sorted(kept["claim"] - kept["json"]) if slot <= now + AHEAD]
        return [self.entry(slot).read_claim() for slot in slots]

    def list_slots(self, since: datetime) -> dict[str, set[datetime]]:
        """Return the slots from `since` on by what they have: `claim`, plan (`started`), record (`json`), `settled`."""
        slots: defaultdict[str, set[datetime]] = defaultdict(set)
        folder = f"runs/{self.strategy}/"
        for name in self.store.names(folder, after=f"{folder}{since.astimezone(NEW_YORK):%Y-%m-%d}"):
            run, _, kind = name.rpartition(".")
            slot = parse_slot_id(run.rpartition("/")[2])
            if slot and slot >= since and self.entry(slot).path == run:
                slots[kind].add(slot)
        return slots

    def planned_orders(self, slot: datetime) -> list[Order]:
        """Return the orders that a slot's run planned; none if there is no plan that can be read."""
        try:
            plan = self.entry(slot).load_plan()
            return [] if plan is None else [codec.decode(Order, order) for order in plan["decision"]["orders"]]
        except (DamagedError, ValueError, KeyError, TypeError) as error:
            LOG.warning("a plan cannot be read", extra={"slot": codec.encode(slot), "error": str(error)})
            return []

    def recorded_orders(self, slot: datetime) -> list[Order] | None:
        """Return the orders in the record of a slot's run; None if there is no record that can be read."""
        try:
            record = _read_json(self.store, self.entry(slot).record_name)
            return None if record is None else [codec.decode(Order, order) for order in record["report"]["orders"]]
        except (DamagedError, ValueError, KeyError, TypeError) as error:
            LOG.warning("a record cannot be read", extra={"slot": codec.encode(slot), "error": str(error)})
            return None

    def note_settled(self, slot: datetime, orders: Sequence[Order]) -> None:
        """Save how the orders of a slot ended; no later run looks at them again."""
        text = _to_text({"orders": codec.encode(list(orders))})
        self.store.write(f"{self.entry(slot).path}.settled", text)

    def find_previous(
        self, slot: datetime, recorded: Collection[datetime], recovered: Collection[datetime] = ()
    ) -> tuple[dict[str, str], Json | None]:
        """Return the SHA-256 of the records before a slot that no earlier record names, and the newest record of them.

        The hashes come by slot id, newest first; the record is None if there is none, or none that can be read.

        `recorded` are the recent slots with a record; if none of them is earlier, the whole journal is listed.
        `recovered` are slots whose records have just been written. This usually costs one read. Returns nothing if a
        record cannot be read: then the next record names these too.
        """
        found: dict[str, str] = {}
        newest: Json | None = None
        named: set[str] = set()  # by the records already read
        try:
            earlier = [each for each in recorded if each < slot] or self.list_slots(EPOCH)["json"]
            late = [each for each in recovered if each < slot]
            for each in sorted({*late, *(each for each in earlier if each < slot)}, reverse=True)[:MAX_PREVIOUS]:
                if named and slot_id(each) <= max(named) and each not in late:
                    continue
                text = self._read_record(each)
                if text is None:
                    continue
                record = _parse_record(text)
                newest = newest if found else record
                found[slot_id(each)] = hash_text(text)
                names = _read_names(record)
                named |= {slot_id(each)} if names is None else names  # before the first in the chain, none is named
        except JournalError as error:
            LOG.warning("the records before cannot be read; the next run names them", extra={"error": one_line(error)})
            return {}, None
        return found, newest

    def _read_record(self, slot: datetime) -> str | None:
        """Return the text of a record; None if it is no text, and never will be. Raises JournalError."""
        name = self.entry(slot).record_name
        try:
            if text := self.store.read(name):
                return text
        except DamagedError:
            return None
        raise JournalError(f"{name} is listed, but what is read of it is empty")

    def list_records(self) -> list[str]:
        """List the names of all records of the strategy, oldest slot first."""
        return [name for name in self.store.names(f"runs/{self.strategy}/") if name.endswith(".json")]

    def load(self, name: str) -> Json:
        """Load the record of this name. Raises JournalError if it does not exist or is not JSON."""
        record = _read_json(self.store, name)
        if record is None:
            raise JournalError(f"there is no record {name}")
        return record


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A strategy's journal for one slot."""

    store: Store
    strategy: str
    slot: datetime
    is_dry: bool = False

    def claim(self, claimant: str, until: datetime | None = None) -> bool:
        """Claim the slot for this run. Return False if another run has it.

        `claimant` identifies the run, which has certainly ended by `until`.
        """
        text = json.dumps({"claimant": claimant, "until": codec.encode(until)})
        return self.store.create(f"{self.path}.claim", text)

    def give_back(self, claimant: str) -> None:
        """Make the slot free again, after its run has saved its record, which then stays under another name.

        A run that is killed in here leaves the claim, and so a slot that nobody trades: the claim is removed last.
        """
        claimed, text = self.store.read(f"{self.path}.claim"), self.store.read(self.record_name)
        if claimed is None or text is None or codec.parse_json(claimed)["claimant"] != claimant:
            return  # someone has cleaned up the journal in the meantime
        self.store.write(self.unused_name, _to_text({**codec.parse_json(text), "gave_back": True}))
        self.store.remove(self.record_name)
        self.store.remove(f"{self.path}.claim")

    def read_claim(self) -> Claim:
        """Return the slot's claim, with the end of its run if the claim states one."""
        return Claim(self.slot, self._read_until())

    def note_plan(self, run: Run) -> None:
        """Save the plan of the run right before its first order, next to where its record will be."""
        self.store.write(self.plan_name, _to_text(build_record(run, build_report(run, STARTED))))
        run.has_plan = True

    def load_plan(self) -> Json | None:
        """Load the plan of the run; None if there is none. Raises JournalError if it cannot be read or is not JSON."""
        return _read_json(self.store, self.plan_name)

    def save(self, run: Run, report: Report) -> None:
        """Save the record of the run, and log its SHA-256. A record that it replaces is kept under another name."""
        text = redact(_to_text(build_record(run, report)))
        if self.is_dry:
            self.store.write(self.record_name, text)
        elif not self.store.create(self.record_name, text):
            if before := self.store.read(self.record_name):  # a full disk may leave an empty one behind
                self.store.write(f"{self.path}-{hash_text(before)[:12]}.replaced", before)
            self.store.write(self.record_name, text)
        extra = {"strategy": self.strategy, "slot": codec.encode(self.slot), "sha256": hash_text(text)}
        LOG.info("recorded", extra=extra)

    def adopt(self, record: Json) -> bool:
        """Save the record of a run that was cut off. Return False and change nothing if the slot already has one."""
        if self.store.create(self.record_name, _to_text(record)):
            return True
        if self.store.read(self.record_name):
            return False
        self.store.write(self.record_name, _to_text(record))  # an empty record, as a full disk leaves behind, is none
        return True

    def load(self) -> Json:
        """Load the record or, if there is none, that of the last run that gave the slot back.

        Raises JournalError if neither exists, or if it is not JSON.
        """
        unused = None if self.is_dry else self.unused_name
        record = _read_json(self.store, self.record_name) or (unused and _read_json(self.store, unused))
        return record or Journal(self.store, self.strategy).load(self.record_name)

    def ranking(self, basis: Json) -> dict[str, float] | None:
        """Return the saved ranking of the slot's day; None if none has the same basis (universe, lookback, ...)."""
        try:
            text = self.store.read(self._ranking_name)
            if text is None:
                return None
            kept = codec.parse_json(text)
            if kept["basis"] != basis:
                return None
            ranking = codec.decode_object(kept["ranking"])
            return {symbol: codec.decode_number(value) for symbol, value in ranking.items()}
        except (DamagedError, ValueError, KeyError, TypeError) as error:
            LOG.warning("the day's ranking cannot be read and is computed again", extra={"error": str(error)})
            return None

    def save_ranking(self, basis: Json, ranking: Mapping[str, float]) -> None:
        """Save the ranking for the rest of the slot's day."""
        self.store.write(self._ranking_name, _to_text({"basis": basis, "ranking": ranking}))

    def load_peak(self) -> Peak | None:
        """Return the highest equity on record; None if there is none. Raises DamagedError if it cannot be read."""
        try:
            text = self.store.read(self._peak_name)
            return None if text is None else _check_peak(codec.decode(Peak, codec.parse_json(text)))
        except (ValueError, KeyError, TypeError) as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise DamagedError(f"{self._peak_name} in the journal is damaged: {reason}") from error

    def save_peak(self, peak: Peak) -> None:
        """Save the highest equity, in place of the one on record."""
        self.store.write(self._peak_name, _to_text(codec.encode(peak)))

    @property
    def path(self) -> str:
        """The name of the slot's claim, plan and record, without the ending."""
        return f"runs/{self.strategy}/{self._day}/{slot_id(self.slot)}"

    @property
    def record_name(self) -> str:
        """The name of the record in the store."""
        return f"{self.path}{'-dry-run' if self.is_dry else ''}.json"

    @property
    def unused_name(self) -> str:
        """The name of the record of a run that gave the slot back."""
        return f"{self.path}-unused.json"

    @property
    def plan_name(self) -> str:
        """The name of the plan in the store."""
        return f"{self.path}.started"

    @property
    def _ranking_name(self) -> str:
        return f"universe/{self.strategy}/{self._day}.json"

    @property
    def _peak_name(self) -> str:
        return f"equity/{self.strategy}/peak.json"

    @property
    def _day(self) -> str:
        return f"{self.slot.astimezone(NEW_YORK):%Y-%m-%d}"

    def _read_until(self) -> datetime | None:
        try:
            text = self.store.read(f"{self.path}.claim") or ""
            if not text.startswith("{"):
                return None  # an old claim, which was a single word
            until = codec.parse_json(text)["until"]
            return None if until is None else codec.decode_time(until).astimezone(UTC)
        except (DamagedError, ValueError, KeyError, TypeError) as error:
            LOG.warning("a claim cannot be read", extra={"slot": codec.encode(self.slot), "error": str(error)})
            return None


def _check_peak(peak: Peak) -> Peak:
    """Return the peak. Raises ValueError if it is below 0."""
    if peak.equity_usd < 0:
        raise ValueError(f"a highest equity of {peak.equity_usd:,.2f} USD is below 0")
    return peak


def _read_json(store: Store, name: str) -> Json | None:
    text = store.read(name)
    try:
        record: Json | None = None if text is None else codec.parse_json(text)
    except ValueError as error:
        raise DamagedError(f"record {name} is not JSON: {error}") from error
    return record


def _parse_record(text: str) -> Json | None:
    """Return a record; None if it is damaged."""
    try:
        return codec.decode_object(codec.parse_json(text))
    except (TypeError, ValueError):
        return None


def _read_names(record: Json | None) -> set[str] | None:
    """Return the slots that a record names as those before it: none if it is damaged; None if it is older than that."""
    if record is None:
        return set()
    try:
        names = names_of(record)
    except TypeError:
        return set()
    return None if names is None else set(names)


def _to_text(value: Json) -> str:
    return json.dumps(value, allow_nan=False)
