"""A trading bot: universe, forecast, alpha, portfolio, risk, execution; see pipeline.py for the order of things."""
