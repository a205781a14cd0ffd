"""Prices from Yahoo through yfinance: one chart request for each symbol, many of them in parallel."""

import atexit
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from threading import Event, Lock
from typing import Protocol
from urllib.parse import quote

import pandas as pd
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from trader.deadline import Deadline
from trader.logs import MAX_REASON_CHARACTERS, one_line
from trader.prices.bars import make_series
from trader.prices.base import Missing, PriceSourceError, start_of
from trader.prices.chart import Chart, FaultError, NoBarsError, Result, find_result, read_chart
from trader.prices.series import Series
from trader.progress import Progress

MAX_DAYS = {"1h": 729, "15m": 59, "5m": 59, "1m": 7}
"""The number of days for which Yahoo keeps bars, by bar interval; it keeps daily bars forever."""

CHART_URL = "https://query2.finance.yahoo.com/v8/finance/chart"

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


class _Response(Protocol):
    status_code: int
    content: bytes


class _Client(Protocol):
    """What is used of yfinance's client."""

    def get(self, url: str, *, timeout: float) -> _Response: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class YahooBars:
    """All bars of a symbol: open, high, low and close, adjusted alike, and the volume if it is asked for.

    See Series for `splits` and `notes`.
    """

    bars: pd.DataFrame
    splits: Mapping[date, float]
    notes: tuple[str, ...]


class YahooPrices:
    """Closes from Yahoo, adjusted for splits and dividends, in bars of `interval`: 1d, 1h, 15m, 5m or 1m.

    They are in the unit of the last close, which is the price that Yahoo reports as paid. A call of `read` takes at
    most half of the time until `deadline`. With `ohlcv`, the series have open, high, low and volume too.
    """

    def __init__(
        self,
        interval: str,
        patience: Patience | None = None,
        *,
        deadline: Deadline | None = None,
        ohlcv: bool = False,
    ) -> None:
        self._interval = interval
        self._ohlcv = ohlcv
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
        charts, reasons = self._charts(symbols, _start(self._interval, count, now), now, progress)
        if reasons:
            LOG.warning("Yahoo returned no prices for %s", ", ".join(reasons), extra={"reasons": reasons})
        found: dict[str, Series | Missing] = {symbol: Missing(reason) for symbol, reason in reasons.items()}
        for symbol, chart in charts.items():
            found[symbol] = self._make_series(chart).until(now, count=count)
        return found

    def _make_series(self, chart: Chart) -> Series:
        splits, interval = chart.splits or None, self._interval
        if self._ohlcv:
            return make_series(chart.bars(), interval=interval, splits=splits, notes=chart.notes)
        return Series(chart.closes(), interval=interval, splits=splits, notes=chart.notes)

    def describe(self) -> str:
        """Say what these prices are, for a report."""
        return f"Yahoo's {self._interval} bars, adjusted for splits and dividends"

    def notes(self) -> tuple[str, ...]:
        """Return nothing: Yahoo's answers need no explanation."""
        return ()

    def bars(
        self, symbols: Sequence[str], start: datetime, end: datetime, progress: Progress
    ) -> tuple[Mapping[str, YahooBars], Mapping[str, str]]:
        """Return all bars of each symbol from `start` up to but excluding `end`, and the reason for each without bars.

        They are for backtests. Raises PriceSourceError as `read` does.
        """
        charts, reasons = self._charts(symbols, start, end - timedelta(microseconds=1), progress)
        return {
            symbol: YahooBars(bars=chart.bars(), splits=chart.splits, notes=chart.notes)
            for symbol, chart in charts.items()
        }, reasons

    def _charts(
        self, symbols: Sequence[str], start: datetime, until: datetime, progress: Progress
    ) -> tuple[dict[str, Chart], dict[str, str]]:
        """Return the chart of each symbol from `start` to `until`, and the reason for each symbol without one."""
        deadline_s = min(self._patience.deadline_s, self._deadline.remaining_s() / 2)
        if deadline_s <= 0:
            raise PriceSourceError(f"no time left to request the prices of {len(symbols)} symbols")
        # yfinance raises deprecation warnings, and pandas sometimes lifts every filter in all threads. Warnings that
        # still get through are recorded, not printed; the filters are restored at the end.
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            outcomes = self._outcomes(symbols, start, until, deadline_s, progress)
        charts = {symbol: outcome for symbol, outcome in outcomes.items() if isinstance(outcome, Chart)}
        failures = {symbol: outcome for symbol, outcome in outcomes.items() if isinstance(outcome, _Failure)}
        faults = [failure.reason for failure in failures.values() if failure.is_fault]
        if faults and not charts:
            raise PriceSourceError(
                f"no prices for any symbol ({faults[-1]}); try again later, or add a source to PRICE_SOURCES"
            )
        return charts, {symbol: failure.reason for symbol, failure in failures.items()}

    def _outcomes(
        self, symbols: Sequence[str], start: datetime, until: datetime, deadline_s: float, progress: Progress
    ) -> Mapping[str, Chart | _Failure]:
        stop, client = Event(), _client()
        pool = ThreadPoolExecutor(self._patience.workers, thread_name_prefix="yahoo")
        try:
            futures = {pool.submit(self._outcome, client, symbol, start, until, stop): symbol for symbol in symbols}
            return _collect(futures, deadline_s, progress)
        finally:
            stop.set()  # wakes the threads that wait for their next attempt
            pool.shutdown(wait=False, cancel_futures=True)

    def _outcome(self, client: _Client, symbol: str, start: datetime, until: datetime, stop: Event) -> Chart | _Failure:
        patience = self._patience
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, FaultError) and error.is_passing),
            stop=stop_after_attempt(patience.attempts) | stop_when_event_set(stop),
            wait=wait_exponential_jitter(
                multiplier=patience.backoff_s, max=8 * patience.backoff_s, jitter=patience.backoff_s
            ),
            sleep=sleep_using_event(stop),
            reraise=True,
        )
        try:
            answer = retrying(self._ask, client, symbol, start)
            return read_chart(answer, self._interval, until, reads_volume=self._ohlcv)
        except NoBarsError as error:
            return _Failure(str(error), is_fault=False)
        except FaultError as error:
            return _Failure(str(error), is_fault=True)

    def _ask(self, client: _Client, symbol: str, start: datetime) -> Result:
        """Request a symbol's chart as yfinance's own `Ticker.history` does, which does not tell a refusal's status."""
        from yfinance.exceptions import YFRateLimitError

        span = f"period1={int(start.timestamp())}&period2={int(time.time())}&interval={self._interval}"
        what = "includePrePost=false&events=div,splits,capitalGains"
        url = f"{CHART_URL}/{quote(symbol.replace('.', '-'), safe='')}?{span}&{what}"
        try:
            response = client.get(url, timeout=self._patience.timeout_s)
        except YFRateLimitError as error:
            raise FaultError("Yahoo answered 429 Too Many Requests") from error
        except Exception as error:  # the connection failed, or yfinance met a cookie page that it cannot read
            reason = f"{type(error).__name__}: {one_line(error, MAX_REASON_CHARACTERS)}"
            raise FaultError(f"no answer from Yahoo ({reason})") from error
        return find_result(response.status_code, response.content)


