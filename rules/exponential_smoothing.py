"""Buy if the forecast of exponential smoothing is above the price, sell if it is below.

Holt's linear trend, in his memorandum of 1957 ("Forecasting Seasonals and Trends by Exponentially Weighted Moving
Averages", International Journal of Forecasting 20, 2004): a level and a slope, each moved toward every new close by a
part that is fitted. It is computed by statsforecast, which the layer for AWS lacks.
"""

from collections.abc import Iterator

from trader.alpha.rule import Insight, Parameter, Rule, View

try:
    from statsforecast.models import AutoETS
except ModuleNotFoundError as error:
    raise ImportError(f"the package {error.name} is not installed; in a clone, make setup installs it") from None


class ExponentialSmoothing(Rule):
    days = Parameter(120, low=30, high=500, meaning="closes that are smoothed")
    ahead = Parameter(5, low=1, high=60, meaning="days ahead that are forecast")
    least = Parameter(0.01, low=0.0, high=0.2, meaning="the gain or loss from which it decides, as a fraction")

    @property
    def bars(self) -> int:
        return self.days

    def decide(self, view: View) -> Iterator[Insight]:
        for symbol, closes in view.closes.items():
            model = AutoETS(season_length=1, model="AAN", damped=False)
            forecast = model.forecast(closes.to_numpy(dtype=float)[-self.days :], h=self.ahead)
            gain = float(forecast["mean"][-1] / closes.iloc[-1] - 1)
            reason = f"{gain:+.1%} in {self.ahead} days, says exponential smoothing of {self.days} days"
            yield view.judge(symbol, gain, up=gain > self.least, down=gain < -self.least, reason=reason)
