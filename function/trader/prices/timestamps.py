"""The times of bars, from the ways in which price files write them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from trader.model import NEW_YORK, YEARS

type Integers = NDArray[np.int64]

REMEDY = "write it as in 2022-12-28 or 2022-12-28T15:45:00-05:00"

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("jan", "january"),
            ("feb", "february"),
            ("mar", "march"),
            ("apr", "april"),
            ("may",),
            ("jun", "june"),
            ("jul", "july"),
            ("aug", "august"),
            ("sep", "sept", "september"),
            ("oct", "october"),
            ("nov", "november"),
            ("dec", "december"),
        ),
        start=1,
    )
    for name in names
}

UNITS_US = {10: 1_000_000, 13: 1_000, 16: 1, 19: 0.001}
"""The microseconds in a unit of Unix time, by the number of digits that a time of our days has in it."""

FIRST_DIGITS = 9
"""The fewest digits of a time in Unix seconds, except beside longer ones: 99,999,999 is in 1973."""


class Form(StrEnum):
    """The ways to write a time."""

    ISO = "year first"
    UNIX = "Unix time"
    NUMERIC = "day and month in figures"
    NAMED = "month by name"


class Order(StrEnum):
    """Which comes first in a date such as 12/28/2022."""

    DAY = "day/month/year"
    MONTH = "month/day/year"


_DATES: Mapping[Form, tuple[re.Pattern[str], ...]] = {
    Form.ISO: (
        re.compile(r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)", re.ASCII),
        re.compile(r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})", re.ASCII),
    ),
    Form.NUMERIC: (re.compile(r"(?P<first>\d{1,2})([-/.])(?P<second>\d{1,2})\2(?P<year>\d{4}|\d{2})(?!\d)", re.ASCII),),
    Form.NAMED: (
        re.compile(
            r"(?:[a-z]{3,9}\.?,?\s+)?(?P<name>[a-z]{3,9})\.?[\s-]+(?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,\s*|[\s-]+)"
            r"(?P<year>\d{4}|\d{2})(?!\d)",
            re.IGNORECASE | re.ASCII,
        ),
        re.compile(
            r"(?:[a-z]{3,9}\.?,?\s+)?(?P<day>\d{1,2})(?:st|nd|rd|th)?[\s/.-]+(?P<name>[a-z]{3,9})\.?(?:,\s*|[\s/.-]+)"
            r"(?P<year>\d{4}|\d{2})(?!\d)",
            re.IGNORECASE | re.ASCII,
        ),
        re.compile(r"(?P<year>\d{4})[\s/.-]+(?P<name>[a-z]{3,9})\.?[\s/.-]+(?P<day>\d{1,2})", re.IGNORECASE | re.ASCII),
    ),
}

_TIME = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<half>[ap]\.?m\.?(?![a-z]))?\s*(?P<zone>[a-z+-].*)?",
    re.IGNORECASE | re.ASCII,
)
_COMPACT_TIME = re.compile(r"(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)?", re.ASCII)
_OFFSET = re.compile(r"(?:GMT|UTC)?\s*([+-])(\d{1,2}):?(\d\d)?(?::\d\d)?\s*(?:\(.*\))?", re.IGNORECASE | re.ASCII)
_MIDNIGHT = re.compile(r"[T ]00:00(:00(\.0+)?)?\s*$")
_UNIX = re.compile(r"(-?\d{1,19})(\.0*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The times of distinct texts, in microseconds since 1970 in UTC.

    `starts_us` are the starts of bars: of a daily bar, midnight in New York of its date. `moments_us` are what is
    written, with its time of day. Both are 0 where `faults` has, by the place of the text, what is wrong and the
    remedy.
    """

    starts_us: Integers
    moments_us: Integers
    faults: Mapping[int, tuple[str, str]]
    notes: tuple[str, ...]
    has_offsets: bool  # the zone is written, or the times are Unix times


