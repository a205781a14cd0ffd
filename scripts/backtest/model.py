"""The values of a backtest: its options, the prices it runs over, and what came of it. They are frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import pandas as pd

from scripts.console import CommandError
from trader.model import Decision, Denial, Order, Side
from trader.settings import Settings


class BacktestError(CommandError):
    """A backtest cannot be run on what it was given; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The bot's settings, and what only a backtest needs."""

    settings: Settings
    start: date | None = None  # first day that is traded, New York; None: chosen from the prices
    end: date | None = None  # last day that is traded; None: the last there is
    cash_usd: float = 100_000.0
    commission_fraction: float = 0.0  # of the value of each order
    slippage_fraction: float = 0.0005  # of the price, against the order; limits are filled at theirs
    refit_every_bars: int = 1  # 1 as the bot does; else the model of the last fit is asked about the bars between
    fills_at_close: bool = False  # fill at the close that was decided on, as the embedded broker does, for comparison
    out: Path = Path("out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something to know about the prices: a gap, a late listing, a jump like a split. `symbol` is empty for all."""

    symbol: str
    what: str  # a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Bars of all symbols on one calendar: index the bars' starts (UTC), columns the symbols, NaN where there is none.

    Of prices that are closes only (`has_ohlc` false) all four are the close. All are in USD.
    """

    open: pd.DataFrame
    high: pd.DataFrame
    low: pd.DataFrame
    close: pd.DataFrame
    has_ohlc: bool
    source: str  # in words: for the report
    notes: tuple[Note, ...] = ()

    def until(self, time: datetime) -> "Panel":
        """The bars that began at `time` or before; nothing later is left anywhere."""
        return Panel(
            open=self.open.loc[:time],
            high=self.high.loc[:time],
            low=self.low.loc[:time],
            close=self.close.loc[:time],
            has_ohlc=self.has_ohlc,
            source=self.source,
            notes=self.notes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution: a whole order, for there are no partial fills."""

    time: datetime  # start of the bar it was filled in
    client_order_id: str  # of the order, with -stop-loss or -take-profit for a leg of its bracket
    symbol: str
    side: Side
    kind: str  # market, stop-loss or take-profit
    quantity: float
    price_usd: float  # slippage included
    decided_price_usd: float  # of the decision, the stop or the limit
    commission_usd: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What the bot saw, decided and did at one bar, and the account at its close."""

    time: datetime  # the bar's start
    slot: datetime  # the run that was made at it
    status: str  # of the run: an Outcome or a Code
    detail: str
    equity_usd: float
    cash_usd: float
    positions: Mapping[str, float]  # quantity by symbol, after the fills of this bar and before those of the next
    decision: Decision | None = None
    outcomes: tuple[Order | Denial, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An order that was placed and never filled: for want of cash at its bar, or cancelled."""

    time: datetime
    client_order_id: str
    symbol: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One forecast beside what came: for the calibration of the intervals and the comparison with the last price."""

    symbol: str
    time: datetime  # of the bar it was made at
    horizon_time: datetime  # that it was made for
    actual_time: datetime  # start of the bar whose close is taken for it: the last one not after horizon_time
    price_usd: float  # at `time`: the naive forecast
    yhat_usd: float
    lower_usd: float
    upper_usd: float
    actual_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All that came of a backtest."""

    options: Options
    panel: Panel
    bars: tuple[Bar, ...]  # of the span that was traded, in order
    fills: tuple[Fill, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    scored: tuple[Scored, ...] = ()
    is_complete: bool = True  # false if it was interrupted: `bars` ends there
    timings_s: Mapping[str, float] = field(default_factory=dict)
