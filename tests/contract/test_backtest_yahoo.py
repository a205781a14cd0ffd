"""A backtest on Yahoo's prices: real requests over loopback, and the cache that avoids them the next time."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from yfinance.data import SingletonMeta

from lambda_function import run
from scripts.backtest import cutting, prices
from scripts.backtest.cutting import CuttableCache
from scripts.backtest.engine import backtest
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.backtest.slot_cutting import CuttableSlots
from scripts.backtest.yahoo_cache import Cache, final_until
from scripts.data.members import Members, Stay
from scripts.testkit.yahoo import Fault, Listing, YahooFake
from tests.builders import settings
from trader.model import NEW_YORK
from trader.prices.base import PriceSourceError
from trader.prices.file import FilePrices
from trader.prices.yahoo import Patience

NOW = datetime(2025, 6, 18, 22, tzinfo=UTC)  # Wednesday, two hours after the close
DURING = datetime(2025, 6, 18, 19, 30, tzinfo=UTC)  # half an hour before the close
TODAY, YESTERDAY = date(2025, 6, 18), date(2025, 6, 17)
NEXT_DAY = NOW + timedelta(days=2)  # the 19th is a holiday
QUICK = Patience(workers=4, attempts=2, backoff_s=0.01, timeout_s=5, deadline_s=20)


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[YahooFake]:
    SingletonMeta._instances.clear()  # each test starts without yfinance's connection, cookie and crumb
    listings = {
        "AAPL": Listing([200.0 + bar for bar in range(300)], DURING, shape=(0.99, 1.02, 0.98)),
        "KO": Listing([60.0] * 300, DURING),
        "BRK-B": Listing([500.0] * 300, DURING),
    }
    with YahooFake(listings) as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(folder=tmp_path / "yahoo", patience=QUICK)


def options(
    universe: str = "AAPL,KO", start: date | None = date(2025, 5, 1), end: date | None = None, **variables: Any
) -> Options:
    small = {"HISTORY_BARS": 30, "UNIVERSE_LOOKBACK_BARS": 5, "PRICE_SOURCES": "yahoo", "UNIVERSE": universe}
    return Options(settings=settings(**{**small, **variables}), start=start, end=end)


def load(cache: Cache, chosen: Options | None = None, now: datetime = NOW) -> Panel:
    return prices.load(chosen or options(), now=now, cache=cache)


def day(panel: Panel, bar: int) -> date:
    found: date = panel.close.index[bar].astimezone(NEW_YORK).date()
    return found


def charts(yahoo: YahooFake) -> dict[str, int]:
    return {symbol: count for symbol in yahoo.listings if (count := yahoo.charts(symbol))}


def test_all_four_prices_are_adjusted_and_end_at_what_was_paid(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.listings["AAPL"] = Listing(
        [100.0] * 298 + [94.0] * 2, DURING, shape=(0.99, 1.02, 0.98), dividends={YESTERDAY: 6.0}
    )
    panel = load(cache)
    for table, factor in ((panel.open, 0.99), (panel.high, 1.02), (panel.low, 0.98), (panel.close, 1.0)):
        assert table["AAPL"].to_numpy() == pytest.approx(94 * factor)
    assert panel.has_ohlc
    assert panel.source == "Yahoo's 1d bars, adjusted for splits and dividends"
    assert [note for note in panel.notes if note.symbol] == []


def test_before_the_close_of_an_ex_date_the_prices_end_at_what_was_paid_the_day_before(
    yahoo: YahooFake, cache: Cache
) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 299 + [94.0], DURING, dividends={TODAY: 6.0})
    assert load(cache, options("KO"), now=DURING).close["KO"].to_numpy() == pytest.approx(100.0)


def test_a_dividend_among_short_bars_is_no_fall(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 249 + [94.0] * 51, DURING, dividends={YESTERDAY: 6.0})
    panel = load(cache, options("KO", start=None, BAR_INTERVAL="15m"), now=NOW)
    assert panel.close["KO"].to_numpy() == pytest.approx(94.0)


def test_a_dividend_that_yahoo_takes_off_too_early_changes_nothing_but_the_notes(
    yahoo: YahooFake, cache: Cache
) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 300, DURING, adjusted=[100.0] * 299 + [95.0])
    for panel in (load(cache, options("KO")), load(cache, options("KO"))):  # from Yahoo, and from the cache
        assert set(panel.close["KO"]) == {100.0}
        (note,) = [note.what for note in panel.notes if note.symbol == "KO"]
        assert note.startswith("on 2025-06-18 Yahoo's adjusted close is lowered too early")


def test_splits_come_with_the_prices_from_yahoo_and_from_the_cache(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 290 + [40.0] * 10, DURING, splits={date(2025, 6, 4): (5, 2)})
    for panel in (load(cache, options("KO")), load(cache, options("KO"))):
        assert panel.splits == {"KO": {date(2025, 6, 4): 2.5}}
    assert yahoo.charts("KO") == 1


def test_prices_of_another_version_are_fetched_again(yahoo: YahooFake, cache: Cache) -> None:
    load(cache, options("KO"))
    path = cache.folder / "1d" / "KO.npz"
    with np.load(path) as file:
        parts = dict(file)
    parts["facts"] = np.array(str(parts["facts"]).replace('"version": 2', '"version": 1'))
    np.savez(path, **parts)
    load(cache, options("KO"))
    assert yahoo.charts("KO") == 2


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.SERVER_ERROR_JSON, Fault.UNAVAILABLE_JSON])
def test_a_refusal_of_yahoo_does_not_blame_the_universe(yahoo: YahooFake, cache: Cache, fault: Fault) -> None:
    yahoo.plan(fault)
    with pytest.raises(PriceSourceError, match=r"no prices for any symbol \(Yahoo answered \d{3} .*; try again later"):
        load(cache)


def test_bars_reach_from_the_history_before_start_to_end(yahoo: YahooFake, cache: Cache) -> None:
    panel = load(cache, options(end=date(2025, 6, 10)))
    assert day(panel, -1) == date(2025, 6, 10)
    assert len(panel.close.loc[: datetime(2025, 5, 1, 5, tzinfo=UTC)]) >= 30
    assert day(panel, 0) > date(2025, 3, 1)  # not everything that Yahoo has


def test_alpacas_spelling_is_requested_in_yahoos(yahoo: YahooFake, cache: Cache) -> None:
    assert list(load(cache, options("BRK.B,KO")).close.columns) == ["BRK.B", "KO"]


def test_a_second_backtest_requests_nothing_for_the_same_bars(yahoo: YahooFake, cache: Cache) -> None:
    first = load(cache)
    yahoo.requests.clear()
    second = load(cache)
    assert yahoo.requests == []
    for name in ("open", "high", "low", "close"):
        assert getattr(first, name).equals(getattr(second, name))
    assert first.notes == second.notes


def test_a_shorter_span_requests_nothing_and_ignores_other_bars(yahoo: YahooFake, cache: Cache, tmp_path: Path) -> None:
    load(cache, options(start=date(2025, 3, 3)))
    yahoo.requests.clear()
    shorter = options(start=date(2025, 5, 1), end=date(2025, 6, 2))
    panel = load(cache, shorter)
    assert yahoo.requests == []
    fresh = load(replace(cache, folder=tmp_path / "other"), shorter)
    assert panel.close.equals(fresh.close)


def test_only_a_new_symbol_is_requested(yahoo: YahooFake, cache: Cache) -> None:
    load(cache, options("KO"))
    yahoo.requests.clear()
    load(cache, options("KO,AAPL"))
    assert charts(yahoo) == {"AAPL": 1}


def test_an_earlier_start_is_fetched(yahoo: YahooFake, cache: Cache) -> None:
    load(cache)
    assert day(load(cache, options(start=date(2025, 2, 3))), 0) < date(2025, 1, 1)


def test_another_interval_has_its_own_file(yahoo: YahooFake, cache: Cache) -> None:
    load(cache, options("KO"))
    panel = load(cache, options("KO", start=date(2025, 6, 2), BAR_INTERVAL="1h"))
    assert panel.close.index[-1] == datetime(2025, 6, 18, 19, 30, tzinfo=UTC)
    assert {path.parent.name for path in cache.folder.rglob("*.npz")} == {"1d", "1h"}


def test_the_running_sessions_bar_is_neither_used_nor_kept(yahoo: YahooFake, cache: Cache) -> None:
    assert day(load(cache, now=DURING), -1) == YESTERDAY
    with np.load(cache.folder / "1d" / "KO.npz") as file:
        assert datetime.fromtimestamp(file["time_us"][-1] / 1e6, NEW_YORK).date() == YESTERDAY
    yahoo.requests.clear()
    assert day(load(cache, now=DURING + timedelta(minutes=10)), -1) == YESTERDAY
    assert yahoo.requests == []
    assert day(load(cache, now=NOW), -1) == TODAY
    assert charts(yahoo) == {"AAPL": 1, "KO": 1}


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2025-06-18T16:59:00-04:00", YESTERDAY),
        ("2025-06-18T17:00:00-04:00", TODAY),
        ("2025-06-20T09:00:00-04:00", TODAY),
        ("2025-06-22T12:00:00-04:00", date(2025, 6, 20)),
        ("2024-11-29T14:00:00-05:00", date(2024, 11, 29)),
    ],
)
def test_a_session_is_final_an_hour_after_its_close(now: str, last: date) -> None:
    assert final_until(datetime.fromisoformat(now)) == datetime.combine(
        last + timedelta(days=1), datetime.min.time(), NEW_YORK
    )


def test_old_bars_are_fetched_again_with_new_ones(yahoo: YahooFake, cache: Cache) -> None:
    early = load(cache, options("KO", start=date(2025, 3, 3)))
    later = datetime(2025, 6, 20, 19, 30, tzinfo=UTC)
    yahoo.listings["KO"] = Listing([30.0] * 302, later)  # after a split: all closes are halved
    load(cache, options("KO", start=date(2025, 6, 2)), now=NEXT_DAY)
    yahoo.requests.clear()
    panel = load(cache, options("KO", start=date(2025, 3, 3)), now=NEXT_DAY)
    assert yahoo.requests == []  # the later start has not removed the earlier bars from the cache
    assert day(panel, 0) == day(early, 0)
    assert set(panel.close["KO"]) == {30.0}


def test_a_missing_price_is_no_bar(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.listings["KO"] = Listing([60.0] * 298 + [None, 61.0], DURING)
    panel = load(cache)
    assert panel.close["KO"].iloc[-2:].isna().tolist() == [True, False]
    assert ("KO", "the bar of 2025-06-17 is missing") in [(note.symbol, note.what) for note in panel.notes]


@pytest.mark.parametrize(
    "shape", [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.95, 0.95), (1.0, 1.1, 1.1), (0.0, 0.95, 1.1)]
)
def test_impossible_opens_highs_and_lows_are_mended_with_a_note(
    yahoo: YahooFake, cache: Cache, shape: tuple[float, float, float]
) -> None:
    yahoo.listings["KO"] = Listing([60.0] * 300, DURING, shape=shape)
    panel = load(cache, options("KO"))
    open_usd, high_usd, low_usd = (table["KO"].iloc[-1] for table in (panel.open, panel.high, panel.low))
    assert open_usd == pytest.approx(60)
    assert low_usd <= open_usd <= high_usd
    (note,) = [note.what for note in panel.notes if note.symbol == "KO"]
    assert "bars have an open, high or low that is missing or does not fit, the first on 2025-" in note


def test_a_rounding_error_in_the_high_is_mended_without_a_note(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.listings["KO"] = Listing([60.0] * 300, DURING, shape=(1.0, 0.99995, 1.0))
    panel = load(cache, options("KO"))
    assert panel.high["KO"].iloc[-1] == pytest.approx(60)
    assert [note for note in panel.notes if note.symbol] == []


def test_a_symbol_without_prices_is_a_note_with_the_reason(yahoo: YahooFake, cache: Cache) -> None:
    panel = load(cache, options("KO,GONE"))
    assert list(panel.close.columns) == ["KO"]
    (note,) = [note for note in panel.notes if note.symbol == "GONE"]
    assert note.what.startswith("Yahoo returned no prices: ")
    assert "No data found, symbol may be delisted" in note.what


def test_having_no_prices_for_any_symbol_is_an_error(yahoo: YahooFake, cache: Cache) -> None:
    with pytest.raises(PriceSourceError, match=r"Yahoo has no prices for any symbol \(GONE: .*\); correct UNIVERSE"):
        load(cache, options("GONE,AWAY"))


def test_an_unreachable_yahoo_is_an_error(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.plan(Fault.HTML)
    with pytest.raises(PriceSourceError, match="no prices for any symbol"):
        load(cache)


def test_cached_prices_can_be_used_without_yahoo(yahoo: YahooFake, cache: Cache) -> None:
    load(cache, options("KO"))
    yahoo.plan(Fault.HTML)
    panel = load(cache, options("KO,AAPL"))
    assert list(panel.close.columns) == ["KO"]
    assert any(note.symbol == "AAPL" and "no prices for any symbol" in note.what for note in panel.notes)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_cut, id="truncated"),
        pytest.param(_change, id="one bit flipped"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("AAPL,KO\n1,2\n"), id="another program's file"),
        pytest.param(lambda path: path.with_name("AAPL.npz").replace(path), id="another symbol's file"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a folder"),
    ],
)
def test_a_damaged_cache_file_is_fetched_again_with_a_warning(
    yahoo: YahooFake, cache: Cache, caplog: pytest.LogCaptureFixture, spoil: Any
) -> None:
    load(cache)
    spoil(cache.folder / "1d" / "KO.npz")
    yahoo.requests.clear()
    panel = load(cache, options("KO"))
    assert charts(yahoo) == {"KO": 1}
    assert set(panel.close["KO"]) == {60.0}
    assert f"{cache.folder / '1d' / 'KO.npz'} cannot be used (" in caplog.messages[0]
    assert caplog.messages[0].endswith("KO is fetched again")


def test_only_complete_files_are_left(yahoo: YahooFake, cache: Cache) -> None:
    load(cache)
    assert {path.name for path in cache.folder.rglob("*") if path.is_file()} == {"AAPL.npz", "KO.npz"}


def test_prices_arrive_although_the_cache_cannot_be_written(
    yahoo: YahooFake, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.folder.write_text("a file where the folder should be")
    assert len(load(cache).close.columns) == 2
    assert [record.levelno for record in caplog.records if "cannot be saved" in record.message] == [logging.WARNING]


def test_a_start_after_the_last_session_is_refused_without_a_request(yahoo: YahooFake, cache: Cache) -> None:
    with pytest.raises(BacktestError, match="START=2025-06-19 is after the last finished session, 2025-06-18; "):
        load(cache, options(start=date(2025, 6, 19)))
    assert yahoo.requests == []


def test_no_more_is_requested_than_yahoo_keeps(yahoo: YahooFake, cache: Cache) -> None:
    load(cache, options("KO", start=None, BAR_INTERVAL="15m"))
    (request,) = [request for request in yahoo.requests if request.symbol]
    assert NOW.timestamp() - int(request.query["period1"]) <= 59 * 86_400


def test_cached_bars_are_cut_at_a_bar_without_a_request(yahoo: YahooFake, cache: Cache) -> None:
    whole = load(cache)
    before = charts(yahoo)
    cut = CuttableCache(options(), cache).load(whole.close.index[-4].to_pydatetime())
    assert cut.close.equals(whole.close.iloc[:-3])
    assert charts(yahoo) == before


def test_a_run_gets_the_cached_closes_up_to_a_bar(yahoo: YahooFake, cache: Cache, tmp_path: Path) -> None:
    whole = load(cache)
    at = whole.close.index[-4].to_pydatetime()
    file = Path(CuttableCache(options(), cache).settings_at(at, tmp_path)["PRICE_FILE"])
    found = FilePrices(file).bars().clean.tables["close"]
    assert found.index[-1] == at
    assert found.loc[whole.close.index[0] :].to_numpy().tolist() == whole.close.iloc[:-3].to_numpy().tolist()


def test_splits_after_a_bar_are_not_known_at_it(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 290 + [40.0] * 10, DURING, splits={date(2025, 6, 4): (5, 2)})
    load(cache, options("KO"))
    cuttable = CuttableCache(options("KO"), cache)
    before, after = (cuttable.load(datetime(2025, 6, day, 12, tzinfo=UTC)).splits for day in (3, 4))
    assert (before, after) == ({}, {"KO": {date(2025, 6, 4): 2.5}})


def test_of_an_index_all_members_of_the_span_are_requested(
    yahoo: YahooFake, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, joins, ends = date(1996, 1, 2), date(2025, 6, 2), date(2025, 6, 10)
    stays = (
        Stay("AAPL", joins),
        Stay("BRK.B", ends + timedelta(days=1)),
        Stay("FAILED", began, joins),
        Stay("KO", began, ends),
        Stay("LONGAGO", began, date(2025, 4, 1)),
    )
    monkeypatch.setattr(prices, "shipped", lambda: Members(stays))
    panel = load(cache, options("sp500", end=ends))
    assert charts(yahoo) == {"AAPL": 1, "KO": 1}
    assert list(panel.close.columns) == ["AAPL", "KO"]
    assert [note.symbol for note in panel.notes if "Yahoo returned no prices" in note.what] == ["FAILED"]
    assert panel.members is not None
    assert (panel.members.on(joins), panel.members.on(ends)) == (("AAPL", "KO"), ("AAPL",))


def test_of_an_index_the_cache_is_cut_too(yahoo: YahooFake, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    members = Members((Stay("AAPL", date(2025, 6, 2)), Stay("KO", date(1996, 1, 2), date(2025, 6, 17))))
    for module in (prices, cutting):
        monkeypatch.setattr(module, "shipped", lambda: members)
    panel = load(cache, options("sp500"))
    cut = CuttableCache(options("sp500"), cache).load(panel.close.index[-12].to_pydatetime())
    assert list(cut.close.columns) == ["AAPL", "KO"]
    assert cut.members is not None
    assert cut.members.on(date(2025, 6, 18)) == ("AAPL", "KO")  # that KO leaves on the 17th is not known yet


# --- slots within the day --------------------------------------------------------------------------------------------


def at_slots(universe: str = "KO", start: date | None = date(2025, 6, 12)) -> Options:
    return replace(options(universe, start=start), decide_every="15m")


def test_slots_have_yahoos_daily_bars_and_those_within_the_sessions(yahoo: YahooFake, cache: Cache) -> None:
    panel = load(cache, at_slots())
    assert panel.daily is not None
    count = 26 * 5 - 1  # the last bar begins half an hour before the close
    assert (panel.close.index[0], len(panel.close)) == (datetime(2025, 6, 12, 13, 30, tzinfo=UTC), count)
    assert (len(panel.daily.close) > 30, day(panel.daily, -1)) == (True, TODAY)
    assert panel.source.endswith("with Yahoo's 15m bars")


def test_slots_ask_yahoo_once_for_each_kind_of_bars(yahoo: YahooFake, cache: Cache) -> None:
    load(cache, at_slots())
    load(cache, at_slots())
    assert yahoo.charts("KO") == 2


def test_without_a_start_slots_begin_with_what_yahoo_keeps(yahoo: YahooFake, cache: Cache) -> None:
    yahoo.listings["KO"] = Listing([60.0] * 3_000, DURING)
    assert day(load(cache, at_slots(start=None)), 0) == date(2025, 4, 21)


def test_a_start_before_what_yahoo_keeps_is_refused(yahoo: YahooFake, cache: Cache) -> None:
    with pytest.raises(BacktestError, match=r"Yahoo keeps 15m bars for 59 days, so the first START is 2025-04-21"):
        load(cache, at_slots(start=date(2025, 4, 17)))


def test_bars_that_do_not_end_at_yahoos_daily_closes_are_refused(yahoo: YahooFake, cache: Cache) -> None:
    with pytest.raises(BacktestError, match=r"AAPL on .* not in one unit; .*, or delete out/cache/yahoo"):
        load(cache, at_slots("AAPL"))


def test_slots_cut_yahoos_cache_before_todays_daily_bar(yahoo: YahooFake, cache: Cache) -> None:
    load(cache, at_slots())
    at = datetime(2025, 6, 16, 15, 15, tzinfo=UTC)
    cut = CuttableSlots(at_slots(), cache, NOW).load(at)
    assert cut.daily is not None
    assert (cut.close.index[-1], day(cut.daily, -1)) == (at, date(2025, 6, 13))


def test_a_run_gets_todays_last_price_as_its_daily_close(yahoo: YahooFake, cache: Cache, tmp_path: Path) -> None:
    load(cache, at_slots())
    at = datetime(2025, 6, 16, 15, 15, tzinfo=UTC)
    file = Path(CuttableSlots(at_slots(), cache, NOW).settings_at(at, tmp_path)["PRICE_FILE"])
    assert FilePrices(file).last_bar().astimezone(NEW_YORK).date() == date(2025, 6, 16)


# --- volumes ---------------------------------------------------------------------------------------------------------

RULE = """
from trader.alpha.rule import Rule


