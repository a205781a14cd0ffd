"""The prices of a backtest, from a CSV file or from Yahoo, as one panel, and the choice of the bars to trade."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.backtest import ohlc_file
from scripts.backtest.forecasts import count_needed_bars
from scripts.backtest.model import BacktestError, Note, Options, Panel
from scripts.backtest.price_notes import count_warm_up_bars, notes, sayer
from scripts.backtest.yahoo_cache import Cache, final_until
from trader.alpha import loader
from trader.model import BAR_LENGTH, NEW_YORK
from trader.prices.base import start_of
from trader.prices.file import FilePrices
from trader.prices.series import MAX_PRICE_USD, MIN_PRICE_USD
from trader.progress import Progress, no_progress
from trader.schedule import sessions
from trader.settings import SAMPLE_PRICES, Settings
from trader.stages.universe import candidates

DEFAULT_YEARS = 2
"""Length of the traded span if START is not set."""

MAX_NAMED = 5
"""Maximum number of symbols named in a message."""

PRICES = ("open", "high", "low", "close")

OFF_FRACTION = 0.001
"""How far an open or close of Yahoo's may lie below low or above high: prices are rounded before the adjustment."""

type Tables = Mapping[str, pd.DataFrame]
"""A table for each of open, high, low and close."""


def load(
    options: Options, progress: Progress = no_progress, *, now: datetime | None = None, cache: Cache | None = None
) -> Panel:
    """Load all bars of the universe's candidates up to END, with notes on irregularities.

    `now` and `cache` are for Yahoo: the current time, and the cache of its bars. Raises BacktestError, or the source's
    PriceSourceError, if there are no prices to trade on; see also `span`.
    """
    _check_order(options)
    sources = options.settings.price_sources
    if sources == ("file",):
        panel = _from_file(options.settings, progress)
    elif sources == ("yahoo",):
        panel = _from_yahoo(options, now or datetime.now(UTC), cache or Cache(), progress)
    else:
        raise BacktestError(
            f"PRICE_SOURCES={','.join(sources)}: a backtest takes all its prices from one source; "
            f"set PRICE_SOURCES=file and PRICE_FILE, or PRICE_SOURCES=yahoo"
        )
    panel = _trim_bars(_in_sessions(panel, options.settings), options)
    traded = span(panel, options)
    return replace(panel, notes=(*panel.notes, *notes(panel.close, options.settings, traded[0])))


def span(panel: Panel, options: Options) -> tuple[datetime, ...]:
    """Return the starts of the bars to trade: those from START to END that have a price of any symbol.

    Without START the span begins two years before the last bar, or later, at the first bar with enough bars before it.
    Raises BacktestError if there is no bar to trade, or if no symbol has enough bars at the first one.
    """
    _check_order(options)
    settings = options.settings
    bars = _bars(panel, options)
    say = sayer(settings.bar_interval)
    counts = panel.close.loc[bars].notna().cumsum().max(axis=1).to_numpy()
    begun = _first_bar(bars, options)
    needed = count_warm_up_bars(settings)
    if counts[-1] < needed:
        raise BacktestError(
            f"too few bars: the symbol with the most has {counts[-1]:,} up to {say(bars[-1])}, but "
            f"{_why(settings)}; lower it, or provide more prices"
        )
    ready = int(np.argmax(counts >= needed))
    if begun < ready and options.start is None:
        begun = ready
    if begun < ready:
        raise BacktestError(
            f"START={options.start} is too early: there are {counts[begun]:,} bars up to {say(bars[begun])}, "
            f"but {_why(settings)}; {_first_start(bars, ready)}"
        )
    return tuple(bars[begun:].to_pydatetime().tolist())


def _check_order(options: Options) -> None:
    if options.start and options.end and options.start > options.end:
        raise BacktestError(f"START={options.start} is after END={options.end}: there is nothing to trade; swap them")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), NEW_YORK)


def _bars(panel: Panel, options: Options) -> pd.DatetimeIndex:
    """Return the bars up to END that have a price of any symbol. Raises BacktestError if there is none."""
    bars = pd.DatetimeIndex(panel.close.index[panel.close.notna().to_numpy().any(axis=1)])
    if not len(bars):
        raise BacktestError(
            f"{panel.source}: no prices for {', '.join(panel.close.columns[:MAX_NAMED])}; choose another UNIVERSE"
        )
    if options.end is None:
        return bars
    until = bars[: bars.searchsorted(pd.Timestamp(_midnight(options.end + timedelta(days=1))))]
    if not len(until):
        begin = sayer(options.settings.bar_interval)(bars[0])
        raise BacktestError(f"END={options.end} is before all prices, which begin on {begin}; choose a later END")
    return until


