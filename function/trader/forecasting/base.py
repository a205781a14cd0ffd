"""The interface of a forecaster, which fits trend lines to closes, and the specification of a forecast."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trader.deadline import Deadline
from trader.model import Closes, Denial, Forecast
from trader.progress import Progress, no_progress

SEASONALITIES = ("yearly", "weekly", "daily")
"""The seasonalities that Prophet names; by default it uses each one that the history is long enough for."""


ROUNDING = 1e-12
"""The range of closes, as a fraction of the largest, up to which only rounding makes them differ: a tick is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSpec:
    """The forecast that a rule reads: the model's seasonalities, and how far ahead of the last bar it looks, if at all.

    On business days the weekly terms can absorb any constant, and then the level of the trend is meaningless. So a rule
    that reads the trend line leaves them out.
    """

    bar_interval: str
    min_bars: int
    seasonalities: tuple[str, ...] = ("yearly",)  # each only if the history is long enough for it
    ahead_bars: int | None = None
    ahead_days: int | None = None  # calendar days, in New York
    every_sessions: int = 1  # a forecast is made only on every so many trading days, those that this number divides

    @property
    def looks_ahead(self) -> bool:
        """True if the rule reads an interval for a later time, not the trend line alone."""
        return self.ahead_bars is not None or self.ahead_days is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """Forecasts in the order requested, and a denial for each symbol without one."""

    forecasts: tuple[Forecast, ...] = ()
    denials: tuple[Denial, ...] = field(default=())


class Forecaster(Protocol):
    """An engine that fits the trend line of each symbol."""

    def forecast(self, closes: Mapping[str, Closes], deadline: Deadline, progress: Progress = no_progress) -> Forecasts:
        """Return a forecast or a denial for each symbol; a symbol that is not done by the deadline is OUT_OF_TIME."""
