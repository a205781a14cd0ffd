"""The text of a digest: the answer first, then what it rests on. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

from trader.audit.fills import Fill, Why
from trader.digest.day import SPANS, Day, Runs, count_streak, measure_span
from trader.digest.equality import Equality
from trader.messages.base import Message
from trader.model import NEW_YORK, Side

MAX_TRADES = 20
"""The most trades that are named one by one."""

BENCHMARK = "SPY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """All that a digest says of a day."""

    strategy: str
    mode: str
    day: date
    runs: Runs
    history: Sequence[Day]  # with this day, the last one
    benchmark: Mapping[str, float]  # SPY's return, as a fraction, by the name of the span
    benchmark_problem: str
    fills: Sequence[tuple[Fill, float | None]]  # with the gain of a sale in USD, if it is known
    fills_problem: str
    halt_reason: str
    unfinished: Sequence[datetime]  # slots with a claim and no record
    equality: Equality
    silent_sessions: int  # without a healthy run, if they are as many as are to be told; else 0
    silent_strategies: Sequence[str]
    next_run: datetime

    @property
    def needs_person(self) -> Sequence[str]:
        """What needs its owner, a sentence each."""
        return list(_list_needs(self))


def _list_needs(digest: Digest) -> Iterator[str]:
    strategy = digest.strategy
    if differences := digest.equality.differences:
        yield f"decided again with ANOTHER result (make replay, make verify): {'; '.join(differences)}"
    if symbols := digest.runs.unprotected:
        yield f"held without a stop: {', '.join(symbols)}"
    if digest.silent_sessions:
        how = f"make logs QUERY=runs STRATEGY={strategy}"
        yield f"no healthy run in {digest.silent_sessions} sessions. See: {how}, and the schedule's rule in EventBridge"
    for name in digest.silent_strategies:
        yield f"strategy {name} had no digest: its function did not run. See: make logs QUERY=errors STRATEGY={name}"
    if digest.unfinished:
        times = ", ".join(_clock(each) for each in digest.unfinished)
        yield f"no record of the runs of {times}: they were cut off. See: make reconcile STRATEGY={strategy}"
    if digest.runs.unreadable:
        yield f"records that cannot be read: {', '.join(digest.runs.unreadable)}"


def write(digest: Digest) -> Message:
    """Return the digest as a message."""
    needs = digest.needs_person
    gained = measure_span(digest.history, 1)
    subject = f"{digest.strategy}: {_percent(gained) if gained is not None else 'no equity known'} on {digest.day}"
    if needs:
        subject += ", NEEDS YOU"
    elif digest.halt_reason:
        subject += ", halted"
    return Message(subject=subject, text="\n".join(_write_lines(digest, needs)))


def _write_lines(digest: Digest, needs: Sequence[str]) -> Iterator[str]:
    runs = digest.runs
    yield f"{digest.strategy} ({digest.mode}), {digest.day:%a %-d %b %Y}"
    if needs:
        yield from ("", "NEEDS YOU", *(f"- {each}" for each in needs))
    if digest.halt_reason:
        yield from ("", f"Halted: {digest.halt_reason}")
    yield from ("", *_write_returns(digest))
    yield from ("", *_write_trades(digest))
    yield ""
    if runs.problems:
        yield f"Told today: {'; '.join(f'{each.kind} {each.subject}'.strip() for each in runs.problems)}"
    counts = ", ".join(f"{count} {status}" for status, count in runs.statuses.items()) or "none"
    yield f"Runs: {counts}"
    if runs.refusals:
        yield f"Refused: {', '.join(f'{count} {code}' for code, count in runs.refusals.items())}"
    yield f"Proof: {describe_equality(digest.equality, count_streak(digest.history))}"
    yield f"Next run: {digest.next_run.astimezone(NEW_YORK):%a %-d %b %H:%M} New York"


def _write_returns(digest: Digest) -> Iterator[str]:
    runs = digest.runs
    if runs.equity_usd is None:
        yield "No run of the day knew the equity."
        return
    yield f"Equity {runs.equity_usd:,.2f} USD"
    for name, days in SPANS.items():
        own = measure_span(digest.history, days)
        if own is None:
            continue
        other = digest.benchmark.get(name)
        yield f"{name}: {_percent(own)}" + (f", {BENCHMARK} {_percent(other)}" if other is not None else "")
    if digest.benchmark_problem:
        yield f"{BENCHMARK} is not known: {digest.benchmark_problem}"


def _write_trades(digest: Digest) -> Iterator[str]:
    if digest.fills_problem:
        yield f"The trades are not known: {digest.fills_problem}"
        return
    if not digest.fills:
        yield "No trades"
        return
    yield "Trades"
    for fill, gain_usd in digest.fills[:MAX_TRADES]:
        verb = "bought" if fill.side is Side.BUY else "sold"
        why = fill.why.value if fill.why is not Why.RULE else digest.runs.reasons.get(fill.client_order_id) or "rule"
        gain = "" if gain_usd is None else f", {gain_usd:+,.2f} USD"
        when = f"{_clock(fill.at)} " if fill.at.astimezone(NEW_YORK).time() != time() else ""  # daily bars have none
        yield f"- {when}{verb} {fill.quantity:g} {fill.symbol} at {fill.price_usd:,.2f}{gain} ({why})"
    if len(digest.fills) > MAX_TRADES:
        yield f"- {len(digest.fills) - MAX_TRADES} more"


def describe_equality(equality: Equality, streak: int) -> str:
    """Say in words what came of deciding the day's records again."""
    if equality.differences:
        return f"{len(equality.differences)} of {equality.compared} slots differ"
    count = f"{equality.compared} slot{'s' * (equality.compared != 1)}"
    parts = [f"{count} decided again, the same" if equality.compared else "nothing to decide again"]
    if equality.by_other_code:
        parts.append(f"{equality.by_other_code} by another version, not judged")
    if equality.left_out:
        parts.append(f"{equality.left_out} left out for want of time")
    if streak > 1:
        parts.append(f"{streak} sessions in a row")
    return "; ".join(parts)


def _percent(fraction: float) -> str:
    return f"{fraction:+.2%}"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(NEW_YORK):%H:%M}"
