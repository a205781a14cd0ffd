"""A handler written the usual way, like the original function: it imports everything it may need at the top."""

import alpaca_trade_api
import boto3
import pandas
import prophet
import yfinance

PACKAGES = (alpaca_trade_api, boto3, pandas, prophet, yfinance)


def handler(_event: object, _context: object) -> list[str]:
    """Return the names of the imported packages."""
    return [package.__name__ for package in PACKAGES]
