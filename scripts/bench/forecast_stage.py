"""`make bench`: the sample, the forecast stage against the original way, the memory of `make run`, and Yahoo's prices.

Times are compared as ratios measured in one process, the two ways taking turns; each line has its target.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

import pandas as pd
from rich.table import Table

from scripts import console
from trader.deadline import Deadline
from trader.forecasting.prophet import ProphetForecaster
from trader.model import Closes
from trader.prices.file import FilePrices
from trader.progress import no_progress
from trader.settings import SAMPLE_PRICES

BARS = 250
ROUNDS = 5
MIN_RATIO = 2.5
MAX_MB = 300
MAX_LOADING_S = 0.1
SIGNALS = ("trend", "interval", "horizon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured figure beside its target."""

    what: str
    measured: str
    target: str
    is_reached: bool


def main() -> None:
    """Measure everything and print it; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", default=console.flag("JSON"), help="print JSON instead")
    arguments = parser.parse_args()
    with console.progress() as progress:
        lines = [sample(), *forecast_stage(progress), memory(), yahoo()]
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(line) for line in lines]) + "\n")
    else:
        table = Table("What", "Measured", "Target", title=f"{len(os.sched_getaffinity(0))} cores", title_justify="left")
        for line in lines:
            missed = "" if line.is_reached else "  MISSED"
            table.add_row(line.what, line.measured, f"{line.target}{missed}", style="red" if missed else "")
        console.OUT.print(table)
    sys.exit(console.USABLE if all(line.is_reached for line in lines) else console.FAILED)


def sample() -> Measurement:
    """The first reading of the shipped prices; must come before whatever else reads them."""
    begun = perf_counter()
    FilePrices(SAMPLE_PRICES).symbols()
    loading_s = perf_counter() - begun
    return Measurement(
        what="the shipped prices are read",
        measured=f"{loading_s * 1000:.0f} ms",
        target=f"< {MAX_LOADING_S * 1000:.0f} ms",
        is_reached=loading_s < MAX_LOADING_S,
    )


def forecast_stage(progress: Callable[[str, int, int], None]) -> list[Measurement]:
    """The stage for each signal, and the original's way, in turns; medians."""
    source = FilePrices(SAMPLE_PRICES)
    closes = source.closes(sorted(source.symbols()), BARS, datetime.now(UTC), no_progress)
    ways: dict[str, Callable[[], object]] = {signal: partial(ours, closes, signal) for signal in SIGNALS}
    ways["original"] = partial(original, closes)
    for way in ways.values():
        way()  # imports and Stan's first start belong to neither
    times_s: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        for name, way in ways.items():
            begun = perf_counter()
            way()
            times_s[name].append(perf_counter() - begun)
        progress("forecast stage", turn + 1, ROUNDS)
    median_s = {name: statistics.median(times) for name, times in times_s.items()}
    return [
        Measurement(
            what=f"forecast stage, {len(closes)} symbols x {BARS} bars, SIGNAL={signal}",
            measured=f"{median_s[signal]:.2f} s against {median_s['original']:.2f} s: "
            f"{median_s['original'] / median_s[signal]:.1f} times faster",
            target=f"≥ {MIN_RATIO} times" if signal == "trend" else "",
            is_reached=signal != "trend" or median_s["original"] / median_s[signal] >= MIN_RATIO,
        )
        for signal in SIGNALS
    ]


def ours(closes: Mapping[str, Closes], signal: str) -> None:
    """The stage as the bot runs it."""
    forecaster = ProphetForecaster(signal=signal, bar_interval="1d", horizon_bars=1)
    forecaster.forecast(closes, Deadline.never())


def original(closes: Mapping[str, Closes]) -> None:
    """The function that this project began as: Prophet's defaults, the history and 15 steps predicted, in a row."""
    from prophet import Prophet

    for series in closes.values():
        model = Prophet()
        model.fit(pd.DataFrame({"ds": pd.DatetimeIndex(series.index).tz_localize(None), "y": series.to_numpy()}))
        model.predict(model.make_future_dataframe(periods=15))


def memory() -> Measurement:
    """The peak of `make run`, page and all, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join(str(Path(path).resolve()) for path in ("function", "."))
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": paths}
        command = [sys.executable, "-m", "scripts.run.local"]
        subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # of Python; a Stan process takes 5
    return Measurement(
        what="peak memory of make run",
        measured=f"{peak_mb:.0f} MB",
        target=f"< {MAX_MB} MB",
        is_reached=peak_mb < MAX_MB,
    )


def yahoo() -> Measurement:
    """See bench_yahoo, which needs an environment of its own."""
    command = [sys.executable, "-m", "scripts.bench.yahoo", "--json"]
    answer = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    figures = json.loads(answer.stdout)
    return Measurement(
        what=f"Yahoo's prices, {figures['symbols']} symbols x {figures['bars']} bars, "
        f"{figures['latency_s'] * 1000:.0f} ms latency",
        measured=f"{figures['wall_s']:.1f} s",
        target=f"< {figures['target_s']:.0f} s",
        is_reached=figures["is_reached"],
    )


if __name__ == "__main__":
    main()
