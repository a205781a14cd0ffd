"""A backtest at the bot's own rhythm: several decisions a day, on bars within the sessions, with daily history.

At each slot the bot sees what it sees when it is deployed: the finished sessions as daily bars, and the running one as
a daily bar that ends at the last known price. A slot is the end of a bar within the session, so that bar is known, and
the next one, whose opening fills the orders, is not. What is decided in between is the same code as everywhere.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scripts.backtest import prices
from scripts.backtest.model import BacktestError, Bar, Options, Panel, Result
from scripts.backtest.price_notes import count_warm_up_bars
from scripts.console import format_count
from scripts.data.members import shipped
from trader.alpha import loader
from trader.model import BAR_LENGTH, NEW_YORK, Note
from trader.prices.bars import PRICES, VOLUME
from trader.prices.file import FilePrices
from trader.prices.table import PriceFileError
from trader.progress import Progress, no_progress
from trader.schedule import sessions

if TYPE_CHECKING:
    from scripts.backtest.yahoo_cache import Cache

MAX_CLOSE_DIFFERENCE_FRACTION = 0.02
"""The most by which the day's last price and its daily close may differ: the closing auction moves it by less."""

MAX_MEDIAN_DIFFERENCE_FRACTION = 0.002
"""The same for the median of a symbol's days: a dividend for which only one of the two is adjusted shows in it."""

MAX_NAMED = 5
"""Maximum number of symbols named in a message."""


def load(
    options: Options, progress: Progress = no_progress, *, now: datetime | None = None, cache: "Cache | None" = None
) -> Panel:
    """Load the bars within the sessions up to END, and the daily history of the same symbols; see prices.load.

    Raises BacktestError if they do not go together, or if there is nothing to trade.
    """
    history = prices.read(by_day_options(options), progress, now=now, cache=cache)
    symbols = [str(symbol) for symbol in history.close.columns]
    within = read_within(options, symbols, progress, now=now, cache=cache)
    notes = [*_note_absent(symbols, within), *within.notes]
    panel = _cut(replace(_take(within, symbols), daily=_take(history, symbols)), options)
    notes += _note_lack_of_volume(panel, options)
    require_bars_from_opening(panel, options)
    require_one_unit(panel, options)
    panel = end_at_daily_closes(panel, options.bar_interval)
    if history.members:
        last = panel.close.index[-1].astimezone(NEW_YORK).date()
        panel = replace(panel, members=shipped().until(last))
    traded = span(panel, options)
    if lack := options.cash_rate.explain_lack(traded[0]):
        raise BacktestError(lack)
    notes += _note_missing(panel, traded, options)
    source = f"{history.source}, with {within.source}"
    return replace(panel, source=source, notes=(*history.notes, *notes))


def by_day_options(options: Options) -> Options:
    """Return the options of a backtest that decides once a day on the same history."""
    return replace(options, decide_every="", intraday_file="")


def span(panel: Panel, options: Options) -> tuple[datetime, ...]:
    """Return the starts of the bars from START to END of which any symbol has a price; see prices.span.

    The first is of a session before which the history is long enough. Raises BacktestError if there is none.
    """
    assert panel.daily is not None, "a panel of load has a history"
    bars = pd.DatetimeIndex(panel.close.index[panel.close.notna().to_numpy().any(axis=1)])
    days = _days(bars)
    needed = count_warm_up_bars(options.settings)
    counts = panel.daily.close.notna().to_numpy().cumsum(axis=0).max(axis=1, initial=0)
    places = pd.DatetimeIndex(panel.daily.close.index).searchsorted(days.tz_convert(UTC))
    has_enough = np.concatenate([[0], counts])[places] + 1 >= needed  # with the running session as the last one
    if not has_enough.any():
        raise BacktestError(
            f"too little history: {format_count(needed, 'daily bar')} up to the running session are needed, by "
            f"HISTORY_BARS={options.settings.history_bars} and "
            f"UNIVERSE_LOOKBACK_BARS={options.settings.universe_lookback_bars}, but there are {int(counts.max()):,} in "
            "all; lower them, or provide more daily prices"
        )
    ready = days[int(np.argmax(has_enough))].date()
    last = days[-1].date()
    usual = (pd.Timestamp(last) - pd.DateOffset(years=prices.DEFAULT_YEARS)).date()
    start = options.start or max(ready, usual)
    if start < ready:
        raise BacktestError(
            f"START={start} is too early: with prices within the sessions and {needed - 1:,} daily bars before, the "
            f"first START that works is {ready}"
        )
    begun = int(days.searchsorted(prices.midnight(start)))
    if begun == len(bars):
        raise BacktestError(f"there is no price within a session from START={start} on: the last is of {last}")
    return tuple(bars[begun:].to_pydatetime().tolist())


