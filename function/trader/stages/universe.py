"""Universe selection: first the candidates (coarse), then the top performers among them (fine)."""

import csv
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from trader.model import Closes

CONSTITUENTS = Path(__file__).parents[1] / "data" / "constituents.csv"


@cache
def sp500() -> tuple[str, ...]:
    """Return the symbols of the S&P 500 from the file that ships with the project, in Alpaca's spelling."""
    with CONSTITUENTS.open(newline="", encoding="utf-8") as file:
        return tuple(row["symbol"] for row in csv.DictReader(file))


def candidates(universe: Sequence[str], priced: Collection[str] | None) -> tuple[str, ...]:
    """Return the symbols to rank: those listed by the user, or the symbols of the S&P 500 that may have prices.

    `priced` holds the symbols that the price sources have; None if only a request shows which. A symbol that the user
    listed is always a candidate, so that the report says why it has no prices.
    """
    if tuple(universe) != ("sp500",):
        return tuple(universe)
    return tuple(symbol for symbol in sp500() if priced is None or symbol in priced)


def returns(closes: Mapping[str, Closes], lookback_bars: int) -> dict[str, float]:
    """Return the gain over the last `lookback_bars` bars, as a fraction, of each symbol with enough bars."""
    return {
        symbol: float(prices_usd[-1] / prices_usd[-1 - lookback_bars] - 1)
        for symbol, prices_usd in ((symbol, series.to_numpy()) for symbol, series in closes.items())
        if len(prices_usd) > lookback_bars
    }


def top_performers(ranking: Mapping[str, float], size: int) -> tuple[str, ...]:
    """Return the `size` symbols with the highest return, best first; ties are in alphabetical order."""
    return tuple(sorted(ranking, key=lambda symbol: (-ranking[symbol], symbol))[:size])
