"""The backtest's reader, which ranks all candidates at once, answers as the bot's own reader does, bar by bar."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

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
from trader.prices.base import Bars, count_bars, keep_last, last_bar, last_usd
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
    found = [list_known(bars.closes), list_known(keep_last(bars.closes, COUNT - 2))]
    return ranking, list(ranking), closes, found, bars.denials, list(bars.closes)


def list_known(closes: Mapping[str, Closes]) -> list[tuple[object, ...]]:
    """Return what can be known of closes without a look at them, and then the closes."""
    counts = [[count_bars(closes, symbol, time) for time in TIMES] for symbol in closes]
    known = [(each, count_bars(closes, each), last_bar(closes, each), last_usd(closes, each)) for each in closes]
    return [(*each, count, closes[each[0]].tolist()) for each, count in zip(known, counts, strict=True)]


def assert_same(prices: Panel) -> None:
    symbols = [*prices.close.columns, "GONE"]
    for bar in pd.DatetimeIndex(prices.close.index).to_pydatetime().tolist():
        ordinary, ranked = readers(prices, bar)
        assert see(ranked.bars(symbols)) == see(ordinary.bars(symbols)), bar
        assert (ranked.symbols(), ranked.notes()) == (ordinary.symbols(), ordinary.notes()), bar


CALM = [100 + (bar * 7 % 5) / 10 for bar in range(40)]


TIMES = [datetime(2021, 7, day, 4, minute, tzinfo=UTC) for day, minute in ((1, 0), (20, 0), (21, 1), (30, 0))]


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


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the symbols whose closes are read."""
    symbols: list[str] = []
    real = PanelPrices.read

    def note(prices: PanelPrices, wanted: Sequence[str], *more: Any) -> Mapping[str, object]:
        symbols.extend(wanted)
        return real(prices, wanted, *more)

    monkeypatch.setattr(PanelPrices, "read", note)
    return symbols


def test_candidates_are_ranked_without_reading_their_closes(read: list[str]) -> None:
    prices = made({"A": CALM, "B": with_gap(0, 5)})
    _, ranked = readers(prices, prices.close.index[-1].to_pydatetime())
    assert (list(universe.returns(ranked.bars(["A", "B"]).closes, LOOKBACK)), read) == (["A", "B"], [])


def test_closes_are_read_once_when_they_are_looked_at(read: list[str]) -> None:
    _, ranked = readers(whole := made({"A": CALM, "B": with_gap(0, 5)}), whole.close.index[-1].to_pydatetime())
    closes = keep_last(ranked.bars(["A", "B"]).closes, 3)
    assert [(last_usd(closes, each), count_bars(closes, each)) for each in closes] == [(CALM[-1], 3)] * 2
    assert read == []
    assert closes["B"] is closes["B"]
    assert (closes["B"].tolist(), read) == (CALM[-3:], ["B"])
    assert [id(each) for each in closes.values()] == [id(each) for _, each in closes.items()]
    assert (closes["B"].tolist(), read) == (CALM[-3:], ["B", "A"])


def test_closes_end_at_their_bar_whenever_they_are_looked_at() -> None:
    whole = made({"A": CALM})
    early, late = (whole.close.index[each].to_pydatetime() for each in (20, 21))
    series = judge(whole, "1d").series
    source = PanelPrices(whole, series)
    source.at(early)
    ranks = Ranks(series, pd.DatetimeIndex(whole.close.index), COUNT, LOOKBACK)
    ranked = PanelReader(source, ranks, now=slot_of(late, "1d"), count=COUNT, max_age_s=MAX_AGE_S)
    closes = ranked.bars(["A"]).closes
    source.at(late)
    assert (closes["A"].index[-1], last_bar(closes, "A")) == (early, early)


def test_closes_cannot_be_written_to() -> None:
    whole = made({"A": CALM})
    _, ranked = readers(whole, whole.close.index[-1].to_pydatetime())
    closes = ranked.bars(["A"]).closes
    with pytest.raises(ValueError, match="read-only"):
        closes["A"].to_numpy()[-1] = 0.0
    closes["A"].iloc[-1] = 0.0  # a copy of its own
    assert (whole.close["A"].iloc[-1], last_usd(closes, "A")) == (CALM[-1], CALM[-1])


def test_what_is_not_there_cannot_be_known() -> None:
    _, ranked = readers(whole := made({"A": CALM}), whole.close.index[-1].to_pydatetime())
    closes = ranked.bars(["A"]).closes
    for look in (closes.__getitem__, *(partial(each, closes) for each in (count_bars, last_bar, last_usd))):
        with pytest.raises(KeyError):
            look("B")


def test_a_later_bar_changes_nothing() -> None:
    whole = made({"A": CALM, "B": [*CALM[:30], *np.multiply(CALM[30:], 3.1)]})
    bar = whole.close.index[29].to_pydatetime()
    _, early = readers(whole.until(bar), bar)
    _, late = readers(whole, bar)
    assert see(early.bars(["A", "B"])) == see(late.bars(["A", "B"]))
