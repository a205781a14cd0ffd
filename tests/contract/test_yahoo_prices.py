import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from yfinance.data import SingletonMeta

from scripts.testkit.yahoo import CRUMB, Fault, Listing, YahooFake
from trader.deadline import Deadline
from trader.model import Closes, Code
from trader.prices.base import Missing, PriceSourceError
from trader.prices.reader import Prices
from trader.prices.series import Series, UnusableError
from trader.prices.yahoo import GIVE_UP_AFTER, Patience, YahooPrices
from trader.progress import no_progress

NOW = datetime(2025, 6, 18, 19, 30, tzinfo=UTC)  # Wednesday, half an hour before the close
QUICK = Patience(workers=4, attempts=3, backoff_s=0.01, timeout_s=5, deadline_s=20)
IMPATIENT = Patience(workers=4, attempts=2, backoff_s=0.01, timeout_s=0.4, deadline_s=20)


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[YahooFake]:
    SingletonMeta._instances.clear()  # each test starts without yfinance's connection, cookie and crumb
    listings = {
        "AAPL": Listing([200 + bar for bar in range(300)], NOW),
        "KO": Listing([60.0, 61.0, 62.0], NOW),
        "BRK-B": Listing([500.0], NOW),
    }
    with YahooFake(listings) as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        yield fake


def read(
    *symbols: str, patience: Patience = QUICK, interval: str = "1d", count: int = 250, now: datetime = NOW
) -> Mapping[str, Series | Missing]:
    return YahooPrices(interval, patience).read(symbols, count, now, no_progress)


def ask(*symbols: str, **how: Any) -> Mapping[str, Closes]:
    return {symbol: found.closes for symbol, found in read(*symbols, **how).items() if isinstance(found, Series)}


def series(symbol: str, **how: Any) -> Series:
    found = read(symbol, **how)[symbol]
    assert isinstance(found, Series)
    return found


def reasons(*symbols: str, **how: Any) -> Mapping[str, str]:
    return {symbol: found.reason for symbol, found in read(*symbols, **how).items() if isinstance(found, Missing)}


def denials(*symbols: str) -> list[tuple[str, Code, str]]:
    bars = Prices([YahooPrices("1d", QUICK)], now=NOW, count=250, max_age_s=86_400).bars(symbols)
    return [(denial.symbol, denial.code, denial.detail) for denial in bars.denials]


def test_daily_bars_are_at_midnight_in_new_york(yahoo: YahooFake) -> None:
    closes = ask("KO")["KO"]
    assert closes.tolist() == [60, 61, 62]
    assert [time.isoformat() for time in closes.index] == [
        "2025-06-16T04:00:00+00:00",
        "2025-06-17T04:00:00+00:00",
        "2025-06-18T04:00:00+00:00",
    ]


def test_intraday_bars_keep_their_time(yahoo: YahooFake) -> None:
    closes = ask("KO", interval="15m")["KO"]
    assert closes.tolist() == [60, 61, 62]
    assert [time.strftime("%d %H:%M %Z") for time in closes.index] == ["18 19:00 UTC", "18 19:15 UTC", "18 19:30 UTC"]


def test_the_requested_number_of_bars_is_returned(yahoo: YahooFake) -> None:
    assert ask("AAPL", count=250)["AAPL"].tolist() == [200 + bar for bar in range(50, 300)]


def test_bars_after_now_are_left_out(yahoo: YahooFake) -> None:
    assert ask("KO", now=NOW - timedelta(days=1))["KO"].tolist() == [60, 61]


@pytest.mark.parametrize(
    ("interval", "count", "max_days"),
    [("1d", 250, 400), ("1d", 1000, 1500), ("1h", 9999, 729), ("15m", 9999, 59), ("5m", 9999, 59), ("1m", 9999, 7)],
)
def test_no_more_is_requested_than_needed_or_than_yahoo_keeps(
    yahoo: YahooFake, interval: str, count: int, max_days: int
) -> None:
    ask("KO", interval=interval, count=count)
    (request,) = [request for request in yahoo.requests if request.symbol]
    assert NOW.timestamp() - int(request.query["period1"]) <= max_days * 86_400


