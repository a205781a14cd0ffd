"""The report of a backtest: a page and the same figures as JSON in a folder, and a table on the terminal."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.backtest.model import Result
from scripts.backtest.report.console import show
from scripts.backtest.report.html import page
from scripts.console import UnwritableError
from scripts.report.formatting import Json

__all__ = ["Paths", "show", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where a report was written."""

    page: Path
    json: Path


def write(figures: Json, result: Result, folder: Path) -> Paths:
    """Write backtest.json and backtest.html into `folder`, which is made if need be; older ones are replaced.

    `figures` are those of `result`. A file stands under its name only when it is whole. Raises UnwritableError.
    """
    paths = Paths(page=folder / "backtest.html", json=folder / "backtest.json")
    _write(paths.json, json.dumps(figures, allow_nan=False, ensure_ascii=False, indent=1) + "\n")
    _write(paths.page, page(figures, result))
    return paths


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnwritableError(f"{path} cannot be written: {reason}; name a folder that can with OUT=") from error
    finally:
        with suppress(OSError):  # what is wrong with the folder has been said
            partial.unlink(missing_ok=True)
