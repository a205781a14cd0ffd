"""Hold the best few by their return of the last year, and change them on the first trading day of a month.

Momentum across symbols, as Jegadeesh and Titman found it in stocks: "Returns to Buying Winners and Selling Losers",
Journal of Finance 48 (1993). The latest month is left out, because it tends to turn round.
"""

from collections.abc import Iterator

import pandas as pd

from trader.alpha.rule import Closes, Insight, Parameter, Rule, View

MONTH = 21
"""Bars in a month, about."""


class MomentumRotation(Rule):
    best = Parameter(3, low=1, high=50, meaning="symbols to hold")
    lookback = Parameter(231, low=20, high=750, meaning="bars of the return that ranks")
    skip = Parameter(MONTH, low=0, high=63, meaning="latest bars that are left out of it")

    @property
    def bars(self) -> int:
        return self.lookback + self.skip + 2

    def decide(self, view: View) -> Iterator[Insight]:
        today = pd.Timestamp(view.slot).normalize()
        past = {symbol: closes[closes.index < today] for symbol, closes in view.closes.items()}
        is_due = is_new_month(past, today)
        wait = "" if is_due else "; it is changed on the first trading day of a month"
        returns = {symbol: self.measure(closes) for symbol, closes in past.items() if len(closes) >= self.bars - 1}
        ranked = sorted(returns, key=lambda symbol: (-returns[symbol], symbol))
        for rank, symbol in enumerate(ranked, start=1):
            reason = f"{returns[symbol]:+.1%} in {self.lookback} days, rank {rank} of {len(ranked)}{wait}"
            a_month = (1 + returns[symbol]) ** (MONTH / self.lookback) - 1
            up, down = is_due and rank <= self.best, is_due and rank > self.best
            yield view.judge(symbol, a_month, up=up, down=down, reason=reason)

    def measure(self, closes: Closes) -> float:
        """Return the return over `lookback` bars that ended `skip` bars before the last one."""
        end = len(closes) - 1 - self.skip
        return float(closes.iloc[end] / closes.iloc[end - self.lookback] - 1)


def is_new_month(past: dict[str, Closes], today: pd.Timestamp) -> bool:
    """Tell whether the last day of all that had a price is of an earlier month than today, a day in UTC.

    So neither weekends nor holidays matter, nor a symbol without a price on the last day of the month.
    """
    days = [closes.index[-1] for closes in past.values() if len(closes)]
    return bool(days) and max(days).month != today.month
