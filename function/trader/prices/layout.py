"""What the columns of a price file are, found out from its header and, where that has two readings, from its rows."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path

from trader.model import NEW_YORK
from trader.prices.column_names import (
    ADJUSTED,
    ADJUSTED_VOLUME,
    BARS,
    MAYBE_SYMBOLS,
    SYMBOLS,
    TIMES,
    UNCLEAR,
    VOLUME,
    VOLUMES,
    find_bar,
    find_volume,
    is_clear,
    name_column,
)
from trader.prices.faults import PriceFileError, fault, name_some
from trader.prices.price_numbers import Mark, is_number, read_number
from trader.prices.rows import HeadRow
from trader.prices.series import MAX_PRICE_USD
from trader.prices.spelling import note_renamed, spell
from trader.prices.timestamps import Form, find_form, is_clock

SAY = {ADJUSTED: "adjusted close"}

ALLOWED = (
    "an OHLC file has the columns timestamp (or date), symbol, open, high, low and close; "
    "a file of closes has a column for each symbol, such as timestamp,AAPL,MSFT"
)

_VOLUMES = (VOLUME, ADJUSTED_VOLUME)

LETTERS = {"o": "open", "h": "high", "l": "low", "c": "close"}

MAX_OFF_FRACTION, MAX_OFF_ROWS_FRACTION = 0.01, 0.1
"""Rows contradict that columns are one symbol's bars if more than a tenth of them are off by more than a percent."""

type Places = Mapping[str, int]
"""The positions of columns, by what they are: open, high, low, close, adjusted; and a volume, if it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the columns of a file are; positions count from 0.

    `prices` has the price columns of each symbol; if there is a column of symbols, those of every row, under "".
    """

    header: HeadRow  # its last row, if it has several
    names: Sequence[str]  # of all columns, as written
    times: tuple[int, ...]  # one column, or a date and a time of day
    zone: tzinfo  # of times without an offset
    symbol: int | None
    prices: Mapping[str, Places]
    is_wide: bool  # a column of closes for each symbol
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> list[int]:
        """The positions of all price columns, and of those of volumes that were asked for."""
        return [place for places in self.prices.values() for place in places.values()]

    @property
    def volume_places(self) -> frozenset[int]:
        """The positions of the columns of volumes."""
        return frozenset(place for places in self.prices.values() for what, place in places.items() if what in _VOLUMES)

    @property
    def has_ohlc(self) -> bool:
        """True if there are open, high and low prices."""
        return all("open" in places for places in self.prices.values())

    @property
    def adjusted(self) -> str | None:
        """The name of the column of adjusted closes, None if there is none."""
        return next((self.names[places[ADJUSTED]] for places in self.prices.values() if ADJUSTED in places), None)

    def describe(self, place: int) -> str:
        """Name a price column: the close, or the price of AAPL."""
        symbol, price = next(
            (symbol, price) for symbol, places in self.prices.items() for price, at in places.items() if at == place
        )
        name = "price" if self.is_wide else "adjusted close" if price == ADJUSTED else price
        return f"the {name} of {symbol:.50}" if symbol else f"the {name}"


