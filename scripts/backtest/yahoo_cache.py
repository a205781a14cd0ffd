"""Yahoo's bars for backtests, kept in a folder: a second backtest asks for nothing that the first has had."""

import json
import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.files import replace_file
from trader.model import NEW_YORK
from trader.prices.base import PriceSourceError
from trader.prices.yahoo import MAX_DAYS, Patience, YahooPrices
from trader.progress import Progress
from trader.schedule import sessions

FOLDER = Path("out/cache/yahoo")

PATIENCE = Patience(deadline_s=900.0)
"""No order waits for it: many years of the whole index may take their time."""

SETTLING = timedelta(hours=1)
"""For so long after a session's close its last bars may still change: the closing auction is reported late."""

VERSION = 1
PRICES = ("open", "high", "low", "close")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All bars of a symbol from `start` to before `until`, each of them final; there need not be any."""

    bars: pd.DataFrame
    start: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A file for each interval and symbol in a folder; one that is torn or not ours is fetched anew, with a warning."""

    folder: Path = FOLDER
    patience: Patience = PATIENCE

    def bars(
        self, symbols: Sequence[str], interval: str, start: datetime, end: datetime, now: datetime, progress: Progress
    ) -> tuple[Mapping[str, pd.DataFrame], Mapping[str, str]]:
        """The bars of each symbol from `start` to before `end`; of the symbols that have none, the reason.

        The columns are open, high, low and close, adjusted for splits and dividends. Bars of a session that is not
        over are never given. Raises PriceSourceError if there are no prices of any symbol.
        """
        earliest, until = _earliest(interval, now), final_until(now)
        start, end = max(start, earliest), min(end, until)
        kept = {symbol: each for symbol in symbols if (each := self._load(symbol, interval)) is not None}
        found = {symbol: each for symbol, each in kept.items() if each.start <= start and each.until >= end}
        missing = [symbol for symbol in symbols if symbol not in found]
        reasons: Mapping[str, str] = {}
        if missing:
            # A split or a dividend changes all adjusted prices before it, so that bars which were fetched at different
            # times do not fit together: a symbol whose bars do not reach far enough is fetched again as a whole.
            since = min([start, *(max(kept[symbol].start, earliest) for symbol in missing if symbol in kept)])
            fetched, reasons = self._fetch(missing, interval, since, until, progress, is_all=not found)
            self._save(fetched, interval)
            found |= fetched
        return {symbol: _between(found[symbol].bars, start, end) for symbol in symbols if symbol in found}, reasons

    def _fetch(
        self,
        symbols: Sequence[str],
        interval: str,
        since: datetime,
        until: datetime,
        progress: Progress,
        *,
        is_all: bool,
    ) -> tuple[dict[str, Kept], Mapping[str, str]]:
        try:
            answers, reasons = YahooPrices(interval, self.patience).bars(symbols, since, progress)
        except PriceSourceError as error:
            if is_all:
                raise
            return {}, dict.fromkeys(symbols, str(error))  # those that are kept can still be tested
        if is_all and not answers:
            named = "; ".join(f"{symbol}: {reason}" for symbol, reason in list(reasons.items())[:3])
            raise PriceSourceError(f"Yahoo has no prices of any symbol ({named}); correct UNIVERSE")
        return {
            symbol: Kept(bars=_between(bars.dropna(subset="close"), since, until), start=since, until=until)
            for symbol, bars in answers.items()
        }, reasons

    def _path(self, symbol: str, interval: str) -> Path:
        return self.folder / interval / f"{symbol}.npz"

    def _load(self, symbol: str, interval: str) -> Kept | None:
        path = self._path(symbol, interval)
        try:
            with np.load(path) as file:  # refuses pickled objects, and checks each part's checksum
                facts = json.loads(str(file["facts"]))
                index = pd.DatetimeIndex(file["time_us"].astype("datetime64[us]")).tz_localize("UTC")
                bars = pd.DataFrame(file["prices_usd"], index=index, columns=PRICES, dtype=float)
            if facts["is"] != _facts(symbol, interval):
                raise ValueError(f"it is not of {symbol} in bars of {interval}, or of another version")
            kept = Kept(bars=bars, **{name: datetime.fromisoformat(facts[name]) for name in ("start", "until")})
            if not (index.is_monotonic_increasing and index.is_unique):
                raise ValueError("its bars are not in order")
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            log.warning("%s cannot be used (%s); %s is fetched anew", path, error, symbol)
            return None
        return kept

    def _save(self, fetched: Mapping[str, Kept], interval: str) -> None:
        """Each file whole or not at all. A cache that cannot be written is no reason not to run."""
        try:
            for symbol, kept in fetched.items():
                span = {"start": kept.start.isoformat(), "until": kept.until.isoformat()}
                facts = json.dumps({"is": _facts(symbol, interval), **span})
                time_us = pd.DatetimeIndex(kept.bars.index).as_unit("us").asi8
                with replace_file(self._path(symbol, interval)) as part, part.open("wb") as file:
                    np.savez(file, facts=facts, time_us=time_us, prices_usd=kept.bars[[*PRICES]])
        except OSError as error:
            log.warning("Yahoo's bars cannot be kept in %s (%s); the next backtest asks again", self.folder, error)


def final_until(now: datetime) -> datetime:
    """The midnight after the last session that is over and settled: bars that begin before do not change any more."""
    day = now.astimezone(NEW_YORK).date()
    while (hours := sessions.session(day)) is None or hours[1] + SETTLING > now:
        day -= timedelta(days=1)
    return datetime.combine(day + timedelta(days=1), time(), NEW_YORK)


def _between(bars: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """The bars that begin at `start` or after, and before `end`."""
    index = pd.DatetimeIndex(bars.index, name=None).as_unit("us")
    first, after = (index.searchsorted(pd.Timestamp(time)) for time in (start, end))
    return bars.set_axis(index).iloc[first:after]


def _earliest(interval: str, now: datetime) -> datetime:
    """How far back Yahoo has bars of this length."""
    return now - timedelta(days=MAX_DAYS.get(interval, 100 * 365))


def _facts(symbol: str, interval: str) -> dict[str, object]:
    return {"version": VERSION, "symbol": symbol, "interval": interval}
