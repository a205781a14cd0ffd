"""A panel's closes after the verdicts on their jumps: for forecasts, for fills and values, and for comparisons."""

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import ReferenceType, ref

import numpy as np
import pandas as pd

from scripts.backtest.model import Panel
from trader.model import Closes
from trader.prices.series import Series, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The closes of a panel, on its calendar, each for another use; without jumps all three tables are the panel's.

    `fitted` lacks wrong prices. `visible` also lacks the bars after a jump until it is confirmed: orders are filled and
    holdings valued at these. `unbroken` are the visible closes in one unit, that of the first bar: `splits` that nobody
    adjusted for are undone in it, so that a gain can be measured across them.
    """

    series: Mapping[str, Series]
    fitted: pd.DataFrame
    visible: pd.DataFrame
    unbroken: pd.DataFrame
    splits: Mapping[str, tuple[Split, ...]]


_KNOWN: dict[tuple[int, str], tuple[ReferenceType[Panel], Judged]] = {}
"""What was judged, by the panel's identity, as long as the panel is in use."""


def judge(panel: Panel, bar_interval: str) -> Judged:
    """Judge the jumps of all symbols of a panel. A panel does not change, so it is judged once."""
    key = id(panel), bar_interval
    known = _KNOWN.get(key)
    if known is None or known[0]() is not panel:
        known = _KNOWN[key] = ref(panel, lambda _: _KNOWN.pop(key, None)), _judge(panel, bar_interval)
    return known[1]


def _judge(panel: Panel, bar_interval: str) -> Judged:
    series = {
        str(symbol): Series(
            closes,
            interval=bar_interval,
            splits=panel.splits.get(str(symbol)),
            ohlv=panel.take_ohlv(str(symbol)),
        )
        for symbol, closes in panel.close.items()
    }
    splits = {symbol: found for symbol, each in series.items() if (found := each.find_splits())}
    fitted, visible = panel.close, panel.close
    if doubtful := {symbol: each for symbol, each in series.items() if each.has_verdict}:
        index = panel.close.index
        fitted = fitted.assign(**{symbol: each.fitted().reindex(index) for symbol, each in doubtful.items()})
        visible = visible.assign(**{symbol: each.visible().reindex(index) for symbol, each in doubtful.items()})
    return Judged(
        series=series,
        fitted=fitted,
        visible=visible,
        unbroken=visible.assign(
            **{symbol: visible[symbol] * _factors(visible, each) for symbol, each in splits.items()}
        ),
        splits=splits,
    )


def _factors(visible: pd.DataFrame, splits: tuple[Split, ...]) -> Closes:
    """Return how many shares one share of the first bar has become, at each bar."""
    factors = np.ones(len(visible))
    for split in splits:
        factors[visible.index.searchsorted(pd.Timestamp(split.visible_from)) :] *= split.ratio
    return pd.Series(factors, index=visible.index)
