"""Let a rule of one's own decide on prices that a test makes up."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from scripts.testkit.made_up import make_up
from trader.alpha import own
from trader.alpha.base import View
from trader.model import OHLV, Closes, Insight, Ohlv, Position

SLOT = datetime(2022, 12, 1, 20, 45, tzinfo=UTC)


def decide(
    signal: str,
    closes: Mapping[str, Sequence[float] | pd.DataFrame],
    *,
    held: Mapping[str, float] | None = None,
    slot: datetime = SLOT,
    **parameters: float,
) -> dict[str, Insight]:
    """Return what the rule of a file says of each symbol, with the checks that a run makes.

    `closes` are daily, in USD, oldest first, the last one the price at `slot`. `held` are quantities by symbol. As in a
    run, a symbol with fewer closes than the rule needs is not shown to it. For a rule with `ohlcv`, a table of open,
    high, low, close and volume stands for the closes; what closes alone lack is made up. Raises RuleError.
    """
    rule = own.load(signal, parameters, bar_interval="1d", horizon_bars=1)
    prices = {symbol: _read_closes(each, slot) for symbol, each in closes.items()}
    shown = {symbol: each for symbol, each in prices.items() if len(each) >= rule.facts.min_bars}
    view = View(
        slot=slot,
        closes=shown,
        ohlv={symbol: _read_rest(closes[symbol], each) for symbol, each in shown.items() if rule.facts.ohlcv},
        forecasts={},
        positions={
            symbol: Position(
                symbol=symbol,
                quantity=quantity,
                average_price_usd=float(prices[symbol].iloc[-1]),
                price_usd=float(prices[symbol].iloc[-1]),
            )
            for symbol, quantity in (held or {}).items()
        },
    )
    return {each.symbol: each for each in rule.insights(view)}


def _read_closes(given: Sequence[float] | pd.DataFrame, slot: datetime) -> Closes:
    usd = given["close"] if isinstance(given, pd.DataFrame) else given
    days = pd.bdate_range(end=pd.Timestamp(slot).normalize(), periods=len(usd))
    return pd.Series(list(map(float, usd)), index=days)


def _read_rest(given: Sequence[float] | pd.DataFrame, closes: Closes) -> Ohlv:
    return given[[*OHLV]].to_numpy(np.float64) if isinstance(given, pd.DataFrame) else make_up(closes)