def test_a_share_class_is_requested_in_yahoos_spelling(yahoo: YahooFake) -> None:
    assert set(ask("BRK.B")) == {"BRK.B"}
    assert yahoo.charts("BRK-B") == 1


def test_one_request_is_made_for_each_symbol(yahoo: YahooFake) -> None:
    ask("AAPL", "KO", "BRK.B")
    assert [yahoo.charts(symbol) for symbol in ("AAPL", "KO", "BRK-B")] == [1, 1, 1]


def test_without_symbols_there_are_no_requests(yahoo: YahooFake) -> None:
    assert ask() == {}
    assert yahoo.requests == []


def test_progress_counts_the_symbols(yahoo: YahooFake) -> None:
    steps: list[tuple[str, int, int]] = []
    YahooPrices("1d", QUICK).read(["AAPL", "NONE"], 9, NOW, lambda work, done, total: steps.append((work, done, total)))
    assert steps == [("prices from Yahoo", 1, 2), ("prices from Yahoo", 2, 2)]


REFUSALS = {
    Fault.RATE_LIMITED: "Yahoo answered 429 Too Many Requests",
    Fault.RATE_LIMITED_JSON: "Yahoo answered 429 Too Many Requests",
    Fault.SERVER_ERROR: "Yahoo answered 500 Internal Server Error",
    Fault.SERVER_ERROR_JSON: "Yahoo answered 500 Internal Server Error: No server is available",
    Fault.BAD_GATEWAY: "Yahoo answered 502 Bad Gateway",
    Fault.UNAVAILABLE: "Yahoo answered 503 Service Unavailable",
    Fault.UNAVAILABLE_JSON: "Yahoo answered 503 Service Unavailable: Come back later",
    Fault.UNAUTHORIZED: "Yahoo answered 401 Unauthorized: Invalid Crumb",
    Fault.FORBIDDEN: "Yahoo answered 403 Forbidden",
    Fault.FORBIDDEN_JSON: "Yahoo answered 403 Forbidden: Access is denied",
    Fault.NO_PAGE: "Yahoo answered 404 Not Found",
    Fault.HTML: "Yahoo answered 200 OK, but not in JSON",
}


@pytest.mark.parametrize("fault", [*REFUSALS, Fault.DROP])
def test_a_passing_fault_is_survived(yahoo: YahooFake, fault: Fault) -> None:
    yahoo.plan(fault, on="KO", times=2)  # yfinance itself retries once after an error status
    assert ask("KO")["KO"].tolist() == [60, 61, 62]


def test_a_rate_limit_leads_to_another_attempt(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.RATE_LIMITED, on="KO", times=2)
    ask("KO")
    assert yahoo.charts("KO") == 3


def test_a_hanging_request_is_given_up_and_repeated(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.HANG, on="KO", times=1)
    start_s = perf_counter()
    assert ask("KO", patience=IMPATIENT)["KO"].tolist() == [60, 61, 62]
    assert perf_counter() - start_s < 5


def test_prices_arrive_despite_a_refused_crumb(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.RATE_LIMITED, on=CRUMB)
    assert set(ask("KO")) == {"KO"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        *REFUSALS.items(),
        (Fault.DROP, "no answer from Yahoo (ConnectionError: "),
        (Fault.MALFORMED, "Yahoo's answer has another form than its charts (KeyError: 'timestamp')"),
    ],
)
def test_a_lasting_fault_of_every_symbol_fails_the_source(yahoo: YahooFake, fault: Fault, reason: str) -> None:
    yahoo.plan(fault)
    with pytest.raises(PriceSourceError) as caught:
        ask("KO", "AAPL")
    assert str(caught.value).startswith(f"no prices for any symbol ({reason}")
    assert str(caught.value).endswith("); try again later, or add a source to PRICE_SOURCES")


