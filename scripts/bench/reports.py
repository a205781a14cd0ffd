"""`make report` over 90 days of a 15-minute strategy: 2,000 records, from a folder, and from S3 at 50 ms a request.

The records are made, not run: random prices, a mean of the last closes for the trend line, and the real rule, sizes,
limits, stops and fills. A few slots are missed, so that the test has decisions of its own to take.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.bench import harness
from scripts.bench.harness import Measurement
from scripts.owner.bars import Bars, LazyCloses
from scripts.testkit.slow_s3 import BUCKET, SlowS3
from trader.alpha import loader
from trader.broker import book as books
from trader.broker.book import Book
from trader.codec import encode
from trader.forecasting.base import Forecasts
from trader.journal.base import Run
from trader.journal.record import build_record, build_report
from trader.model import Account, Forecast, Observation, Order, OrderStatus, OrderType, Outcome, Side
from trader.progress import Progress
from trader.schedule import sessions
from trader.settings import Settings
from trader.stages import pipeline
from trader.stages.universe import top_performers
from trader.wiring import open_journal

RECORDS, SYMBOLS, HISTORY, SHOWN = 2_000, 25, 250, 20
MISSED = frozenset({700, 701, 1_400})
UNTIL = date(2026, 11, 25)
BAR = timedelta(minutes=15)
MEAN_BARS, CORNERS = 60, 26
MAX_S = 10.0
ROUNDS = 3


def measure(progress: Progress) -> list[Measurement]:
    """Measure the whole command, from the start of Python to the page."""
    with TemporaryDirectory() as name, SlowS3(Path(name) / "journal") as store:
        folder = Path(name)
        settings = make_journal(folder, progress)
        ways = {
            "a folder": {**settings, "JOURNAL": f"folder:{folder}/journal"},
            "S3, 50 ms a request": {**settings, **store.environment, "JOURNAL": f"s3://{BUCKET}"},
        }
        return [_measure_one(f"{RECORDS:,} records from {where}", name, way, progress) for where, way in ways.items()]


def _measure_one(what: str, folder: str, settings: Mapping[str, str], progress: Progress) -> Measurement:
    found = harness.in_turns({what: lambda: harness.use("report", folder, settings)}, ROUNDS, what, progress)[what]
    best = min(found, key=lambda each: each.wall_s)
    return Measurement(
        what=f"make report, {what}",
        measured=best.describe(),
        target=f"< {MAX_S:g} s",
        is_reached=best.wall_s < MAX_S,
        figures={"wall_s": round(best.wall_s, 2), "cpu_s": round(best.cpu_s, 2), "peak_mb": best.largest / 1e6},
    )


# --- a journal of a quarter ------------------------------------------------------------------------------------------


def list_bars() -> list[datetime]:
    """Return the starts of the bars of the sessions up to UNTIL, as many as the records and their history need."""
    bars: list[datetime] = []
    for day in sessions.list_days(UNTIL - timedelta(days=200), UNTIL):
        if hours := sessions.session(day):
            count = round((hours[1] - hours[0]) / BAR)
            bars += [(hours[0] + number * BAR).astimezone(UTC) for number in range(count)]
    return bars[-RECORDS - HISTORY :]


def make_journal(folder: Path, progress: Progress) -> dict[str, str]:
    """Write the journal and the account of a strategy into a folder, and return its settings."""
    bars, symbols = list_bars(), [f"S{chr(ord('A') + number)}" for number in range(SYMBOLS)]
    draw = np.random.default_rng(1)
    swings = 0.02 * np.sin(np.arange(len(bars))[:, None] / draw.uniform(20, 60, SYMBOLS))
    walks = np.cumsum(draw.normal(0, 0.0025, (len(bars), SYMBOLS)), axis=0)
    prices = pd.DataFrame(np.round(100 * np.exp(walks + swings), 2), pd.DatetimeIndex(bars), symbols)
    prices.to_csv(folder / "prices.csv", index_label="timestamp", date_format="%Y-%m-%dT%H:%M:%S+00:00")
    env = {
        "ENGINE": "map",
        "BAR_INTERVAL": "15m",
        "PRICE_FILE": str(folder / "prices.csv"),
        "ACCOUNT_FILE": str(folder / "account.json"),
        "UNIVERSE": ",".join(symbols),
        "UNIVERSE_SIZE": str(SHOWN),
        "SINCE": bars[HISTORY].isoformat(),
    }
    settings = Settings.from_env({**env, "JOURNAL": f"folder:{folder}/journal"}, lambda _: {})
    table = _Table(bars, symbols, prices.to_numpy())
    book = _trade(settings, table, progress)
    (folder / "account.json").write_text(json.dumps(encode(book)))
    return env


@dataclass(frozen=True, slots=True)
class _Table:
    """The closes of the symbols, a row for each bar."""

    bars: Sequence[datetime]
    symbols: Sequence[str]
    usd: NDArray[np.float64]

    def cut(self, last: int) -> "_Table":
        """Return what a run at a bar sees."""
        rows = slice(last + 1 - HISTORY, last + 1)
        return _Table(self.bars[rows], self.symbols, self.usd[rows])

    def list_last(self) -> dict[str, float]:
        """Return the last close of each symbol."""
        return dict(zip(self.symbols, self.usd[-1].tolist(), strict=True))


def _trade(settings: Settings, table: _Table, progress: Progress) -> Book:
    """Decide and trade at each bar, write the records, and return the account."""
    journal = open_journal(settings.journal, settings.strategy)
    alpha = loader.load(settings)
    book = Book(cash_usd=100_000.0, last_equity_usd=100_000.0, as_of=table.bars[HISTORY - 1])
    for number in range(RECORDS):
        seen = table.cut(HISTORY + number)
        slot = seen.bars[-1] + BAR - timedelta(minutes=1)
        if sessions.previous_close(slot) >= book.as_of:
            book.last_equity_usd = book.equity_usd()
        book.as_of = slot
        _follow(book, seen.list_last(), seen.bars[-1])
        if number in MISSED:
            continue
        run = Run(settings=settings, slot=slot, now=slot)
        observed = _observe(book, seen, slot)
        lines = Forecasts(forecasts=tuple(_forecast(seen, symbol) for symbol in observed.closes))
        run.decision = pipeline.decide(observed, lines, alpha, settings)
        run.observation = replace(observed, closes={})  # they are written below, as to encode them takes long
        for order in sorted(run.decision.orders, key=lambda each: each.side is Side.BUY):
            run.outcomes.append(_fill(book, order, slot))
        run.account_after = _look(book)
        status = Outcome.TRADED if run.outcomes else Outcome.NOTHING_TO_DO
        record = build_record(run, build_report(run, status))
        record["observation"]["closes"] = _write_closes(seen, observed.closes)
        path = Path(settings.journal.removeprefix("folder:")) / journal.entry(slot).record_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, allow_nan=False))
        progress("making records", number + 1, RECORDS)
    return book


def _follow(book: Book, prices: Mapping[str, float], at: datetime) -> None:
    """Let the close of a bar reach stops and targets, and value what is held."""
    for symbol, held in list(book.positions.items()):
        book.positions[symbol] = replace(held, price_usd=prices[symbol])
        order = book.brackets.get(symbol)
        low, high = (order.stop_loss_usd or 0.0, order.take_profit_usd or 1e9) if order else (0.0, 1e9)
        if order and not low < prices[symbol] < high:
            kind = OrderType.STOP if prices[symbol] <= low else OrderType.LIMIT
            name = f"{order.client_order_id}-{'stop-loss' if kind is OrderType.STOP else 'take-profit'}"
            sale = replace(order, client_order_id=name, order_id=name, side=Side.SELL, type=kind)
            del book.brackets[symbol]
            _fill(book, replace(sale, stop_loss_usd=None, take_profit_usd=None, price_usd=prices[symbol]), at)


def _fill(book: Book, order: Order, at: datetime) -> Order:
    if order.side is Side.SELL:
        book.brackets.pop(order.symbol, None)
    books.fill(book, order, order.price_usd)
    done = replace(
        order,
        order_id=order.order_id or order.client_order_id,
        status=OrderStatus.FILLED,
        filled_quantity=order.quantity,
        filled_price_usd=order.price_usd,
        submitted_at=at,
        filled_at=at,
    )
    book.orders[done.client_order_id] = done
    if done.side is Side.BUY:
        book.brackets[done.symbol] = done
    return done


def _observe(book: Book, seen: _Table, slot: datetime) -> Observation:
    gains = (seen.usd[-1] / seen.usd[-MEAN_BARS] - 1).tolist()
    ranking = dict(zip(seen.symbols, gains, strict=True))
    shown = dict.fromkeys([*top_performers(ranking, SHOWN), *book.positions])
    times = np.array([int(each.timestamp()) for each in seen.bars])
    return Observation(
        slot=slot,
        now=slot,
        account=_look(book),
        positions=dict(book.positions),
        open_orders=tuple(leg for order in book.brackets.values() for leg in books.exits(order)),
        ranking=ranking,
        closes=LazyCloses({each: Bars(times, seen.usd[:, seen.symbols.index(each)]) for each in shown}),
        peak_equity_usd=book.equity_usd(),
    )


def _write_closes(seen: _Table, shown: Iterable[str]) -> Mapping[str, object]:
    """Return the closes as a record has them."""
    times = [int(each.timestamp()) for each in seen.bars]
    return {each: {"times": times, "usd": seen.usd[:, seen.symbols.index(each)].tolist()} for each in shown}


def _look(book: Book) -> Account:
    return Account(
        equity_usd=book.equity_usd(),
        last_equity_usd=book.last_equity_usd,
        cash_usd=book.cash_usd,
        buying_power_usd=book.cash_usd,
        flows_usd=0.0,
    )


def _forecast(seen: _Table, symbol: str) -> Forecast:
    usd = seen.usd[:, seen.symbols.index(symbol)].tolist()
    corners = range(0, HISTORY, HISTORY // CORNERS)
    return Forecast(
        symbol=symbol,
        time=seen.bars[-1],
        price_usd=usd[-1],
        trend_usd=sum(usd[-MEAN_BARS:]) / MEAN_BARS,
        line=tuple((seen.bars[each], usd[each]) for each in corners),
    )
