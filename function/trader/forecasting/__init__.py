"""Closes in, forecasts out: the engines that fit Prophet's model."""
