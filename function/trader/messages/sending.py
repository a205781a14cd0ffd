"""Delivery of messages: bounded in time, and never an error for the run that sends them."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from trader.deadline import Deadline
from trader.logs import describe_error, one_line
from trader.messages.base import Channel, Message, MessageError

LOG = logging.getLogger("trader")

MAX_TIME_S = 8.0
"""The longest that a run waits for its messages; a channel that hangs is left alone."""

MARGIN_S = 5.0
"""What is left of the run's time afterwards, so that no message lets Lambda stop the function."""


@dataclass(slots=True)
class _Attempt:
    """A channel's attempt in a thread of its own, and how it ended."""

    channel: Channel
    problem: str = "no answer in time"
    thread: threading.Thread = field(init=False)

    def start(self, message: Message) -> None:
        # A daemon, so that a channel that hangs keeps no process alive.
        self.thread = threading.Thread(target=self._send, args=(message,), daemon=True, name=f"to {self.channel.name}")
        self.thread.start()

    def _send(self, message: Message) -> None:
        try:
            self.channel.send(message)
            self.problem = ""
        except MessageError as error:
            self.problem = one_line(error)
        except BaseException as error:  # whatever a library raises here, the run has done its work
            self.problem = one_line(describe_error(error))


def deliver(
    channels: Sequence[Channel], message: Message, strategy: str, deadline: Deadline, max_time_s: float = MAX_TIME_S
) -> bool:
    """Send a message through all channels side by side, and log how each ended. Return whether one of them took it.

    It never raises, and takes at most `max_time_s`, or what the deadline leaves after a margin.
    """
    time_s = min(max_time_s, deadline.remaining_s() - MARGIN_S)
    extra = {"strategy": strategy, "subject": message.subject}
    if time_s <= 0:
        LOG.error("message not sent", extra={**extra, "channel": "all", "problem": "no time is left"})
        return False
    attempts = [_Attempt(channel) for channel in channels]
    for attempt in attempts:
        attempt.start(message)
    end = time.monotonic() + time_s
    for attempt in attempts:
        attempt.thread.join(max(0.0, end - time.monotonic()))
        if problem := attempt.problem:
            LOG.error("message not sent", extra={**extra, "channel": attempt.channel.name, "problem": problem})
        else:
            LOG.info("message sent", extra={**extra, "channel": attempt.channel.name})
    return any(not attempt.problem for attempt in attempts)
