"""The past of the S&P 500, from https://github.com/fja05680/sp500 (MIT, copyright (c) 2019-2020 Farrell J. Aultman).

It has two files: the stays of every symbol since 1996, and the changes since 2019, which are often newer. Symbols in
them are those of the day, or of 2019 for stays that ended before. RENAMES turns them into those of today.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import chain, pairwise

from scripts.data.members import SYMBOL, Members, Stay, sort

URL = "https://raw.githubusercontent.com/fja05680/sp500/master"
STAYS, CHANGES = "sp500_ticker_start_end.csv", "sp500_changes_since_2019.csv"
MIN_MEMBERS, MAX_MEMBERS = 400, 600
MAX_LOST_FRACTION = 0.05

UNSURE = timedelta(days=45)
"""By how much the days of one rename differ in the source at most: its two files have a month between them once."""


class UnavailableError(Exception):
    """A source is unavailable; another one may work."""


class RefusedError(Exception):
    """What was fetched is implausible: the file stays unchanged."""


@dataclass(frozen=True, slots=True)
class Rename:
    """A company that goes by another symbol from a day on."""

    day: date
    old: str
    new: str


RENAMES = tuple(
    Rename(date.fromisoformat(day), old, new)
    for day, old, new in (
        ("2019-06-01", "HRS", "LHX"),
        ("2019-06-03", "DWDP", "DD"),
        ("2019-08-08", "TMK", "GL"),
        ("2019-10-18", "BHGE", "BKR"),
        ("2019-11-05", "HCP", "PEAK"),
        ("2019-11-05", "SYMC", "NLOK"),
        ("2019-12-05", "CBS", "VIAC"),
        ("2019-12-09", "BBT", "TFC"),
        ("2019-12-10", "JEC", "J"),
        ("2020-03-03", "IR", "TT"),
        ("2020-04-03", "UTX", "RTX"),
        ("2020-04-06", "ARNC", "HWM"),
        ("2020-09-18", "CTL", "LUMN"),
        ("2020-11-17", "MYL", "VTRS"),
        ("2021-08-03", "LB", "BBWI"),
        ("2021-10-04", "COG", "CTRA"),
        ("2022-01-20", "WLTW", "WTW"),
        ("2022-02-17", "VIAC", "PARA"),
        ("2022-04-11", "DISCA", "WBD"),
        ("2022-05-10", "BLL", "BALL"),
        ("2022-06-09", "FB", "META"),
        ("2022-06-28", "ANTM", "ELV"),
        ("2022-11-08", "NLOK", "GEN"),
        ("2023-05-16", "PKI", "RVTY"),
        ("2023-06-07", "FISV", "FI"),
        ("2023-06-10", "RE", "EG"),
        ("2023-08-30", "ABC", "COR"),
        ("2024-02-01", "CDAY", "DAY"),
        ("2024-03-04", "PEAK", "DOC"),
        ("2024-03-25", "FLT", "CPAY"),
        ("2025-08-08", "PARA", "PSKY"),
        ("2025-11-11", "FI", "FISV"),
        ("2026-01-14", "MMC", "MRSH"),
    )
)
"""The companies that changed their symbol while they were members, in order of the day.

In the source's changes, the old symbol leaves and the new one joins on that day; only the last is later than the
source. That both are one company shows in Wikipedia's list of members, of which the source keeps copies since 2019: the
number at the SEC is the same before and after, or the day on which the company joined is older than its symbol. IR is
two companies: the first has been TT since 2020, the second took over its symbol.
"""


@dataclass(frozen=True, slots=True)
class Correction:
    """A change that the source has on a wrong day."""

    wrong: date
    right: date
    symbols: frozenset[str]


CORRECTIONS = tuple(
    Correction(date.fromisoformat(wrong), date.fromisoformat(right), frozenset(symbols.split()))
    for wrong, right, symbols in (
        ("2023-10-18", "2023-12-18", "ALK BLDR JBL SEDG SEE UBER"),
        ("2025-04-24", "2025-03-24", "BWA CE DASH EXE FMC TFX TKO WSM"),
    )
)
"""The quarterly changes whose month is wrong in the source: S&P Dow Jones Indices announced them on 2023-12-01 and
2025-03-07, with the right days."""


def parse(stays: str, changes: str) -> tuple[Members, date]:
    """Return the source's members under today's symbols, and the day of its newest change.

    Raises UnavailableError if a text is something else, and RefusedError if it cannot be right.
    """
    found = [_parse_stay(row) for row in _rows(stays, STAYS, ("ticker", "start_date", "end_date"))]
    if not found:
        raise RefusedError(f"{STAYS} has no rows")
    later = [change for change in _parse_changes(changes) if change[0] > newest(found)]
    until = max([newest(found), *(day for day, _, _ in later)])
    return Members(rename(correct(apply(found, later)), until=until)), until


def newest(stays: Iterable[Stay]) -> date:
    """Return the day of the newest change."""
    return max(chain.from_iterable((stay.joined, stay.left or stay.joined) for stay in stays))


def _rows(text: str, name: str, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    rows = csv.DictReader(io.StringIO(text))
    if missing := [column for column in columns if column not in (rows.fieldnames or ())]:
        raise UnavailableError(f"{name} is not the source's file: it has no column {', '.join(missing)}")
    for row in rows:
        yield {column: (row[column] or "").strip() for column in columns}


def _parse_stay(row: Mapping[str, str]) -> Stay:
    left = _day(row["end_date"]) if row["end_date"] else None
    stay = Stay(_symbol(row["ticker"]), _day(row["start_date"]), left)
    if left and left <= stay.joined:
        raise RefusedError(f"{stay.symbol} leaves on {left}, before it joins")
    return stay


type Change = tuple[date, tuple[str, ...], tuple[str, ...]]
"""A day, the symbols that join on it, and those that leave."""


def _parse_changes(text: str) -> list[Change]:
    rows = _rows(text, CHANGES, ("date", "add", "remove"))
    return [(_day(row["date"]), _symbols(row["add"]), _symbols(row["remove"])) for row in rows]


def _symbols(text: str) -> tuple[str, ...]:
    return tuple(_symbol(each) for each in text.split(",") if each.strip())


def _symbol(text: str) -> str:
    """Return a symbol in Alpaca's spelling."""
    symbol = text.strip().replace("-", ".").replace("/", ".")
    if not SYMBOL.fullmatch(symbol):
        raise RefusedError(f"{text!r:.40} is no symbol")
    return symbol


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(f"{text!r:.40} is no day such as 2021-01-04") from error


