"""Leaks planted on purpose, from the reading of the prices to the comparison: the check must catch each of them.

A check that finds nothing proves little unless it is known to find something. Each leak replaces one function of the
product by one that also looks at later bars, as mistakes in such a place do, and is taken out again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

import trader.prices.file
from scripts.backtest import benchmark, buy_and_hold, engine, forecasts, panel_prices, prices, yahoo_cache
from scripts.backtest.compute import Task
from scripts.backtest.judged import Judged
from scripts.backtest.model import Options, Panel
from scripts.backtest.panel_prices import PanelPrices, SlotPrices
from scripts.sweep import walk_forward
from scripts.sweep.walk_forward import Figure, Fold
from trader.alpha import loader
from trader.model import NEW_YORK, Closes, Insight, Ohlv, Target
from trader.prices.bars import PRICES
from trader.prices.table import PriceTable
from trader.stages import portfolio, universe

LATE = 250
"""The number of bars after which a late leak begins: a check of a short span cannot see it."""

type Function = Callable[..., Any]
"""A function of the product, whatever its arguments."""

type Numbers = np.ndarray[tuple[int, int], np.dtype[np.float64]]

type Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A planted leak. `plant` is a context in which the product has it.

    `choose`, if the leak is a choice of symbols, returns them: a choice that is the same up to each bar shows nothing.
    """

    where: str
    what: str
    plant: Callable[[], AbstractContextManager[None]]
    is_late: bool = False
    choose: Callable[[Panel], list[str]] | None = None
    at_slots: bool | None = None  # whether it is of DECIDE_EVERY only, or has nothing to do with it; None: either
    of_ohlcv: bool = False  # it is of rules only that need open, high, low and volume
    keeps_forecasts: bool = False  # it changes neither the prices nor the forecasts, which are then not made again

    def is_of(self, options: Options) -> bool:
        """Check whether what the leak changes is used in a backtest with these options."""
        if self.of_ohlcv and not loader.needs_ohlcv(options.settings):
            return False
        return self.at_slots is None or self.at_slots == bool(options.decide_every)


@contextmanager
def replaced(owner: object, name: str, make: Callable[[Any], Function]) -> Iterator[None]:
    """Replace a function of a module or class by what `make` makes of it."""
    real = getattr(owner, name)
    setattr(owner, name, make(real))
    try:
        yield
    finally:
        setattr(owner, name, real)


# --- reading and loading -------------------------------------------------------------------------------------------


def next_close_in_file() -> AbstractContextManager[None]:
    """Read each row's prices from the row after it, as a reader that is off by one does."""
    return replaced(trader.prices.file, "read_table", lambda real: _change_tables(real, _take_next))


def _change_tables(real: Callable[..., PriceTable], change: Callable[[pd.DataFrame], pd.DataFrame]) -> Function:
    def read(*arguments: object, **more: object) -> PriceTable:
        table = real(*arguments, **more)
        changed = {id(each): change(each) for each in table.tables.values()}
        return replace(table, tables={name: changed[id(each)] for name, each in table.tables.items()})

    return read


def _take_next(table: pd.DataFrame) -> pd.DataFrame:
    return table.shift(-1).fillna(table)


def smooth() -> AbstractContextManager[None]:
    """Replace each price by the mean of three bars, the next among them."""
    return _clean(lambda table: table.rolling(3, center=True, min_periods=1).mean())


def fill_backwards() -> AbstractContextManager[None]:
    """Fill a gap with the price after it."""
    return _clean(lambda table: table.bfill(limit=5))


