"""The backtest: Backtrader moves the clock and fills the orders; at each bar the bot's own pipeline runs.

universe, forecast, alpha, portfolio, risk and execution are those that run in Lambda. Only the clock, the prices (the
bars up to the present one) and the broker differ.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import backtrader as bt

from scripts.backtest.broker import BacktraderBroker, Exchange
from scripts.backtest.compute import Table
from scripts.backtest.forecasts import TableForecaster, count_needed_bars
from scripts.backtest.model import Bar, Options, Panel, Result
from scripts.backtest.prices import span
from trader.alpha import loader
from trader.deadline import Deadline
from trader.journal.base import Run
from trader.model import BAR_LENGTH, NEW_YORK, Closes, Code, Json, Outcome, RunStopped
from trader.prices.reader import Prices
from trader.progress import Progress, no_progress
from trader.schedule import sessions
from trader.stages import pipeline


def slot_of(bar: datetime, bar_interval: str) -> datetime:
    """When the bot runs on a bar: at the day's last slot, or in the last minute of a shorter bar.

    The close of the bar stands for the price at that moment, as in a run of the bot on a price file.
    """
    day = bar.astimezone(NEW_YORK).date()
    if bar_interval == "1d":
        return sessions.last_slot_of(day)
    end = bar + BAR_LENGTH[bar_interval]
    hours = sessions.session(day)
    return (min(end, hours[1]) if hours and bar < hours[1] else end) - timedelta(minutes=1)


class PanelPrices:
    """A PriceSource over the panel, as the price file is one: bars of the calendar up to the present one."""

    def __init__(self, panel: Panel) -> None:
        """`panel` may reach further than any moment that is asked about."""
        self._close = panel.close
        self._first = {
            symbol: panel.close.index[each].to_pydatetime()
            for symbol, each in zip(panel.close.columns, panel.close.notna().to_numpy().argmax(axis=0), strict=True)
            if panel.close[symbol].notna().any()
        }
        self._present: datetime | None = None

    @property
    def name(self) -> str:
        """As a denial calls it."""
        return "prices"

    def at(self, bar: datetime) -> None:
        """The present bar: whatever is asked for, none after it is given."""
        self._present = bar

    def symbols(self, now: datetime) -> frozenset[str]:
        """The columns that have had a price by then."""
        until = self._until(now)
        return frozenset(symbol for symbol, first in self._first.items() if first <= until)

    def closes(self, symbols: Sequence[str], count: int, now: datetime, progress: Progress) -> Mapping[str, Closes]:  # noqa: ARG002 progress is told in bars
        """The last `count` bars of the calendar that began at `now` or before."""
        bars = self._close.loc[: self._until(now)].iloc[-count:]
        return {symbol: bars[symbol] for symbol in symbols if symbol in bars.columns}

    def _until(self, now: datetime) -> datetime:
        assert self._present is not None, "at() comes first"
        return min(now, self._present)


class DayRanking:
    """The RankingStore of a backtest: the day's ranking, as the journal keeps it; records are the result's."""

    def __init__(self) -> None:
        self._day: date | None = None
        self._kept: tuple[Json, dict[str, float]] | None = None

    def at(self, slot: datetime) -> None:
        """Begin a slot; the first one of another day forgets the ranking."""
        day = slot.astimezone(NEW_YORK).date()
        if day != self._day:
            self._day, self._kept = day, None

    def note_plan(self, run: Run) -> None:
        """Keep nothing: a backtest is not cut off."""

    def ranking(self, basis: Json) -> dict[str, float] | None:
        """Return the ranking that an earlier bar of the day has made."""
        return dict(self._kept[1]) if self._kept and self._kept[0] == basis else None

    def save_ranking(self, basis: Json, ranking: Mapping[str, float]) -> None:
        """Keep the ranking for the rest of the day."""
        self._kept = (basis, dict(ranking))


def backtest(
    panel: Panel,
    options: Options,
    *,
    table: Table | None = None,
    executor: Executor | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Run the bot on each bar of the span and give all that came of it; the same arguments give the same result.

    `table` holds forecasts that are known; others are computed in `executor` ahead of their bar, or without one in
    this process. An interruption (Ctrl-C) gives the result up to the last whole bar. Raises BacktestError
    if there is no such span.
    """
    times = span(panel, options)
    forecaster = TableForecaster(panel, options, times, table=table, executor=executor)
    session = _Session(panel, options, times, forecaster, progress)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.setbroker(Exchange.of(options, has_ohlc=panel.has_ohlc))
    for symbol in panel.close.columns:
        if bars := rows(panel, symbol, times):
            cerebro.adddata(Feed(rows=bars), name=symbol)
    cerebro.addstrategy(Driver, session=session)
    begun, is_complete = time.perf_counter(), True
    try:
        with _quiet():
            cerebro.run()
    except KeyboardInterrupt:
        is_complete = False
    finally:
        forecaster.close()
    return session.result(is_complete, time.perf_counter() - begun)


