"""A trading bot: universe, forecast, alpha, portfolio, risk, execution; pipeline.py runs these stages in order."""
