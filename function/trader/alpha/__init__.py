"""Alpha models, which turn forecasts into insights; one file for each rule."""
