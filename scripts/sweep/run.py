"""`make sweep GRID=...`: backtest many settings, and judge the best setting of each part of the span on the next part.

GRID lists settings with their values, such as "STOP_LOSS_FRACTION=0.02,0.03 HISTORY_BARS=120,250", or is the path of a
.json file. It can have ranges such as HISTORY_BARS=120..500, from which SAMPLES=64 draws settings at random (SEED=1).
The span is cut into FOLDS+1 parts (3 folds by default). The best setting by METRIC (sharpe_ratio) on one part is judged
on the next. Nothing is annualized if a part is shorter than three months: settings are then ranked by the Sharpe ratio
per bar instead of the Sharpe ratio, and likewise for the other yearly figures. The sweep runs on WORKERS processes (one
per core), or on a Dask cluster with SCHEDULER=tls://host:port. An interrupted sweep resumes where it stopped; FRESH=1
starts over. All other variables are those of `make backtest` and apply to all settings.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from scripts import console
from scripts.backtest import ledger, prices
from scripts.backtest.forecasts import count_needed_bars
from scripts.sweep import executors, grid, html, sweep
from scripts.sweep.config import SweepConfig
from scripts.sweep.console import show
from scripts.sweep.results import Outcome
from scripts.sweep.store import folder
from scripts.sweep.walk_forward import parts


def main() -> None:
    """Run the sweep, write its files and print its tables. Exit with code 1 if a backtest failed."""
    with console.plain_errors("interrupted before the sweep began; nothing is lost"):
        outcome, paths = run_sweep(SweepConfig.from_env(os.environ, os.environ.get("GRID", "")), os.environ)
        if console.wants_json():
            files = {path.name: str(path) for path in paths}
            console.print_json({**outcome.as_json(), "files": files})
        else:
            show(outcome, console.OUT)
            console.OUT.print(f" All figures: {paths[0]}    tables and heat map: {paths[2]}", style="dim")
    sys.exit(console.FAILED if outcome.failed else console.USABLE)


def run_sweep(plan: SweepConfig, env: Mapping[str, str]) -> tuple[Outcome, tuple[Path, ...]]:
    """Run the sweep; return its outcome and the paths of its files."""
    axes = grid.read(plan.grid)
    settings, left_out = grid.settings(grid.combinations(axes, plan.samples, plan.seed), env)
    default = grid.default(env)
    every = [*(each.options for each in settings), *([default] if default else [])]
    with console.progress() as report:
        # The setting that needs the most history determines how many bars are requested from Yahoo.
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
            trials = ledger.Trials(
                symbols=list(map(str, panel.close.columns)),
                start=cut[0].start,
                end=cut[-1].end,
                sharpe_by_setting=outcome.sharpes,
            )
            outcome = replace(outcome, tried=ledger.record(every[0].out, trials))
            return outcome, html.write(outcome, path)


def start_workers(plan: SweepConfig) -> AbstractContextManager[executors.Workers]:
    """Return a context manager that starts the workers: local processes, or those of a Dask cluster."""
    return executors.dask(plan.scheduler) if plan.scheduler else executors.local(plan.workers)
