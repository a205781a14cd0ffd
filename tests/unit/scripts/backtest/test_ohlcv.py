"""Open, high, low and volume at slots within the day: the running session's bar is that of its bars so far."""

from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.backtest import prices, rhythm
from scripts.backtest.compare import compare, is_same
from scripts.backtest.engine import backtest
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.backtest.options import from_env
from scripts.backtest.panel_prices import SlotPrices
from scripts.lookahead.check import InProcess, check, run_cut, run_whole
from scripts.lookahead.leaks import LEAKS, planted
from scripts.lookahead.trace import trace
from tests.unit.scripts.backtest.slots import DAY, NEXT_DAY, bar_at, market, starts_of, wandering
from trader.model import NEW_YORK
from trader.prices.bars import PRICES

RULE = """
from trader.alpha.rule import Rule


class Mine(Rule):
    ohlcv = True
    bars = 20

    def decide(self, view):
        for symbol, bars in view.bars.items():
            today = bars.iloc[-1]
            place = (today["close"] - today["low"]) / (today["high"] - today["low"] or 1.0)
            reason = f"of {today['open']!r} to {today['high']!r} and {today['low']!r}, {today['volume']!r} shares"
            yield view.judge(symbol, place, up=place > 0.8, down=place < 0.2, reason=reason)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a rule on the place of the price within the session's range into an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(RULE)
    return tmp_path


def with_volume(panel: Panel) -> Panel:
    """Return a panel whose bars have volumes: each bar of a session one share more than the one before."""
    assert panel.daily is not None
    counts = panel.close.groupby(pd.DatetimeIndex(panel.close.index).normalize()).cumcount() + 1
    within = panel.close.notna().mul(counts, axis=0).where(panel.close.notna()).astype(float)
    daily = replace(panel.daily, has_ohlc=True, volume=panel.daily.close * 0 + 1_000)
    return replace(panel, volume=within, daily=daily)


def running(panel: Panel, clock: str) -> list[float]:
    """Return the running session's open, high, low, volume and close at a slot."""
    series = SlotPrices(panel).series_at("A", bar_at(clock))
    ohlv = series.fitted_ohlv()
    assert ohlv is not None
    assert len(ohlv) == len(series)
    return [*ohlv[-1].tolist(), float(series.closes.iloc[-1])]


def test_the_running_sessions_bar_is_made_of_its_bars_so_far() -> None:
    panel = with_volume(market(A=[[100, 105, 101, 90, 103]]))
    assert running(panel, "10:00") == [100, 105, 100, 3, 105]
    assert running(panel, "10:15") == [100, 105, 100, 6, 101]
    assert running(panel, "10:30") == [100, 105, 90, 10, 90]


def test_a_gap_keeps_what_was_known() -> None:
    panel = with_volume(market(A=[[100, 105, nan, 90]]))
    assert running(panel, "10:15") == running(panel, "10:00") == [100, 105, 100, 3, 105]
    assert running(panel, "10:30") == [100, 105, 90, 7, 90]


def test_a_volume_is_missing_until_a_bar_has_one() -> None:
    panel = with_volume(market(A=[[100, 105, 101]]))
    assert panel.volume is not None
    panel.volume.iloc[0] = nan
    assert np.isnan(running(panel, "09:45")[3])
    assert running(panel, "10:15")[3] == 5


def test_a_session_before_the_symbols_first_price_of_the_day_ends_with_yesterday() -> None:
    late, known = with_volume(market(A=[[nan, 105, 101]])), with_volume(market(A=[[100, 105]]))
    panel = replace(late, daily=known.daily)
    series = SlotPrices(panel).series_at("A", bar_at("09:45"))
    ohlv = series.fitted_ohlv()
    assert ohlv is not None
    assert len(ohlv) == len(series)
    assert ohlv[-1, 3] == 1_000


def test_a_history_with_volumes_and_bars_without_are_closes_only() -> None:
    panel = replace(with_volume(market(A=[[100, 105]])), volume=None)
    assert SlotPrices(panel).series_at("A", bar_at("10:00")).describe_lack() == "closes only"


