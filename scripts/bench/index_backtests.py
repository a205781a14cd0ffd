"""Backtests of an index of invented prices: ten years of it, and how the time grows with bars and with symbols."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from scripts.bench import harness, ragged
from scripts.bench.harness import Measurement
from scripts.bench.whole_commands import Command, Found, bound, count_bars, import_s, limit
from trader.progress import Progress
from trader.settings import Settings

SYMBOLS, BARS, BEST = 500, 2_500, 20
MAX_BEST_S, MAX_BEST_MB = 15, 600
MAX_WHOLE_S, MAX_WHOLE_MB = 60, 1_500


def ten_years(progress: Progress) -> list[Measurement]:
    """Measure ten years of an index, refitted on every bar: with its best 20 at each bar, and with all of it."""
    return [
        *index_backtest(BEST, MAX_BEST_S, MAX_BEST_MB, progress),
        *index_backtest(SYMBOLS, MAX_WHOLE_S, MAX_WHOLE_MB, progress),
    ]


def index_backtest(chosen: int, max_s: float, max_mb: float, progress: Progress) -> Iterator[Measurement]:
    """Measure a backtest of all bars that have a whole history before them."""
    with TemporaryDirectory() as folder:
        settings, fits = write_index(Path(folder), SYMBOLS, BARS, chosen)
        found = Found([Command("backtest", settings, Path(folder)).use()], ())
    progress(f"ten years, {chosen} symbols", 1, 1)
    made = json.loads(found.usage.printed)
    which = f"the best {chosen} of them" if chosen < SYMBOLS else "all of them"
    what = f"make backtest, {SYMBOLS} ragged symbols x {BARS:,} bars, {which} refitted on every bar"
    yield Measurement(
        what=what,
        measured=found.describe(),
        target=f"≤ {max_s:g} s",
        is_reached=found.usage.wall_s <= max_s,
        limit=limit(fits, import_s("backtest")),
        bound=bound(made, found.usage),
        figures=found.figures() | {"fits": fits, "bars": count_bars(made)},
    )
    yield harness.is_below(
        found.largest_mb, max_mb, f"peak of the main process, {'best 20' if chosen < SYMBOLS else 'all'}", unit="MB"
    )


def write_index(folder: Path, symbols: int, bars: int, chosen: int) -> tuple[dict[str, str], int]:
    """Write a price file; return the settings of a backtest of it, and how many fits it asks for at most.

    A symbol can be fitted on a bar if it has a close there, and enough closes before to be ranked.
    """
    path = folder / f"prices-{symbols}-{bars}.csv"
    names = ragged.write(path, symbols, bars)
    closes = pd.read_csv(path, index_col=0)
    first = Settings.history_bars
    can_rank = closes.notna() & (closes.notna().cumsum() > Settings.universe_lookback_bars)
    fits = int(can_rank.iloc[first:].sum(axis=1).clip(upper=chosen).sum())
    settings = {
        "ENGINE": "map",
        "PRICE_FILE": str(path),
        "UNIVERSE": ",".join(names),
        "UNIVERSE_SIZE": str(chosen),
        "START": str(closes.index[first])[:10],
        "JSON": "1",
    }
    return settings, fits
