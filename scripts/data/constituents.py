"""Refresh function/trader/data/constituents.csv, the members of the S&P 500, and show the changes.

Online source: the public-domain dataset at https://github.com/datasets/s-and-p-500-companies, updated daily from
Wikipedia. Offline source: the package pytickersymbols (MIT), which is some months old. An implausible list is refused.
"""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
from rich.table import Table

from scripts import ROOT, console
from scripts.console import CommandError
from scripts.files import replace_file
from trader.settings import SettingsError

FILE = ROOT / "function/trader/data/constituents.csv"
URL = "https://raw.githubusercontent.com/datasets/s-and-p-500-companies/main/data/constituents.csv"
SOURCES = ("auto", "online", "offline")
TIMEOUT_S = 20
MIN_MEMBERS = 400
MAX_LOST_FRACTION = 0.05
SYMBOL = re.compile(r"[A-Z]{1,5}(\.[A-Z])?")

SECTORS = (
    "Health Care",
    "Utilities",
    "Real Estate",
    "Communication Services",
    "Consumer Discretionary",
    "Consumer Staples",
    "Financials",
    "Information Technology",
    "Materials",
    "Industrials",
    "Energy",
)
"""The GICS sectors. If pytickersymbols gives a company two of them, the one listed first here is right."""


class UnavailableError(Exception):
    """A source is unavailable; another one may work."""


class RefusedError(Exception):
    """The fetched list is implausible: the file stays unchanged."""


@dataclass(frozen=True, slots=True)
class Member:
    """A company in the index; its symbol is in Alpaca's spelling, such as BRK.B."""

    symbol: str
    name: str
    sector: str


def online(url: str) -> list[Member]:
    """Fetch the members from the public dataset. Raises UnavailableError if there is no usable answer."""
    try:
        answer = requests.get(url, timeout=TIMEOUT_S)
        answer.raise_for_status()
    except requests.HTTPError as error:
        raise UnavailableError(f"{url} answered {error.response.status_code}") from error
    except requests.RequestException as error:
        raise UnavailableError(f"{url} cannot be reached ({type(error).__name__})") from error
    rows = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig", errors="replace")))
    wanted = ("Symbol", "Security", "GICS Sector")
    missing = [column for column in wanted if column not in (rows.fieldnames or ())]
    if missing:
        raise UnavailableError(f"{url} is not the dataset: it has no column {', '.join(missing)}")
    return [Member(*(str(row[column] or "").strip() for column in wanted)) for row in rows]


def offline() -> list[Member]:
    """Return the members listed in pytickersymbols."""
    from pytickersymbols import PyTickerSymbols  # here because it takes a second

    stocks: Iterable[Mapping[str, object]] = PyTickerSymbols().get_stocks_by_index("S&P 500")
    return [Member(str(stock["symbol"]), str(stock["name"]), _sector(stock["industries"])) for stock in stocks]


def _sector(industries: object) -> str:
    named = industries if isinstance(industries, list) else []
    return next((sector for sector in SECTORS if sector in named), "")


def load(path: Path) -> list[Member]:
    """Read the members from the file; empty if there is no file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return [Member(row["symbol"], row["name"], row["sector"]) for row in csv.DictReader(lines)]


def check(members: Sequence[Member], before: Sequence[Member]) -> None:
    """Raise RefusedError if the new list is implausible."""
    odd = [member.symbol for member in members if not SYMBOL.fullmatch(member.symbol)]
    if odd:
        raise RefusedError(f"invalid symbols: {odd[:5]}; a symbol is up to five capital letters and a class such as .B")
    twice = [symbol for symbol, times in Counter(member.symbol for member in members).items() if times > 1]
    if twice:
        raise RefusedError(f"symbols listed more than once: {', '.join(twice[:5])}")
    if len(members) < MIN_MEMBERS:
        raise RefusedError(f"only {len(members)} members, fewer than the {MIN_MEMBERS} required")
    lost = {member.symbol for member in before} - {member.symbol for member in members}
    if len(lost) > MAX_LOST_FRACTION * len(before):
        raise RefusedError(
            f"{len(lost)} of {len(before)} members are gone, more than {MAX_LOST_FRACTION:.0%}: "
            f"{', '.join(sorted(lost)[:5])}, ...; if that is correct, delete the file first"
        )


def write(members: Sequence[Member], path: Path) -> None:
    """Replace the file in one step, so that no reader sees an incomplete one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("symbol", "name", "sector"))
    writer.writerows((member.symbol, member.name, member.sector) for member in members)
    with replace_file(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8", newline="")


def fetch(source: str, url: str) -> tuple[str, list[Member]]:
    """Return the name of the source that answered, and its members."""
    if source != "offline":
        try:
            return "online", online(url)
        except UnavailableError as error:
            if source == "online":
                raise
            console.note(f"Falling back to pytickersymbols, which may be older than the file: {error}")
    return "offline", offline()


def show(changes: Mapping[str, Sequence[Member]], summary: str) -> None:
    """Print the changes as a table, and the summary."""
    if any(changes.values()):
        table = Table("Change", "Symbol", "Name", "Sector", title="S&P 500")
        for change, members in changes.items():
            for member in members:
                table.add_row(change, member.symbol, member.name, member.sector)
        console.OUT.print(table)
    console.OUT.print(summary, soft_wrap=True)


def refresh(source: str, url: str, file: Path, *, is_check: bool) -> None:
    """Fetch and check the members, write them unless `is_check`, and show the changes."""
    source, fetched = fetch(source, url)
    members = sorted(fetched, key=lambda member: member.symbol)
    before = load(file)
    check(members, before)
    old, new = ({member.symbol for member in each} for each in (before, members))
    added = [member for member in members if member.symbol not in old]
    removed = [member for member in before if member.symbol not in new]
    is_written = members != before and not is_check
    if is_written:
        write(members, file)
    if console.wants_json():
        changes = {"added": [asdict(each) for each in added], "removed": [asdict(each) for each in removed]}
        console.print_json({"source": source, "members": len(members), "written": is_written} | changes)
        return
    state = "written" if is_written else "unchanged"
    summary = f"{len(members)} members ({source}): {len(added)} added, {len(removed)} removed; {file} is {state}"
    show({"added": added, "removed": removed} if before else {}, summary)


def main() -> None:
    """Bring the file up to date; with CHECK=1, only show what would change."""
    with console.plain_errors("interrupted; the list is unchanged"):
        source = os.environ.get("SOURCE") or SOURCES[0]
        if source not in SOURCES:
            raise SettingsError([f"SOURCE={source!r}: must be one of {', '.join(SOURCES)}"])
        url, file = os.environ.get("URL") or URL, Path(os.environ.get("FILE") or FILE)
        try:
            refresh(source, url, file, is_check=console.flag("CHECK"))
        except (UnavailableError, RefusedError) as error:
            raise CommandError(f"The list of constituents is unchanged: {error}") from error
