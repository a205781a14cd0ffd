"""The backtest: Backtrader moves the clock and fills the orders, and the bot's own pipeline runs at each bar.

The stages universe, forecast, alpha, portfolio, risk and execution are those that run in Lambda. Only the clock, the
prices (the bars up to the current one) and the broker differ.
"""

import gc
import logging
import math
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest.broker import BacktraderBroker, Exchange
from scripts.backtest.compute import Table
from scripts.backtest.delisting import DELISTED_SESSIONS, Unpriced
from scripts.backtest.forecasts import TableForecaster, count_needed_bars, find_spec
from scripts.backtest.judged import Judged, judge
from scripts.backtest.model import Bar, Options, Panel, Restatement, Result
from scripts.backtest.panel_prices import PanelPrices, SlotPrices
from scripts.backtest.panel_reader import PanelReader, Ranks
from scripts.backtest.prices import span
from scripts.backtest.rhythm import slot_after
from scripts.backtest.slot_forecasts import SlotForecaster
from trader.alpha import loader
from trader.deadline import Deadline
from trader.forecasting.none import NoForecaster
from trader.journal.base import Peak, Run
from trader.model import NEW_YORK, Closes, Code, Json, Outcome, RunStopped
from trader.prices.reader import Prices
from trader.progress import Progress, no_progress
from trader.schedule.slot import is_due, slot_of
from trader.stages import pipeline

COLLECTING = (100_000, 20, 20)
"""The thresholds of the search for garbage during a backtest: new objects, and searches of younger generations."""


class BacktestJournal:
    """The RankingStore of a backtest: it keeps what the journal keeps between runs; the Result holds the records."""

    def __init__(self) -> None:
        self._day: date | None = None
        self._kept: tuple[Json, dict[str, float]] | None = None
        self._peak: Peak | None = None

    def at(self, slot: datetime) -> None:
        """Begin a slot; the first slot of a new day discards the ranking."""
        day = slot.astimezone(NEW_YORK).date()
        if day != self._day:
            self._day, self._kept = day, None

    def note_plan(self, run: Run) -> None:
        """Do nothing: a backtest has no runs that were cut off."""

    def ranking(self, basis: Json) -> dict[str, float] | None:
        """Return the ranking made at an earlier bar of the day; None if there is none."""
        return dict(self._kept[1]) if self._kept and self._kept[0] == basis else None

    def save_ranking(self, basis: Json, ranking: Mapping[str, float]) -> None:
        """Keep the ranking for the rest of the day."""
        self._kept = (basis, dict(ranking))

    def load_peak(self) -> Peak | None:
        """Return the highest equity so far."""
        return self._peak

    def save_peak(self, peak: Peak) -> None:
        """Keep the highest equity."""
        self._peak = peak


