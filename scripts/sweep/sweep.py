"""Sweep: compute shared forecasts once, then test each setting on each part, and keep all finished results."""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from scripts.backtest import forecasts, ledger, prices
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.backtest.uncertainty import Numbers
from scripts.console import InterruptedCommandError
from scripts.sweep import requests, tasks
from scripts.sweep.executors import Failure, Workers
from scripts.sweep.panels import PartPanel, PartPanels
from scripts.sweep.requests import Request
from scripts.sweep.sharing import Ran, Shared
from scripts.sweep.store import Store, identity
from scripts.sweep.tasks import RETURNS, Figures, ForecastJob, Job, unpack_returns
from scripts.sweep.walk_forward import Part
from trader.alpha import own
from trader.model import NEW_YORK
from trader.progress import Progress, no_progress

FORECASTS, BACKTESTS = "forecasts", "backtests"
"""The names of the two phases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """The results of a sweep: key figures, or a Failure, by setting and then by part."""

    rows: tuple[tuple[Figures | Failure, ...], ...]
    computed: int  # backtests of this run
    taken_up: int  # backtests done by an earlier run
    spent: tuple[Ran, ...] = field(default=(), compare=False, repr=False)  # the time of each task of this run

    def figures(self, metric: str) -> list[list[float | None]]:
        """Return one key figure by setting, then by part; None if the backtest failed."""
        return [[None if isinstance(each, Failure) else each[metric] for each in row] for row in self.rows]

    def returns(self) -> list[Numbers | None]:
        """Return the returns of all bars above those of cash, by setting, part after part; None if a part has none."""
        return [_join(row) for row in self.rows]


def _join(row: Sequence[Figures | Failure]) -> Numbers | None:
    packed = [None if isinstance(each, Failure) else each.get(RETURNS) for each in row]
    known = [unpack_returns(each) for each in packed if each is not None]
    return np.concatenate(known) if len(known) == len(row) else None


class InterruptedSweepError(InterruptedCommandError):
    """The sweep was interrupted with Ctrl-C; finished results are kept."""


def sweep(
    panel: Panel,
    options: Sequence[Options],
    parts: Sequence[Part],
    *,
    workers: Workers,
    folder: Path,
    progress: Progress = no_progress,
    forecast: Callable[[ForecastJob], bytes] = tasks.forecast,
    judge: Callable[[Job], Figures] = tasks.figures,
) -> Swept:
    """Test every setting on every part, starting with cash only. Results already in `folder` are not computed again.

    `forecast` and `judge` each do one task, in a worker process. Raises InterruptedSweepError on Ctrl-C.
    """
    plan = TaskPlan(panel, options, parts)
    results = Store(folder / "results.jsonl")
    todo = [cell for cell in plan.cells if cell.name not in results]
    failures: dict[str, Failure] = {}
    work_under_way = FORECASTS, 0, 0
    try:
        for work_under_way in _forecasts(todo, folder / "forecasts", workers, forecast):
            progress(*work_under_way)
        for work_under_way in _backtests(todo, folder / "forecasts", workers, judge, results, failures):
            progress(*work_under_way)
    except KeyboardInterrupt:
        what, done, of = work_under_way
        raise InterruptedSweepError(
            f"interrupted after {done:,} of {of:,} {what}: they are kept in {folder}, "
            "and the same command resumes the sweep (FRESH=1 starts over)"
        ) from None
    kept = {cell.name: failures.get(cell.name) or results[cell.name] for cell in plan.cells}
    return Swept(
        rows=tuple(tuple(kept[plan.cell(each, part).name] for part in parts) for each in options),
        computed=len(todo),
        taken_up=len(plan.cells) - len(todo),
        spent=tuple(ran for _, ran in workers.spent),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One setting on one part: a backtest whose name is a hash of everything that it depends on."""

    name: str
    options: Options  # with the part's days as the span
    part: Part
    panel: PartPanel
    group: str  # cells with the same group share their forecasts


class TaskPlan:
    """All cells of a sweep, ordered so that the cells of one group are consecutive."""

    def __init__(self, panel: Panel, options: Sequence[Options], parts: Sequence[Part]) -> None:
        needed = {forecasts.count_needed_bars(each.settings) for each in options}
        self._panels = PartPanels(panel, parts, needed)
        self._fingerprint = tasks.fingerprint()
        self._by_setting = {(each, part.number): self._cell(each, part) for part in parts for each in options}
        by_group: dict[str, dict[str, Cell]] = {}
        for cell in self._by_setting.values():
            by_group.setdefault(cell.group, {}).setdefault(cell.name, cell)
        self.cells = [cell for group in by_group.values() for cell in group.values()]

    def cell(self, options: Options, part: Part) -> Cell:
        """Return the cell of a setting on a part."""
        return self._by_setting[options, part.number]

    def _cell(self, options: Options, part: Part) -> Cell:
        panel, digest = self._panels.of(part, forecasts.count_needed_bars(options.settings))
        days = (part.start.isoformat(), part.end.isoformat())
        return Cell(
            name=identity(self._fingerprint, ledger.identify(options), days, digest),
            options=replace(options, start=part.start, end=part.end),
            part=part,
            panel=panel,
            group=identity(self._fingerprint, _describe_forecasts(options), days, digest),
        )


