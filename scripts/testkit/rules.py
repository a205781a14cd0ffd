"""Let a rule of one's own decide on prices that a test makes up."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pandas as pd

from trader.alpha import own
from trader.alpha.base import View
from trader.model import Insight, Position

SLOT = datetime(2022, 12, 1, 20, 45, tzinfo=UTC)


def decide(
    signal: str,
    closes: Mapping[str, Sequence[float]],
    *,
    held: Mapping[str, float] | None = None,
    slot: datetime = SLOT,
    **parameters: float,
) -> dict[str, Insight]:
    """Return what the rule of a file says of each symbol, with the checks that a run makes.

    `closes` are daily, in USD, oldest first, the last one the price at `slot`. `held` are quantities by symbol. As in a
    run, a symbol with fewer closes than the rule needs is not shown to it. Raises RuleError.
    """
    rule = own.load(signal, parameters, bar_interval="1d", horizon_bars=1)
    shown = {symbol: each for symbol, each in closes.items() if len(each) >= rule.facts.min_bars}
    last = pd.Timestamp(slot).normalize()
    view = View(
        slot=slot,
        closes={
            symbol: pd.Series(list(map(float, each)), index=pd.bdate_range(end=last, periods=len(each)))
            for symbol, each in shown.items()
        },
        forecasts={},
        positions={
            symbol: Position(
                symbol=symbol,
                quantity=quantity,
                average_price_usd=float(closes[symbol][-1]),
                price_usd=float(closes[symbol][-1]),
            )
            for symbol, quantity in (held or {}).items()
        },
    )
    return {each.symbol: each for each in rule.insights(view)}
