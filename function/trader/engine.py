"""The engines: who draws the trend lines, by the name that ENGINE has."""

from trader.forecast import Forecaster, ProphetForecaster
from trader.map_forecast import MapForecaster
from trader.settings import MAP, Settings


def forecaster(settings: Settings) -> Forecaster:
    """The Forecaster that the settings ask for."""
    engine: type[ProphetForecaster | MapForecaster] = MapForecaster if settings.engine == MAP else ProphetForecaster
    return engine(signal=settings.signal, bar_interval=settings.bar_interval, horizon_bars=settings.horizon_bars)