def slot_after(bar: datetime, every: str) -> datetime:
    """Return the slot at the end of a bar; that of the session's last bar is the close, at which nothing is traded."""
    end = bar + BAR_LENGTH[every]
    hours = sessions.session(bar.astimezone(NEW_YORK).date())
    return min(end, hours[1]).astimezone(UTC) if hours and bar < hours[1] else end


def count_forecasts(times: Sequence[datetime], options: Options) -> int:
    """Return how many forecasts are made if all chosen symbols have a price at each slot; holdings may add some."""
    slots = sum(is_slot(each, options) for each in times)
    named = len(options.settings.universe)
    size = options.settings.universe_size
    return slots * (size if options.settings.universe == ("sp500",) else min(size, named))


def is_slot(bar: datetime, options: Options) -> bool:
    """Check whether the bot may trade at the end of a bar: within the session and, with DAILY_AT, at that time."""
    slot = slot_after(bar, options.bar_interval)
    return sessions.is_open(slot) and options.settings.daily_at in {"", f"{slot.astimezone(NEW_YORK):%H:%M}"}


# --- a day as one bar ----------------------------------------------------------------------------------------------


def days_of(times: Sequence[datetime], options: Options) -> tuple[datetime, ...]:
    """Return the starts of the daily bars of some bars' days; the bars themselves without DECIDE_EVERY."""
    if not options.decide_every:
        return tuple(times)
    days = dict.fromkeys(time.astimezone(NEW_YORK).date() for time in times)
    return tuple(prices.midnight(day).astimezone(UTC) for day in days)


def by_day(result: Result) -> Result:
    """Return a backtest with a bar for each session, which ends as its last bar does; itself without DECIDE_EVERY.

    It is what the account's figures are made from, so that they mean the same as those of a backtest on daily bars.
    Fills keep their times. Of the decisions, a day has its last; the orders stay with the slots.
    """
    options, daily = result.options, result.panel.daily
    if not options.decide_every or daily is None:
        return result
    last: dict[date, Bar] = {}
    for bar in result.bars:
        day = bar.time.astimezone(NEW_YORK).date()
        decision = bar.decision or (last[day].decision if day in last else None)
        last[day] = replace(bar, decision=decision, outcomes=())
    times = days_of([bar.time for bar in result.bars], options)
    bars = tuple(replace(bar, time=time) for time, bar in zip(times, last.values(), strict=True))
    panel = _fill_running_session(daily, result.panel)
    return replace(
        result,
        options=by_day_options(options),
        panel=replace(panel, source=result.panel.source, notes=result.panel.notes, has_ohlc=result.panel.has_ohlc),
        bars=bars,
    )


def _fill_running_session(daily: Panel, within: Panel) -> Panel:
    """Give the sessions that the history lacks the prices of their bars, such as one that has not ended."""
    by_session = _days(pd.DatetimeIndex(within.close.index)).tz_convert(UTC)
    joined = {
        name: getattr(within, name).groupby(by_session).agg(how)
        for name, how in zip(PRICES, ("first", "max", "min", "last"), strict=True)
    }
    missing = joined["close"].index.difference(daily.close.index)
    if not len(missing):
        return daily
    daily = replace(daily, volume=None)  # which no figure is made from
    return _map(daily, lambda name, table: pd.concat([table, joined[name].loc[missing]]).sort_index())


