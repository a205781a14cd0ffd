"""The trend rule: buy below the trend line, sell above it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from trader.alpha.base import Facts, OnForecasts, is_visible
from trader.forecasting.base import ForecastSpec
from trader.model import Direction, Forecast, Insight

if TYPE_CHECKING:
    from trader.settings import Settings


@dataclass(frozen=True, slots=True)
class Trend(OnForecasts):
    """UP below the trend line, DOWN above it, FLAT within the dead band or at the line, to the tick."""

    facts: ClassVar[Facts] = Facts(name="trend", min_bars=30)
    forecast_spec: ForecastSpec
    dead_band_fraction: float

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """See AlphaModel."""
        spec = ForecastSpec(bar_interval=settings.bar_interval, min_bars=cls.facts.min_bars)
        return cls(spec, settings.signal_threshold_fraction)

    def insight(self, forecast: Forecast) -> Insight:
        """See OnForecasts."""
        gap = forecast.price_usd / forecast.trend_usd - 1
        band = self.dead_band_fraction
        if abs(gap) <= band or not is_visible(forecast.price_usd - forecast.trend_usd, forecast.price_usd):
            direction = Direction.FLAT
        else:
            direction = Direction.UP if gap < 0 else Direction.DOWN
        where = f"{abs(gap):.1%} {'below' if gap < 0 else 'above'} its trend line at {forecast.trend_usd:,.2f}"
        return Insight(
            symbol=forecast.symbol,
            direction=direction,
            price_usd=forecast.price_usd,
            gap_fraction=gap,
            reason=f"price {forecast.price_usd:,.2f} is {where}",
        )
