"""The prices of a backtest, from a CSV file or from Yahoo, as one panel, and the choice of the bars to trade."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scripts.backtest.forecasts import count_needed_bars
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.backtest.price_notes import count_warm_up_bars, notes, sayer
from scripts.data.members import Members, shipped
from trader.alpha import loader
from trader.model import NEW_YORK, Note
from trader.prices.bars import PRICES, VOLUME, CleanBars
from trader.prices.base import start_of
from trader.prices.file import FilePrices
from trader.progress import Progress, no_progress
from trader.settings import Settings
from trader.stages.universe import candidates

if TYPE_CHECKING:
    from scripts.backtest.yahoo_cache import Cache

DEFAULT_YEARS = 2
"""Length of the traded span if START is not set."""

MAX_NAMED = 5
"""Maximum number of symbols named in a message."""


def load(
    options: Options, progress: Progress = no_progress, *, now: datetime | None = None, cache: "Cache | None" = None
) -> Panel:
    """Load all bars of the universe's candidates up to END, with notes on irregularities.

    `now` and `cache` are for Yahoo: the current time, and the cache of its bars. Raises BacktestError, or the source's
    PriceSourceError, if there are no prices to trade on; see also `span`.
    """
    if options.decide_every:
        from scripts.backtest import rhythm  # which builds on this module

        return rhythm.load(options, progress, now=now, cache=cache)
    panel = _trim_bars(read(options, progress, now=now, cache=cache), options)
    lacking = note_lack_of_volume(panel, options.settings)
    traded = span(panel, options)
    if lack := options.cash_rate.explain_lack(traded[0]):
        raise BacktestError(lack)
    return replace(panel, notes=(*panel.notes, *lacking, *notes(panel.close, options.settings, traded[0])))


def read(
    options: Options, progress: Progress = no_progress, *, now: datetime | None = None, cache: "Cache | None" = None
) -> Panel:
    """Read the bars of the universe's candidates from the source, as they are; see load."""
    if options.settings.price_sources == ("file",):
        return _from_file(options, progress)
    return _from_yahoo(options, now or datetime.now(UTC), cache, progress)


def note_lack_of_volume(panel: Panel, settings: Settings, setting: str = "PRICE_FILE") -> tuple[Note, ...]:
    """Note the symbols without a volume if the rule needs it; `setting` is that of the file.

    Raises BacktestError if that is all of them.
    """
    needs = loader.name_ohlcv(settings)
    if not needs:
        return ()
    is_known = (panel.close > np.inf if panel.volume is None else panel.volume > 0).any()
    if not is_known.any():
        lack = "no volume" if panel.has_ohlc else "closes only"
        raise BacktestError(
            f"{panel.source}: {lack}, but {needs} needs open, high, low and volume; set {setting} to a file that has "
            "them, or PRICE_SOURCES=yahoo"
        )
    what = f"has no volume, which {needs} needs; it is not traded"
    return tuple(Note(symbol=str(symbol), what=what) for symbol in is_known.index[~is_known])


def span(panel: Panel, options: Options) -> tuple[datetime, ...]:
    """Return the starts of the bars to trade: those from START to END that have a price of any symbol.

    Without START the span begins two years before the last bar, or later, at the first bar with enough bars before it.
    Raises BacktestError if there is no bar to trade, or if no symbol has enough bars at the first one.
    """
    if options.decide_every:
        from scripts.backtest import rhythm  # which builds on this module

        return rhythm.span(panel, options)
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


def starting(panel: Panel, options: Options, bars: int) -> Options:
    """Return the options with a START that leaves at least this many bars, or all bars if there are fewer."""
    return replace(options, start=span(panel, options)[-bars:][0].astimezone(NEW_YORK).date())


def midnight(day: date) -> datetime:
    """Return the beginning of a day in New York."""
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
    until = bars[: bars.searchsorted(pd.Timestamp(midnight(options.end + timedelta(days=1))))]
    if not len(until):
        begin = sayer(options.settings.bar_interval)(bars[0])
        raise BacktestError(f"END={options.end} is before all prices, which begin on {begin}; choose a later END")
    return until


def _first_bar(bars: pd.DatetimeIndex, options: Options) -> int:
    """Return the position of the first bar at START or after. Raises BacktestError if there is none."""
    last = bars[-1].astimezone(NEW_YORK).date()
    start = _first_day(options, last)
    place = int(bars.searchsorted(pd.Timestamp(midnight(start))))
    if place == len(bars):
        say = sayer(options.settings.bar_interval)
        until = f" to END={options.end}" if options.end else " on"
        raise BacktestError(
            f"there is no bar from START={start}{until}: the last bar before START is that of {say(bars[-1])}; "
            f"choose an earlier START"
            f"{' or a later END' if options.end else ''}"
        )
    return place


def _first_day(options: Options, last: date) -> date:
    """Return the day from which on bars are traded if the prices end with `last`."""
    return options.start or (pd.Timestamp(last) - pd.DateOffset(years=DEFAULT_YEARS)).date()


def _find_members(options: Options, last: date) -> tuple[Members | None, tuple[str, ...] | None]:
    """Return the members of the index by day, and the symbols of the span; None if the universe is a list of symbols.

    Nothing is known of the days after `last`, with which the prices end. Raises BacktestError if the members of the
    first day are not known.
    """
    if options.settings.universe != ("sp500",):
        return None, None
    first, members = _first_day(options, last), shipped()
    if first < members.first_day:
        raise BacktestError(members.explain_lack(first).replace("a later day", "a later START"))
    return members.until(last), members.between(first, last)


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


