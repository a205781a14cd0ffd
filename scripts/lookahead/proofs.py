"""Proof that the check finds leaks: each is planted, and the check must notice it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from scripts.backtest import prices
from scripts.backtest.compute import Table
from scripts.backtest.cutting import cuttable
from scripts.backtest.model import BacktestError, Options, Panel, Result
from scripts.lookahead import leaks
from scripts.lookahead.check import Cut, compare, list_forecasts, run_cut, run_whole
from scripts.lookahead.leaks import LEAKS, Leak, planted
from scripts.lookahead.trace import Trace, trace

MAX_CUTS = 5
"""The maximum number of bars with which the prices end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the check found with a planted leak: the cut that shows it, or why there was nothing to find."""

    cut: Cut | None = None
    unseen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """What a backtest without a leak did, and the forecasts that it made."""

    trace: Trace
    forecasts: Table

    @classmethod
    def of(cls, result: Result) -> "Honest":
        """Take it from the result of the backtest."""
        return cls(trace=trace(result), forecasts=list_forecasts(result))


def prove(number: int, chosen: Options, honest: Honest) -> Proof:
    """Plant the leak with this number in LEAKS and check, with the last cut first; `honest` is without it.

    It runs in any process; nothing is left of the leak. A late leak needs a span of more than LATE bars.
    """
    leak = LEAKS[number]
    times = prices.span(prices.load(chosen), chosen)
    known = _list_kept(leak, honest.forecasts, times)
    choices = _find_other_choice(leak.choose, chosen, times) if leak.choose else []
    with planted(leak):
        try:
            whole = run_whole(chosen, known=known)
        except BacktestError as error:
            return Proof(unseen=f"prices with it are refused: {error}")
        expected, times = trace(whole), tuple(bar.time for bar in whole.bars)
        if not (changed := _find_changed(times, expected, honest.trace)):
            return Proof(unseen="it changes nothing with these prices")
        if leak.choose and not choices:
            return Proof(unseen="it chooses the same symbols up to each bar")
        for at in choices or changed:
            cut = compare(at, times, expected, run_cut(chosen, at, known))
            if cut.difference:
                return Proof(cut=cut)
    return Proof()


def _list_kept(leak: Leak, forecasts: Table, times: Sequence[datetime]) -> Table:
    """Return the forecasts that a leak leaves as they are: all, those before a late leak begins, or none."""
    if leak.keeps_forecasts:
        return forecasts
    before = frozenset(times[: leaks.LATE] if leak.is_late else ())
    return {key: each for key, each in forecasts.items() if key[1] in before}


def _find_changed(times: Sequence[datetime], expected: Trace, honest: Trace) -> list[datetime]:
    """Return some of the bars that the leak changes, the last first; after the very last bar there is nothing to cut.

    The first of all is among them, because the leak acts at it; at later ones there may only be its consequences.
    Whether a check that does not know the leak cuts at such a bar is a matter of its number of cuts.
    """
    changed = [time for time, one, other in zip(times[:-1], expected, honest, strict=False) if one != other]
    return [*changed[:: -max(1, len(changed) // MAX_CUTS)][:MAX_CUTS], *changed[:1]]


def _find_other_choice(
    choose: Callable[[Panel], list[str]], chosen: Options, times: Sequence[datetime]
) -> list[datetime]:
    """Return the last bar up to which other symbols are chosen than by the end; none if the choice never changes.

    Where the rows of the whole choose the same, no prices are read again.
    """
    panel = prices.load(chosen)
    by_end = choose(panel)
    changed = (at for at in reversed(times[:-1]) if choose(panel.until(at)) != by_end)
    return next(([at] for at in changed if choose(cuttable(chosen).load(at)) != by_end), [])