class Mine(Rule):
    ohlcv = True

    def decide(self, view):
        for symbol, bars in view.bars.items():
            reason = f"high {bars['high'].iloc[-1]!r}, volume {bars['volume'].iloc[-1]!r}"
            yield view.judge(symbol, 0.0, reason=reason)
"""


@pytest.fixture
def on_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Return options for a rule that needs volumes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(RULE)
    return options(SIGNAL="mine.py")


def test_a_rule_that_needs_volumes_gets_them(yahoo: YahooFake, cache: Cache, on_bars: Options) -> None:
    panel = load(cache, on_bars)
    assert panel.volume is not None
    assert set(panel.volume["AAPL"]) == {1_000_000}
    again = load(cache, on_bars)
    assert again.volume is not None
    assert again.volume.equals(panel.volume)
    assert charts(yahoo) == {"AAPL": 1, "KO": 1}


def test_a_rule_on_closes_neither_reads_nor_keeps_volumes(yahoo: YahooFake, cache: Cache) -> None:
    assert load(cache).volume is None
    for file in cache.folder.rglob("*.npz"):
        assert sorted(np.load(file)) == ["facts", "prices_usd", "time_us"]


def test_a_cache_without_volumes_is_fetched_again_only_when_they_are_needed(
    yahoo: YahooFake, cache: Cache, on_bars: Options
) -> None:
    plain = load(cache)
    assert load(cache, on_bars).close.equals(plain.close)
    assert charts(yahoo) == {"AAPL": 2, "KO": 2}
    assert load(cache).volume is None
    assert charts(yahoo) == {"AAPL": 2, "KO": 2}


def test_what_has_volumes_is_fetched_again_with_them(yahoo: YahooFake, cache: Cache, on_bars: Options) -> None:
    load(cache, on_bars)
    load(cache, options(start=date(2025, 4, 1)))
    load(cache, replace(on_bars, start=date(2025, 4, 1)))
    assert charts(yahoo) == {"AAPL": 2, "KO": 2}


def test_a_run_decides_on_the_cached_bars_as_the_backtest_does(
    yahoo: YahooFake, cache: Cache, on_bars: Options, tmp_path: Path
) -> None:
    yahoo.listings["KO"] = Listing(
        [60.0] * 300, DURING, shape=(0.99, 1.02, 0.98), dividends={YESTERDAY: 1.0}, splits={YESTERDAY: (2, 1)}
    )
    panel = load(cache, on_bars)
    result = backtest(panel, on_bars)
    bar = result.bars[-4]
    known = CuttableCache(on_bars, cache).settings_at(bar.time, tmp_path)
    env = {"SIGNAL": "mine.py", "UNIVERSE": "AAPL,KO", "HISTORY_BARS": "30", "UNIVERSE_LOOKBACK_BARS": "5"}
    report = run({"time": bar.slot.isoformat()}, env={**env, **known, "MODE": "dry-run"})
    assert bar.decision
    assert {each["reason"] for each in report["insights"]} == {each.reason for each in bar.decision.insights}
    assert len(report["insights"]) == 2
