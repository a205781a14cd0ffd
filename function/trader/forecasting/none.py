"""The forecaster of a rule that reads no forecast."""

from collections.abc import Mapping

from trader.deadline import Deadline
from trader.forecasting.base import Forecasts
from trader.model import Closes
from trader.progress import Progress, no_progress


class NoForecaster:
    """A Forecaster that fits nothing, and needs neither Prophet nor time."""

    def forecast(
        self,
        closes: Mapping[str, Closes],  # noqa: ARG002 there is nothing to fit
        deadline: Deadline,  # noqa: ARG002
        progress: Progress = no_progress,  # noqa: ARG002
    ) -> Forecasts:
        """Return no forecast and no denial."""
        return Forecasts()
