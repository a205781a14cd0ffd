"""Run a backtest."""

from collections.abc import Sequence

from scripts.command import JSON, Command, Option, every_setting

OPTIONS = (
    Option(
        name="START", meaning="the first day, such as 2021-01-04 (default: two years before the last)", metavar="DAY"
    ),
    Option(name="END", meaning="the last day (default: the last of the prices)", metavar="DAY"),
    Option(name="CASH", meaning="cash at the start, in USD (default: STARTING_CASH_USD)", metavar="NUMBER"),
    Option(name="COMMISSION", meaning="commission, as a fraction of an order's value (default: 0)", metavar="NUMBER"),
    Option(name="SLIPPAGE", meaning="slippage, as a fraction of the price (default: 0)", metavar="NUMBER"),
    Option(name="REFIT_EVERY", meaning="fit the trend lines at every so many bars (default: 1)", metavar="NUMBER"),
    Option(
        name="BENCHMARK",
        meaning="a symbol such as SPY, or a price file (default: the S&P 500 index with the sample, otherwise none)",
        metavar="SYMBOL|FILE",
    ),
    Option(
        name="CASH_RATE",
        meaning="what cash earns a year, such as 0.04, or a CSV file of days and rates in percent (default: 0)",
        metavar="RATE|FILE",
    ),
    Option(
        name="DECIDE_EVERY",
        meaning="decide within the day, at the end of bars of this length: 1h, 15m, 5m or 1m (default: once a day)",
        metavar="INTERVAL",
    ),
    Option(
        name="INTRADAY_FILE",
        meaning="a price file of bars of that length (default: Yahoo's, with PRICE_SOURCES=yahoo)",
        metavar="FILE",
    ),
    Option(name="OUT", meaning="the folder for results (default: out)", metavar="FOLDER"),
)
"""The options of every command that runs backtests."""

FIXED = {
    *("BROKER", "MODE", "HALT_PARAMETER"),  # it has its own broker
    *("JOURNAL", "ACCOUNT_FILE", "APCA_API_BASE_URL"),
}
"""Settings that have no meaning in a backtest."""


def backtest_settings() -> Sequence[str]:
    """Return the names of the settings that a backtest takes."""
    return [name for name in every_setting() if name not in FIXED]


COMMAND = Command(
    main="scripts.backtest.run:main",
    description="The code that runs in Lambda makes all decisions; Backtrader moves the clock and fills the orders. "
    "Shows the result as tables and as the page out/backtest.html.",
    options=(*OPTIONS, JSON),
    settings=backtest_settings,
)
