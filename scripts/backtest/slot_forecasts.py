"""The forecasts of a backtest at the bot's own rhythm: those of the rest of a session are made together.

The chosen symbols stay the same for a day, so at its first slot all that is needed of the next ones is known but for
their prices: each slot's forecast is made from the closes that are known at that slot, and from no later one.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import batched

import pandas as pd

from scripts.backtest.compute import Table, Task, compute
from scripts.backtest.forecasts import MAX_TOGETHER, collect, count_needed_bars, key
from scripts.backtest.model import Options
from scripts.backtest.panel_prices import SlotPrices
from scripts.backtest.rhythm import by_day_options, is_slot, slot_after
from trader.deadline import Deadline
from trader.forecasting.base import Forecasts
from trader.model import NEW_YORK, Closes, Denial, Engine, Forecast
from trader.prices.series import UnusableError, last_bars
from trader.progress import Progress, no_progress


@dataclass(frozen=True, slots=True)
class _Asked:
    """A forecast to be made: of a symbol, at the end of a bar, from these closes."""

    symbol: str
    bar: datetime
    closes: Closes


class SlotForecaster:
    """A Forecaster for slots within the sessions; its table has forecasts by symbol and bar."""

    def __init__(
        self,
        prices: SlotPrices,
        options: Options,
        times: Sequence[datetime],
        *,
        table: Mapping[tuple[str, datetime], Forecast | Denial] | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Prepare forecasts at the traded bars, which start at `times`; `table` has the forecasts already known."""
        self._prices = prices
        self._options = options
        self._key = key(by_day_options(options))
        self._table: Table = dict(table or {})
        self._executor = executor
        self._futures: dict[tuple[str, datetime], Future[Table]] = {}
        self._slots: dict[object, list[datetime]] = {}
        for time in times:
            if is_slot(time, options):
                self._slots.setdefault(time.astimezone(NEW_YORK).date(), []).append(time)

    def forecast(
        self,
        closes: Mapping[str, Closes],
        deadline: Deadline,  # noqa: ARG002 time does not run out in a backtest
        progress: Progress = no_progress,  # noqa: ARG002 progress is reported in bars
    ) -> Forecasts:
        """Return the forecasts for the present slot; see Forecaster."""
        present = self._prices.present
        unknown = [symbol for symbol in closes if not self._is_begun(symbol, present)]
        self._begin(unknown, closes)
        return collect([self._take(symbol, present) for symbol in closes], closes)

    def close(self) -> None:
        """Cancel computations that are no longer needed."""
        for future in self._futures.values():
            future.cancel()

    def _is_begun(self, symbol: str, bar: datetime) -> bool:
        return (symbol, bar) in self._table or (symbol, bar) in self._futures

    def _take(self, symbol: str, bar: datetime) -> Forecast | Denial:
        if future := self._futures.pop((symbol, bar), None):
            self._table |= future.result()
        return self._table.pop((symbol, bar))

    def _begin(self, symbols: Sequence[str], closes: Mapping[str, Closes]) -> None:
        """Begin the forecasts of symbols at the present slot and, in an executor, at those left of the session."""
        asked = list(self._ask(symbols, closes))
        size = len({each.bar for each in asked}) * (1 if self._key.engine is Engine.PROPHET else MAX_TOGETHER)
        for some in batched(asked, size or 1, strict=False):
            if self._executor is None:
                self._table |= compute_slots(self._task(some), some)
            else:
                future = self._executor.submit(compute_slots, self._task(some), some)
                self._futures |= {(each.symbol, each.bar): future for each in some}

    def _ask(self, symbols: Sequence[str], closes: Mapping[str, Closes]) -> Iterator[_Asked]:
        """Yield the forecasts to make, those of one symbol after the other."""
        present = self._prices.present
        later = [] if self._executor is None else self._slots[present.astimezone(NEW_YORK).date()]
        for symbol in symbols:
            yield _Asked(symbol, present, closes[symbol])
            for bar in later:
                if bar > present and (known := self._foresee(symbol, bar)) is not None:
                    yield _Asked(symbol, bar, known)

    def _foresee(self, symbol: str, bar: datetime) -> Closes | None:
        """Return the closes that a run at the end of a bar sees; None if it sees none that it may use."""
        settings = self._options.settings
        slot = slot_after(bar, self._options.bar_interval)
        series = self._prices.series_at(symbol, bar).until(slot, count=count_needed_bars(settings))
        try:
            return last_bars(series.require_usable(slot, settings.max_price_age_s), settings.history_bars)
        except UnusableError:
            return None

    def _task(self, asked: Sequence[_Asked]) -> Task:
        """Return the task in which each forecast has a column of its own, named by its place."""
        frame = pd.DataFrame({str(place): each.closes for place, each in enumerate(asked)}).sort_index()
        rows = {str(place): int(frame.index.searchsorted(each.closes.index[-1])) for place, each in enumerate(asked)}
        return Task(key=self._key, closes=frame, bars={name: ((row, row),) for name, row in rows.items()})


def compute_slots(task: Task, asked: Sequence[_Asked]) -> Table:
    """Compute the forecasts of a task, and give each its symbol and the bar at whose end it is made."""
    made = {name: outcome for (name, _), outcome in compute(task).items()}
    return {(each.symbol, each.bar): replace(made[str(place)], symbol=each.symbol) for place, each in enumerate(asked)}