def _first_bar(bars: pd.DatetimeIndex, options: Options) -> int:
    """Return the position of the first bar at START or after. Raises BacktestError if there is none."""
    last = bars[-1].astimezone(NEW_YORK).date()
    start = options.start or (pd.Timestamp(last) - pd.DateOffset(years=DEFAULT_YEARS)).date()
    place = int(bars.searchsorted(pd.Timestamp(_midnight(start))))
    if place == len(bars):
        say = sayer(options.settings.bar_interval)
        until = f" to END={options.end}" if options.end else " on"
        raise BacktestError(
            f"there is no bar from START={start}{until}: the last bar before START is that of {say(bars[-1])}; "
            f"choose an earlier START"
            f"{' or a later END' if options.end else ''}"
        )
    return place


def _why(settings: Settings) -> str:
    """Say how many bars are needed, and which setting needs them."""
    needed = count_warm_up_bars(settings)
    if needed == settings.universe_lookback_bars + 1:
        return f"UNIVERSE_LOOKBACK_BARS={settings.universe_lookback_bars} needs {needed:,}"
    if loader.facts(settings.signal).has_growing_history:
        return f"SIGNAL={settings.signal} needs {needed:,}"
    return f"HISTORY_BARS={settings.history_bars} needs {needed:,}"


def _first_start(bars: pd.DatetimeIndex, ready: int) -> str:
    """Return advice for a START that is too early: the first day that begins with the bar `ready` or a later one."""
    days = bars[ready - 1 :].tz_convert(NEW_YORK).normalize()
    (begins,) = np.nonzero(days[1:] != days[:-1])
    if not len(begins):
        return "lower it, or provide more prices"
    return f"the first START that works is {days[1 + begins[0]].date()}"


# --- the two sources of prices -------------------------------------------------------------------------------------


def _from_file(settings: Settings, progress: Progress) -> Panel:
    path = Path(settings.price_file)
    is_daily = settings.bar_interval == "1d"
    found = ohlc_file.read(path, is_daily=is_daily, universe=settings.universe)
    about: list[Note] = []
    tables: Tables
    if found is None:
        source = FilePrices(path, settings.bar_interval)
        known = source.symbols()
        closes = source.closes(sorted(known), sys.maxsize, source.last_bar(), progress)
        tables = dict.fromkeys(PRICES, pd.DataFrame(dict(closes)))
    else:
        tables = found.tables
        known = frozenset(tables["close"].columns)
        if found.has_adjusted:
            what = "the column of adjusted closes is ignored: the prices come from the other four columns, unadjusted"
            about.append(Note(symbol="", what=what))
    wanted = candidates(settings.universe, known)
    symbols = [symbol for symbol in wanted if symbol in known]
    if not symbols:
        raise BacktestError(
            f"price file {path} has no prices for UNIVERSE={','.join(settings.universe)}, only for "
            f"{_name_file(known)}; set UNIVERSE to symbols in the file"
        )
    about += [Note(symbol=symbol, what=f"{path.name} has no prices for it") for symbol in wanted if symbol not in known]
    if settings.universe == ("sp500",) and (others := known.difference(wanted)):
        what = f"{path.name} has prices for {_name_file(others)}, which UNIVERSE=sp500 leaves out"
        about.append(Note(symbol="", what=what))
    of = "the sample that ships with the project" if path == SAMPLE_PRICES else path.name
    return _panel(
        {name: table[symbols] for name, table in tables.items()},
        has_ohlc=found is not None,
        source=f"{'closes' if found is None else 'bars'} of {of}",
        notes_so_far=tuple(about),
    )


def _name_file(symbols: Collection[str]) -> str:
    """Name the first symbols, and count the rest."""
    more = f" and {len(symbols) - MAX_NAMED:,} more" if len(symbols) > MAX_NAMED else ""
    return f"{', '.join(sorted(symbols)[:MAX_NAMED])}{more}"


def _from_yahoo(options: Options, now: datetime, cache: Cache, progress: Progress) -> Panel:
    settings = options.settings
    until = final_until(now)
    end = min(_midnight(options.end + timedelta(days=1)), until) if options.end else until
    last = (end - timedelta(days=1)).date()
    first = options.start or (pd.Timestamp(last) - pd.DateOffset(years=DEFAULT_YEARS)).date()
    if first > last:
        raise BacktestError(f"START={first} is after the last finished session, {last}; choose an earlier START")
    start = start_of(settings.bar_interval, count_needed_bars(settings), _midnight(first))
    wanted = candidates(settings.universe, None)
    bars, reasons = cache.bars(wanted, settings.bar_interval, start, end, now, progress)
    joined = pd.concat(dict(bars), axis=1).sort_index()
    tables = {name: pd.DataFrame(joined.xs(name, axis=1, level=1)) for name in PRICES}
    mended, of_mending = _mend_bars(tables, settings)
    lacking = (Note(symbol=symbol, what=f"Yahoo returned no prices: {reason}") for symbol, reason in reasons.items())
    return _panel(
        mended,
        has_ohlc=True,
        source=f"Yahoo's {settings.bar_interval} bars, adjusted for splits and dividends",
        notes_so_far=(*lacking, *of_mending),
    )


