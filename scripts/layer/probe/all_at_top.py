"""A handler written the usual way, as the original function was: all it may need is imported at its top."""

import alpaca_trade_api
import boto3
import pandas
import prophet
import yfinance

PACKAGES = (alpaca_trade_api, boto3, pandas, prophet, yfinance)


def handler(_event: object, _context: object) -> list[str]:
    """The names of what was imported."""
    return [package.__name__ for package in PACKAGES]
