"""Buy what fell too fast and sell what rose too fast, by the relative strength index.

The index and its bounds of 30 and 70 are of J. Welles Wilder, "New Concepts in Technical Trading Systems" (1978):
RSI = 100 - 100 / (1 + average gain / average loss). The first average is the mean of as many changes; each later one is
(before x (days - 1) + change) / days.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trader.alpha.rule import Closes, Insight, Parameter, Rule, View

SETTLED = 10
"""After so many times `days`, the close with which the averages begin has less than a thousandth of the weight."""


class RsiReversion(Rule):
    days = Parameter(14, low=2, high=50, meaning="changes in the averages")
    oversold = Parameter(30.0, low=1, high=40, meaning="the RSI below which it buys")
    overbought = Parameter(70.0, low=60, high=99, meaning="the RSI above which it sells")

    @property
    def bars(self) -> int:
        return SETTLED * self.days + 1

    def decide(self, view: View) -> Iterator[Insight]:
        for symbol, closes in view.closes.items():
            rsi = calculate_rsi(closes.iloc[-self.bars :], self.days)
            reason = f"the RSI of {self.days} days is {rsi:.1f}"
            beyond = max(self.oversold - rsi, 0) + min(self.overbought - rsi, 0)
            yield view.judge(symbol, beyond / 100, up=beyond > 0, down=beyond < 0, reason=reason)


def calculate_rsi(closes: Closes, days: int) -> float:
    """Return Wilder's RSI after the last close, from 0 to 100; 50 if no close differs from the one before."""
    changes = np.diff(closes.to_numpy(dtype=np.float64))
    gain, loss = (smooth(np.maximum(each, 0), days) for each in (changes, -changes))
    return 100 * gain / (gain + loss) if gain + loss > 0 else 50.0


def smooth(values: NDArray[np.float64], days: int) -> float:
    """Return Wilder's average: the mean of the first `days` values, moved by a part of `1 / days` toward each later."""
    average = float(values[:days].mean())
    for value in values[days:].tolist():
        average += (value - average) / days
    return average