def _from_file(options: Options, progress: Progress) -> Panel:
    settings = options.settings
    path = Path(settings.price_file)
    needs_ohlcv = loader.needs_ohlcv(settings)
    source = FilePrices(path, settings.bar_interval, settings.universe, ohlcv=needs_ohlcv)
    found = source.bars()
    progress("prices from the file", 1, 1)
    known = frozenset(found.clean.series)
    end = found.calendar[-1].astimezone(NEW_YORK).date()
    members, index = _find_members(options, min(end, options.end or end))
    wanted = candidates(settings.universe, known, index)
    symbols = [symbol for symbol in wanted if symbol in known]
    if not symbols:
        raise BacktestError(
            f"price file {path} has no prices for UNIVERSE={','.join(settings.universe)}, only for "
            f"{_name_file(known)}; set UNIVERSE to symbols in the file"
        )
    about = [Note(symbol="", what=what) for what in found.notes]
    missing = source.explain_missing()
    about += [Note(symbol=symbol, what=missing) for symbol in wanted if symbol not in known]
    if members and (others := known.difference(wanted)):
        left_out = "which UNIVERSE=sp500 leaves out: no member of the index in this span"
        about.append(Note(symbol="", what=f"{path.name} has prices for {_name_file(others)}, {left_out}"))
    panel = _panel(found.clean, symbols, has_ohlc=found.has_ohlc, source=source.describe(), about=about)
    return replace(panel, members=members)


def read_file(path: Path, bar_interval: str, universe: Sequence[str], symbols: Sequence[str]) -> Panel:
    """Read some symbols of a price file, which must have them. Raises PriceFileError."""
    source = FilePrices(path, bar_interval, universe)
    found = source.bars()
    return _panel(found.clean, symbols, has_ohlc=found.has_ohlc, source=source.describe(), about=())


def _name_file(symbols: Collection[str]) -> str:
    """Name the first symbols, and count the rest."""
    more = f" and {len(symbols) - MAX_NAMED:,} more" if len(symbols) > MAX_NAMED else ""
    return f"{', '.join(sorted(symbols)[:MAX_NAMED])}{more}"


def _from_yahoo(options: Options, now: datetime, cache: "Cache | None", progress: Progress) -> Panel:
    from scripts.backtest.yahoo_cache import Cache, clean, final_until, list_splits  # a file of prices needs no network

    settings = options.settings
    until = final_until(now)
    end = min(midnight(options.end + timedelta(days=1)), until) if options.end else until
    last = (end - timedelta(days=1)).date()
    first = _first_day(options, last)
    if first > last:
        raise BacktestError(f"START={first} is after the last finished session, {last}; choose an earlier START")
    start = start_of(settings.bar_interval, count_needed_bars(settings), midnight(first))
    members, index = _find_members(options, last)
    wanted = candidates(settings.universe, None, index)
    reads_volume = loader.needs_ohlcv(settings)
    bars, reasons = (cache or Cache()).bars(
        wanted, settings.bar_interval, start, end, now, progress, reads_volume=reads_volume
    )
    lacking = [Note(symbol=symbol, what=f"Yahoo returned no prices: {reason}") for symbol, reason in reasons.items()]
    panel = _panel(
        clean(bars, settings.bar_interval),
        list(bars),
        has_ohlc=True,
        source=f"Yahoo's {settings.bar_interval} bars, adjusted for splits and dividends",
        about=lacking,
    )
    return replace(panel, splits=list_splits(bars), members=members)


def _panel(clean: CleanBars, symbols: Sequence[str], *, has_ohlc: bool, source: str, about: Sequence[Note]) -> Panel:
    """Return the panel of some symbols, with the notes so far and those on these symbols."""
    tables = {name: table[list(symbols)] for name, table in clean.tables.items()}
    of_series = [Note(symbol=symbol, what=what) for symbol in symbols for what in clean.series[symbol].notes]
    return Panel.of(tables, has_ohlc=has_ohlc, source=source, notes=(*about, *of_series))


def _trim_bars(panel: Panel, options: Options) -> Panel:
    """Cut the panel at END, and remove bars before the first price and after the last, and symbols without a price.

    Empty bars in between stay, because they are bars of the calendar. The members of the index are those that were
    known at the last bar.
    """
    bars = _bars(panel, options)
    rows = slice(bars[0], bars[-1])
    is_priced = panel.close.loc[rows].notna().any()
    until = sayer(options.settings.bar_interval)(bars[-1])
    unpriced = (Note(symbol=symbol, what=f"has no price up to {until}") for symbol in is_priced.index[~is_priced])
    cut = {name: getattr(panel, name).loc[rows, is_priced] for name in PRICES}
    if not panel.has_ohlc:
        cut = dict.fromkeys(PRICES, cut["close"])
    if panel.volume is not None:
        cut[VOLUME] = panel.volume.loc[rows, is_priced]
    members = panel.members and panel.members.until(bars[-1].astimezone(NEW_YORK).date())
    return replace(panel, **cut, members=members, notes=(*panel.notes, *unpriced))
