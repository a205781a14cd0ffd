"""AlpacaPrices over real HTTP: clean closes in UTC, read page by page, or one error for the whole source."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.testkit.alpaca import AlpacaFake, FaultKind
from tests.fake_time import FakeTime
from trader.alpaca.client import AlpacaClient
from trader.deadline import Deadline
from trader.model import NEW_YORK, Closes
from trader.prices.alpaca import GIVE_UP_AFTER, AlpacaPrices
from trader.prices.base import Missing, PriceSourceError
from trader.prices.jumps import CONFIRM_BARS
from trader.prices.series import Series, UnusableError
from trader.progress import no_progress
from trader.schedule import sessions

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
    """Return a bar for each session up to `last`, with closes rising by one."""
    days = sessions_up_to(last, count)
    return [(day, close + number) for number, day in enumerate(days)]


def sessions_up_to(last: datetime, count: int) -> list[datetime]:
    days = (last - timedelta(days=back) for back in range(count * 2 + 14))
    return [day for day in days if sessions.session(day.astimezone(NEW_YORK).date())][:count][::-1]


def ask(prices: AlpacaPrices, *symbols: str, count: int = 3, now: datetime = NOW) -> dict[str, Closes]:
    found = prices.read(symbols, count, now, no_progress)
    return {symbol: each.closes for symbol, each in found.items() if isinstance(each, Series)}


def read(fake: AlpacaFake, *symbols: str, **how: Any) -> dict[str, Closes]:
    return ask(source(fake), *symbols, **how)


def queries(fake: AlpacaFake) -> list[dict[str, str]]:
    return [{name: value[0] for name, value in parse_qs(urlsplit(r.path).query).items()} for r in fake.requests]


def test_closes_are_in_utc_and_in_order(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(3)[::-1]
    closes = read(fake, "AAPL", count=10, now=NOW)["AAPL"]
    assert closes.to_list() == [100.0, 101.0, 102.0]
    assert closes.index[-1] == NOW
    assert str(closes.index.tz) == "UTC"  # type: ignore[attr-defined]  # the stubs do not know a DatetimeIndex here


def test_closes_need_no_cleaning(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    series = source(fake).read(["AAPL"], 30, NOW, no_progress)["AAPL"]
    assert isinstance(series, Series)
    assert len(series.require_usable(NOW, max_age_s=60)) == 30
    assert series.notes == ()


def test_only_the_requested_number_of_last_bars_is_returned(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    closes = read(fake, "AAPL", count=5, now=NOW)["AAPL"]
    assert closes.to_list() == [125.0, 126.0, 127.0, 128.0, 129.0]


def test_no_bar_after_now_is_requested(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    earlier = NOW - timedelta(days=7)
    closes = read(fake, "AAPL", count=5, now=earlier)["AAPL"]
    assert closes.index[-1] == earlier


def test_a_bar_after_now_is_dropped(fake: AlpacaFake) -> None:
    fake.spoilt_bars["AAPL"] = [{"t": "2026-11-20T05:00:00Z", "c": 1.0}, {"t": "2026-11-21T05:00:00Z", "c": 2.0}]
    assert read(fake, "AAPL", count=5, now=NOW)["AAPL"].to_list() == [1.0]


@pytest.mark.parametrize("count", [1, 60, 250, 1000])
def test_the_start_is_early_enough_for_all_requested_bars(fake: AlpacaFake, count: int) -> None:
    fake.bars["AAPL"] = daily(1500)
    assert len(read(fake, "AAPL", count=count, now=NOW)["AAPL"]) == count


def test_a_symbol_without_bars_is_said_to_have_none(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(3)
    found = source(fake).read(["NONE", "AAPL"], 3, NOW, no_progress)
    assert list(found) == ["NONE", "AAPL"]
    assert found["NONE"] == Missing("Alpaca has no bars of it on IEX since 2026-11-08")


def test_a_young_symbol_has_fewer_bars(fake: AlpacaFake) -> None:
    fake.bars["NEW"] = daily(3)
    assert len(read(fake, "NEW", count=250, now=NOW)["NEW"]) == 3


def test_no_symbol_costs_no_request(fake: AlpacaFake) -> None:
    assert (read(fake), fake.requests) == ({}, [])


def test_a_long_answer_is_read_page_by_page(fake: AlpacaFake) -> None:
    fake.page_size = 7
    fake.bars = {symbol: daily(10, close=close) for symbol, close in [("AAPL", 100.0), ("MSFT", 500.0)]}
    closes = read(fake, "MSFT", "AAPL", count=10)
    assert {symbol: series.to_list() for symbol, series in closes.items()} == {
        "AAPL": [100.0 + number for number in range(10)],
        "MSFT": [500.0 + number for number in range(10)],
    }
    assert [query.get("page_token") for query in queries(fake)] == [None, "7", "14"]


def test_many_symbols_are_requested_in_hundreds_with_progress(fake: AlpacaFake) -> None:
    symbols = [f"S{number}" for number in range(250)]
    fake.bars = {symbol: daily(2) for symbol in symbols}
    told: list[tuple[str, int, int]] = []
    found = source(fake).read(symbols, 2, NOW, lambda *step: told.append(step))
    assert list(found) == symbols
    assert [len(query["symbols"].split(",")) for query in queries(fake)] == [100, 100, 50]
    assert [(done, total) for _, done, total in told] == [(100, 250), (200, 250), (250, 250)]


@pytest.mark.parametrize(
    ("interval", "timeframe"), [("1d", "1Day"), ("1h", "1Hour"), ("15m", "15Min"), ("5m", "5Min"), ("1m", "1Min")]
)
def test_bars_are_requested_adjusted_and_from_the_free_feed(fake: AlpacaFake, interval: str, timeframe: str) -> None:
    ask(source(fake, interval), "AAPL", count=250)
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
    assert set(read(fake, "AAPL")) == {"AAPL"}


@pytest.mark.parametrize(
    "kind", ["401", "403", "403-keys", "429", "500-html", "504", "drop", "hang", "200-html", "null"]
)
def test_a_lasting_fault_fails_the_whole_source(fake: AlpacaFake, kind: FaultKind) -> None:
    fake.fault("GET", "/v2/stocks/bars", kind, times=100)
    with pytest.raises(PriceSourceError, match="GET /stocks/bars"):
        read(fake, "AAPL")


def test_a_fault_of_a_later_page_does_not_hide_symbols(fake: AlpacaFake) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(150)}
    prices = source(fake)

    def spoil(*_: Any) -> None:
        fake.fault("GET", "/v2/stocks/bars", "503-html", times=100)

    with pytest.raises(PriceSourceError, match="503"):
        prices.read(list(fake.bars), 2, NOW, spoil)


def test_an_answer_without_bars_fails_the_source(fake: AlpacaFake) -> None:
    fake.fault("GET", "/v2/stocks/bars", "missing-field", field="bars")
    with pytest.raises(PriceSourceError, match="expected an object with bars"):
        read(fake, "AAPL")


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
    assert set(read(fake, "AAPL", "MSFT")) == {"MSFT"}
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "Alpaca returned no usable prices for AAPL")
    assert "a bar lacks its time or close" in record.__dict__["reasons"]["AAPL"]


def test_a_source_with_only_unusable_symbols_fails_with_a_reason(fake: AlpacaFake) -> None:
    fake.spoilt_bars["AAPL"] = [SPOILT["no close"]]
    with pytest.raises(PriceSourceError, match=r"AAPL: a bar lacks its time or close \(KeyError: 'c'\)"):
        read(fake, "AAPL")


@pytest.mark.parametrize("at", [0, 41, 99, 100, 149])
def test_only_a_symbol_unknown_to_alpaca_is_left_out_and_logged(
    fake: AlpacaFake, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(149)}
    symbols = [*fake.bars]
    symbols.insert(at, "BRK/B")
    told: list[int] = []
    found = source(fake).read(symbols, 2, NOW, lambda _, done, __: told.append(done))
    closes = [symbol for symbol, each in found.items() if isinstance(each, Series)]
    assert (set(closes), told[-1], told) == (set(fake.bars), 150, sorted(told))
    assert len(fake.requests) <= 16
    assert "invalid symbol: BRK/B" in caplog.records[-1].__dict__["reasons"]["BRK/B"]
    assert found["BRK/B"] == Missing(caplog.records[-1].__dict__["reasons"]["BRK/B"])


def test_several_symbols_unknown_to_alpaca_are_left_out(fake: AlpacaFake) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(97)}
    assert set(read(fake, "a", "b", *fake.bars, "c", count=2)) == set(fake.bars)


def test_a_source_that_refuses_every_request_is_given_up(fake: AlpacaFake) -> None:
    symbols = [f"s{number}" for number in range(250)]  # the stand-in accepts capital letters only
    with pytest.raises(PriceSourceError, match="400, invalid symbol"):
        read(fake, *symbols, count=2)
    assert len(fake.requests) == GIVE_UP_AFTER


def test_nothing_is_requested_when_no_time_is_left(fake: AlpacaFake) -> None:
    with pytest.raises(PriceSourceError, match="no time left"):
        ask(source(fake, deadline=Deadline(lambda: 0.0)), "AAPL")
    assert fake.requests == []


def test_running_out_of_time_between_pages_fails_the_source(fake: AlpacaFake) -> None:
    fake.bars = {f"S{number}": daily(2) for number in range(250)}
    left = iter([60.0, 30.0, -1.0])
    with pytest.raises(PriceSourceError, match="no time left"):
        ask(source(fake, deadline=Deadline(lambda: next(left))), *fake.bars, count=2)
    assert len(fake.requests) == 2


def test_a_page_returned_twice_fails_the_source(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(30)
    fake.page_size = 0
    with pytest.raises(PriceSourceError, match="was returned twice"):
        read(fake, "AAPL", count=30)


# --- jumps ---------------------------------------------------------------------------------------------------------

ACTIONS = "/v1/corporate-actions"
TODAY = date(2026, 11, 20)


def jumping(change: float, *, after: int = 1) -> list[tuple[datetime, float]]:
    """Return bars whose close changes by a factor `after` bars before the end."""
    days = sessions_up_to(NOW, 60)
    return [(day, (100 + number % 3) * (change if number >= 60 - after else 1)) for number, day in enumerate(days)]


def judge(fake: AlpacaFake, symbol: str = "AAPL", **how: Any) -> Series:
    found = source(fake, **how).read([symbol], 60, NOW, no_progress)[symbol]
    assert isinstance(found, Series)
    return found


def test_without_a_jump_there_is_no_request_for_splits(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(60)
    judge(fake)
    assert fake.asked("GET", ACTIONS) == []


def test_a_jump_before_the_window_leads_to_no_request(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = jumping(0.5, after=30)
    source(fake).read(["AAPL"], 20, NOW, no_progress)
    assert fake.asked("GET", ACTIONS) == []


def test_all_symbols_with_a_jump_are_asked_for_in_one_request(fake: AlpacaFake) -> None:
    fake.bars = {f"S{number}": daily(60) for number in range(150)}
    fake.bars |= {"A": jumping(0.5), "B": jumping(1 / 3)}
    source(fake).read(["A", *(f"S{number}" for number in range(150)), "B"], 60, NOW, no_progress)
    (request,) = fake.asked("GET", ACTIONS)
    query = {name: value[0] for name, value in parse_qs(urlsplit(request.path).query).items()}
    assert date.fromisoformat(query.pop("start")) < fake.bars["A"][0][0].date()
    assert query == {
        "symbols": "A,B",
        "types": "forward_split,reverse_split,unit_split,stock_dividend",
        "end": "2026-11-20",
        "limit": "1000",
    }


@pytest.mark.parametrize("change", [0.5, 0.4, 1 / 1.5, 2.5])
def test_a_jump_without_a_split_at_alpaca_is_a_crash_or_a_leap_once_the_list_had_time(
    fake: AlpacaFake, change: float
) -> None:
    fake.bars["AAPL"] = jumping(change, after=CONFIRM_BARS)
    series = judge(fake)
    assert len(series.require_usable(NOW, 86_400)) == len(series)
    assert series.notes == ()


@pytest.mark.parametrize("after", range(1, CONFIRM_BARS))
def test_a_jump_of_the_last_bars_is_withheld_although_alpaca_lists_no_split_yet(fake: AlpacaFake, after: int) -> None:
    fake.bars["AAPL"] = jumping(0.5, after=after)
    with pytest.raises(UnusableError, match="split or wrong price"):
        judge(fake).require_usable(NOW, 86_400)


@pytest.mark.parametrize(
    ("new", "old", "name"), [(2, 1, "2:1"), (3, 2, "3:2"), (4, 1, "4:1"), (1, 8, "1:8"), (1, 2, "1:2")]
)
def test_a_split_at_alpaca_explains_the_jump_on_its_day(fake: AlpacaFake, new: int, old: int, name: str) -> None:
    fake.bars["AAPL"] = jumping(old / new)
    fake.corporate_actions.add_split("AAPL", TODAY, new, old)
    with pytest.raises(UnusableError, match=f"{name} split on {TODAY}"):
        judge(fake).require_usable(NOW, 86_400)


def test_a_stock_dividend_of_half_a_share_is_a_split(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = jumping(1 / 1.5)
    fake.corporate_actions.add_stock_dividend("AAPL", TODAY, 0.5)
    with pytest.raises(UnusableError, match=f"3:2 split on {TODAY}"):
        judge(fake).require_usable(NOW, 86_400)


@pytest.mark.parametrize("symbol", ["OLDU", "NEW"])
def test_a_unit_split_is_one_under_both_symbols(fake: AlpacaFake, symbol: str) -> None:
    fake.bars[symbol] = jumping(0.5)
    fake.corporate_actions.add_unit_split("OLDU", "NEW", TODAY, 2, 1)
    with pytest.raises(UnusableError, match=f"2:1 split on {TODAY}"):
        judge(fake, symbol).require_usable(NOW, 86_400)


@pytest.mark.parametrize("symbol", ["OLD", "NEW"])
def test_a_reverse_split_with_another_symbol_afterwards_is_one_under_both(fake: AlpacaFake, symbol: str) -> None:
    fake.bars[symbol] = jumping(8.0)
    rates = {"new_rate": 1, "old_rate": 8, "old_cusip": "000000000", "new_cusip": "000000001"}
    fake.corporate_actions.add("reverse_split", "OLD", TODAY, {**rates, "new_symbol": "NEW"})
    with pytest.raises(UnusableError, match=f"1:8 split on {TODAY}"):
        judge(fake, symbol).require_usable(NOW, 86_400)


@pytest.mark.parametrize("other", [("AAPL", date(2026, 9, 1), 2), ("AAPL", TODAY, 20), ("MSFT", TODAY, 2)])
def test_another_split_does_not_explain_the_jump(fake: AlpacaFake, other: tuple[str, date, int]) -> None:
    symbol, day, ratio = other
    fake.bars["AAPL"] = jumping(0.5, after=CONFIRM_BARS)
    fake.corporate_actions.add_split(symbol, day, ratio, 1)
    assert len(judge(fake).require_usable(NOW, 86_400)) == len(fake.bars["AAPL"])


def test_a_change_of_unit_is_refused_whatever_alpaca_says(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = jumping(0.01, after=10)
    with pytest.raises(UnusableError):
        judge(fake).require_usable(NOW, 86_400)


def test_short_bars_are_judged_by_the_same_splits(fake: AlpacaFake) -> None:
    minutes = [datetime(2026, 11, 19, 14, 30, tzinfo=UTC) + timedelta(minutes=15 * number) for number in range(26)]
    opening = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    fake.bars["AAPL"] = [*((minute, 100.0) for minute in minutes), (opening, 50.0)]
    fake.corporate_actions.add_split("AAPL", TODAY, 2, 1)
    with pytest.raises(UnusableError, match=f"2:1 split on {TODAY}"):
        judge(fake, interval="15m").require_usable(NOW, 86_400)


def test_a_long_list_of_splits_is_read_page_by_page(fake: AlpacaFake) -> None:
    for symbol in ("A", "B", "C"):
        fake.bars[symbol] = jumping(0.5)
        fake.corporate_actions.add_split(symbol, TODAY, 2, 1)
    fake.corporate_actions.page_size = 1
    found = source(fake).read(["A", "B", "C"], 60, NOW, no_progress)
    assert len(fake.asked("GET", ACTIONS)) == 3
    for series in found.values():
        assert isinstance(series, Series)
        assert [split.ratio for split in series.find_splits()] == [2.0]


UNREADABLE: dict[str, Any] = {
    "no actions": {"next_page_token": None},
    "a list instead of kinds": {"corporate_actions": [], "next_page_token": None},
    "a number instead of a list": {"corporate_actions": {"forward_splits": 5}, "next_page_token": None},
    "null instead of a split": {"corporate_actions": {"forward_splits": [None]}, "next_page_token": None},
    "a split without a rate": {
        "corporate_actions": {"forward_splits": [{"symbol": "AAPL", "ex_date": "2026-11-20", "new_rate": 2}]},
        "next_page_token": None,
    },
    "a split of no shares": {
        "corporate_actions": {
            "reverse_splits": [{"symbol": "AAPL", "ex_date": "2026-11-20", "new_rate": 1, "old_rate": 0}]
        },
        "next_page_token": None,
    },
    "a split without a day": {
        "corporate_actions": {"forward_splits": [{"symbol": "AAPL", "ex_date": "soon", "new_rate": 2, "old_rate": 1}]},
        "next_page_token": None,
    },
    "a page without end": {"corporate_actions": {}, "next_page_token": "again"},
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_list_of_splits_that_cannot_be_read_leaves_the_judgment_to_the_ratio(fake: AlpacaFake, what: str) -> None:
    fake.bars["AAPL"] = jumping(0.5)
    fake.corporate_actions.spoilt = UNREADABLE[what]
    series = judge(fake)
    with pytest.raises(UnusableError):
        series.require_usable(NOW, 86_400)
    assert series.notes[0].startswith("its jumps are judged by their ratio alone, without Alpaca's list of splits (")


@pytest.mark.parametrize("kind", ["403", "401", "422", "429", "500-html", "504", "drop", "hang", "200-html", "null"])
def test_without_an_answer_on_splits_the_prices_are_still_read(fake: AlpacaFake, kind: FaultKind) -> None:
    fake.bars = {"AAPL": jumping(0.5), "MSFT": daily(60)}
    fake.fault("GET", ACTIONS, kind, times=100)
    found = source(fake).read(["AAPL", "MSFT"], 60, NOW, no_progress)
    assert isinstance(found["MSFT"], Series)
    assert found["MSFT"].notes == ()
    assert isinstance(found["AAPL"], Series)
    assert "GET /corporate-actions" in found["AAPL"].notes[0]
    with pytest.raises(UnusableError):
        found["AAPL"].require_usable(NOW, 86_400)


@pytest.mark.parametrize("kind", ["429", "500-html", "504", "drop", "hang"])
def test_the_request_for_splits_is_retried_after_a_passing_fault(fake: AlpacaFake, kind: FaultKind) -> None:
    fake.bars["AAPL"] = jumping(0.5, after=CONFIRM_BARS)
    fake.fault("GET", ACTIONS, kind)
    assert len(judge(fake).require_usable(NOW, 86_400)) == len(fake.bars["AAPL"])


def test_splits_are_not_asked_for_when_no_time_is_left(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = jumping(0.5)
    left = iter([60.0, -1.0])
    series = judge(fake, deadline=Deadline(lambda: next(left)))
    assert fake.asked("GET", ACTIONS) == []
    assert "no time left" in series.notes[0]


# --- open, high, low and volume --------------------------------------------------------------------------------------


def whole(fake: AlpacaFake) -> AlpacaPrices:
    plain = source(fake)
    return AlpacaPrices(plain._client, "1d", ohlcv=True)


def bar(day: int, **parts: object) -> dict[str, object]:
    return {"t": f"2026-11-{day}T05:00:00Z", "o": 99, "h": 102, "l": 98, "c": 100, "v": 500} | parts


def read_bars(fake: AlpacaFake, *bars: dict[str, object]) -> Series:
    fake.spoilt_bars["AAPL"] = list(bars)
    found = whole(fake).read(["AAPL"], 10, NOW, no_progress)["AAPL"]
    assert isinstance(found, Series)
    return found


def rest(series: Series) -> list[list[float]]:
    ohlv = series.fitted_ohlv()
    assert ohlv is not None
    rows: list[list[float]] = ohlv.tolist()
    return rows


def test_whole_bars_come_with_the_same_request_and_the_same_closes(fake: AlpacaFake) -> None:
    fake.bars["AAPL"] = daily(5)
    plain = read(fake, "AAPL")["AAPL"]
    found = whole(fake).read(["AAPL"], 3, NOW, no_progress)["AAPL"]
    assert isinstance(found, Series)
    assert found.closes.equals(plain)
    assert queries(fake)[0] == queries(fake)[1]
    assert rest(found)[-1] == [104, 104, 104, 100]


def test_bars_out_of_order_stay_whole(fake: AlpacaFake) -> None:
    found = read_bars(fake, bar(20, c=101, v=2), bar(19, v=1))
    assert (found.closes.tolist(), rest(found)) == ([100, 101], [[99, 102, 98, 1], [99, 102, 98, 2]])


@pytest.mark.parametrize("volume", [None, "many", -4])
def test_a_bar_without_a_volume_stays(fake: AlpacaFake, volume: object) -> None:
    found = read_bars(fake, bar(19), bar(20, v=volume))
    assert rest(found)[0][3] == 500
    assert rest(found)[1][3] != rest(found)[1][3]


def test_a_missing_high_is_mended(fake: AlpacaFake) -> None:
    assert rest(read_bars(fake, bar(19), bar(20, h=None)))[1] == [99, 100, 98, 500]


def test_bars_with_nothing_but_closes_are_closes_only(fake: AlpacaFake) -> None:
    found = read_bars(fake, {"t": "2026-11-19T05:00:00Z", "c": 1.0}, {"t": "2026-11-20T05:00:00Z", "c": 1.0})
    assert found.describe_lack() == "closes only"
