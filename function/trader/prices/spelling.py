"""Symbols in the spelling of Alpaca, from those of other sources."""

import re
from collections.abc import Iterable

from trader.prices.faults import name_some

EXCHANGES = re.compile(
    r"(NASDAQ|NYSE|NYSE ?ARCA|NYSE ?AMERICAN|NYSE ?MKT|AMEX|ARCA|BATS|CBOE|IEX|XNAS|XNYS|XASE|ARCX)\s*:\s*"
)
"""Names of exchanges of the US before a symbol, as in NASDAQ:AAPL. With others, as in LSE:VOD, it is another share."""

COUNTRY = re.compile(r"\.US$|\s+U[SNWQRAP](\s+EQUITY)?$")
"""What Stooq (AAPL.US) and Bloomberg (AAPL US Equity) write after a symbol of the US."""

SHARE_CLASS = re.compile(r"([A-Z]{1,5})[-/_ ]([A-Z]{1,2})")
"""A symbol with the class of its shares: Yahoo's BRK-B, Bloomberg's BRK/B, and BRK_B and BRK B of others."""


def spell(text: str) -> str:
    """Return a symbol in Alpaca's spelling: BRK.B for brk-b, NYSE:BRK/B or BRK-B.US."""
    symbol = text.strip().upper()
    if prefix := EXCHANGES.match(symbol):
        symbol = symbol[prefix.end() :]
    symbol = COUNTRY.sub("", symbol)
    return SHARE_CLASS.sub(r"\1.\2", symbol) if SHARE_CLASS.fullmatch(symbol) else symbol


def note_renamed(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return a note on the symbols that are written in another way than they are read; none if all are the same."""
    names = [f"{text.strip()} as {symbol}" for text, symbol in pairs if text.strip() != symbol]
    return (f"symbols are read in Alpaca's spelling: {name_some(names)}",) if names else ()
