"""Portfolio construction: insights become targets, sized for the available cash. Pure."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from trader.model import Account, Closes, Direction, Insight, OpenOrder, Position, Shares, Side, Sizing, Target
from trader.settings import Settings

PARTS_PER_SHARE = 10_000
"""Fractional quantities are rounded down to this part of a share."""

MIN_RETURNS = 5
"""The fewest returns that a volatility is measured on."""

MIN_VOLATILITY = 1e-9
"""The least volatility per bar; what is below is the rounding of a constant price."""


def targets(
    insights: Sequence[Insight],
    closes: Mapping[str, Closes],
    account: Account,
    positions: Mapping[str, Position],
    pending: Collection[str],
    settings: Settings,
    *,
    shares_per_order: int | None = None,
) -> tuple[Target, ...]:
    """Return a target for each sale, then for each buy; within each group the widest gap comes first.

    DOWN sells a held symbol. UP buys a symbol that is not held, with a part of the spendable cash that SIZING says.
    Symbols in `pending` have an open order, or are refused in any case: they get a target, so that the risk stage can
    refuse it by name, but no share of the cash. With `shares_per_order`, each order is for that many shares, whatever
    the cash.
    """
    held = {symbol: position.quantity for symbol, position in positions.items()}
    sells = [each for each in insights if each.direction is Direction.DOWN and held.get(each.symbol, 0) > 0]
    ups = [each for each in insights if each.direction is Direction.UP and not held.get(each.symbol, 0)]
    buys = _widest_first(ups)
    parts_usd = _divide(buys, closes, account, pending, settings)
    return tuple(
        [_sell(each, held[each.symbol], shares_per_order) for each in _widest_first(sells)]
        + [
            _buy(each, part_usd, account, settings, shares_per_order)
            for each, part_usd in zip(buys, parts_usd, strict=True)
        ]
    )


def _divide(
    buys: Sequence[Insight],
    closes: Mapping[str, Closes],
    account: Account,
    pending: Collection[str],
    settings: Settings,
) -> list[float]:
    """Return how much of the spendable cash each buy gets at most, by SIZING."""
    free_usd = account.spendable_usd(settings.cash_buffer_fraction)
    if settings.sizing is Sizing.WEIGHT:
        return _divide_by_weight(buys, free_usd, account, pending, settings)
    if settings.sizing is Sizing.EQUAL:
        return [free_usd / max(1, sum(each.symbol not in pending for each in buys))] * len(buys)
    bars = settings.universe_lookback_bars
    volatilities = [measure_volatility(closes[each.symbol], bars) if each.symbol in closes else None for each in buys]
    parts = [1 / volatility if volatility else 0.0 for volatility in volatilities]
    total = sum(part for part, each in zip(parts, buys, strict=True) if each.symbol not in pending)
    return [free_usd * part / total if total else 0.0 for part in parts]


def _divide_by_weight(
    buys: Sequence[Insight], free_usd: float, account: Account, pending: Collection[str], settings: Settings
) -> list[float]:
    """Give each buy its weight of the equity, the strongest first, as long as there is cash.

    What a buy leaves of its part, because it buys whole shares, is for those after it.
    """
    found = []
    for each in buys:
        wanted_usd = min((each.weight_fraction or 0.0) * account.equity_usd, max_buy_usd(account, settings))
        found.append(min(wanted_usd, free_usd))
        if each.symbol not in pending:
            free_usd -= _count_shares(found[-1], each.price_usd, settings) * each.price_usd
    return found


def measure_volatility(closes: Closes, bars: int) -> float | None:
    """Return the standard deviation of the log returns of the last bars, per bar; None if there are too few.

    It is None for a price that does not move, too: its inverse says nothing.
    """
    returns = np.diff(np.log(closes.to_numpy(float)[-bars - 1 :]))
    if len(returns) < MIN_RETURNS:
        return None
    volatility = float(np.std(returns, ddof=1))
    return volatility if math.isfinite(volatility) and volatility > MIN_VOLATILITY else None


def max_buy_usd(account: Account, settings: Settings) -> float:
    """Return the largest buy that the caps allow, whatever the cash."""
    return min(settings.max_position_fraction * account.equity_usd, settings.max_order_usd)


def subtract_reserved(account: Account, open_orders: Sequence[OpenOrder], prices_usd: Mapping[str, float]) -> Account:
    """Return the account without the cash that open buys will cost; the broker's figure may still include it.

    A buy of unknown price or quantity reserves all cash.
    """
    reserved_usd = sum(
        (order.quantity or math.inf) * prices_usd.get(order.symbol, math.inf)
        for order in open_orders
        if order.side is Side.BUY
    )
    return replace(account, cash_usd=account.cash_usd - reserved_usd)


def _widest_first(insights: Sequence[Insight]) -> Sequence[Insight]:
    return sorted(insights, key=lambda each: (-each.strength, each.symbol))


def _sell(insight: Insight, held: float, shares: int | None) -> Target:
    sold = held if shares is None else min(held, float(shares))
    return Target(
        symbol=insight.symbol,
        held=held,
        wanted=held - sold,
        price_usd=insight.price_usd,
        gap_fraction=insight.gap_fraction,
        reason=insight.reason,
    )


def _buy(insight: Insight, part_usd: float, account: Account, settings: Settings, shares: int | None) -> Target:
    max_usd = min(part_usd, max_buy_usd(account, settings))
    return Target(
        symbol=insight.symbol,
        held=0.0,
        wanted=_count_shares(max_usd, insight.price_usd, settings) if shares is None else float(shares),
        price_usd=insight.price_usd,
        gap_fraction=insight.gap_fraction,
        reason=insight.reason,
        weight_fraction=insight.weight_fraction if settings.sizing is Sizing.WEIGHT else None,
        stop_loss_fraction=insight.stop_loss_fraction,
        take_profit_fraction=insight.take_profit_fraction,
    )


def _count_shares(usd: float, price_usd: float, settings: Settings) -> float:
    """Return how many shares an amount buys at most."""
    if settings.stop_loss_fraction > 0 and settings.shares is Shares.WHOLE:  # brackets allow whole shares only
        return float(math.floor(usd / price_usd))
    return math.floor(usd / price_usd * PARTS_PER_SHARE) / PARTS_PER_SHARE
