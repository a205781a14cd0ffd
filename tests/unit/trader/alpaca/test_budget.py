"""RequestBudget: no more requests than allowed in any window, the server believed, and no wait that does not fit."""

import math
import threading
from collections.abc import Mapping
from email.utils import formatdate

import pytest

from tests.fake_time import FakeTime
from trader.alpaca.budget import MAX_PAUSE_S, MAX_REQUESTS, WINDOW_S, NoTimeError, RequestBudget

SERVER_TIME = 1_700_000_000  # the server's Unix time when the test's clock begins
ROUNDED_S = 1.01  # what whole seconds in headers may add to a wait


class Server:
    """A budget for three requests in a minute, and the answers to them."""

    def __init__(self, max_requests: int = 3) -> None:
        self.time = FakeTime()
        self.began_s = self.time.now_s
        self.budget = RequestBudget(
            max_requests, clock=self.time.clock, sleep=self.time.sleep, epoch=lambda: float(SERVER_TIME)
        )

    def take(self, allowed_s: float = math.inf) -> float:
        """Take a request and return the seconds that it waited."""
        began_s = self.time.now_s
        self.budget.take(lambda: allowed_s, "GET /account")
        return self.time.now_s - began_s

    def answer(self, status: int = 200, **headers: str) -> None:
        """Answer with these headers and the server's time; `_` in a name stands for a hyphen."""
        date = formatdate(SERVER_TIME + self.time.now_s - self.began_s, usegmt=True)
        self.budget.note_answer(status, {"Date": date} | {name.replace("_", "-"): headers[name] for name in headers})

    def tell(self, remaining: int, reset_in_s: float) -> None:
        """Answer with the number of requests that remain until the reset."""
        reset = SERVER_TIME + self.time.now_s - self.began_s + reset_in_s
        self.answer(X_RateLimit_Remaining=str(remaining), X_RateLimit_Reset=str(int(reset)))


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_default_is_safely_below_alpacas_two_hundred_a_minute() -> None:
    assert (MAX_REQUESTS <= 190, WINDOW_S) == (True, 60)


# --- our own count ---


def test_requests_within_the_budget_do_not_wait(server: Server) -> None:
    assert [server.take() for _ in range(3)] == [0, 0, 0]


def test_a_request_beyond_the_budget_waits_until_the_first_is_a_window_old(server: Server) -> None:
    for _ in range(3):
        server.take()
        server.time.now_s += 10
    assert server.take() == pytest.approx(30, abs=0.01)


def test_no_window_holds_more_requests_than_the_budget() -> None:
    server = Server(max_requests=7)
    sent = []
    for number in range(100):
        server.take()
        sent.append(server.time.now_s)
        server.time.now_s += number % 5
    assert all(later - earlier >= WINDOW_S for earlier, later in zip(sent, sent[7:], strict=False))


def test_a_wait_is_logged_once_with_its_request_and_seconds(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(4):
        server.take()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "Alpaca: GET /account: waiting for the request limit")
    assert record.__dict__["wait_s"] == pytest.approx(60, abs=0.01)


def test_a_wait_that_does_not_fit_is_not_begun(server: Server) -> None:
    for _ in range(3):
        server.take()
    with pytest.raises(NoTimeError, match=r"free again in 60 s, but only 59 s may be waited"):
        server.take(allowed_s=59)
    assert server.time.sleeps_s == []


def test_a_request_that_is_free_needs_no_time(server: Server) -> None:
    assert server.take(allowed_s=-5) == 0


def test_a_refused_wait_does_not_count_a_request(server: Server) -> None:
    for _ in range(3):
        server.take()
    for _ in range(5):
        with pytest.raises(NoTimeError):
            server.take(allowed_s=1)
    assert server.take() == pytest.approx(60, abs=0.01)


def test_threads_share_the_budget() -> None:
    server = Server(max_requests=100)

    def take() -> None:
        for _ in range(25):
            server.take(allowed_s=0)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.budget.wait_s() == pytest.approx(60, abs=0.01)


# --- a reservation ---


def test_a_reservation_waits_until_that_many_are_free(server: Server) -> None:
    for _ in range(3):
        server.take()
        server.time.now_s += 10
    server.budget.reserve(2, lambda: math.inf, "2 requests")
    assert [server.take(), server.take()] == [0, 0]


