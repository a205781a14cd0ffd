"""What a forecaster is: closes become trend lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trader.deadline import Deadline
from trader.model import Closes, Denial, Forecast
from trader.progress import Progress, no_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """Forecasts in the order asked for, and a denial for each symbol without one."""

    forecasts: tuple[Forecast, ...] = ()
    denials: tuple[Denial, ...] = field(default=())


class Forecaster(Protocol):
    """Draws the trend line of each symbol."""

    def forecast(self, closes: Mapping[str, Closes], deadline: Deadline, progress: Progress = no_progress) -> Forecasts:
        """Return a forecast or a denial for each symbol. What is not done by the deadline is OUT_OF_TIME."""