class _Session:
    """One backtest under way: what the bars have brought so far."""

    def __init__(
        self,
        panel: Panel,
        options: Options,
        times: Sequence[datetime],
        forecaster: TableForecaster,
        progress: Progress,
    ) -> None:
        self._panel = panel
        self._options = options
        self._times = {_number(each): each for each in times}
        self._forecaster = forecaster
        self._prices = PanelPrices(panel)
        self._ranking = DayRanking()
        self._alpha = loader.load(options.settings)
        self._progress = progress
        self._bars: list[Bar] = []
        self._broker: BacktraderBroker | None = None
        self._last_equity_usd = options.cash_usd
        self._own_s = 0.0

    def begin(self, strategy: Any) -> None:  # noqa: ANN401 a bt.Strategy
        """Backtrader is ready."""
        self._broker = BacktraderBroker(strategy, self._options)

    def heard(self, strategy: Any, order: Any) -> None:  # noqa: ANN401 Backtrader's
        """Something became of an order."""
        with self._time_part():
            self.broker.heard(order, self._times[strategy.datetime[0]])

    def bar(self, strategy: Any) -> None:  # noqa: ANN401 a bt.Strategy
        """One bar: its fills are done, now the bot runs."""
        with self._time_part():
            bar = self._times[strategy.datetime[0]]
            if self._bars and self._bars[-1].time.astimezone(NEW_YORK).date() < bar.astimezone(NEW_YORK).date():
                self._last_equity_usd = self._bars[-1].equity_usd
            self._bars.append(self._run(bar))
            self._progress("bars", len(self._bars), len(self._times))

    @property
    def broker(self) -> BacktraderBroker:
        """The bot's view of Backtrader's broker."""
        assert self._broker is not None, "begin() comes first"
        return self._broker

    def result(self, is_complete: bool, total_s: float) -> Result:
        """What there is, up to the last whole bar."""
        last = self._bars[-1].time if self._bars else None
        fills, refusals = (self._broker.fills, self._broker.refusals) if self._broker else ([], [])
        return Result(
            options=self._options,
            panel=self._panel,
            bars=tuple(self._bars),
            fills=tuple(each for each in fills if last and each.time <= last),
            refusals=tuple(each for each in refusals if last and each.time <= last),
            is_complete=is_complete,
            timings_s={"pipeline": round(self._own_s, 3), "backtrader": round(total_s - self._own_s, 3)},
        )

    def _run(self, bar: datetime) -> Bar:
        settings = self._options.settings
        slot = slot_of(bar, settings.bar_interval)
        self._prices.at(bar)
        self.broker.end_of_bar(bar)
        equity_usd, cash_usd, held = self.broker.equity_usd(), self.broker.cash_usd(), self.broker.held()
        self.broker.at(slot, self._last_equity_usd)
        run = Run(settings=settings, slot=slot, now=slot)
        self._ranking.at(slot)
        services = pipeline.RunServices(
            broker=self.broker,
            prices=Prices(
                [self._prices], now=slot, count=count_needed_bars(settings), max_age_s=settings.max_price_age_s
            ),
            forecaster=self._forecaster,
            alpha=self._alpha,
            journal=self._ranking,
            read_halt_reason=lambda: "",
            deadline=Deadline.never(),
            settle_time_s=0.0,  # an order is filled at the next bar, however long one waits
        )
        status: Outcome | Code
        try:
            status, detail = pipeline.trade(services, run), ""
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

    @contextmanager
    def _time_part(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._own_s += time.perf_counter() - begun


class Driver(bt.Strategy):  # type: ignore[misc] # Backtrader ships no types
    """What Backtrader calls at each bar; it hands on to the session."""

    params = (("session", None),)

    def start(self) -> None:
        """Before the first bar."""
        self.p.session.begin(self)

    def notify_order(self, order: Any) -> None:  # noqa: ANN401 Backtrader's order
        """An order has changed."""
        self.p.session.heard(self, order)

    def prenext(self) -> None:
        """A bar before every symbol has had its first: those that have are traded all the same."""
        self.next()

    def next(self) -> None:
        """A bar."""
        self.p.session.bar(self)


class Feed(bt.feed.DataBase):  # type: ignore[misc] # Backtrader ships no types
    """The bars of one symbol: `rows` of (Backtrader's time, open, high, low, close)."""

    params = (("rows", ()),)

    def start(self) -> None:
        """Before the first bar."""
        super().start()
        self._coming = iter(self.p.rows)

    def _load(self) -> bool:
        row = next(self._coming, None)
        if row is None:
            return False
        lines = self.lines
        lines.datetime[0], lines.open[0], lines.high[0], lines.low[0], lines.close[0] = row
        lines.volume[0] = lines.openinterest[0] = 0.0
        return True


def rows(panel: Panel, symbol: str, times: Sequence[datetime]) -> list[tuple[float, ...]]:
    """The traded bars of a symbol that it has, for its Feed."""
    close = panel.close[symbol].loc[times[0] : times[-1]].dropna()
    columns = [getattr(panel, field)[symbol].loc[close.index].to_list() for field in ("open", "high", "low")]
    numbers = [_number(each) for each in close.index]
    return list(zip(numbers, *columns, close.to_list(), strict=True))


def _number(moment: datetime) -> float:
    """A time as Backtrader has it: days, in UTC."""
    number: float = bt.date2num(moment.replace(tzinfo=None))
    return number


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of each run: what it says is in the result."""
    log = logging.getLogger("trader")
    was = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = was
