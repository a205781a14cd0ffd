import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import pytest
from yfinance.data import SingletonMeta

from scripts.testkit.yahoo import CRUMB, Fault, Listing, YahooFake
from trader.deadline import Deadline
from trader.model import Closes, Code
from trader.prices.base import PriceSourceError
from trader.prices.reader import Prices
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


def ask(
    *symbols: str, patience: Patience = QUICK, interval: str = "1d", count: int = 250, now: datetime = NOW
) -> Mapping[str, Closes]:
    return YahooPrices(interval, patience).closes(symbols, count, now, no_progress)


def test_daily_bars_are_adjusted_closes_at_midnight_in_new_york(yahoo: YahooFake) -> None:
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
    YahooPrices("1d", QUICK).closes(
        ["AAPL", "NONE"], 9, NOW, lambda work, done, total: steps.append((work, done, total))
    )
    assert steps == [("prices from Yahoo", 1, 2), ("prices from Yahoo", 2, 2)]


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.HTML, Fault.DROP])
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
        (Fault.RATE_LIMITED, "Too Many Requests"),
        (Fault.SERVER_ERROR, "JSONDecodeError"),
        (Fault.HTML, "JSONDecodeError"),
        (Fault.DROP, "ConnectionError"),
        (Fault.MALFORMED, "KeyError"),
    ],
)
def test_a_lasting_fault_of_every_symbol_fails_the_source(yahoo: YahooFake, fault: Fault, reason: str) -> None:
    yahoo.plan(fault)
    with pytest.raises(PriceSourceError, match=f"no prices for any symbol .*{reason}.*; try again later"):
        ask("KO", "AAPL")


def test_attempts_are_limited(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.HTML)
    with pytest.raises(PriceSourceError):
        ask("KO")
    assert yahoo.charts("KO") == QUICK.attempts


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


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.HTML, Fault.DROP, Fault.MALFORMED])
def test_a_lasting_fault_of_one_symbol_leaves_out_only_that_one(yahoo: YahooFake, fault: Fault) -> None:
    yahoo.plan(fault, on="KO")
    assert set(ask("AAPL", "KO")) == {"AAPL"}


@pytest.mark.parametrize("fault", [Fault.NOT_FOUND, Fault.EMPTY, Fault.NO_BARS])
def test_a_symbol_without_prices_is_left_out_without_a_retry(yahoo: YahooFake, fault: Fault) -> None:
    yahoo.plan(fault, on="KO")
    assert set(ask("KO")) == set()
    assert yahoo.charts("KO") <= 2  # one attempt by us; yfinance repeats a 404 with another cookie


def test_omitted_symbols_are_logged_with_the_reason(yahoo: YahooFake, caplog: pytest.LogCaptureFixture) -> None:
    ask("KO", "GONE")
    (record,) = caplog.records
    assert record.getMessage() == "Yahoo returned no prices for GONE"
    assert "No data found, symbol may be delisted" in record.__dict__["reasons"]["GONE"]


def test_prices_that_arrive_before_the_deadline_are_returned(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.HANG, on="KO")
    start_s = perf_counter()
    assert set(ask("AAPL", "KO", patience=Patience(deadline_s=1))) == {"AAPL"}
    assert perf_counter() - start_s < 3


def test_yahoo_may_take_half_of_the_time_left(yahoo: YahooFake) -> None:
    yahoo.plan(Fault.HANG, on="KO")
    source = YahooPrices("1d", Patience(deadline_s=20), deadline=Deadline(lambda: 2.0))
    start_s = perf_counter()
    assert set(source.closes(["AAPL", "KO"], 250, NOW, no_progress)) == {"AAPL"}
    assert 0.9 < perf_counter() - start_s < 3


def test_each_call_reads_the_time_left_afresh(yahoo: YahooFake) -> None:
    left = iter([60.0, 0.0])
    source = YahooPrices("1d", QUICK, deadline=Deadline(lambda: next(left)))
    source.closes(["KO"], 250, NOW, no_progress)
    with pytest.raises(PriceSourceError, match="no time left"):
        source.closes(["AAPL"], 250, NOW, no_progress)
    assert (yahoo.charts("KO"), yahoo.charts("AAPL")) == (1, 0)


def test_a_missing_price_is_left_out(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, None, 62.0, None], NOW)
    assert ask("KO")["KO"].dropna().tolist() == [60, 62]


@pytest.mark.parametrize("price", [0.0, -5.0])
def test_an_impossible_price_leads_to_a_denial(yahoo: YahooFake, price: float) -> None:
    yahoo.listings["KO"] = Listing([60.0, price, 62.0], NOW)
    bars = Prices([YahooPrices("1d", QUICK)], now=NOW, count=250, max_age_s=86_400).bars(["KO", "AAPL"])
    assert set(bars.closes) == {"AAPL"}
    assert [(denial.symbol, denial.code) for denial in bars.denials] == [("KO", Code.NO_PRICE_DATA)]


def test_a_symbol_no_longer_traded_has_a_stale_price(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, 61.0], NOW - timedelta(days=7))
    bars = Prices([YahooPrices("1d", QUICK)], now=NOW, count=250, max_age_s=86_400).bars(["KO", "AAPL"])
    assert [(denial.symbol, denial.code) for denial in bars.denials] == [("KO", Code.STALE_PRICE)]


def test_a_current_day_sent_twice_counts_once_at_its_last_price(yahoo: YahooFake) -> None:
    yahoo.listings["KO"] = Listing([60.0, 61.0, 62.0], NOW, running_day_twice=True)
    closes = ask("KO")["KO"]
    assert closes.tolist() == [60, 61, 62]
    assert closes.index.is_unique


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
closes = [YahooPrices("1d").closes(["KO"], 9, now, no_progress)["KO"].tolist() for _ in range(2)]
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
