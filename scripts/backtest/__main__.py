"""`make backtest`: the bot over the bars of the past, in Backtrader, shown as a table and as a page.

All settings are environment variables, as for `make run`; START, END, CASH, COMMISSION, SLIPPAGE, REFIT_EVERY and OUT
beside them.
"""

import os
from dataclasses import replace

from scripts import console
from scripts.backtest import options, prices, scoring
from scripts.backtest.engine import backtest
from scripts.backtest.model import Options, Result
from scripts.backtest.workers import pool
from trader.progress import Progress


def main() -> None:
    """Load the prices, run, write the page and the figures, show the table."""
    arguments = console.parser("make backtest", __doc__).parse_args()
    with console.plain_errors("interrupted before the first bar was done; there is nothing to report"):
        chosen = options.from_env(os.environ)
        with console.progress() as progress:
            result = run(chosen, progress)
        from scripts.backtest import report, statistics  # see run

        figures = statistics.figures(result)
        paths = report.write(figures, result, chosen.out)
        if arguments.json:
            console.print_json(figures)
        else:
            report.show(figures, paths, console.OUT)


def run(chosen: Options, progress: Progress) -> Result:
    """The backtest and its calibration, on all cores. Raises BacktestError if it was interrupted at the first bar."""
    with pool(chosen.settings.engine) as executor:
        try:
            executor.submit(os.getpid)  # the workers begin, and meanwhile
            from scripts.backtest import report, statistics  # noqa: F401 is imported: a second that they need not spend

            panel = prices.load(chosen, progress)
            result = backtest(panel, chosen, executor=executor, progress=progress)
            if not result.bars:
                raise KeyboardInterrupt
            if result.is_complete:
                result = replace(result, scored=scoring.score(result, executor=executor, progress=progress))
            return result
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    main()
