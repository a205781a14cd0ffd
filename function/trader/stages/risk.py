"""Risk limits: which targets may become orders. Pure; every refusal has a reason code and the values behind it.

The sizing in portfolio.py already respects the caps. This stage checks every cap again, independently of the sizing,
because it is the last stage before money moves.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trader.model import Account, Code, Denial, Position, Target
from trader.settings import Settings

MAX_GAP_FRACTION = 0.4
"""The largest gap between a price and its line; a larger one means a split without adjustment, or a bad price."""

MIN_ORDER_USD = 1.0
"""The smallest fractional order that Alpaca accepts."""


def limit(
    targets: Sequence[Target],
    account: Account,
    positions: Mapping[str, Position],
    pending: Collection[str],
    settings: Settings,
) -> tuple[tuple[Target, ...], tuple[Denial, ...]]:
    """Return the targets that may be traded, in the given order, and a denial for every other target."""
    limits = _Limits(account, positions, pending, settings)
    allowed: list[Target] = []
    denials: list[Denial] = []
    spent_usd = 0.0
    for target in targets:
        if refusal := next(limits.refuse(target, len(allowed), spent_usd), None):
            code, detail = refusal
            denials.append(Denial(symbol=target.symbol, code=code, detail=detail))
        else:
            allowed.append(target)
            spent_usd += max(0.0, target.change * target.price_usd)
    return tuple(allowed), tuple(denials)


@dataclass(frozen=True, slots=True)
class _Limits:
    """The account, positions and settings that limit every target of a run."""

    account: Account
    positions: Mapping[str, Position]
    pending: Collection[str]
    settings: Settings

    def refuse(self, target: Target, orders: int, spent_usd: float) -> Iterator[tuple[Code, str]]:
        """Yield every reason against a target, the most informative first.

        `orders` is the number and `spent_usd` the cost of the orders allowed before it.
        """
        settings = self.settings
        if target.symbol in self.pending:
            yield Code.OPEN_ORDER_PENDING, "an earlier order for this symbol is still open"
        if orders >= settings.max_orders_per_run:
            yield Code.ORDER_CAP, f"{orders} orders already; MAX_ORDERS_PER_RUN={settings.max_orders_per_run}"
        if abs(target.gap_fraction) > MAX_GAP_FRACTION:
            wrong = f"more than {MAX_GAP_FRACTION:.0%} means a split without adjustment, or a bad price"
            yield Code.NO_PRICE_DATA, f"price {target.price_usd:,.2f} has a gap of {target.gap_fraction:+.0%}; {wrong}"
        if target.wanted < 0:
            yield Code.POSITION_CAP, f"would leave {target.wanted:g} shares; the bot never goes short"
        if target.change > 0:
            yield from self._refuse_buy(target, spent_usd)
        elif target.held <= 0 and not target.change:
            free = f"of {self._spendable_usd:,.2f} USD (without buffer and open buys)"
            yield Code.QUANTITY_BELOW_ONE, f"its part {free} is too small for one share at {target.price_usd:,.2f} USD"

    def _refuse_buy(self, target: Target, spent_usd: float) -> Iterator[tuple[Code, str]]:
        account, settings = self.account, self.settings
        cost_usd = target.change * target.price_usd
        loss_fraction = 1 - account.equity_usd / account.last_equity_usd if account.last_equity_usd > 0 else 1.0
        if loss_fraction >= settings.max_daily_loss_fraction:
            fall = f"equity is {account.equity_usd:,.2f} USD after {account.last_equity_usd:,.2f} USD at the last close"
            yield Code.DAILY_LOSS_STOP, f"{fall}; MAX_DAILY_LOSS_FRACTION={settings.max_daily_loss_fraction:g}"
        if target.symbol in self.positions:
            held = self.positions[target.symbol].quantity
            yield Code.POSITION_CAP, f"{held:g} shares are held; the bot never adds to them"
        if cost_usd < MIN_ORDER_USD and target.change < 1:
            yield Code.QUANTITY_BELOW_ONE, f"{target.change:g} shares are worth less than {MIN_ORDER_USD:.0f} USD"
        if cost_usd > settings.max_order_usd:
            yield Code.ORDER_CAP, f"costs {cost_usd:,.2f} USD; MAX_ORDER_USD={settings.max_order_usd:,.0f}"
        if cost_usd > (max_usd := settings.max_position_fraction * account.equity_usd):
            yield Code.POSITION_CAP, f"costs {cost_usd:,.2f} USD; MAX_POSITION_FRACTION allows {max_usd:,.2f}"
        if spent_usd + cost_usd > (left_usd := self._spendable_usd):
            yield (
                Code.BUYING_POWER_EXCEEDED,
                f"costs {cost_usd:,.2f} USD; earlier orders use {spent_usd:,.2f} of {left_usd:,.2f} that may be spent",
            )

    @property
    def _spendable_usd(self) -> float:
        return self.account.spendable_usd(self.settings.cash_buffer_fraction)
