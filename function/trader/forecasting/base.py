"""What a forecast is asked for, and what a forecaster is: closes become trend lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trader.deadline import Deadline
from trader.model import Closes, Denial, Forecast
from trader.progress import Progress, no_progress

SEASONALITIES = ("yearly", "weekly", "daily")
"""Those that Prophet knows by name, and that it uses by default where the history is long enough for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSpec:
    """The forecast that a rule reads: the model's seasonalities, and how far ahead of the last bar it looks, if at all.

    On business days the weekly terms can absorb any constant, and then the trend's level means nothing: so a rule that
    reads the trend line leaves them out.
    """

    bar_interval: str
    min_bars: int
    seasonalities: tuple[str, ...] = ("yearly",)  # each only where the history is long enough for it
    ahead_bars: int | None = None
    ahead_days: int | None = None  # calendar days, in New York

    @property
    def looks_ahead(self) -> bool:
        """Whether an interval for a later time is read, and not the trend line alone."""
        return self.ahead_bars is not None or self.ahead_days is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """Forecasts in the order asked for, and a denial for each symbol without one."""

    forecasts: tuple[Forecast, ...] = ()
    denials: tuple[Denial, ...] = field(default=())


class Forecaster(Protocol):
    """Draws the trend line of each symbol."""

    def forecast(self, closes: Mapping[str, Closes], deadline: Deadline, progress: Progress = no_progress) -> Forecasts:
        """Return a forecast or a denial for each symbol. What is not done by the deadline is OUT_OF_TIME."""
