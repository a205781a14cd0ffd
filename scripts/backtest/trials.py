"""A backtest among all settings that were tried on the same data."""

import math
from collections.abc import Collection
from datetime import datetime

from scripts.backtest import ledger
from scripts.backtest.deflation import deflate
from scripts.backtest.model import Options
from scripts.backtest.uncertainty import Numbers, returns
from trader.model import NEW_YORK, Json


def count(figures: Json, options: Options) -> Json:
    """Record a backtest in the ledger, and return what the number of trials makes of its Sharpe ratio, JSON-safe.

    `probability` is that of a true Sharpe ratio above `sharpe_by_luck`, the best to expect among so many settings
    without skill; both are None without a Sharpe ratio, and the ratio is per bar if there are no yearly figures.
    Raises UnwritableError.
    """
    curve, cash_usd = figures["curve"], figures["options"]["cash_usd"]
    made = returns(curve["equity_usd"], cash_usd) - returns(curve["cash_usd"], cash_usd)
    sharpe = figures["key_figures"]["strategy"]["bar_sharpe_ratio"]
    start, end = (datetime.fromisoformat(figures["data"][name]) for name in ("first_bar", "last_bar"))
    tried = ledger.record(
        options.out,
        ledger.Trials(
            symbols=figures["data"]["symbols"],
            start=start.astimezone(NEW_YORK).date(),
            end=end.astimezone(NEW_YORK).date(),
            sharpe_by_setting={ledger.identify(options): sharpe},
        ),
    )
    return {"settings": len(tried), **judge(made, tried.values(), figures["data"]["bars_a_year"])}


def judge(made: Numbers, sharpes: Collection[float | None], bars_a_year: float | None) -> Json:
    """Return the luck to expect and the probability of more, from the bars' excess returns and all Sharpe ratios."""
    found = deflate(made, [each or 0.0 for each in sharpes])
    if found is None:
        return {"sharpe_by_luck": None, "probability": None}
    return {"sharpe_by_luck": found[0] * math.sqrt(bars_a_year or 1), "probability": found[1]}
