"""AlpacaClient over real HTTP against a limit on requests: it waits for its turn, but not beyond the end of a run."""

import logging
import math
from collections.abc import Callable, Iterator
from time import sleep

import pytest

from scripts.testkit.alpaca import AlpacaFake
from scripts.testkit.alpaca_api import FaultKind
from tests.fake_time import FakeTime
from trader.alpaca import client as client_module
from trader.alpaca.budget import MAX_REQUESTS
from trader.alpaca.client import (
    END_TIME_S,
    MAX_DATA_WAIT_S,
    MAX_WAIT_S,
    AlpacaClient,
    NoAnswerError,
    RefusedError,
    RequestLimitError,
)
from trader.deadline import ORDER_TIME_S
from trader.reading import side_by_side

ORDER = {"symbol": "AAPL", "side": "buy", "type": "market", "time_in_force": "day", "qty": "1"}
BARS = {"symbols": "AAPL", "timeframe": "1Day", "start": "2026-11-20", "end": "2026-11-21"}
USUAL_LIMIT = 200


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def fake(time: FakeTime) -> Iterator[AlpacaFake]:
    with AlpacaFake(prices={"AAPL": 100.0}) as fake:
        fake.requests_per_minute = USUAL_LIMIT
        fake.rate_clock = time.clock
        yield fake


def connect(
    fake: AlpacaFake,
    time: FakeTime,
    remaining_s: Callable[[], float] = lambda: math.inf,
    *,
    is_data_elsewhere: bool = True,
) -> AlpacaClient:
    """Return a client whose waits for the limit pass in the test's time; by default only trading is at the stand-in."""
    data_url = "http://127.0.0.1:9" if is_data_elsewhere else fake.url
    base_url = fake.url if is_data_elsewhere else "http://127.0.0.1:9"
    return AlpacaClient(
        base_url,
        data_url,
        lambda _: (fake.key_id, fake.secret),
        (1.0, 5.0),
        attempts=2,
        wait_s=0.01,
        remaining_s=remaining_s,
        clock=time.clock,
        sleep=time.sleep,
    )


def run_of(time: FakeTime, length_s: float) -> Callable[[], float]:
    """Return the remaining time of a run that begins now."""
    end_s = time.now_s + length_s
    return lambda: end_s - time.now_s


def waits(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "waiting for the request limit" in record.getMessage()]


# --- our own requests ---


def test_our_own_requests_never_meet_the_limit(fake: AlpacaFake, time: FakeTime) -> None:
    client = connect(fake, time)
    for _ in range(2 * USUAL_LIMIT):
        client.get("/clock")
    assert len(fake.requests) == 2 * USUAL_LIMIT
    assert sum(time.sleeps_s) == pytest.approx(120, abs=0.1)


