"""A folder that caches Yahoo's bars for backtests, so that a second backtest does not request them again."""

import json
import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, override

import numpy as np
import pandas as pd

from scripts.files import CACHE, OUT, replace_file
from trader.model import NEW_YORK
from trader.prices.bars import PRICES, VOLUME, CleanBars, clean_bars
from trader.prices.base import PriceSourceError
from trader.prices.yahoo import MAX_DAYS, Patience, YahooBars, YahooPrices
from trader.progress import Progress
from trader.schedule import sessions

FOLDER = OUT / CACHE / "yahoo"

PATIENCE = Patience(deadline_s=900.0)
"""A long deadline: many years of the whole index take time, and no order waits for them."""

SETTLING = timedelta(hours=1)
"""Time after the close during which a session's last bars may still change: the closing auction is reported late."""

VERSION = 2

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All bars of a symbol from `start` up to but excluding `until`, all of them final; there may be none.

    `has_volume` says whether its file has volumes, which are read only if they are asked for.
    """

    bars: YahooBars
    start: datetime
    until: datetime
    has_volume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A cache with a file for each interval and symbol. It fetches an unusable file's bars again, with a warning."""

    folder: Path = FOLDER
    patience: Patience = PATIENCE

    def bars(
        self,
        symbols: Sequence[str],
        interval: str,
        start: datetime,
        end: datetime,
        now: datetime,
        progress: Progress,
        *,
        reads_volume: bool = False,
    ) -> tuple[Mapping[str, YahooBars], Mapping[str, str]]:
        """Return the bars of each symbol from `start` up to but excluding `end`, and the reasons for missing symbols.

        They are adjusted for splits and dividends, those after `end` too. Bars of an unfinished session are never
        returned. With `reads_volume` they have volumes, and a file without them is fetched again. Raises
        PriceSourceError if no symbol has prices.
        """
        earliest, until = _earliest(interval, now), final_until(now)
        start, end = max(start, earliest), min(end, until)
        loaded = {symbol: self._load(symbol, interval, reads_volume=reads_volume) for symbol in symbols}
        kept = {symbol: each for symbol, each in loaded.items() if each is not None}
        found = {
            symbol: each
            for symbol, each in kept.items()
            if each.start <= start and each.until >= end and (each.has_volume or not reads_volume)
        }
        missing = [symbol for symbol in symbols if symbol not in found]
        reasons: Mapping[str, str] = {}
        if missing:
            # A split or a dividend changes all adjusted prices before it, so bars fetched at different times do not
            # fit together. A symbol whose cached bars do not reach far enough is therefore fetched completely.
            since = min([start, *(max(kept[symbol].start, earliest) for symbol in missing if symbol in kept)])
            keeps_volume = reads_volume or any(kept[symbol].has_volume for symbol in missing if symbol in kept)
            fetched, reasons = self._fetch(
                missing, interval, since, until, progress, is_all=not found, reads_volume=keeps_volume
            )
            self._save(fetched, interval)
            found |= fetched
        columns = [*PRICES, VOLUME] if reads_volume else [*PRICES]
        return {
            symbol: _between(found[symbol].bars, start, end, columns) for symbol in symbols if symbol in found
        }, reasons

    def _fetch(
        self,
        symbols: Sequence[str],
        interval: str,
        since: datetime,
        until: datetime,
        progress: Progress,
        *,
        is_all: bool,
        reads_volume: bool,
    ) -> tuple[dict[str, Kept], Mapping[str, str]]:
        source = YahooPrices(interval, self.patience, ohlcv=reads_volume)
        try:
            answers, reasons = source.bars(symbols, since, until, progress)
        except PriceSourceError as error:
            if is_all:
                raise
            return {}, dict.fromkeys(symbols, str(error))  # the cached symbols can still be used
        if is_all and not answers:
            named = "; ".join(f"{symbol}: {reason}" for symbol, reason in list(reasons.items())[:3])
            raise PriceSourceError(f"Yahoo has no prices for any symbol ({named}); correct UNIVERSE")
        return {
            symbol: Kept(bars=_between(bars, since, until), start=since, until=until, has_volume=reads_volume)
            for symbol, bars in answers.items()
        }, reasons

    def _path(self, symbol: str, interval: str) -> Path:
        return self.folder / interval / f"{symbol}.npz"

    def _load(self, symbol: str, interval: str, *, reads_volume: bool = False) -> Kept | None:
        path = self._path(symbol, interval)
        try:
            with np.load(path) as file:  # refuses pickled objects, and verifies each part's checksum
                facts = json.loads(str(file["facts"]))
                index = pd.DatetimeIndex(file["time_us"].astype("datetime64[us]")).tz_localize("UTC")
                prices = pd.DataFrame(file["prices_usd"], index=index, columns=PRICES, dtype=float)
                has_volume = VOLUME in file
                if has_volume and reads_volume:
                    prices[VOLUME] = file[VOLUME].astype(float)
            if facts["is"] != _facts(symbol, interval):
                raise ValueError(f"it does not hold {interval} bars of {symbol}, or it has another version")
            splits = {date.fromisoformat(day): float(ratio) for day, ratio in facts["splits"].items()}
            bars = YahooBars(bars=prices, splits=splits, notes=tuple(map(str, facts["notes"])))
            start, until = (datetime.fromisoformat(facts[name]) for name in ("start", "until"))
            kept = Kept(bars=bars, start=start, until=until, has_volume=has_volume)
            if not (index.is_monotonic_increasing and index.is_unique):
                raise ValueError("its bars are out of order")
        except FileNotFoundError:
            return None
        except (
            OSError,
            EOFError,
            ValueError,
            AttributeError,
            KeyError,
            TypeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            LOG.warning("%s cannot be used (%s); %s is fetched again", path, error, symbol)
            return None
        return kept

    def _save(self, fetched: Mapping[str, Kept], interval: str) -> None:
        """Write each file completely or not at all. If the cache cannot be written, warn and continue."""
        try:
            for symbol, kept in fetched.items():
                span = {"start": kept.start.isoformat(), "until": kept.until.isoformat()}
                splits = {day.isoformat(): ratio for day, ratio in kept.bars.splits.items()}
                told = {"splits": splits, "notes": kept.bars.notes}
                facts = json.dumps({"is": _facts(symbol, interval), **span, **told})
                prices = kept.bars.bars
                time_us = pd.DatetimeIndex(prices.index).as_unit("us").asi8
                with replace_file(self._path(symbol, interval)) as part, part.open("wb") as file:
                    volume: dict[str, Any] = {VOLUME: prices[VOLUME]} if kept.has_volume else {}
                    np.savez(file, facts=facts, time_us=time_us, prices_usd=prices[[*PRICES]], **volume)
        except OSError as error:
            LOG.warning("Yahoo's bars cannot be saved in %s (%s); they will be fetched again", self.folder, error)


class CutCache(Cache):
    """A cache that ends with a bar, as if nothing later were known; it never asks Yahoo."""

    def copy(self, cache: Cache, symbols: Sequence[str], interval: str, at: datetime) -> None:
        """Copy another cache's files, each with its rows up to the bar that began at `at`, before they are read."""
        for symbol in symbols:
            source, target = cache._path(symbol, interval), self._path(symbol, interval)
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy_until(source, target, at)

    def read(self, symbols: Sequence[str], interval: str, *, reads_volume: bool = False) -> Mapping[str, pd.DataFrame]:
        """Return the rows of the symbols that have any, as they are cached."""
        found = {symbol: self._load(symbol, interval, reads_volume=reads_volume) for symbol in symbols}
        return {symbol: each.bars.bars for symbol, each in found.items() if each is not None and len(each.bars.bars)}

    @override
    def _fetch(
        self,
        symbols: Sequence[str],
        interval: str,
        since: datetime,
        until: datetime,
        progress: Progress,
        *,
        is_all: bool,
        reads_volume: bool,
    ) -> tuple[dict[str, Kept], Mapping[str, str]]:
        return {}, dict.fromkeys(symbols, "they are not in the cache")


def _copy_until(source: Path, target: Path, at: datetime) -> None:
    with np.load(source) as file:
        parts = dict(file)
    facts = json.loads(str(parts["facts"]))
    # It reaches as far as anyone may ask, so that nothing is fetched again.
    facts["until"] = datetime.max.replace(tzinfo=UTC).isoformat()
    facts["splits"] = {day: ratio for day, ratio in facts["splits"].items() if date.fromisoformat(day) <= _day(at)}
    is_known = parts["time_us"] <= int(at.timestamp() * 1_000_000)
    rows = {name: part[is_known] for name, part in parts.items() if name != "facts"}
    np.savez(target, facts=json.dumps(facts), **rows)


def _day(time: datetime) -> date:
    return time.astimezone(NEW_YORK).date()


def clean(bars: Mapping[str, YahooBars], interval: str) -> CleanBars:
    """Bring the bars of some symbols on one calendar, and clean them."""
    joined = pd.concat({symbol: each.bars for symbol, each in bars.items()}, axis=1).sort_index()
    has_volume = all(VOLUME in each.bars for each in bars.values())
    return clean_bars(
        {name: pd.DataFrame(joined.xs(name, axis=1, level=1)) for name in (*PRICES, *[VOLUME] * has_volume)},
        interval=interval,
        has_ohlc=True,
        splits=list_splits(bars),
        notes={symbol: each.notes for symbol, each in bars.items()},
    )


def list_splits(bars: Mapping[str, YahooBars]) -> dict[str, Mapping[date, float]]:
    """Return the splits of the symbols that had any."""
    return {symbol: each.splits for symbol, each in bars.items() if each.splits}


def final_until(now: datetime) -> datetime:
    """Return the midnight after the last settled session: bars that began earlier no longer change."""
    day = now.astimezone(NEW_YORK).date()
    while (hours := sessions.session(day)) is None or hours[1] + SETTLING > now:
        day -= timedelta(days=1)
    return datetime.combine(day + timedelta(days=1), time(), NEW_YORK)


def _between(bars: YahooBars, start: datetime, end: datetime, columns: Sequence[str] | None = None) -> YahooBars:
    """Return the bars with a close that begin at `start` or after, and before `end`, and all or some columns."""
    prices = bars.bars.dropna(subset="close")
    if columns is not None and len(columns) < len(prices.columns):
        prices = prices[list(columns)]
    index = pd.DatetimeIndex(prices.index).as_unit("us")
    first, after = (index.searchsorted(pd.Timestamp(time)) for time in (start, end))
    return replace(bars, bars=prices.set_axis(index).iloc[first:after])


def _earliest(interval: str, now: datetime) -> datetime:
    """Return the earliest time for which Yahoo has bars of this length."""
    return now - timedelta(days=MAX_DAYS.get(interval, 100 * 365))


def _facts(symbol: str, interval: str) -> dict[str, object]:
    return {"version": VERSION, "symbol": symbol, "interval": interval}