# --- from files ------------------------------------------------------------------------------------------------------


def write_long(path: Path, panel: Panel, *, is_daily: bool) -> None:
    assert panel.volume is not None
    parts = []
    for symbol in panel.close.columns:
        table = pd.DataFrame({name: getattr(panel, name)[symbol] for name in (*PRICES, "volume")})
        times = [(each.astimezone(NEW_YORK).date() if is_daily else each).isoformat() for each in table.index]
        parts.append(table.set_axis(pd.Index(times, name="timestamp")).assign(symbol=symbol))
    pd.concat(parts).dropna(subset="close").to_csv(path)


def from_files(folder: Path, days: int = 2, **variables: str) -> Options:
    panel = with_volume(wandering(days, NEXT_DAY))
    assert panel.daily is not None
    close = panel.daily.close
    daily = replace(panel.daily, open=close.shift(1).fillna(close), high=close * 1.02, low=close * 0.97)
    write_long(folder / "daily.csv", daily, is_daily=True)
    write_long(folder / "within.csv", panel, is_daily=False)
    small = {"HISTORY_BARS": "30", "UNIVERSE_LOOKBACK_BARS": "5", "UNIVERSE": "AAPL,MSFT,XOM", "SIGNAL": "mine.py"}
    files = {"PRICE_FILE": str(folder / "daily.csv"), "INTRADAY_FILE": str(folder / "within.csv")}
    return from_env({**small, **files, "DECIDE_EVERY": "15m", "STOP_LOSS_FRACTION": "0.01", **variables})


def test_each_decision_on_bars_is_that_of_a_run_at_the_slot(folder: Path) -> None:
    chosen = from_files(folder)
    days = compare(prices.load(chosen), chosen)
    assert is_same(days)
    assert len(days) == 52
    assert sum(each.orders for each in days) > 2


def test_no_later_bar_is_seen(folder: Path) -> None:
    chosen = replace(from_files(folder), start=DAY)
    whole = run_whole(chosen)
    assert any(bar.decision and bar.decision.insights for bar in whole.bars)
    cuts = [bar_at("09:45"), bar_at("12:30"), bar_at("16:00"), bar_at("11:15", NEXT_DAY)]
    assert [each for each in check(chosen, whole, cuts, InProcess()) if each.difference or each.unread] == []


def test_a_slot_with_the_whole_sessions_range_is_seen_in_files_that_end_with_it(folder: Path) -> None:
    chosen = replace(from_files(folder), start=DAY)
    (leak,) = [each for each in LEAKS if each.at_slots and each.of_ohlcv]
    assert leak.is_of(chosen)
    assert not leak.is_of(rhythm.by_day_options(chosen))
    with planted(leak):
        whole = trace(run_whole(chosen))
        cut = run_cut(chosen, bar_at("12:30"))
    assert not isinstance(cut, str)
    assert cut[-1] != whole[len(cut) - 1]


def test_the_last_decision_of_a_day_knows_all_bars_but_the_last(folder: Path) -> None:
    chosen = replace(from_files(folder), start=DAY)
    panel = prices.load(chosen)
    (bar,) = [each for each in backtest(panel, chosen).bars if each.time == bar_at("15:45")]
    assert bar.decision
    count = len(starts_of(DAY)) - 1
    volume = np.float64(count * (count + 1) / 2)
    assert bar.decision.insights
    assert all(each.reason.endswith(f" {volume!r} shares") for each in bar.decision.insights)


def test_bars_within_the_sessions_without_volumes_are_refused(folder: Path) -> None:
    chosen = from_files(folder)
    table = pd.read_csv("within.csv").drop(columns="volume")
    table.to_csv("within.csv", index=False)
    with pytest.raises(BacktestError, match=r"no volume, but SIGNAL=mine.py needs .*; set INTRADAY_FILE to a file"):
        prices.load(chosen)
