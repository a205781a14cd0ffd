"""The names of what commands write into the folder for results, and files that are written completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.console import UnwritableError

OUT = Path("out")
"""The folder for results. `make clean` removes from it what is named here, and nothing that is not."""

RUN_LOG, RUN_PAGE = "run.log", "run.html"
BACKTEST_FIGURES, BACKTEST_PAGE = "backtest.json", "backtest.html"
SITE = "site"
MADE_BARS = "made_bars.csv"
REMOVED = (RUN_LOG, RUN_PAGE, BACKTEST_FIGURES, BACKTEST_PAGE, SITE, MADE_BARS)
"""What is made again in little time."""

CACHE, SWEEP, LEDGER = "cache", "sweep", "ledger.jsonl"
"""What took hours, or cannot be made again."""


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to `path`; it replaces `path` on success and is removed otherwise. Raises OSError."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):  # the error that stopped the write may also stop this, and it is already reported
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file into the folder OUT, replacing any existing one. Raises UnwritableError."""
    with writing(path), replace_file(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError on a file of the folder OUT into an UnwritableError, which names the file and the cause."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"{path} cannot be written: {error.strerror or error}; "
            "free some disk space, or choose another folder with OUT=; files already written are kept"
        ) from error
