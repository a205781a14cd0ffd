"""What a backtest does not show because the companies that it concerns are not among the prices."""

from collections.abc import Iterator

from scripts.backtest.delisting import DELISTED_SESSIONS
from scripts.report.formatting import plain
from trader.model import SAMPLE_PRICES, Json

MAX_NAMED = 5
"""Maximum number of symbols named in a sentence."""

MIN_SHARE = 0.001
"""Smallest share that is given as a number; smaller ones round to 0.0%."""

HINDSIGHT = "This makes both the strategy and buy-and-hold look better than they could have been in practice."


def describe(figures: Json) -> str:
    """Say whose prices are missing, and what that may hide."""
    membership = figures["data"]["membership"]
    return " ".join([*_describe_choice(figures), *([describe_membership(membership)] if membership else [])])


def _describe_choice(figures: Json) -> Iterator[str]:
    """Say what is wrong with the choice of the symbols; that of an index on each day is no hindsight."""
    settings, ended = figures["settings"], figures["data"]["ended_symbols"]
    if ended:
        named = f"{', '.join(map(plain, ended[:MAX_NAMED]))}{' and others' if len(ended) > MAX_NAMED else ''}"
        yield (
            f"{len(ended)} of the {len(figures['data']['symbols'])} symbols {'has' if len(ended) == 1 else 'have'} no "
            f"prices at the end of the span ({named}): shares without a price for {DELISTED_SESSIONS} sessions are "
            "paid out at their last one, whatever became of the company. Symbols that ended before the span may be "
            "missing, which makes all results look better."
        )
    elif settings["price_sources"] == ["file"] and settings["price_file"] == str(SAMPLE_PRICES):
        yield (
            "The sample contains 20 companies that are large today, chosen with hindsight; companies that failed are "
            f"missing. {HINDSIGHT}"
        )
    elif not figures["data"]["membership"]:
        yield f"Whoever chose the symbols knew that they still exist, and perhaps how they performed. {HINDSIGHT}"


def describe_membership(membership: Json) -> str:
    """Say how many members of the index had no price, and what that may hide."""
    unpriced, fraction = membership["unpriced_symbols"], membership["unpriced_fraction"]
    words = f"Candidates are the members of the S&P 500 on each day, {membership['members']} in this span."
    if not fraction:
        return f"{words} All of them have prices."
    share = f"{fraction:.1%}" if fraction >= MIN_SHARE else f"less than {MIN_SHARE:.1%}"
    more = " and others" if len(unpriced) > MAX_NAMED else ""
    lack = (
        f"{len(unpriced)} of them ({', '.join(map(plain, unpriced[:MAX_NAMED]))}{more}) have no price here, and "
        f"{share} of all members' days have none"
        if unpriced
        else f"All of them have prices, but {share} of all members' days have none"
    )
    return (
        f"{words} {lack}. Companies that failed, were taken over or left the index are missing most often, so all "
        "results may look better than they would have been."
    )
