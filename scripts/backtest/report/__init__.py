"""The report of a backtest: a page and the same figures as JSON in a folder, and a table in the terminal."""

import json
from dataclasses import dataclass
from pathlib import Path

from scripts.backtest.model import Result
from scripts.backtest.report.console import show
from scripts.backtest.report.html import page
from scripts.backtest.rhythm import by_day
from scripts.files import BACKTEST_FIGURES, BACKTEST_PAGE, write_text
from trader.model import Json

__all__ = ["Paths", "page", "show", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The paths of a written report."""

    page: Path
    json: Path


def write(figures: Json, result: Result, folder: Path) -> Paths:
    """Write backtest.json and backtest.html into `folder`, creating it if needed and replacing older files.

    `figures` are those of `result`. A file gets its name only once it is complete. Raises UnwritableError.
    """
    paths = Paths(page=folder / BACKTEST_PAGE, json=folder / BACKTEST_FIGURES)
    write_text(paths.json, json.dumps(figures, allow_nan=False, ensure_ascii=False, indent=1) + "\n")
    write_text(paths.page, page(figures, by_day(result)))
    return paths
