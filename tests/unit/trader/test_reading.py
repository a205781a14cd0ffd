"""Tests of reads that are carried out side by side."""

import logging
import threading
from collections.abc import Callable
from time import monotonic, sleep

import pytest

from trader import reading
from trader.model import BrokerError
from trader.reading import in_turn, side_by_side

LOG = logging.getLogger("trader.test_reading")


def wait_for(event: threading.Event) -> None:
    assert event.wait(10), "the other read has not begun"


def test_reads_side_by_side_are_all_under_way_before_one_is_answered() -> None:
    first, second = threading.Event(), threading.Event()

    def meet(mine: threading.Event, other: threading.Event) -> str:
        mine.set()
        wait_for(other)
        return "met"

    with side_by_side() as begin:
        answers = [begin(lambda: meet(first, second)), begin(lambda: meet(second, first))]
        assert [answer() for answer in answers] == ["met", "met"]


def test_reads_in_turn_are_carried_out_only_when_asked_for() -> None:
    read: list[str] = []
    with in_turn() as begin:
        first, second = begin(lambda: read.append("first")), begin(lambda: read.append("second"))
        begin(lambda: read.append("nobody asks"))
        second()
        first()
    assert read == ["second", "first"]


def test_an_error_is_raised_where_its_answer_is_asked_for() -> None:
    def fail() -> None:
        raise BrokerError("the clock is broken")

    with side_by_side() as begin:
        broken, sound = begin(fail), begin(lambda: "positions")
        with pytest.raises(BrokerError, match="the clock is broken"):
            broken()
        assert sound() == "positions"


@pytest.mark.parametrize(
    ("error", "level"), [(BrokerError("no answer"), "WARNING"), (KeyError("an oversight"), "ERROR")]
)
def test_an_error_that_nobody_asked_for_is_logged(
    error: Exception, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    with side_by_side() as begin:
        begin(fail)
    (record,) = caplog.records
    assert (record.levelname, str(error) in vars(record)["error"]) == (level, True)
    assert bool(record.exc_info) == (level == "ERROR")


def test_no_read_goes_on_after_the_block() -> None:
    ended: list[str] = []

    def read_slowly() -> None:
        sleep(0.1)
        ended.append("read")

    def stop_early() -> None:
        with side_by_side() as begin:
            begin(read_slowly)
            begin(read_slowly)
            raise LookupError("halted")

    before = threading.active_count()
    with pytest.raises(LookupError, match="halted"):  # the block's own error
        stop_early()
    assert ended == ["read", "read"]
    assert threading.active_count() == before


def log_after(event: threading.Event, words: str) -> Callable[[], None]:
    def read() -> None:
        wait_for(event)
        LOG.warning(words)

    return read


def test_what_reads_log_is_in_the_order_in_which_they_are_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    at_once, later = threading.Event(), threading.Event()
    at_once.set()
    with side_by_side() as begin:
        slow, fast = begin(log_after(later, "slow")), begin(log_after(at_once, "fast"))
        sleep(0.05)  # by now, the second one has logged
        LOG.warning("meanwhile")
        later.set()
        slow()
        LOG.warning("between")
        fast()
    assert [record.message for record in caplog.records] == ["meanwhile", "slow", "between", "fast"]


def test_a_log_line_of_a_read_that_nobody_asks_for_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    event = threading.Event()
    event.set()
    with side_by_side() as begin:
        begin(log_after(event, "here it is"))
    assert [record.message for record in caplog.records] == ["here it is"]


def test_an_answer_that_has_waited_longer_than_a_round_trip_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ROUND_TRIP_S", 0.05)
    moments = iter(("old", "new"))
    with side_by_side() as begin:
        slow, fast = begin(lambda: sleep(0.2)), begin(lambda: next(moments))
        slow()
        assert fast() == "new"


def test_an_answer_that_has_not_waited_is_not_read_again() -> None:
    moments = iter(("first", "second"))
    with side_by_side() as begin:
        slow, fast = begin(lambda: sleep(0.05)), begin(lambda: next(moments))
        slow()
        assert fast() == "first"


def test_without_threads_the_reads_go_on_in_turn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with side_by_side() as begin:
        first, second = begin(lambda: "first"), begin(lambda: "second")
        assert (first(), second()) == ("first", "second")
    assert {vars(record)["error"] for record in caplog.records} == {"can't start new thread"}


def test_a_person_who_interrupts_does_not_wait_for_an_answer() -> None:
    answered, is_waiting = threading.Event(), threading.Event()

    def wait_in_vain() -> None:
        is_waiting.set()
        wait_for(answered)

    def interrupt() -> None:
        with side_by_side() as begin:
            begin(wait_in_vain)
            wait_for(is_waiting)
            raise KeyboardInterrupt

    begun_at = monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    waited_s = monotonic() - begun_at
    answered.set()
    assert waited_s < 5
