"""`make lookahead`: check that no decision of a backtest uses later bars (look-ahead).

It runs the backtest once, then again on prices loaded only up to a cut: each bar of the span in turn, or CUTS=n bars
chosen at random (SEED=1). Up to the cut, every bar must be identical to the bit: forecasts, sizes, orders, account.
Then it plants leaks on purpose, which the same check must catch.
"""

import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime

from rich.table import Table as Grid

from scripts import console
from scripts.backtest import forecasts, options, prices
from scripts.backtest.compute import Table, Task, compute
from scripts.backtest.engine import backtest
from scripts.backtest.model import BacktestError, Bar, Options, Panel
from scripts.backtest.workers import pool
from scripts.console import format_count
from trader.codec import encode
from trader.model import NEW_YORK
from trader.prices.bars import PRICES
from trader.progress import Progress, no_progress
from trader.settings import Integer, SettingsError

BARS = 60
"""The number of bars traded if START is not set: a thousand forecasts, each made twice."""

BARS_WITH_LEAK = 6
"""The number of bars traded with a planted leak, which shows at the first cut."""

type Loader = Callable[[datetime | None], Panel]
"""A function that loads the prices as if the given bar were the last; None loads all."""

type Plant = Callable[[Panel, Options], tuple[Panel, Table]]
"""A function that returns the prices for the backtest, and forecasts that it takes as given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A run on prices that end with the bar `at`; `differs` is the first of its `bars` that differs."""

    at: datetime
    bars: int
    differs: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of a check: what was run, and its cuts."""

    what: str
    cuts: tuple[Cut, ...]
    is_leaky: bool

    @property
    def is_passed(self) -> bool:
        """True if an honest backtest was the same everywhere, or a leaky one was caught."""
        return any(cut.differs for cut in self.cuts) == self.is_leaky


def main() -> None:
    """Check the backtest, then the check itself; exit with 0 only if both pass."""
    with console.plain_errors("interrupted; there is no result"):
        cuts, seed = numbers(os.environ)
        chosen = options.from_env(os.environ)
        with console.progress() as progress, pool(chosen.settings.engine) as executor:
            whole = prices.load(chosen, progress)

            def load(at: datetime | None) -> Panel:
                if at is None:
                    return whole
                return prices.load(replace(chosen, end=at.astimezone(NEW_YORK).date())).until(at)

            long = starting(whole, chosen, BARS) if chosen.start is None else chosen
            checks = [check(load, long, "the backtest", honest, cuts, seed, executor, progress)]
            short = starting(whole, chosen, BARS_WITH_LEAK)
            for what, plant in PLANTS.items():
                if plant is hindsight and not _changes_choice(load, short):
                    console.note(f"a leak was not planted, because the same symbols do well up to each bar: {what}")
                    continue
                checks.append(check(load, short, f"a planted leak: {what}", plant, None, seed, executor, progress))
    if console.wants_json():
        console.print_json([encode(each) | {"is_passed": each.is_passed} for each in checks])
    else:
        show(checks)
    sys.exit(console.USABLE if all(each.is_passed for each in checks) else console.FAILED)


def numbers(env: Mapping[str, str]) -> tuple[int | None, int]:
    """Return the number of cuts (None: one at every bar) and their random seed. Raises SettingsError."""
    values, problems = options.read(env, {"CUTS": Integer(1, 10_000), "SEED": Integer(0, 999_999_999)})
    if problems:
        raise SettingsError(problems)
    return values.get("CUTS"), values.get("SEED", 1)


def starting(panel: Panel, chosen: Options, bars: int) -> Options:
    """Return the options with a START that leaves at least this many bars, or all bars if there are fewer."""
    return replace(chosen, start=prices.span(panel, chosen)[-bars:][0].astimezone(NEW_YORK).date())


def check(
    load: Loader,
    chosen: Options,
    what: str,
    plant: Plant,
    cuts: int | None,
    seed: int,
    executor: Executor,
    progress: Progress = no_progress,
) -> Check:
    """Run with all prices, then with prices that end early, and compare.

    Raises BacktestError if there are too few bars to cut.
    """
    panel = load(None)
    times = prices.span(panel, chosen)
    count = len(times) - 1 if cuts is None else cuts
    if not 0 < count < len(times):
        raise BacktestError(
            f"the span has {format_count(len(times), 'bar')}, too few for {format_count(count, 'cut')}; "
            "choose an earlier START or fewer CUTS"
        )
    chosen_times = sorted(random.Random(seed).sample(times[:-1], count))  # noqa: S311 a choice, not a secret
    seen, table = plant(panel, chosen)
    result = backtest(seen, chosen, table=table, executor=executor, progress=lambda _, *steps: progress(what, *steps))
    if not result.is_complete:
        raise KeyboardInterrupt
    whole = digests(result.bars)
    found = []
    works = executor.map(_again, _works(load, chosen, plant, chosen_times, result.bars))
    for at, again in zip(chosen_times, works, strict=True):
        expected = times.index(at) + 1
        differing = [time for time, one, other in zip(times, whole, again, strict=False) if one != other]
        differs = differing[0] if differing else None if len(again) == expected else at
        found.append(Cut(at=at, bars=len(again), differs=differs))
        progress(f"{what}, cut off", len(found), count)
    return Check(what=what, cuts=tuple(found), is_leaky=plant is not honest)


@dataclass(frozen=True, slots=True)
class _Work:
    """One run on prices that end early. `known` are forecasts that an earlier cut has shown to use no later bar."""

    panel: Panel
    chosen: Options
    plant: Plant
    known: Table


def _works(
    load: Loader, chosen: Options, plant: Plant, cuts: Sequence[datetime], bars: Sequence[Bar]
) -> Iterator[_Work]:
    made = {(each.symbol, each.time): each for bar in bars if bar.decision for each in bar.decision.forecasts}
    before: datetime | None = None
    for at in cuts:
        shown = plant is honest and before is not None
        known: Table = {key: each for key, each in made.items() if shown and before is not None and key[1] <= before}
        yield _Work(load(at), chosen, plant, known)
        before = at


def _again(work: _Work) -> list[str]:
    """Run one cut, in a worker, and return the digests of its bars."""
    seen, table = work.plant(work.panel, work.chosen)
    return digests(backtest(seen, work.chosen, table=work.known | table).bars)


def digests(bars: Sequence[Bar]) -> list[str]:
    """Return a digest of each bar that covers every digit."""
    return [hashlib.sha256(json.dumps(encode(each)).encode()).hexdigest() for each in bars]


def honest(panel: Panel, _chosen: Options) -> tuple[Panel, Table]:
    """Plant nothing: return the prices unchanged, without given forecasts."""
    return panel, {}


def next_close(panel: Panel, _chosen: Options) -> tuple[Panel, Table]:
    """Replace every close with the next bar's, as an index that is off by one would."""
    return replace(panel, close=panel.close.shift(-1).fillna(panel.close)), {}


