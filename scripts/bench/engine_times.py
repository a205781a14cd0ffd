"""The time of a trend line: Prophet's package in a loop, ENGINE=prophet and ENGINE=map, in turns.

The ways with Prophet fit fewer symbols, as their time is proportional to the number; map fits 20, 100 and 500.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from scripts.bench import engines, harness
from scripts.bench.harness import Measurement
from trader.forecasting.base import Forecaster
from trader.forecasting.prophet import ProphetForecaster
from trader.model import Closes
from trader.progress import Progress

ROUNDS = 3
QUICK = 10
"""Times that a round repeats what takes milliseconds; the average counts, as it does for what takes longer."""

MIN_RATIOS: Mapping[int, float | None] = {20: 1_500.0, 100: None, 500: 3_000.0}
"""How many times as fast as the loop a fit of the map engine must be, by the number of symbols."""

MAX_MB = 300

FIT = """
from scripts.bench import engines
from trader.deadline import Deadline
engines.ours().forecast(engines.closes({symbols}, {bars}), Deadline.never())
"""

LOOP = "Prophet's package in a loop"


def measure(progress: Progress) -> list[Measurement]:
    """Compare the ways by their time for a symbol, and measure map's growth and memory."""
    found = harness.in_turns(ways(), ROUNDS, "engines", progress)
    return [*compare(found), *engines.growth(), memory()]


def ways() -> dict[str, Callable[[], float]]:
    """Return the ways, each of which returns its seconds for a symbol."""
    some = engines.closes(engines.BY_PROPHET, engines.BARS)
    alone, together = ProphetForecaster(engines.SPEC, workers=1), ProphetForecaster(engines.SPEC)
    return {
        LOOP: lambda: harness.time_s(lambda: engines.loop(some)) / len(some),
        "ENGINE=prophet, one thread": partial(each_s, alone, some, 1),
        "ENGINE=prophet": partial(each_s, together, some, 1),
        **{
            f"ENGINE=map, {count} symbols": partial(each_s, engines.ours(), engines.closes(count, engines.BARS), QUICK)
            for count in MIN_RATIOS
        },
    }


def each_s(forecaster: Forecaster, some: Mapping[str, Closes], times: int) -> float:
    """Return the seconds for a symbol's forecast, on average."""
    return statistics.mean(engines.forecast_s(forecaster, some) for _ in range(times)) / len(some)


def compare(found: Mapping[str, Sequence[float]]) -> list[Measurement]:
    """Return the lines of all ways: the median of their rounds, and of the loop's ratio to them round by round."""
    targets = {f"ENGINE=map, {count} symbols": least for count, least in MIN_RATIOS.items()}
    lines = []
    for name, rounds in found.items():
        ratio = statistics.median(loop_s / way_s for loop_s, way_s in zip(found[LOOP], rounds, strict=True))
        ms_each = 1000 * statistics.median(rounds)
        times = f", {ratio:,.{0 if ratio >= 10 else 1}f} times as fast as the loop" if name != LOOP else ""
        what = f"{name}, a trend line over {engines.BARS} bars"
        least = targets.get(name)
        lines.append(
            Measurement(
                what=what,
                measured=f"{ms_each:.3g} ms{times}",
                target=f"≥ {least:,.0f} times" if least else "",
                is_reached=least is None or ratio >= least,
                figures={"ms_each": round(ms_each, 5), "times_as_fast": round(ratio, 2)},
            )
        )
    return lines


def memory() -> Measurement:
    """Measure the peak memory of a process that only fits the largest number of symbols."""
    count = max(MIN_RATIOS)
    with tempfile.TemporaryDirectory() as folder:
        program = FIT.format(symbols=count, bars=engines.BARS)
        used = harness.watch([sys.executable, "-c", program], folder, harness.isolate(folder), "the fit")
    what = f"memory of a process with {count} symbols x {engines.BARS} bars"
    return harness.is_below(used.peak / 1e6, MAX_MB, what, unit="MB")
