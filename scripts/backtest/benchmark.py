"""The benchmark: an index or a fund that could have been bought instead, read like the universe's prices."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest import prices
from scripts.backtest.judged import Judged, judge
from scripts.backtest.model import BacktestError, Benchmark, Options, Panel
from trader.model import NEW_YORK, SAMPLE_PRICES, Closes, Note, PriceSourceName
from trader.prices.base import PriceSourceError
from trader.prices.file import FilePrices
from trader.prices.series import say
from trader.settings import Settings, universe

if TYPE_CHECKING:
    from scripts.backtest.yahoo_cache import Cache

SAMPLE = Path(__file__).with_name("sp500_index.csv.gz")
"""The index of the shipped sample; see make sample-prices."""

SAMPLE_WORDS = "the S&P 500 index, without dividends, while the sample's prices include them"

UNNAMED = "BENCHMARK"
"""The symbol of a file that names none."""

MAX_NAMED = 5
"""Maximum number of symbols named in a message."""


def choice(text: str) -> str:
    """Return a symbol in Alpaca's spelling, or a path as it is. Raises ValueError for anything else."""
    if is_path(text):
        return text
    try:
        (symbol,) = universe(text)
    except ValueError:
        symbol = "sp500"
    if symbol == "sp500":
        raise ValueError("one symbol such as SPY, or the path of a price file such as spy.csv")
    return symbol


def load(
    options: Options, bars: Sequence[datetime], *, now: datetime | None = None, cache: "Cache | None" = None
) -> Benchmark | None:
    """Load the benchmark's closes at the bars of the span; return None if there is no benchmark.

    Without BENCHMARK it is the index of the shipped sample, if that is traded. A bar that the benchmark lacks has its
    last price. Raises BacktestError if it has no price at or before the first bar, or none within the span.
    """
    settings = options.settings
    if not is_chosen(options):
        return None
    if not options.benchmark:
        name, source, panel = "S&P 500", SAMPLE_WORDS, _from_file(SAMPLE, settings)
    elif is_path(options.benchmark):
        path = Path(options.benchmark)
        name, source, panel = path.name, f"the prices in {path.name}", _from_file(path, settings)
    else:
        name, panel = options.benchmark, _from_source(options, bars, now, cache)
        source = f"{name}, from {panel.source}"
    judged = judge(panel, settings.bar_interval)
    closes, is_known = _align(judged, bars, settings.bar_interval, name)
    (series,) = judged.series.values()
    told = (
        *(note.what for note in panel.notes),
        *series.until(bars[-1], since=bars[0]).describe_jumps(),
        *_describe_lack(is_known, bars, settings.bar_interval),
    )
    notes = tuple(Note(symbol=name, what=what) for what in told)
    return Benchmark(name=name, source=source, closes=closes, notes=notes)


def is_chosen(options: Options) -> bool:
    """Check whether there is a benchmark: the one that is named, or the index of the shipped sample."""
    settings = options.settings
    is_sample = settings.price_sources == (PriceSourceName.FILE,) and settings.price_file == str(SAMPLE_PRICES)
    return bool(options.benchmark) or is_sample


def is_path(text: str) -> bool:
    """Check whether BENCHMARK names a file, and no symbol."""
    return "/" in text or text.lower().endswith((".csv", ".csv.gz")) or Path(text).is_file()


def _from_file(path: Path, settings: Settings) -> Panel:
    if not path.is_file():
        raise BacktestError(f"BENCHMARK={path}: there is no such file; set BENCHMARK to a price file or a symbol")
    symbols = sorted(FilePrices(path, settings.bar_interval, (UNNAMED,)).symbols())
    if len(symbols) > 1:
        named = f"{', '.join(symbols[:MAX_NAMED])}{' and others' if len(symbols) > MAX_NAMED else ''}"
        raise BacktestError(
            f"BENCHMARK={path}: the file must have the prices of one symbol, but has those of {named}; keep "
            "one, or set PRICE_FILE to it and BENCHMARK to a symbol"
        )
    return prices.read_file(path, settings.bar_interval, (UNNAMED,), symbols)


def _from_source(options: Options, bars: Sequence[datetime], now: datetime | None, cache: "Cache | None") -> Panel:
    """Read a symbol from where the universe's prices are from."""
    settings, symbol = options.settings, options.benchmark
    if settings.price_sources == (PriceSourceName.FILE,):
        path = Path(settings.price_file)
        known = FilePrices(path, settings.bar_interval, settings.universe).symbols()
        if symbol not in known:
            raise BacktestError(
                f"BENCHMARK={symbol}: {path.name} has no prices for it; set BENCHMARK to the path of a price file with "
                f"{symbol} alone, or to a symbol of {path.name}: {', '.join(sorted(known)[:MAX_NAMED])}"
            )
        return prices.read_file(path, settings.bar_interval, settings.universe, [symbol])
    wanted = replace(
        options,
        settings=replace(settings, universe=(symbol,)),
        start=bars[0].astimezone(NEW_YORK).date(),
    )
    try:
        return prices.read(wanted, now=now, cache=cache)
    except PriceSourceError as error:
        why = str(error).removesuffix("; correct UNIVERSE")
        raise BacktestError(f"BENCHMARK={symbol}: {why}; choose another symbol, or the path of a price file") from error


def _align(
    judged: Judged, bars: Sequence[datetime], bar_interval: str, name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the closes at the bars, and which bars have one; daily bars are matched by their day in New York."""
    closes: Closes = judged.unbroken.iloc[:, 0].dropna()
    traded = pd.DatetimeIndex(list(bars))
    if bar_interval == "1d":
        closes = closes.set_axis(pd.DatetimeIndex(closes.index).tz_convert(NEW_YORK).normalize())
        traded = traded.tz_convert(NEW_YORK).normalize()
    first, last = traded[0], traded[-1]
    if not len(closes) or closes.index[0] > first:
        begins = f"its prices begin on {closes.index[0]:%Y-%m-%d}" if len(closes) else "it has no prices"
        raise BacktestError(
            f"BENCHMARK={name}: {begins}, but the first bar is that of {first:%Y-%m-%d}; set a later START, or "
            "choose another BENCHMARK"
        )
    if not closes.index.isin(traded).any():
        raise BacktestError(
            f"BENCHMARK={name}: it has no bar at the same time as any of the {len(traded):,} from {first:%Y-%m-%d} to "
            f"{last:%Y-%m-%d}; provide {bar_interval} bars of these days, or choose another BENCHMARK"
        )
    known = closes.reindex(closes.index.union(traded)).ffill().reindex(traded)
    return np.asarray(known, np.float64), traded.isin(closes.index)


def _describe_lack(is_known: NDArray[np.bool_], bars: Sequence[datetime], bar_interval: str) -> Iterator[str]:
    """Say where the benchmark has no price of its own: between its bars, and after its last one."""
    last = int(np.flatnonzero(is_known)[-1])
    if gaps := np.flatnonzero(~is_known[:last]).tolist():
        missing = f"{len(gaps):,} bars are missing" if len(gaps) > 1 else "1 bar is missing"
        yield f"{missing}, the first on {say(bars[gaps[0]], bar_interval)}; the price before it is used"
    if last < len(bars) - 1:
        yield (
            f"its prices end on {say(bars[last], bar_interval)}, but the last bar is that of "
            f"{say(bars[-1], bar_interval)}; from then on it stays at its last price"
        )
