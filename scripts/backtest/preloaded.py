"""Imported once by the process that workers are forked from, so that none of them imports Prophet by itself."""

from trader.forecasting.prophet import quiet_prophet

quiet_prophet()
