"""`make bench`: measure some cases, show each as a table with the machine's load, and keep each as JSON.

The exit code is 1 if a target is missed, and 3 if one could not be judged, because others used the machine or because
something is missing that the case needs.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts import console, files
from scripts.bench import cases, harness, kept, page
from scripts.bench.cases import Case
from scripts.bench.load import Watch
from scripts.console import CommandError
from trader.forecasting.map.kernel import cores
from trader.progress import Progress
from trader.settings import SettingsError

BUSY = "busy"
PAGES = ("1", BUSY)
"""The values of PAGE: what was measured on an idle machine, or all."""


def main() -> None:
    """Measure the chosen cases; show and keep each as soon as it is measured."""
    with harness.measuring() as progress:
        chosen = cases.choose(os.environ.get("CASES", ""))
        wants_page = read_page(os.environ.get("PAGE", ""))
        found = list(measure(chosen, Path(os.environ.get("OUT") or files.OUT), progress))
        if wants_page:
            page.take_over(found, also_busy=wants_page == BUSY)
    if console.wants_json():
        console.print_json(found)
    verdicts = {line["verdict"] for each in found for line in each["lines"]}
    is_incomplete = len(found) < len(chosen)
    code = harness.exit_code(verdicts)
    sys.exit(console.COULD_NOT if code == console.USABLE and is_incomplete else code)


def read_page(text: str) -> str:
    """Return PAGE: empty if the page is not to be made. Raises SettingsError for a word that it does not take."""
    if text not in {"", "0", *PAGES}:
        raise SettingsError([f"PAGE={text}: must be {' or '.join(PAGES)}"])
    return text.replace("0", "")


def measure(chosen: Sequence[Case], out: Path, progress: Progress) -> Iterator[dict[str, Any]]:
    """Yield each case's JSON; say why, and go on, if one cannot be measured."""
    for case in chosen:
        watch = Watch()
        try:
            lines = case.measure(progress)
        except CommandError as error:
            console.ERR.print(f"{case.name} was not measured: {error}", style="red", soft_wrap=True)
            continue
        load = watch.read()
        found = kept.to_json(case.name, lines, load)
        path = kept.keep(found, out)
        if not console.wants_json():
            console.OUT.print(harness.to_table(lines, f"{case.name}: {case.what}, {cores()} cores", during=load))
        console.note(f"{load.describe()}; kept in {path}")
        yield found
