"""Terminal output of a sweep: the chosen settings, their results, and the best settings."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scripts import console
from scripts.backtest.report import formatting
from scripts.sweep.grid import Values, in_words
from scripts.sweep.results import BEST, Outcome
from scripts.sweep.walk_forward import Figure, out_of_sample

MAX_LEFT_OUT = 5
"""Maximum number of contradictory combinations to list."""

KEY_FIGURES = {
    **{name: (label, words) for label, name, words, _ in formatting.KEY_FIGURES},
    **{name: (label, words) for label, name, words in formatting.BAR_FIGURES},
}
"""Label and formatter of each key figure."""

COLUMNS = ("in\nsample", "out of\nsample", "rank", "default", "median")
"""Columns of a fold; all but the first describe the part on which the setting is judged."""


def show(outcome: Outcome, out: Console) -> None:
    """Print the outcome; the text is plain when piped."""
    swept = outcome.swept
    before = f", {swept.taken_up:,} of them done before" if swept.taken_up else ""
    backtests = swept.computed + swept.taken_up
    out.print()
    out.print(
        Text(
            f" {len(outcome.settings):,} settings on {len(outcome.parts)} parts: {backtests:,} backtests{before}",
            "bold",
        )
    )
    for line in part_lines(outcome):
        out.print(Text(f" {line}", style="dim"))
    if criterion := describe_criterion(outcome):
        out.print(Padding(Text(criterion), (0, 1), expand=False))
    for line in left_out_lines(outcome):
        out.print(Text(f" {line}", style="yellow"), soft_wrap=True)
    out.print()
    out.print(_folds(outcome))
    out.print()
    out.print(_best(outcome))
    out.print()
    out.print(Padding(Text(" ".join(verdict_lines(outcome)), style="bold"), (0, 1), expand=False))
    out.print()
    out.print(Padding(Text(outcome.caution, style="yellow"), (0, 1), expand=False))
    for line in list_failures(outcome):
        out.print(Text(f" {line}", style="red"), soft_wrap=True)


def folds_rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Yield a row of text for each fold: its parts, the chosen setting, then COLUMNS. The last row has the means."""
    for fold in outcome.folds:
        yield (
            f"{fold.number} → {fold.number + 1}",
            "no setting has a figure" if fold.chosen is None else by_line(outcome.settings[fold.chosen].values),
            words(outcome.criterion, fold.in_sample),
            words(outcome.criterion, fold.out_of_sample),
            "" if fold.rank is None else f"{fold.rank} of {len(outcome.settings)}",
            words(outcome.criterion, fold.default),
            words(outcome.criterion, fold.median),
        )
    means = {
        name: _mean([getattr(fold, name) for fold in outcome.folds])
        for name in ("in_sample", "out_of_sample", "default", "median")
    }
    shown = {name: words(outcome.criterion, figure) for name, figure in means.items()}
    yield "mean", "", shown["in_sample"], shown["out_of_sample"], "", shown["default"], shown["median"]


def best_rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Yield a row for each of the best settings, then the default: rank, values, mean out of sample, each part."""
    figures = outcome.figures
    rows = [
        (str(place), by_line(outcome.settings[number].values), figures[number])
        for place, number in enumerate(outcome.ranking[:BEST], start=1)
    ]
    if outcome.default:
        rows.append(("", "default: without GRID", outcome.default))
    for place, values, row in rows:
        yield (
            place,
            values,
            words(outcome.criterion, out_of_sample(row)),
            *(words(outcome.criterion, each) for each in row),
        )


def verdict_lines(outcome: Outcome) -> list[str]:
    """Say whether choosing was luck, and what is left of the best setting among all that were tried."""
    return [outcome.overfitting.verdict, *([formatting.describe_best(outcome.luck)] if outcome.tried else [])]


def part_lines(outcome: Outcome) -> Iterator[str]:
    """Yield a line with the dates and the number of bars of each part."""
    for part in outcome.parts:
        yield f"part {part.number}: {part.start} to {part.end}, {len(part.times):,} bars"


def describe_criterion(outcome: Outcome) -> str:
    """Say what the settings are ranked by if that is not the chosen metric; otherwise empty."""
    if outcome.criterion == outcome.metric:
        return ""
    return (
        "Parts shorter than three months have no figures for a year, so settings are ranked by the "
        f"{_lower(label(outcome.criterion))} instead of the {_lower(label(outcome.metric))}."
    )


def _lower(text: str) -> str:
    """Return a label for use within a sentence; names stay capitalized."""
    return text if text.startswith(("Sharpe", "Sortino", "Calmar")) else text[0].lower() + text[1:]


def by_line(values: Values) -> str:
    """Format each value on its own line."""
    return "\n".join(f"{name}={value}" for name, value in values.items())


def left_out_lines(outcome: Outcome) -> Iterator[str]:
    """Yield a line for each combination that was left out, with the reason."""
    for each in outcome.left_out[:MAX_LEFT_OUT]:
        yield f"left out: {in_words(each.values)}: {'; '.join(each.problems)}"
    if len(outcome.left_out) > MAX_LEFT_OUT:
        yield f"left out: {len(outcome.left_out) - MAX_LEFT_OUT:,} more that contradict themselves (JSON=1 lists all)"


def list_failures(outcome: Outcome) -> Iterator[str]:
    """Yield a line for each backtest without figures, with the reason."""
    for values, part, why in outcome.failed:
        name = "the default" if values is None else in_words(values)
        yield f"failed: {name} on part {part.number} ({part.start} to {part.end}): {why}; the next sweep retries it"


def words(metric: str, figure: Figure) -> str:
    """Format a figure in its unit; a dash if there is none."""
    return KEY_FIGURES[metric][1](figure)


def label(metric: str) -> str:
    """Return the label of a figure."""
    return KEY_FIGURES[metric][0]


def _folds(outcome: Outcome) -> Table:
    table = _table(f"{label(outcome.criterion)}: chosen on one part, judged on the next")
    table.add_column("part", no_wrap=True)
    table.add_column("setting", overflow="fold")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    *folds, mean = folds_rows(outcome)
    for row in folds:
        table.add_row(*row)
    table.add_section()
    table.add_row(*mean, style="bold")
    return table


def _best(outcome: Outcome) -> Table:
    table = _table(f"the best settings by mean out of sample, over parts 2 to {len(outcome.parts)}")
    table.add_column("", justify="right")
    table.add_column("setting", overflow="fold")
    table.add_column("mean", justify="right", style="bold")
    for part in outcome.parts:
        table.add_column(f"part {part.number}", justify="right")
    for row in best_rows(outcome):
        table.add_row(*row)
    return table


def _table(title: str) -> Table:
    return console.table(title=f" {title}", padding=(0, 0, 0, 1))


def _mean(figures: Sequence[Figure]) -> Figure:
    known = [figure for figure in figures if figure is not None]
    return fmean(known) if len(known) == len(figures) else None