def test_reads_side_by_side_count_towards_one_limit(fake: AlpacaFake, time: FakeTime) -> None:
    client = connect(fake, time)
    for _ in range(USUAL_LIMIT // 4 + 1):
        with side_by_side() as begin:
            for answer in [begin(lambda: client.get("/clock")) for _ in range(4)]:
                answer()
    assert len(fake.requests) == USUAL_LIMIT + 4, "none was refused and sent again"


def test_requests_without_an_answer_count_too(fake: AlpacaFake, time: FakeTime) -> None:
    client = connect(fake, time)
    fake.fault("GET", "/v2/clock", "503-html", times=1_000)
    for _ in range(MAX_REQUESTS // 2):
        with pytest.raises(NoAnswerError):
            client.get("/clock")
    assert (len(fake.requests), time.sleeps_s) == (MAX_REQUESTS, [])
    client.get("/account")
    assert time.sleeps_s == pytest.approx([60], abs=0.1)


def test_the_two_apis_have_a_budget_each(fake: AlpacaFake, time: FakeTime) -> None:
    with AlpacaFake() as data:
        client = AlpacaClient(
            fake.url, data.url, lambda _: (fake.key_id, fake.secret), clock=time.clock, sleep=time.sleep
        )
        for _ in range(MAX_REQUESTS):
            client.get("/clock")
        client.get_data("/stocks/bars", BARS)
    assert time.sleeps_s == []


def test_a_request_for_which_no_time_is_left_is_not_sent(fake: AlpacaFake, time: FakeTime) -> None:
    client = connect(fake, time, run_of(time, 60 + END_TIME_S - 1))
    for _ in range(MAX_REQUESTS):
        client.get("/clock")
    with pytest.raises(
        RequestLimitError, match="POST /orders: not sent; requests are free again in 60 s, but only 59 s"
    ):
        client.post("/orders", ORDER)
    assert (fake.asked("POST"), time.sleeps_s) == ([], [])


def test_not_being_sent_is_a_definite_refusal() -> None:
    assert issubclass(RequestLimitError, RefusedError)


# --- another program with the same keys ---


@pytest.mark.parametrize("sends_rate_headers", [False, True])
def test_another_programs_requests_are_waited_for(fake: AlpacaFake, time: FakeTime, sends_rate_headers: bool) -> None:
    fake.sends_rate_headers = sends_rate_headers
    client = connect(fake, time)
    client.get("/clock")
    fake.use_requests(USUAL_LIMIT - 1)
    client.get("/clock")
    assert 60 <= sum(time.sleeps_s) < 76


def test_headers_announce_another_programs_requests_before_a_429(fake: AlpacaFake, time: FakeTime) -> None:
    fake.sends_rate_headers = True
    fake.use_requests(USUAL_LIMIT - 3)
    client = connect(fake, time)
    for _ in range(4):
        client.get("/clock")
    assert len(fake.requests) == 4
    assert time.sleeps_s == pytest.approx([61], abs=1.1)


# --- after a 429 ---


@pytest.mark.parametrize("kind", ["429", "429-null"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_every_method_is_sent_again_after_a_429(fake: AlpacaFake, time: FakeTime, method: str, kind: FaultKind) -> None:
    client = connect(fake, time)
    fake.fills = "never"
    client.post("/orders", ORDER)
    (order,) = fake.orders
    fake.requests.clear()
    fake.fault(method, "/v2/", kind, times=5)
    if method == "GET":
        client.get("/account")
    elif method == "POST":
        client.post("/orders", ORDER)
    else:
        client.delete(f"/orders/{order.id}")
    assert [request.method for request in fake.requests] == [method] * 6


def test_an_order_after_a_429_is_placed_once(fake: AlpacaFake, time: FakeTime) -> None:
    fake.use_requests(USUAL_LIMIT)
    connect(fake, time).post("/orders", ORDER)
    assert len(fake.orders) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_429_that_names_the_time_is_met_once(fake: AlpacaFake, time: FakeTime, form: str) -> None:
    fake.retry_after = "seconds" if form == "seconds" else "date"
    fake.use_requests(USUAL_LIMIT)
    time.now_s += 20
    connect(fake, time).get("/clock")
    assert len(fake.requests) == 2
    assert time.sleeps_s == pytest.approx([40], abs=2)


def test_a_429_that_only_names_the_reset_is_met_once(fake: AlpacaFake, time: FakeTime) -> None:
    fake.sends_rate_headers = True
    fake.use_requests(USUAL_LIMIT)
    time.now_s += 20
    connect(fake, time).get("/clock")
    assert len(fake.requests) == 2
    assert time.sleeps_s == pytest.approx([41], abs=1.1)


NONSENSE = {
    "X-RateLimit-Limit": "none",
    "X-RateLimit-Remaining": "-7",
    "X-RateLimit-Reset": "tomorrow",
    "Retry-After": "a while",
    "Date": "today",
}


def test_headers_that_make_no_sense_change_nothing(fake: AlpacaFake, time: FakeTime) -> None:
    fake.header_overrides = dict(NONSENSE)
    client = connect(fake, time)
    for _ in range(3):
        client.get("/clock")
    assert time.sleeps_s == []


def test_a_429_with_headers_that_make_no_sense_is_waited_for(fake: AlpacaFake, time: FakeTime) -> None:
    fake.header_overrides = dict(NONSENSE)
    fake.use_requests(USUAL_LIMIT)
    connect(fake, time).get("/clock")
    assert 60 <= sum(time.sleeps_s) < 76


def test_each_wait_is_one_warning(fake: AlpacaFake, time: FakeTime, caplog: pytest.LogCaptureFixture) -> None:
    fake.retry_after = "seconds"
    fake.use_requests(USUAL_LIMIT)
    connect(fake, time).get("/clock")
    (record,) = waits(caplog)
    assert (record.levelname, record.getMessage()) == ("WARNING", "Alpaca: GET /clock: waiting for the request limit")


def test_a_fault_after_the_wait_is_still_retried(fake: AlpacaFake, time: FakeTime) -> None:
    def wait(seconds: float) -> None:
        time.sleep(seconds)
        sleep(0.3)  # longer than the attempts may take, which are timed by the real clock

    keys = (fake.key_id, fake.secret)
    client = AlpacaClient(fake.url, fake.url, lambda _: keys, wait_s=0.01, deadline_s=0.2, clock=time.clock, sleep=wait)
    fake.fault("GET", "/v2/clock", "429")
    fake.fault("GET", "/v2/clock", "503-html")
    client.get("/clock")
    assert len(fake.requests) == 3


def test_a_post_without_an_answer_is_not_sent_again_after_a_429(fake: AlpacaFake, time: FakeTime) -> None:
    fake.fault("POST", "/v2/orders", "429")
    fake.fault("POST", "/v2/orders", "504-accepted")
    with pytest.raises(NoAnswerError):
        connect(fake, time).post("/orders", ORDER)
    assert (len(fake.orders), len(fake.asked("POST"))) == (1, 2)


# --- how long ---


def test_a_429_is_waited_for_as_long_as_the_run_has_time(fake: AlpacaFake, time: FakeTime) -> None:
    fake.fault("POST", "/v2/orders", "429", times=1_000)
    with pytest.raises(RequestLimitError, match=r"too many requests.*code 42910000.*may be waited") as refused:
        connect(fake, time, run_of(time, 80)).post("/orders", ORDER)
    assert 80 - END_TIME_S - 15 < sum(time.sleeps_s) <= 80 - END_TIME_S
    assert (refused.value.status, refused.value.code) == (429, 42910000)


def test_a_run_without_an_end_waits_a_limited_time(fake: AlpacaFake, time: FakeTime) -> None:
    fake.fault("GET", "/v2/clock", "429", times=1_000)
    with pytest.raises(RequestLimitError):
        connect(fake, time).get("/clock")
    assert MAX_WAIT_S - 16 < sum(time.sleeps_s) <= MAX_WAIT_S


def test_a_promise_of_time_that_does_not_pass_is_not_waited_for_ever(fake: AlpacaFake, time: FakeTime) -> None:
    fake.fault("GET", "/v2/clock", "429", times=1_000)
    with pytest.raises(RequestLimitError):
        connect(fake, time, lambda: 900.0).get("/clock")
    assert sum(time.sleeps_s) <= MAX_WAIT_S


def test_a_time_to_wait_that_does_not_fit_is_an_error_at_once(fake: AlpacaFake, time: FakeTime) -> None:
    fake.retry_after = "seconds"
    fake.use_requests(USUAL_LIMIT)
    with pytest.raises(RequestLimitError, match="free again in 60 s, but only 30 s may be waited"):
        connect(fake, time, run_of(time, 30 + END_TIME_S)).get("/clock")
    assert (len(fake.requests), time.sleeps_s) == (1, [])


def test_the_longest_wait_can_be_shortened(fake: AlpacaFake, time: FakeTime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_WAIT_S", 1.0)
    fake.fault("GET", "/v2/clock", "429", times=1_000)
    with pytest.raises(RequestLimitError):
        connect(fake, time).get("/clock")
    assert sum(time.sleeps_s) <= 1


def test_the_data_api_leaves_time_for_another_source(fake: AlpacaFake, time: FakeTime) -> None:
    fake.fault("GET", "/v2/stocks", "429", times=1_000)
    with pytest.raises(RequestLimitError):
        connect(fake, time, is_data_elsewhere=False).get_data("/stocks/bars", BARS)
    assert 60 <= sum(time.sleeps_s) <= MAX_DATA_WAIT_S


def test_the_data_api_leaves_time_for_an_order(fake: AlpacaFake, time: FakeTime) -> None:
    fake.fault("GET", "/v2/stocks", "429", times=1_000)
    remaining_s = run_of(time, ORDER_TIME_S + 30)
    with pytest.raises(RequestLimitError):
        connect(fake, time, remaining_s, is_data_elsewhere=False).get_data("/stocks/bars", BARS)
    assert remaining_s() >= ORDER_TIME_S


# --- a sequence that must not be interrupted ---


def test_reserved_requests_are_sent_without_a_pause(fake: AlpacaFake, time: FakeTime) -> None:
    client = connect(fake, time)
    for _ in range(MAX_REQUESTS - 5):
        client.get("/clock")
    assert client.reserve(13)
    waited_s = sum(time.sleeps_s)
    for _ in range(13):
        client.get("/clock")
    assert waited_s == pytest.approx(60, abs=0.1)
    assert sum(time.sleeps_s) == waited_s


def test_a_reservation_without_a_wait_is_silent(
    fake: AlpacaFake, time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    assert connect(fake, time).reserve(13)
    assert (caplog.records, fake.requests, time.sleeps_s) == ([], [], [])


def test_a_reservation_heeds_what_the_server_says_of_another_program(fake: AlpacaFake, time: FakeTime) -> None:
    fake.sends_rate_headers = True
    fake.use_requests(USUAL_LIMIT - 10)
    client = connect(fake, time)
    client.get("/clock")
    assert client.reserve(13)
    assert time.sleeps_s == pytest.approx([61], abs=1.1)


def test_a_reservation_that_does_not_fit_says_so_and_waits_for_nothing(
    fake: AlpacaFake, time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(fake, time, run_of(time, 30 + END_TIME_S))
    for _ in range(MAX_REQUESTS):
        client.get("/clock")
    assert not client.reserve(13)
    assert time.sleeps_s == []
    assert "13 requests in a row: requests are free again in 60 s, but only 30 s may be waited" in caplog.text


def test_more_than_the_limit_cannot_be_reserved(fake: AlpacaFake, time: FakeTime) -> None:
    assert not connect(fake, time).reserve(MAX_REQUESTS + 1)