def test_a_reservation_uses_nothing_up(server: Server) -> None:
    server.budget.reserve(3, lambda: 0, "3 requests")
    server.budget.reserve(3, lambda: 0, "3 requests")
    assert server.time.sleeps_s == []


def test_a_reservation_that_does_not_fit_raises(server: Server) -> None:
    server.take()
    with pytest.raises(NoTimeError):
        server.budget.reserve(3, lambda: 59, "3 requests")


def test_more_than_the_budget_is_never_free(server: Server) -> None:
    with pytest.raises(NoTimeError):
        server.budget.reserve(4, lambda: 1e9, "4 requests")
    assert server.time.sleeps_s == []


# --- the server's count ---


def test_the_server_is_believed_if_fewer_remain_than_we_think(server: Server) -> None:
    server.take()
    server.tell(remaining=1, reset_in_s=20)
    assert server.take() == 0
    assert server.take() == pytest.approx(20, abs=ROUNDED_S)


def test_the_whole_second_of_the_reset_is_waited_for(server: Server) -> None:
    server.tell(remaining=0, reset_in_s=20)
    assert server.take() >= 21


def test_the_server_is_not_believed_if_more_remain_than_we_think(server: Server) -> None:
    for _ in range(3):
        server.take()
    server.tell(remaining=150, reset_in_s=5)
    assert server.take() == pytest.approx(60, abs=0.01)


def test_a_reservation_heeds_the_servers_count(server: Server) -> None:
    server.tell(remaining=2, reset_in_s=30)
    assert server.budget.wait_s(2) == 0
    assert server.budget.wait_s(3) == pytest.approx(30, abs=ROUNDED_S)


def test_an_older_answer_of_the_same_period_frees_nothing(server: Server) -> None:
    server.tell(remaining=0, reset_in_s=20)
    server.tell(remaining=2, reset_in_s=20)
    assert server.take() == pytest.approx(20, abs=ROUNDED_S)


def test_the_next_period_replaces_the_last(server: Server) -> None:
    server.tell(remaining=0, reset_in_s=1)
    server.tell(remaining=2, reset_in_s=61)
    assert server.take() == 0


def test_a_period_that_is_over_says_nothing(server: Server) -> None:
    server.tell(remaining=2, reset_in_s=50)
    server.tell(remaining=0, reset_in_s=-30)
    assert server.take() == 0


def test_the_count_holds_for_a_window_if_no_reset_is_named(server: Server) -> None:
    server.answer(X_RateLimit_Remaining="0")
    assert server.take() == pytest.approx(60, abs=0.01)


def test_a_lower_limit_lowers_the_budget(server: Server) -> None:
    server.answer(X_RateLimit_Limit="2")
    server.take()
    assert server.take() > 0


def test_a_higher_limit_does_not_raise_the_budget(server: Server) -> None:
    server.answer(X_RateLimit_Limit="1000")
    for _ in range(3):
        server.take()
    assert server.take() > 0


def test_a_limit_that_is_usual_again_restores_the_budget(server: Server) -> None:
    server.answer(X_RateLimit_Limit="1")
    server.answer(X_RateLimit_Limit="200")
    assert [server.take() for _ in range(3)] == [0, 0, 0]


def test_the_names_of_headers_are_read_in_any_case(server: Server) -> None:
    server.budget.note_answer(200, {"x-ratelimit-remaining": "0", "X-RATELIMIT-RESET": str(SERVER_TIME + 20)})
    assert server.take() == pytest.approx(20, abs=ROUNDED_S)


def test_our_own_clock_is_used_only_if_the_answer_has_no_date() -> None:
    time = FakeTime()
    hours_slow = RequestBudget(clock=time.clock, sleep=time.sleep, epoch=lambda: SERVER_TIME - 7200.0)
    told = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(SERVER_TIME + 20)}
    hours_slow.note_answer(200, told | {"Date": formatdate(SERVER_TIME, usegmt=True)})
    assert hours_slow.wait_s() == pytest.approx(20, abs=ROUNDED_S)
    right = RequestBudget(clock=time.clock, sleep=time.sleep, epoch=lambda: float(SERVER_TIME))
    right.note_answer(200, told)
    assert right.wait_s() == pytest.approx(20, abs=ROUNDED_S)