def span(panel: Panel, options: Sequence[Options]) -> tuple[Any, ...]:
    """Return the start times of the bars that all settings can trade. Raises BacktestError if one can trade none."""
    if slots := next((each for each in options if each.decide_every), None):
        raise BacktestError(
            f"DECIDE_EVERY={slots.decide_every}: a sweep decides once a day; leave it unset to choose settings, and "
            "then run make backtest with DECIDE_EVERY and the chosen ones"
        )
    needs = {(each.settings.signal, forecasts.count_needed_bars(each.settings)): each for each in options}
    times = min((prices.span(panel, each) for each in needs.values()), key=len)
    first = times[0].astimezone(NEW_YORK).date()
    is_whole = not any(time.astimezone(NEW_YORK).date() == first for time in panel.close.loc[: times[0]].index[:-1])
    # Parts consist of whole days, but the history of bars shorter than a day may end within a day.
    return tuple(times) if is_whole else tuple(time for time in times if time.astimezone(NEW_YORK).date() != first)


# --- the two phases --------------------------------------------------------------------------------------------------


def _describe_forecasts(options: Options) -> dict[str, object]:
    """Return what a setting's forecasts depend on; empty if its rule reads none."""
    return asdict(forecasts.key(options)) if forecasts.find_spec(options.settings) else {}


def _forecasts(
    todo: Sequence[Cell], folder: Path, workers: Workers, forecast: Callable[[ForecastJob], bytes]
) -> Iterator[tuple[str, int, int]]:
    """Compute the forecasts that the folder lacks, keep them in a file for each group, and yield the progress.

    Failed forecasts are left to the backtests, which compute what is missing.
    """
    groups = by_group(todo)
    stores = {group: Store(folder / f"{group}.jsonl") for group in groups}
    lacking = {group: find_lacking(cells, stores[group]) for group, cells in groups.items()}
    size = requests.choose_size((each for some in lacking.values() for each in some), workers.count())
    jobs = [
        (f"{group}/{requests.identify(some)}", make_forecast_job(groups[group][0], some))
        for group, missing in lacking.items()
        for some in requests.divide(missing, size)
    ]
    for done, (name, result) in enumerate(workers.results(forecast, jobs), start=1):
        if not isinstance(result, Failure):
            where, _, job = name.partition("/")
            stores[where].keep(job, base64.b64encode(result).decode())
        yield FORECASTS, done, len(jobs)


def find_lacking(cells: Sequence[Cell], store: Store) -> Sequence[Request]:
    """Return the forecasts that the cells of one group are likely to need and the store lacks, each once.

    The settings of a group may look at different symbols, because their universes differ.
    """
    choosing: dict[tuple[int, int], Cell] = {}
    for cell in cells:
        settings = cell.options.settings
        choosing.setdefault((settings.universe_size, settings.universe_lookback_bars), cell)
    table = tasks.unpack_table(tuple(map(base64.b64decode, store.results())))
    panel = cells[0].panel.take()
    needed = (task for cell in choosing.values() for task in forecasts.tasks(panel, cell.options, cell.part.times))
    return requests.find_lacking(needed, panel.close.index, table)


def make_forecast_job(cell: Cell, some: Sequence[Request]) -> ForecastJob:
    """Return the task of some requests of a cell's group."""
    return ForecastJob(
        panel=cell.panel,
        bar_interval=cell.options.settings.bar_interval,
        key=forecasts.key(cell.options),
        requests=tuple(some),
    )


def _backtests(
    todo: Sequence[Cell],
    folder: Path,
    workers: Workers,
    judge: Callable[[Job], Figures],
    results: Store,
    failures: dict[str, Failure],
) -> Iterator[tuple[str, int, int]]:
    """Compute the cells, keep their results, and yield the progress."""
    cells = {cell.name: cell for cell in todo}

    def jobs() -> Iterator[tuple[str, Job]]:
        for group, members in by_group(todo).items():
            known = tuple(base64.b64decode(each) for each in Store(folder / f"{group}.jsonl").results())
            table = Shared(identity(group, sha256(b"".join(known)).hexdigest()), known)
            yield from ((cell.name, make_job(cell, table)) for cell in members)

    for done, (name, result) in enumerate(workers.results(judge, jobs()), start=1):
        if isinstance(result, Failure):
            failures[name] = result
        else:
            cell = cells[name]
            about = {"part": f"{cell.part.start} to {cell.part.end}"}
            results.keep(name, result, **about)
        yield BACKTESTS, done, len(cells)


def make_job(cell: Cell, table: Shared[tuple[bytes, ...]]) -> Job:
    """Return the backtest of a cell, with the files of its rule if that is one of the owner's."""
    signal = cell.options.settings.signal
    rule = own.list_sources(signal) if own.is_file(signal) else ()
    return Job(options=cell.options, panel=cell.panel, table=table, rule=rule)


def by_group(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by group."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups
