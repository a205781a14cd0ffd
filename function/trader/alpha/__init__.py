"""Alpha models: a forecast in, an insight out. One file for each rule."""