@contextmanager
def _clean(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Iterator[None]:
    """Change the tables that are cleaned, those of files and those of Yahoo."""

    def make(real: Function) -> Function:
        def clean(tables: Tables, **more: object) -> object:
            changed = {id(each): change(each) for each in tables.values()}
            return real({name: changed[id(each)] for name, each in tables.items()}, **more)

        return clean

    with replaced(trader.prices.file, "clean_bars", make), replaced(yahoo_cache, "clean_bars", make):
        yield


def keep_survivors() -> AbstractContextManager[None]:
    """Load only symbols that have a price at the last bar (survivorship bias)."""
    return replaced(prices, "_trim_bars", lambda real: _keep(real, choose_survivors))


def keep_winners() -> AbstractContextManager[None]:
    """Load only the symbols that gain most by the last bar (hindsight)."""
    return replaced(prices, "_trim_bars", lambda real: _keep(real, choose_winners))


def choose_survivors(panel: Panel) -> list[str]:
    """Return the symbols with a price at the last bar."""
    last = panel.close.iloc[-1]
    return [str(symbol) for symbol in last.index[last.notna()]]


def choose_winners(panel: Panel) -> list[str]:
    """Return the half of the symbols that gain most in the last five bars."""
    close = panel.close.ffill()
    gains = close.iloc[-1] / close.iloc[-6:].bfill().iloc[0]
    return [str(symbol) for symbol, gain in gains.items() if gain >= gains.median()]


def _keep(real: Callable[..., Panel], choose: Callable[[Panel], list[str]]) -> Function:
    def trim(panel: Panel, options: Options) -> Panel:
        whole = real(panel, options)
        chosen: dict[str, Any] = {name: table[choose(whole)] for name, table in whole.tables.items()}
        return replace(whole, **chosen)

    return trim


def scale() -> AbstractContextManager[None]:
    """Scale the prices of each symbol so that the last is 100 USD, as a normalization over all prices does."""

    def make(real: Callable[..., Panel]) -> Function:
        def trim(panel: Panel, options: Options) -> Panel:
            whole = real(panel, options)
            factors = 100 / whole.close.ffill().iloc[-1]
            return replace(whole, **{name: getattr(whole, name) * factors for name in PRICES})

        return trim

    return replaced(prices, "_trim_bars", make)


# --- deciding ------------------------------------------------------------------------------------------------------


class _Peek:
    """The panel of a backtest in progress and its present bar, for code that must not know the panel."""

    panel: Panel
    bar: datetime
    bars = 0

    def gain(self, symbol: str) -> float:
        """Return a symbol's gain at the next bar, 0 if there is none."""
        closes = self.panel.close[symbol].ffill()
        at = int(closes.index.searchsorted(self.bar))
        after = min(at + 1, len(closes) - 1)
        return float(closes.iloc[after] / closes.iloc[at] - 1)


@contextmanager
def _peeking() -> Iterator[_Peek]:
    peek = _Peek()

    def judging(real: Callable[[Panel, str], Judged]) -> Function:
        def judge(panel: Panel, bar_interval: str) -> Judged:
            peek.panel = panel
            return real(panel, bar_interval)

        return judge

    def stepping(real: Callable[[object, datetime], None]) -> Function:
        def at(prices: object, bar: datetime) -> None:
            peek.bar, peek.bars = bar, peek.bars + 1
            real(prices, bar)

        return at

    with replaced(engine, "judge", judging), replaced(PanelPrices, "at", stepping):
        yield peek


@contextmanager
def rank_by_tomorrow() -> Iterator[None]:
    """Rank the candidates by their gain at the next bar."""
    with _peeking() as peek:

        def returns(closes: Mapping[str, Closes], lookback_bars: int) -> dict[str, float]:
            return {symbol: peek.gain(symbol) for symbol, each in closes.items() if len(each) > lookback_bars}

        with replaced(universe, "returns", lambda _real: returns):
            yield


def size_by_tomorrow() -> AbstractContextManager[None]:
    """Buy half as much of what falls at the next bar."""
    return _size_by_tomorrow(0)


def late_size_by_tomorrow() -> AbstractContextManager[None]:
    """Do so only from the LATE-th traded bar on."""
    return _size_by_tomorrow(LATE)


@contextmanager
def _size_by_tomorrow(begin: int) -> Iterator[None]:
    with _peeking() as peek:

        def make(real: Callable[..., tuple[Target, ...]]) -> Function:
            def targets(insights: Sequence[Insight], *more: object, **named: object) -> tuple[Target, ...]:
                return tuple(
                    replace(each, wanted=each.wanted // 2) if peek.bars > begin and peek.gain(each.symbol) < 0 else each
                    for each in real(insights, *more, **named)
                )

            return targets

        with replaced(portfolio, "targets", make):
            yield


def fit_next_bar() -> AbstractContextManager[None]:
    """Fit every trend line to the next bar too, as a model does that was fitted once to all prices."""
    return replaced(forecasts.Blocks, "_task", lambda real: _fit_later(real, 0))


def late_fit_next_bar() -> AbstractContextManager[None]:
    """Do so only from the LATE-th traded bar on."""
    return replaced(forecasts.Blocks, "_task", lambda real: _fit_later(real, LATE))


def _fit_later(real: Callable[..., Task], begin: int) -> Function:
    def task(blocks: Any, rows: Mapping[str, Sequence[tuple[int, int]]]) -> Task:  # noqa: ANN401
        first, last = blocks._start + begin, len(blocks._close) - 1
        later = {
            symbol: [(row, min(fit + 1, last) if row >= first else fit) for row, fit in each]
            for symbol, each in rows.items()
        }
        made = real(blocks, {symbol: [(max(pair), pair[1]) for pair in each] for symbol, each in later.items()})
        offset = int(blocks._close.index.searchsorted(made.closes.index[0])) if len(made.closes) else 0
        bars = {symbol: tuple((row - offset, fit - offset) for row, fit in each) for symbol, each in later.items()}
        return replace(made, bars=bars)

    return task


def next_slot_price() -> AbstractContextManager[None]:
    """Give each slot the price of the session's next slot, as bars do that are named by their ends."""

    def make(real: Callable[..., object]) -> Function:
        def series_at(slots: SlotPrices, symbol: str, bar: datetime) -> object:
            place = int(slots._index.searchsorted(pd.Timestamp(bar))) + 1
            later = slots._index[place].to_pydatetime() if place < len(slots._index) else bar
            return real(slots, symbol, later if later.date() == bar.date() else bar)

        return series_at

    return replaced(SlotPrices, "series_at", make)


def later_high() -> AbstractContextManager[None]:
    """Show each bar with the high and the volume of the second bar after it.

    So both the running bar and the one before it have them of later bars: many rules look at one of the two only.
    """

    def make(real: Callable[[Panel, str], Ohlv | None]) -> Function:
        def take_ohlv(panel: Panel, symbol: str) -> Ohlv | None:
            ohlv = real(panel, symbol)
            if ohlv is None:
                return None
            opened, high, low, volume = ohlv.T
            later = np.minimum(np.arange(len(ohlv)) + 2, len(ohlv) - 1)
            return np.column_stack([opened, high[later], low, volume[later]])

        return take_ohlv

    return replaced(Panel, "take_ohlv", make)


def whole_session() -> AbstractContextManager[None]:
    """Show the running session at each slot with the high, the low and the volume of the whole session."""

    def make(real: Callable[[Panel], Mapping[str, Ohlv]]) -> Function:
        def sum_up(panel: Panel) -> Mapping[str, Ohlv]:
            days = pd.DatetimeIndex(panel.close.index).tz_convert(NEW_YORK).normalize()
            return {
                symbol: pd.DataFrame(ohlv).groupby(days).transform("last").to_numpy()
                for symbol, ohlv in real(panel).items()
            }

        return sum_up

    return replaced(panel_prices, "sum_up", make)


# --- filling and comparing -----------------------------------------------------------------------------------------


def fill_at_best() -> AbstractContextManager[None]:
    """Fill orders at the lower of a bar's open and the next bar's close."""

    def make(real: Callable[..., Numbers]) -> Function:
        def rows(panel: Panel, visible: Closes, times: Sequence[datetime]) -> Numbers:
            time, opened, high, low, close = real(panel, visible, times).T
            later = np.append(close[1:], close[-1:])
            return np.column_stack([time, np.minimum(opened, later), high, np.minimum(low, later), close])

        return rows

    return replaced(engine, "rows", make)


def hold_winners() -> AbstractContextManager[None]:
    """Buy and hold only the symbols that gain most by the last bar."""

    def make(real: Callable[[Any], pd.DataFrame]) -> Function:
        return lambda result: real(result)[choose_winners(result.panel)]

    return replaced(buy_and_hold, "_closes", make)


def next_benchmark() -> AbstractContextManager[None]:
    """Give the benchmark the next bar's close at each bar."""

    def make(real: Function) -> Function:
        def align(*arguments: Any, **more: Any) -> object:  # noqa: ANN401 as the real one takes them
            closes, is_known = real(*arguments, **more)
            return np.append(closes[1:], closes[-1:]), is_known

        return align

    return replaced(benchmark, "_align", make)


# --- choosing settings ---------------------------------------------------------------------------------------------


def choose_by_outcome() -> AbstractContextManager[None]:
    """Choose each part's setting by its result on the next part, on which it is judged."""

    def make(real: Callable[..., list[Fold]]) -> Function:
        def walk(figures: Sequence[Sequence[Figure]], default: Sequence[Figure] | None, better: int) -> list[Fold]:
            return real([[*row[1:], *row[-1:]] for row in figures], default, better)

        return walk

    return replaced(walk_forward, "walk_forward", make)


OF_SWEEPS = Leak(where="sweep", what="a setting is chosen by the part that it is judged on", plant=choose_by_outcome)
"""The leak that only the check of sweeps can find."""

LEAKS: Sequence[Leak] = (
    Leak(where="reader", what="each row has the next row's prices", plant=next_close_in_file),
    Leak(where="cleaning", what="each price is the mean of three, one of them the next", plant=smooth),
    Leak(where="cleaning", what="a gap is filled with the price after it", plant=fill_backwards),
    Leak(
        where="loader",
        what="only symbols with a price at the end are candidates",
        plant=keep_survivors,
        choose=choose_survivors,
        at_slots=False,
    ),
    Leak(
        where="loader",
        what="only symbols that will do well are candidates",
        plant=keep_winners,
        choose=choose_winners,
        at_slots=False,
    ),
    Leak(where="scaling", what="the last price of each symbol is made 100", plant=scale, at_slots=False),
    Leak(where="slots", what="each slot has the price of the next one", plant=next_slot_price, at_slots=True),
    Leak(
        where="bars",
        what="each bar has the high and volume of a later one",
        plant=later_high,
        at_slots=False,
        of_ohlcv=True,
    ),
    Leak(
        where="bars", what="each slot has the whole session's range", plant=whole_session, at_slots=True, of_ohlcv=True
    ),
    Leak(
        where="ranking",
        what="candidates are ranked by the next bar's gain",
        plant=rank_by_tomorrow,
        keeps_forecasts=True,
    ),
    Leak(where="forecasts", what="each trend line is fitted to the next bar too", plant=fit_next_bar, at_slots=False),
    Leak(
        where="sizing",
        what="less is bought of what falls at the next bar",
        plant=size_by_tomorrow,
        keeps_forecasts=True,
    ),
    Leak(
        where="fills",
        what="orders are filled at the next close if it is lower",
        plant=fill_at_best,
        keeps_forecasts=True,
    ),
    Leak(
        where="benchmark",
        what="only symbols that will do well are held",
        plant=hold_winners,
        choose=choose_winners,
        keeps_forecasts=True,
    ),
    Leak(
        where="benchmark",
        what="the index has the next bar's close at each bar",
        plant=next_benchmark,
        at_slots=False,
        keeps_forecasts=True,
    ),
    Leak(
        where="forecasts",
        what=f"from bar {LATE} on, each trend line is fitted to the next bar too",
        plant=late_fit_next_bar,
        is_late=True,
        at_slots=False,
    ),
    Leak(
        where="sizing",
        what=f"from bar {LATE} on, less is bought of what falls at the next bar",
        plant=late_size_by_tomorrow,
        is_late=True,
        keeps_forecasts=True,
    ),
)


@contextmanager
def planted(leak: Leak) -> Iterator[None]:
    """Plant a leak. Files that were read before, with or without it, are read again."""
    trader.prices.file.forget()
    try:
        with leak.plant():
            yield
    finally:
        trader.prices.file.forget()
