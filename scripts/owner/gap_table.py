"""Live against its test in words and rows, for the terminal, the page and JSON."""

from collections.abc import Iterator, Mapping, Sequence

from scripts.cloud.logs import new_york
from scripts.console import format_count
from scripts.owner.answer import Answer
from scripts.owner.decisions import Difference
from scripts.owner.gap import Cause, Gap, Item
from scripts.report import formatting
from trader.codec import encode
from trader.logs import printable

ALWAYS = frozenset({Cause.DECISION, Cause.MISSED, Cause.PRICE, Cause.FILL})
"""The causes that the table has even if they make nothing of the gap."""

MAX_ITEMS, MAX_DIFFERENCES, MAX_SLOTS = 8, 5, 5
"""How many of a kind the terminal and the page show; JSON has all."""

LEAST_USD = 0.005


def list_rows(gap: Gap) -> list[tuple[str, float, float | None]]:
    """Return the test, what each cause makes of it, and live: each in USD, and as a fraction of the first equity."""
    terms = [(str(cause), usd) for cause, usd in gap.terms.items() if cause in ALWAYS or abs(usd) >= LEAST_USD]
    rows = [("the test", gap.test_usd), *terms, ("live", gap.live_usd)]
    return [(name, usd, usd / gap.start_usd if gap.start_usd > 0 else None) for name, usd in rows]


def format_fraction(fraction: float | None) -> str:
    """Format a fraction of the equity in percent with two decimals: parts of a gap are small."""
    if fraction is None:
        return ""
    return f"{fraction:+.2%}".replace("-", formatting.MINUS) if round(fraction, 4) else "0.00%"


def describe_item(item: Item) -> str:
    """Return a part of the gap in one sentence: when, what, why and how much."""
    symbol = f" {item.symbol}" if item.symbol else ""
    return (
        f"{new_york(item.at)[:16]}{symbol}: {printable(item.words)}, {formatting.change(item.usd)} USD ({item.cause})"
    )


def describe_difference(difference: Difference) -> str:
    """Return a decision that is not the one recorded in one sentence."""
    why = f"without {difference.setting}" if difference.setting else "today's code"
    recorded, again = printable(difference.recorded), printable(difference.again)
    return f"{new_york(difference.slot)[:16]} {difference.symbol}: recorded {recorded}; {why}: {again}"


def list_notes(answer: Answer) -> Iterator[tuple[str, str]]:
    """Yield what is to be known beside the table, each with its name."""
    gap = answer.gap
    if gap is None:
        looks = sum(each.is_seen for each in answer.runs.steps)
        yield (
            "No test",
            f"live is compared from one look at the account to another, and {format_count(looks, 'run')} had one",
        )
    else:
        yield "Rhythm", gap.rhythm
        if gap.missed:
            first = ", ".join(f"{new_york(each.slot)[:16]} ({each.why})" for each in gap.missed[:MAX_SLOTS])
            yield "Missed", f"{format_count(len(gap.missed), 'slot')}: {first}{_more(len(gap.missed), MAX_SLOTS)}"
        by_reason: dict[str, list[str]] = {}
        for slot, why in sorted(gap.undecided.items()):
            by_reason.setdefault(why, []).append(new_york(slot)[:16])
        for why, slots in by_reason.items():
            yield "Not tested", f"{', '.join(slots[:MAX_SLOTS])}{_more(len(slots), MAX_SLOTS)}: {printable(why)}"
    yield from (("Note", printable(each)) for each in answer.gap_notes)


def list_undecided(gap: Gap) -> Mapping[str, str]:
    """Return why the test could not decide, by slot."""
    return {encode(slot): why for slot, why in sorted(gap.undecided.items())}


def _more(count: int, shown: int) -> str:
    return f" and {count - shown:,} more" if count > shown else ""


def write_json(answer: Answer) -> Mapping[str, object]:
    """Return live against its test as JSON."""
    gap = answer.gap
    notes = [{"name": name, "words": words} for name, words in list_notes(answer)]
    if gap is None:
        return {"notes": notes}
    return {
        "since": encode(gap.since),
        "until": encode(gap.until),
        "start_usd": gap.start_usd,
        "test_usd": gap.test_usd,
        "live_usd": gap.live_usd,
        "terms_usd": {str(cause): usd for cause, usd in gap.terms.items()},
        "parts": [{**encode(each), "usd": each.usd} for each in gap.items],
        "differences": encode(list(gap.differences)),
        "missed": encode(list(gap.missed)),
        "undecided": list_undecided(gap),
        "rhythm": gap.rhythm,
        "equity": [{"slot": encode(slot), "test_usd": usd} for slot, usd in gap.equity],
        "notes": notes,
    }


def list_test(answer: Answer) -> Sequence[float] | None:
    """Return the return of the test up to each day of the curve; None if it is not known."""
    gap, curve = answer.gap, answer.curve
    if gap is None or curve is None or not gap.equity:
        return None
    by_day = {new_york(slot)[:10]: usd for slot, usd in gap.equity}
    first_usd = last_usd = gap.equity[0][1]
    found = []
    for each in curve.days:
        last_usd = by_day.get(each.day.isoformat(), last_usd)
        found.append(last_usd / first_usd - 1 if first_usd > 0 else 0.0)
    return found
