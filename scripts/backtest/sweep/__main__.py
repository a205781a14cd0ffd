"""`make sweep GRID=...`: many settings over the past, and how those fare next that were best before.

GRID has settings by name with their values, such as "STOP_LOSS_FRACTION=0.02,0.03 HISTORY_BARS=120,250", or ranges
such as HISTORY_BARS=120..500 to draw SAMPLES=64 from (SEED=1), or is a file.json. The span is cut into FOLDS+1 parts (3
folds); what is best by METRIC (sharpe_ratio) on one part is judged by the next. It runs on WORKERS processes (one a
core), or on a Dask cluster with SCHEDULER=tcp://host:port. A sweep that was broken off is taken up again; FRESH=1
begins anew. All other variables are those of `make backtest`, and apply to all settings.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from scripts import terminal
from scripts.backtest import prices
from scripts.backtest.forecasts import asked_bars
from scripts.backtest.sweep import crew, grid, page, run, view
from scripts.backtest.sweep.folds import parts
from scripts.backtest.sweep.plan import Plan
from scripts.backtest.sweep.results import Outcome
from scripts.backtest.sweep.store import folder


def main() -> None:
    """Read the grid, compute what is missing, write the files, show the tables; the exit code is 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="make sweep", description=__doc__)
    parser.add_argument("--grid", default=os.environ.get("GRID", ""), help="settings with their values")
    parser.add_argument("--json", action="store_true", default=terminal.flag("JSON"), help="print the results as JSON")
    arguments = parser.parse_args()
    with terminal.plain_errors("interrupted before the sweep began; nothing is lost"):
        outcome, paths = sweep(Plan.from_env(os.environ, arguments.grid), os.environ)
        if arguments.json:
            files = {path.name: str(path) for path in paths}
            sys.stdout.write(json.dumps({**outcome.as_json(), "files": files}) + "\n")
        else:
            view.show(outcome, terminal.OUT)
            terminal.OUT.print(f" All figures: {paths[0]}    the picture: {paths[2]}", style="dim")
    sys.exit(terminal.FAILED if outcome.failed else terminal.USABLE)


def sweep(plan: Plan, env: Mapping[str, str]) -> tuple[Outcome, tuple[Path, ...]]:
    """The whole of it; gives the paths of the files, too."""
    axes = grid.read(plan.grid)
    settings, left_out = grid.settings(grid.combinations(axes, plan.samples, plan.seed), env)
    default = grid.default(env)
    every = [*(each.options for each in settings), *([default] if default else [])]
    with terminal.progress() as report:
        # Of the settings, the one that looks back furthest: Yahoo is asked for as much as is needed.
        panel = prices.load(max(every, key=lambda each: asked_bars(each.settings)), report)
        cut = parts(run.span(panel, every), plan.folds)
        with folder(every[0].out, fresh=plan.fresh) as path:
            with crew_of(plan) as workers:
                swept = run.sweep(panel, every, cut, crew=workers, folder=path, progress=report)
            outcome = Outcome(
                metric=plan.metric,
                axes=axes,
                settings=settings,
                left_out=left_out,
                parts=cut,
                swept=swept,
                has_default=default is not None,
            )
            return outcome, page.write(outcome, path)


def crew_of(plan: Plan) -> AbstractContextManager[crew.Crew]:
    """Those who do the work."""
    return crew.dask(plan.scheduler) if plan.scheduler else crew.local(plan.workers)


if __name__ == "__main__":
    main()
