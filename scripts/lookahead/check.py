"""The check: a backtest on prices that end early must equal the one on all prices, bar by bar and to the bit."""

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import override

from scripts.backtest import benchmark, prices
from scripts.backtest.compute import Table
from scripts.backtest.cutting import cut_benchmark, cuttable
from scripts.backtest.engine import backtest
from scripts.backtest.forecasts import OtherPricesError
from scripts.backtest.model import BacktestError, Options, Result
from scripts.console import format_count
from scripts.lookahead.trace import Trace, find_difference, trace
from trader.prices.base import PriceSourceError
from trader.progress import Progress, no_progress

BARS_FEWER = "the number of bars"
"""What differs if prices that end early have another number of bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first bar that is not the same if the prices end early, and what of it is not."""

    time: datetime
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A run on prices that end with the bar `at`; `unread` says why there was none."""

    at: datetime
    difference: Difference | None = None
    unread: str = ""


def choose_cuts(times: Sequence[datetime], count: int, seed: int, gaps: Sequence[datetime] = ()) -> list[datetime]:
    """Return the bars after which the prices end: `count`, one at random from each equal stretch of all but the last.

    Some `gaps` are added, at most half as many: how a gap is filled shows only where it is. Raises BacktestError if
    there are too few bars to cut.
    """
    if not 0 < count < len(times):
        raise BacktestError(
            f"the span has {format_count(len(times), 'bar')}, too few for {format_count(count, 'cut')}; "
            "choose an earlier START or fewer CUTS"
        )
    chosen = random.Random(seed)  # noqa: S311 a choice, not a secret
    edges = [(len(times) - 1) * number // count for number in range(count + 1)]
    cuts = {times[chosen.randrange(begin, end)] for begin, end in pairwise(edges)}
    inside = [each for each in gaps if each in times[:-1]]
    return sorted(cuts.union(chosen.sample(inside, min(len(inside), count // 2))))


def run_whole(
    chosen: Options,
    executor: Executor | None = None,
    progress: Progress = no_progress,
    known: Table | None = None,
) -> Result:
    """Run on all prices; `known` are forecasts from the same prices. Raises KeyboardInterrupt if the user stops it."""
    panel = prices.load(chosen)
    result = backtest(panel, chosen, table=known, executor=executor or InProcess(), progress=progress)
    if not result.is_complete:
        raise KeyboardInterrupt
    if chosen.decide_every:
        return result
    return replace(result, benchmark=benchmark.load(chosen, prices.span(panel, chosen)))


def check(
    chosen: Options,
    whole: Result,
    cuts: Sequence[datetime],
    executor: Executor,
    progress: Progress = no_progress,
) -> list[Cut]:
    """Run again on prices that end with each of the cuts, in ascending order, and compare with the whole."""
    expected = trace(whole)
    times = [bar.time for bar in whole.bars]
    works = executor.map(_run_cut, _works(chosen, whole, cuts))
    found = []
    for number, (at, again) in enumerate(zip(cuts, works, strict=True), start=1):
        found.append(compare(at, times, expected, again))
        progress("prices cut off", number, len(cuts))
    return found


def compare(at: datetime, times: Sequence[datetime], expected: Trace, again: Trace | str) -> Cut:
    """Compare a run on prices that end with `at` with the whole; `again` is why it could not be run, or its trace."""
    if isinstance(again, str):
        return Cut(at=at, unread=again)
    if found := find_difference(expected, again):
        return Cut(at=at, difference=Difference(time=times[found[0]], what=found[1]))
    if len(again) != times.index(at) + 1:
        return Cut(at=at, difference=Difference(time=at, what=BARS_FEWER))
    return Cut(at=at)


@dataclass(frozen=True, slots=True)
class _Work:
    """One run on prices that end early; `known` are forecasts that an earlier cut shows to use no later bar."""

    chosen: Options
    at: datetime
    known: Table


def _works(chosen: Options, whole: Result, cuts: Sequence[datetime]) -> Iterator[_Work]:
    made = list_forecasts(whole)
    before: datetime | None = None
    for at in cuts:
        known: Table = {key: each for key, each in made.items() if before is not None and key[1] <= before}
        yield _Work(chosen, at, known)
        before = at


def list_forecasts(result: Result) -> Table:
    """Return the forecasts of a backtest."""
    return {(each.symbol, each.time): each for bar in result.bars if bar.decision for each in bar.decision.forecasts}


def _run_cut(work: _Work) -> Trace | str:
    return run_cut(work.chosen, work.at, work.known)


def run_cut(chosen: Options, at: datetime, known: Table | None = None) -> Trace | str:
    """Run on prices that end with a bar; return the trace, or why the prices cannot be read."""
    try:
        panel = cuttable(chosen).load(at)
        against = cut_benchmark(chosen, at, prices.span(panel, chosen))
    except (BacktestError, PriceSourceError) as error:
        return str(error)
    try:
        result = backtest(panel, chosen, table=known, executor=InProcess())
    except OtherPricesError:  # the prices before the cut depend on those after it; which, the trace will show
        result = backtest(panel, chosen, executor=InProcess())
    return trace(replace(result, benchmark=against))


class InProcess(Executor):
    """An executor that does the work at once, in this process: forecasts are made in blocks, as in any executor."""

    @override
    def submit[**P, T](self, function: Callable[P, T], /, *arguments: P.args, **more: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(function(*arguments, **more))
        return future
