"""The stand-in for Alpaca enforces a limit on requests, and tells of it as Alpaca does."""

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from scripts.testkit.alpaca_api import AlpacaApi, Answer
from tests.fake_time import FakeTime


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
def api(clock: FakeTime) -> AlpacaApi:
    api = AlpacaApi()
    api.requests_per_minute = 3
    api.rate_clock = clock.clock
    return api


def ask(api: AlpacaApi) -> Answer:
    answer = api.answer("GET", "/v2/clock", {"APCA-API-KEY-ID": api.key_id, "APCA-API-SECRET-KEY": api.secret}, None)
    assert answer is not None
    return answer


def statuses(api: AlpacaApi, count: int) -> list[int]:
    return [ask(api).status for _ in range(count)]


def test_there_is_no_limit_by_default() -> None:
    assert set(statuses(AlpacaApi(), 500)) == {200}


def test_a_request_beyond_the_limit_is_refused_with_alpacas_code(api: AlpacaApi) -> None:
    assert statuses(api, 3) == [200] * 3
    refused = ask(api)
    assert (refused.status, refused.payload["code"]) == (429, 42910000)


def test_the_window_slides(api: AlpacaApi, clock: FakeTime) -> None:
    for _ in range(3):
        ask(api)
        clock.now_s += 20
    assert statuses(api, 2) == [200, 429]


def test_a_refused_request_is_not_counted(api: AlpacaApi, clock: FakeTime) -> None:
    statuses(api, 3)
    clock.now_s += 50
    statuses(api, 3)
    clock.now_s += 10
    assert statuses(api, 3) == [200] * 3


def test_a_request_that_meets_a_fault_is_counted(api: AlpacaApi) -> None:
    api.fault("GET", "/v2/clock", "503-html", times=3)
    assert statuses(api, 4) == [503, 503, 503, 429]


def test_a_refused_request_meets_no_fault(api: AlpacaApi, clock: FakeTime) -> None:
    statuses(api, 3)
    api.fault("GET", "/v2/clock", "503-html")
    assert ask(api).status == 429
    clock.now_s += 60
    assert ask(api).status == 503


def test_another_programs_requests_are_counted(api: AlpacaApi) -> None:
    api.use_requests(2)
    assert statuses(api, 2) == [200, 429]


def test_answers_have_no_headers_unless_asked_for(api: AlpacaApi) -> None:
    assert [dict(ask(api).headers) for _ in range(4)] == [{}] * 4


def test_the_headers_tell_the_limit_what_remains_and_when_that_changes(api: AlpacaApi, clock: FakeTime) -> None:
    api.sends_rate_headers = True
    ask(api)
    clock.now_s += 20
    headers = ask(api).headers
    assert (headers["X-Ratelimit-Limit"], headers["X-Ratelimit-Remaining"]) == ("3", "1")
    assert float(headers["X-Ratelimit-Reset"]) - time.time() == pytest.approx(40, abs=2)


def test_a_429_can_name_the_seconds_to_wait(api: AlpacaApi, clock: FakeTime) -> None:
    api.retry_after = "seconds"
    api.use_requests(3)
    clock.now_s += 20
    assert ask(api).headers["Retry-After"] == "40"


def test_a_429_can_name_the_date_of_the_next_request(api: AlpacaApi, clock: FakeTime) -> None:
    api.retry_after = "date"
    api.use_requests(3)
    clock.now_s += 20
    moment = parsedate_to_datetime(ask(api).headers["Retry-After"])
    assert (moment - datetime.now(UTC)).total_seconds() == pytest.approx(40, abs=2)


def test_headers_can_be_replaced(api: AlpacaApi) -> None:
    api.sends_rate_headers = True
    api.header_overrides = {"X-Ratelimit-Limit": "many"}
    assert ask(api).headers["X-Ratelimit-Limit"] == "many"