@pytest.mark.parametrize("fault", REFUSALS)
def test_attempts_are_limited(yahoo: YahooFake, fault: Fault) -> None:
    yahoo.plan(fault)
    with pytest.raises(PriceSourceError):
        ask("KO")
    each = 1 if fault is Fault.HTML else 2  # yfinance itself repeats a request after an error status
    assert yahoo.charts("KO") == each * QUICK.attempts


def test_an_unreachable_yahoo_is_not_asked_for_every_symbol(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.HTML)
    with pytest.raises(PriceSourceError):
        ask(*(f"S{number}" for number in range(200)))
    assert len({request.symbol for request in yahoo.requests}) <= GIVE_UP_AFTER + 2 * QUICK.workers


def test_a_missing_connection_fails_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    SingletonMeta._instances.clear()
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(PriceSourceError, match="no prices for any symbol"):
        ask("KO", patience=IMPATIENT)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.MALFORMED])
def test_a_lasting_fault_of_one_symbol_leaves_out_only_that_one(yahoo: YahooFake, fault: Fault) -> None:
    yahoo.plan(fault, on="KO")
    assert set(ask("AAPL", "KO")) == {"AAPL"}


@pytest.mark.parametrize(("fault", "reason"), REFUSALS.items())
def test_a_refusal_of_one_symbol_is_its_reason(yahoo: YahooFake, fault: Fault, reason: str) -> None:
    yahoo.plan(fault, on="KO")
    assert denials("AAPL", "KO") == [("KO", Code.NO_PRICE_DATA, f"yahoo: {reason}")]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.NOT_FOUND, "No data found, symbol may be delisted"),
        (Fault.NO_DATA_THEN, "Data doesn't exist for startDate = 1, endDate = 2"),
        (Fault.EMPTY, "Yahoo has no data of this symbol"),
        (Fault.NO_BARS, "Yahoo has no bars of it in the requested time"),
    ],
)
def test_a_symbol_without_prices_has_yahoos_own_reason_and_no_retry(
    yahoo: YahooFake, fault: Fault, reason: str
) -> None:
    yahoo.plan(fault, on="KO")
    assert reasons("KO") == {"KO": reason}
    assert yahoo.charts("KO") <= 2  # one attempt by us; yfinance repeats a 404 with another cookie


def test_a_fault_of_some_symbols_is_not_blamed_on_those_that_yahoo_does_not_have(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.RATE_LIMITED, on="KO")
    with pytest.raises(PriceSourceError, match="Yahoo answered 429 Too Many Requests"):
        ask("KO", "GONE")


def test_sixteen_threads_keep_their_symbols_reasons_apart(yahoo: YahooFake) -> None:
    faults = dict(zip((f"S{number}" for number in range(60)), list(REFUSALS) * 5, strict=True))
    for symbol, fault in faults.items():
        yahoo.plan(fault, on=symbol)
    told = reasons("KO", *faults, patience=Patience(workers=16, attempts=1, backoff_s=0.01))
    assert told == {symbol: REFUSALS[fault] for symbol, fault in faults.items()}


def test_omitted_symbols_are_logged_with_the_reason(yahoo: YahooFake, caplog: pytest.LogCaptureFixture) -> None:
    ask("KO", "GONE")
    (record,) = caplog.records
    assert record.getMessage() == "Yahoo returned no prices for GONE"
    assert "No data found, symbol may be delisted" in record.__dict__["reasons"]["GONE"]


def test_prices_that_arrive_before_the_deadline_are_returned(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.HANG, on="KO")
    start_s = perf_counter()
    found = read("AAPL", "KO", patience=Patience(deadline_s=1))
    assert isinstance(found["AAPL"], Series)
    assert found["KO"] == Missing("no answer from Yahoo within 1 s")
    assert perf_counter() - start_s < 3


