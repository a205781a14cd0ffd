"""The engines that fit Prophet's model to closes and make forecasts from it."""
