"""What is wrong with a price file, and the one message that names all of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trader.prices.base import PriceSourceError

MAX_NAMED = 5
"""Maximum number of faulty rows, columns or symbols that a message names; the others are counted."""

MAX_COUNTED = 10_000
"""Maximum number of faulty rows that are counted; a file of garbage has millions."""

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
    """The faults of rows that were found so far: of several in one row the first."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}

    def __contains__(self, row: int) -> bool:
        return row in self._faults

    def __bool__(self) -> bool:
        return bool(self._faults)

    @property
    def are_enough(self) -> bool:
        """True if there are so many that no others need be looked for."""
        return len(self._faults) >= MAX_COUNTED

    def add(self, row: int, what: str, remedy: str) -> None:
        """Add a fault."""
        if row not in self._faults:
            self._faults[row] = Fault(row=row, what=what, remedy=remedy)

    def require_none(self, path: Path, lines_of: LinesOf) -> None:
        """Raise PriceFileError if there are faults: the first few with their lines, and the number of the others."""
        if not self._faults:
            return
        first = [self._faults[row] for row in sorted(self._faults)[:MAX_NAMED]]
        lines = lines_of([each.row for each in first])
        parts = []
        for this, following in zip(first, [*first[1:], None], strict=True):
            parts.append(f"line {lines[this.row]}: {this.what}")
            if following is None or following.remedy != this.remedy:
                parts.append(this.remedy)
        if more := len(self._faults) - len(first):
            least = "at least " if self.are_enough else ""
            parts.append(f"{least}{more:,} more line{'s have' if more > 1 else ' has'} faults")
        raise PriceFileError(f"price file {path}, {'; '.join(parts)}")


def fault(path: Path, line: int, what: str, remedy: str) -> PriceFileError:
    """Return the error for one line of a price file."""
    return PriceFileError(f"price file {path}, line {line}: {what}; {remedy}")


def name_some(names: Iterable[str]) -> str:
    """Name the first few, and count the others."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(f'{name:.50}' for name in names[:MAX_NAMED])}{more}"
