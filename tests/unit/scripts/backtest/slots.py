"""A made market for backtests at the bot's own rhythm: a flat history, then sessions with the prices of a test."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.backtest.compute import Table
from scripts.backtest.model import Options, Panel, Result
from scripts.data.made_bars import list_starts
from tests.builders import daily, settings
from trader.model import NEW_YORK, Closes, Forecast
from trader.schedule import sessions

HISTORY = 40
"""The number of finished sessions before the first day."""

DAY, NEXT_DAY = date(2022, 12, 14), date(2022, 12, 15)

type Prices = Sequence[float]
"""The closes of a session's first bars; the rest of the session ends at the last of them."""


def starts_of(day: date, every: str = "15m") -> list[datetime]:
    """Return the starts of a session's bars, in UTC."""
    hours = sessions.session(day)
    assert hours, f"{day} is a session"
    return [each.astimezone(UTC) for each in list_starts(*hours, every)]


def bar_at(clock: str, day: date = DAY) -> datetime:
    """Return the start of the 15-minute bar that ends at a time in New York, which is its slot."""
    hour, minute = map(int, clock.split(":"))
    end = datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK)
    return (end - timedelta(minutes=15)).astimezone(UTC)


def market(days: Sequence[date] = (DAY,), **columns: Sequence[Prices]) -> Panel:
    """Return a panel in which each symbol has these prices on these days, and its first one on all days before.

    A bar opens where the one before has ended. NaN is a bar that the symbol lacks.
    """
    frames = {symbol: _within(days, each) for symbol, each in columns.items()}
    close = pd.DataFrame({symbol: frame["close"] for symbol, frame in frames.items()})
    opened = pd.DataFrame({symbol: frame["open"] for symbol, frame in frames.items()})
    history = pd.DataFrame({symbol: _history(days, each) for symbol, each in columns.items()})
    known = Panel(open=history, high=history, low=history, close=history, has_ohlc=False, source="a history")
    return Panel(
        open=opened,
        high=opened.where(opened > close, close),
        low=opened.where(opened < close, close),
        close=close,
        has_ohlc=True,
        source="a test",
        daily=known,
    )


def _within(days: Sequence[date], prices: Sequence[Prices]) -> pd.DataFrame:
    parts = []
    for day, of_day in zip(days, prices, strict=True):
        index = pd.DatetimeIndex(starts_of(day))
        rest = [of_day[-1]] * (len(index) - len(of_day))
        close = pd.Series([*of_day, *rest], index, dtype=float)
        parts.append(pd.DataFrame({"open": close.shift(1).fillna(close).where(close.notna()), "close": close}))
    return pd.concat(parts)


def _history(days: Sequence[date], prices: Sequence[Prices]) -> Closes:
    business = daily([prices[0][0]] * 2 * HISTORY, days[0] - timedelta(days=1))
    before = [place for place, each in enumerate(business.index) if sessions.session(each.astimezone(NEW_YORK).date())]
    closes = daily([each[-1] for each in prices], days[-1])
    return pd.concat([business.iloc[before[-HISTORY:]], closes])


def options(panel: Panel, **variables: object) -> Options:
    """Return options for slots every 15 minutes, with small settings."""
    small = {"HISTORY_BARS": 30, "UNIVERSE_LOOKBACK_BARS": 5, "UNIVERSE": ",".join(panel.close.columns)}
    chosen = settings(**{**small, "STOP_LOSS_FRACTION": 0.03, **variables})
    return Options(settings=chosen, decide_every="15m", intraday_file="unused", slippage_fraction=0.0)


def lines(panel: Panel, **multiples: Mapping[str, float]) -> Table:
    """Return forecasts for every bar: the trend line at a multiple of the price by slot, and at the price elsewhere.

    A slot is a time of DAY, such as 10:00, or of NEXT_DAY, such as +10:00.
    """
    close = panel.close.groupby(pd.DatetimeIndex(panel.close.index).tz_convert(NEW_YORK).normalize()).ffill()
    table: Table = {}
    for symbol, by_slot in multiples.items():
        chosen = {
            bar_at(clock.lstrip("+"), NEXT_DAY if clock.startswith("+") else DAY): multiple
            for clock, multiple in by_slot.items()
        }
        for bar, price_usd in close[symbol].dropna().items():
            time = bar.to_pydatetime()  # type: ignore[attr-defined]  # pandas says that it may be anything
            midnight = pd.Timestamp(time).tz_convert(NEW_YORK).normalize().tz_convert("UTC").to_pydatetime()
            table[symbol, time] = Forecast(
                symbol=symbol, time=midnight, price_usd=price_usd, trend_usd=price_usd * chosen.get(time, 1.0)
            )
    return table


def fills(result: Result) -> list[tuple[str, str, str, float]]:
    """Return the time in New York, symbol, kind and price of each fill; the kind of a buy is buy."""
    return [
        (f"{each.time.astimezone(NEW_YORK):%H:%M}", each.symbol, _kind(each.kind, each.side), each.price_usd)
        for each in result.fills
    ]


def _kind(kind: str, side: str) -> str:
    return kind if kind != "market" else side


def write(panel: Panel, folder: Path) -> tuple[Path, Path]:
    """Write the panel's history and its bars as two price files."""
    assert panel.daily is not None
    history, within = folder / "daily.csv", folder / "within.csv"
    days = [each.astimezone(NEW_YORK).date().isoformat() for each in panel.daily.close.index]
    panel.daily.close.set_axis(pd.Index(days)).to_csv(history, index_label="timestamp")
    times = [each.isoformat() for each in panel.close.index]
    panel.close.set_axis(pd.Index(times)).to_csv(within, index_label="timestamp")
    return history, within


def wandering(days: int, last: date, symbols: Sequence[str] = ("AAPL", "MSFT", "XOM")) -> Panel:
    """Return a panel of symbols that wander at random, with `days` sessions of bars after a history."""
    chance = np.random.default_rng(1)
    calendar = [each.date() for each in pd.bdate_range(end=pd.Timestamp(last), periods=days)]
    columns: dict[str, list[list[float]]] = {}
    for symbol in symbols:
        price_usd = 100.0
        columns[symbol] = []
        for day in calendar:
            steps = np.exp(np.cumsum(chance.normal(0, 0.006, len(starts_of(day)))))
            columns[symbol].append([round(price_usd * float(step), 2) for step in steps])
            price_usd = columns[symbol][-1][-1]
    made = market(calendar, **columns)
    assert made.daily is not None
    noise = np.exp(np.cumsum(chance.normal(0, 0.01, made.daily.close.shape), axis=0)).round(4)
    before = made.daily.close.index < pd.Timestamp(calendar[0], tz=NEW_YORK)
    made.daily.close.loc[before] = (made.daily.close * noise).round(2).loc[before]
    return made
