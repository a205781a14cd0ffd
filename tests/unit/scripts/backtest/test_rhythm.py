"""A backtest at slots within the day sees, decides and fills as the deployed bot does at the same slots."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import nan
from pathlib import Path

import pandas as pd
import pytest

from scripts.backtest import prices, rhythm, statistics
from scripts.backtest.compare import compare, is_same
from scripts.backtest.engine import backtest
from scripts.backtest.model import BacktestError, Options, Panel, Result
from scripts.backtest.options import from_env
from scripts.backtest.panel_prices import SlotPrices
from scripts.backtest.slot_cutting import CuttableSlots
from scripts.lookahead.check import InProcess, run_cut, run_whole
from scripts.lookahead.leaks import LEAKS, planted
from scripts.lookahead.trace import trace
from scripts.sweep import sweep
from tests.unit.scripts.backtest.slots import (
    DAY,
    NEXT_DAY,
    bar_at,
    fills,
    lines,
    market,
    options,
    starts_of,
    wandering,
    write,
)
from trader.model import NEW_YORK, Code, Denial
from trader.prices.base import Missing
from trader.prices.chart import read_chart
from trader.prices.file import FilePrices
from trader.progress import no_progress

BELOW = 1.1
"""A trend line above the price, so that the price is below it and the rule wants to buy."""


def run(panel: Panel, chosen: Options | None = None, **multiples: dict[str, float]) -> Result:
    return backtest(panel, chosen or options(panel), table=lines(panel, **multiples))


def denials_at(result: Result, clock: str, day: date = DAY) -> list[Denial]:
    (bar,) = [each for each in result.bars if each.time == bar_at(clock, day)]
    return list(bar.decision.denials) if bar.decision else []


def status_at(result: Result, clock: str, day: date = DAY) -> str:
    (bar,) = [each for each in result.bars if each.time == bar_at(clock, day)]
    return str(bar.status)


def from_files(panel: Panel, folder: Path, **variables: str) -> Options:
    history, within = write(panel, folder)
    small = {"HISTORY_BARS": "30", "UNIVERSE_LOOKBACK_BARS": "5", "ENGINE": "map", "UNIVERSE": "AAPL,MSFT,XOM"}
    own = {"PRICE_FILE": str(history), "DECIDE_EVERY": "15m", "INTRADAY_FILE": str(within)}
    return from_env({**small, **own, **variables})


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_a_slot_sees_finished_sessions_and_the_last_price_of_this_one() -> None:
    panel = market(A=[[100, 101, 102]])
    seen = SlotPrices(panel).series_at("A", bar_at("10:00")).closes
    assert (seen.iloc[-1], len(seen)) == (101.0, 41)
    assert seen.index[-1].tz_convert(NEW_YORK).date() == DAY


def test_a_symbol_without_a_price_in_this_session_is_stale() -> None:
    panel = market(A=[[100, 101]], B=[[100, *[nan] * 25]])
    late = market(A=[[100, 101]], B=[[nan, nan, 102]])
    assert panel.daily is not None
    late = replace(late, daily=panel.daily)
    result = run(late, A={}, B={})
    assert [each.code for each in denials_at(result, "10:00") if each.symbol == "B"] == [Code.STALE_PRICE]
    assert [each.code for each in denials_at(result, "10:15") if each.symbol == "B"] != [Code.STALE_PRICE]


def test_at_each_slot_it_has_the_bars_that_a_run_reads_from_a_file_up_to_that_slot(tmp_path: Path) -> None:
    panel = wandering(2, NEXT_DAY)
    chosen = from_files(panel, tmp_path)
    loaded = prices.load(chosen)
    mine, cut = SlotPrices(loaded), CuttableSlots(chosen)
    for bar in [*starts_of(DAY)[:-1], *starts_of(NEXT_DAY)[:-1:5]]:
        slot = rhythm.slot_after(bar, "15m")
        file = FilePrices(Path(cut.settings_at(bar, tmp_path)["PRICE_FILE"]))
        theirs = file.read(["AAPL", "XOM"], 100, slot, no_progress)
        mine.at(bar)
        own = mine.read(["AAPL", "XOM"], 100, slot, no_progress)
        for symbol, series in theirs.items():
            here = own[symbol]
            assert not isinstance(series, Missing)
            assert not isinstance(here, Missing)
            assert here.closes.to_list() == series.closes.to_list()
            assert (here.closes.index == series.closes.index).all()


def test_at_a_slot_it_has_the_bars_that_yahoo_answers_at_that_time() -> None:
    panel = market(A=[[100, 101, 99.5]])
    slot = rhythm.slot_after(bar_at("10:15"), "15m")
    days = [each + timedelta(hours=14, minutes=30) for each in panel.daily.close.index[:-1]] if panel.daily else []
    closes = [100.0] * len(days)
    quote = {name: [*closes, 99.5] for name in ("open", "high", "low", "close")}
    answer = {
        "meta": {"exchangeTimezoneName": "America/New_York"},
        "timestamp": [*(int(each.timestamp()) for each in days), int(slot.timestamp())],
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": [*closes, 99.5]}]},
    }
    theirs = read_chart(answer, "1d", slot).closes()
    mine = SlotPrices(panel).series_at("A", bar_at("10:15")).closes
    assert mine.to_list() == theirs.to_list()
    assert (mine.index == theirs.index).all()


def test_each_decision_is_that_of_a_run_at_the_slot(tmp_path: Path) -> None:
    panel = wandering(2, NEXT_DAY)
    chosen = from_files(panel, tmp_path, SIGNAL_THRESHOLD_FRACTION="0.001", STOP_LOSS_FRACTION="0.01")
    days = compare(prices.load(chosen), chosen)
    assert is_same(days)
    assert len(days) == 52
    assert sum(each.orders for each in days) > 2


def test_forecasts_made_together_for_a_day_are_those_made_one_by_one(tmp_path: Path) -> None:
    chosen = from_files(wandering(1, DAY), tmp_path)
    panel = prices.load(chosen)
    assert backtest(panel, chosen, executor=InProcess()).bars == backtest(panel, chosen).bars


# --- what is done ----------------------------------------------------------------------------------------------------


def test_an_order_is_filled_at_the_opening_of_the_next_bar() -> None:
    result = run(market(A=[[100, 100, 101, 105]]), A={"10:15": BELOW})
    assert fills(result) == [("10:15", "A", "buy", 101.0)]


def test_after_a_stop_at_eleven_the_symbol_pauses_for_the_day() -> None:
    panel = market(A=[[100, 100, 100, 100, 100, 100, 96, 96, 96]])
    result = run(panel, A={"10:00": BELOW, "11:15": BELOW})
    assert fills(result) == [("10:00", "A", "buy", 100.0), ("11:00", "A", "stop-loss", pytest.approx(97.0))]
    assert [each.code for each in denials_at(result, "11:15")] == [Code.PAUSED]


def test_without_a_pause_the_next_slot_buys_again() -> None:
    panel = market(A=[[100, 100, 100, 100, 100, 100, 96, 96, 96]])
    result = run(panel, options(panel, PAUSE_AFTER_STOP_BARS=0), A={"10:00": BELOW, "11:15": BELOW})
    assert fills(result)[-1] == ("11:15", "A", "buy", 96.0)


def test_the_pause_ends_with_the_next_session() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100, 100, 96], [96]])
    result = run(panel, A={"10:00": BELOW, "+9:45": BELOW})
    assert [kind for _, _, kind, _ in fills(result)] == ["buy", "stop-loss", "buy"]


def test_the_daily_loss_counts_over_the_slots_of_a_day_and_not_over_the_next() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100, 100, 94], [94]], B=[[50], [50]])
    chosen = options(panel, MAX_POSITION_FRACTION=0.5, MAX_ORDER_USD=50_000, MAX_DAILY_LOSS_FRACTION=0.02)
    result = run(panel, chosen, A={"10:00": BELOW}, B={"11:30": BELOW, "+9:45": BELOW})
    assert [each.code for each in denials_at(result, "11:30")] == [Code.DAILY_LOSS_STOP]
    assert fills(result)[-1][1:3] == ("B", "buy")


def test_the_candidates_are_chosen_at_the_first_slot_of_a_day() -> None:
    panel = market(A=[[100, 102, 100]], B=[[100, 101, 130]])
    panel.close.iloc[0] = [102.0, 101.0]
    chosen = options(panel, UNIVERSE_SIZE=1)
    result = run(panel, chosen, A={}, B={})
    seen = {each.symbol for bar in result.bars if bar.decision for each in bar.decision.forecasts}
    assert seen == {"A"}


def test_with_daily_at_it_decides_at_that_slot_only() -> None:
    panel = market(A=[[100]])
    result = run(panel, options(panel, DAILY_AT="11:00"), A={"10:00": BELOW, "11:00": BELOW})
    assert [clock for clock, *_ in fills(result)] == ["11:00"]
    assert status_at(result, "10:00") == Code.NOT_DUE


def test_nothing_is_traded_at_the_close() -> None:
    result = run(market(A=[[100]]), A={"16:00": BELOW})
    assert status_at(result, "16:00") == Code.MARKET_CLOSED
    assert fills(result) == []


@pytest.mark.parametrize("clock", ["10:00", "12:30", "15:45"])
def test_no_decision_up_to_a_slot_depends_on_a_later_price(clock: str, tmp_path: Path) -> None:
    panel = wandering(1, DAY)
    cut = bar_at(clock)
    changed = panel.close.copy()
    changed.loc[changed.index > cut] *= 1.5
    other = replace(panel, open=changed, high=changed, low=changed, close=changed)
    chosen = replace(from_files(panel, tmp_path), start=DAY)
    one, two = (backtest(each, chosen, executor=InProcess()) for each in (replace(panel, open=panel.close), other))
    before = [bar for bar in one.bars if bar.time <= cut]
    assert any(bar.decision and bar.decision.forecasts for bar in before)
    assert [bar.decision for bar in before] == [bar.decision for bar in two.bars[: len(before)]]


@pytest.mark.parametrize("clock", ["9:45", "12:30", "16:00"])
def test_a_backtest_on_files_that_end_with_a_slot_is_the_same_up_to_it(clock: str, tmp_path: Path) -> None:
    chosen = replace(from_files(wandering(2, NEXT_DAY), tmp_path), start=DAY)
    whole = trace(run_whole(chosen))
    cut = run_cut(chosen, bar_at(clock))
    assert not isinstance(cut, str)
    assert cut == whole[: len(cut)]
    assert len(cut) == starts_of(DAY).index(bar_at(clock)) + 1


def test_a_slot_with_the_price_of_the_next_one_is_seen_in_files_that_end_with_it(tmp_path: Path) -> None:
    chosen = replace(from_files(wandering(2, NEXT_DAY), tmp_path), start=DAY)
    (leak,) = [each for each in LEAKS if each.at_slots and not each.of_ohlcv]
    with planted(leak):
        whole = trace(run_whole(chosen))
        cut = run_cut(chosen, bar_at("12:30"))
    assert not isinstance(cut, str)
    assert cut[-1] != whole[len(cut) - 1]


def test_leaks_of_a_day_at_once_are_not_planted_at_slots(tmp_path: Path) -> None:
    chosen = from_files(wandering(1, DAY), tmp_path)
    once = rhythm.by_day_options(chosen)
    assert {each.is_of(chosen) for each in LEAKS if each.at_slots is not None} == {True, False}
    assert not any(each.is_of(once) for each in LEAKS if each.at_slots)


def test_a_sweep_refuses_slots(tmp_path: Path) -> None:
    chosen = from_files(wandering(1, DAY), tmp_path)
    with pytest.raises(BacktestError, match="DECIDE_EVERY=15m: a sweep decides once a day"):
        sweep.span(prices.load(chosen), [chosen])


# --- the calendar ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "count", "last_slot"),
    [
        (date(2022, 11, 4), 26, "20:00"),  # summer time
        (date(2022, 11, 7), 26, "21:00"),  # winter time
        (date(2022, 11, 25), 14, "18:00"),  # closes at 13:00
    ],
)
def test_slots_follow_the_sessions_hours(day: date, count: int, last_slot: str) -> None:
    bars = starts_of(day)
    assert (len(bars), f"{rhythm.slot_after(bars[-1], '15m'):%H:%M}") == (count, last_slot)


def test_on_a_short_day_the_last_decision_is_a_quarter_of_an_hour_before_the_early_close() -> None:
    friday = date(2022, 11, 25)
    result = run(market((friday,), A=[[100]]), A={})
    traded = [bar.slot for bar in result.bars if bar.status != Code.MARKET_CLOSED]
    assert f"{traded[-1].astimezone(NEW_YORK):%H:%M}" == "12:45"


def test_an_hourly_bar_that_is_cut_off_by_the_close_ends_with_it() -> None:
    last = starts_of(DAY, "1h")[-1]
    assert rhythm.slot_after(last, "1h").astimezone(NEW_YORK).hour == 16


def test_the_forecasts_to_come_are_counted() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100], [100]], B=[[100], [100]])
    chosen = options(panel)
    assert rhythm.count_forecasts(rhythm.span(panel, chosen), chosen) == 2 * 25 * 2


# --- loading ---------------------------------------------------------------------------------------------------------


def test_the_first_day_has_enough_history_before_it(tmp_path: Path) -> None:
    chosen = from_files(wandering(3, NEXT_DAY), tmp_path, HISTORY_BARS="42")
    assert rhythm.span(prices.load(chosen), chosen)[0].astimezone(NEW_YORK).date() == DAY


def test_a_start_without_enough_history_is_refused_with_the_first_that_works(tmp_path: Path) -> None:
    chosen = from_files(wandering(3, NEXT_DAY), tmp_path, HISTORY_BARS="42", START="2022-12-13")
    with pytest.raises(BacktestError, match="the first START that works is 2022-12-14"):
        prices.load(chosen)


def test_too_little_history_is_named(tmp_path: Path) -> None:
    chosen = from_files(wandering(1, DAY), tmp_path, HISTORY_BARS="400")
    with pytest.raises(BacktestError, match="400 daily bars up to the running session are needed"):
        prices.load(chosen)


def test_the_last_bar_of_a_session_ends_at_the_daily_close() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100], [100]])
    assert panel.daily is not None
    panel.daily.close.iloc[-2] = 100.5
    close = rhythm.end_at_daily_closes(panel, "15m").close["A"]
    assert close.loc[bar_at("15:45") : bar_at("16:00")].to_list() == [100.0, 100.5]


def test_prices_in_another_unit_than_the_history_are_refused(tmp_path: Path) -> None:
    panel = wandering(2, NEXT_DAY)
    assert panel.daily is not None
    panel.daily.close["XOM"] *= 0.99  # adjusted for a dividend that the bars are not adjusted for
    with pytest.raises(BacktestError, match=r"XOM on 2022-12-1\d: the daily close is .* not in one unit"):
        prices.load(from_files(panel, tmp_path))


def test_bars_named_by_their_ends_are_refused(tmp_path: Path) -> None:
    panel = wandering(1, DAY)
    hourly = replace(panel, close=panel.close.set_axis(panel.close.index + pd.Timedelta(minutes=5)))
    with pytest.raises(BacktestError, match="a bar begins at 09:35"):
        prices.load(from_files(hourly, tmp_path))


def test_bars_of_another_length_are_refused(tmp_path: Path) -> None:
    panel = wandering(1, DAY)
    with pytest.raises(
        BacktestError, match=r"INTRADAY_FILE: .*15-minute bars, but DECIDE_EVERY=5m; set DECIDE_EVERY=15m"
    ):
        prices.load(from_files(panel, tmp_path, DECIDE_EVERY="5m"))


def test_a_file_of_daily_bars_is_refused(tmp_path: Path) -> None:
    chosen = from_files(wandering(1, DAY), tmp_path)
    wrong = replace(chosen, intraday_file=chosen.settings.price_file)
    with pytest.raises(BacktestError, match="daily bars, but DECIDE_EVERY=15m; use a file of shorter bars"):
        prices.load(wrong)


def test_a_missing_file_is_named_by_its_own_setting(tmp_path: Path) -> None:
    chosen = replace(from_files(wandering(1, DAY), tmp_path), intraday_file="no.csv")
    with pytest.raises(BacktestError, match=r"no\.csv: .*set INTRADAY_FILE to a file of prices"):
        prices.load(chosen)


def test_a_file_without_the_universe_is_refused(tmp_path: Path) -> None:
    chosen = from_files(wandering(1, DAY), tmp_path)
    other = tmp_path / "other.csv"
    other.write_text(Path(chosen.intraday_file).read_text().replace("AAPL,MSFT,XOM", "KO,PEP,JNJ"))
    with pytest.raises(BacktestError, match="no prices of AAPL, MSFT, XOM"):
        prices.load(replace(chosen, intraday_file=str(other)))


def test_sessions_and_slots_without_bars_are_noted(tmp_path: Path) -> None:
    panel = wandering(3, NEXT_DAY)
    kept = panel.close.index.tz_convert(NEW_YORK).date != DAY  # type: ignore[attr-defined]
    kept[3] = False
    chosen = from_files(replace(panel, close=panel.close[kept]), tmp_path)
    said = " ".join(note.what for note in prices.load(chosen).notes)
    assert "no bar within 1 session, the first on 2022-12-14" in said
    assert "1 slot of 1 session without a bar of any symbol, the first on 2022-12-13" in said


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_accounts_figures_have_a_value_for_each_session() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100, 100, 100, 104], [104, 110]])
    result = run(panel, A={"10:00": BELOW})
    found = statistics.figures(result)
    by_day = [bar.equity_usd for bar in result.bars if bar.status == Code.MARKET_CLOSED]
    assert found["curve"]["equity_usd"] == by_day
    assert (found["data"]["bars"], found["data"]["bar_interval"]) == (2, "1d")
    assert json.dumps(found, allow_nan=False)


def test_buying_and_holding_begins_at_the_first_sessions_close() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100, 104], [104, 130]])
    found = statistics.figures(run(panel, A={}))
    assert found["curve"]["buy_and_hold_usd"] == pytest.approx([100_000, 125_000])


def test_trades_keep_the_time_of_day_and_are_held_for_sessions() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100], [100, 90]])
    (trade,) = statistics.figures(run(panel, A={"10:00": BELOW}))["trades"]
    assert (trade["entry_time"], trade["bars_held"]) == ("2022-12-14T15:00:00Z", 1)


def test_a_session_that_has_not_ended_ends_with_its_last_price() -> None:
    panel = market((DAY, NEXT_DAY), A=[[100], [100, 101]])
    assert panel.daily is not None
    begun = panel.until(bar_at("10:00", NEXT_DAY))
    known = panel.daily.until(bar_at("10:00", DAY))
    running = replace(begun, daily=known)
    result = replace(run(panel, A={}), panel=running)
    assert rhythm.by_day(result).panel.close["A"].iloc[-1] == 101.0


def test_without_slots_a_backtest_is_its_own_view_by_day() -> None:
    panel = market(A=[[100]])
    result = run(panel, A={})
    once = replace(result, options=rhythm.by_day_options(result.options))
    assert rhythm.by_day(once) is once
    assert rhythm.days_of([datetime(2022, 12, 14, tzinfo=UTC)], once.options) == (datetime(2022, 12, 14, tzinfo=UTC),)
