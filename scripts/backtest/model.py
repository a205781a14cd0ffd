"""The frozen values of a backtest: its options, prices and results."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest.cash_rate import CashRate
from scripts.console import CommandError
from scripts.data.members import Members
from scripts.files import OUT
from trader.model import OHLV, Decision, Denial, Note, Ohlv, Order, Side
from trader.prices.bars import VOLUME
from trader.settings import Settings


class BacktestError(CommandError):
    """A backtest cannot run on its inputs; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The bot's settings, and the options of a backtest."""

    settings: Settings
    start: date | None = None  # first traded day, New York; None: chosen from the prices
    end: date | None = None  # last traded day; None: the last day of the prices
    cash_usd: float = 100_000.0
    commission_fraction: float = 0.0  # of the value of each order
    slippage_fraction: float = 0.0005  # of the price, against the order; limit orders have none
    refit_every_bars: int = 1  # 1 as in the bot; otherwise the last model forecasts the bars in between
    fills_at_close: bool = False  # fill at the close used for the decision, as the embedded broker does (make compare)
    benchmark: str = ""  # a symbol, or the path of a price file; "": the index of the shipped sample, otherwise none
    cash_rate: CashRate = field(default_factory=CashRate)
    decide_every: str = ""  # the interval of the slots, as in BAR_INTERVAL; "": once at every bar of the history
    intraday_file: str = ""  # of bars as long as decide_every; "": Yahoo's
    out: Path = OUT

    @property
    def bar_interval(self) -> str:
        """The length of the bars in which orders are filled, and after each of which the bot may decide."""
        return self.decide_every or self.settings.bar_interval


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Panel:
    """Bars of all symbols on one calendar, in USD. Index: starts of the bars (UTC); columns: symbols; NaN in gaps.

    If only closes are known (`has_ohlc` is false), all four tables hold the close. With DECIDE_EVERY the bars are those
    within the sessions, and `daily` has the finished sessions, which are the history that forecasts are made from.
    """

    open: pd.DataFrame
    high: pd.DataFrame
    low: pd.DataFrame
    close: pd.DataFrame
    has_ohlc: bool
    source: str  # in words, for the report
    notes: tuple[Note, ...] = ()
    splits: Mapping[str, Mapping[date, float]] = field(default_factory=dict)  # as the source reports them; see Series
    members: Members | None = None  # of the index that is the universe, as they are known at the end of the prices
    volume: pd.DataFrame | None = None  # in shares, for a rule that needs open, high, low and volume
    daily: "Panel | None" = None  # of the same symbols

    @classmethod
    def of(cls, tables: Mapping[str, pd.DataFrame], *, has_ohlc: bool, source: str, notes: Iterable[Note]) -> "Panel":
        """Return the panel of the tables with these names: open, high, low and close, and perhaps volume."""
        return cls(
            open=tables["open"],
            high=tables["high"],
            low=tables["low"],
            close=tables["close"],
            has_ohlc=has_ohlc,
            source=source,
            notes=tuple(notes),
            volume=tables.get(VOLUME),
        )

    def until(self, time: datetime) -> "Panel":
        """Return the panel without the bars that began after `time`."""
        return Panel(
            open=self.open.loc[:time],
            high=self.high.loc[:time],
            low=self.low.loc[:time],
            close=self.close.loc[:time],
            has_ohlc=self.has_ohlc,
            source=self.source,
            notes=self.notes,
            splits=self.splits,
            members=self.members,
            volume=None if self.volume is None else self.volume.loc[:time],
        )

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The tables of open, high, low and close, and of the volume if there is one."""
        prices = {"open": self.open, "high": self.high, "low": self.low, "close": self.close}
        return prices if self.volume is None else {**prices, VOLUME: self.volume}

    def take_ohlv(self, symbol: str) -> Ohlv | None:
        """Return the open, high, low and volume of a symbol, a row for each bar; None without volumes."""
        if self.volume is None:
            return None
        return np.column_stack([self.tables[name][symbol].to_numpy(float) for name in OHLV])


DELISTING = "delisting"
"""The kind of a Fill that no order asked for: shares whose prices have ended are paid out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """The execution of a whole order: there are no partial fills."""

    time: datetime  # start of the bar in which it was filled
    client_order_id: str  # of the order, with -stop-loss or -take-profit for a leg of its bracket
    symbol: str
    side: Side
    kind: str  # market, stop-loss, take-profit or delisting
    quantity: float
    price_usd: float  # slippage included
    decided_price_usd: float  # price of the decision, the stop or the limit
    commission_usd: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The bot's decision and orders at one bar, and the account at its close."""

    time: datetime  # the bar's start
    slot: datetime  # of the run at this bar
    status: str  # of the run: an Outcome or a Code
    detail: str
    equity_usd: float
    cash_usd: float
    positions: Mapping[str, float]  # quantity by symbol, after this bar's fills and before the next bar's
    decision: Decision | None = None
    outcomes: tuple[Order | Denial, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An order that was placed but not filled: cash was missing, or it was canceled."""

    time: datetime
    client_order_id: str
    symbol: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restatement:
    """The shares held of a symbol, restated for a split that its prices are not adjusted for."""

    time: datetime  # start of the first bar in the new unit
    symbol: str
    ratio: float  # new shares for each old one
    quantity_before: float
    quantity_after: float
    cash_usd: float  # paid for the fraction of a share that was left over


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A forecast and the actual price, for the calibration of the intervals and the comparison with the last price."""

    symbol: str
    time: datetime  # start of the bar at which it was made
    horizon_time: datetime  # the time that it predicts
    actual_time: datetime  # start of the bar whose close is the actual price: the last one up to horizon_time
    price_usd: float  # at `time`; the naive forecast
    yhat_usd: float
    lower_usd: float
    upper_usd: float
    actual_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What the strategy is measured against, bought at the first bar and held."""

    name: str
    source: str  # in words, for the report
    closes: NDArray[np.float64]  # at each bar of the span, in one unit; the last known one where a bar is missing
    notes: tuple[Note, ...] = ()  # on its prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a backtest."""

    options: Options
    panel: Panel
    bars: tuple[Bar, ...]  # of the traded span, in order
    fills: tuple[Fill, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    scored: tuple[Scored, ...] = ()
    benchmark: Benchmark | None = None  # its closes may go on after an interruption
    restatements: tuple[Restatement, ...] = ()  # in order of time
    is_complete: bool = True  # false if it was interrupted; `bars` then ends early
    timings_s: Mapping[str, float] = field(default_factory=dict)
