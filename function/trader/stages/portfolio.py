"""Portfolio construction: insights become targets, sized for the available cash. Pure."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from trader.model import Account, Direction, Insight, OpenOrder, Position, Side, Target
from trader.settings import Settings

PARTS_PER_SHARE = 10_000
"""Fractional quantities are rounded down to this part of a share."""


def targets(
    insights: Sequence[Insight],
    account: Account,
    positions: Mapping[str, Position],
    pending: Collection[str],
    settings: Settings,
    *,
    shares_per_order: int | None = None,
) -> tuple[Target, ...]:
    """Return a target for each sale, then for each buy; within each group the widest gap comes first.

    DOWN sells a held symbol. UP buys a symbol that is not held, with an equal share of the spendable cash. Symbols in
    `pending` have an open order: they get a target, so that the risk stage can refuse it by name, but no share of the
    cash. With `shares_per_order`, each order is for that many shares, whatever the cash.
    """
    held = {symbol: position.quantity for symbol, position in positions.items()}
    sells = [each for each in insights if each.direction is Direction.DOWN and held.get(each.symbol, 0) > 0]
    buys = [each for each in insights if each.direction is Direction.UP and not held.get(each.symbol, 0)]
    share_usd = account.spendable_usd(settings.cash_buffer_fraction) / max(
        1, sum(each.symbol not in pending for each in buys)
    )
    return tuple(
        [_sell(each, held[each.symbol], shares_per_order) for each in _widest_first(sells)]
        + [_buy(each, share_usd, account, settings, shares_per_order) for each in _widest_first(buys)]
    )


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


def _buy(insight: Insight, share_usd: float, account: Account, settings: Settings, shares: int | None) -> Target:
    max_usd = min(share_usd, settings.max_position_fraction * account.equity_usd, settings.max_order_usd)
    if shares is not None:
        wanted = float(shares)
    elif settings.stop_loss_fraction > 0:  # brackets allow whole shares only
        wanted = float(math.floor(max_usd / insight.price_usd))
    else:
        wanted = math.floor(max_usd / insight.price_usd * PARTS_PER_SHARE) / PARTS_PER_SHARE
    return Target(
        symbol=insight.symbol,
        held=0.0,
        wanted=wanted,
        price_usd=insight.price_usd,
        gap_fraction=insight.gap_fraction,
        reason=insight.reason,
    )
