"""Bars with opening, high and low prices: the same door as for closes, and the mending of what does not fit them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader.model import NEW_YORK, OHLV, Closes, Note, Ohlv
from trader.prices.series import MAX_PRICE_USD, MIN_PRICE_USD, Series, clean_volume, find_outside, say

PRICES = ("open", "high", "low", "close")

VOLUME = "volume"

ROUNDING_USD, ROUNDING_FRACTION = 0.0051, 1e-6
"""How far an open or close may lie below low or above high without a note: cents, or single precision."""

type Floats = NDArray[np.float64]

type Tables = Mapping[str, pd.DataFrame]
"""A table for each of open, high, low and close: a row for each bar, a column for each symbol, NaN in gaps.

With a table of volumes, the series have open, high, low and volume too.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanBars:
    """Bars of which every close came through the door of Series; the other three prices fit it.

    `series` holds the same closes by symbol, with the verdicts on their jumps.
    """

    tables: Tables
    series: Mapping[str, Series]
    notes: tuple[Note, ...]


def clean_bars(
    tables: Tables,
    *,
    interval: str,
    has_ohlc: bool,
    splits: Mapping[str, Mapping[date, float]] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> CleanBars:
    """Leave out the bars outside the sessions and those without a possible close, and mend the others.

    `splits` and `notes` are the sources' own, by symbol; see Series.
    """
    index = pd.DatetimeIndex(tables["close"].index)
    is_out = find_outside(index, interval)
    found = [_note_outside(index[is_out], interval, is_all=bool(is_out.all()))] if is_out.any() else []
    if is_out.any():
        tables = dict(zip(tables, _take_each(tables, ~is_out), strict=True))
    mended: Mapping[str, str] = {}
    if has_ohlc:
        if VOLUME in tables:
            tables = {**tables, VOLUME: _clean_volumes(tables)}
        tables, mended = mend(tables, interval)
    series = {
        str(symbol): Series(
            column,
            interval=interval,
            splits=(splits or {}).get(str(symbol)),
            notes=(*(notes or {}).get(str(symbol), ()), *filter(None, [mended.get(str(symbol))])),
            ohlv=take_ohlv(tables, str(symbol)) if has_ohlc and VOLUME in tables else None,
        )
        for symbol, column in tables["close"].items()
    }
    close = _join(series, tables["close"])
    if has_ohlc:
        tables = {name: close if name == "close" else table.where(close.notna()) for name, table in tables.items()}
    else:
        tables = dict.fromkeys(PRICES, close)
    of_series = (Note(symbol=symbol, what=what) for symbol, each in series.items() for what in each.notes)
    return CleanBars(tables=tables, series=series, notes=(*found, *of_series))


def take_ohlv(tables: Tables, symbol: str) -> Ohlv:
    """Return the open, high, low and volume of a symbol, a row for each of its bars."""
    return np.column_stack([tables[name][symbol].to_numpy(float) for name in OHLV])


def _clean_volumes(tables: Tables) -> pd.DataFrame:
    """Return the volumes that can be; none for a symbol of which the source has closes only."""
    cleaned = clean_volume(tables[VOLUME].to_numpy(float))
    has_range = np.logical_and.reduce([tables[name].notna().any().to_numpy() for name in PRICES[:3]])
    volume = tables[VOLUME]
    return pd.DataFrame(np.where(has_range, cleaned, np.nan), volume.index, volume.columns)


def make_series(
    bars: pd.DataFrame,
    *,
    interval: str,
    splits: Mapping[date, float] | None = None,
    knows_all_splits: bool = False,
    notes: Sequence[str] = (),
) -> Series:
    """Return the series of one symbol with the rest of its bars: open, high, low, close and volume, adjusted alike.

    A source that has no open, no high or no low of it has closes only. See Series for the other arguments.
    """
    closes: Closes = bars["close"].rename(None)
    prices = {name: bars[name].to_numpy(float) for name in PRICES}
    ohlv: Ohlv | None = None
    if not any(np.isnan(prices[name]).all() for name in PRICES[:3]):
        mended, is_off = _mend(prices)
        ohlv = np.column_stack([*(mended[name] for name in PRICES[:3]), bars[VOLUME].to_numpy(float)])
        if is_off.any():
            notes = (*notes, _note_mended(pd.DatetimeIndex(bars.index)[is_off], interval))
    return Series(closes, interval=interval, splits=splits, knows_all_splits=knows_all_splits, notes=notes, ohlv=ohlv)


def mend(tables: Tables, interval: str) -> tuple[Tables, Mapping[str, str]]:
    """Replace opens, highs and lows that are impossible or do not fit the close; only the close is trusted.

    Return the tables, and a note for each symbol with such bars. Bars with an impossible close are left as they are.
    """
    close = tables["close"]
    prices, is_off = _mend({name: tables[name].to_numpy(float) for name in PRICES})
    mended = {name: pd.DataFrame(prices[name], close.index, close.columns, copy=False) for name in PRICES[:3]}
    index = pd.DatetimeIndex(close.index)
    found = {
        str(symbol): _note_mended(index[is_off_here], interval)
        for symbol, is_off_here in zip(close.columns, is_off.T, strict=True)
        if is_off_here.any()
    }
    return {**tables, **mended}, found


def _mend(prices: Mapping[str, Floats]) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Return opens, highs and lows that fit the closes, and which bars have one that did not."""
    close = prices["close"]
    is_given = {name: (prices[name] >= MIN_PRICE_USD) & (prices[name] <= MAX_PRICE_USD) for name in PRICES}
    opened, high, low = (np.where(is_given[name], prices[name], close) for name in PRICES[:3])
    top, bottom = np.where(opened > close, opened, close), np.where(opened < close, opened, close)
    slack_usd = ROUNDING_USD + ROUNDING_FRACTION * close
    with np.errstate(invalid="ignore"):  # of an infinite close, which Series leaves out
        is_off = (top > high + slack_usd) | (bottom < low - slack_usd)
    is_off = (is_off | ~is_given["open"] | ~is_given["high"] | ~is_given["low"]) & is_given["close"]
    high, low = np.where(high > top, high, top), np.where(low < bottom, low, bottom)
    return {"open": opened, "high": high, "low": low}, is_off


def _note_mended(bars: pd.DatetimeIndex, interval: str) -> str:
    on = say(bars[0], interval)
    what = f"{len(bars):,} bars have" if len(bars) > 1 else "a bar has"
    what += f" an open, high or low that is missing or does not fit, {'the first ' if len(bars) > 1 else ''}on {on}"
    return f"{what}; the value is replaced by the close, or the range is widened"


def _take_each(tables: Tables, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[pd.DataFrame]:
    """Take the rows of each table; tables that are the same object stay so."""
    taken: dict[int, pd.DataFrame] = {}
    return [taken.setdefault(id(table), table.loc[rows]) for table in tables.values()]


def _join(series: Mapping[str, Series], close: pd.DataFrame) -> pd.DataFrame:
    """Return the table of the series' closes, on the calendar of `close`."""
    kept = {symbol: each.closes for symbol, each in series.items()}
    if all(len(each) == close[symbol].count() for symbol, each in kept.items()):
        return close  # nothing was left out
    return pd.DataFrame(
        {symbol: each.reindex(close.index) for symbol, each in kept.items()}, index=close.index, columns=close.columns
    )


def _note_outside(out: pd.DatetimeIndex, interval: str, *, is_all: bool) -> Note:
    local = out.tz_convert(NEW_YORK)
    if is_all:
        return Note(symbol="", what="no bar lies in a session of the exchange; check the timestamps")
    if len(out) == 1:
        return Note(symbol="", what=f"1 bar outside the exchange's sessions is left out: {say(local[0], interval)}")
    span = f"{say(local[0], interval)} to {say(local[-1], interval)}"
    return Note(symbol="", what=f"{len(out):,} bars outside the exchange's sessions are left out: {span}")