def apply(stays: Iterable[Stay], changes: Iterable[Change]) -> tuple[Stay, ...]:
    """Return the stays after changes, which are in order; one that has already been made changes nothing."""
    found = list(stays)
    for day, added, removed in changes:
        current = {stay.symbol: stay for stay in found if stay.left is None}
        found = [replace(stay, left=day) if stay.left is None and stay.symbol in removed else stay for stay in found]
        found += [Stay(symbol, day) for symbol in added if symbol not in current]
    return sort(stay for stay in found if stay.joined != stay.left)


def correct(stays: Iterable[Stay], corrections: Iterable[Correction] = CORRECTIONS) -> tuple[Stay, ...]:
    """Return the stays with the right days in place of the wrong ones."""
    right = {(each.wrong, symbol): each.right for each in corrections for symbol in each.symbols}

    def find(day: date, symbol: str) -> date:
        return right.get((day, symbol), day)

    return tuple(
        Stay(stay.symbol, find(stay.joined, stay.symbol), find(stay.left, stay.symbol) if stay.left else None)
        for stay in stays
    )


def rename(stays: Iterable[Stay], renames: Iterable[Rename] = RENAMES, *, until: date) -> tuple[Stay, ...]:
    """Return the stays under the symbols of today.

    What an old symbol had before its rename is the company's. What it has after it belongs to another company, which
    took over the symbol, unless the rename is later than `until`, up to which the stays are known.
    """
    found = list(stays)
    for each in renames:
        found = [part for stay in found for part in _rename(stay, each, until)]
    return join(found)


def _rename(stay: Stay, rename: Rename, until: date) -> Iterator[Stay]:
    if stay.symbol != rename.old or stay.joined >= rename.day:
        yield stay
    elif (stay.left is None or stay.left > rename.day + UNSURE) and rename.day <= until:
        yield Stay(rename.new, stay.joined, rename.day)
        yield Stay(rename.old, rename.day, stay.left)
    else:
        yield replace(stay, symbol=rename.new)


def join(stays: Iterable[Stay]) -> tuple[Stay, ...]:
    """Return the stays in order, those of a symbol that follow each other without a day between them as one."""
    found: list[Stay] = []
    for stay in sort(stays):
        last = found[-1] if found else None
        if last and last.symbol == stay.symbol and (last.left is None or stay.joined <= last.left):
            ends = [last.left, stay.left]
            found[-1] = replace(last, left=None if None in ends else max(filter(None, ends)))
        else:
            found.append(stay)
    return tuple(found)


def update(known: Members, source: tuple[Members, date] | None, today: Iterable[str], day: date) -> Members:
    """Return the members up to `day`, on which they are those of today's list.

    The past is that of the source, if there is one; what is known of the days after it remains. A difference from
    today's list is a change of this day.
    """
    stays = known.stays
    if source:
        members, until = source
        stays = apply(members.stays, _changes_after(known, until))
    listed, current = set(today), {stay.symbol for stay in stays if stay.left is None}
    return Members(apply(stays, [(day, tuple(sorted(listed - current)), tuple(sorted(current - listed)))]))


def _changes_after(members: Members, until: date) -> list[Change]:
    days = {day for stay in members.stays for day in (stay.joined, stay.left) if day and day > until}
    return [
        (
            day,
            tuple(stay.symbol for stay in members.stays if stay.joined == day),
            tuple(stay.symbol for stay in members.stays if stay.left == day),
        )
        for day in sorted(days)
    ]


def check(members: Members, before: Members) -> None:
    """Raise RefusedError if the members cannot be right, or if many are lost that were known before."""
    for one, other in pairwise(members.stays):
        if one.symbol == other.symbol and (one.left is None or other.joined < one.left):
            raise RefusedError(f"{one.symbol} joins on {other.joined} although it is a member")
    last = newest(members.stays)
    for year in range(members.first_day.year + 1, last.year + 1):
        _check_count(members, date(year, 1, 1))
    _check_count(members, last)
    lost = {stay.symbol for stay in before.stays} - {stay.symbol for stay in members.stays}
    if len(lost) > MAX_LOST_FRACTION * len({stay.symbol for stay in before.stays}):
        raise RefusedError(
            f"{len(lost)} symbols that were members are gone, more than {MAX_LOST_FRACTION:.0%}: "
            f"{', '.join(sorted(lost)[:5])}, ...; if that is correct, delete the file first"
        )


def _check_count(members: Members, day: date) -> None:
    count = len(members.on(day))
    if not MIN_MEMBERS <= count <= MAX_MEMBERS:
        raise RefusedError(f"{count} members on {day}, not {MIN_MEMBERS} to {MAX_MEMBERS}")
