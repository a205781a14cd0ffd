"""Refresh the members of the S&P 500, those of today and those of each day since 1996, and show the changes.

Today's members are in function/trader/data/constituents.csv. Online source: the public-domain dataset at
https://github.com/datasets/s-and-p-500-companies, updated daily from Wikipedia. Offline source: the package
pytickersymbols (MIT), which is some months old. The members by day are in scripts/data/sp500_members.csv; their source
is in scripts.data.member_history. After its last day, they have the changes that a refresh sees in today's list. What
is implausible is refused.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import requests
from rich.table import Table

from scripts import ROOT, console
from scripts.console import CommandError
from scripts.data import member_history
from scripts.data import members as by_day
from scripts.data.member_history import RefusedError, UnavailableError
from scripts.data.members import SYMBOL, Members
from scripts.files import replace_file
from trader.model import NEW_YORK
from trader.schedule.base import present
from trader.settings import SettingsError

FILE = ROOT / "function/trader/data/constituents.csv"
URL = "https://raw.githubusercontent.com/datasets/s-and-p-500-companies/main/data/constituents.csv"
SOURCES = ("auto", "online", "offline")
TIMEOUT_S = 20
MIN_MEMBERS = 400
MAX_LOST_FRACTION = 0.05

RENAMED = (
    "A company that only changed its symbol joins today as another one. To keep its past, add it to RENAMES in "
    "scripts/data/member_history.py, and run this again."
)

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


@dataclass(frozen=True, slots=True)
class Member:
    """A company in the index; its symbol is in Alpaca's spelling, such as BRK.B."""

    symbol: str
    name: str
    sector: str


def online(url: str) -> list[Member]:
    """Fetch the members from the public dataset. Raises UnavailableError if there is no usable answer."""
    rows = csv.DictReader(io.StringIO(download(url)))
    wanted = ("Symbol", "Security", "GICS Sector")
    missing = [column for column in wanted if column not in (rows.fieldnames or ())]
    if missing:
        raise UnavailableError(f"{url} is not the dataset: it has no column {', '.join(missing)}")
    return [Member(*(str(row[column] or "").strip() for column in wanted)) for row in rows]


def download(url: str) -> str:
    """Return the text at an address. Raises UnavailableError."""
    try:
        answer = requests.get(url, timeout=TIMEOUT_S)
        answer.raise_for_status()
    except requests.HTTPError as error:
        raise UnavailableError(f"{url} answered {error.response.status_code}") from error
    except requests.RequestException as error:
        raise UnavailableError(f"{url} cannot be reached ({type(error).__name__})") from error
    return answer.content.decode("utf-8-sig", errors="replace")


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
    write_rows([("symbol", "name", "sector"), *((each.symbol, each.name, each.sector) for each in members)], path)


