"""The prices of a sweep's parts: cut in the workers, from bars that each of them gets once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from scripts.backtest.judged import judge
from scripts.backtest.model import Panel
from scripts.sweep.sharing import Shared
from scripts.sweep.walk_forward import Part

CUTS = 2
"""Number of cut panels that a process keeps: those of the setting before and of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPanel:
    """The bars of a part, with the history that a setting asks for; cut from the part's bars with the most history."""

    longest: Shared[Panel]
    first: datetime  # start of the part's first bar, and of its last
    last: datetime
    history_bars: int

    def take(self) -> Panel:
        """Return the panel. Those taken last are kept."""
        return _cut(self)

    def fitted(self, bar_interval: str) -> pd.DataFrame:
        """Return the closes that models are fitted to; see Judged. Those returned last are kept."""
        return _fitted(self, bar_interval)


@lru_cache(maxsize=CUTS)
def _cut(part: PartPanel) -> Panel:
    return with_history(part.longest.value, part.first, part.last, part.history_bars)


@lru_cache(maxsize=CUTS)
def _fitted(part: PartPanel, bar_interval: str) -> pd.DataFrame:
    return judge(part.take(), bar_interval).fitted


class PartPanels:
    """The bars of all parts. Settings that ask for the same history have the same panel."""

    def __init__(self, panel: Panel, parts: Iterable[Part], history_bars: Iterable[int]) -> None:
        """`history_bars` are what the settings ask for."""
        most = max(history_bars)
        self._longest: dict[int, Shared[Panel]] = {}
        for part in parts:
            longest = with_history(panel, part.times[0], part.times[-1], most)
            self._longest[part.number] = Shared(digest_of(longest), longest)
        self._known: dict[tuple[int, int], tuple[PartPanel, str]] = {}

    def of(self, part: Part, history_bars: int) -> tuple[PartPanel, str]:
        """Return the panel of a part, and a digest of its content."""
        if (part.number, history_bars) not in self._known:
            longest = self._longest[part.number]
            made = PartPanel(longest=longest, first=part.times[0], last=part.times[-1], history_bars=history_bars)
            self._known[part.number, history_bars] = made, digest_of(made.take())
        return self._known[part.number, history_bars]


def with_history(panel: Panel, first: datetime, last: datetime, bars: int) -> Panel:
    """Return the bars from `first` to `last`, preceded by so many that a symbol has `bars` bars up to the first."""
    end = int(panel.close.index.searchsorted(pd.Timestamp(first))) + 1
    # Counted backwards, for the symbol with the most.
    counts = panel.close.iloc[:end].iloc[::-1].notna().cumsum().max(axis=1).to_numpy()
    begin = end - 1 - int(np.argmax(counts >= bars)) if counts[-1] >= bars else 0
    frames = panel.tables
    cut = {id(frame): frame.iloc[begin:].loc[:last] for frame in frames.values()}  # may all be one object
    tables: dict[str, Any] = {name: cut[id(frame)] for name, frame in frames.items()}
    return replace(panel, notes=(), **tables)


def digest_of(panel: Panel) -> str:
    """Return a hash of the bars: times, symbols, members of the index, splits and prices."""
    symbols = [str(symbol) for symbol in panel.close.columns]
    splits = {symbol: list(panel.splits[symbol].items()) for symbol in sorted(panel.splits)}
    digest = sha256(repr((panel.has_ohlc, symbols, panel.members, splits)).encode())
    digest.update(pd.DatetimeIndex(panel.close.index).as_unit("ns").asi8.tobytes())
    for frame in {id(frame): frame for frame in panel.tables.values()}.values():  # closes alone are one object
        digest.update(np.ascontiguousarray(frame.to_numpy(dtype=np.float64)))
    return digest.hexdigest()
