"""Bars from a CSV file of open, high, low and close, with a row for each bar of one or more symbols."""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from trader.prices.file import CsvRow, PriceFileError, bar_time, fault, is_number, read_rows
from trader.prices.series import MAX_PRICE_USD, MIN_PRICE_USD

PRICES = ("open", "high", "low", "close")

TIMES, SYMBOLS = ("timestamp", "date", "datetime"), ("symbol", "ticker")
"""Allowed names of the time and symbol columns, in upper or lower case."""

NO_TICKERS = {*SYMBOLS, "close", "adj close", "adj_close", "volume"}
"""Column names that are not symbols, in upper or lower case. OPEN, HIGH and LOW in capitals are symbols."""

ROUNDING_USD, ROUNDING_FRACTION = 0.005, 1e-6
"""How far an open or a close may lie below low or above high, because of rounding to cents or to single precision."""

ALLOWED = (
    "an OHLC file has the columns timestamp (or date), symbol, open, high, low and close; "
    "a file of closes has a column for each symbol, such as timestamp,AAPL,MSFT"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ohlc:
    """The contents of an OHLC file: tables of open, high, low and close, each with a column for each symbol."""

    tables: Mapping[str, pd.DataFrame]
    has_adjusted: bool  # whether it has a column of adjusted closes, which is not read


@dataclass(slots=True)
class _Read:
    """The rows read so far, as columns; `times` and `symbols` number the distinct values."""

    times: dict[datetime, int] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("q"))
    time: array[int] = field(default_factory=lambda: array("q"))
    symbol: array[int] = field(default_factory=lambda: array("q"))
    prices_usd: array[float] = field(default_factory=lambda: array("d"))  # four for each row


def read(path: Path, *, is_daily: bool, universe: Sequence[str]) -> Ohlc | None:
    """Read the bars of an OHLC file; return None if it is a file of closes, with a column for each symbol.

    A file without a symbol column belongs to the one symbol of `universe`. Rows may be in any order, and the row of a
    missing bar may be empty. Raises PriceFileError, with the line, if the file has neither form or is malformed.
    """
    rows = read_rows(path)
    header = next(rows)
    names = _names(header)
    if not _is_ohlc(header, names):
        return None
    columns = _columns(path, header[0], names, universe)
    found = _read(path, rows, columns, is_daily=is_daily, only=universe[0])
    _check(path, found)
    return Ohlc(tables=_tables(found), has_adjusted=bool({"adj close", "adj_close"} & set(names)))


def _names(header: CsvRow) -> list[str]:
    return [name.strip().lower() for name in header[1]]


def _is_ohlc(header: CsvRow, names: Sequence[str]) -> bool:
    is_capital = [name.strip().isupper() for name in header[1]]
    return any(
        name in NO_TICKERS or (name in PRICES and not capital) for name, capital in zip(names, is_capital, strict=True)
    )


def _columns(path: Path, line: int, names: Sequence[str], universe: Sequence[str]) -> dict[str, int]:
    """Return the positions of the columns: the time, the prices and, if present, the symbol."""
    columns = {}
    for what, allowed in {"timestamp": TIMES, "symbol": SYMBOLS, **{name: (name,) for name in PRICES}}.items():
        places = [place for place, name in enumerate(names) if name in allowed]
        if len(places) > 1:
            twice = " and ".join(names[place] for place in places)
            raise fault(path, line, f"two columns for the {what}, {twice}", "remove one of them")
        if places:
            columns[what] = places[0]
    lacking = [name for name in ("timestamp", *PRICES) if name not in columns]
    if lacking:
        raise fault(path, line, f"the header has no {' or '.join(lacking)} column", ALLOWED)
    if "symbol" not in columns and (len(universe) != 1 or universe == ("sp500",)):
        named = "is sp500" if universe == ("sp500",) else f"has {len(universe)} symbols"
        remedy = "add a symbol column, or name the file's one symbol, as in UNIVERSE=AAPL"
        raise fault(path, line, f"the header has no symbol column, but UNIVERSE {named}", remedy)
    return columns