def _client() -> _Client:
    """Return yfinance's client, which has a session, a cookie and a crumb for all threads."""
    prepare_yfinance()
    from yfinance.data import YfData

    client: _Client = YfData()
    return client


_PREPARING = Lock()  # one thread may prepare while another one is already asked for prices


def prepare_yfinance() -> None:
    """Import yfinance, and make its files temporary. Another call costs nothing."""
    with _PREPARING:
        _prepare_once()


@cache
def _prepare_once() -> None:
    import yfinance  # takes half a second, so it is imported only when Yahoo's prices are needed

    folder = tempfile.mkdtemp(prefix="prophet-trader-yahoo-")  # private to this process: yfinance unpickles its files
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    yfinance.set_tz_cache_location(folder)  # despite the name, it also sets where cookies are kept
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # `read` logs failures itself, with more detail


def _start(interval: str, count: int, now: datetime) -> datetime:
    start = start_of(interval, count, now)
    return max(start, now - timedelta(days=MAX_DAYS[interval])) if interval in MAX_DAYS else start


def _collect(
    futures: Mapping[Future[Chart | _Failure], str], deadline_s: float, progress: Progress
) -> dict[str, Chart | _Failure]:
    late = _Failure(f"no answer from Yahoo within {deadline_s:g} s", is_fault=True)
    outcomes: dict[str, Chart | _Failure] = dict.fromkeys(futures.values(), late)
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