class OrderUnknownError(Exception):
    """Dates may be read in two ways; `places` are those of one such text, or of two that contradict each other."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__()
        self.places = tuple(places)


class _UnreadableError(Exception):
    """A text is not a time; the argument says what is wrong with it."""


def find_form(text: str) -> Form | None:
    """Return the way in which a time is written; None if the text is not one."""
    text = text.strip()
    if found := _UNIX.fullmatch(text):
        if _read_figures(text):
            return Form.ISO
        return Form.UNIX if len(found[1].lstrip("-")) >= FIRST_DIGITS else None
    for form, patterns in _DATES.items():
        if any((found := pattern.match(text)) and _rest_is_time(text[found.end() :]) for pattern in patterns):
            return form
    return None


def read_times(texts: Sequence[str], *, is_daily: bool, zone: tzinfo = NEW_YORK) -> Times:
    """Read the times of a file, given as distinct texts; `zone` is that of those without an offset.

    Raises OrderUnknownError if no text says whether the day or the month is first, or if two texts disagree.
    """
    stripped = [text.strip() for text in texts]
    form = _find_common_form(stripped)
    if form == Form.UNIX:
        return _read_unix(texts, stripped, is_daily=is_daily)
    order, proof = _find_order(stripped) if form == Form.NUMERIC else (None, "")
    starts_us, moments_us = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    faults: dict[int, tuple[str, str]] = {}
    midnights = _Midnights()
    has_offsets = False
    for place, text in enumerate(stripped):
        try:
            time = _read(text, form, order)
            if time.year not in YEARS:
                faults[place] = _out_of_years(texts[place])
                continue
            has_offsets |= time.tzinfo is not None
            moments_us[place] = _since_1970_us(time if time.tzinfo else time.replace(tzinfo=zone))
            starts_us[place] = midnights[time.date()] if is_daily else moments_us[place]
        except _UnreadableError as error:
            faults[place] = f"timestamp {texts[place]!r:.100} {error}", REMEDY
    notes = (f"dates such as {proof:.40} are read as {order}",) if order else ()
    return Times(starts_us=starts_us, moments_us=moments_us, faults=faults, notes=notes, has_offsets=has_offsets)


def join_times(dates: Sequence[str], clocks: Sequence[str]) -> list[str]:
    """Join the dates and the times of day of two columns.

    A time in figures may have lost its first zeros, and a date may be written as the midnight of its day.
    """
    days = [_MIDNIGHT.sub("", day) for day in dates]
    figures = [clock.strip() for clock in clocks if clock.strip().isdigit()]
    width = 6 if max(map(len, figures), default=0) > 4 else 4
    return [
        f"{day.strip()} {clock.strip().zfill(width) if clock.strip().isdigit() else clock.strip()}".strip()
        for day, clock in zip(days, clocks, strict=True)
    ]


def is_clock(text: str) -> bool:
    """Check whether a text is a time of day, such as 09:30, 9:30 AM or 093000."""
    return re.fullmatch(r"\d{1,6}", text.strip()) is not None or _TIME.fullmatch(text.strip()) is not None


class _Midnights(dict[date, int]):
    """The midnights in New York, in microseconds since 1970."""

    def __missing__(self, day: date) -> int:
        self[day] = since_us = _since_1970_us(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK))
        return since_us


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000


def _since_1970_us(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _find_common_form(texts: Sequence[str]) -> Form | None:
    """Return the form of most texts; of a long file the first thousand and the last are enough."""
    some = texts if len(texts) < 2_000 else [*texts[:1_000], *texts[-1_000:]]
    counts = Counter(filter(None, map(find_form, some)))
    return counts.most_common(1)[0][0] if counts else None


def _read(text: str, form: Form | None, order: Order | None) -> datetime:
    """Return a time, without a zone if it has no offset. Raises _UnreadableError."""
    if form in (Form.ISO, None):
        try:
            if time := _read_figures(text) if text.isdigit() else datetime.fromisoformat(text):
                return time
        except ValueError:
            pass
    if form is None:
        raise _UnreadableError("is not ISO 8601")
    its = find_form(text)
    if its != form:
        raise _UnreadableError("is not ISO 8601" if form == Form.ISO else f"is not written like the others, {form}")
    found = next(
        match for pattern in _DATES[form] if (match := pattern.match(text)) and _rest_is_time(text[match.end() :])
    )
    parts = found.groupdict()
    if len(parts["year"]) == 2:
        raise _UnreadableError("has a year of two digits, which may be of either century")
    if order:
        day, month = (parts["first"], parts["second"]) if order == Order.DAY else (parts["second"], parts["first"])
    else:
        day, month = parts["day"], parts.get("month") or str(MONTHS.get(parts["name"].lower(), 0))
    try:
        midnight = datetime(int(parts["year"]), int(month), int(day))  # noqa: DTZ001 - it may get a zone below
        return _add_time(midnight, text[found.end() :])
    except (ValueError, OverflowError) as error:
        raise _UnreadableError("is not a time that there is") from error


def _read_figures(text: str) -> datetime | None:
    """Return the time of 20221228, 202212281545 or 20221228154500; None if the text is none of these."""
    if not (text.isascii() and text.isdigit() and len(text) in (8, 12, 14)):
        return None
    try:
        return datetime.fromisoformat(f"{text[:8]}T{text[8:]}" if text[8:] else text)
    except ValueError:
        return None


def _rest_is_time(text: str) -> bool:
    rest = text.lstrip(" \tT,")
    return not rest or (rest != text and (_TIME.fullmatch(rest) or _COMPACT_TIME.fullmatch(rest)) is not None)


def _add_time(day: datetime, text: str) -> datetime:
    """Add a time of day and a zone to a date. Raises ValueError or _UnreadableError."""
    rest = text.lstrip(" \tT,")
    if not rest:
        return day
    found = _TIME.fullmatch(rest) or _COMPACT_TIME.fullmatch(rest)
    assert found
    parts = found.groupdict()
    hour = int(parts["hour"])
    if half := parts.get("half"):
        if not 1 <= hour <= 12:
            raise ValueError(text)
        hour = hour % 12 + (12 if half.lower().startswith("p") else 0)
    time = day.replace(
        hour=hour,
        minute=int(parts["minute"]),
        second=int(parts["second"] or 0),
        microsecond=int((parts.get("fraction") or "0").ljust(6, "0")[:6]),
    )
    return _set_zone(time, (parts.get("zone") or "").strip())


def _set_zone(time: datetime, name: str) -> datetime:
    """Return a time with the zone of this name. Raises _UnreadableError if New York does not use it at this time."""
    if not name:
        return time
    if name.upper() in {"Z", "UTC", "GMT"}:
        return time.replace(tzinfo=UTC)
    here = time.replace(tzinfo=NEW_YORK)
    if name.upper() in {"ET", "US/EASTERN", "AMERICA/NEW_YORK", here.tzname()}:
        return here
    offset = _OFFSET.fullmatch(name)
    if not offset:
        raise _UnreadableError(f"has the zone {name:.40}, which is not known, or not used on that day")
    sign, hours, minutes = offset.groups()
    delta = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return time.replace(tzinfo=timezone(-delta if sign == "-" else delta))


def _find_order(texts: Sequence[str]) -> tuple[Order, str]:
    """Return what comes first in dates such as 12/28/2022, and a date that proves it. Raises OrderUnknownError."""
    (pattern,) = _DATES[Form.NUMERIC]
    proofs: dict[Order, int] = {}
    places = []
    for place, text in enumerate(texts):
        if not (found := pattern.match(text)):
            continue
        places.append(place)
        if int(found["first"]) > 12:
            proofs.setdefault(Order.DAY, place)
        elif int(found["second"]) > 12:
            proofs.setdefault(Order.MONTH, place)
    if len(proofs) != 1:
        raise OrderUnknownError([*proofs.values()] or places[:1])
    ((order, place),) = proofs.items()
    return order, texts[place]


def _out_of_years(text: str) -> tuple[str, str]:
    return (
        f"timestamp {text!r:.100} is not in the years {YEARS[0]} to {YEARS[-1]}",
        "correct it, or remove the row",
    )


def _read_unix(texts: Sequence[str], stripped: Sequence[str], *, is_daily: bool) -> Times:
    """Read Unix times: seconds, milliseconds, microseconds or nanoseconds, by the most digits that one has."""
    digits = [found[1] if (found := _UNIX.fullmatch(text)) else None for text in stripped]
    most = max(len(each.lstrip("-")) for each in digits if each)
    unit_us = next((unit for length, unit in UNITS_US.items() if most <= length), 1)
    starts_us, moments_us = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    faults: dict[int, tuple[str, str]] = {}
    last_us = _since_1970_us(datetime(YEARS[-1], 12, 31, tzinfo=UTC))
    first_us = _since_1970_us(datetime(YEARS[0], 1, 2, tzinfo=UTC))
    for place, each in enumerate(digits):
        if each is None:
            faults[place] = f"timestamp {texts[place]!r:.100} is not written like the others, {Form.UNIX}", REMEDY
        elif not first_us <= int(each) * unit_us <= last_us:
            faults[place] = _out_of_years(texts[place])
        else:
            moments_us[place] = int(int(each) * unit_us) if unit_us >= 1 else int(each) // 1000
    read = np.array([place not in faults for place in range(len(texts))], np.bool_)
    starts_us[read] = _find_days(moments_us[read]) if is_daily else moments_us[read]
    return Times(starts_us=starts_us, moments_us=moments_us, faults=faults, notes=(), has_offsets=True)


def _find_days(moments_us: Integers) -> Integers:
    """Return midnight in New York of each moment's day: of its day in UTC if all are midnights there."""
    zone = NEW_YORK if (moments_us % _DAY_US).any() else UTC
    midnights = _Midnights()
    times = (_EPOCH + timedelta(microseconds=each) for each in moments_us.tolist())
    return np.array([midnights[time.astimezone(zone).date()] for time in times], np.int64)
