"""A limit on requests, as Alpaca has one, and the headers of an answer that tell of it."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Literal


class RequestLimit:
    """A limit of `requests_per_minute` in any `rate_window_s` seconds of `rate_clock`; without a number, no limit.

    A request beyond it is refused and not counted. `sends_rate_headers` adds Alpaca's X-RateLimit headers to every
    answer, `retry_after` says whether and how a 429 names the time to wait, and `header_overrides` are sent with every
    answer.
    """

    def __init__(self) -> None:
        self.requests_per_minute: int | None = None
        self.rate_window_s = 60.0
        self.rate_clock: Callable[[], float] = time.monotonic
        self.sends_rate_headers = False
        self.retry_after: Literal["", "seconds", "date"] = ""
        self.header_overrides: dict[str, str] = {}
        self._counted: deque[float] = deque()

    def use_requests(self, count: int) -> None:
        """Count requests of another program with the same keys."""
        self._counted.extend([self.rate_clock()] * count)

    def count_request(self) -> bool:
        """Count a request and return True; return False if it must be refused."""
        if self.requests_per_minute is None:
            return True
        if self._left(self.requests_per_minute) <= 0:
            return False
        self._counted.append(self.rate_clock())
        return True

    def rate_headers(self, status: int) -> Mapping[str, str]:
        """Return the headers about the limit for an answer with this status."""
        headers: dict[str, str] = {}
        if self.requests_per_minute is not None:
            left = max(self._left(self.requests_per_minute), 0)
            wait_s = self._counted[0] + self.rate_window_s - self.rate_clock() if self._counted else 0.0
            reset = math.ceil(time.time() + wait_s)
            if self.sends_rate_headers:
                headers["X-Ratelimit-Limit"] = str(self.requests_per_minute)
                headers["X-Ratelimit-Remaining"] = str(left)
                headers["X-Ratelimit-Reset"] = str(reset)
            if self.retry_after and status == HTTPStatus.TOO_MANY_REQUESTS:
                moment = format_datetime(datetime.fromtimestamp(reset, UTC), usegmt=True)
                headers["Retry-After"] = str(math.ceil(wait_s)) if self.retry_after == "seconds" else moment
        return headers | self.header_overrides

    def _left(self, limit: int) -> int:
        while self._counted and self._counted[0] + self.rate_window_s <= self.rate_clock():
            self._counted.popleft()
        return limit - len(self._counted)
