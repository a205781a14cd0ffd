"""A backtest's forecasts equal those that the bot would make at each bar, wherever and whenever they are computed."""

import math
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.backtest import forecasts
from scripts.backtest.compute import Table, Task, compute
from scripts.backtest.model import BacktestError, Options, Panel
from tests.builders import daily, settings
from trader.deadline import Deadline
from trader.model import Code, Denial, Engine, Forecast
from trader.wiring import make_forecaster

BARS = 130
HISTORY = 100  # for fewer bars, Prophet uses Stan's Newton, which takes ten times as long

BOTH = pytest.mark.parametrize("engine", [Engine.PROPHET, Engine.MAP])


def walk(seed: int, bars: int = BARS) -> list[float]:
    return list(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, bars))))


def panel(**columns: Sequence[float]) -> Panel:
    frame = pd.DataFrame({symbol: daily(prices, symbol=symbol) for symbol, prices in columns.items()})
    return Panel(open=frame, high=frame, low=frame, close=frame, has_ohlc=False, source="a test")


def options(**variables: object) -> Options:
    refit = variables.pop("REFIT_EVERY", 1)
    chosen = settings(**{"HISTORY_BARS": HISTORY, "UNIVERSE_LOOKBACK_BARS": 10, **variables})
    return Options(settings=chosen, refit_every_bars=int(str(refit)))


def times(prices: Panel, last: int) -> list[datetime]:
    return [each.to_pydatetime() for each in prices.close.index[-last:]]


def table(prices: Panel, chosen: Options, last: int) -> Table:
    merged: Table = {}
    for task in forecasts.tasks(prices, chosen, times(prices, last)):
        merged |= compute(task)
    return merged


def bots(prices: Panel, chosen: Options, symbol: str, at: datetime) -> Forecast | Denial:
    closes = prices.close[symbol].loc[:at].dropna()
    window = closes.iloc[-chosen.settings.history_bars :]
    made = make_forecaster(chosen.settings).forecast({symbol: window}, Deadline.never())
    (only,) = made.forecasts or made.denials
    return replace(only, line=()) if isinstance(only, Forecast) else only


def list_asked(task: Task) -> list[tuple[str, datetime]]:
    """Return the symbol and the bar of each forecast of a task."""
    return [(symbol, task.closes.index[row]) for symbol, bars in task.bars.items() for row, _ in bars]