# --- the two sources of bars within the sessions -------------------------------------------------------------------


def read_within(
    options: Options,
    symbols: Sequence[str],
    progress: Progress = no_progress,
    *,
    now: datetime | None = None,
    cache: "Cache | None" = None,
) -> Panel:
    """Read the bars within the sessions: all of INTRADAY_FILE, or those of some symbols from Yahoo."""
    return _from_file(options) if options.intraday_file else _from_yahoo(options, symbols, now, cache, progress)


def _from_file(options: Options) -> Panel:
    path, every = Path(options.intraday_file), options.bar_interval
    try:
        source = FilePrices(path, every, options.settings.universe, ohlcv=loader.needs_ohlcv(options.settings))
        found = source.bars()
    except PriceFileError as error:
        raise BacktestError(f"INTRADAY_FILE: {_name_settings(str(error))}") from error
    about = [Note(symbol="", what=f"{path.name}: {what}") for what in found.notes]
    about += [note for note in found.clean.notes if note.symbol]
    return Panel.of(found.clean.tables, has_ohlc=found.has_ohlc, source=source.describe(), notes=about)


def _name_settings(text: str) -> str:
    """Return an error on a price file in the names of the settings that choose this file."""
    text = text.replace("set BAR_INTERVAL=1d", "use a file of shorter bars").replace("BAR_INTERVAL", "DECIDE_EVERY")
    return text.replace("PRICE_FILE", "INTRADAY_FILE")


def _from_yahoo(
    options: Options, symbols: Sequence[str], now: datetime | None, cache: "Cache | None", progress: Progress
) -> Panel:
    from scripts.backtest.yahoo_cache import Cache, clean, final_until, list_splits  # a file of prices needs no network
    from trader.prices.yahoo import MAX_DAYS

    every, now = options.bar_interval, now or datetime.now(UTC)
    until = final_until(now)
    end = min(prices.midnight(options.end + timedelta(days=1)), until) if options.end else until
    reach = (now - timedelta(days=MAX_DAYS[every])).astimezone(NEW_YORK).date() + timedelta(days=1)
    if options.start and options.start < reach:
        raise BacktestError(
            f"START={options.start}: Yahoo keeps {every} bars for {MAX_DAYS[every]} days, so the first START is "
            f"{reach}; choose a later START, or set INTRADAY_FILE to a file of your own"
        )
    start = prices.midnight(options.start or reach)
    reads_volume = loader.needs_ohlcv(options.settings)
    bars, reasons = (cache or Cache()).bars(symbols, every, start, end, now, progress, reads_volume=reads_volume)
    cleaned = clean(bars, every)
    lacking = (Note(symbol=symbol, what=f"Yahoo returned no {every} bars: {why}") for symbol, why in reasons.items())
    return replace(
        Panel.of(cleaned.tables, has_ohlc=True, source=f"Yahoo's {every} bars", notes=(*lacking, *cleaned.notes)),
        splits=list_splits(bars),
    )


def _map(panel: Panel, change: Callable[[str, pd.DataFrame], pd.DataFrame]) -> Panel:
    """Change each table; if only closes are known, all four tables of prices are still the same."""
    close = change("close", panel.close)
    if not panel.has_ohlc:
        return replace(panel, open=close, high=close, low=close, close=close)
    opened, high, low = (change(name, getattr(panel, name)) for name in PRICES[:3])
    volume = None if panel.volume is None else change(VOLUME, panel.volume)
    return replace(panel, open=opened, high=high, low=low, close=close, volume=volume)


def _take(panel: Panel, symbols: Sequence[str]) -> Panel:
    """Return the panel of these symbols; one that it lacks has no price."""
    return _map(panel, lambda _, table: table.reindex(columns=list(symbols)))


