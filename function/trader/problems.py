"""What needs a person after a run, and which of it is news: told once when it begins, and again each day that it lasts.

A run knows what the run before it found, from that run's record. So nothing else is kept, and no run asks for more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from trader.codec import decode, decode_time
from trader.journal.base import Run
from trader.messages.base import Message
from trader.model import NEW_YORK, Code, Health, Json, OrderStatus, Outcome, Report

PATIENCE = timedelta(hours=1)
"""If the next run comes within this time, it may make a bad one good, and only a second one in a row is told."""

NAMED_ALREADY = frozenset({Code.ORDER_REJECTED, Code.UNPROTECTED})
"""The statuses of which each case is a problem of its own."""

SLOW_FRACTION = 0.8
"""The part of its time from which a run counts as slow."""


class Kind(StrEnum):
    """What a problem is about, in the order in which a message names them."""

    UNPROTECTED = "held without a stop"
    ORDER_UNKNOWN = "order unknown"
    BLOCKED = "account blocked"
    INTERRUPTED = "run cut off"
    FAILED = "run failed"
    REFUSED = "order refused"
    CHANGED = "order changed"
    DRAWDOWN = "drawdown"
    HALTED = "halted"
    ATTENTION = "no work done"
    SLOW = "slow run"

    @property
    def is_transient(self) -> bool:
        """True if the next run often makes it good."""
        return self in {Kind.ATTENTION, Kind.HALTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that needs a person: its kind, whose it is, the sentence, and for how many runs it has lasted."""

    kind: Kind
    subject: str  # a symbol, a slot or a status
    words: str
    runs: int = 1
    is_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The run before, as its record has it: its slot, and the problems that it found."""

    slot: datetime
    problems: Sequence[Problem]


def read_previous(record: Json) -> Previous | None:
    """Return the run of a record; None if the record is older than problems are, or damaged."""
    try:
        report = record["report"]
        problems = [decode(Problem, each) for each in report["problems"]]
        return Previous(slot=decode_time(report["slot"]), problems=problems)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def find(run: Run, report: Report, used_fraction: float, previous: Previous | None) -> list[Problem]:
    """Return the problems of a run, each with how long it has lasted and whether it is told now.

    `used_fraction` is the part of its time that the run has used.
    """
    before = {(each.kind, each.subject): each.runs for each in previous.problems} if previous else {}
    # A run on a laptop that does nothing gives its slot back, so that the next one would never hear of it.
    may_wait = run.slot - previous.slot <= PATIENCE if previous else not run.settings.is_local
    is_new_day = previous is None or _day(previous.slot) != _day(run.slot)
    found = []
    for each in sorted(_list(run, report, used_fraction), key=lambda each: list(Kind).index(each.kind)):
        runs = before.get((each.kind, each.subject), 0) + 1
        needed = 2 if each.kind.is_transient and may_wait else 1
        is_told = runs == needed or (runs > needed and is_new_day)
        found.append(Problem(kind=each.kind, subject=each.subject, words=each.words, runs=runs, is_told=is_told))
    return found


def write(strategy: str, slot: datetime, mode: str, problems: Sequence[Problem]) -> Message | None:
    """Return the message that tells the problems that are to be told now; None if there are none."""
    told = [each for each in problems if each.is_told]
    if not told:
        return None
    first = told[0].kind
    subjects = ", ".join(each.subject for each in told if each.kind is first and each.subject)
    others = len({each.kind for each in told}) - 1
    head = f"{strategy}: {first}{f' ({subjects})' if subjects else ''}"
    when = f"{slot.astimezone(NEW_YORK):%a %-d %b %Y %H:%M} New York"
    lines = [f"{strategy} ({mode}), slot of {when}", "", *(f"- {each.kind}: {each.words}" for each in told)]
    return Message(subject=f"{head}{f', and {others} more' if others else ''}", text="\n".join(lines))


def measure_drawdown(run: Run) -> float | None:
    """Return how far the equity is below its highest on record, as a fraction; None if either is not known."""
    seen = run.observation
    return None if seen is None else measure_fall(seen.account.equity_usd, seen.peak_equity_usd)


def measure_fall(equity_usd: float | None, peak_usd: float | None) -> float | None:
    """Return how far an equity is below the highest one, as a fraction; None if either is not known."""
    if equity_usd is None or not peak_usd:
        return None
    return round(max(0.0, 1 - equity_usd / peak_usd), 6)


# --- each kind -------------------------------------------------------------------------------------------------------


def _list(run: Run, report: Report, used_fraction: float) -> Iterator[Problem]:
    strategy = run.settings.strategy
    for symbol in report["unprotected"]:
        bare = run.unprotected.get(symbol)
        why = f" ({bare.reason})" if bare else ""
        yield Problem(
            kind=Kind.UNPROTECTED,
            subject=symbol,
            words=f"{symbol} has no working stop loss{why}. Place a stop at the broker, or sell it",
        )
    yield from _list_orders(run, strategy)
    for slot in report.get("recovered", ()):
        words = f"the run of {slot} was cut off; its orders were looked up. See: make reconcile STRATEGY={strategy}"
        yield Problem(kind=Kind.INTERRUPTED, subject=slot, words=words)
    yield from _list_status(report, strategy)
    fallen = measure_drawdown(run)
    if fallen is not None and fallen >= run.settings.drawdown_message_fraction:
        words = (
            f"the equity is {fallen:.1%} below its highest on record. To stop trading: make halt STRATEGY={strategy}"
        )
        yield Problem(kind=Kind.DRAWDOWN, subject="", words=words)
    if used_fraction > SLOW_FRACTION:
        words = f"the run took {used_fraction:.0%} of its time. Raise timeout_s or memory_mb in terraform.tfvars"
        yield Problem(kind=Kind.SLOW, subject="", words=words)


def _list_orders(run: Run, strategy: str) -> Iterator[Problem]:
    for order in (*run.placed, *run.stops):
        if order.status is OrderStatus.UNKNOWN:
            words = (
                f"{order.client_order_id}: the broker did not say what became of it, and the next run asks again. "
                f"See: make reconcile STRATEGY={strategy}"
            )
            yield Problem(kind=Kind.ORDER_UNKNOWN, subject=order.symbol, words=words)
    for denial in run.denials:
        if denial.code is Code.ORDER_REJECTED:
            words = f"{denial.symbol}: {denial.detail}"
            yield Problem(kind=Kind.REFUSED, subject=denial.symbol, words=words)
    for settled in run.settled:
        words = (
            f"{settled.client_order_id} is {settled.status} with {settled.filled_quantity:g} of {settled.quantity:g} "
            f"filled; its run had recorded {settled.recorded_status}"
        )
        yield Problem(kind=Kind.CHANGED, subject=settled.symbol, words=words)


def _list_status(report: Report, strategy: str) -> Iterator[Problem]:
    status, detail = report["status"], report["detail"]
    if status == Code.HALTED:
        words = f"{detail or 'the halt switch is on'}. make resume STRATEGY={strategy} lets it trade again"
        yield Problem(kind=Kind.HALTED, subject="", words=words)
    elif status == Outcome.FAILED:
        words = f"{detail}. See: make logs QUERY=errors STRATEGY={strategy}"
        yield Problem(kind=Kind.FAILED, subject="", words=words)
    elif status == Code.ACCOUNT_BLOCKED:
        yield Problem(kind=Kind.BLOCKED, subject="", words=detail or "the broker has blocked the account")
    elif Health.of(status) is Health.ATTENTION and status not in NAMED_ALREADY:
        words = f"{status}{f': {detail}' if detail else ''}"
        yield Problem(kind=Kind.ATTENTION, subject=status, words=words)


def _day(slot: datetime) -> date:
    return slot.astimezone(NEW_YORK).date()
