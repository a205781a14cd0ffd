"""The backtest against the usual method, Backtrader's share, and the memory of all its processes.

The usual method fits a `Prophet()` to each symbol's last bars inside `next()` and predicts with it. Both methods run
over the same bars of the same symbols in one run.
"""

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import batched
from time import perf_counter

import backtrader as bt
import pandas as pd

from scripts.backtest import options, prices
from scripts.backtest.engine import Feed, backtest, rows
from scripts.backtest.model import Options, Panel
from scripts.backtest.workers import pool
from scripts.bench import harness
from scripts.bench.harness import Measurement
from trader.model import NEW_YORK, SAMPLE_PRICES
from trader.prices.file import FilePrices
from trader.progress import Progress

BARS = 40
"""The number of bars to trade; both methods refit at every bar."""

ROUNDS = 4
"""Rounds in which the two methods alternate, so that a slow phase of the computer affects both."""

MIN_RATIO = 5.0
MAX_BACKTRADER_FRACTION = 0.2
MAX_MB = 1_000

START_OF_1000 = "2019-01-10"
"""The date on which the sample's last 1,000 bars begin."""


def measure(progress: Progress) -> list[Measurement]:
    """Compare both methods, and measure the memory of a longer backtest."""
    panel, chosen = setting(BARS, progress)
    return [*speed(panel, chosen, progress), memory()]


def setting(bars: int, progress: Progress) -> tuple[Panel, Options]:
    """Return the sample's prices of all twenty symbols, and options that trade its last `bars` bars."""
    symbols = sorted(FilePrices(SAMPLE_PRICES).symbols())
    chosen = options.from_env({"UNIVERSE": ",".join(symbols), "REFIT_EVERY": "1"})
    panel = prices.load(chosen, progress)
    return panel, prices.starting(panel, chosen, bars)


def speed(panel: Panel, chosen: Options, progress: Progress) -> list[Measurement]:
    """Time the usual method and ours over the same bars, including the start of our processes."""
    times = prices.span(panel, chosen)
    usual_s = ours_s = backtrader_s = 0.0
    begun = perf_counter()
    with pool() as executor:
        executor.submit(os.getpid).result()
        ours_s += perf_counter() - begun
        for some in batched(times, -(-len(times) // ROUNDS), strict=False):
            begun = perf_counter()
            usual(panel, some, chosen.settings.history_bars, progress)
            usual_s += perf_counter() - begun
            first, last = (time.astimezone(NEW_YORK).date() for time in (some[0], some[-1]))
            begun = perf_counter()
            result = backtest(panel, replace(chosen, start=first, end=last), executor=executor, progress=progress)
            ours_s += perf_counter() - begun
            backtrader_s += result.timings_s["backtrader"]
    ratio, fraction = usual_s / ours_s, backtrader_s / ours_s
    size = f"{len(panel.close.columns)} symbols x {len(times)} bars, refitted at every bar"
    return [
        harness.is_at_least(
            ratio,
            MIN_RATIO,
            f"backtest, {size}",
            f"{ours_s:.1f} s against {usual_s:.1f} s: {ratio:.1f} times faster",
        ),
        Measurement(
            what="Backtrader's share of that, without our code",
            measured=f"{backtrader_s:.2f} s: {fraction:.1%}",
            target=f"≤ {MAX_BACKTRADER_FRACTION:.0%}",
            is_reached=fraction <= MAX_BACKTRADER_FRACTION,
        ),
    ]


def usual(panel: Panel, times: Sequence[datetime], history_bars: int, progress: Progress) -> None:
    """Run the same rule as it is usually written: Prophet's defaults, one fit and prediction after another."""
    for name in ("prophet.plot", "cmdstanpy"):
        logging.getLogger(name).disabled = True
    cerebro = bt.Cerebro(stdstats=False)
    history = list(panel.close.loc[: times[-1]].index[-len(times) - history_bars :])
    for symbol in panel.close.columns:
        cerebro.adddata(Feed(rows=rows(panel, panel.close[symbol], history)), name=symbol)
    cerebro.addstrategy(Usual, times=times, history_bars=history_bars, progress=progress)
    cerebro.run()


class Usual(bt.Strategy):  # type: ignore[misc] # Backtrader ships no types
    """The bot's rule in next(), for all symbols."""

    params = (("times", ()), ("history_bars", 0), ("progress", None))
    bars = 0

    def next(self) -> None:
        """Decide on one bar."""
        if bt.num2date(self.datetime[0]) < self.p.times[0].replace(tzinfo=None):
            return
        for data in self.datas:
            self.decide(data)
        self.bars += 1
        self.p.progress("the usual method", self.bars, len(self.p.times))

    def decide(self, data: bt.DataBase) -> None:
        """Fit, predict, and order."""
        from prophet import Prophet

        dates = [bt.num2date(each) for each in data.datetime.get(size=self.p.history_bars)]
        model = Prophet()
        model.fit(pd.DataFrame({"ds": dates, "y": data.close.get(size=self.p.history_bars)}))
        forecast = model.predict(model.make_future_dataframe(periods=1))
        price = data.close[0]
        gap = price / forecast["trend"].iloc[-2] - 1
        size = self.broker.getcash() // (len(self.datas) * price)
        if gap < 0 and size and not self.getposition(data).size:
            legs = {"stopprice": 0.97 * price, "limitprice": 1.4 * price}
            self.buy_bracket(data=data, size=size, exectype=bt.Order.Market, **legs)
        elif gap > 0 and self.getposition(data).size:
            self.close(data=data)


def memory() -> Measurement:
    """Measure the peak memory of all processes of a backtest over 1,000 bars; shared memory counts more than once.

    The backtest refits only at every twentieth bar, to finish in half a minute; the rest of its work is the same.
    """
    symbols = sorted(FilePrices(SAMPLE_PRICES).symbols())
    variables = {"UNIVERSE": ",".join(symbols), "START": START_OF_1000, "REFIT_EVERY": "20"}
    with tempfile.TemporaryDirectory() as folder:
        peak = harness.run("backtest", folder=folder, JSON="1", OUT=folder, **variables)
    return harness.is_below(
        peak / 1e6, MAX_MB, f"memory of all processes, {len(symbols)} symbols x 1,000 bars", unit="MB"
    )
