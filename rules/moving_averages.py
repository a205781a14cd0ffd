"""Buy while the fast average is above the slow one, sell while it is below.

The double crossover of Brock, Lakonishok and LeBaron, "Simple Technical Trading Rules and the Stochastic Properties of
Stock Returns", Journal of Finance 47 (1992); 50 and 200 days are the averages of the "golden cross".
"""

from collections.abc import Iterator

from trader.alpha.rule import Insight, Parameter, Rule, View


class MovingAverages(Rule):
    fast = Parameter(50, low=1, high=250, meaning="closes in the fast average")
    slow = Parameter(200, low=2, high=500, meaning="closes in the slow average")

    @property
    def bars(self) -> int:
        if self.fast >= self.slow:
            raise ValueError(f"RULE_FAST={self.fast} must be below RULE_SLOW={self.slow}; change one of them")
        return self.slow

    def decide(self, view: View) -> Iterator[Insight]:
        for symbol, closes in view.closes.items():
            gap = closes.iloc[-self.fast :].mean() / closes.iloc[-self.slow :].mean() - 1
            reason = f"the average of {self.fast} days is {gap:+.1%} from that of {self.slow} days"
            yield view.judge(symbol, gap, up=gap > 0, down=gap < 0, reason=reason)