def _mend_bars(tables: Tables, settings: Settings) -> tuple[Tables, tuple[Note, ...]]:
    """Repair impossible opens, highs and lows in Yahoo's bars; only the close of such a bar is trusted."""
    close = tables["close"]
    is_given = {name: (tables[name] >= MIN_PRICE_USD) & (tables[name] <= MAX_PRICE_USD) for name in PRICES[:3]}
    opened, high, low = (tables[name].where(is_given[name], close) for name in PRICES[:3])
    top, bottom = opened.where(opened > close, close), opened.where(opened < close, close)
    is_off = (top > high * (1 + OFF_FRACTION)) | (bottom < low * (1 - OFF_FRACTION))
    is_off = (is_off | ~is_given["open"] | ~is_given["high"] | ~is_given["low"]) & close.notna()
    say = sayer(settings.bar_interval)
    found = []
    for symbol in close.columns[is_off.any().to_numpy()]:
        bars = close.index[is_off[symbol].to_numpy()]
        what = f"{len(bars):,} bars have an impossible open, high or low, the first on {say(bars[0])}"
        found.append(Note(symbol=symbol, what=f"{what}; the value is replaced by the close, or the range is widened"))
    return {
        "open": opened,
        "high": high.where(high > top, top),
        "low": low.where(low < bottom, bottom),
        "close": close,
    }, tuple(found)


def _panel(tables: Tables, *, has_ohlc: bool, source: str, notes_so_far: tuple[Note, ...]) -> Panel:
    return Panel(
        open=tables["open"],
        high=tables["high"],
        low=tables["low"],
        close=tables["close"],
        has_ohlc=has_ohlc,
        source=source,
        notes=notes_so_far,
    )


def _in_sessions(panel: Panel, settings: Settings) -> Panel:
    """Keep the bars that begin while the exchange is open: no order is filled in others, and no bot would see them.

    Raises BacktestError if none is left, or if bars are shorter than BAR_INTERVAL, which would be look-ahead.
    """
    index = pd.DatetimeIndex(panel.close.index)
    say, interval = sayer(settings.bar_interval), settings.bar_interval
    if interval != "1d" and len(index) > 1 and (index[1:] - index[:-1]).min() < BAR_LENGTH[interval]:
        place = int((index[1:] - index[:-1]).argmin())
        raise BacktestError(
            f"{panel.source}: the bars of {say(index[place])} and {say(index[place + 1])} are less than "
            f"BAR_INTERVAL={interval} apart; set BAR_INTERVAL to the length of the bars"
        )
    local = index.tz_convert(NEW_YORK)
    hours_by_day = {day: sessions.session(day) for day in set(local.date)}
    is_open = np.array(
        [
            (hours := hours_by_day[bar.date()]) is not None and (interval == "1d" or hours[0] <= bar < hours[1])
            for bar in local
        ],
        dtype=bool,
    )
    if is_open.all():
        return panel
    out = index[~is_open]
    if len(out) == len(index):
        raise BacktestError(f"{panel.source}: no bar lies in a session of the exchange; check the timestamps")
    span_of = say(out[0]) if len(out) == 1 else f"{say(out[0])} to {say(out[-1])}"
    bars = (
        "1 bar outside the exchange's sessions is"
        if len(out) == 1
        else f"{len(out):,} bars outside the exchange's sessions are"
    )
    kept = {name: getattr(panel, name).loc[is_open] for name in PRICES}
    return replace(panel, **kept, notes=(*panel.notes, Note(symbol="", what=f"{bars} left out: {span_of}")))


def _trim_bars(panel: Panel, options: Options) -> Panel:
    """Cut the panel at END, and remove bars before the first price and after the last, and symbols without a price.

    Empty bars in between stay: the bot also counts them when it requests a number of bars from a file.
    """
    bars = _bars(panel, options)
    rows = slice(bars[0], bars[-1])
    is_priced = panel.close.loc[rows].notna().any()
    until = sayer(options.settings.bar_interval)(bars[-1])
    unpriced = (Note(symbol=symbol, what=f"has no price up to {until}") for symbol in is_priced.index[~is_priced])
    cut = {name: getattr(panel, name).loc[rows, is_priced] for name in PRICES}
    if not panel.has_ohlc:
        cut = dict.fromkeys(PRICES, cut["close"])
    return replace(panel, **cut, notes=(*panel.notes, *unpriced))
