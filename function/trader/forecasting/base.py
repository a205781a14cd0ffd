"""What a forecaster is: closes become trend lines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trader.model import Closes, Denial, Forecast
from trader.progress import Progress, no_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """Forecasts in the order asked for, and a denial for each symbol without one."""

    forecasts: tuple[Forecast, ...] = ()
    denials: tuple[Denial, ...] = field(default=())


class Forecaster(Protocol):
    """Draws the trend line of each symbol."""

    def forecast(
        self, closes: Mapping[str, Closes], remaining_s: Callable[[], float], progress: Progress = no_progress
    ) -> Forecasts:
        """A forecast or a denial for each symbol. What is not done when `remaining_s()` reaches 0 is OUT_OF_TIME."""
