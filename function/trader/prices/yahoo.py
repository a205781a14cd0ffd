"""Prices from Yahoo through yfinance: one chart request for each symbol, many of them in parallel."""

import atexit
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from threading import Event
from types import ModuleType

import pandas as pd
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from trader.deadline import Deadline
from trader.logs import MAX_REASON_CHARACTERS, one_line
from trader.model import NEW_YORK, Closes
from trader.prices.base import Missing, PriceSourceError, start_of
from trader.prices.series import Series
from trader.progress import Progress

MAX_DAYS = {"1h": 729, "15m": 59, "5m": 59, "1m": 7}
"""The number of days for which Yahoo keeps bars, by bar interval; it keeps daily bars forever."""

GIVE_UP_AFTER = 16
"""The number of faults without a single answer after which Yahoo counts as unreachable."""

DEADLINE_S = 90.0
"""The maximum time for all symbols together; five hundred symbols take seven seconds."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The limits of a call: threads, attempts for each symbol, first pause, time for a request, time in all.

    The pauses between attempts double, up to eight times the first, plus a random time up to the length of the first.
    """

    workers: int = 16
    attempts: int = 4
    backoff_s: float = 1.0
    timeout_s: float = 10.0
    deadline_s: float = DEADLINE_S


@dataclass(frozen=True, slots=True)
class _Failure:
    """The reason why a symbol has no prices: a fault of Yahoo or the network, or Yahoo does not have them."""

    reason: str
    is_fault: bool


class YahooPrices:
    """Closes from Yahoo, adjusted for splits and dividends, in bars of `interval`: 1d, 1h, 15m, 5m or 1m.

    A call of `read` takes at most half of the time until `deadline`.
    """

    def __init__(self, interval: str, patience: Patience | None = None, *, deadline: Deadline | None = None) -> None:
        self._interval = interval
        self._patience = patience or Patience()
        self._deadline = deadline or Deadline.never()

    @property
    def name(self) -> str:
        """The name of this source in the setting PRICE_SOURCES."""
        return "yahoo"

    def symbols(self, now: datetime) -> None:
        """Return None: only a request shows which symbols Yahoo has."""

    def read(
        self, symbols: Sequence[str], count: int, now: datetime, progress: Progress
    ) -> Mapping[str, Series | Missing]:
        """Return up to `count` bars of each symbol, the last of which starts at or before `now`, or why there are none.

        Symbols without prices are also logged with the reason. Raises PriceSourceError if no symbol has prices because
        of a fault of Yahoo or the network, or if no time is left for requests.
        """
        answers, failures = self._answers(symbols, _start(self._interval, count, now), _read_adjusted_closes, progress)
        if failures:
            LOG.warning("Yahoo returned no prices for %s", ", ".join(failures), extra={"reasons": failures})
        found: dict[str, Series | Missing] = {symbol: Missing(reason) for symbol, reason in failures.items()}
        for symbol, closes in answers.items():
            found[symbol] = Series(closes, interval=self._interval).until(now, count=count)
        return found

    def describe(self) -> str:
        """Say what these prices are, for a report."""
        return f"Yahoo's {self._interval} bars, adjusted for splits and dividends"

    def notes(self) -> tuple[str, ...]:
        """Return nothing: Yahoo's answers need no explanation."""
        return ()

    def bars(
        self, symbols: Sequence[str], start: datetime, progress: Progress
    ) -> tuple[Mapping[str, pd.DataFrame], Mapping[str, str]]:
        """Return all bars of each symbol since `start`, for backtests, and the reason for each symbol without bars.

        The columns are open, high, low and close, all adjusted for splits and dividends. The last bar may still be
        running. Raises PriceSourceError as `read` does.
        """
        return self._answers(symbols, start, _read_adjusted_bars, progress)

    def _answers[T](
        self, symbols: Sequence[str], start: datetime, read: Callable[[pd.DataFrame], T], progress: Progress
    ) -> tuple[dict[str, T], dict[str, str]]:
        """Return the result of `read` on each symbol's bars, and the reason for each symbol without bars."""
        deadline_s = min(self._patience.deadline_s, self._deadline.remaining_s() / 2)
        if deadline_s <= 0:
            raise PriceSourceError(f"no time left to request the prices of {len(symbols)} symbols")
        # yfinance and pandas raise thousands of deprecation warnings, and pandas sometimes lifts every filter in all
        # threads. Warnings that still get through are recorded, not printed; the filters are restored at the end.
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            outcomes = self._outcomes(symbols, start, read, deadline_s, progress)
        answers = {symbol: outcome for symbol, outcome in outcomes.items() if not isinstance(outcome, _Failure)}
        failures = {symbol: outcome for symbol, outcome in outcomes.items() if isinstance(outcome, _Failure)}
        faults = [failure.reason for failure in failures.values() if failure.is_fault]
        if faults and not answers:
            raise PriceSourceError(
                f"no prices for any symbol ({faults[-1]}); try again later, or add a source to PRICE_SOURCES"
            )
        return answers, {symbol: failure.reason for symbol, failure in failures.items()}

    def _outcomes[T](
        self,
        symbols: Sequence[str],
        start: datetime,
        read: Callable[[pd.DataFrame], T],
        deadline_s: float,
        progress: Progress,
    ) -> Mapping[str, T | _Failure]:
        stop, yfinance = Event(), _yfinance()
        pool = ThreadPoolExecutor(self._patience.workers, thread_name_prefix="yahoo")
        try:
            futures = {pool.submit(self._outcome, yfinance, symbol, start, read, stop): symbol for symbol in symbols}
            return _collect(futures, deadline_s, progress)
        finally:
            stop.set()  # wakes the threads that wait for their next attempt
            pool.shutdown(wait=False, cancel_futures=True)

    def _outcome[T](
        self, yfinance: ModuleType, symbol: str, start: datetime, read: Callable[[pd.DataFrame], T], stop: Event
    ) -> T | _Failure:
        from yfinance.exceptions import YFDataException, YFRateLimitError, YFTickerMissingError

        patience = self._patience
        # OSError: no connection. ValueError: not JSON, such as the HTML page of a server error.
        passing = (YFRateLimitError, YFDataException, OSError, ValueError)
        retrying = Retrying(
            retry=retry_if_exception_type(passing),
            stop=stop_after_attempt(patience.attempts) | stop_when_event_set(stop),
            wait=wait_exponential_jitter(
                multiplier=patience.backoff_s, max=8 * patience.backoff_s, jitter=patience.backoff_s
            ),
            sleep=sleep_using_event(stop),
            reraise=True,
        )
        try:
            return retrying(lambda: read(self._ask(yfinance, symbol, start)))
        except YFTickerMissingError as error:
            return _Failure(one_line(error, MAX_REASON_CHARACTERS), is_fault=False)
        except Exception as error:  # an unexpected answer can make yfinance raise anything; only this symbol fails
            return _Failure(f"{type(error).__name__}: {one_line(error, MAX_REASON_CHARACTERS)}", is_fault=True)

    def _ask(self, yfinance: ModuleType, symbol: str, start: datetime) -> pd.DataFrame:
        ticker = yfinance.Ticker(symbol.replace(".", "-"))
        # Otherwise yfinance requests the zone from Yahoo or reads a database that the threads would share. All US
        # stocks trade in this zone.
        ticker._tz = NEW_YORK.key
        bars: pd.DataFrame = ticker.history(
            period=None,
            interval=self._interval,
            start=start,
            end=None,  # for an end in the past yfinance answers from its cache, which also holds failures
            prepost=False,
            actions=False,
            auto_adjust=False,  # True also scales open, high and low, which would take a sixth of the time
            back_adjust=False,
            repair=False,
            keepna=False,
            rounding=False,
            timeout=self._patience.timeout_s,
        )
        return bars


