"""What is wrong with a price file, and the one message that names all of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trader.prices.base import PriceSourceError

MAX_NAMED = 5
"""Maximum number of faulty rows, columns or symbols that a message names; the others are counted."""

MAX_KEPT = 10_000
"""Maximum number of faults that are kept; a file of garbage has millions."""

type LinesOf = Callable[[Sequence[int]], Mapping[int, int]]
"""Returns the numbers of lines by the numbers of rows."""


class PriceFileError(PriceSourceError):
    """The price file cannot be read or is malformed; the message says where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a row, and what to do about it. `row` counts from the top of the file, from 0."""

    row: int
    what: str
    remedy: str


class Faults:
    """The faults of rows that were found so far."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._rows: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, row: int, what: str, remedy: str) -> None:
        """Add a fault; of several faults in one row the first is kept."""
        if row not in self._rows:
            self._rows.add(row)
            if len(self._faults) < MAX_KEPT:
                self._faults.append(Fault(row=row, what=what, remedy=remedy))

    def require_none(self, path: Path, lines_of: LinesOf) -> None:
        """Raise PriceFileError if there are faults: the first few with their lines, and the number of the others."""
        if not self._rows:
            return
        first = sorted(self._faults, key=lambda each: each.row)[:MAX_NAMED]
        lines = lines_of([each.row for each in first])
        parts = []
        for this, following in zip(first, [*first[1:], None], strict=True):
            parts.append(f"line {lines[this.row]}: {this.what}")
            if following is None or following.remedy != this.remedy:
                parts.append(this.remedy)
        if more := len(self._rows) - len(first):
            parts.append(f"{more:,} more line{'s have' if more > 1 else ' has'} faults")
        raise PriceFileError(f"price file {path}, {'; '.join(parts)}")


def fault(path: Path, line: int, what: str, remedy: str) -> PriceFileError:
    """Return the error for one line of a price file."""
    return PriceFileError(f"price file {path}, line {line}: {what}; {remedy}")


def name_some(names: Iterable[str]) -> str:
    """Name the first few, and count the others."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(f'{name:.50}' for name in names[:MAX_NAMED])}{more}"
