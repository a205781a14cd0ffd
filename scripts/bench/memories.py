"""`make bench-cost`: what Lambda bills by memory and engine, and the memory with which it bills least.

A run's computing is stretched by the share of a processor that its memory buys, and its waiting is not. So each run is
measured once, on a whole processor, and the rest is arithmetic: GB-seconds fall with the memory as long as a run waits
for anything at all. What bounds the memory from below is the time that a run may take.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts import console
from scripts.bench import harness, load
from scripts.bench.harness import Measurement
from scripts.cloud import cost
from scripts.cloud.cost import FREE_GB_S, Estimate
from scripts.cloud.measure import HELD, SOLD, Measured, measuring
from scripts.layer.target import Target
from scripts.testkit.lambda_runtime import TIMEOUT_S
from trader.model import Engine
from trader.progress import Progress

MEMORIES_MB = (512, 768, 1_024, 1_769)
COMPARED_MB = 1_024
"""The memory of the targets of a later run."""

MAX_LATER_S = {Engine.PROPHET: 6.5, Engine.MAP: 5.0}
MIN_STRATEGIES = 120
MAX_RUN_S = TIMEOUT_S / 3
"""The longest that a run may take; a digest stops by itself before the timeout."""

IN_BRACKETS = (SOLD, HELD)
"""How many holdings the runs sell that hold all of them in brackets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMeasurement(Measurement):
    """What an engine's runs take with one memory."""

    engine: str
    memory_mb: int
    columns: Sequence[str]

    @property
    def group(self) -> str:  # type: ignore[override]  # the base has no groups
        """The engine."""
        return f"ENGINE={self.engine}"

    def cells(self) -> Sequence[str]:
        """Return the figures."""
        return self.columns


HEADINGS = ("Later s", "Brackets", "All sold", "First", "Digest", "GB-s", "A month", "Free")
"""Seconds of a later run, also with brackets around all that is held, and if all that is sold; of the first run of a
day, and of a digest; GB-seconds of a later run and of a month; the strategies that are free."""


def main() -> None:
    """Measure both engines, and print what their runs take by memory; see harness.finish for the exit code."""
    with harness.measuring() as progress:
        measured = measure(progress)
    lines = [line for each in measured for line in compare(each)]
    title = f"Cold runs by memory: Terraform's is {cost.MEMORY_MB:,} MB"
    harness.finish(lines, as_json=console.wants_json(), title=title, headings=HEADINGS)


