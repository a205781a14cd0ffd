"""`make bench-backtest`: the backtest against the usual way, Backtrader's own part, memory, and a sweep's workers.

The usual way: inside `next()`, for each symbol a `Prophet()` fitted to its last bars and asked to predict. Both ways
go over the same bars of the same symbols in one run.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from itertools import batched
from time import perf_counter, sleep

import backtrader as bt
import pandas as pd
import psutil
from rich.table import Table

from scripts import console
from scripts.backtest import options, prices
from scripts.backtest.engine import Feed, backtest, rows
from scripts.backtest.lookahead import starting
from scripts.backtest.model import Options, Panel
from scripts.backtest.workers import cores, pool
from scripts.bench import sweeps as sweep
from scripts.bench.forecast_stage import Measurement
from trader.model import NEW_YORK
from trader.prices.file import FilePrices
from trader.progress import Progress
from trader.settings import SAMPLE_PRICES

BARS = 100
"""Refitted at every bar, on both sides."""

ROUNDS = 4
"""The two ways take turns, so that a computer that is slower for a while is so for both."""

MIN_RATIO = 5.0
MAX_BACKTRADER_FRACTION = 0.2
MAX_MB = 1_000

START_OF_1000 = "2019-01-10"
"""The first of the sample's last thousand bars."""


def main() -> None:
    """Measure everything and print it; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="make bench-backtest", description=__doc__)
    parser.add_argument("--json", action="store_true", default=console.flag("JSON"), help="print JSON instead")
    parser.add_argument("--bars", type=int, default=BARS, help="bars of both ways")
    arguments = parser.parse_args()
    with console.progress() as progress:
        panel, chosen = setting(arguments.bars, progress)
        lines = [*speed(panel, chosen, progress), memory()]
    with console.plain_errors("interrupted; nothing was measured"):
        lines += sweep.measure()
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(line) for line in lines]) + "\n")
    else:
        table = Table("What", "Measured", "Target", title=f"{cores()} cores", title_justify="left")
        for line in lines:
            missed = "" if line.is_reached else "  MISSED"
            table.add_row(line.what, line.measured, f"{line.target}{missed}", style="red" if missed else "")
        console.OUT.print(table)
    sys.exit(console.USABLE if all(line.is_reached for line in lines) else console.FAILED)


def setting(bars: int, progress: Progress) -> tuple[Panel, Options]:
    """The whole sample, all twenty of it, and its last bars to trade."""
    symbols = sorted(FilePrices(SAMPLE_PRICES).symbols())
    chosen = options.from_env({"UNIVERSE": ",".join(symbols), "REFIT_EVERY": "1"})
    panel = prices.load(chosen, progress)
    return panel, starting(panel, chosen, bars)


def speed(panel: Panel, chosen: Options, progress: Progress) -> list[Measurement]:
    """The usual way and ours over the same bars, the start of our processes included."""
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
        Measurement(
            what=f"backtest, {size}",
            measured=f"{ours_s:.1f} s against {usual_s:.1f} s: {ratio:.1f} times faster",
            target=f"≥ {MIN_RATIO:g} times",
            is_reached=ratio >= MIN_RATIO,
        ),
        Measurement(
            what="Backtrader's own part of that, our glue left out",
            measured=f"{backtrader_s:.2f} s: {fraction:.1%}",
            target=f"≤ {MAX_BACKTRADER_FRACTION:.0%}",
            is_reached=fraction <= MAX_BACKTRADER_FRACTION,
        ),
    ]


def usual(panel: Panel, times: Sequence[datetime], history_bars: int, progress: Progress) -> None:
    """The same rule as it is usually written: Prophet's defaults, one fit and one prediction after another."""
    for name in ("prophet.plot", "cmdstanpy"):
        logging.getLogger(name).disabled = True
    from prophet import Prophet

    class Usual(bt.Strategy):  # type: ignore[misc] # Backtrader ships no types
        bars = 0

        def next(self) -> None:
            if bt.num2date(self.datetime[0]) < times[0].replace(tzinfo=None):
                return
            for data in self.datas:
                dates = [bt.num2date(each) for each in data.datetime.get(size=history_bars)]
                model = Prophet()
                model.fit(pd.DataFrame({"ds": dates, "y": data.close.get(size=history_bars)}))
                forecast = model.predict(model.make_future_dataframe(periods=1))
                gap = data.close[0] / forecast["trend"].iloc[-2] - 1
                size = self.broker.getcash() // (len(self.datas) * data.close[0])
                if gap < 0 and size and not self.getposition(data).size:
                    self.buy_bracket(
                        data=data,
                        size=size,
                        exectype=bt.Order.Market,
                        stopprice=0.97 * data.close[0],
                        limitprice=1.4 * data.close[0],
                    )
                elif gap > 0 and self.getposition(data).size:
                    self.close(data=data)
            self.bars += 1
            progress("the usual way", self.bars, len(times))

    cerebro = bt.Cerebro(stdstats=False)
    history = list(panel.close.loc[: times[-1]].index[-len(times) - history_bars :])
    for symbol in panel.close.columns:
        cerebro.adddata(Feed(rows=rows(panel, symbol, history)), name=symbol)
    cerebro.addstrategy(Usual)
    cerebro.run()


def memory() -> Measurement:
    """The peak of all processes of a backtest over 1,000 bars together, counting what they share more than once.

    Refitted at every twentieth bar, to take half a minute; the rest of the work is the same.
    """
    symbols = sorted(FilePrices(SAMPLE_PRICES).symbols())
    with tempfile.TemporaryDirectory() as folder:
        variables = {"UNIVERSE": ",".join(symbols), "START": START_OF_1000, "REFIT_EVERY": "20", "OUT": folder}
        process = psutil.Popen(
            [sys.executable, "-m", "scripts.backtest", "--json"],
            env={"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": os.environ["PYTHONPATH"], **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(process))
            sleep(0.2)
    if process.returncode:
        raise console.CommandError(f"make backtest ended with {process.returncode}; run it to see why")
    return Measurement(
        what=f"memory of all processes, {len(symbols)} symbols x 1,000 bars",
        measured=f"{peak / 1e6:.0f} MB",
        target=f"< {MAX_MB:,} MB",
        is_reached=peak < MAX_MB * 1e6,
    )


def _resident(process: psutil.Process) -> int:
    """Bytes of a process and all it has started."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total


if __name__ == "__main__":
    main()