NONSENSE = ["", " ", "-1", "1.5", "NaN", "inf", "1e3", "many", "5, 5", "٣", "9" * 13, "9" * 5_000, "\x00"]


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("name", ["X-RateLimit-Limit", "X-RateLimit-Remaining"])
def test_a_count_that_makes_no_sense_is_ignored(server: Server, name: str, value: str) -> None:
    server.budget.note_answer(200, {name: value, "X-RateLimit-Reset": str(SERVER_TIME + 20)})
    assert [server.take() for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("value", [*NONSENSE, str(SERVER_TIME * 1000), str(SERVER_TIME + 3600)])
def test_a_reset_that_makes_no_sense_is_ignored(server: Server, value: str) -> None:
    server.budget.note_answer(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": value})
    assert server.take() == pytest.approx(60, abs=0.01)


def test_a_limit_of_zero_is_ignored(server: Server) -> None:
    server.answer(X_RateLimit_Limit="0")
    assert server.take() == 0


# --- after a 429 ---


def test_after_a_429_the_wait_is_what_retry_after_says(server: Server) -> None:
    server.answer(429, Retry_After="7")
    assert server.take() == pytest.approx(7, abs=0.01)


def test_after_a_429_the_wait_may_be_named_by_a_date(server: Server) -> None:
    server.answer(429, Retry_After=formatdate(SERVER_TIME + 9, usegmt=True))
    assert server.take() == pytest.approx(9, abs=0.01)


def test_after_a_429_without_retry_after_the_wait_ends_at_the_reset(server: Server) -> None:
    server.answer(429, X_RateLimit_Reset=str(SERVER_TIME + 40))
    assert server.take() == pytest.approx(40, abs=ROUNDED_S)


def test_retry_after_comes_before_the_reset(server: Server) -> None:
    server.answer(429, Retry_After="3", X_RateLimit_Remaining="0", X_RateLimit_Reset=str(SERVER_TIME + 40))
    assert server.take() == pytest.approx(3, abs=0.01)


def test_a_429_replaces_an_earlier_answer(server: Server) -> None:
    server.tell(remaining=0, reset_in_s=50)
    server.answer(429, Retry_After="3")
    assert server.take() == pytest.approx(3, abs=0.01)


def test_pauses_grow_while_429s_name_no_time(server: Server) -> None:
    server = Server(max_requests=100)
    pauses_s = []
    for _ in range(8):
        server.answer(429)
        pauses_s.append(server.take())
    assert pauses_s == pytest.approx([0.5, 1, 2, 4, 8, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S], abs=0.01)


def test_another_answer_ends_the_growing_pauses(server: Server) -> None:
    server = Server(max_requests=100)
    for status in (429, 429, 503):
        server.answer(status)
        server.take()
    server.answer(429)
    assert server.take() == pytest.approx(0.5, abs=0.01)


def test_429s_to_requests_that_were_under_way_together_are_one_refusal() -> None:
    server = Server(max_requests=100)
    for _ in range(4):
        server.answer(429)
    assert server.take() == pytest.approx(0.5, abs=0.01)
    server.answer(429)
    assert server.take() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("later", [{}, {"Retry_After": "1"}], ids=["no time", "an earlier time"])
def test_a_429_does_not_end_the_wait_that_another_one_has_named(server: Server, later: Mapping[str, str]) -> None:
    server.answer(429, Retry_After="30")
    server.answer(429, **later)
    assert server.take() == pytest.approx(30, abs=0.01)


@pytest.mark.parametrize("said", ["0", "Tue, 14 Nov 2023 00:00:00 GMT"])  # at once, and long ago
def test_a_retry_at_once_does_not_hammer_the_server(server: Server, said: str) -> None:
    server.answer(429, Retry_After=said)
    assert server.take() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("value", [*NONSENSE, "3601", "soon", "Fri, 99 Zed 2023 25:00:00 GMT"])
def test_a_retry_after_that_makes_no_sense_is_ignored(server: Server, value: str) -> None:
    server.answer(429, Retry_After=value)
    assert server.take() == pytest.approx(0.5, abs=0.01)


def test_a_reservation_waits_out_a_429(server: Server) -> None:
    server.answer(429, Retry_After="7")
    server.budget.reserve(2, lambda: math.inf, "2 requests")
    assert server.time.sleeps_s == pytest.approx([7], abs=0.01)


def test_an_answer_without_headers_changes_nothing(server: Server) -> None:
    nothing: Mapping[str, str] = {}
    server.budget.note_answer(200, nothing)
    assert [server.take() for _ in range(3)] == [0, 0, 0]