def write_rows(rows: Iterable[Sequence[str]], path: Path) -> None:
    """Replace a CSV file in one step."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """The members by day: where their file and their source are, and the file as it was and as it will be."""

    file: Path
    until: date | None  # the source's newest change; None if the source was not read
    before: Members
    after: Members

    @property
    def is_changed(self) -> bool:
        """True if the file has to be written."""
        return self.before.stays != self.after.stays

    def may_be_renamed(self, today: date) -> bool:
        """Check whether a symbol joins today and another leaves, which may be one company."""
        days = [stay for stay in self.after.stays if today in (stay.joined, stay.left)]
        return len({stay.left == today for stay in days}) > 1


def date_members(source: str, url: str, file: Path, symbols: Sequence[str], today: date) -> Dated:
    """Return the members by day, which on `today` are these symbols. Raises RefusedError or UnavailableError."""
    before = by_day.read(file)
    history = fetch_history(source, url)
    if not history and not before.stays:
        raise RefusedError(f"{file} is missing, and only the online source has the members of past days")
    after = member_history.update(before, history, symbols, today)
    member_history.check(after, before)
    return Dated(file=file, until=history[1] if history else None, before=before, after=after)


def fetch_history(source: str, url: str) -> tuple[Members, date] | None:
    """Return the past members and the day of their newest change; None if the source is not to be asked, or silent."""
    if source == "offline":
        return None
    try:
        stays, changes = (download(f"{url}/{name}") for name in (member_history.STAYS, member_history.CHANGES))
        return member_history.parse(stays, changes)
    except UnavailableError as error:
        if source == "online":
            raise
        console.note(f"The members of past days are left as they are: {error}")
        return None


def write_dated(dated: Dated) -> None:
    """Replace the file of the members by day in one step."""
    rows = (
        (each.symbol, each.joined.isoformat(), each.left.isoformat() if each.left else "") for each in dated.after.stays
    )
    write_rows([by_day.COLUMNS, *rows], dated.file)


def describe_dated(dated: Dated | None, *, is_written: bool) -> str:
    """Say what became of the members by day."""
    if dated is None:
        return "The members by day are left as they are: FILE is another list; set MEMBERS_FILE to refresh them too."
    past = f"the past online up to {dated.until}" if dated.until else "the past left as it is"
    stays, state = len(dated.after.stays), "written" if is_written else "unchanged"
    return f"Members by day: {stays:,} stays since {dated.after.first_day}, {past}; {dated.file} is {state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the lists come from, and the files for them; without `members_file` the members by day are left alone."""

    source: str
    url: str
    file: Path
    members_url: str
    members_file: Path | None


def refresh(places: Places, today: date, *, is_check: bool) -> None:
    """Fetch and check the members of today and by day, write them unless `is_check`, and show the changes."""
    source, fetched = fetch(places.source, places.url)
    listed = sorted(fetched, key=lambda member: member.symbol)
    before = load(places.file)
    check(listed, before)
    old, new = ({member.symbol for member in each} for each in (before, listed))
    added = [member for member in listed if member.symbol not in old]
    removed = [member for member in before if member.symbol not in new]
    dated = None
    if places.members_file:
        dated = date_members(places.source, places.members_url, places.members_file, sorted(new), today)
    is_written = listed != before and not is_check
    is_dated_written = bool(dated and dated.is_changed and not is_check)
    if is_written:
        write(listed, places.file)
    if dated and is_dated_written:
        write_dated(dated)
    if console.wants_json():
        changes = {"added": [asdict(each) for each in added], "removed": [asdict(each) for each in removed]}
        days = dated and {
            "stays": len(dated.after.stays),
            "source_until": dated.until.isoformat() if dated.until else None,
            "written": is_dated_written,
        }
        console.print_json({"source": source, "members": len(listed), "written": is_written, **changes, "by_day": days})
        return
    state = "written" if is_written else "unchanged"
    summary = f"{len(listed)} members ({source}): {len(added)} added, {len(removed)} removed; {places.file} is {state}"
    show({"added": added, "removed": removed} if before else {}, summary)
    console.OUT.print(describe_dated(dated, is_written=is_dated_written), soft_wrap=True)
    if dated and dated.may_be_renamed(today):
        console.note(RENAMED)


def main() -> None:
    """Bring the files up to date; with CHECK=1, only show what would change."""
    with console.plain_errors("interrupted; the lists are unchanged"):
        source = os.environ.get("SOURCE") or SOURCES[0]
        if source not in SOURCES:
            raise SettingsError([f"SOURCE={source!r}: must be one of {', '.join(SOURCES)}"])
        file, members_file = os.environ.get("FILE"), os.environ.get("MEMBERS_FILE")
        places = Places(
            source=source,
            url=os.environ.get("URL") or URL,
            file=Path(file or FILE),
            members_url=(os.environ.get("MEMBERS_URL") or member_history.URL).rstrip("/"),
            members_file=Path(members_file) if members_file else None if file else by_day.FILE,
        )
        try:
            refresh(places, present().astimezone(NEW_YORK).date(), is_check=console.flag("CHECK"))
        except (UnavailableError, RefusedError) as error:
            raise CommandError(f"The list of constituents is unchanged: {error}") from error
