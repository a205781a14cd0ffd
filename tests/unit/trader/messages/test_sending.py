"""Messages are sent, or the log says why not; the run is neither delayed nor stopped by them."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from trader.deadline import Deadline
from trader.messages.base import MAX_TEXT_CHARACTERS, Message, MessageError
from trader.messages.sending import MARGIN_S, deliver

MESSAGE = Message("trend: held without a stop (AAPL)", "AAPL has no stop")
NEVER = Deadline.never()


@dataclass
class Channel:
    """A channel that does what it is told to."""

    name: str = "a channel"
    behave: Callable[[], object] = lambda: None
    sent: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        self.behave()
        self.sent.append(message)


def fail(error: BaseException) -> Callable[[], None]:
    def behave() -> None:
        raise error

    return behave


def test_a_message_goes_through_each_channel_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trader")
    channels = [Channel("SNS"), Channel("ntfy")]
    assert deliver(channels, MESSAGE, "trend", NEVER)
    assert [each.sent for each in channels] == [[MESSAGE], [MESSAGE]]
    assert [(each.message, vars(each)["channel"]) for each in caplog.records] == [
        ("message sent", "SNS"),
        ("message sent", "ntfy"),
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MessageError("the service answered with status 500"), "the service answered with status 500"),
        (RuntimeError("odd"), "RuntimeError: odd"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_channel_that_fails_is_named_in_the_log_with_the_reason(
    error: BaseException, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not deliver([Channel("ntfy", fail(error))], MESSAGE, "trend", NEVER)
    (line,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert (line.message, vars(line)["channel"], vars(line)["problem"]) == ("message not sent", "ntfy", words)


def test_one_channel_that_fails_does_not_keep_the_message_from_another() -> None:
    other = Channel("SNS")
    assert deliver([Channel("ntfy", fail(MessageError("no"))), other], MESSAGE, "trend", NEVER)
    assert other.sent == [MESSAGE]


def test_channels_that_never_answer_are_left_alone_together_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    hanging = [Channel(name, ended.wait) for name in ("ntfy", "slack", "discord")]
    begun = time.monotonic()
    try:
        assert not deliver(hanging, MESSAGE, "trend", NEVER, max_time_s=0.2)
        assert time.monotonic() - begun < 0.55  # and not three times as long
    finally:
        ended.set()
    assert {vars(each)["problem"] for each in caplog.records} == {"no answer in time"}


def test_without_time_nothing_is_begun(caplog: pytest.LogCaptureFixture) -> None:
    channel = Channel()
    assert not deliver([channel], MESSAGE, "trend", Deadline(lambda: MARGIN_S))
    assert not channel.sent
    assert "no time is left" in str([vars(each).get("problem") for each in caplog.records])


def test_a_long_text_is_cut_at_the_end_of_a_line_and_says_how_much_is_missing() -> None:
    text = "\n".join(f"line {number}" for number in range(1_000))
    short = Message("subject", text).short_text
    lines = short.splitlines()
    assert len(short) < MAX_TEXT_CHARACTERS + 30
    assert lines[-1] == f"({1_000 - (len(lines) - 1)} more lines)"
    assert lines[-2] == f"line {len(lines) - 2}"
