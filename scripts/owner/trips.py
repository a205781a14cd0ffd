"""Round trips: what was bought and sold again, first in, first out, each with the reason of both. Pure."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from trader.audit.fills import Fill
from trader.model import Side

LEAST_QUANTITY = 1e-6
"""Less than this part of a share is the rounding of a sum of quantities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """Shares bought and sold again."""

    symbol: str
    quantity: float
    bought: Fill
    sold: Fill

    @property
    def gain_usd(self) -> float:
        """What it gained, without fees."""
        return self.quantity * (self.sold.price_usd - self.bought.price_usd)

    @property
    def gain_fraction(self) -> float:
        """The gain as a fraction of what was paid."""
        return self.sold.price_usd / self.bought.price_usd - 1


@dataclass(slots=True, kw_only=True)
class Trades:
    """All trips, the buys that are left, and the sales of shares whose buy is not among the fills."""

    trips: list[Trip] = field(default_factory=list)
    left: list[Fill] = field(default_factory=list)
    unmatched: list[Fill] = field(default_factory=list)


def match(fills: Sequence[Fill]) -> Trades:
    """Match sales with the oldest shares of their symbol. `fills` come oldest first."""
    trades = Trades()
    lots: defaultdict[str, deque[Fill]] = defaultdict(deque)
    for fill in fills:
        if fill.side is Side.BUY:
            lots[fill.symbol].append(fill)
            continue
        left = fill.quantity
        while left > LEAST_QUANTITY and lots[fill.symbol]:
            lot = lots[fill.symbol].popleft()
            quantity = min(left, lot.quantity)
            trades.trips.append(Trip(symbol=fill.symbol, quantity=quantity, bought=lot, sold=fill))
            left -= quantity
            if lot.quantity - quantity > LEAST_QUANTITY:
                lots[fill.symbol].appendleft(replace(lot, quantity=lot.quantity - quantity))
        if left > LEAST_QUANTITY:
            trades.unmatched.append(replace(fill, quantity=left))
    trades.left = [lot for queue in lots.values() for lot in queue]
    return trades
