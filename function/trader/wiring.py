"""The engines: who draws the trend lines, by the name that ENGINE has."""

from trader.forecasting.base import Forecaster
from trader.forecasting.map.forecaster import MapForecaster
from trader.forecasting.prophet import ProphetForecaster
from trader.settings import MAP, Settings


def make_forecaster(settings: Settings) -> Forecaster:
    """The Forecaster that the settings ask for."""
    engine: type[ProphetForecaster | MapForecaster] = MapForecaster if settings.engine == MAP else ProphetForecaster
    return engine(signal=settings.signal, bar_interval=settings.bar_interval, horizon_bars=settings.horizon_bars)
