"""Equality: the deployed code decides each record of a day again, and the second checker checks its caps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trader.audit.caps import find_broken_caps
from trader.audit.recomputing import recompute
from trader.deadline import Deadline
from trader.forecasting.base import Forecaster
from trader.journal.base import JournalError
from trader.journal.chain import find_other_engine, hash_code
from trader.logs import one_line
from trader.model import Json
from trader.settings import Settings

MAX_SHOWN = 3
"""The most differences of one record that are named; make replay shows all."""

TIME_S = 30.0
"""The time that deciding one record again may take; no other one is begun if less is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """What came of a day's records: how many were decided again, and each difference in words."""

    compared: int
    differences: Sequence[str]
    by_other_code: int  # decided by another version of the code, which this one does not judge
    left_out: int  # for want of time

    @property
    def is_equal(self) -> bool | None:
        """Whether all that was compared is the same; None if nothing was compared, or not all for want of time."""
        if self.differences:
            return False
        return True if self.compared and not self.left_out else None


def compare(
    records: Sequence[tuple[str, Json | None]], deadline: Deadline, forecaster: Callable[[Settings], Forecaster]
) -> Equality:
    """Decide the records again that this version of the code decided, as far as the time allows."""
    compared = by_other_code = left_out = 0
    differences: list[str] = []
    for name, record in records:
        if record is None or not record.get("decision") or not record.get("observation"):
            continue  # there is no decision in it; one that cannot be read is named elsewhere
        if (record.get("chain") or {}).get("code") != hash_code() or find_other_engine(record):
            by_other_code += 1
            continue
        if not deadline.allows(TIME_S):
            left_out += 1
            continue
        compared += 1
        differences += _check(name, record, forecaster)
    return Equality(compared=compared, differences=differences, by_other_code=by_other_code, left_out=left_out)


def _check(name: str, record: Json, forecaster: Callable[[Settings], Forecaster]) -> list[str]:
    """Return what is wrong with a record, in words."""
    slot = name.rpartition("/")[2].partition(".")[0]
    try:
        found = recompute(name, record, forecaster=forecaster)
        broken = list(find_broken_caps(record))
    except (JournalError, AttributeError, KeyError, TypeError, ValueError) as error:
        return [f"{slot}: {one_line(error)}"]
    more = f"; {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    words = "; ".join(f"{each.what}: {each.recorded or 'nothing'}, not {each.replayed}" for each in found[:MAX_SHOWN])
    return [*([f"{slot}: {words}{more}"] if found else []), *(f"{slot}: a cap is broken: {each}" for each in broken)]
