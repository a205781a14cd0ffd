"""What it means for a holding that a source gives other closes for the same bars than before.

A series is in the unit of its last bar. So after a split or a dividend a source rewrites its past: all bars before it
change by the same factor. The account keeps the last closes as the source gave them, and what they have become since
tells what has happened to the shares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from trader.model import Closes
from trader.prices.jumps import SPLITS, WRONG_FACTOR, find_ratio
from trader.prices.series import last_bars

KEPT_CLOSES = 6
"""The number of closes that are kept of a holding: enough to tell a rewritten past from one corrected close."""

NOISE_FRACTION, NOISE_USD, MAX_NOISE_FRACTION = 2e-5, 0.0075, 2e-3
"""The change up to which a close is the same, because a source computes it anew from prices in cents. No dividend is
less than a cent; of low prices, the second is too much, and the third counts."""

MAX_GAP_FRACTION = 0.4
"""The change of the price, between two closes of which none is known twice, up to which the shares are the same."""

MIN_RATIO_BESIDE_DIVIDEND = 1.5
"""A split by less than this, together with a dividend, cannot be told from a spin-off."""

MAX_DIVIDEND_BESIDE_SPLIT = 0.1
"""The largest dividend that may have come together with a split."""

MAX_DIVIDEND, MAX_CORRECTION = 0.5, 0.2
"""The largest part of a price that is paid out as a dividend, and that a source takes back of earlier dividends."""

DOUBTFUL_DIVIDEND = 0.2
"""A larger dividend is more likely a spin-off, or a mistake of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """A close as the source gave it; `at` is the bar's start."""

    at: datetime
    price_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotes:
    """The last closes of a holding as the source gave them, oldest first. The last bar may still have been running.

    `since` is the bar at whose close the holding was bought: only what happened after it concerns these shares.
    """

    since: datetime
    closes: tuple[Close, ...]

    @property
    def last(self) -> Close:
        """The last of the closes, at which the holding is valued."""
        return self.closes[-1]


@dataclass(frozen=True, slots=True)
class Change:
    """The factor by which the source has changed its past, and how far it may be off, as the prices are rounded."""

    factor: float
    tolerance: float = 0.0