def next_bar_in_fit(panel: Panel, chosen: Options) -> tuple[Panel, Table]:
    """Fit every trend line to the next bar too, as a model fitted once to all prices would."""
    table: Table = {}
    for task in forecasts.tasks(panel, chosen, prices.span(panel, chosen)):
        table |= compute(_find_late_fits(task, panel))
    return panel, table


def _find_late_fits(task: Task, panel: Panel) -> Task:
    closes = panel.close[list(task.bars)].loc[task.closes.index[0] :].iloc[: len(task.closes) + 1]
    later = {
        symbol: tuple((bar, min(bar + 1, len(closes) - 1)) for bar, _ in bars) for symbol, bars in task.bars.items()
    }
    return replace(task, closes=closes, bars=later)


def hindsight(panel: Panel, chosen: Options) -> tuple[Panel, Table]:
    """Keep only the symbols that perform well up to the end of the prices (survivorship bias)."""
    best = _choose_best(panel, chosen)
    return replace(panel, **{name: getattr(panel, name)[best] for name in PRICES}), {}


def _choose_best(panel: Panel, chosen: Options) -> list[str]:
    gains = panel.close.ffill().iloc[-1] / panel.close.loc[prices.span(panel, chosen)[0]]
    return [str(symbol) for symbol, gain in gains.items() if gain >= gains.median()]


def _changes_choice(load: Loader, chosen: Options) -> bool:
    """Check whether hindsight chooses other symbols at some bar than at the end; of one symbol it never does."""
    panel = load(None)
    best = _choose_best(panel, chosen)
    return any(_choose_best(load(at), chosen) != best for at in prices.span(panel, chosen)[:-1])


PLANTS: Mapping[str, Plant] = {
    "each close is the next bar's": next_close,
    "each trend line is fitted to the next bar too": next_bar_in_fit,
    "only symbols that will do well are candidates": hindsight,
}


def show(checks: Sequence[Check]) -> None:
    """Print a line for each check."""
    grid = Grid("Run", "Prices cut off", "Decisions", "Verdict")
    for each in checks:
        first, last = moment(each.cuts[0].at), moment(each.cuts[-1].at)
        differing = [cut for cut in each.cuts if cut.differs]
        differ = (
            f"differ at {format_count(len(differing), 'cut')}, the first at {moment(differing[0].at)}"
            if differing
            else ""
        )
        verdict = ("caught" if each.is_leaky else "no look-ahead") if each.is_passed else "WRONG"
        grid.add_row(
            each.what,
            f"{len(each.cuts)} times, {first} to {last}",
            differ or "the same to the bit",
            verdict,
            style="" if each.is_passed else "red",
        )
    console.OUT.print(grid)


def moment(time: datetime) -> str:
    """Format a bar's time in New York; for a daily bar, only its date."""
    local = time.astimezone(NEW_YORK)
    return f"{local:%Y-%m-%d %H:%M}" if local.hour else f"{local:%Y-%m-%d}"
