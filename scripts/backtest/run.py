"""`make backtest`: run the bot on past bars in Backtrader, and show the result as a table and a page.

All settings are environment variables: those of `make run`, and START, END, CASH, COMMISSION, SLIPPAGE, REFIT_EVERY,
BENCHMARK, CASH_RATE, DECIDE_EVERY, INTRADAY_FILE and OUT.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from scripts import console
from scripts.backtest import benchmark, options, prices, repeating, rhythm, scoring, trials, uncertainty
from scripts.backtest.engine import backtest
from scripts.backtest.forecasts import find_spec
from scripts.backtest.model import Options, Result
from scripts.backtest.workers import pool
from scripts.cloud.rhythms import compare_with_default
from trader.model import Engine
from trader.progress import Progress

MANY_FORECASTS = {Engine.PROPHET: 2_000, Engine.MAP: 50_000}
"""The number of forecasts from which on a backtest takes minutes, by engine."""


def main() -> None:
    """Run the backtest, write the page and the figures, and show the table."""
    with console.plain_errors("interrupted before the first bar was complete; there is nothing to report"):
        chosen = options.from_env(os.environ)
        with console.progress() as progress:
            result = run(chosen, progress)
        from scripts.backtest import report, statistics  # already imported by run

        figures = statistics.figures(result)
        figures["uncertainty"] = uncertainty.measure(figures)
        figures["schedule"] = compare_with_default(chosen.decide_every, chosen.settings)
        figures["made"] = repeating.describe_making(result, datetime.now(UTC))
        if result.is_complete:
            figures["trials"] = trials.count(figures, chosen)
        paths = report.write(figures, result, chosen.out)
        if console.wants_json():
            console.print_json(figures)
        else:
            report.show(figures, paths, console.OUT)


def warn_of_forecasts(times: Sequence[datetime], chosen: Options) -> None:
    """Say how many forecasts a long backtest needs, before it begins."""
    count = rhythm.count_forecasts(times, chosen) if chosen.decide_every else 0
    if count > MANY_FORECASTS[chosen.settings.engine]:
        faster = ", or set ENGINE=map, which is faster" if chosen.settings.engine is Engine.PROPHET else ""
        console.note(f"up to {count:,} forecasts, one for each symbol and slot; for fewer, set a later START{faster}")


def run(chosen: Options, progress: Progress) -> Result:
    """Run the backtest and its calibration on all cores. Raises KeyboardInterrupt if interrupted at the first bar."""
    with pool(chosen.settings.engine) as executor:
        try:
            if find_spec(chosen.settings):
                executor.submit(os.getpid)  # starts the workers, which takes a second
            from scripts.backtest import report, statistics  # noqa: F401 for main, while the workers start

            panel = prices.load(chosen, progress)
            times = prices.span(panel, chosen)
            warn_of_forecasts(times, chosen)
            against = benchmark.load(rhythm.by_day_options(chosen), rhythm.days_of(times, chosen))
            result = backtest(panel, chosen, executor=executor, progress=progress)
            if not result.bars:
                raise KeyboardInterrupt
            result = replace(result, benchmark=against)
            if result.is_complete:
                result = replace(result, scored=scoring.score(result, executor=executor, progress=progress))
            return result
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