def _read(path: Path, rows: Iterator[CsvRow], columns: Mapping[str, int], *, is_daily: bool, only: str) -> _Read:
    found, parsed = _Read(), dict[str, int]()
    time_at, symbol_at = columns["timestamp"], columns.get("symbol")
    prices_at = [columns[name] for name in PRICES]
    for line, fields in rows:
        stamp = fields[time_at]
        if stamp not in parsed:
            time = bar_time(path, line, stamp, is_daily)
            parsed[stamp] = found.times.setdefault(time, len(found.times))
        symbol = only if symbol_at is None else fields[symbol_at].strip()
        if not symbol:
            raise fault(path, line, "the symbol is missing", "add it, or remove the row")
        texts = [fields[place] for place in prices_at]
        if not all(map(is_number, texts)):
            raise _not_a_number(path, line, symbol, texts)
        prices_usd = [float(text or "nan") for text in texts]
        found.lines.append(line)
        found.time.append(parsed[stamp])
        found.symbol.append(found.symbols.setdefault(symbol, len(found.symbols)))
        found.prices_usd.extend(prices_usd)
    return found


def _not_a_number(path: Path, line: int, symbol: str, fields: Sequence[str]) -> PriceFileError:
    name, text = next(each for each in zip(PRICES, fields, strict=True) if not is_number(each[1]))
    return fault(path, line, f"{symbol} has {text!r:.100} for {name}", "write a number, or leave all four empty")


def _check(path: Path, found: _Read) -> None:
    """Raise PriceFileError for the first invalid row."""
    prices_usd = np.asarray(found.prices_usd).reshape(-1, len(PRICES))
    opens, highs, lows, closes = prices_usd.T
    is_missing = np.isnan(prices_usd)
    slack_usd = ROUNDING_USD + ROUNDING_FRACTION * closes
    is_repeated = pd.Series(np.asarray(found.time) * len(found.symbols) + np.asarray(found.symbol)).duplicated()
    is_wrong = (
        is_repeated.to_numpy()
        | (is_missing.any(axis=1) & ~is_missing.all(axis=1))
        | ((prices_usd < MIN_PRICE_USD) | (prices_usd > MAX_PRICE_USD)).any(axis=1)
        | (np.minimum(opens, closes) < lows - slack_usd)
        | (np.maximum(opens, closes) > highs + slack_usd)
    )
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        symbol = list(found.symbols)[found.symbol[row]]
        values_usd = dict(zip(PRICES, prices_usd[row].tolist(), strict=True))
        what, remedy = _fault_of(values_usd, is_repeated=bool(is_repeated[row]))
        raise fault(path, found.lines[row], f"{symbol} {what}", remedy)


def _fault_of(values_usd: Mapping[str, float], *, is_repeated: bool) -> tuple[str, str]:
    """Return a description of a row's error, and the remedy."""
    if is_repeated:
        return "has a second row for this time", "keep one row for each symbol and time"
    if lacking := [name for name, value in values_usd.items() if math.isnan(value)]:
        return f"has no {' and no '.join(lacking)}", "complete the row, or leave all four empty if there was no bar"
    remedy = "correct the row, or remove it"
    for name, value in values_usd.items():
        if not MIN_PRICE_USD <= value <= MAX_PRICE_USD:
            return f"has {value:g} for {name}, but a share costs {MIN_PRICE_USD:g} to {MAX_PRICE_USD:,} USD", remedy
    high, low = values_usd["high"], values_usd["low"]
    if high < low:
        return f"has a high of {high:g} below its low of {low:g}", remedy
    name = max(("open", "close"), key=lambda each: max(values_usd[each] - high, low - values_usd[each]))
    return f"has {name} {values_usd[name]:g}, not between its low of {low:g} and its high of {high:g}", remedy


def _tables(found: _Read) -> dict[str, pd.DataFrame]:
    prices_usd = np.asarray(found.prices_usd).reshape(-1, len(PRICES))
    prices_usd[:, 1] = prices_usd.max(axis=1)  # rounding may leave the open or the close outside
    prices_usd[:, 2] = prices_usd.min(axis=1)
    order = pd.DatetimeIndex(list(found.times)).argsort()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    index = pd.DatetimeIndex(list(found.times))[order]
    tables = {}
    for number, name in enumerate(PRICES):
        values = np.full((len(index), len(found.symbols)), np.nan)
        values[place[np.asarray(found.time)], np.asarray(found.symbol)] = prices_usd[:, number]
        tables[name] = pd.DataFrame(values, index=index, columns=list(found.symbols))
    return tables
