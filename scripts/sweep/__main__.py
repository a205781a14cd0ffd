"""`make sweep GRID=...`: many settings over the past, and how those fare next that were best before.

GRID has settings by name with their values, such as "STOP_LOSS_FRACTION=0.02,0.03 HISTORY_BARS=120,250", or ranges
such as HISTORY_BARS=120..500 to draw SAMPLES=64 from (SEED=1), or is a file.json. The span is cut into FOLDS+1 parts (3
folds); what is best by METRIC (sharpe_ratio) on one part is judged by the next. It runs on WORKERS processes (one a
core), or on a Dask cluster with SCHEDULER=tcp://host:port. A sweep that was broken off is taken up again; FRESH=1
starts over. All other variables are those of `make backtest`, and apply to all settings.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from scripts import console
from scripts.backtest import prices
from scripts.backtest.forecasts import count_needed_bars
from scripts.sweep import executors, grid, html, sweep
from scripts.sweep.config import SweepConfig
from scripts.sweep.console import show
from scripts.sweep.results import Outcome
from scripts.sweep.store import folder
from scripts.sweep.walk_forward import parts


def main() -> None:
    """Read the grid, compute what is missing, write the files, show the tables; the exit code is 1 if a part failed."""
    parser = console.parser("make sweep", __doc__)
    parser.add_argument("--grid", default=os.environ.get("GRID", ""), help="settings with their values")
    arguments = parser.parse_args()
    with console.plain_errors("interrupted before the sweep began; nothing is lost"):
        outcome, paths = run_sweep(SweepConfig.from_env(os.environ, arguments.grid), os.environ)
        if arguments.json:
            files = {path.name: str(path) for path in paths}
            console.print_json({**outcome.as_json(), "files": files})
        else:
            show(outcome, console.OUT)
            console.OUT.print(f" All figures: {paths[0]}    the picture: {paths[2]}", style="dim")
    sys.exit(console.FAILED if outcome.failed else console.USABLE)


def run_sweep(plan: SweepConfig, env: Mapping[str, str]) -> tuple[Outcome, tuple[Path, ...]]:
    """Run the sweep, and return its outcome and the paths of its files."""
    axes = grid.read(plan.grid)
    settings, left_out = grid.settings(grid.combinations(axes, plan.samples, plan.seed), env)
    default = grid.default(env)
    every = [*(each.options for each in settings), *([default] if default else [])]
    with console.progress() as report:
        # Of the settings, the one that looks back furthest: Yahoo is asked for as much as is needed.
        panel = prices.load(max(every, key=lambda each: count_needed_bars(each.settings)), report)
        cut = parts(sweep.span(panel, every), plan.folds)
        with folder(every[0].out, fresh=plan.fresh) as path:
            with start_workers(plan) as workers:
                swept = sweep.sweep(panel, every, cut, workers=workers, folder=path, progress=report)
            outcome = Outcome(
                metric=plan.metric,
                axes=axes,
                settings=settings,
                left_out=left_out,
                parts=cut,
                swept=swept,
                has_default=default is not None,
            )
            return outcome, html.write(outcome, path)


def start_workers(plan: SweepConfig) -> AbstractContextManager[executors.Workers]:
    """Start the workers."""
    return executors.dask(plan.scheduler) if plan.scheduler else executors.local(plan.workers)


if __name__ == "__main__":
    main()