class Here(Executor):
    """An executor that computes at once, in this process, and remembers its tasks."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given.append(args[0])
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


ONE, TWO = panel(A=walk(1)), panel(A=walk(1), B=walk(2))


@BOTH
@pytest.mark.parametrize("signal", ["trend", "interval"])
def test_each_forecast_is_the_one_that_the_bot_makes_at_that_bar(signal: str, engine: str) -> None:
    chosen = options(SIGNAL=signal, ENGINE=engine)
    made = table(TWO, chosen, 3)
    assert made == {(symbol, at): bots(TWO, chosen, symbol, at) for symbol in "AB" for at in times(TWO, 3)}


def test_consecutive_fits_equal_the_bots_single_fits() -> None:
    chosen = options(ENGINE=Engine.MAP)
    made = table(TWO, chosen, 25)
    assert made == {(symbol, at): bots(TWO, chosen, symbol, at) for symbol in "AB" for at in times(TWO, 25)}


@BOTH
def test_horizon_forecasts_equal_the_bots_on_every_weekday(engine: str) -> None:
    long = panel(A=walk(1, 110), B=walk(2, 110))
    chosen = options(SIGNAL="horizon", ENGINE=engine, HISTORY_BARS=100)
    made = table(long, chosen, 5)
    assert made == {(symbol, at): bots(long, chosen, symbol, at) for symbol in "AB" for at in times(long, 5)}


@BOTH
def test_forecasts_equal_the_bots_despite_gaps(engine: str) -> None:
    prices = walk(1)
    for gap in (70, 71, 95, 120):
        prices[gap] = math.nan
    gaps, chosen = panel(A=prices, B=walk(2)), options(ENGINE=engine, HISTORY_BARS=50)
    made = table(gaps, chosen, 3)
    assert made == {(symbol, at): bots(gaps, chosen, symbol, at) for symbol in "AB" for at in times(gaps, 3)}


@BOTH
def test_between_refits_forecasts_come_from_the_last_model(engine: str) -> None:
    chosen = options(REFIT_EVERY=3, ENGINE=engine)
    made = table(ONE, chosen, 6)
    anew = table(ONE, options(ENGINE=engine), 6)
    same = [made["A", at] == anew["A", at] for at in times(ONE, 6)]
    assert same == [True, False, False, True, False, False]


def test_between_refits_a_forecast_has_its_own_bars_price() -> None:
    made = table(ONE, options(REFIT_EVERY=3), 3)
    last = made["A", times(ONE, 1)[0]]
    assert isinstance(last, Forecast)
    assert last.price_usd == ONE.close["A"].iloc[-1]


@BOTH
def test_a_symbol_with_too_few_bars_is_denied(engine: str) -> None:
    young = panel(A=walk(1), NEW=[math.nan] * (BARS - 20) + walk(2, 20))
    denied = table(young, options(ENGINE=engine), 1)["NEW", times(young, 1)[0]]
    assert isinstance(denied, Denial)
    assert (denied.code, denied.detail) == (Code.FORECAST_FAILED, "20 bars; the forecast needs 30")


@BOTH
def test_a_failed_fit_becomes_a_denial_at_that_bar(engine: str) -> None:
    spoilt = walk(1)
    spoilt[-5] = math.inf
    denied = table(panel(A=spoilt), options(ENGINE=engine), 1)["A", times(TWO, 1)[0]]
    assert isinstance(denied, Denial)
    assert denied.code is Code.FORECAST_FAILED


def test_a_bar_without_a_price_has_no_forecast() -> None:
    prices = walk(1)
    prices[-2] = math.nan
    holed = panel(A=prices)
    assert [at for _, at in table(holed, options(), 3)] == [times(holed, 3)[0], times(holed, 3)[2]]


def test_only_likely_symbols_are_computed_ahead() -> None:
    rising, falling = [100 * 1.01**bar for bar in range(BARS)], [100 * 0.99**bar for bar in range(BARS)]
    prices = panel(UP=rising, DOWN=falling)
    tasks = forecasts.tasks(prices, options(UNIVERSE_SIZE=1), times(prices, 5))
    assert {symbol for task in tasks for symbol in task.bars} == {"UP"}


def test_settings_that_do_not_affect_forecasts_share_them() -> None:
    assert forecasts.key(options(SIGNAL_THRESHOLD_FRACTION=0.02)) == forecasts.key(options(UNIVERSE_SIZE=3))


def test_the_engines_share_no_forecasts() -> None:
    assert forecasts.key(options(ENGINE=Engine.MAP)) != forecasts.key(options(ENGINE=Engine.PROPHET))


@pytest.mark.parametrize("name", ["HISTORY_BARS", "REFIT_EVERY"])
def test_settings_that_affect_forecasts_do_not_share_them(name: str) -> None:
    assert forecasts.key(options(**{name: 40})) != forecasts.key(options())


def ask(table: forecasts.TableForecaster, prices: Panel, at: datetime) -> tuple[Forecast, ...]:
    closes = {symbol: prices.close[symbol].loc[:at].iloc[-HISTORY:] for symbol in prices.close.columns}
    return table.forecast(closes, Deadline.never()).forecasts


def test_a_known_forecast_is_not_computed_again() -> None:
    executor = Here()
    given = table(ONE, options(), 2)
    known = forecasts.TableForecaster(ONE, options(), times(ONE, 2), table=given, executor=executor)
    assert ask(known, ONE, times(ONE, 2)[0])[0] is given["A", times(ONE, 2)[0]]
    assert not any(bars for task in executor.given for bars in task.bars.values())


def test_a_forecast_is_known_until_a_later_one_is_taken() -> None:
    first, second = times(ONE, 2)
    known = forecasts.TableForecaster(ONE, options(), times(ONE, 2), table=table(ONE, options(), 2))
    again = [ask(known, ONE, at)[0] for at in (first, first, second)]  # the first is asked for in a gap, too
    assert again[0] is again[1]
    assert list(known._table) == [("A", second)]


def test_only_the_bars_of_a_block_that_are_not_known_are_computed() -> None:
    executor = Here()
    first, second = times(ONE, 2)
    known = forecasts.TableForecaster(ONE, options(), times(ONE, 2), table=table(ONE, options(), 2), executor=executor)
    del known._table["A", second]
    assert [each.time for at in (first, second) for each in ask(known, ONE, at)] == [first, second]
    (task,) = executor.given
    assert [task.closes.index[bar] for bar, _ in task.bars["A"]] == [second]


def test_with_an_executor_blocks_are_computed_ahead() -> None:
    executor = Here()
    known = forecasts.TableForecaster(ONE, options(), times(ONE, 30), executor=executor)
    ask(known, ONE, times(ONE, 30)[0])
    most = max(len(bars) for task in executor.given for bars in task.bars.values())
    assert most == forecasts.BLOCK_BARS[Engine.PROPHET]
    assert max(task.closes.index[-1] for task in executor.given) > times(ONE, 30)[0]


@BOTH
def test_no_forecast_is_computed_twice(engine: str) -> None:
    executor = Here()
    chosen = options(ENGINE=engine)
    known = forecasts.TableForecaster(TWO, chosen, times(TWO, 12), executor=executor)
    for at in times(TWO, 12):
        ask(known, TWO, at)
    given = [each for task in executor.given for each in list_asked(task)]
    assert sorted(given) == [(symbol, at) for symbol in "AB" for at in times(TWO, 12)]


def rising_for(bars: int, begin: int) -> list[float]:
    """Return prices that rise only from the bar `begin` on, for so many bars."""
    return [100 * 1.01 ** min(max(bar - begin, 0), bars) * 0.999**bar for bar in range(BARS)]


@pytest.mark.parametrize("engine", [Engine.PROPHET, Engine.MAP])
def test_a_symbol_is_computed_ahead_for_the_bars_at_which_it_is_among_the_best_and_some_after(engine: str) -> None:
    prices = panel(BRIEF=rising_for(3, 60), LONG=rising_for(BARS, 75))
    chosen = options(UNIVERSE_SIZE=1, ENGINE=engine)
    made = [
        at
        for task in forecasts.tasks(prices, chosen, times(prices, 70))
        for symbol, at in list_asked(task)
        if symbol == "BRIEF"
    ]
    gains = (prices.close / prices.close.shift(10) - 1).to_numpy()
    (best,) = np.nonzero(gains[60:, 0] > gains[60:, 1])
    end = 60 + int(best[-1]) + forecasts.AHEAD_BARS[chosen.settings.engine]
    assert made == list(prices.close.index[60 : end + 1])


def test_a_forecast_that_was_not_foreseen_is_made_with_those_of_the_next_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = panel(A=walk(1), DOWN=[100 * 0.99**bar for bar in range(BARS)])
    asked: list[int] = []

    def count(task: Task) -> Table:
        asked.append(sum(map(len, task.bars.values())))
        return compute(task)

    monkeypatch.setattr(forecasts, "compute", count)
    chosen = options(UNIVERSE_SIZE=1, ENGINE=Engine.MAP)
    known = forecasts.TableForecaster(prices, chosen, times(prices, 40), executor=Here())
    found = [each.symbol for at in times(prices, 40)[:10] for each in ask(known, prices, at)]
    assert found == ["A", "DOWN"] * 10
    assert asked[-1] == 1 + forecasts.AHEAD_BARS[Engine.MAP]
    assert asked.count(asked[-1]) == 1


def test_forecasts_of_the_map_engine_come_in_tasks_of_even_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "MAX_TOGETHER", 1)
    monkeypatch.setitem(forecasts.BLOCK_BARS, Engine.MAP, 20)
    many = panel(**{f"S{number}": walk(number) for number in range(4)})
    tasks = forecasts.tasks(many, options(ENGINE=Engine.MAP), times(many, 10))
    assert [len(list(list_asked(task))) for task in tasks] == [20, 20]


def test_an_unlikely_symbol_is_computed_on_demand() -> None:
    falling = [100 * 0.99**bar for bar in range(BARS)]
    prices = panel(A=walk(1), DOWN=falling)
    known = forecasts.TableForecaster(prices, options(UNIVERSE_SIZE=1), times(prices, 1))
    assert [each.symbol for each in ask(known, prices, times(prices, 1)[0])] == ["A", "DOWN"]


def test_a_forecast_from_other_prices_is_never_used() -> None:
    other = table(panel(A=walk(3), B=walk(4)), options(), 1)
    known = forecasts.TableForecaster(TWO, options(), times(TWO, 1), table=other)
    with pytest.raises(AssertionError, match="made from other prices"):
        ask(known, TWO, times(TWO, 1)[0])


def test_a_fault_of_the_machine_is_an_error_not_a_denial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = panel(AAA=walk(1))
    (task, *_) = forecasts.tasks(prices, options(), times(prices, 1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(BacktestError, match="the forecast of AAA could not be made: FileNotFoundError"):
        compute(task)