UNCHANGED = Change(1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What happened to each share: a part of its price was paid out, and then it became `shares` shares.

    A negative `paid_fraction` is taken back. `is_doubtful`: the factor is no usual one, and the holding only keeps its
    value.
    """

    shares: float = 1.0
    paid_fraction: float = 0.0
    is_doubtful: bool = False

    @property
    def factor(self) -> float:
        """The factor by which the price of a share changes."""
        return (1 - self.paid_fraction) / self.shares


def keep(closes: Closes, since: datetime | None = None) -> Quotes:
    """Return the closes to keep of a holding; without `since`, it was bought at the last of them."""
    last = last_bars(closes, KEPT_CLOSES)
    kept = tuple(
        Close(at=at.to_pydatetime(), price_usd=price_usd)
        for at, price_usd in zip(last.index, last.tolist(), strict=True)
    )
    return Quotes(since=since or kept[-1].at, closes=kept)


def measure(kept: Quotes, closes: Closes) -> Change | None:
    """Return how the source has changed its past since these closes were kept; None if that cannot be known.

    Only what happened after the holding was bought counts. The last of the kept bars may have been running, so it may
    have moved; the others are complete.
    """
    pairs = [_Pair(each.at, each.price_usd, float(closes[each.at])) for each in kept.closes if each.at in closes.index]
    complete = [each for each in pairs if each.at < kept.last.at]
    last = pairs[-1] if len(pairs) > len(complete) else None
    change = _measure_complete(complete, last, kept.since) if complete else _measure_last(last)
    return change or (UNCHANGED if _is_near(kept.last, closes) else None)


def update(kept: Quotes, change: Change, closes: Closes) -> Quotes:
    """Return the closes of the same bars as the source gives them after a change of its past."""
    return replace(
        kept,
        closes=tuple(
            replace(each, price_usd=float(closes.get(each.at, each.price_usd * change.factor))) for each in kept.closes
        ),
    )


def interpret(change: Change) -> Action:
    """Return what a change of the past means for the shares."""
    factor, tolerance = change.factor, change.tolerance + NOISE_FRACTION
    if abs(math.log(factor)) <= NOISE_FRACTION:
        return Action()
    if (shares := _find_split(factor, tolerance)) is not None:
        return Action(shares=shares)
    beside = [
        (left, shares)
        for shares in SPLITS
        if max(shares, 1 / shares) >= MIN_RATIO_BESIDE_DIVIDEND
        and 1 - MAX_DIVIDEND_BESIDE_SPLIT <= (left := factor * shares) < 1
    ]
    if beside:
        left, shares = max(beside)
        return Action(shares=shares, paid_fraction=1 - left)
    if 1 - MAX_DIVIDEND <= factor <= 1 + MAX_CORRECTION:
        return Action(paid_fraction=1 - factor, is_doubtful=factor > 1 or factor < 1 - DOUBTFUL_DIVIDEND)
    return Action(shares=1 / factor, is_doubtful=True)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The close of a bar as it was kept, and as the source gives it now."""

    at: datetime
    then_usd: float
    now_usd: float

    @property
    def factor(self) -> float:
        return self.now_usd / self.then_usd


def _measure_complete(complete: Sequence[_Pair], last: _Pair | None, since: datetime) -> Change | None:
    """Return the change from complete bars; None if they contradict each other.

    What counts is the first bar that the holding has seen; of one that was bought in the last bar, the bar before. A
    rewritten past changes its neighbors by the same factor.
    """
    held = [each for each in complete if each.at >= since]
    first = held[0] if held else complete[-1]
    half_then, half_now = (
        _half_unit([each.then_usd for each in complete]),
        _half_unit([each.now_usd for each in complete]),
    )

    def rounding(pair: _Pair) -> float:
        return half_then / pair.then_usd + half_now / pair.now_usd + NOISE_FRACTION

    alike = [each for each in complete if abs(math.log(each.factor / first.factor)) <= rounding(each) + rounding(first)]
    if len(complete) > 1 and len(alike) == 1:
        return None
    then_usd, now_usd = sum(each.then_usd for each in alike), sum(each.now_usd for each in alike)
    factor, noise = now_usd / then_usd, _noise(min(then_usd, now_usd) / len(alike))
    if abs(factor - 1) <= noise:
        return UNCHANGED
    if not held and last is not None and abs(math.log(last.factor)) < abs(math.log(last.factor / factor)):
        return UNCHANGED  # the past was rewritten only up to the bar in which the shares were bought
    return Change(factor, min(map(rounding, alike)) + noise)


def _measure_last(last: _Pair | None) -> Change | None:
    """Return the change from a bar that may have been running: only a large split can be told from its own move."""
    if last is None or max(last.factor, 1 / last.factor) < WRONG_FACTOR:
        return None
    shares = find_ratio(last.factor)
    return Change(1 / shares) if shares else None


def _is_near(kept: Close, closes: Closes) -> bool:
    """Check whether the first close since the kept one is near it, as it is if the shares are the same."""
    later = closes.loc[kept.at :]
    price_usd = float((later if len(later) else closes).iloc[0 if len(later) else -1])
    return abs(price_usd / kept.price_usd - 1) <= MAX_GAP_FRACTION


def _find_split(factor: float, tolerance: float) -> float | None:
    """Return the split, in new shares for each old one, that changes prices by exactly this factor but for rounding."""
    near = min(SPLITS, key=lambda each: abs(math.log(factor * each)))
    if abs(math.log(factor * near)) <= tolerance:
        return near
    whole = round(max(factor, 1 / factor))
    shares = float(whole) if factor < 1 else 1 / whole
    is_exact = whole > 1 and tolerance * whole < 0.1 and abs(math.log(factor * shares)) <= tolerance
    return shares if is_exact else None


def _noise(price_usd: float) -> float:
    """Return the relative change up to which a close at about this price is the same."""
    return max(NOISE_FRACTION, min(MAX_NOISE_FRACTION, NOISE_USD / price_usd))


def _half_unit(prices_usd: Sequence[float]) -> float:
    """Return half of the last decimal place of these prices, two to four; 0 if they have more."""
    for places in (2, 3, 4):
        if all(abs(round(each, places) - each) <= 1e-9 * max(1.0, each) for each in prices_usd):
            return 0.5 * 10**-places
    return 0.0
