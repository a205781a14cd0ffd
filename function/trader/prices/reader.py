"""Closes by symbol from an ordered list of sources; each symbol gets clean bars or a reason code."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from trader.model import Closes, Code, Denial, Note
from trader.prices.base import Bars, Missing, PriceSource, PriceSourceError
from trader.prices.series import Series, UnusableError
from trader.progress import Progress, no_progress


class Prices:
    """Prices at one moment from an ordered list of sources; each source is asked only for the symbols still missing.

    A symbol is requested only once, so the broker's valuation and the pipeline share its closes.
    """

    def __init__(
        self,
        sources: Sequence[PriceSource],
        *,
        now: datetime,
        count: int,
        max_age_s: float,
        progress: Progress = no_progress,
        ohlcv_for: str = "",
    ) -> None:
        """Set the limits: at most `count` bars of each symbol, none after `now`, the last at most `max_age_s` old.

        `ohlcv_for` is what needs open, high, low and volume, such as SIGNAL=rules/mine.py: a symbol without them is
        denied, and the next source is asked for it. It is empty if closes are enough.
        """
        self._sources = tuple(sources)
        self._now = now
        self._count = count
        self._max_age_s = max_age_s
        self._progress = progress
        self._ohlcv_for = ohlcv_for
        self._series: dict[str, Series] = {}
        self._usable: dict[str, Closes] = {}
        self._denials: dict[str, Denial] = {}
        self._descriptions: dict[str, None] = {}  # in order, each once
        self._notes: dict[str, None] = {}

    def symbols(self) -> frozenset[str] | None:
        """Return the symbols that any source may have; None if only a request shows which.

        Raises PriceSourceError if there is only one source and it fails.
        """
        known: frozenset[str] = frozenset()
        for source in self._sources:
            try:
                symbols = source.symbols(self._now)
            except PriceSourceError:
                if len(self._sources) == 1:
                    raise
                symbols = None
            if symbols is None:
                return None
            known |= symbols
        return known

    def bars(self, symbols: Sequence[str]) -> Bars:
        """Return the closes on which decisions may rest, or the reason why a symbol has none."""
        wanted = self._learn(symbols)
        usable = [symbol for symbol in wanted if symbol in self._usable]
        rest = ((symbol, self._series[symbol].fitted_ohlv()) for symbol in usable if self._ohlcv_for)
        return Bars(
            closes={symbol: self._usable[symbol] for symbol in usable},
            ohlv={symbol: each for symbol, each in rest if each is not None},
            denials=tuple(self._denials[symbol] for symbol in wanted if symbol not in self._usable),
        )

    def series(self, symbols: Sequence[str]) -> Mapping[str, Series]:
        """Return the series of each symbol, usable for decisions or not, to value and fill what an account holds."""
        wanted = self._learn(symbols)
        return {symbol: self._series[symbol] for symbol in wanted if symbol in self._series}

    def describe(self) -> str:
        """Say what the prices are that were read so far."""
        return "; ".join(self._descriptions)

    def notes(self) -> tuple[Note, ...]:
        """Return what was noted on the prices that were read so far: on the sources first, then by symbol."""
        of_symbols = (
            Note(symbol=symbol, what=what)
            for symbol, series in self._series.items()
            for what in (*series.notes, *series.describe_wrong())
        )
        return (*(Note(symbol="", what=what) for what in self._notes), *of_symbols)

    def _learn(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Read the symbols that were not asked for before, and return all without repetitions."""
        wanted = tuple(dict.fromkeys(symbols))
        new = [symbol for symbol in wanted if symbol not in self._usable and symbol not in self._denials]
        for source in self._sources:
            missing = [symbol for symbol in new if symbol not in self._usable]
            if missing:
                self._ask(source, missing)
        return wanted

    def _ask(self, source: PriceSource, symbols: Sequence[str]) -> None:
        answer: Mapping[str, Series | Missing] = {}
        fault = "it does not have this symbol"
        try:
            answer = source.read(symbols, self._count, self._now, self._progress)
        except PriceSourceError as error:
            fault = str(error)
        else:
            self._descriptions[source.describe()] = None
            self._notes |= dict.fromkeys(source.notes())
        for symbol in symbols:
            try:
                self._usable[symbol] = self._check(symbol, answer.get(symbol, Missing(fault)))
            except UnusableError as error:
                before = f"{self._denials[symbol].detail}; " if symbol in self._denials else ""
                detail = f"{before}{source.name}: {error}"
                self._denials[symbol] = Denial(symbol=symbol, code=error.code, detail=detail)

    def _check(self, symbol: str, found: Series | Missing) -> Closes:
        """Keep a series, and return its closes for decisions. Raises UnusableError if there are none."""
        if isinstance(found, Missing):
            raise UnusableError(Code.NO_PRICE_DATA, found.reason)
        if len(found) or symbol not in self._series:
            self._series[symbol] = found
        closes = found.require_usable(self._now, self._max_age_s)
        if self._ohlcv_for and (lack := found.describe_lack()):
            detail = f"{lack}, but {self._ohlcv_for} needs open, high, low and volume"
            raise UnusableError(Code.NO_PRICE_DATA, detail)
        return closes
