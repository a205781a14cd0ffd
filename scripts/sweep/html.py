"""The files of a sweep: its figures as CSV, the heat map, and a page with the heat map and the tables."""

from pathlib import Path

from scripts.backtest.model import Options
from scripts.files import write_text
from scripts.report.templating import environment
from scripts.sweep import console, heatmap
from scripts.sweep.grid import NO_EFFECT
from scripts.sweep.results import Outcome

TEMPLATES = Path(__file__).with_name("templates")


def write(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Write results.csv, sweep.svg and sweep.html, and return their paths. Raises UnwritableError."""
    drawn = heatmap.draw(outcome)
    page = (
        environment(TEMPLATES)
        .get_template("sweep.html.j2")
        .render(
            outcome=outcome,
            part_lines=list(console.part_lines(outcome)),
            columns=console.COLUMNS,
            folds=list(console.folds_rows(outcome)),
            best=list(console.best_rows(outcome)),
            left_out=list(console.left_out_lines(outcome)),
            failed=list(console.list_failures(outcome)),
            picture=drawn,
            label=console.label(outcome.criterion),
            verdict=console.verdict_lines(outcome),
            ranked_by=console.describe_criterion(outcome),
            same=same_for_all(outcome),
        )
    )
    paths = tuple(folder / name for name in ("results.csv", "sweep.svg", "sweep.html"))
    outcome.write_csv(paths[0])
    for path, text in zip(paths[1:], (drawn.file, page), strict=True):
        write_text(path, text)
    return paths


def same_for_all(outcome: Outcome) -> list[tuple[str, str]]:
    """Return the options that are the same for all settings, by name."""
    every = [_show(each.options) for each in outcome.settings]
    same = [(name, text) for name, text in every[0].items() if all(each[name] == text for each in every)]
    return [(name, text) for name, text in same if name not in {*outcome.axes, *NO_EFFECT} and text]


def _show(options: Options) -> dict[str, str]:
    own = {
        "CASH": options.cash_usd,
        "COMMISSION": options.commission_fraction,
        "SLIPPAGE": options.slippage_fraction,
        "REFIT_EVERY": options.refit_every_bars,
    }
    public = {name.upper(): value for name, value in options.settings.public().items()}
    both = {**own, **public}
    return {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in both.items()}
