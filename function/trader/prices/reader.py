"""Closes by symbol from an ordered list of sources; each symbol gets clean bars or a reason code."""

from collections.abc import Sequence
from datetime import datetime

from trader.model import Closes, Code, Denial
from trader.prices.base import Bars, PriceSource, PriceSourceError
from trader.prices.series import UnusableError, clean_closes, last_bars
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
    ) -> None:
        """Set the limits: at most `count` bars of each symbol, none after `now`, the last at most `max_age_s` old."""
        self._sources = tuple(sources)
        self._now = now
        self._count = count
        self._max_age_s = max_age_s
        self._progress = progress
        self._had: dict[str, Closes] = {}
        self._why: dict[str, Denial] = {}

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
        """Return the clean closes of each symbol, or the reason why it has none."""
        wanted = tuple(dict.fromkeys(symbols))
        new = [symbol for symbol in wanted if symbol not in self._had and symbol not in self._why]
        for source in self._sources:
            missing = [symbol for symbol in new if symbol not in self._had]
            if missing:
                self._ask(source, missing)
        return Bars(
            closes={symbol: self._had[symbol] for symbol in wanted if symbol in self._had},
            denials=tuple(self._why[symbol] for symbol in wanted if symbol not in self._had),
        )

    def _ask(self, source: PriceSource, symbols: Sequence[str]) -> None:
        try:
            answer = source.closes(symbols, self._count, self._now, self._progress)
            fault = "returned no prices"
        except PriceSourceError as error:
            answer, fault = {}, str(error)
        for symbol in symbols:
            try:
                if symbol not in answer:
                    raise UnusableError(Code.NO_PRICE_DATA, fault)
                self._had[symbol] = last_bars(clean_closes(answer[symbol], self._now, self._max_age_s), self._count)
            except UnusableError as error:
                before = f"{self._why[symbol].detail}; " if symbol in self._why else ""
                detail = f"{before}{source.name}: {error}"
                self._why[symbol] = Denial(symbol=symbol, code=error.code, detail=detail)
