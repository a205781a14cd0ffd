"""The backtest in a reader's browser: the same code as `make backtest ENGINE=map`, in one thread, on the sample.

A page of the documentation loads this module into Pyodide; see scripts/docs/browser.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.backtest import answers, benchmark, forecasts, options, prices, report, scoring, statistics
from scripts.backtest.compute import Table, compute
from scripts.backtest.engine import backtest
from scripts.backtest.model import BacktestError, Result
from trader.model import Json

ANSWERS = Path(__file__).with_name("answers.json")
"""Prophet's answers for the sample, which the page brings along."""

ENV = {"ENGINE": "map"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the page shows, and the figures behind it."""

    page: str  # the HTML that make backtest writes
    figures: Json


def run(chosen: Mapping[str, str], progress: Callable[[str, int, int], None]) -> Shown:
    """Run the backtest with these settings, which have the names of environment variables.

    `progress` is told the kind of work, how much is done and how much there is in all. Raises SettingsError, or
    BacktestError if the choice needs more than a browser has.
    """
    logging.getLogger("trader").setLevel(logging.ERROR)  # the page says that it uses the reference in NumPy
    with answers.using(answers.read(ANSWERS.read_text(encoding="utf-8"))):
        result = _run({**chosen, **ENV}, progress)
    progress("page", 0, 1)
    figures = statistics.figures(result)
    return Shown(page=report.page(figures, result), figures=figures)


def _run(env: Mapping[str, str], progress: Callable[[str, int, int], None]) -> Result:
    wanted = options.from_env(env)
    panel = prices.load(wanted)
    tasks = forecasts.tasks(panel, wanted, prices.span(panel, wanted))
    total = sum(len(bars) for task in tasks for bars in task.bars.values())
    table: Table = {}
    progress("trend lines", 0, total)
    for task in tasks:  # before the first bar, because many bars at once take a fifth of the time
        table |= compute(task)
        progress("trend lines", len(table), total)
    result = backtest(panel, wanted, table=table, progress=progress)
    if not result.bars:
        raise BacktestError("interrupted before the first bar was complete; run it again")
    progress("accuracy", 0, 1)
    against = benchmark.load(wanted, prices.span(panel, wanted))
    return replace(result, benchmark=against, scored=scoring.score(result))
