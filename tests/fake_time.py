"""A time that passes only while somebody sleeps."""


class FakeTime:
    """A clock in seconds, and the sleep that moves it; `sleeps_s` are the sleeps so far."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.sleeps_s: list[float] = []

    def clock(self) -> float:
        """Return the seconds since an arbitrary moment."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let the time pass without waiting for it."""
        self.sleeps_s.append(seconds)
        self.now_s += seconds