def test_yahoo_may_take_half_of_the_time_left(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.HANG, on="KO")
    source = YahooPrices("1d", Patience(deadline_s=20), deadline=Deadline(lambda: 2.0))
    start_s = perf_counter()
    found = source.read(["AAPL", "KO"], 250, NOW, no_progress)
    assert isinstance(found["AAPL"], Series)
    assert found["KO"] == Missing("no answer from Yahoo within 1 s")
    assert 0.9 < perf_counter() - start_s < 3


def test_each_call_reads_the_time_left_afresh(yahoo: YahooFake) -> None:
    left = iter([60.0, 0.0])
    source = YahooPrices("1d", QUICK, deadline=Deadline(lambda: next(left)))
    source.read(["KO"], 250, NOW, no_progress)
    with pytest.raises(PriceSourceError, match="no time left"):
        source.read(["AAPL"], 250, NOW, no_progress)
    assert (yahoo.charts("KO"), yahoo.charts("AAPL")) == (1, 0)


def test_a_missing_price_is_left_out_without_a_word(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, None, 62.0, None], NOW)
    found = series("KO")
    assert (found.closes.tolist(), found.notes) == ([60, 62], ())


@pytest.mark.parametrize("price", [0.0, -5.0, 0.005, 8e8])
def test_an_impossible_price_is_absent_with_a_note(yahoo: YahooFake, price: float) -> None:
    yahoo.listings["KO"] = Listing([60.0, 61.0, price], NOW)
    found = series("KO")
    assert found.closes.tolist() == [60, 61]
    assert any("a close that is impossible is left out" in note for note in found.notes)


def changes(series: Series) -> list[float]:
    closes = series.closes.to_numpy(float)
    return [round(change, 9) for change in (closes[1:] / closes[:-1] - 1).tolist()]


FLAT = [100.0] * 6
DAYS = [date(2025, 6, day) for day in (11, 12, 13, 16, 17, 18)]  # the sessions of the last six daily bars


