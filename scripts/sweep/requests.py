"""The forecasts that a sweep needs, divided into tasks of even size whatever else is known or under way."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import groupby

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest.compute import Key, Task
from trader.model import Engine

FITS = {Engine.PROPHET: (10, 50), Engine.MAP: (1_000, 20_000)}
"""The fits of a task, by engine: as few as are worth a task, and as many as take a second or two."""

TASKS_A_WORKER = 16
"""The number of tasks for each worker that tasks are made smaller for: half a task is what one is idle at the end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """Forecasts of one symbol: rows of the part's bars, each with the row at which its model is fitted."""

    engine: Engine
    symbol: str
    begin: int  # the row from which on closes are needed
    rows: NDArray[np.int32] = field(repr=False)  # pairs

    @property
    def fits(self) -> int:
        """The number of models to fit."""
        return len(np.unique(self.rows[:, 1]))


def find_lacking(needed: Iterable[Task], index: pd.Index, known: Container[tuple[str, datetime]]) -> Sequence[Request]:
    """Return what the tasks request and is not known by symbol and start of the bar, each once.

    `index` has the starts of the part's bars.
    """
    found = []
    times: list[datetime] = pd.DatetimeIndex(index).to_pydatetime().tolist()
    seen: set[tuple[str, int]] = set()
    for task in needed:
        begin = int(index.get_indexer(task.closes.index[:1])[0]) if len(task.closes) else 0
        for symbol, bars in task.bars.items():
            rows = [(bar + begin, fit + begin) for bar, fit in bars]
            lacking = [
                (bar, fit) for bar, fit in rows if (symbol, bar) not in seen and (symbol, times[bar]) not in known
            ]
            seen.update((symbol, bar) for bar, _ in lacking)
            if lacking:
                pairs = np.array(lacking, np.int32)
                found.append(Request(engine=task.key.engine, symbol=symbol, begin=begin, rows=pairs))
    return found


def choose_size(some: Iterable[Request], workers: int) -> dict[Engine, int]:
    """Return the number of fits of a task, by engine, for so many workers."""
    fits = dict.fromkeys(FITS, 0)
    for each in some:
        fits[each.engine] += each.fits
    return {
        engine: min(max(fits[engine] // (workers * TASKS_A_WORKER), least), most)
        for engine, (least, most) in FITS.items()
    }


def divide(some: Sequence[Request], size: dict[Engine, int]) -> Iterator[list[Request]]:
    """Yield the requests of tasks with at most about `size` fits, whose numbers differ by a request at most."""
    if not some:
        return
    fits = np.array([each.fits for each in some])
    count = -(-int(fits.sum()) // size[some[0].engine])
    tasks = (np.cumsum(fits) - fits / 2) * count // fits.sum()  # by the middle of each request
    for _, members in groupby(zip(tasks, some, strict=True), key=lambda each: each[0]):
        yield [each for _, each in members]


def identify(some: Iterable[Request]) -> str:
    """Return a hash of some requests, by which their part of a group's forecasts is kept."""
    digest = sha256()
    for each in some:
        digest.update(each.symbol.encode() + b"\0" + each.rows.tobytes())
    return digest.hexdigest()[:32]


def to_task(some: Sequence[Request], key: Key, closes: pd.DataFrame) -> Task:
    """Return the computation of requests that may be of several blocks; `closes` are those of the part."""
    begin = min(each.begin for each in some)
    end = max(int(each.rows[:, 0].max()) for each in some) + 1
    bars: dict[str, tuple[tuple[int, int], ...]] = {}
    for each in some:
        pairs = tuple((bar, fit) for bar, fit in (each.rows - begin).tolist())
        bars[each.symbol] = bars.get(each.symbol, ()) + pairs
    return Task(key=key, closes=closes[list(bars)].iloc[begin:end], bars=bars)