def _cut(panel: Panel, options: Options) -> Panel:
    """Cut both parts of the panel at END. Raises BacktestError if no price within a session is left."""
    assert panel.daily is not None, "load sets it"
    if panel.close.notna().to_numpy().sum() == 0:
        raise BacktestError(
            f"{panel.source}: no prices of {_name(panel.close.columns)}; choose another UNIVERSE, or another file"
        )
    if options.end is None:
        return panel
    until = pd.Timestamp(prices.midnight(options.end + timedelta(days=1)))
    cut = _before(panel, until)
    if not cut.close.notna().to_numpy().any():
        first = panel.close.index[0].astimezone(NEW_YORK).date()
        raise BacktestError(
            f"END={options.end} is before all prices within sessions, which begin on {first}; choose a later END"
        )
    return replace(cut, daily=_before(panel.daily, until))


def _before(panel: Panel, moment: pd.Timestamp) -> Panel:
    count = int(pd.DatetimeIndex(panel.close.index).searchsorted(moment))
    return _map(panel, lambda _, table: table.iloc[:count])


# --- do the two go together? ---------------------------------------------------------------------------------------


def require_bars_from_opening(panel: Panel, options: Options) -> None:
    """Raise BacktestError unless all bars begin at the opening, or whole bars after it: their ends are the slots."""
    index, every = pd.DatetimeIndex(panel.close.index), options.bar_interval
    local = index.tz_convert(NEW_YORK)
    minutes = local.hour * 60 + local.minute - (sessions.OPEN.hour * 60 + sessions.OPEN.minute)
    length = int(BAR_LENGTH[every].total_seconds() // 60)
    is_off = (minutes < 0) | (minutes % length != 0) | (local.second != 0)
    if is_off.any():
        raise BacktestError(
            f"{panel.source}: a bar begins at {local[is_off][0]:%H:%M} on {local[is_off][0]:%Y-%m-%d}; with "
            f"DECIDE_EVERY={every} each begins at the opening, 09:30 in New York, or whole bars after it: write the "
            "start of each bar, not its end"
        )


def require_one_unit(panel: Panel, options: Options) -> None:
    """Raise BacktestError if the last price of a session and the session's daily close do not fit together.

    Between a history that is adjusted for a dividend or a split and prices that are not, every morning would begin
    with a jump that never happened.
    """
    assert panel.daily is not None, "load sets it"
    _, last = _find_last_bars(panel, options.bar_interval)
    shared = last.index.intersection(panel.daily.close.index)
    ratio = panel.daily.close.loc[shared] / last.loc[shared] - 1
    for symbol in map(str, ratio.columns):
        differences = ratio[symbol].dropna()
        if differences.empty:
            continue
        day = differences.index[int(np.argmax(differences.abs()))]
        median = float(differences.median())
        if abs(median) > MAX_MEDIAN_DIFFERENCE_FRACTION or abs(differences[day]) > MAX_CLOSE_DIFFERENCE_FRACTION:
            daily_usd, last_usd = (float(table.loc[day, symbol]) for table in (panel.daily.close, last))
            count = format_count(len(differences), "session")
            remedy = "" if options.intraday_file else ", or delete out/cache/yahoo to fetch both again"
            raise BacktestError(
                f"{symbol} on {day.astimezone(NEW_YORK):%Y-%m-%d}: the daily close is {daily_usd:,.2f}, but the last "
                f"price within the session is {last_usd:,.2f} ({median:+.2%} at the median of {count}): the two are "
                f"not in one unit; adjust both for splits and dividends up to the same day{remedy}"
            )


def end_at_daily_closes(panel: Panel, every: str) -> Panel:
    """Let the last bar of each finished session end at the session's daily close, which is that of the auction.

    So an account is valued at the close as in a backtest on daily bars. Nothing is decided on this bar's close.
    """
    assert panel.daily is not None, "load sets it"
    bars, last = _find_last_bars(panel, every)
    known = panel.daily.close.reindex(last.index).where(last.notna()).set_axis(bars)
    close = panel.close.copy()
    close.loc[bars] = known.where(known.notna(), close.loc[bars])
    if not panel.has_ohlc:
        return _map(panel, lambda *_: close)
    high = panel.high.where(panel.high >= close, close.where(panel.high.notna()))
    low = panel.low.where(panel.low <= close, close.where(panel.low.notna()))
    return replace(panel, high=high, low=low, close=close)


def _find_last_bars(panel: Panel, every: str) -> tuple[pd.DatetimeIndex, pd.DataFrame]:
    """Return the bars that end with their session, and their closes by the start of the session's daily bar."""
    index = pd.DatetimeIndex(panel.close.index)
    closes = [sessions.session(day.date()) for day in _days(index)]
    is_last = np.array(
        [bar + BAR_LENGTH[every] >= hours[1] for bar, hours in zip(index, closes, strict=True) if hours], np.bool_
    )
    bars = index[is_last]
    return bars, panel.close.loc[bars].set_axis(_days(bars).tz_convert(UTC))


# --- notes ---------------------------------------------------------------------------------------------------------


def _note_absent(symbols: Sequence[str], within: Panel) -> list[Note]:
    """Note the symbols without a price within a session, which are STALE_PRICE at every slot."""
    close = within.close
    absent = [each for each in symbols if each not in close.columns or not close[each].notna().any()]
    if not absent:
        return []
    return [Note(symbol="", what=f"without prices within the sessions, and so not traded: {_name(absent)}")]


def _note_lack_of_volume(panel: Panel, options: Options) -> tuple[Note, ...]:
    """Note the symbols without a volume in either part if the rule needs it. Raises BacktestError if that is all."""
    assert panel.daily is not None, "load sets it"
    found = [
        note
        for part, setting in ((panel.daily, "PRICE_FILE"), (panel, "INTRADAY_FILE"))
        for note in prices.note_lack_of_volume(part, options.settings, setting)
    ]
    return tuple(found)


def _note_missing(panel: Panel, traded: Sequence[datetime], options: Options) -> list[Note]:
    """Note the sessions and slots without a bar of any symbol, at which a deployed bot would run and this one does not.

    And those that the history lacks, whose days are missing in what trend lines are fitted to.
    """
    assert panel.daily is not None, "load sets it"
    bars = pd.DatetimeIndex(list(traded))
    by_day = pd.Series(1, index=_days(bars)).groupby(level=0).sum()
    first, last = by_day.index[0].date(), by_day.index[-1].date()
    every = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    open_days = {day: hours for day in every if (hours := sessions.session(day))}
    lengths = {day: -((hours[0] - hours[1]) // BAR_LENGTH[options.bar_interval]) for day, hours in open_days.items()}
    counts = {day.date(): int(count) for day, count in zip(by_day.index, by_day, strict=True)}
    found = []
    if lacking := [day for day in open_days if day not in counts]:
        found.append(
            f"no bar within {format_count(len(lacking), 'session')}, the first on {lacking[0]}: the bot does not run "
            "on these days, and stops are not watched"
        )
    short = {day: lengths[day] - count for day, count in counts.items() if day != last and count < lengths[day]}
    if short:
        found.append(
            f"{format_count(sum(short.values()), 'slot')} of {format_count(len(short), 'session')} without a bar of "
            f"any symbol, the first on {next(iter(short))}: the bot does not run at them"
        )
    known = {day.date() for day in _days(pd.DatetimeIndex(panel.daily.close.index))}
    if unknown := [day for day in counts if day not in known and day != last]:
        found.append(
            f"the history lacks {format_count(len(unknown), 'session')}, the first of {unknown[0]}: trend lines are "
            "fitted without them"
        )
    return [Note(symbol="", what=what) for what in found]


def _name(symbols: Collection[str]) -> str:
    """Name the first symbols, and count the rest."""
    more = f" and {len(symbols) - MAX_NAMED:,} more" if len(symbols) > MAX_NAMED else ""
    return f"{', '.join(list(symbols)[:MAX_NAMED])}{more}"


def _days(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return the midnights in New York before some moments, which are the starts of their daily bars."""
    return index.tz_convert(NEW_YORK).normalize()