def test_the_last_close_is_paid_and_those_before_are_adjusted_for_dividends(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([100.0, 100.0, 100.0, 94.0, 94.0, 94.0], NOW, dividends={DAYS[3]: 6.0})
    assert series("KO").closes.tolist() == pytest.approx([94.0] * 6, rel=1e-12)
    assert series("KO").closes.iloc[-1] == 94.0


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_dividend_that_yahoo_takes_off_too_early_changes_nothing(yahoo: YahooFake, rows: int) -> None:
    adjusted = [100.0] * (6 - rows) + [95.0] * rows
    yahoo.listings["KO"] = Listing(FLAT, NOW, adjusted=adjusted)
    found = series("KO")
    assert found.closes.tolist() == FLAT
    assert found.notes[0].startswith(f"on {DAYS[6 - rows]} ")
    assert found.notes[0].endswith("Yahoo's adjusted close is lowered too early, by a dividend to come; this is undone")


def test_a_close_without_an_adjusted_one_is_adjusted_like_the_one_before(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([100.0, 100.0, 100.0, 100.0], NOW, adjusted=[95.0, 95.0, None, 100.0])
    found = series("KO")
    assert found.closes.tolist() == pytest.approx([95.0, 95.0, 95.0, 100.0])
    assert found.notes == (
        "on 2025-06-17 Yahoo's adjusted close is missing or impossible; the close is adjusted like the one before",
    )


def test_an_adjusted_close_without_a_close_is_no_price(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([100.0, 101.0, None], NOW, adjusted=[100.0, 101.0, 102.0])
    found = series("KO")
    assert found.closes.tolist() == [100.0, 101.0]
    assert found.notes == ("on 2025-06-18 Yahoo has an adjusted close, but no close; it is left out",)


def test_daily_bars_without_adjusted_closes_are_adjusted_by_the_dividends(yahoo: YahooFake) -> None:
    closes = [100.0, 100.0, 100.0, 94.0, 94.0, 94.0]
    yahoo.listings["KO"] = Listing(closes, NOW, dividends={DAYS[3]: 6.0}, adjusted=())
    found = series("KO")
    assert found.closes.tolist() == pytest.approx([94.0] * 6)
    assert found.notes == ("Yahoo's answer lacks adjusted closes; the closes are adjusted by the dividends in it",)


def test_a_dividend_that_yahoos_adjusted_closes_still_lack_is_taken_off(yahoo: YahooFake) -> None:
    closes = [100.0, 100.0, 100.0, 100.0, 100.0, 94.0]
    yahoo.listings["KO"] = Listing(closes, NOW, dividends={DAYS[5]: 6.0}, adjusted=closes)
    found = series("KO")
    assert found.closes.tolist() == pytest.approx([94.0] * 6)
    assert found.notes == ("Yahoo's adjusted closes lack the dividend of 2025-06-18; the closes are adjusted for it",)


def test_a_run_in_the_past_ends_at_what_was_paid_then(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([100.0, 102.0, 96.0], NOW, dividends={DAYS[5]: 6.0})
    assert series("KO", now=NOW - timedelta(days=1)).closes.tolist() == pytest.approx([100.0, 102.0], rel=1e-12)


@pytest.mark.parametrize("interval", ["1h", "15m", "5m", "1m"])
def test_an_ex_date_among_short_bars_is_no_fall(yahoo: YahooFake, interval: str) -> None:
    at = {"1h": 7, "15m": 25, "5m": 73, "1m": 361}[interval]  # bars of June 18 so far
    yahoo.listings["KO"] = Listing([100.0] * 40 + [94.0] * at, NOW, dividends={DAYS[5]: 6.0})
    found = series("KO", interval=interval, count=1_000)
    assert set(changes(found)) == {0.0}
    assert found.closes.iloc[-1] == 94.0
    assert found.notes == ()


def test_short_bars_after_the_last_ex_date_are_as_they_were_paid(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 40 + [94.0] * 25, NOW, dividends={date(2025, 6, 19): 6.0})
    assert series("KO", interval="15m").closes.tolist() == [100.0] * 40 + [94.0] * 25


def test_a_funds_capital_gain_is_taken_off_once(yahoo: YahooFake) -> None:
    with_gain, gain = {DAYS[5]: 6.0}, {DAYS[5]: 4.0}
    yahoo.listings["KO"] = Listing([100.0] * 40 + [94.0] * 25, NOW, dividends=with_gain, capital_gains=gain)
    assert set(changes(series("KO", interval="15m"))) == {0.0}


@pytest.mark.parametrize("dividend", [-1.0, 100.0, 250.0])
def test_a_dividend_that_cannot_be_is_ignored_with_a_note(yahoo: YahooFake, dividend: float) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 65, NOW, dividends={DAYS[5]: dividend})
    found = series("KO", interval="15m")
    assert set(changes(found)) == {0.0}
    assert len(found.notes) == 1
    assert "dividend of 2025-06-18" in found.notes[0]


@pytest.mark.parametrize(("interval", "bars"), [("1d", 1), ("15m", 25)])
def test_a_split_that_yahoo_has_not_adjusted_for_is_refused_on_its_day(
    yahoo: YahooFake, interval: str, bars: int
) -> None:
    yahoo.listings["KO"] = Listing([100.0] * 60 + [24.9] * bars, NOW, splits={DAYS[5]: (4, 1)})
    with pytest.raises(UnusableError, match=r"4:1 split on 2025-06-18.*, from 100.00 to 24.90"):
        series("KO", interval=interval).require_usable(NOW, 86_400)


def test_a_split_that_yahoo_has_adjusted_for_is_nothing(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([25.0] * 60, NOW, splits={DAYS[4]: (4, 1)})
    assert len(series("KO").require_usable(NOW, 86_400)) == 60


def test_a_symbol_no_longer_traded_has_a_stale_price(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, 61.0], NOW - timedelta(days=7))
    assert [denial[:2] for denial in denials("KO", "AAPL")] == [("KO", Code.STALE_PRICE)]


def test_a_current_day_sent_twice_counts_once_at_its_last_price(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, 61.0, 62.0], NOW, running_day_twice=True)
    closes = series("KO")
    assert closes.closes.tolist() == [60, 61, 62]
    assert closes.notes == ()


def test_yfinance_neither_logs_nor_warns(
    yahoo: YahooFake,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    yahoo.plan(Fault.RATE_LIMITED, on=CRUMB)
    ask("AAPL", "GONE")
    assert capfd.readouterr() == ("", "")
    assert {record.name for record in caplog.records} == {"trader.prices.yahoo"}
    assert [str(warning.message) for warning in recwarn] == []


def test_a_fresh_process_works_and_leaves_no_file_at_home(yahoo: YahooFake, tmp_path: Path) -> None:
    program = """
import json, sys
from datetime import UTC, datetime
from trader.progress import no_progress
from trader.prices.yahoo import YahooPrices
imported = "yfinance" in sys.modules
now = datetime(2025, 6, 18, 19, 30, tzinfo=UTC)
closes = [YahooPrices("1d").read(["KO"], 9, now, no_progress)["KO"].closes.tolist() for _ in range(2)]
print(json.dumps([imported, *closes]))
"""
    environment = os.environ | yahoo.environment
    environment |= {"PYTHONPATH": "function", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": ""}
    answer = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == [False, [60, 61, 62], [60, 61, 62]]
    assert answer.stderr == ""
    assert list(tmp_path.rglob("*")) == []


# --- open, high, low and volume --------------------------------------------------------------------------------------


def read_whole(symbol: str) -> Series:
    found = YahooPrices("1d", QUICK, ohlcv=True).read([symbol], 250, NOW, no_progress)[symbol]
    assert isinstance(found, Series)
    return found


def test_whole_bars_come_with_the_same_request_and_the_same_closes(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, 61.0, 62.0], NOW, shape=(0.99, 1.02, 0.97))
    whole, plain = read_whole("KO"), series("KO")
    asked = [{**each.query, "period2": ""} for each in yahoo.requests if each.symbol]
    assert asked[0] == asked[1]
    assert whole.closes.equals(plain.closes)
    assert plain.fitted_ohlv() is None
    ohlv = whole.fitted_ohlv()
    assert ohlv is not None
    assert ohlv[-1].tolist() == pytest.approx([62 * 0.99, 62 * 1.02, 62 * 0.97, 1_000_000])


def test_a_dividend_and_a_split_move_all_prices_of_a_bar_alike(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing(
        [60.0] * 60, NOW, shape=(0.99, 1.02, 0.97), dividends={DAYS[4]: 3.0}, splits={DAYS[3]: (2, 1)}
    )
    whole = read_whole("KO")
    ohlv, closes = whole.fitted_ohlv(), whole.fitted().to_numpy()
    assert ohlv is not None
    assert closes[0] == pytest.approx(60 * 0.95)
    for column, factor in enumerate((0.99, 1.02, 0.97)):
        assert (ohlv[:, column] / closes).tolist() == pytest.approx([factor] * 60)
    assert set(ohlv[:, 3]) == {1_000_000}


def test_a_wrong_high_is_mended_with_a_note(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, 61.0], NOW, shape=(1.0, 0.9, 0.8))
    whole = read_whole("KO")
    ohlv = whole.fitted_ohlv()
    assert ohlv is not None
    assert ohlv[:, 1].tolist() == [60, 61]
    assert whole.notes[0].startswith("2 bars have an open, high or low that is missing or does not fit")