def _read_adjusted_closes(bars: pd.DataFrame) -> Closes:
    return bars["Adj Close"].astype(float).tz_convert(UTC)


def _read_adjusted_bars(bars: pd.DataFrame) -> pd.DataFrame:
    factor = bars["Adj Close"] / bars["Close"]
    scaled = {name.lower(): bars[name] * factor for name in ("Open", "High", "Low")}
    return pd.DataFrame({**scaled, "close": bars["Adj Close"]}).astype(float).tz_convert(UTC)


@cache
def _yfinance() -> ModuleType:
    """Import yfinance, configured for a server: it raises errors instead of logging, and its files are temporary."""
    import yfinance  # takes half a second, so it is imported only when Yahoo's prices are needed

    folder = tempfile.mkdtemp(prefix="prophet-trader-yahoo-")  # private to this process: yfinance unpickles its files
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)  # despite the name, it also sets where cookies are kept
    yfinance.config.debug.hide_exceptions = False
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # `read` logs failures itself, with more detail
    package: ModuleType = yfinance
    return package


def _start(interval: str, count: int, now: datetime) -> datetime:
    start = start_of(interval, count, now)
    return max(start, now - timedelta(days=MAX_DAYS[interval])) if interval in MAX_DAYS else start


def _collect[T](
    futures: Mapping[Future[T | _Failure], str], deadline_s: float, progress: Progress
) -> dict[str, T | _Failure]:
    late = _Failure(f"no answer within {deadline_s:g} s", is_fault=True)
    outcomes: dict[str, T | _Failure] = dict.fromkeys(futures.values(), late)
    is_reached = False
    try:
        for done, future in enumerate(as_completed(futures, timeout=deadline_s), start=1):
            outcome = outcomes[futures[future]] = future.result()
            progress("prices from Yahoo", done, len(futures))
            is_reached = is_reached or not (isinstance(outcome, _Failure) and outcome.is_fault)
            if done >= GIVE_UP_AFTER and not is_reached:
                return dict.fromkeys(futures.values(), outcome)
    except TimeoutError:
        LOG.warning("Yahoo took longer than %g s", deadline_s)
    return outcomes