def backtest(
    panel: Panel,
    options: Options,
    *,
    table: Table | None = None,
    executor: Executor | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Run the bot on each bar of the span and return the result; the same arguments give the same result.

    `table` holds known forecasts; others are computed in `executor` ahead of their bar, or in this process if there is
    no executor. An interruption (Ctrl-C) gives the result up to the last complete bar. Raises BacktestError if there
    is no bar to trade.
    """
    times = span(panel, options)
    judged = judge(panel, options.bar_interval)
    prices = SlotPrices(panel) if options.decide_every else PanelPrices(panel, judged.series)
    forecaster = _make_forecaster(prices, panel, options, times, table, executor)
    session = _Session(panel, judged, options, times, prices, forecaster, progress)
    close = panel.close
    filled = replace(panel, open=close, high=close, low=close, has_ohlc=False) if options.fills_at_close else panel
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(Exchange.of(options, has_ohlc=filled.has_ohlc))
    for symbol in panel.close.columns:
        if len(bars := rows(filled, judged.visible[symbol], times)):
            cerebro.adddata(Feed(rows=bars), name=symbol)
    if not judged.visible.loc[list(times)].notna().any(axis=1).all():
        # Backtrader stops only at bars of some feed, but the bot also runs when no symbol has a price that counts.
        cerebro.adddata(Feed(rows=[(_number(each), 1.0, 1.0, 1.0, 1.0) for each in times]), name="")
    cerebro.addstrategy(Driver, session=session)
    begun, is_complete = time.perf_counter(), True
    try:
        with _quiet(), _collecting_rarely():
            cerebro.run()
    except KeyboardInterrupt:
        is_complete = False
    finally:
        if not isinstance(forecaster, NoForecaster):
            forecaster.close()
    return session.result(is_complete, time.perf_counter() - begun)


def _make_forecaster(
    prices: PanelPrices,
    panel: Panel,
    options: Options,
    times: Sequence[datetime],
    table: Table | None,
    executor: Executor | None,
) -> TableForecaster | SlotForecaster | NoForecaster:
    """Return the forecaster for the rule and the rhythm of a backtest."""
    if find_spec(options.settings) is None:
        return NoForecaster()
    if isinstance(prices, SlotPrices):
        return SlotForecaster(prices, options, times, table=table, executor=executor)
    return TableForecaster(panel, options, times, table=table, executor=executor)


class _Session:
    """A backtest in progress, with its results so far."""

    def __init__(
        self,
        panel: Panel,
        judged: Judged,
        options: Options,
        times: Sequence[datetime],
        prices: PanelPrices,
        forecaster: TableForecaster | SlotForecaster | NoForecaster,
        progress: Progress,
    ) -> None:
        self._panel = panel
        self._options = options
        self._next = dict(pairwise(times))
        self._unpriced = Unpriced(judged.visible)
        self._splits = {
            (symbol, split.visible_from): split.ratio for symbol, splits in judged.splits.items() for split in splits
        }
        self._restatements: list[Restatement] = []
        self._times = {_number(each): each for each in times}
        self._forecaster = forecaster
        self._prices = prices
        self._journal = BacktestJournal()
        self._alpha = loader.load(options.settings)
        self._ohlcv_for = loader.name_ohlcv(options.settings)
        self._ranks: Ranks | None = None  # within sessions, candidates are ranked once a day
        if not (options.decide_every or self._ohlcv_for):
            count, lookback_bars = count_needed_bars(options.settings), options.settings.universe_lookback_bars
            self._ranks = Ranks(judged.series, pd.DatetimeIndex(panel.close.index), count, lookback_bars)
        self._progress = progress
        self._bars: list[Bar] = []
        self._broker: BacktraderBroker | None = None
        self._last_equity_usd = options.cash_usd
        self._own_s = 0.0

    def begin(self, strategy: Any) -> None:  # noqa: ANN401 a bt.Strategy
        """Create the broker when Backtrader is ready."""
        self._broker = BacktraderBroker(strategy, self._options)

    def heard(self, strategy: Any, order: Any) -> None:  # noqa: ANN401 Backtrader's
        """Pass an order update on to the broker."""
        with self._time_part():
            bar = self._times[strategy.datetime[0]]
            self.broker.heard(order, bar, self._times.get(order.executed.dt, bar))

    def bar(self, strategy: Any) -> None:  # noqa: ANN401 a bt.Strategy
        """Run the bot on a bar, after the bar's fills."""
        with self._time_part():
            bar = self._times[strategy.datetime[0]]
            if self._bars and self._bars[-1].time.astimezone(NEW_YORK).date() < bar.astimezone(NEW_YORK).date():
                self._last_equity_usd = self._bars[-1].equity_usd
            self._bars.append(self._run(bar))
            self._carry_out_splits(bar)
            self._progress("bars", len(self._bars), len(self._times))

    def _carry_out_splits(self, bar: datetime) -> None:
        """Restate what is held for the splits that nobody adjusted for and that take effect with the next bar."""
        for (symbol, first), ratio in self._splits.items():
            if first == self._next.get(bar):
                done = self.broker.restate(symbol, ratio, first)
                if done.quantity_before:
                    self._restatements.append(done)

    def _pay_out_delisted(self, bar: datetime) -> None:
        """Pay out what is held of symbols whose prices have ended, as brokers do after a takeover or a delisting."""
        if self._options.fills_at_close:  # as the embedded broker, which knows of no delisting
            return
        ended = self._unpriced.find(DELISTED_SESSIONS, bar)
        for symbol in self.broker.read_holdings() if ended else ():
            if symbol in ended:
                sessions = self._unpriced.count(symbol, bar)
                self.broker.pay_out(symbol, bar, f"no price for {sessions} sessions")

    @property
    def broker(self) -> BacktraderBroker:
        """The bot's view of Backtrader's broker."""
        assert self._broker is not None, "begin() comes first"
        return self._broker

    def result(self, is_complete: bool, total_s: float) -> Result:
        """Return the result up to the last complete bar."""
        last = self._bars[-1].time if self._bars else None
        fills, refusals = (self._broker.fills, self._broker.refusals) if self._broker else ([], [])
        return Result(
            options=self._options,
            panel=self._panel,
            bars=tuple(self._bars),
            fills=tuple(each for each in fills if last and each.time <= last),
            refusals=tuple(each for each in refusals if last and each.time <= last),
            restatements=tuple(each for each in self._restatements if last and each.time <= last),
            is_complete=is_complete,
            timings_s={"pipeline": round(self._own_s, 3), "backtrader": round(total_s - self._own_s, 3)},
        )

    def _run(self, bar: datetime) -> Bar:
        settings = self._options.settings
        every = self._options.decide_every
        slot = slot_after(bar, every) if every else slot_of(bar, settings.bar_interval)
        self._prices.at(bar)
        self.broker.end_of_bar(bar)
        self._pay_out_delisted(bar)
        equity_usd, cash_usd, held = self.broker.equity_usd(), self.broker.cash_usd(), self.broker.read_holdings()
        self.broker.at(slot, self._last_equity_usd)
        members = self._panel.members
        index = members.on(slot.astimezone(NEW_YORK).date()) if members else None
        run = Run(settings=settings, slot=slot, now=slot, index=index)
        self._journal.at(slot)
        services = pipeline.RunServices(
            broker=self.broker,
            prices=self._read_prices(slot),
            forecaster=self._forecaster,
            alpha=self._alpha,
            journal=self._journal,
            read_halt_reason=lambda: "",
            deadline=Deadline.never(),
            fill_time_s=None,  # waiting is useless: orders are filled at the next bar
        )
        status: Outcome | Code
        try:
            is_due_now = is_due({"time": slot.isoformat()}, settings)
            status, detail = pipeline.trade(services, run) if is_due_now else Code.NOT_DUE, ""
        except RunStopped as stop:
            status, detail = stop.code, str(stop)
        return Bar(
            time=bar,
            slot=slot,
            status=status,
            detail=detail,
            equity_usd=equity_usd,
            cash_usd=cash_usd,
            positions=held,
            decision=run.decision,
            outcomes=tuple(run.outcomes),
        )

    def _read_prices(self, slot: datetime) -> Prices:
        count, max_age_s = count_needed_bars(self._options.settings), self._options.settings.max_price_age_s
        if self._ranks is not None:
            return PanelReader(self._prices, self._ranks, now=slot, count=count, max_age_s=max_age_s)
        return Prices([self._prices], now=slot, count=count, max_age_s=max_age_s, ohlcv_for=self._ohlcv_for)

    @contextmanager
    def _time_part(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._own_s += time.perf_counter() - begun


class Driver(bt.Strategy):  # type: ignore[misc] # Backtrader ships no types
    """The strategy that Backtrader calls at each bar; it passes each call on to the session.

    Of what Backtrader does for a strategy at each bar, this leaves out what nobody asks for: the lengths of all feeds,
    trades, the account's value, and all orders of the past, which it would keep in memory.
    """

    params = (("session", None),)

    def start(self) -> None:
        """Begin the session before the first bar."""
        self.p.session.begin(self)

    def notify_order(self, order: Any) -> None:  # noqa: ANN401 Backtrader's order
        """Report an order update."""
        self.p.session.heard(self, order)

    def next(self) -> None:
        """Run the bot on a bar."""
        self.p.session.bar(self)

    def _getminperstatus(self) -> int:
        """Say that the bar counts: some symbols may not have reached it yet, but the others are traded."""
        return -1

    def _addnotification(self, order: Any, quicknotify: bool = False) -> None:  # noqa: ANN401, ARG002 Backtrader's own
        self._orderspending.append(order)

    def _notify(self) -> None:
        for order in self._orderspending:
            self.notify_order(order)

    def clear(self) -> None:
        """Forget the order updates of the bar."""
        self._orderspending: list[Any] = []


class Feed(bt.feed.DataBase):  # type: ignore[misc] # Backtrader ships no types
    """The data feed of one symbol: `rows` of Backtrader's time, open, high, low and close, which it loads all at once.

    Backtrader would read one row after another, and fill in the last prices anew at each bar. Lines of the same values
    are one line: with closes only, all prices. Volume and open interest, which nobody reads, are empty.
    """

    params = (("rows", ()),)

    def preload(self) -> None:
        """Fill the lines with all rows."""
        rows, self.p.rows = np.asarray(self.p.rows, np.float64).reshape(-1, 5), ()
        lines, places = self.lines, self.lines.getlinealiases()
        read: dict[bytes, Any] = {}
        for name, values in zip(("datetime", "open", "high", "low", "close"), rows.T, strict=True):
            data, place = values.tobytes(), places.index(name)
            if data not in read:
                read[data] = lines.lines[place]
                read[data].array = array("d", data)
            lines.lines[place] = read[data]
        self.home()
        self._read = tuple(read.values())
        self._times: array[float] = lines.datetime.array
        self._row = 0

    def advance_peek(self) -> float:
        """Return the time of the next row; infinity if there is none."""
        return self._times[self._row] if self._row < len(self._times) else math.inf

    def advance(self, size: int = 1, datamaster: Any = None, ticks: bool = True) -> None:  # noqa: ANN401, ARG002 Backtrader's own
        """Go to the next row."""
        self._row += size
        for line in self._read:
            line._idx += size  # not by the property, which checks how the line is kept
            line.lencount += size


def rows(panel: Panel, visible: Closes, times: Sequence[datetime]) -> NDArray[np.float64]:
    """Return the rows of a symbol's Feed: its bars in the traded span that have a visible close."""
    index = pd.DatetimeIndex(visible.index)
    begin, end = int(index.searchsorted(times[0])), int(index.searchsorted(times[-1], side="right"))
    close = visible.to_numpy(float)[begin:end]
    tables = (getattr(panel, field)[visible.name].to_numpy(float)[begin:end] for field in ("open", "high", "low"))
    numbers = [_number_at(each) for each in index[begin:end].as_unit("ns").asi8.tolist()]
    return np.column_stack([numbers, *tables, close])[~np.isnan(close)]


@lru_cache(maxsize=1 << 16)
def _number_at(time_ns: int) -> float:
    """Convert a time, which all symbols share, to Backtrader's number."""
    return _number(pd.Timestamp(time_ns))


def _number(moment: datetime) -> float:
    """Convert a time to Backtrader's number: days, in UTC."""
    number: float = bt.date2num(moment.replace(tzinfo=None))
    return number


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the runs' log: the result has the same information."""
    log = logging.getLogger("trader")
    was = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = was


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Search for garbage in cycles rarely: it goes through a result that grows by a million objects, none of them any.

    What is there before, prices and modules, is left out of the search. The threshold stays finite, because an owner's
    rule may leave cycles behind.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECTING)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
