"""One symbol over several days, at the embedded broker or at the stand-in for Alpaca: its price is set before each run.

The symbol rises gently for 120 bars. A price a few percent lower is far below the trend line, so the bot buys it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest

from lambda_function import run
from scripts.testkit.alpaca import AlpacaFake
from trader import wiring
from trader.app import Invocation
from trader.broker.base import OrderHistory
from trader.journal.base import Run
from trader.journal.entry import Journal
from trader.model import NEW_YORK, Report
from trader.stages.pipeline import RunServices

BARS = 120
FIRST = date(2026, 11, 9)
"""A Monday; no holiday follows until 26 November."""

BOUGHT, DEAR, QUIET = 104.5, 115.5, 110.0
"""Prices far below the trend line, far above it, and on it: the bot buys, sells, and does nothing."""

OPEN = time(9, 30)
RISE = np.linspace(100, 110, BARS) * np.exp(np.random.default_rng(1).normal(0, 0.002, BARS))


def at(day: int, hour: int = 15, minute: int = 45) -> datetime:
    """Return a time in New York on a trading day, counted from 0."""
    return datetime.combine(FIRST + timedelta(days=day + 2 * (day // 5)), time(hour, minute), NEW_YORK)


def bars_before(moment: datetime, interval: str, count: int) -> list[datetime]:
    """Return the starts of the last bars up to the one of this moment; 15-minute bars are those of the sessions."""
    back = np.arange(1 - (count if interval == "1d" else count // 26 + 2), 1)
    days: list[date] = np.busday_offset(np.datetime64(moment.date()), back, roll="backward").tolist()
    if interval == "1d":
        return [datetime.combine(each, time(), NEW_YORK) for each in days]
    opens = [datetime.combine(each, OPEN, NEW_YORK) for each in days]
    starts = [each + number * timedelta(minutes=15) for each in opens for number in range(26)]
    return [each for each in starts if each <= moment][-count:]


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs wait for the stand-in for Alpaca only as long as it needs."""
    monkeypatch.setattr("trader.broker.sending.PAUSE_S", 0.0)
    monkeypatch.setattr("trader.broker.waiting.PAUSES_S", (0.02,))
    monkeypatch.setattr("trader.broker.waiting.CANCEL_TIME_S", 0.1)
    monkeypatch.setattr("trader.stages.protection.CANCEL_TIME_S", 0.1)
    monkeypatch.setattr("trader.stages.protection.SALE_TIME_S", 0.1)
    monkeypatch.setattr("trader.stages.execution.FREE_TIME_S", 0.3)
    make_services = wiring.make_services

    def make_hasty(run: Run, invocation: Invocation, journal: Journal) -> tuple[RunServices, OrderHistory]:
        services, history = make_services(run, invocation, journal)
        return replace(services, fill_time_s=0.1), history

    monkeypatch.setattr(wiring, "make_services", make_hasty)


def buy_and_sell(folder: Path, fake: AlpacaFake, monkeypatch: pytest.MonkeyPatch) -> "SeveralDays":
    """Buy on a Monday, and sell by the rule on the next day; the environment then names the strategy's settings."""
    days = SeveralDays(folder, fake)
    days.run(at(0), BOUGHT)
    days.run(at(1), DEAR)
    for name, value in days.env.items():
        monkeypatch.setenv(name, value)
    return days


class SeveralDays:
    """A strategy that trades A or the symbols in UNIVERSE, with its price file and journal in a folder."""

    def __init__(self, folder: Path, fake: AlpacaFake | None = None, /, **variables: object) -> None:
        self._folder = folder
        self._fake = fake
        symbols = str(variables.get("UNIVERSE", "A"))
        self._closes: dict[str, dict[datetime, float]] = {symbol: {} for symbol in symbols.split(",")}
        self._interval = str(variables.get("BAR_INTERVAL", "1d"))
        broker = fake.environment if fake else {"ACCOUNT_FILE": str(folder / "account.json")}
        self.env: Mapping[str, str] = {
            "ENGINE": "map",
            "PRICE_SOURCES": "file",
            "PRICE_FILE": str(folder / "prices.csv"),
            "UNIVERSE": symbols,
            "UNIVERSE_LOOKBACK_BARS": "1",
            "HISTORY_BARS": str(BARS),
            "JOURNAL": f"folder:{folder / 'journal'}",
            **broker,
            **{name: str(value) for name, value in variables.items()},
        }

    def run(self, moment: datetime, price_usd: float | Mapping[str, float], **variables: object) -> Report:
        """Run the bot at this moment, with the last price of all symbols or of each."""
        self.set_price(moment, price_usd)
        env = {**self.env, **{name: str(value) for name, value in variables.items()}}
        return run({"time": moment.isoformat()}, env=env, clock=lambda: moment)

    def set_price(self, moment: datetime, price_usd: float | Mapping[str, float]) -> None:
        """Let time pass and the price change; orders that wait for it are filled."""
        bars = bars_before(moment, self._interval, BARS)
        for symbol, closes in self._closes.items():
            price = price_usd[symbol] if isinstance(price_usd, Mapping) else price_usd
            closes[bars[-1]] = price
            if self._fake:
                self._fake.prices[symbol] = price
        if self._fake:
            self._fake.now = moment
            self._fake.trade()
        first = min((min(closes) for closes in self._closes.values()), default=bars[-1])
        names = [f"{each:%Y-%m-%d}" if self._interval == "1d" else each.isoformat() for each in bars]
        columns = [[symbol, *fill(bars, first, closes)] for symbol, closes in self._closes.items()]
        rows = zip(["timestamp", *names], *columns, strict=True)
        (self._folder / "prices.csv").write_text("".join(f"{','.join(row)}\n" for row in rows))


def fill(bars: Sequence[datetime], first: datetime, closes: Mapping[datetime, float]) -> Iterator[str]:
    """Yield a symbol's closes as a file has them: those that rise until the first bar, and then each until the next."""
    past = sum(each < first for each in bars)
    rise = [str(float(each)) for each in RISE[BARS - past :]]
    yield from rise
    known = rise[-1] if rise else ""
    for bar in bars[past:]:
        known = str(float(closes[bar])) if bar in closes else known
        yield known
