"""Universe selection: first the candidates (coarse), then the top performers among them (fine)."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from string import ascii_uppercase

from trader.model import NEW_YORK, Closes, Code, Denial
from trader.prices.base import Coverage, KnownCloses

CONSTITUENTS = Path(__file__).parents[1] / "data" / "constituents.csv"

MAX_NAMED = 5
"""The maximum number of symbols named in a message."""

MIN_GUESSED = 4
"""The length from which a symbol is guessed: a shorter one resembles too many others."""


@cache
def sp500() -> tuple[str, ...]:
    """Return the symbols of the S&P 500 from the file that ships with the project, in Alpaca's spelling."""
    with CONSTITUENTS.open(newline="", encoding="utf-8") as file:
        return tuple(row["symbol"] for row in csv.DictReader(file))


def candidates(
    universe: Sequence[str], priced: Collection[str] | None, index: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the symbols to rank: those listed by the user, or the symbols of the S&P 500 that may have prices.

    `priced` holds the symbols that the price sources have; None if only a request shows which. `index` holds the
    members of the S&P 500 on the day; None: those of today. A symbol that the user listed is always a candidate, so
    that the report says why it has no prices.
    """
    if tuple(universe) != ("sp500",):
        return tuple(universe)
    members = sp500() if index is None else index
    return tuple(symbol for symbol in members if priced is None or symbol in priced)


def returns(closes: Mapping[str, Closes], lookback_bars: int) -> dict[str, float]:
    """Return the gain over the last `lookback_bars` bars, as a fraction, of each symbol with enough bars."""
    if isinstance(closes, KnownCloses):
        return closes.measure_returns(lookback_bars)
    return {
        symbol: float(prices_usd[-1] / prices_usd[-1 - lookback_bars] - 1)
        for symbol, prices_usd in ((symbol, series.to_numpy()) for symbol, series in closes.items())
        if len(prices_usd) > lookback_bars
    }


def top_performers(ranking: Mapping[str, float], size: int) -> tuple[str, ...]:
    """Return the `size` symbols with the highest return, best first; ties are in alphabetical order."""
    return tuple(sorted(ranking, key=lambda symbol: (-ranking[symbol], symbol))[:size])


# --- why there are no prices ---------------------------------------------------------------------------------------


def find_nearest(symbol: str, priced: Collection[str]) -> str | None:
    """Return the symbol that a misspelled one is meant for: of `priced` or, if none is near, of the S&P 500.

    It differs by one letter that is wrong, missing, too many or exchanged with the next. The best has the same letters,
    or at least as many.
    """
    if len(symbol) < MIN_GUESSED:
        return None
    return (_find_near(symbol, priced) if priced else None) or _find_near_in_index(symbol)


@lru_cache(maxsize=1_000)
def _find_near_in_index(symbol: str) -> str | None:
    """Guess a symbol of the index, once: a backtest asks at each bar."""
    return _find_near(symbol, sp500())


def _find_near(symbol: str, known: Collection[str]) -> str | None:
    near = set(known).intersection(_misspell(symbol)) - {symbol}
    return min(near, key=lambda each: (set(each) != set(symbol), len(each) != len(symbol), each), default=None)


def _misspell(symbol: str) -> Iterator[str]:
    """Yield every text that differs from a symbol by one mistake."""
    for place in range(len(symbol) + 1):
        head, tail = symbol[:place], symbol[place:]
        yield from (head + letter + tail for letter in ascii_uppercase)
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in ascii_uppercase)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]


def explain_absence(
    universe: Sequence[str],
    now: datetime,
    denials: Sequence[Denial],
    ranked: int,
    coverage: Coverage | None,
    index: Sequence[str] | None = None,
) -> str:
    """Say why most candidates have no usable prices at `now`, and what to set.

    `denials` are those of candidates without prices, and `ranked` the number of those with. `coverage` is what the only
    price source has; None if only a request shows that. `index` is as in candidates.
    """
    meant = candidates(universe, None, index)
    name = f"UNIVERSE={','.join(universe) if len(universe) <= MAX_NAMED else _name(universe)}"
    if coverage and not ranked:
        spans = [coverage.spans[symbol] for symbol in meant if symbol in coverage.spans]
        if not spans:
            has = f"{coverage.source} has no prices of {name}, but of {_name(coverage.spans)}"
            return f"{has}; {_advise(universe, coverage)}"
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
        days = f"{coverage.source} has prices of {name} from {_day(first)} to {_day(last)}"
        if now < first:
            return f"{days}, and this run is for {_day(now)}; set AT to a later day"
        if {denial.code for denial in denials} == {Code.STALE_PRICE}:
            old = f"older at {_day(now)}, the day of this run, than MAX_PRICE_AGE_S allows"
            return f"{days}, which are {old}; set AT to a day of the file, or PRICE_FILE to newer prices"
    if not denials:
        return ""
    code, count = Counter(denial.code for denial in denials).most_common(1)[0]
    example = next(denial for denial in denials if denial.code is code)
    share = f"{len(denials):,} of {len(denials) + ranked:,} candidates of {name} have no usable prices"
    return f"{share} ({count:,} {code}); {example.symbol}: {example.detail}"


def _advise(universe: Sequence[str], coverage: Coverage) -> str:
    guesses = {symbol: find_nearest(symbol, coverage.spans) for symbol in universe}
    meant = [f"{guess} for {symbol}" for symbol, guess in guesses.items() if guess]
    words = guesses[universe[0]] if len(universe) == 1 else ", ".join(meant[:MAX_NAMED])
    guessed = f"did you mean {words}? Otherwise " if meant else ""
    return f"{guessed}set UNIVERSE to symbols of the file, or PRICE_FILE to a file that has them"


def _name(symbols: Collection[str]) -> str:
    """Name the first symbols, and count the rest."""
    more = f" and {len(symbols) - MAX_NAMED:,} more" if len(symbols) > MAX_NAMED else ""
    shown = symbols if isinstance(symbols, Sequence) else sorted(symbols)
    return f"{', '.join(list(shown)[:MAX_NAMED])}{more}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(NEW_YORK):%Y-%m-%d}"
