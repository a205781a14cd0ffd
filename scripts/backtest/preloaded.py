"""A module that the workers' parent process imports once, so that no worker has to import Prophet itself."""

from trader.forecasting.prophet import quiet_prophet

quiet_prophet()
