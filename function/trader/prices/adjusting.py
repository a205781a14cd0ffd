"""Prices adjusted for splits and dividends by a column of adjusted closes; the last one is what is paid."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trader.prices.column_names import VOLUME
from trader.prices.jumps import find_ratio

MIN_NOISE_FRACTION = 1e-6
"""How far factors lie from each other at least, because prices have the digits of single precision."""

MAX_DIVIDEND_FRACTION = 0.5
"""The largest part of a close that one dividend is taken to be; a factor that rises by more is that of a split."""

MIN_REVERSE_SPLIT = 1.1
"""The smallest ratio of a reverse split; the factor falls by less only where a row was adjusted too early."""

MIN_SPLIT_FRACTION = 0.15
"""The smallest part of a close that a step is at which it is looked at whether it is a split: 5:4 is a fifth."""

RATIO_TOLERANCE = 0.01
"""How far a step may be from a split's ratio, because of a dividend on the same day."""

MAX_EARLY_ROWS = 3
"""Maximum number of rows in succession that may be adjusted too early: one before an ex-date, or a long weekend."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """The prices of one symbol, adjusted. `early` and `unadjusted` are the rows that a note should name."""

    prices: Mapping[str, Floats]
    early: NDArray[np.int64]  # rows whose factor is that of the row before
    unadjusted: NDArray[np.int64]  # rows with a close, but without a possible adjusted one: they are left out


class FactorError(Exception):
    """The adjusted closes of a symbol do not go with its closes; `row` is the first such row."""

    def __init__(self, row: int) -> None:
        super().__init__()
        self.row = row


def adjust(prices: Mapping[str, Floats], adjusted: Floats) -> Adjusted:
    """Multiply the prices of one symbol by adjusted close / close, in a scale in which the last close is the raw one.

    The factor adjusted / close rises with every split and dividend, and falls with a reverse split, at which the raw
    close jumps up. Where it falls otherwise, or rises as by a split without one in the closes, the row was adjusted too
    early or wrongly, and gets the factor of the row before. Raises FactorError if that goes on for many rows.

    A volume among the prices is divided by the splits alone: a dividend changes the number of no shares.
    """
    close = prices["close"]
    is_possible = np.isfinite(adjusted) & (adjusted > 0)
    adjusted = np.where((close > 0) & ~is_possible, np.nan, adjusted)  # as if it were not there
    unadjusted = np.flatnonzero(~np.isnan(close) & np.isnan(adjusted))
    (rows,) = np.nonzero(~np.isnan(close) & ~np.isnan(adjusted))
    factors, early = _find_factors(close[rows], adjusted[rows], rows)
    all_factors = np.full(len(close), np.nan)
    if len(rows):
        all_factors[rows] = factors / factors[-1]
    found = {name: values * all_factors for name, values in prices.items() if name != VOLUME}
    if VOLUME in prices:
        shares = np.full(len(close), np.nan)
        shares[rows] = _count_shares(factors)
        found[VOLUME] = prices[VOLUME] * shares
    if len(rows):
        is_exact = np.ones(len(rows), np.bool_)
        is_exact[np.isin(rows, early)] = False
        is_exact &= np.isfinite(adjusted[rows]) & np.isfinite(close[rows]) & (adjusted[rows] > 0) & (close[rows] > 0)
        exact = rows[is_exact]
        found["close"][exact] = adjusted[exact] / factors[-1]  # as it is written, where the last factor is 1
        found["close"][rows[-1]] = close[rows[-1]]
    return Adjusted(prices=found, early=early, unadjusted=unadjusted)


def _count_shares(factors: Floats) -> Floats:
    """Return how many shares of the last row one share of each row has become, by the splits among the factors.

    A step as of a dividend is a split if it is one of the usual ratios; others are too rare to be told from dividends.
    """
    steps = factors[1:] / factors[:-1]
    ratios = np.ones(len(steps))
    for place in np.flatnonzero((steps > 1 / (1 - MIN_SPLIT_FRACTION)) | (steps < 1 / MIN_REVERSE_SPLIT)):
        step = float(steps[place])
        near = find_ratio(1 / step, tolerance=RATIO_TOLERANCE)
        is_dividend = MIN_REVERSE_SPLIT**-1 <= step <= 1 / (1 - MAX_DIVIDEND_FRACTION)
        ratios[place] = near or (1.0 if is_dividend else step)
    found: Floats = np.append(np.cumprod(ratios[::-1])[::-1], 1.0)[: len(factors)]
    return found


def _find_factors(close: Floats, adjusted: Floats, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the factor of each row, and the rows that have that of the row before. Raises FactorError."""
    is_possible = (close > 0) & (adjusted > 0) & np.isfinite(close) & np.isfinite(adjusted)
    if not is_possible.any():
        return np.ones(len(close)), np.zeros(0, np.int64)
    places = np.flatnonzero(is_possible)
    close, adjusted = close[places], adjusted[places]
    factors = adjusted / close
    noise = MIN_NOISE_FRACTION + _find_rounding(adjusted) / adjusted + _find_rounding(close) / close
    if _are_steady(factors[1:] / factors[:-1], close[1:] / close[:-1], noise[1:] + noise[:-1]).all():
        early = np.zeros(0, np.int64)
    else:
        early = _correct(factors, close, noise, rows[places])
    known = np.searchsorted(places, np.arange(len(is_possible)), side="right") - 1  # the last factor up to each row
    return factors[np.maximum(known, 0)], rows[places[early]]


def _find_rounding(prices: Floats) -> float:
    """Return how far prices may lie from those that were meant, by the number of their decimals."""
    for decimals in (2, 3, 4, 6):
        if np.allclose(prices, np.round(prices, decimals), rtol=1e-12, atol=0):
            return 0.51 * 10.0**-decimals
    return 0.0


def _are_steady(step: Floats, change: Floats, noise: Floats) -> NDArray[np.bool_]:
    """Check whether factors go from one row to the next as splits and dividends make them go."""
    with np.errstate(all="ignore"):
        log_step, log_change = np.log(step), np.log(change)
        is_mirrored = -log_change * np.sign(log_step) > 0.5 * np.abs(log_step)
    is_dividend = (log_step >= -noise) & (step <= 1 / (1 - MAX_DIVIDEND_FRACTION) + noise)
    is_split = is_mirrored & ((log_step > 0) | (log_step < -np.log(MIN_REVERSE_SPLIT)))
    found: NDArray[np.bool_] = is_dividend | is_split
    return found


def _correct(factors: Floats, close: Floats, noise: Floats, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give rows with an impossible factor that of the row before, and return their places. Raises FactorError."""
    early: list[int] = []
    for place in range(1, len(factors)):
        step = np.array([factors[place] / factors[place - 1]])
        change = np.array([close[place] / close[place - 1]])
        if _are_steady(step, change, np.array([noise[place] + noise[place - 1]]))[0]:
            continue
        factors[place] = factors[place - 1]
        early.append(place)
        first = len(early) - 1 - MAX_EARLY_ROWS
        if first >= 0 and early[first] == place - MAX_EARLY_ROWS:
            raise FactorError(int(rows[early[first]]))
    return np.array(early, np.int64)