def bill(progress: Progress) -> list[Measurement]:
    """Return what a later run is billed at COMPARED_MB, and how many strategies are free at Terraform's memory."""
    return [line for each in measure(progress) for line in to_bill(each)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEngine:
    """An engine's month, and its later runs with all holdings in brackets by how many of them they sell."""

    engine: Engine
    month: Estimate
    in_brackets: Mapping[int, Measured]


def measure(progress: Progress) -> list[MeasuredEngine]:
    """Measure both engines, one after the other. Raises LayerError if the layer is missing or cannot run here."""
    target = Target.from_env(os.environ)
    schedule, counts = cost.count_runs(os.environ)
    found = []
    for number, engine in enumerate(Engine):
        progress("engines", number, len(Engine))
        with measuring(target, MEMORIES_MB[-1], engine) as under_measure:
            measured = under_measure.run_all(progress)
            in_brackets = {sold: under_measure.run_in_brackets(sold) for sold in IN_BRACKETS}
        load.orphans_s += sum(each.computed_s for each in (*measured.values(), *in_brackets.values()))
        month = Estimate(
            schedule=schedule,
            memory_mb=MEMORIES_MB[-1],
            first_day=cost.find_first_day(),
            counts=counts,
            measured=measured,
        )
        found.append(MeasuredEngine(engine=engine, month=month, in_brackets=in_brackets))
    progress("engines", len(Engine), len(Engine))
    return found


def to_bill(measured: MeasuredEngine) -> list[Measurement]:
    """Return the two figures of an engine that have targets."""
    engine, later = measured.engine, measured.month.at(COMPARED_MB).measured["later"]
    free = count_free(measured.month.at(cost.MEMORY_MB))
    return [
        Measurement(
            what=f"a later run on Lambda, ENGINE={engine}, cold, {COMPARED_MB:,} MB: billed",
            measured=f"{later.billed_s:.2f} s, of which init {later.init_s:.2f} s",
            target=f"≤ {MAX_LATER_S[engine]:g} s",
            is_reached=later.billed_s <= MAX_LATER_S[engine],
            bound=f"{later.waited_s:.2f} s of waiting, {later.computed_s:.2f} s of a whole processor",
            figures={"billed_s": later.billed_s, "init_s": later.init_s},
        ),
        Measurement(
            what=f"strategies within Lambda's free tier, ENGINE={engine}, {cost.MEMORY_MB:,} MB",
            measured=f"{free:,}",
            target=f"≥ {MIN_STRATEGIES}",
            is_reached=free >= MIN_STRATEGIES,
            figures={"strategies": free},
        ),
    ]


def count_free(month: Estimate) -> int:
    """Return how many such strategies fit into Lambda's free tier."""
    return int(FREE_GB_S / month.use.gb_seconds)


def compare(measured: MeasuredEngine) -> list[Measurement]:
    """Return a line for each memory; the default memory, the later run and the number of strategies are judged."""
    months = {memory_mb: measured.month.at(memory_mb) for memory_mb in MEMORIES_MB}
    cheapest_mb = find_cheapest(months, measured.in_brackets)
    return [
        to_line(measured.engine, month, measured.in_brackets, is_cheapest=memory_mb == cheapest_mb)
        for memory_mb, month in months.items()
    ]


def find_cheapest(months: Mapping[int, Estimate], in_brackets: Mapping[int, Measured]) -> int | None:
    """Return the memory with the fewest GB-seconds a month whose longest run is short enough; None if none is."""
    short = [
        memory_mb for memory_mb, month in months.items() if find_longest_s(month, memory_mb, in_brackets) <= MAX_RUN_S
    ]
    return min(short, key=lambda memory_mb: months[memory_mb].use.gb_seconds, default=None)


def find_longest_s(month: Estimate, memory_mb: int, in_brackets: Mapping[int, Measured]) -> float:
    """Return the seconds of the longest run; a digest is none."""
    runs = [month.measured[kind] for kind in ("first", "later")]
    return max(each.at(memory_mb).billed_s for each in (*runs, *in_brackets.values()))


def to_line(
    engine: Engine, month: Estimate, in_brackets: Mapping[int, Measured], *, is_cheapest: bool
) -> MemoryMeasurement:
    """Return the line of one memory, with the targets that it has."""
    memory_mb, later_s = month.memory_mb, month.measured["later"].billed_s
    brackets_s = [each.at(memory_mb).billed_s for each in in_brackets.values()]
    free = count_free(month)
    figures = {
        "later_s": later_s,
        **{f"later_in_brackets_{sold}_sold_s": each_s for sold, each_s in zip(in_brackets, brackets_s, strict=True)},
        **{f"{kind}_s": month.measured[kind].billed_s for kind in ("first", "digest", "closed")},
        "later_gb_s": round(later_s * memory_mb / 1024, 3),
        "month_gb_s": round(month.use.gb_seconds, 1),
        "strategies": free,
        "peak_mb": max(each.peak_mb for each in (*month.measured.values(), *in_brackets.values())),
    }
    targets = dict(list_targets(engine, memory_mb, later_s, free, is_cheapest=is_cheapest))
    return MemoryMeasurement(
        what=f"{memory_mb:,} MB",
        engine=engine,
        memory_mb=memory_mb,
        columns=(
            f"{later_s:.2f}",
            *(f"{each_s:.2f}" for each_s in brackets_s),
            f"{month.measured['first'].billed_s:.1f}",
            f"{month.measured['digest'].billed_s:.1f}",
            f"{figures['later_gb_s']:.2f}",
            f"{month.use.gb_seconds:,.0f}",
            f"{free:,}",
        ),
        target=", ".join(targets),
        is_reached=all(targets.values()),
        figures=figures,
    )


def list_targets(
    engine: Engine, memory_mb: int, later_s: float, free: int, *, is_cheapest: bool
) -> Sequence[tuple[str, bool]]:
    """Return the targets of a line, and whether each is reached."""
    found: list[tuple[str, bool]] = []
    if memory_mb == COMPARED_MB:
        found.append((f"later run ≤ {MAX_LATER_S[engine]:g} s", later_s <= MAX_LATER_S[engine]))
    if memory_mb == cost.MEMORY_MB:
        found.append((f"the cheapest below {MAX_RUN_S:.0f} s a run", is_cheapest))
        found.append((f"≥ {MIN_STRATEGIES} strategies", free >= MIN_STRATEGIES))
    return found
