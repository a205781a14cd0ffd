"""Notes on a backtest's prices for the reader of its report: late listings, early ends, gaps, jumps, missing days."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from functools import partial

import numpy as np
import pandas as pd

from scripts.backtest.delisting import DELISTED_SESSIONS
from scripts.backtest.forecasts import count_needed_bars
from trader.alpha import loader
from trader.model import NEW_YORK, Note
from trader.prices.series import Series, say
from trader.schedule import sessions
from trader.settings import Settings

JUMP_FRACTION = 0.4
"""Smallest change from one close to the next that gets a note."""

MAX_NAMED = 3
"""Maximum number of jumps named in a note; the rest are counted."""

type Say = Callable[[datetime], str]
"""A function that formats a bar's start: its date in New York, with the time if bars are shorter than a day."""


def sayer(bar_interval: str) -> Say:
    """Return the formatter for bars of this length."""
    return partial(say, interval=bar_interval)


def count_warm_up_bars(settings: Settings) -> int:
    """Return the number of bars needed before trading can begin, including the first traded one."""
    facts = loader.facts(settings.signal)
    window = facts.min_bars if facts.has_growing_history else settings.history_bars
    return max(window, settings.universe_lookback_bars + 1)


def joining_bars(settings: Settings) -> int:
    """Return how many bars of its own a symbol needs before the pipeline can choose it."""
    return max(loader.facts(settings.signal).min_bars, settings.universe_lookback_bars + 1)


def notes(close: pd.DataFrame, settings: Settings, first: datetime) -> tuple[Note, ...]:
    """Return all notes on these closes if trading begins at the bar `first`; notes on all symbols come first.

    Only bars that the backtest uses are examined: those from `first` on, and as many before as it requests. Every
    symbol must have at least one close.
    """
    close = close[close.notna().any(axis=1)]
    begun = int(close.index.searchsorted(pd.Timestamp(first)))
    used = close.iloc[max(begun + 1 - count_needed_bars(settings), 0) :]
    say = sayer(settings.bar_interval)
    kinds = (
        _listings(close, begun, settings, say),
        _ends(close, begun, say),
        _gaps(close, used, say),
        _jumps(close, used, settings.bar_interval),
    )
    place = {symbol: number for number, symbol in enumerate(close.columns)}
    by_symbol = sorted((note for kind in kinds for note in kind), key=lambda note: place[note.symbol])
    return (*_days(used.index), *by_symbol)


def _days(index: pd.Index) -> Iterator[Note]:
    """Yield a note on sessions without a bar."""
    days = {stamp.date() for stamp in pd.DatetimeIndex(index).tz_convert(NEW_YORK).normalize().unique()}
    if lacking := [day for day in sessions.list_days(min(days), max(days)) if day not in days]:
        yield Note(symbol="", what=f"no symbol has a bar on {_days_of(lacking)} when the exchange was open")


def _days_of(days: Sequence[date]) -> str:
    return f"{days[0]}," if len(days) == 1 else f"{len(days):,} days, {days[0]} to {days[-1]},"


def _listings(close: pd.DataFrame, begun: int, settings: Settings, say: Say) -> Iterator[Note]:
    """Yield notes on symbols that lack some of the bars used when trading begins."""
    counts = close.notna().to_numpy().cumsum(axis=0)

    def at(column: int, bars: int) -> str:
        return say(close.index[int(np.argmax(counts[:, column] >= bars))])

    joining = joining_bars(settings)
    for column in np.flatnonzero(counts[begun] < count_warm_up_bars(settings)).tolist():
        had, total = counts[begun, column], counts[-1, column]
        what = f"has {had:,} bars up to the first traded one" if had else f"its prices begin on {at(column, 1)}"
        if total < joining:
            what += f"; it never has the {joining:,} needed to be chosen"
        elif had < joining:
            what += f"; it joins on {at(column, joining)}, with {joining:,} bars"
        if joining <= total and not loader.facts(settings.signal).has_growing_history:
            until = f"until {at(column, settings.history_bars)}" if total >= settings.history_bars else "to the end"
            what += f"; its trend line uses fewer than HISTORY_BARS={settings.history_bars:,} {until}"
        yield Note(symbol=str(close.columns[column]), what=what)


def _ends(close: pd.DataFrame, begun: int, say: Say) -> Iterator[Note]:
    """Yield notes on symbols whose prices end before the last bar: delisted, or cut off."""
    lasts = len(close) - 1 - np.argmax(close.notna().to_numpy()[::-1], axis=0)
    for column in np.flatnonzero(lasts < len(close) - 1).tolist():
        bar = close.index[lasts[column]]
        if lasts[column] < begun:
            what = f"its prices end on {say(bar)}, before the first traded bar: it is not traded"
        else:
            what = (
                f"its prices end on {say(bar)} (delisted, or cut off), but the last bar is that of "
                f"{say(close.index[-1])}; an open position is valued at its last price, and paid out at it after "
                f"{DELISTED_SESSIONS} sessions without one"
            )
        yield Note(symbol=str(close.columns[column]), what=what)


def _gaps(close: pd.DataFrame, used: pd.DataFrame, say: Say) -> Iterator[Note]:
    """Yield notes on bars missing between a symbol's first and last."""
    has = close.notna().to_numpy()
    is_between = np.logical_or.accumulate(has, axis=0) & np.logical_or.accumulate(has[::-1], axis=0)[::-1]
    is_gap = (is_between & ~has)[len(close) - len(used) :]
    for column in np.flatnonzero(is_gap.any(axis=0)).tolist():
        bars = used.index[is_gap[:, column]]
        if len(bars) == 1:
            what = f"the bar of {say(bars[0])} is missing"
        else:
            what = f"{len(bars):,} bars are missing, the first on {say(bars[0])}, the last on {say(bars[-1])}"
        yield Note(symbol=str(close.columns[column]), what=what)


def _jumps(close: pd.DataFrame, used: pd.DataFrame, bar_interval: str) -> Iterator[Note]:
    """Yield notes on wrong prices, on changes of unit such as a split that nobody adjusted for, and on other jumps."""
    last, since = close.index[-1].to_pydatetime(), used.index[0].to_pydatetime()
    for symbol in close.columns:
        series = Series(close[symbol], interval=bar_interval).until(last, since=since)
        for what in series.describe_jumps():
            yield Note(symbol=str(symbol), what=what)
        fitted = series.fitted()
        ratios = fitted.to_numpy()[1:] / fitted.to_numpy()[:-1]
        is_jump = (ratios >= 1 + JUMP_FRACTION) | (ratios <= 1 - JUMP_FRACTION)
        if not is_jump.any():
            continue
        jumps = [
            f"{ratio - 1:+.1%} on {say(time, bar_interval)}"
            for time, ratio in zip(fitted.index[1:][is_jump], ratios[is_jump].tolist(), strict=True)
            if time not in {*series.find_changes_of_unit(), series.withheld_since}
        ]
        if jumps:
            yield Note(symbol=str(symbol), what=f"its close jumps: {_name_symbols(jumps)}")


def _name_symbols(jumps: Sequence[str]) -> str:
    more = f" and {len(jumps) - MAX_NAMED:,} more" if len(jumps) > MAX_NAMED else ""
    return ", ".join(jumps[:MAX_NAMED]) + more
