"""A budget of requests: how many may be sent to an API now, by our own count and by what its answers say."""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

LOG = logging.getLogger(__name__)

MAX_REQUESTS = 180
"""The most requests in any WINDOW_S seconds.

Alpaca accepts 200 a minute from an account. The difference is for requests that arrive closer together than they were
sent, and for the first requests of another program with the same keys, before an answer tells of them.
"""

WINDOW_S = 60.0

SAFE_FRACTION = 0.9
"""The part of a limit lower than Alpaca's usual one that is used, which is also MAX_REQUESTS' part of 200."""

MAX_PAUSE_S = 15.0
"""The longest of the growing pauses after a 429 that does not say how long to wait."""

MAX_RETRY_AFTER_S = 3600.0
"""The longest Retry-After that is believed; Alpaca's limit is per minute."""

ROUNDING_S = 1.0
"""X-RateLimit-Reset and Date are in whole seconds, so their difference may be a second too short."""

_SLACK_S = 0.001  # added to each wait, or rounding could end it a moment before the request is free


class NoTimeError(Exception):
    """The wait for free requests would take `wait_s`, but only `allowed_s` may be waited."""

    def __init__(self, wait_s: float, allowed_s: float) -> None:
        super().__init__(f"requests are free again in {wait_s:.0f} s, but only {max(allowed_s, 0):.0f} s may be waited")
        self.wait_s = wait_s
        self.allowed_s = allowed_s


class _Told(NamedTuple):
    """The number of requests that the server has left for us, and when that number ends, by our clock."""

    free: int
    until: float


