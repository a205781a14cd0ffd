"""A quarter of real runs at the stand-in for Alpaca, into which differences between live and its test are planted."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from lambda_function import run
from scripts.owner.gap import Gap, split
from scripts.owner.live import Books, Paid
from scripts.owner.shadow import Flow
from scripts.owner.tape import Step, parse
from scripts.testkit.alpaca import AlpacaFake
from tests.several_days import SeveralDays, at
from trader.deadline import Deadline
from trader.journal.record import read_settings
from trader.model import NEW_YORK
from trader.settings import Settings
from trader.wiring import make_forecaster, make_order_history, open_journal

DAYS = 63
SYMBOLS = ("A", "B")

type Plant = Callable[["Quarter"], object]


class Quarter(SeveralDays):
    """Two symbols that swing about their trend, so that they are bought and sold, and stopped out, all the time."""

    def __init__(self, folder: Path, fake: AlpacaFake, **variables: object) -> None:
        super().__init__(folder, fake, UNIVERSE=",".join(SYMBOLS), **variables)
        self.fake = fake
        self.before: dict[int, list[Plant]] = {}  # before the run of a day
        self.priced: dict[int, list[Plant]] = {}  # the same, once its prices are set
        self.after: dict[int, list[Plant]] = {}  # ten minutes after it
        self.missed: set[int] = set()
        self.seen: dict[int, dict[str, float]] = {}  # other prices than those that the day is known by later
        self.changed: dict[str, str] = {}
        self.paid: list[Paid] = []
        self.day = 0
        self._factors: list[tuple[int, str, float]] = []

    def price(self, day: int, symbol: str) -> float:
        """Return the price of a day in cents, after the splits and dividends until then."""
        swing = 5.2 * math.sin((day + 3 * SYMBOLS.index(symbol)) * 0.9) + 1.3 * math.sin(day * 5 + len(symbol))
        price_usd = 107 + swing
        for since, other, factor in self._factors:
            price_usd *= factor if symbol == other and day >= since else 1.0
        return round(price_usd, 2)

    def restate(self, symbol: str, factor: float) -> None:
        """Let a split or a dividend change the prices from today on; the source rewrites its past."""
        self._factors.append((self.day, symbol, factor))
        self._closes[symbol] = {bar: round(usd * factor, 6) for bar, usd in self._closes[symbol].items()}

    def set_price(self, moment: datetime, price_usd: object) -> None:
        """Set the prices of a day; the bars before the first day are rewritten, too."""
        super().set_price(moment, price_usd)  # type: ignore[arg-type]  # as SeveralDays takes it
        path = self._folder / "prices.csv"
        table = pd.read_csv(path, index_col=0)
        first = f"{min(min(closes) for closes in self._closes.values()):%Y-%m-%d}"
        for _, symbol, factor in self._factors:
            table.loc[table.index < first, symbol] *= factor
        table.to_csv(path)

    def live(self, days: int = DAYS) -> None:
        """Run every day, with what is planted."""
        for day in range(days):
            self.day, moment = day, at(day)
            for plant in self.before.get(day, ()):
                plant(self)
            known = {symbol: self.price(day, symbol) for symbol in SYMBOLS}
            self.set_price(moment, {**known, **self.seen.get(day, {})})
            for plant in self.priced.get(day, ()):
                plant(self)
            if day not in self.missed:
                self._run(moment)
            self.fake.prices.update(known)
            for symbol in self.seen.get(day, {}):
                self._closes[symbol][max(self._closes[symbol])] = known[symbol]
            self.fake.fills = "immediate"
            self.fake.now = moment + timedelta(minutes=10)
            for plant in self.after.get(day, ()):
                plant(self)
            self.fake.close_day()

    def _run(self, moment: datetime) -> None:
        run({"time": moment.isoformat()}, env={**self.env, **self.changed}, clock=lambda: moment)

    def steps(self) -> list[Step]:
        """Return what its records hold."""
        journal = open_journal(self.env["JOURNAL"], "trend")
        slots = sorted(journal.list_slots(at(0) - timedelta(days=1))["json"])
        return [parse(slot, journal.store.read(journal.entry(slot).record_name) or "")[1] for slot in slots]

    def split(self, steps: Sequence[Step] | None = None, **books: object) -> Gap:
        """Return live against its test."""
        history = make_order_history(Settings.from_env(self.env, lambda _: {}), at(DAYS))
        flows = [Flow(moment, float(usd)) for moment, usd in self.fake.transfers]
        orders = history.list_orders(at(0) - timedelta(days=1), at(DAYS))
        known = Books(orders=orders, flows=flows, paid=self.paid)
        found = split(self.steps() if steps is None else steps, [], replace(known, **books), "trend", fit)  # type: ignore[arg-type]  # they are those of Books
        assert found is not None
        return found


def fit(step: Step) -> Step:
    """Return a step with forecasts."""
    closes = {symbol: bars.to_series(symbol) for symbol, bars in step.bars.items()}
    made = make_forecaster(read_settings(step.settings)).forecast(closes, Deadline.never())
    return replace(step, forecasts={each.symbol: each for each in made.forecasts})


def days_of(gap: Gap) -> list[str]:
    """Return the days of the items, the largest first."""
    return [f"{each.at.astimezone(NEW_YORK):%Y-%m-%d}" for each in gap.items]
