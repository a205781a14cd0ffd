"""Members of the index by day in a backtest: on 21 December 2020, TSLA took the place of AIV."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.backtest import buy_and_hold, compare, prices
from scripts.backtest.engine import backtest
from scripts.backtest.membership import find_members, measure
from scripts.backtest.model import BacktestError, Options, Panel, Result
from scripts.data.members import Members, Stay
from scripts.lookahead.check import InProcess, check, run_whole
from tests import backtest_results
from tests.builders import settings
from trader.model import NEW_YORK, Side

CHANGE = date(2020, 12, 21)
FIRST, LAST = date(2020, 12, 7), date(2021, 1, 8)
SMALL = {
    "ENGINE": "map",
    "UNIVERSE": "sp500",
    "UNIVERSE_SIZE": "1",
    "UNIVERSE_LOOKBACK_BARS": "5",
    "HISTORY_BARS": "30",
    "SIGNAL_THRESHOLD_FRACTION": "0.001",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write closes of AAPL, which hardly moves, of AIV, which gains, and of TSLA, which gains most."""
    days = pd.bdate_range("2020-10-01", "2021-01-15").drop(["2020-11-26", "2020-12-25", "2021-01-01"])
    bars = np.arange(len(days))
    waves = 1 + 0.03 * np.sin(bars)
    closes = {"AAPL": 100 + 0 * bars, "AIV": 40 * 1.004**bars * waves, "TSLA": 200 * 1.01**bars * waves}
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    pd.DataFrame(closes, index=days.strftime("%Y-%m-%d")).round(2).to_csv(path, index_label="timestamp")
    return path


def options(file: Path, **variables: str) -> Options:
    chosen = settings(**{**SMALL, "PRICE_FILE": str(file), **variables})
    return Options(settings=chosen, start=FIRST, end=LAST)


@pytest.fixture(scope="module")
def result(file: Path) -> Result:
    return backtest(prices.load(options(file)), options(file))


def considered(result: Result) -> dict[date, set[str]]:
    """Return the symbols that the bot looked at on each day: the best candidate, and what it held."""
    return {
        bar.time.astimezone(NEW_YORK).date(): {each.symbol for each in bar.decision.forecasts}
        for bar in result.bars
        if bar.decision
    }


# --- candidates ----------------------------------------------------------------------------------------------------


def test_a_company_is_a_candidate_from_the_day_on_which_it_joins(result: Result) -> None:
    assert next(day for day, symbols in considered(result).items() if "TSLA" in symbols) == CHANGE


def test_a_company_that_left_is_no_candidate_although_it_has_prices(result: Result) -> None:
    bought = [fill for fill in result.fills if fill.symbol == "AIV" and fill.side is Side.BUY]
    assert bought
    assert all(fill.time.astimezone(NEW_YORK).date() <= CHANGE for fill in bought)  # decided the day before


def test_what_is_held_of_a_company_that_left_is_sold_by_the_rule(result: Result) -> None:
    at_change = next(bar for bar in result.bars if bar.time.astimezone(NEW_YORK).date() == CHANGE)
    assert "AIV" in at_change.positions
    assert "AIV" in considered(result)[CHANGE]
    assert "AIV" not in result.bars[-1].positions


def test_a_list_of_symbols_has_no_members(file: Path) -> None:
    listed = options(file, UNIVERSE="TSLA,AIV")
    again = backtest(prices.load(listed), listed)
    assert all("TSLA" in symbols for symbols in considered(again).values())
    assert measure(again) is None


def test_the_prices_are_those_of_all_that_were_members_in_the_span(file: Path) -> None:
    before, after = options(file), options(file)
    panel = prices.load(replace(before, end=date(2020, 12, 18)))
    assert list(panel.close.columns) == ["AAPL", "AIV"]
    assert panel.notes[0].what == (
        "prices.csv has prices for TSLA, which UNIVERSE=sp500 leaves out: no member of the index in this span"
    )
    assert list(prices.load(replace(after, start=CHANGE)).close.columns) == ["AAPL", "TSLA"]


def test_a_start_before_the_first_known_members_is_refused(file: Path) -> None:
    with pytest.raises(BacktestError, match="known from 1996-01-02 on, not for 1990-01-02; choose a later START, or"):
        prices.load(replace(options(file), start=date(1990, 1, 2)))


# --- the same live, and nothing from the future --------------------------------------------------------------------


def test_runs_on_the_same_days_have_the_same_members(file: Path) -> None:
    days = compare.compare(prices.load(options(file)), options(file))
    assert compare.is_same(days), [day.differences for day in days if day.differences]


def test_prices_that_end_before_a_change_give_the_same_decisions(file: Path) -> None:
    whole = run_whole(options(file))
    cuts = [bar.time for bar in whole.bars[:-1:3]]
    assert [cut for cut in check(options(file), whole, cuts, InProcess()) if cut.difference or cut.unread] == []


def test_members_from_the_future_are_noticed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_the_last(members: Members, _day: date) -> tuple[str, ...]:
        return tuple(stay.symbol for stay in members.stays if stay.left is None)

    monkeypatch.setattr(Members, "on", read_the_last)
    whole = run_whole(options(file))
    (cut,) = check(options(file), whole, [whole.bars[4].time], InProcess())
    assert cut.difference


# --- buy and hold, and the figures ---------------------------------------------------------------------------------

DAY_1, DAY_2, DAY_3 = date(2021, 1, 4), date(2021, 1, 5), date(2021, 1, 6)
NAN = float("nan")
MADE = Members(
    (
        Stay("AAA", DAY_1),
        Stay("BBB", DAY_1, DAY_2),
        Stay("CCC", DAY_3),
        Stay("NONE", DAY_2),
    )
)


def made(closes: Mapping[str, list[float]], **fields: Any) -> Panel:
    return backtest_results.panel(closes, members=MADE, **fields)


def test_buying_and_holding_buys_the_members_of_the_first_day() -> None:
    held = buy_and_hold.universe(backtest_results.result(made({name: [1, 2, 3] for name in ("AAA", "BBB", "CCC")})))
    assert held is not None
    assert held.symbols == ("AAA", "BBB")


def test_a_symbol_is_a_member_by_bar() -> None:
    panel = made({"AAA": [1, 1, 1], "BBB": [1, 1, 1], "CCC": [1, 1, 1]})
    assert find_members(panel).tolist() == [[True, True, False], [True, False, False], [True, False, True]]


def test_all_listed_symbols_are_members_at_every_bar() -> None:
    assert find_members(backtest_results.panel({"AAA": [1, 1]})).all()


def test_members_without_prices_are_counted_with_their_days() -> None:
    panel = made({"AAA": [1, 1, NAN], "BBB": [1, 1, 1], "CCC": [NAN, NAN, NAN]})
    assert measure(backtest_results.result(panel)) == {
        "members": 4,
        "unpriced_symbols": ["CCC", "NONE"],
        "member_days": 3 + 1 + 1 + 2,
        "unpriced_fraction": pytest.approx((1 + 1 + 2) / 7),
    }


def test_a_price_at_any_bar_of_a_day_is_a_price_of_the_day() -> None:
    times = pd.DatetimeIndex(["2021-01-04 10:00", "2021-01-04 11:00"])
    panel = backtest_results.panel({"AAA": [NAN, 1], "BBB": [1, NAN]}, times, members=MADE)
    found = measure(backtest_results.result(panel))
    assert found is not None
    assert (found["member_days"], found["unpriced_fraction"]) == (2, 0)
