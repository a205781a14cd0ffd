"""AlpacaPrices over real HTTP: clean closes in UTC, read page by page, or one error for the whole source."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.testkit.alpaca import AlpacaFake, FaultKind
from tests.fake_time import FakeTime
from trader.alpaca.client import AlpacaClient
from trader.deadline import Deadline
from trader.prices.alpaca import GIVE_UP_AFTER, AlpacaPrices
from trader.prices.base import PriceSourceError
from trader.prices.series import clean_closes
from trader.progress import no_progress

NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        fake.hang_s = 1.0
        yield fake


def source(fake: AlpacaFake, interval: str = "1d", deadline: Deadline | None = None) -> AlpacaPrices:
    keys = (fake.key_id, fake.secret)
    waits = FakeTime()  # for the limit on requests
    patience: Any = {"attempts": 3, "wait_s": 0.01, "clock": waits.clock, "sleep": waits.sleep}
    client = AlpacaClient("http://127.0.0.1:9", fake.url, lambda _: keys, (1.0, 0.2), **patience)
    return AlpacaPrices(client, interval, deadline=deadline)


def daily(count: int, last: datetime = NOW, close: float = 100.0) -> list[tuple[datetime, float]]:
    """Return a bar for each weekday up to `last`, with closes rising by one."""
    days = [day for back in range(count * 2 + 7) if (day := last - timedelta(days=back)).weekday() < 5][:count]
    return [(day, close + number) for number, day in enumerate(reversed(days))]


def queries(fake: AlpacaFake) -> list[dict[str, str]]:
    return [{name: value[0] for name, value in parse_qs(urlsplit(r.path).query).items()} for r in fake.requests]


def test_closes_are_in_utc_and_in_order(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(3)[::-1]
    closes = source(fake).closes(["AAPL"], 10, NOW, no_progress)["AAPL"]
    assert closes.to_list() == [100.0, 101.0, 102.0]
    assert closes.index[-1] == NOW
    assert str(closes.index.tz) == "UTC"  # type: ignore[attr-defined]  # the stubs do not know a DatetimeIndex here


def test_closes_need_no_cleaning(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    closes = source(fake).closes(["AAPL"], 30, NOW, no_progress)["AAPL"]
    assert len(clean_closes(closes, NOW, max_age_s=60)) == 30


def test_only_the_requested_number_of_last_bars_is_returned(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    closes = source(fake).closes(["AAPL"], 5, NOW, no_progress)["AAPL"]
    assert closes.to_list() == [125.0, 126.0, 127.0, 128.0, 129.0]


def test_no_bar_after_now_is_requested(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    earlier = NOW - timedelta(days=7)
    closes = source(fake).closes(["AAPL"], 5, earlier, no_progress)["AAPL"]
    assert closes.index[-1] == earlier


def test_a_bar_after_now_is_dropped(fake: AlpacaFake) -> None:
    fake.spoilt_bars["AAPL"] = [{"t": "2026-11-20T05:00:00Z", "c": 1.0}, {"t": "2026-11-21T05:00:00Z", "c": 2.0}]
    assert source(fake).closes(["AAPL"], 5, NOW, no_progress)["AAPL"].to_list() == [1.0]


@pytest.mark.parametrize("count", [1, 60, 250, 1000])
def test_the_start_is_early_enough_for_all_requested_bars(fake: AlpacaFake, count: int) -> None:
    fake.bars["AAPL"] = daily(1500)
    assert len(source(fake).closes(["AAPL"], count, NOW, no_progress)["AAPL"]) == count


def test_symbols_without_bars_are_left_out(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(3)
    assert set(source(fake).closes(["AAPL", "NONE"], 3, NOW, no_progress)) == {"AAPL"}


def test_a_young_symbol_has_fewer_bars(fake: AlpacaFake) -> None:
    fake.bars["NEW"] = daily(3)
    assert len(source(fake).closes(["NEW"], 250, NOW, no_progress)["NEW"]) == 3


def test_no_symbol_costs_no_request(fake: AlpacaFake) -> None:
    assert (source(fake).closes([], 10, NOW, no_progress), fake.requests) == ({}, [])


def test_a_long_answer_is_read_page_by_page(fake: AlpacaFake) -> None:
    fake.page_size = 7
    fake.bars = {symbol: daily(10, close=close) for symbol, close in [("AAPL", 100.0), ("MSFT", 500.0)]}
    closes = source(fake).closes(["MSFT", "AAPL"], 10, NOW, no_progress)
    assert {symbol: series.to_list() for symbol, series in closes.items()} == {
        "AAPL": [100.0 + number for number in range(10)],
        "MSFT": [500.0 + number for number in range(10)],
    }
    assert [query.get("page_token") for query in queries(fake)] == [None, "7", "14"]


def test_many_symbols_are_requested_in_hundreds_with_progress(fake: AlpacaFake) -> None:
    symbols = [f"S{number}" for number in range(250)]
    fake.bars = {symbol: daily(2) for symbol in symbols}
    told: list[tuple[str, int, int]] = []
    closes = source(fake).closes(symbols, 2, NOW, lambda *step: told.append(step))
    assert list(closes) == sorted(symbols[:100]) + sorted(symbols[100:200]) + sorted(symbols[200:])
    assert [len(query["symbols"].split(",")) for query in queries(fake)] == [100, 100, 50]
    assert [(done, total) for _, done, total in told] == [(100, 250), (200, 250), (250, 250)]


@pytest.mark.parametrize(
    ("interval", "timeframe"), [("1d", "1Day"), ("1h", "1Hour"), ("15m", "15Min"), ("5m", "5Min"), ("1m", "1Min")]
)
def test_bars_are_requested_adjusted_and_from_the_free_feed(fake: AlpacaFake, interval: str, timeframe: str) -> None:
    source(fake, interval).closes(["AAPL"], 250, NOW, no_progress)
    query = queries(fake)[0]
    assert datetime.fromisoformat(query.pop("start")) < NOW - timedelta(days=4)  # longer than any series of closed days
    assert query == {
        "symbols": "AAPL",
        "timeframe": timeframe,
        "end": NOW.isoformat(),
        "limit": "10000",
        "adjustment": "all",
        "feed": "iex",
        "sort": "asc",
    }


def test_an_unknown_interval_is_refused_with_the_allowed_ones(fake: AlpacaFake) -> None:
    with pytest.raises(ValueError, match=r"BAR_INTERVAL='2h'.*1d, 1h, 15m, 5m, 1m"):
        source(fake, "2h")


@pytest.mark.parametrize("kind", ["429", "500-html", "503-html", "504", "drop", "hang", "200-html", "null"])
def test_a_request_is_retried_after_a_passing_fault(fake: AlpacaFake, kind: FaultKind) -> None:
    fake.bars["AAPL"] = daily(3)
    fake.fault("GET", "/v2/stocks/bars", kind)
    assert set(source(fake).closes(["AAPL"], 3, NOW, no_progress)) == {"AAPL"}


@pytest.mark.parametrize(
    "kind", ["401", "403", "403-keys", "429", "500-html", "504", "drop", "hang", "200-html", "null"]
)
def test_a_lasting_fault_fails_the_whole_source(fake: AlpacaFake, kind: FaultKind) -> None:
    fake.fault("GET", "/v2/stocks/bars", kind, times=100)
    with pytest.raises(PriceSourceError, match="GET /stocks/bars"):
        source(fake).closes(["AAPL"], 3, NOW, no_progress)


def test_a_fault_of_a_later_page_does_not_hide_symbols(fake: AlpacaFake) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(150)}
    prices = source(fake)

    def spoil(*_: Any) -> None:
        fake.fault("GET", "/v2/stocks/bars", "503-html", times=100)

    with pytest.raises(PriceSourceError, match="503"):
        prices.closes(list(fake.bars), 2, NOW, spoil)


def test_an_answer_without_bars_fails_the_source(fake: AlpacaFake) -> None:
    fake.fault("GET", "/v2/stocks/bars", "missing-field", field="bars")
    with pytest.raises(PriceSourceError, match="expected an object with bars"):
        source(fake).closes(["AAPL"], 3, NOW, no_progress)


TIME = "2026-11-20T05:00:00Z"
SPOILT: dict[str, Any] = {
    "no close": {"t": TIME},
    "a null close": {"t": TIME, "c": None},
    "a close that is not a number": {"t": TIME, "c": "much"},
    "a close too large for a float": {"t": TIME, "c": 10**400},
    "no time": {"c": 1.0},
    "a null time": {"t": None, "c": 1.0},
    "a time that cannot be parsed": {"t": "soon", "c": 1.0},
    "a time without a zone": {"t": "2026-11-20T05:00:00", "c": 1.0},
    "null instead of a bar": None,
    "a number instead of a bar": 5,
}


@pytest.mark.parametrize("what", SPOILT)
def test_an_incomplete_bar_leaves_out_its_symbol_with_a_log_line(
    fake: AlpacaFake, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    fake.bars = {"MSFT": daily(3)}
    fake.spoilt_bars["AAPL"] = [{"t": "2026-11-19T05:00:00Z", "c": 1.0}, SPOILT[what]]
    assert set(source(fake).closes(["AAPL", "MSFT"], 3, NOW, no_progress)) == {"MSFT"}
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "Alpaca returned no usable prices for AAPL")
    assert "a bar lacks its time or close" in record.__dict__["reasons"]["AAPL"]


def test_a_source_with_only_unusable_symbols_fails_with_a_reason(fake: AlpacaFake) -> None:
    fake.spoilt_bars["AAPL"] = [SPOILT["no close"]]
    with pytest.raises(PriceSourceError, match=r"AAPL: a bar lacks its time or close \(KeyError: 'c'\)"):
        source(fake).closes(["AAPL"], 3, NOW, no_progress)


@pytest.mark.parametrize("at", [0, 41, 99, 100, 149])
def test_only_a_symbol_unknown_to_alpaca_is_left_out_and_logged(
    fake: AlpacaFake, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(149)}
    symbols = [*fake.bars]
    symbols.insert(at, "BRK/B")
    told: list[int] = []
    closes = source(fake).closes(symbols, 2, NOW, lambda _, done, __: told.append(done))
    assert (set(closes), told[-1], told) == (set(fake.bars), 150, sorted(told))
    assert len(fake.requests) <= 16
    assert "invalid symbol: BRK/B" in caplog.records[-1].__dict__["reasons"]["BRK/B"]


def test_several_symbols_unknown_to_alpaca_are_left_out(fake: AlpacaFake) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(97)}
    assert set(source(fake).closes(["a", "b", *fake.bars, "c"], 2, NOW, no_progress)) == set(fake.bars)


def test_a_source_that_refuses_every_request_is_given_up(fake: AlpacaFake) -> None:
    symbols = [f"s{number}" for number in range(250)]  # the stand-in accepts capital letters only
    with pytest.raises(PriceSourceError, match="400, invalid symbol"):
        source(fake).closes(symbols, 2, NOW, no_progress)
    assert len(fake.requests) == GIVE_UP_AFTER


def test_nothing_is_requested_when_no_time_is_left(fake: AlpacaFake) -> None:
    with pytest.raises(PriceSourceError, match="no time left"):
        source(fake, deadline=Deadline(lambda: 0.0)).closes(["AAPL"], 3, NOW, no_progress)
    assert fake.requests == []


def test_running_out_of_time_between_pages_fails_the_source(fake: AlpacaFake) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(250)}
    left = iter([60.0, 30.0, -1.0])
    with pytest.raises(PriceSourceError, match="no time left"):
        source(fake, deadline=Deadline(lambda: next(left))).closes(list(fake.bars), 2, NOW, no_progress)
    assert len(fake.requests) == 2


def test_a_page_returned_twice_fails_the_source(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    fake.page_size = 0
    with pytest.raises(PriceSourceError, match="was returned twice"):
        source(fake).closes(["AAPL"], 30, NOW, no_progress)
