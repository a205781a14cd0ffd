"""The records of a journal, as far as a report needs them, read side by side."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from scripts.backtest import workers
from scripts.owner import decisions, tape
from scripts.owner.bars import Parcel, pack, unpack
from scripts.owner.shadow import Choice
from scripts.owner.tape import Step
from trader.codec import decode_time, parse_json
from trader.journal.base import JournalError
from trader.journal.entry import Journal
from trader.journal.stores import MAX_CONNECTIONS
from trader.model import Engine, Json
from trader.progress import Progress

READERS = MAX_CONNECTIONS
"""How many records a process reads at once: a bucket answers each after tens of milliseconds."""

BATCH, MAX_BATCHES_HERE = 64, 3
"""How many records are a piece of work, and how many pieces are done in this process: others take a second to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One run: how it ended, the account at its end, what it refused, and what it held."""

    slot: datetime
    status: str
    detail: str
    mode: str
    equity_usd: float | None  # after the run, or before it if that is not known; None if it did not look
    first_equity_usd: float | None  # before the run
    flows_usd: float  # deposits and withdrawals since the last close
    denials: Sequence[tuple[str, str, bool]]  # symbol, code, and whether only a part was refused
    unprotected: Sequence[str]
    observed: Json | None  # positions and open orders, as the record has them


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The runs of a period, oldest first; the slots that have no record, and those whose record cannot be read."""

    runs: Sequence[Seen]
    without: Sequence[datetime]
    unreadable: Sequence[str]
    steps: Sequence[Step] = ()  # what they hold for the test of live
    again: Mapping[datetime, Choice] = field(default_factory=dict)  # what today's code decides from each
    unread: Sequence[datetime] = ()  # the slots whose records say nothing for it
    untested: Sequence[str] = ()  # of which record that cannot be read, and why


def read(journal: Journal, since: datetime, progress: Progress, *, trusts_rule: bool = False) -> Records:
    """Read the records from `since` on, and decide again at each. Raises JournalError if the journal cannot be listed.

    `trusts_rule` runs an own rule as the records have it.
    """
    kept = journal.list_slots(since)
    slots = sorted(kept["json"])
    runs: list[Seen] = []
    steps: list[Step] = []
    unreadable: list[str] = []
    untested: list[str] = []
    again: dict[datetime, Choice] = {}
    unread: list[datetime] = []
    batches = [slots[at : at + BATCH] for at in range(0, len(slots), BATCH)]
    with ExitStack() as stack:
        read_batch = partial(_read_batch, journal, trusts_rule)
        spread = stack.enter_context(workers.processes(Engine.MAP)).map if len(batches) > MAX_BATCHES_HERE else map
        for done, batch in enumerate(spread(read_batch, batches), 1):
            progress("records", min(done * BATCH, len(slots)), len(slots))
            again |= batch.again
            unread += batch.unread
            steps += [replace(step, bars=closes) for step, closes in zip(batch.steps, unpack(batch.bars), strict=True)]
            for seen, problem in batch.runs:
                runs += [seen] if seen else []
                if problem:
                    (untested if seen else unreadable).append(problem)
    return Records(
        runs=runs,
        without=sorted(kept["claim"] - kept["json"]),
        unreadable=unreadable,
        steps=steps,
        again=again,
        unread=unread,
        untested=untested,
    )


@contextmanager
def without_collection() -> Iterator[None]:
    """Stop the search for garbage in cycles: it goes through ever more objects of records, and none of them is any."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Some records: the run of each and what is wrong with it; what they hold; and the decisions taken again."""

    runs: Sequence[tuple[Seen | None, str]]
    steps: Sequence[Step]
    bars: Parcel
    again: Mapping[datetime, Choice]
    unread: Sequence[datetime]


@without_collection()
def _read_batch(journal: Journal, trusts_rule: bool, slots: Sequence[datetime]) -> _Batch:
    def fetch(slot: datetime) -> str | JournalError:
        try:
            return journal.store.read(journal.entry(slot).record_name) or JournalError("it is gone")
        except JournalError as error:
            return error

    with ThreadPoolExecutor(READERS) as threads:  # which only wait; to parse in them would take longer
        read = [
            _read_one(slot, journal.entry(slot).record_name, text)
            for slot, text in zip(slots, threads.map(fetch, slots), strict=True)
        ]
    steps = [step for _, step, _ in read if step]
    return _Batch(
        runs=[(seen, problem) for seen, _, problem in read],
        steps=[replace(step, bars={}) for step in steps],
        bars=pack(step.bars for step in steps),
        again=decisions.decide_again(steps, trusts_rule=trusts_rule),
        unread=[slot for slot, (_, step, _) in zip(slots, read, strict=True) if step is None],
    )


def _read_one(slot: datetime, name: str, text: str | JournalError) -> tuple[Seen | None, Step | None, str]:
    try:
        if isinstance(text, JournalError):
            raise text
        try:
            record, step = tape.parse(slot, text)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return parse(slot, parse_json(text)), None, f"{name}: {error}"
        return parse(slot, record), step, ""
    except (JournalError, ValueError) as error:
        return None, None, f"{name}: {error}"
    except (KeyError, TypeError, AttributeError):
        return None, None, f"{name}: it is not the record of a run"


def parse(slot: datetime, record: Json) -> Seen:
    """Return what a record says of its run. Raises KeyError, TypeError or ValueError if it is none."""
    report, seen = record["report"], record.get("observation")
    before, after = (report["account"].get(each) for each in ("before", "after"))
    if decode_time(report["slot"]) != slot:
        raise ValueError(f"it is the record of {report['slot']}")
    last = after or before
    return Seen(
        slot=slot,
        status=report["status"],
        detail=report["detail"],
        mode=report["mode"],
        equity_usd=None if last is None else float(last["equity_usd"]),
        first_equity_usd=None if before is None else float(before["equity_usd"]),
        flows_usd=float((before or {}).get("flows_usd") or 0.0),
        denials=[(each["symbol"], each["code"], bool(each.get("is_partial"))) for each in report["denials"]],
        unprotected=list(report.get("unprotected", ())),
        observed=None if seen is None else {name: seen[name] for name in ("positions", "open_orders")},
    )
