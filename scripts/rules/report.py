"""What a child process reports of a rule. It travels as JSON: nothing that a rule made is ever executed here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

WATCHED, ORDERS, BIG = "watched", "orders", "big"
"""The parts, each in a process of its own: every call is watched; the slots come in other orders; 500 symbols."""

FRESH, FORWARD, BACKWARD = "fresh", "forward", "backward"
"""Orders of slots: the file is loaded anew for each; one after the other; back in time, and each twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a child does: a part, with a rule's files and its variables.

    The random state begins with `seed`. Loading the rule may take `loading_s`, a decision `limit_s`, and all decisions
    together `budget_s`.
    """

    part: str
    signal: str
    sources: Mapping[str, str]
    variables: Mapping[str, str]
    closes: Mapping[str, Any]
    seed: int
    limit_s: float
    budget_s: float
    loading_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One decision: its insights as texts, or what was wrong; `is_refused` if it reached for what it may not."""

    order: str
    kind: str
    key: str
    insights: Sequence[Sequence[str]] = ()
    problem: str = ""
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Reach:
    """What a rule reached for that it may not use, and where."""

    kind: str
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision changed: "state", "view" or "chance", the name of it, and the line."""

    what: str
    name: str
    where: str


@dataclass(slots=True, kw_only=True)
class Report:
    """All that a child found; `stopped` says why it did not get to its end."""

    usage: Sequence[str] = ()
    unloadable: str = ""
    stopped: str = ""
    bars: int = 0
    ohlcv: bool = False
    parameters: Mapping[str, float] = field(default_factory=dict)
    decide: str = ""
    tried: list[Tried] = field(default_factory=list)
    reached: list[Reach] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    duration_s: float | None = None
    memory_mb: float | None = None

    def write(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the report that a child wrote. Raises ValueError if it is none."""
        told = json.loads(text)
        if not isinstance(told, dict) or not set(told) <= {each.name for each in fields(cls)}:
            raise ValueError("it is no report")
        told["tried"] = [Tried(**each) for each in told["tried"]]
        told["reached"] = [Reach(**each) for each in told["reached"]]
        told["changed"] = [Change(**each) for each in told["changed"]]
        return cls(**told)
