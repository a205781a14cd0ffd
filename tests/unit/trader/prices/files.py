"""One share's bars, and ways to write them into a price file and to read it again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from trader.model import NEW_YORK
from trader.prices.table import PriceFileError, PriceTable, read_table
from trader.schedule import sessions

NOW = datetime(2026, 11, 27, 21, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of one share."""

    day: date
    open: float
    high: float
    low: float
    close: float


def list_days(count: int, last: date = date(2022, 12, 28)) -> list[date]:
    """Return the last sessions of the exchange up to a day."""
    days = (last - timedelta(days=back) for back in range(count * 3))
    return [day for day in days if sessions.session(day)][:count][::-1]


DAYS = list_days(30)

BARS = [
    Bar(day, round(100.5 + number, 2), round(102.37 + number, 2), round(99.11 + number, 2), round(101.83 + number, 2))
    for number, day in enumerate(DAYS)
]


def table(header: str, row: Callable[[Bar], str], bars: Sequence[Bar] = BARS) -> str:
    """Return the text of a file with a row for each bar."""
    return "".join(f"{line}\n" for line in [header, *map(row, bars)])


def read(
    path: Path, text: str | bytes, universe: str = "AAPL", interval: str = "1d", now: datetime = NOW
) -> PriceTable:
    """Write a file and read it."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, bar_interval=interval, universe=tuple(universe.split(",")), now=now)


def refuse(path: Path, text: str | bytes, universe: str = "AAPL", interval: str = "1d", now: datetime = NOW) -> str:
    """Write a file that must be refused, and return the reason without the path."""
    with pytest.raises(PriceFileError) as caught:
        read(path, text, universe, interval, now)
    message = str(caught.value)
    assert message.startswith(f"price file {path}")
    return message.removeprefix(f"price file {path}").lstrip(",: ")


def closes(prices: PriceTable, symbol: str = "AAPL") -> list[float]:
    """Return the closes of one symbol."""
    values: list[float] = prices.tables["close"][symbol].tolist()
    return values


def bars(prices: PriceTable, symbol: str = "AAPL") -> list[Bar]:
    """Return the bars of one symbol."""
    days = [time.astimezone(NEW_YORK).date() for time in prices.tables["close"].index]
    columns = (prices.tables[name][symbol] for name in ("open", "high", "low", "close"))
    return [Bar(*each) for each in zip(days, *columns, strict=True)]
