"""Sean Kelley's rule of 2018: compare the ends of the forecast interval on the eighth day, with Prophet's defaults."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from trader.alpha.base import Facts, OnForecasts
from trader.alpha.interval import WORDS, compare_ends
from trader.forecasting.base import SEASONALITIES, ForecastSpec
from trader.model import Forecast, Insight

if TYPE_CHECKING:
    from trader.settings import Settings

AHEAD_DAYS = 8

EVERY_SESSIONS = 5
"""Kelley's `next()` returns unless the number of bars so far is a multiple of five: "only invest once a week"."""


@dataclass(frozen=True, slots=True)
class Horizon(OnForecasts):
    """The interval rule eight days ahead on every fifth trading day, with all seasonalities, one share at a time."""

    facts: ClassVar[Facts] = Facts(
        name="horizon",
        min_bars=90,
        has_growing_history=True,
        shares_per_order=1,
        words=WORDS,
        # The whole past and no bracket; by default the bot fits the last HISTORY_BARS, and protects what it buys.
        backtest_defaults={"HISTORY_BARS": "5000", "STOP_LOSS_FRACTION": "0", "TAKE_PROFIT_FRACTION": "0"},
    )
    forecast_spec: ForecastSpec
    dead_band_fraction: None = None

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """See AlphaModel."""
        spec = ForecastSpec(
            bar_interval=settings.bar_interval,
            min_bars=cls.facts.min_bars,
            seasonalities=SEASONALITIES,
            ahead_days=AHEAD_DAYS,
            every_sessions=EVERY_SESSIONS,
        )
        return cls(spec)

    def insight(self, forecast: Forecast) -> Insight:
        """See OnForecasts."""
        return compare_ends(forecast)