def find_layout(path: Path, head: Sequence[HeadRow], universe: Sequence[str], *, reads_volume: bool = False) -> Layout:
    """Find out what the columns of a file are. `universe` is the setting UNIVERSE.

    With `reads_volume`, a column of volumes beside open, high and low is one of those that are read.

    Raises PriceFileError if the header is not understood, or if it has two readings that give different prices.
    """
    wanted = ("sp500",) if tuple(universe) == ("sp500",) else tuple(map(spell, universe))
    header = _Header(path=path, head=head, universe=wanted, reads_volume=reads_volume)
    _require_names(header)
    if levels := _find_levels(header):
        return levels
    times = _find_times(header)
    symbol = _find_symbol_column(header, times)
    rest = [place for place in range(len(header.fields)) if place not in {*times, symbol}]
    if symbol is not None:
        return _read_bars(header, times, rest, symbol=symbol)
    if any(header.is_clear_price(place) for place in rest):
        _require_no_clash(header, rest)
        return _read_bars(header, times, rest)
    if split := _split_names(header, rest):
        return _make_layout(header, times, *split)
    if _are_bars(header, rest):
        return _read_bars(header, times, rest)
    return _read_wide(header, times, rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The header of a file, with what helps to understand it."""

    path: Path
    head: Sequence[HeadRow]
    universe: Sequence[str]  # in Alpaca's spelling
    reads_volume: bool = False
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", list(map(name_column, self.fields)))

    @property
    def fields(self) -> list[str]:
        return self.head[0].fields

    @property
    def is_of_one_symbol(self) -> bool:
        """True if UNIVERSE names exactly one symbol."""
        return len(self.universe) == 1 and tuple(self.universe) != ("sp500",)

    def fault(self, what: str, remedy: str) -> PriceFileError:
        """Return an error that names the header's line."""
        return fault(self.path, self.head[0].line, what, remedy)

    def is_clear_price(self, place: int) -> bool:
        """Check whether a column's name is a price's or a volume's, and no symbol's."""
        return is_clear(self.names[place])

    def column(self, place: int) -> Iterator[str]:
        """Yield the fields of a column in the first rows."""
        width = len(self.fields)
        return (row.fields[place] for row in self.head[1:] if len(row.fields) == width)

    def find_bars(self, rest: Sequence[int]) -> dict[str, list[int]]:
        """Return the positions of open, high, low, close and adjusted close; letters only if no word is a close."""
        for letters in ({}, LETTERS):
            found: dict[str, list[int]] = {}
            for place in rest:
                if bar := find_bar(self.names[place]) or letters.get(self.names[place]):
                    found.setdefault(bar, []).append(place)
            if "close" in found or ADJUSTED in found:
                break
        return found

    def name_volume(self, name: str) -> str | None:
        """Return what volume a column has, by its name, if it is asked for."""
        return find_volume(name) if self.reads_volume else None

    def find_volumes(self, rest: Sequence[int]) -> dict[str, list[int]]:
        """Return the positions of volumes, if they are asked for; the letter only if no word is one."""
        if not self.reads_volume:
            return {}
        found: dict[str, list[int]] = {}
        for place in rest:
            if volume := self.name_volume(self.names[place]):
                found.setdefault(volume, []).append(place)
        letters = [place for place in rest if self.names[place] == "v"]
        return found or ({VOLUME: letters} if letters else {})


def _require_names(header: _Header) -> None:
    """Raise PriceFileError if the first row is data."""
    for place, text in enumerate(header.fields):
        is_time = find_form(text) in (set(Form) if place == 0 else {Form.NUMERIC, Form.NAMED}) or (
            re.fullmatch(r"\s*\d{4}-\d\d-\d\d.*", text) is not None
        )
        if is_time or re.fullmatch(r"\s*\$?\d+[.,]\d+\s*", text):
            what = f"the file has no header: {text.strip()!r:.50} is {'a time' if is_time else 'a number'}, not a name"
            remedy = "write a header above the data, such as timestamp,AAPL,MSFT or date,symbol,open,high,low,close"
            raise header.fault(what, remedy)


# --- columns of times and of symbols --------------------------------------------------------------------------------


def _find_times(header: _Header) -> tuple[int, ...]:
    """Return the column of times, or those of the date and of the time of day."""
    places = [place for place, name in enumerate(header.names) if name in TIMES]
    if not places:
        is_other = header.names[0] in SYMBOLS or header.is_clear_price(0)
        if is_other and not _are_times(header, 0):
            raise header.fault("the header has no timestamp column", ALLOWED)
        return (0,)
    if len(places) == 1:
        return (places[0],)
    clocks = [place for place in places if header.names[place] == "time" and all(map(is_clock, header.column(place)))]
    days = [place for place in places if place not in clocks]
    if len(clocks) == len(days) == 1:
        return (days[0], clocks[0])
    twice = " and ".join(header.fields[place].strip() for place in places)
    raise header.fault(f"two columns for the timestamp, {twice}", "remove one of them")


def _are_times(header: _Header, place: int) -> bool:
    return any(map(find_form, header.column(place)))


def _find_symbol_column(header: _Header, times: Sequence[int]) -> int | None:
    places = [place for place, name in enumerate(header.names) if name in SYMBOLS and place not in times]
    if not places:
        places = [
            place
            for place, name in enumerate(header.names)
            if name in MAYBE_SYMBOLS and place not in times and not any(map(is_number, header.column(place)))
        ]
    if len(places) > 1:
        twice = " and ".join(header.fields[place].strip() for place in places)
        raise header.fault(f"two columns for the symbol, {twice}", "remove one of them")
    return places[0] if places else None


def _find_zone(header: _Header, times: Sequence[int]) -> tzinfo:
    """Return the zone that the name of the column of times says."""
    return UTC if any(re.search("utc|gmt", header.names[place]) for place in times) else NEW_YORK


def _is_numbering(header: _Header, place: int) -> bool:
    """Check whether a column is the numbering that pandas and R write before the others."""
    is_nameless = header.names[place] in {"", "index"} or header.names[place].startswith("unnamed")
    return is_nameless and all(text.strip().isdigit() for text in header.column(place))


# --- layouts --------------------------------------------------------------------------------------------------------


def _read_bars(header: _Header, times: tuple[int, ...], rest: Sequence[int], *, symbol: int | None = None) -> Layout:
    """Return the layout of a file of one symbol, or with a column of symbols."""
    found = header.find_bars(rest)
    if symbol is None and not header.is_of_one_symbol:
        _complete(header, found)
        named = "is sp500" if tuple(header.universe) == ("sp500",) else f"has {len(header.universe)} symbols"
        remedy = "add a symbol column, or name the file's one symbol, as in UNIVERSE=AAPL"
        raise header.fault(f"the header has no symbol column, but UNIVERSE {named}", remedy)
    places = _complete(header, found | header.find_volumes(rest))
    unread = [place for place in rest if place not in places.values()]
    prices = {"" if symbol is not None else header.universe[0]: places}
    return _make_layout(header, times, prices, unread, symbol=symbol)


def _complete(header: _Header, found: Mapping[str, Sequence[int]], symbol: str = "") -> dict[str, int]:
    """Return the position of each price. Raises PriceFileError if one is missing, or is there twice."""
    of = f" of {symbol:.50}" if symbol else ""
    for bar, places in found.items():
        if len(places) > 1:
            twice = " and ".join(header.fields[place].strip() for place in places)
            raise header.fault(f"two columns for the {SAY.get(bar, bar)}{of}, {twice}", "remove one of them")
    has_some = bool(found.keys() & {"open", "high", "low"})
    needed = BARS if has_some else ("close",)
    lacking = [bar for bar in needed if bar not in found and not (bar == "close" and ADJUSTED in found)]
    if lacking:
        raise header.fault(f"the header has no {' or '.join(lacking)} column{of}", ALLOWED)
    places_of = {bar: where[0] for bar, where in found.items()}
    if "close" not in places_of:
        return {ADJUSTED: places_of[ADJUSTED]}  # the other prices are not adjusted
    volume = _choose_volume(places_of)
    return {bar: place for bar, place in places_of.items() if bar not in _VOLUMES or bar == volume}


def _choose_volume(places: Places) -> str | None:
    """Return the volume that goes with the prices: the adjusted one if they are adjusted by a column.

    None if there is none, or no open, high and low that it could go with.
    """
    in_order = (ADJUSTED_VOLUME, VOLUME) if ADJUSTED in places else _VOLUMES
    return next((each for each in in_order if each in places), None) if "open" in places else None


def _read_wide(header: _Header, times: tuple[int, ...], rest: Sequence[int]) -> Layout:
    """Return the layout of a file with a column of closes for each symbol."""
    skipped = [place for place in rest if place < times[0] and _is_numbering(header, place)]
    places = [place for place in rest if place not in skipped]
    if not places:
        raise header.fault("the header has no symbols", "write it with commas, such as timestamp,AAPL,MSFT")
    for place in places:
        text = header.fields[place].strip()
        if not text or not text.isprintable():
            raise header.fault(f"column {place + 1} has no symbol", "add one, or remove the column")
    symbols = [spell(header.fields[place]) for place in places]
    symbol, count = Counter(symbols).most_common(1)[0]
    if count > 1:
        texts = list(
            dict.fromkeys(header.fields[place].strip() for place in places if spell(header.fields[place]) == symbol)
        )
        if len(texts) > 1:
            raise header.fault(f"columns {name_some(texts)} are all {symbol:.50}", "keep one of them")
        raise header.fault(f"column {texts[0]:.50} occurs {count} times", "keep one of them")
    prices = {symbol: {"close": place} for symbol, place in zip(symbols, places, strict=True)}
    renamed = note_renamed((header.fields[place], spell(header.fields[place])) for place in places)
    return _make_layout(header, times, prices, skipped, is_wide=True, renamed=renamed)


def _split_names(header: _Header, rest: Sequence[int]) -> tuple[dict[str, dict[str, int]], list[int]] | None:
    """Return the columns of names that have a symbol and a price in them, such as AAPL.Close, and the others.

    Return None if they are not all of this kind.
    """
    unread = [place for place in rest if _is_numbering(header, place)]
    for is_price_first in (True, False):
        found: dict[str, dict[str, list[int]]] = {}
        for place in rest:
            if place in unread:
                continue
            parts = _split_name(header.fields[place], is_price_first=is_price_first)
            if not parts:
                break
            price, symbol = parts
            what = find_bar(price) or header.name_volume(price) or ""
            found.setdefault(symbol, {}).setdefault(what, []).append(place)
        else:
            extra = [place for bars in found.values() for place in bars.pop("", [])]
            if any(bars.keys() & {"close", ADJUSTED} for bars in found.values()):  # LOW.US is Lowe's
                prices = {symbol: _complete(header, bars, symbol) for symbol, bars in found.items()}
                return prices, [*unread, *extra]
    return None


def _split_name(text: str, *, is_price_first: bool) -> tuple[str, str] | None:
    """Return the name of a price and the symbol that a column's name consists of; None if it does not."""
    pair = re.fullmatch(r"\(\s*['\"](.+)['\"]\s*,\s*['\"](.+)['\"]\s*\)", text.strip())
    parts = (
        [pair.groups()]
        if pair
        else [(text[: at.start()], text[at.end() :]) for at in re.finditer(r"[\s_.:/|-]+", text.strip())]
    )
    if is_price_first:
        parts = [*reversed(parts)]  # Adj Close AAPL: the longer name
    for left, right in parts:
        price, symbol = (left, right) if is_price_first else (right, left)
        name = name_column(price)
        if symbol.strip() and (find_bar(name) or name in VOLUMES) and not is_clear(name_column(symbol)):
            return name, spell(symbol)
    return None


def _make_layout(
    header: _Header,
    times: tuple[int, ...],
    prices: Mapping[str, Places],
    unread: Sequence[int],
    *,
    symbol: int | None = None,
    is_wide: bool = False,
    last: HeadRow | None = None,
    names: Sequence[str] = (),
    renamed: tuple[str, ...] = (),
) -> Layout:
    notes = [*renamed]
    numbering = [place for place in unread if _is_numbering(header, place)]
    if numbering:
        notes.append("the numbering of the rows is not read")
    if others := [place for place in unread if place not in numbering]:
        unnamed = ((names or header.fields)[place].strip() or f"column {place + 1}" for place in others)
        notes.append(f"columns that are not read: {name_some(dict.fromkeys(unnamed))}")
    for places in prices.values():
        close = places.get("close", places.get(ADJUSTED))
        if not is_wide and last is None and close is not None and header.names[close] != "close":
            name = header.fields[close].strip()
            is_only_adjusted = "close" not in places
            why = "; there is no raw close, so the last price may not be what is paid" if is_only_adjusted else ""
            notes.append(f"{name:.50} is read as the close{why}")
            break
    return Layout(
        header=last or header.head[0],
        names=names or [text.strip() for text in header.fields],
        times=times,
        zone=_find_zone(header, times),
        symbol=symbol,
        prices=prices,
        is_wide=is_wide,
        notes=tuple(notes),
    )


# --- two or three header lines, as by yf.download(...).to_csv() ------------------------------------------------------


def _find_levels(header: _Header) -> Layout | None:
    """Return the layout of a file whose header has a line of prices and a line of symbols, in either order."""
    if len(header.head) < 3 or _is_data(header.head[1].fields) or not _is_as_wide(header, 1):
        return None
    upper, lower = (_clear(header.head[level].fields) for level in range(2))
    for place in range(2, len(upper)):  # Excel writes a name once over the columns that share it
        if not upper[place] and lower[place] and lower[place - 1]:
            upper[place] = upper[place - 1]
    of_prices = [any(is_clear(name_column(text)) for text in level[1:]) for level in (upper, lower)]
    if of_prices[0] == of_prices[1]:
        return None
    prices, symbols = (upper, lower) if of_prices[0] else (lower, upper)
    labels = [place for place in range(len(upper)) if place == 0 or not (upper[place] and lower[place])]
    count = 2
    if not _is_data(header.head[2].fields) and _is_as_wide(header, 2):
        named = [place for place, text in enumerate(header.head[2].fields) if text.strip()]
        count += set(named) <= set(labels)
    last = header.head[count - 1]
    rows = header.head[:count]
    times = [place for place in labels if any(name_column(row.fields[place]) in TIMES for row in rows)]
    if len(times) > 1:
        raise header.fault(f"two columns for the timestamp, {times[0] + 1} and {times[1] + 1}", "remove one of them")
    found: dict[str, dict[str, list[int]]] = {}
    volumes: dict[str, dict[str, list[int]]] = {}
    unread = [place for place in labels if place not in (times or [0])]
    for place in range(len(prices)):
        if place in labels:
            continue
        name, symbol = name_column(prices[place]), spell(symbols[place])
        if bar := find_bar(name):
            found.setdefault(symbol, {}).setdefault(bar, []).append(place)
        elif volume := header.name_volume(name):
            volumes.setdefault(symbol, {}).setdefault(volume, []).append(place)
        else:
            unread.append(place)
    body = _Header(path=header.path, head=[header.head[0], *header.head[count:]], universe=header.universe)
    complete = {symbol: _complete(header, bars | volumes.get(symbol, {}), symbol) for symbol, bars in found.items()}
    renamed = note_renamed((text, spell(text)) for text in dict.fromkeys(symbols) if spell(text) in complete)
    return _make_layout(body, tuple(times or [0]), complete, unread, last=last, names=prices, renamed=renamed)


def _is_as_wide(header: _Header, level: int) -> bool:
    return len(header.head[level].fields) == len(header.fields)


def _is_data(fields: Sequence[str]) -> bool:
    """Check whether a row has numbers or times in it, so that it is no part of the header."""
    return any(text.strip() and (is_number(text) or find_form(text)) for text in fields)


def _clear(fields: Sequence[str]) -> list[str]:
    """Return the names of one level; pandas calls empty ones Unnamed, and repeated ones Close.1."""
    names = [text.strip() for text in fields]
    names = ["" if name.lower().startswith("unnamed") else name for name in names]
    known = frozenset(names)
    return [base if (base := re.sub(r"\.\d+$", "", name)) in known else name for name in names]


# --- headers with two readings --------------------------------------------------------------------------------------


def _require_no_clash(header: _Header, rest: Sequence[int]) -> None:
    """Raise PriceFileError if the one symbol of UNIVERSE is also the name of a column of one symbol's file."""
    if not header.is_of_one_symbol:
        return
    for place in rest:
        if spell(header.fields[place]) == header.universe[0]:
            raise header.fault(
                f"{header.fields[place].strip()} is a column beside the close, and the symbol in UNIVERSE: "
                f"it is not clear which column has its prices",
                f"rename that column, or add a column symbol with {header.universe[0]} in each row",
            )


def _are_bars(header: _Header, rest: Sequence[int]) -> bool:
    """Check whether columns are one symbol's bars, not closes of symbols that are called like columns.

    Raises PriceFileError if they may be both.
    """
    found = header.find_bars(rest)
    bars = {bar: places[0] for bar, places in found.items()}
    are_unclear = all(header.names[place] in UNCLEAR for place in rest)
    if not (are_unclear and bars.keys() & set(BARS)) and not set(BARS) <= bars.keys():
        return False
    symbols = {spell(header.fields[place]): place for place in rest}
    named = [symbol for symbol in header.universe if symbol in symbols]
    if len(named) > 1 or bars.keys() in ({"open"}, {"high"}, {"low"}) or _contradict_bars(header, bars, rest):
        return False
    is_whole = set(BARS) <= bars.keys() and all(len(places) == 1 for places in found.values())
    if header.is_of_one_symbol and "close" in bars:
        place = symbols.get(header.universe[0])
        if place == bars["close"] or (is_whole and (place is None or _contradict_prices(header, place))):
            return True
    names = name_some(header.fields[place].strip() for place in rest)
    what = f"the header has two readings: {names} may be symbols, or the prices of one symbol"
    remedy = "name them open, high, low and close, or set UNIVERSE to two or more symbols of the file"
    raise header.fault(what, remedy)


def _contradict_bars(header: _Header, bars: Places, rest: Sequence[int]) -> bool:
    """Check whether the rows show that columns are not one symbol's open, high, low, close and volume."""
    columns = {bar: list(map(_read, header.column(place))) for bar, place in bars.items()}
    count = sum(1 for _ in header.column(rest[0]))
    off = 0
    for row in range(count):
        prices = {bar: value for bar, values in columns.items() if (value := values[row]) is not None}
        high, low = prices.get("high"), prices.get("low")
        off += (high is not None and high * (1 + MAX_OFF_FRACTION) < max(prices.values())) or (
            low is not None and low * (1 - MAX_OFF_FRACTION) > min(prices.values())
        )
    if off > MAX_OFF_ROWS_FRACTION * count:
        return True
    volumes = [place for place in rest if header.names[place] == "v"]
    return any(_are_fractions(header, place) for place in volumes)


def _are_fractions(header: _Header, place: int) -> bool:
    """Check whether most numbers of a column have decimals, and are small enough for prices."""
    values = [value for text in header.column(place) if (value := _read(text)) is not None]
    return 2 * sum(value < MAX_PRICE_USD and not value.is_integer() for value in values) > len(values)


def _contradict_prices(header: _Header, place: int) -> bool:
    """Check whether most numbers of a column are no possible prices."""
    values = [value for text in header.column(place) if (value := _read(text)) is not None]
    return 2 * sum(value > MAX_PRICE_USD for value in values) > len(values)


def _read(text: str) -> float | None:
    """Return a number whatever its mark is; None if it is missing or is not one."""
    for mark in Mark:
        try:
            value = read_number(text, mark)
        except ValueError:
            continue
        return None if value != value else value
    return None