class RequestBudget:
    """At most `max_requests` requests in any `window_s`, and fewer if the server's answers say so.

    After a 429 none is free until the time that the answer names, or else for a pause that begins with `first_pause_s`
    and doubles with each further 429, up to MAX_PAUSE_S. `clock` returns seconds that never go back, `epoch` the Unix
    time; `epoch` is used only for answers without a Date. Threads may share a budget.
    """

    def __init__(
        self,
        max_requests: int = MAX_REQUESTS,
        window_s: float = WINDOW_S,
        first_pause_s: float = 0.5,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self._most = max_requests
        self._max_requests = max_requests
        self._window_s = window_s
        self._first_pause_s = first_pause_s
        self._clock = clock
        self._sleep = sleep
        self._epoch = epoch
        self._lock = threading.Lock()
        self._sent: deque[float] = deque()
        self._told: _Told | None = None
        self._closed_until = float("-inf")
        self._refusals = 0

    def take(self, allowed_s: Callable[[], float], purpose: str) -> None:
        """Wait until a request is free, and count it as sent.

        `allowed_s` returns the seconds that may be waited from now on; a longer wait is not begun and raises
        NoTimeError. `purpose` names the request in the log.
        """
        while (wait_s := self._try_to_take()) > 0:
            self._pause(wait_s, allowed_s(), purpose)

    def reserve(self, count: int, allowed_s: Callable[[], float], purpose: str) -> None:
        """Wait until `count` requests are free, without counting them; raise NoTimeError as `take` does.

        The wait is infinite, and so never allowed, if the budget is smaller than `count`.
        """
        while (wait_s := self.wait_s(count)) > 0:
            self._pause(wait_s, allowed_s(), purpose)

    def wait_s(self, count: int = 1) -> float:
        """Return the seconds until `count` requests are free; infinity if they never are."""
        with self._lock:
            return self._wait_s(count)

    def note_answer(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer's status and headers; what is missing or makes no sense in them is ignored."""
        fields = {name.lower(): value.strip() for name, value in headers.items()}
        with self._lock:
            if status == HTTPStatus.TOO_MANY_REQUESTS:
                self._close(fields)
            else:
                self._refusals = 0
                self._believe(fields)

    def _try_to_take(self) -> float:
        """Count a request if one is free; return the seconds until then, which are 0 if it was counted."""
        with self._lock:
            wait_s = self._wait_s(1)
            if not wait_s:
                self._sent.append(self._clock())
                if self._told:
                    self._told = self._told._replace(free=self._told.free - 1)
            return wait_s

    def _wait_s(self, count: int) -> float:
        now = self._clock()
        while self._sent and self._sent[0] + self._window_s <= now:
            self._sent.popleft()
        if self._told and self._told.until <= now:
            self._told = None
        if count > self._max_requests:
            return float("inf")
        wait_s = self._closed_until - now
        if (excess := len(self._sent) + count - self._max_requests) > 0:
            wait_s = max(wait_s, self._sent[excess - 1] + self._window_s - now)
        if self._told and self._told.free < count:
            wait_s = max(wait_s, self._told.until - now)
        return wait_s + _SLACK_S if wait_s > 0 else 0.0

    def _pause(self, wait_s: float, allowed_s: float, purpose: str) -> None:
        if wait_s > allowed_s:
            raise NoTimeError(wait_s, allowed_s)
        LOG.warning("Alpaca: %s: waiting for the request limit", purpose, extra={"wait_s": round(wait_s, 3)})
        self._sleep(wait_s)

    def _close(self, fields: Mapping[str, str]) -> None:
        """Free no request until the time that a 429 names; the pause is the minimum, in case that time is too early.

        A 429 that comes during a pause is to a request that was under way with the refused one. It can make the pause
        longer, but it neither ends it earlier nor counts as a refusal after it.
        """
        now = self._clock()
        if self._closed_until <= now:
            self._refusals += 1
        pause_s = min(self._first_pause_s * 2 ** min(max(self._refusals - 1, 0), 10), MAX_PAUSE_S)
        asked_s = self._retry_after_s(fields)
        if asked_s is None:
            asked_s = self._reset_s(fields)
        self._told = None
        self._closed_until = max(self._closed_until, now + max(pause_s, asked_s or 0.0))

    def _believe(self, fields: Mapping[str, str]) -> None:
        """Believe the server's own count if it is lower than ours, as it is if another program uses the same keys."""
        if limit := _whole_number(fields.get("x-ratelimit-limit")):
            self._max_requests = min(self._most, max(1, int(limit * SAFE_FRACTION)))
        free, reset_s = _whole_number(fields.get("x-ratelimit-remaining")), self._reset_s(fields)
        if free is None or (reset_s is not None and reset_s <= 0):
            return
        now = self._clock()
        until = now + (self._window_s if reset_s is None else reset_s)
        if self._told and self._told.until > now and until <= self._told.until + ROUNDING_S:
            # The same period of the server's, perhaps in an answer that a later one has overtaken.
            free, until = min(free, self._told.free), max(until, self._told.until)
        self._told = _Told(free, until)

    def _retry_after_s(self, fields: Mapping[str, str]) -> float | None:
        """Return the seconds that Retry-After names, as a number or by a date; None if it is neither or too long."""
        text = fields.get("retry-after")
        seconds: float | None = _whole_number(text)
        if seconds is None and (moment := _http_date(text)) is not None:
            seconds = moment - self._server_time(fields)
        return seconds if seconds is not None and seconds <= MAX_RETRY_AFTER_S else None

    def _reset_s(self, fields: Mapping[str, str]) -> float | None:
        """Return the seconds until X-RateLimit-Reset, negative if it is over; None if it is missing or too far away."""
        reset = _whole_number(fields.get("x-ratelimit-reset"))
        if reset is None:
            return None
        reset_s = reset - self._server_time(fields) + ROUNDING_S
        return reset_s if reset_s <= self._window_s + 2 * ROUNDING_S else None

    def _server_time(self, fields: Mapping[str, str]) -> float:
        """Return the answer's time: that of the server if it has one, because our own clock may be wrong."""
        moment = _http_date(fields.get("date"))
        return self._epoch() if moment is None else moment


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,12}", text) else None


def _http_date(text: str | None) -> float | None:
    """Return an HTTP date as Unix time."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (IndexError, OverflowError, TypeError, ValueError):
        return None
