"""`make lookahead`: prove that no decision of a backtest knows anything of later bars.

The backtest is run once, then again on prices that end at bars chosen at random (CUTS=3, SEED=1): up to each cut every
bar has to be the same to the bit: forecasts, sizes, orders, account. Then leaks are planted on purpose, and have to be
caught by the same check.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from rich.table import Table as Grid

from scripts import terminal
from scripts.backtest import forecasts, options, prices
from scripts.backtest.engine import backtest
from scripts.backtest.forecasts import Table, Task
from scripts.backtest.model import BacktestError, Bar, Options, Panel
from scripts.backtest.workers import pool
from trader.model import NEW_YORK
from trader.prices import Progress, no_progress
from trader.record import as_json
from trader.settings import SettingsError, integer

BARS = 60
"""Traded unless START says otherwise: a thousand forecasts, in some half a minute."""

BARS_WITH_LEAK = 10
"""A leak shows at the first cut; there is no need for more."""

type Plant = Callable[[Panel, Options], tuple[Panel, Table]]
"""The prices that the backtest is run on, and forecasts that it takes as given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The prices ended with the bar `at`; `differs` is the first of the `bars` up to it that came out otherwise."""

    at: datetime
    bars: int
    differs: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was run, with its cuts."""

    what: str
    cuts: tuple[Cut, ...]
    is_leaky: bool

    @property
    def is_passed(self) -> bool:
        """Honest and the same everywhere, or leaky and caught."""
        return any(cut.differs for cut in self.cuts) == self.is_leaky


def main() -> None:
    """Check the backtest, then the check itself; the exit code is 0 only if both come out as they should."""
    parser = argparse.ArgumentParser(prog="make lookahead", description=__doc__)
    parser.add_argument("--json", action="store_true", default=terminal.flag("JSON"), help="print the result as JSON")
    arguments = parser.parse_args()
    with terminal.plain_errors("interrupted; nothing is proved"):
        cuts, seed = numbers(os.environ)
        chosen = options.from_env(os.environ)
        with terminal.progress() as progress, pool() as executor:
            panel = prices.load(chosen, progress)
            chosen = starting(panel, chosen, BARS) if chosen.start is None else chosen
            checks = [check(panel, chosen, "the backtest", honest, cuts, seed, executor, progress)]
            for what, plant in PLANTS.items():
                short = starting(panel, chosen, BARS_WITH_LEAK)
                checks.append(check(panel, short, f"a planted leak: {what}", plant, 1, seed, executor, progress))
    if arguments.json:
        sys.stdout.write(json.dumps([as_json(each) | {"is_passed": each.is_passed} for each in checks]) + "\n")
    else:
        show(checks)
    sys.exit(terminal.USABLE if all(each.is_passed for each in checks) else terminal.FAILED)


def numbers(env: Mapping[str, str]) -> tuple[int, int]:
    """How many cuts, and the seed of their choice. Raises SettingsError."""
    problems, values = [], []
    for name, default, parse in (("CUTS", "3", integer(1, 100)), ("SEED", "1", integer(0, 999_999_999))):
        text = env.get(name, "").strip() or default
        try:
            values.append(parse(text))
        except ValueError as error:
            problems.append(f"{name}={text!r}: must be {error}")
    if problems:
        raise SettingsError(problems)
    return values[0], values[1]


def starting(panel: Panel, chosen: Options, bars: int) -> Options:
    """The options with a START that leaves so many bars, or all there are if they are fewer."""
    return replace(chosen, start=prices.span(panel, chosen)[-bars:][0].astimezone(NEW_YORK).date())


