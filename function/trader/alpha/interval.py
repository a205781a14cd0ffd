"""The interval rule: how far the forecast interval reaches above and below the price, HORIZON_BARS ahead."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from trader.alpha.base import Facts, OnForecasts, Words, is_visible
from trader.forecasting.base import ForecastSpec
from trader.model import NEW_YORK, Direction, Forecast, Insight

if TYPE_CHECKING:
    from trader.settings import Settings

WORDS = Words(gap="how far the farther end of the forecast interval is from the price")


@dataclass(frozen=True, slots=True)
class Interval(OnForecasts):
    """UP if the forecast interval reaches further above the price than below it, DOWN if further below."""

    facts: ClassVar[Facts] = Facts(name="interval", min_bars=30, words=WORDS)
    forecast_spec: ForecastSpec
    dead_band_fraction: None = None

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """See AlphaModel."""
        spec = ForecastSpec(
            bar_interval=settings.bar_interval, min_bars=cls.facts.min_bars, ahead_bars=settings.horizon_bars
        )
        return cls(spec)

    def insight(self, forecast: Forecast) -> Insight:
        """See OnForecasts."""
        return compare_ends(forecast)


def compare_ends(forecast: Forecast) -> Insight:
    """Compare the move to the interval's upper end with the move to its lower end.

    This is the rule of Sean Kelley's Backtrader strategy (2018), and of the function from which this project began. The
    farther end lies on the same side of the price as the middle of the interval. If the middle is the price, to the
    tick, the ends are equally far.
    """
    if forecast.lower_usd is None or forecast.upper_usd is None or forecast.horizon_time is None:
        raise ValueError(f"the forecast of {forecast.symbol} has no interval, which this signal needs")
    upper_move = forecast.upper_usd / forecast.price_usd - 1
    lower_move = forecast.lower_usd / forecast.price_usd - 1
    middle_usd = (forecast.lower_usd + forecast.upper_usd) / 2
    if not is_visible(middle_usd - forecast.price_usd, forecast.price_usd):
        direction, gap = Direction.FLAT, upper_move + lower_move
    elif middle_usd > forecast.price_usd:
        direction, gap = Direction.UP, upper_move
    else:
        direction, gap = Direction.DOWN, lower_move
    return Insight(
        symbol=forecast.symbol,
        direction=direction,
        price_usd=forecast.price_usd,
        gap_fraction=gap,
        reason=f"forecast for {forecast.horizon_time.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York: "
        f"{lower_move:+.1%} to {upper_move:+.1%} of the price",
    )
