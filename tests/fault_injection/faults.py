"""Faults between the function and an outside service, and the switchboard that injects them."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """A way in which a call can fail; the last two are faults of the machine, the others of the service."""

    LAG = "late"
    SLOW = "slow"
    HANG = "hang"
    BUSY = "429"
    ERROR = "5xx"
    LOST = "accepted, answer lost"
    LATE = "no answer, accepted after the run"
    DROP = "dropped"
    MALFORMED = "malformed"
    STALE = "stale"
    EMPTY = "empty"
    DENIED = "denied"
    EXPIRED = "expired"
    KILL_BEFORE = "killed before"
    KILL_AFTER = "killed after"


@dataclass(slots=True)
class Fault:
    """A fault in `times` calls of one name, after the first `skip` of them."""

    call: str  # such as "alpaca POST /orders buy"; its first words alone mean all calls that begin with them
    kind: Kind
    times: int = 1_000_000
    skip: int = 0
    happening: Callable[[], object] = lambda: None  # is called when it happens

    def __str__(self) -> str:
        """Return the fault as a report shows it."""
        often = "" if self.times >= 1_000 else f", {self.times} times" if self.times > 1 else ", once"
        return f"{self.call}: {self.kind}{often}{f', after {self.skip}' if self.skip else ''}"


def is_call(name: str, wanted: str) -> bool:
    """Tell whether a call has this name, or one that begins with its words: a service's name is that of all calls."""
    return name == wanted or name.startswith(f"{wanted} ")


class Faults:
    """The switchboard, which every service asks before it answers."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.met: Counter[str] = Counter()

    def plan(self, faults: Sequence[Fault]) -> None:
        """Replace the planned faults, and reset the counters."""
        with self._lock:
            self._planned = [replace(each) for each in faults]  # copies, because they are counted down
            self.calls.clear()
            self.met.clear()

    def next(self, call: str) -> Kind | None:
        """Count a call, and return its fault; None if it succeeds."""
        with self._lock:
            self.calls[call] += 1
            for fault in self._planned:
                if not is_call(call, fault.call):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times:
                    fault.times -= 1
                    fault.happening()
                    self.met[f"{call}: {fault.kind}"] += 1
                    return fault.kind
        return None