def check(
    panel: Panel,
    chosen: Options,
    what: str,
    plant: Plant,
    cuts: int,
    seed: int,
    executor: Executor | None = None,
    progress: Progress = no_progress,
) -> Check:
    """Run with all prices, then with prices cut off at random bars, and compare.

    Raises BacktestError if there are too few bars to cut.
    """
    times = prices.span(panel, chosen)
    if len(times) <= cuts:
        raise BacktestError(f"{len(times)} bars are too few for CUTS={cuts}: choose an earlier START, or fewer cuts")
    whole = bars_of(panel, chosen, plant, executor, partial(renamed, progress, what))
    found = []
    for at in sorted(random.Random(seed).sample(times[:-1], cuts)):  # noqa: S311 a choice, no secret
        work = f"{what}, cut off after {moment(at)}"
        again = bars_of(panel.until(at), chosen, plant, executor, partial(renamed, progress, work))
        found.append(Cut(at=at, bars=len(again), differs=first_difference(whole, again)))
    return Check(what=what, cuts=tuple(found), is_leaky=plant is not honest)


def renamed(progress: Progress, work: str, _: str, done: int, total: int) -> None:
    """Progress of one backtest among several, each with a bar of its own."""
    progress(work, done, total)


def bars_of(
    panel: Panel, chosen: Options, plant: Plant, executor: Executor | None, progress: Progress
) -> tuple[Bar, ...]:
    """The bars of one backtest. An interruption interrupts."""
    seen, table = plant(panel, chosen)
    result = backtest(seen, chosen, table=table, executor=executor, progress=progress)
    if not result.is_complete:
        raise KeyboardInterrupt
    return result.bars


def first_difference(whole: Sequence[Bar], again: Sequence[Bar]) -> datetime | None:
    """The first bar of `again` that is not to the bit what it was with all prices; None if all are."""
    pairs = zip(whole, again, strict=False)  # the first has more
    return next((each.time for other, each in pairs if repr(as_json(each)) != repr(as_json(other))), None)


def honest(panel: Panel, _chosen: Options) -> tuple[Panel, Table]:
    """Nothing planted: the prices as they are, and no forecast given."""
    return panel, {}


def next_close(panel: Panel, _chosen: Options) -> tuple[Panel, Table]:
    """Every close is that of the next bar, as an index that is off by one would have it."""
    return replace(panel, close=panel.close.shift(-1).fillna(panel.close)), {}


def next_bar_in_fit(panel: Panel, chosen: Options) -> tuple[Panel, Table]:
    """Every trend line is fitted to the next bar as well, as a model fitted once to all prices would be."""
    table: Table = {}
    for task in forecasts.tasks(panel, chosen, prices.span(panel, chosen)):
        table |= forecasts.compute(_fitted_later(task, panel))
    return panel, table


def _fitted_later(task: Task, panel: Panel) -> Task:
    closes = panel.close[task.symbol].loc[task.closes.index[0] :].iloc[: len(task.closes) + 1]
    return replace(task, closes=closes, bars=tuple((bar, min(bar + 1, len(closes) - 1)) for bar, _ in task.bars))


PLANTS: Mapping[str, Plant] = {
    "each close is the next bar's": next_close,
    "each trend line is fitted to the next bar too": next_bar_in_fit,
}


def show(checks: Sequence[Check]) -> None:
    """A line for each cut."""
    grid = Grid("Run", "Cut off after", "Bars", "Decisions", "Verdict")
    for each in checks:
        for cut in each.cuts:
            right = bool(cut.differs) == each.is_leaky
            grid.add_row(
                each.what,
                moment(cut.at),
                str(cut.bars),
                f"differ from {moment(cut.differs)}" if cut.differs else "the same to the bit",
                ("caught" if each.is_leaky else "sees no future") if right else "WRONG",
                style="" if right else "red",
            )
    terminal.OUT.print(grid)


def moment(time: datetime) -> str:
    """A bar in New York: of a daily one its date."""
    local = time.astimezone(NEW_YORK)
    return f"{local:%Y-%m-%d %H:%M}" if local.hour else f"{local:%Y-%m-%d}"


if __name__ == "__main__":
    main()
