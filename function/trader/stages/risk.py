"""Risk limits: which targets may become orders. Pure; every refusal has a reason code and the values behind it.

The sizing in portfolio.py already respects the caps. This stage checks every cap again, independently of the sizing,
because it is the last stage before money moves.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from trader.model import Account, Code, Denial, Position, Sizing, Target
from trader.settings import Settings

MAX_GAP_FRACTION = 0.4
"""The largest gap between a price and its line; a larger one means a split without adjustment, or a bad price."""

ROUNDING = 1e-9
"""The share of a limit that rounding in binary may add to a sum."""

MIN_ORDER_USD = 1.0
"""The smallest fractional order that Alpaca accepts."""


def limit(
    targets: Sequence[Target],
    account: Account,
    positions: Mapping[str, Position],
    pending: Collection[str],
    settings: Settings,
    *,
    bars_since_stop: Mapping[str, int] = MappingProxyType({}),
    peak_equity_usd: float | None = None,
    peak_problem: str = "",
    has_gap: bool = True,
) -> tuple[tuple[Target, ...], tuple[Denial, ...]]:
    """Return the targets that may be traded, in the given order, and a denial for every other target.

    `bars_since_stop` is the number of bars that have begun since a stop of the symbol was filled. `peak_equity_usd` is
    the highest equity on record, None if it is not known; `peak_problem` says why it is not. Without `has_gap`, the
    gaps of the targets are no distances from a line.
    """
    limits = _Limits(account, positions, pending, settings, bars_since_stop, peak_equity_usd, peak_problem, has_gap)
    allowed: list[Target] = []
    denials: list[Denial] = []
    spent_usd = 0.0
    for target in targets:
        if refusal := next(limits.refuse(target, len(allowed), spent_usd), None):
            code, detail = refusal
            denials.append(Denial(symbol=target.symbol, code=code, detail=detail))
        else:
            denials += limits.list_cuts(target, spent_usd)
            allowed.append(target)
            spent_usd += max(0.0, target.change * target.price_usd)
    return tuple(allowed), tuple(denials)


def _cut(target: Target, code: Code, detail: str) -> Denial:
    """Return a denial of a part: the order goes ahead."""
    return Denial(symbol=target.symbol, code=code, detail=detail, is_partial=True)


@dataclass(frozen=True, slots=True)
class _Limits:
    """The account, positions and settings that limit every target of a run."""

    account: Account
    positions: Mapping[str, Position]
    pending: Collection[str]
    settings: Settings
    bars_since_stop: Mapping[str, int]
    peak_equity_usd: float | None
    peak_problem: str
    has_gap: bool

    def refuse(self, target: Target, orders: int, spent_usd: float) -> Iterator[tuple[Code, str]]:
        """Yield every reason against a target, the most informative first.

        `orders` is the number and `spent_usd` the cost of the orders allowed before it.
        """
        settings = self.settings
        if target.symbol in self.pending:
            yield Code.OPEN_ORDER_PENDING, "an earlier order for this symbol is still open"
        if orders >= settings.max_orders_per_run:
            yield Code.ORDER_CAP, f"{orders} orders already; MAX_ORDERS_PER_RUN={settings.max_orders_per_run}"
        if self.has_gap and abs(target.gap_fraction) > MAX_GAP_FRACTION:
            wrong = f"more than {MAX_GAP_FRACTION:.0%} means a split without adjustment, or a bad price"
            yield Code.NO_PRICE_DATA, f"price {target.price_usd:,.2f} has a gap of {target.gap_fraction:+.0%}; {wrong}"
        if target.wanted < 0:
            yield Code.POSITION_CAP, f"would leave {target.wanted:g} shares; the bot never goes short"
        if target.change > 0:
            yield from self._refuse_buy(target, spent_usd)
        elif target.held <= 0 and not target.change:
            yield self._refuse_nothing(target, spent_usd)

    def _refuse_nothing(self, target: Target, spent_usd: float) -> tuple[Code, str]:
        """Return why a target is for no share at all."""
        if self.settings.sizing is not Sizing.WEIGHT:
            return Code.QUANTITY_BELOW_ONE, self._describe_small_part(target)
        if target.weight_fraction is None:
            return Code.QUANTITY_BELOW_ONE, "the rule gives it no weight_fraction, which SIZING=weight needs"
        asked, (name, code, limit_usd) = self._find_tightest(target.weight_fraction, spent_usd)
        wanted_usd = target.weight_fraction * self.account.equity_usd
        too_small = f"too small for one share at {target.price_usd:,.2f} USD"
        if wanted_usd <= limit_usd * (1 + ROUNDING):
            return Code.QUANTITY_BELOW_ONE, f"{asked}, which is {too_small}"
        code = code if code is Code.BUYING_POWER_EXCEEDED else Code.QUANTITY_BELOW_ONE
        return code, f"{asked}; {name} allows {max(0.0, limit_usd):,.2f}, which is {too_small}"

    def _describe_small_part(self, target: Target) -> str:
        """Say that a buy's part of the cash buys nothing."""
        sizing = self.settings.sizing
        free = f"of {self._spendable_usd:,.2f} USD (without buffer and open buys)"
        found = f"its part {free} is too small for one share at {target.price_usd:,.2f} USD"
        return f"{found}, or its volatility is not known" if sizing is Sizing.INVERSE_VOLATILITY else found

    def list_cuts(self, target: Target, spent_usd: float) -> Iterator[Denial]:
        """Yield what an allowed target does not get of what its insight asks for; earlier buys cost `spent_usd`."""
        settings = self.settings
        furthest = settings.stop_loss_fraction
        if target.stop_loss_fraction is not None and target.stop_loss_fraction > furthest:
            asked = f"asks for a stop {target.stop_loss_fraction:.2%} below the price"
            gets = f"STOP_LOSS_FRACTION allows {furthest:.2%}" if furthest else "STOP_LOSS_FRACTION=0 allows none"
            yield _cut(target, Code.ORDER_CAP, f"{asked}; {gets}")
        if target.weight_fraction is None:
            return
        asked, (name, code, limit_usd) = self._find_tightest(target.weight_fraction, spent_usd)
        if target.weight_fraction * self.account.equity_usd > limit_usd * (1 + ROUNDING):
            yield _cut(target, code, f"{asked}; {name} allows {limit_usd:,.2f}, so less is bought")

    def _find_tightest(self, weight_fraction: float, spent_usd: float) -> tuple[str, tuple[str, Code, float]]:
        """Return what a weight asks for in words, and the tightest limit: its name, its code and its amount in USD."""
        equity_usd, settings = self.account.equity_usd, self.settings
        limits = [
            ("MAX_ORDER_USD", Code.ORDER_CAP, settings.max_order_usd),
            ("MAX_POSITION_FRACTION", Code.POSITION_CAP, settings.max_position_fraction * equity_usd),
            ("the cash left", Code.BUYING_POWER_EXCEEDED, self._spendable_usd - spent_usd),
        ]
        asked = f"asks for {weight_fraction:.2%} of the equity, {weight_fraction * equity_usd:,.2f} USD"
        return asked, min(limits, key=lambda each: each[2])

    def _refuse_buy(self, target: Target, spent_usd: float) -> Iterator[tuple[Code, str]]:
        account, settings = self.account, self.settings
        cost_usd = target.change * target.price_usd
        yield from self._refuse_loss(cost_usd, spent_usd)
        bars = self.bars_since_stop.get(target.symbol)
        if bars is not None and bars < settings.pause_after_stop_bars:
            since = f"{bars} new bar{'' if bars == 1 else 's'} since its stop loss was filled"
            yield Code.PAUSED, f"{since}; PAUSE_AFTER_STOP_BARS={settings.pause_after_stop_bars}"
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

    def _refuse_loss(self, cost_usd: float, spent_usd: float) -> Iterator[tuple[Code, str]]:
        """Yield what the losses so far say against a buy, also together with what the new buys could still lose.

        Deposits and withdrawals are neither gain nor loss. What was lost is measured against the money without the
        deposits, because they may have come after the loss; what could still be lost, against all of it.
        """
        account, settings = self.account, self.settings
        if account.flows_usd is None:
            unknown = "deposits and withdrawals since the last close are not known, so neither is the loss"
            yield Code.EQUITY_UNKNOWN, f"{unknown}; nothing is bought until the broker answers: the log has its words"
            return  # a drawdown is not known without them either
        base_usd = account.last_equity_usd + account.flows_usd
        loss_usd, max_usd = base_usd - account.equity_usd, settings.max_daily_loss_fraction * base_usd
        max_lost_usd = min(max_usd, settings.max_daily_loss_fraction * account.last_equity_usd)
        is_lost = loss_usd >= max_lost_usd and (loss_usd > 0 or not account.flows_usd)
        at_risk_usd = (spent_usd + cost_usd) * settings.stop_loss_fraction
        if base_usd <= 0 or is_lost or loss_usd + at_risk_usd > max_usd * (1 + ROUNDING):
            fall = f"equity is {account.equity_usd:,.2f} USD after {account.last_equity_usd:,.2f} USD at the last close"
            moved = f" and {account.flows_usd:+,.2f} USD moved since" if account.flows_usd else ""
            stops = f"; the stops of the new buys could lose {at_risk_usd:,.2f} USD more" if at_risk_usd else ""
            allowed_usd = max_lost_usd if is_lost else max_usd
            limit = f"MAX_DAILY_LOSS_FRACTION={settings.max_daily_loss_fraction:g} allows {allowed_usd:,.2f}"
            yield Code.DAILY_LOSS_STOP, f"{fall}{moved}{stops}; {limit}"
        if not settings.max_drawdown_fraction:
            return
        limit = f"MAX_DRAWDOWN_FRACTION={settings.max_drawdown_fraction:g}"
        if self.peak_equity_usd is None:
            problem = self.peak_problem or "it is not on record"
            yield Code.EQUITY_UNKNOWN, f"the highest equity is not known, which {limit} needs: {problem}"
        elif self.peak_equity_usd:
            lowest_usd = self.peak_equity_usd * (1 - settings.max_drawdown_fraction)
            if account.equity_usd <= lowest_usd * (1 + ROUNDING):
                fall = f"equity is {account.equity_usd:,.2f} USD, its highest on record {self.peak_equity_usd:,.2f}"
                yield Code.DRAWDOWN_STOP, f"{fall}; {limit}"

    @property
    def _spendable_usd(self) -> float:
        return self.account.spendable_usd(self.settings.cash_buffer_fraction)
