"""Sweep: compute shared forecasts once, then test each setting on each part, and keep all finished results."""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.backtest import forecasts, ledger, prices
from scripts.backtest.compute import Task
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.backtest.uncertainty import Numbers
from scripts.console import InterruptedCommandError
from scripts.sweep import tasks
from scripts.sweep.executors import Failure, Workers
from scripts.sweep.store import Store, identity
from scripts.sweep.tasks import RETURNS, Figures, Job, Packed, pack, unpack_returns
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
    forecast: Callable[[Task], bytes] = tasks.forecast,
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
        for work_under_way in _forecasts(plan, todo, folder / "forecasts", workers, forecast):
            progress(*work_under_way)
        for work_under_way in _backtests(plan, todo, folder / "forecasts", workers, judge, results, failures):
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
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One setting on one part: a backtest whose name is a hash of everything that it depends on."""

    name: str
    options: Options  # with the part's days as the span
    part: Part
    group: str  # cells with the same group share their forecasts


class TaskPlan:
    """All cells of a sweep, ordered so that the cells of one group are consecutive."""

    def __init__(self, panel: Panel, options: Sequence[Options], parts: Sequence[Part]) -> None:
        self._panel = panel
        self._cuts: dict[tuple[int, int], tuple[Panel, str]] = {}
        self._fingerprint = tasks.fingerprint()
        self._by_setting = {(each, part.number): self._cell(each, part) for part in parts for each in options}
        by_group: dict[str, dict[str, Cell]] = {}
        for cell in self._by_setting.values():
            by_group.setdefault(cell.group, {}).setdefault(cell.name, cell)
        self.cells = [cell for group in by_group.values() for cell in group.values()]

    def cell(self, options: Options, part: Part) -> Cell:
        """Return the cell of a setting on a part."""
        return self._by_setting[options, part.number]

    def panel(self, cell: Cell) -> Panel:
        """Return the bars that a cell needs."""
        return self._cut(cell.part, cell.options)[0]

    def tasks(self, cells: Sequence[Cell]) -> Iterator[tuple[str, Task]]:
        """Yield tasks for the forecasts that the cells of one group are likely to need, each once.

        The settings of a group may look at different symbols, because their universes differ.
        """
        seen: set[object] = set()
        choosing: dict[tuple[int, int], Cell] = {}
        for cell in cells:
            settings = cell.options.settings
            choosing.setdefault((settings.universe_size, settings.universe_lookback_bars), cell)
        for cell in choosing.values():
            for task in forecasts.tasks(self.panel(cell), cell.options, cell.part.times):
                wanted = {symbol: (symbol, bars, task.closes.index[-1]) for symbol, bars in task.bars.items() if bars}
                if new := frozenset(symbol for symbol, each in wanted.items() if each not in seen):
                    seen.update(wanted[symbol] for symbol in new)
                    only = task.only(new)
                    yield identity(list(only.bars.items()), task.closes.index[-1]), only

    def _cell(self, options: Options, part: Part) -> Cell:
        spanned = replace(options, start=part.start, end=part.end)
        digest = self._cut(part, options)[1]
        days = (part.start.isoformat(), part.end.isoformat())
        return Cell(
            name=identity(self._fingerprint, ledger.identify(options), days, digest),
            options=spanned,
            part=part,
            group=identity(self._fingerprint, _describe_forecasts(options), days, digest),
        )

    def _cut(self, part: Part, options: Options) -> tuple[Panel, str]:
        """Return the part's bars with the history before them, and a digest of their content."""
        asked = forecasts.count_needed_bars(options.settings)
        if (part.number, asked) not in self._cuts:
            cut = with_history(self._panel, part, asked)
            self._cuts[part.number, asked] = cut, digest_of(cut)
        return self._cuts[part.number, asked]


def with_history(panel: Panel, part: Part, bars: int) -> Panel:
    """Return the bars of a part, preceded by enough history that a symbol has `bars` bars up to the part's first."""
    end = int(panel.close.index.searchsorted(part.times[0])) + 1
    # Counted backwards, for the symbol with the most.
    counts = panel.close.iloc[:end].iloc[::-1].notna().cumsum().max(axis=1).to_numpy()
    first = end - 1 - int(np.argmax(counts >= bars)) if counts[-1] >= bars else 0
    frames = panel.tables
    cut = {id(frame): frame.iloc[first:].loc[: part.times[-1]] for frame in frames.values()}  # may all be one object
    tables: dict[str, Any] = {name: cut[id(frame)] for name, frame in frames.items()}
    return replace(panel, notes=(), **tables)


def digest_of(panel: Panel) -> str:
    """Return a hash of the bars: times, symbols, members of the index and prices."""
    symbols = [str(symbol) for symbol in panel.close.columns]
    digest = sha256(repr((panel.has_ohlc, symbols, panel.members)).encode())
    digest.update(pd.DatetimeIndex(panel.close.index).as_unit("ns").asi8.tobytes())
    for frame in panel.tables.values():
        digest.update(np.ascontiguousarray(frame.to_numpy(dtype=np.float64)).tobytes())
    return digest.hexdigest()


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
    plan: TaskPlan, todo: Sequence[Cell], folder: Path, workers: Workers, forecast: Callable[[Task], bytes]
) -> Iterator[tuple[str, int, int]]:
    """Compute the forecasts that the folder lacks, keep them in a file for each group, and yield the progress.

    Failed forecasts are left to the backtests, which compute what is missing.
    """
    groups = _groups(todo)
    stores = {group: Store(folder / f"{group}.jsonl") for group in groups}
    missing = {
        group: sum(name not in stores[group] for name, _ in plan.tasks(cells)) for group, cells in groups.items()
    }
    of = sum(missing.values())

    def tasks() -> Iterator[tuple[str, Task]]:
        for group, cells in groups.items():
            if missing[group]:
                yield from ((f"{group}/{name}", task) for name, task in plan.tasks(cells) if name not in stores[group])

    for done, (name, result) in enumerate(workers.results(forecast, tasks()), start=1):
        if not isinstance(result, Failure):
            group, _, task = name.partition("/")
            stores[group].keep(task, base64.b64encode(result).decode())
        yield FORECASTS, done, of


def _backtests(
    plan: TaskPlan,
    todo: Sequence[Cell],
    folder: Path,
    workers: Workers,
    judge: Callable[[Job], Figures],
    results: Store,
    failures: dict[str, Failure],
) -> Iterator[tuple[str, int, int]]:
    """Compute the cells, keep their results, and yield the progress."""
    cells = {cell.name: cell for cell in todo}
    of = len(cells)

    def jobs() -> Iterator[tuple[str, Job]]:
        for group, members in _groups(todo).items():
            table = pack([base64.b64decode(each) for each in Store(folder / f"{group}.jsonl").results()])
            panel = pack(plan.panel(members[0]))
            yield from ((cell.name, make_job(cell, panel, table)) for cell in members)

    for done, (name, result) in enumerate(workers.results(judge, jobs()), start=1):
        if isinstance(result, Failure):
            failures[name] = result
        else:
            cell = cells[name]
            about = {"part": f"{cell.part.start} to {cell.part.end}"}
            results.keep(name, result, **about)
        yield BACKTESTS, done, of


def make_job(cell: Cell, panel: Packed, table: Packed) -> Job:
    """Return the backtest of a cell, with the files of its rule if that is one of the owner's."""
    signal = cell.options.settings.signal
    rule = own.list_sources(signal) if own.is_file(signal) else ()
    return Job(options=cell.options, panel=panel, table=table, rule=rule)


def _groups(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups
