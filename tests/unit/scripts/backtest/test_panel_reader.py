"""The backtest's reader, which ranks all candidates at once, answers as the bot's own reader does, bar by bar."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.backtest.judged import judge
from scripts.backtest.model import Panel
from scripts.backtest.panel_prices import PanelPrices
from scripts.backtest.panel_reader import PanelReader, Ranks
from tests.backtest_results import panel
from trader.model import NEW_YORK, Closes
from trader.prices.base import Bars
from trader.prices.reader import Prices
from trader.schedule.slot import slot_of
from trader.stages import universe

LOOKBACK, COUNT, MAX_AGE_S = 4, 12, 4 * 86_400.0

type Columns = Mapping[str, Sequence[float]]


def made(columns: Columns) -> Panel:
    """Return a panel of sessions in a summer without a holiday: a note on a symbol would keep it from being plain."""
    bars = len(next(iter(columns.values())))
    return panel(columns, pd.bdate_range("2021-07-06", periods=bars))


def readers(prices: Panel, bar: datetime) -> tuple[Prices, Prices]:
    """Return the bot's own reader and the backtest's, as of a bar."""
    series = judge(prices, "1d").series
    source, now = PanelPrices(prices, series), slot_of(bar, "1d")
    source.at(bar)
    ranks = Ranks(series, pd.DatetimeIndex(prices.close.index), COUNT, LOOKBACK)
    return (
        Prices([source], now=now, count=COUNT, max_age_s=MAX_AGE_S),
        PanelReader(source, ranks, now=now, count=COUNT, max_age_s=MAX_AGE_S),
    )


def see(bars: Bars) -> tuple[object, ...]:
    ranking = universe.returns(bars.closes, LOOKBACK)
    closes = {symbol: (list(each.index), each.tolist()) for symbol, each in bars.closes.items()}
    counts = [universe.count_bars(bars.closes, symbol) for symbol in bars.closes]
    return ranking, list(ranking), closes, counts, bars.denials, list(bars.closes)


def assert_same(prices: Panel) -> None:
    symbols = [*prices.close.columns, "GONE"]
    for bar in pd.DatetimeIndex(prices.close.index).to_pydatetime().tolist():
        ordinary, ranked = readers(prices, bar)
        assert see(ranked.bars(symbols)) == see(ordinary.bars(symbols)), bar
        assert (ranked.symbols(), ranked.notes()) == (ordinary.symbols(), ordinary.notes()), bar


CALM = [100 + (bar * 7 % 5) / 10 for bar in range(40)]


def with_gap(begin: int, end: int) -> list[float]:
    return [math.nan if begin <= bar < end else usd for bar, usd in enumerate(CALM)]


@pytest.mark.parametrize(
    "usd",
    [
        pytest.param(CALM, id="a whole history"),
        pytest.param(with_gap(0, 25), id="listed late"),
        pytest.param(with_gap(20, 40), id="ended early"),
        pytest.param(with_gap(20, 22), id="a gap"),
        pytest.param(with_gap(15, 25), id="a gap that is too long"),
        pytest.param([*CALM[:20], *(usd / 4 for usd in CALM[20:])], id="a split that nobody adjusted for"),
        pytest.param([*CALM[:20], 1.0, *CALM[21:]], id="a wrong price"),
        pytest.param([*CALM[:20], 80.0, *CALM[21:]], id="a fall that comes back"),
        pytest.param([*CALM[:37], 25.0, 25.0, 25.0], id="a jump that is not confirmed"),
        pytest.param([*CALM[:20], -5.0, *CALM[21:]], id="an impossible price"),
        pytest.param([math.nan] * 40, id="no price at all"),
    ],
)
def test_each_symbol_is_seen_as_the_bot_sees_it(usd: Sequence[float]) -> None:
    assert_same(made({"PLAIN": CALM, "ODD": usd}))


def test_a_split_that_the_source_reports_is_seen_as_the_bot_sees_it() -> None:
    prices = made({"PLAIN": CALM, "ODD": [*CALM[:20], *(usd / 4 for usd in CALM[20:])]})
    assert_same(replace(prices, splits={"ODD": {prices.close.index[20].tz_convert(NEW_YORK).date(): 4.0}}))


PRICE = st.one_of(st.just(math.nan), st.floats(90, 110), st.sampled_from([25.0, 300.0, 1e-9, -1.0]))


@given(st.lists(st.lists(PRICE, min_size=24, max_size=24), min_size=1, max_size=3))
def test_any_prices_are_seen_as_the_bot_sees_them(columns: list[list[float]]) -> None:
    assert_same(made({f"S{number}": column for number, column in enumerate(columns)} | {"PLAIN": CALM[:24]}))


def test_candidates_are_ranked_without_reading_their_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = made({"A": CALM, "B": with_gap(0, 5)})
    read: list[str] = []

    def note(_: PanelPrices, symbols: Sequence[str], *more: object) -> Mapping[str, Closes]:
        read.extend(symbols)
        return {}

    monkeypatch.setattr(PanelPrices, "read", note)
    _, ranked = readers(prices, prices.close.index[-1].to_pydatetime())
    assert (list(universe.returns(ranked.bars(["A", "B"]).closes, LOOKBACK)), read) == (["A", "B"], [])


def test_a_later_bar_changes_nothing() -> None:
    whole = made({"A": CALM, "B": [*CALM[:30], *np.multiply(CALM[30:], 3.1)]})
    bar = whole.close.index[29].to_pydatetime()
    _, early = readers(whole.until(bar), bar)
    _, late = readers(whole, bar)
    assert see(early.bars(["A", "B"])) == see(late.bars(["A", "B"]))
