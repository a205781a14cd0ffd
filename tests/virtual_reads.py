"""Reads side by side in a time that only they move: each takes as long as a test says, whatever the machine does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import override

import pytest

from scripts.testkit.alpaca_api import AlpacaApi
from scripts.testkit.alpaca_direct import DirectBroker
from tests.fake_time import FakeTime
from trader.broker.base import MarketClock
from trader.model import Account, OpenOrder, Order, Position


@dataclass
class VirtualReads:
    """The durations of reads by name, and what was read and sent, with the moments at which it ended."""

    durations_s: Mapping[str, float]
    time: FakeTime = field(default_factory=FakeTime)
    read_at: dict[str, float] = field(default_factory=dict)  # by name, the latest
    sent_at: list[float] = field(default_factory=list)
    ages_s: list[Mapping[str, float]] = field(default_factory=list)  # of the latest reads, at each use

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let side_by_side and execution live in this time."""
        monkeypatch.setattr("trader.reading.Thread", self.thread)
        for module in ("trader.reading", "trader.stages.execution", "trader.broker.waiting"):
            monkeypatch.setattr(f"{module}.time.monotonic", self.time.clock)
        monkeypatch.setattr("trader.broker.waiting.sleep", self.time.sleep)

    def take(self, name: str) -> None:
        """Let a read take its time."""
        self.time.now_s += self.durations_s.get(name, 0.1)
        self.read_at[name] = self.time.now_s

    def use(self) -> None:
        """Note how old the latest reads are."""
        self.ages_s.append({name: self.time.now_s - at for name, at in self.read_at.items()})
        self.read_at = {}

    def thread(self, *, target: Callable[[], None], name: str, daemon: bool) -> "VirtualThread":
        """Return a thread in this time."""
        assert daemon, "a person who interrupts a run does not wait for an answer"
        return VirtualThread(self.time, target, name)


@dataclass
class VirtualThread:
    """A thread that begins when it is started, and ends when its target would have ended."""

    time: FakeTime
    target: Callable[[], None]
    name: str
    ends_at: float = 0.0

    def start(self) -> None:
        begun_at = self.time.now_s
        self.target()
        self.ends_at, self.time.now_s = self.time.now_s, begun_at

    def join(self) -> None:
        self.time.now_s = max(self.time.now_s, self.ends_at)


class TimedBroker(DirectBroker):
    """A broker on the stand-in for Alpaca whose reads take their time."""

    def __init__(self, alpaca: AlpacaApi, reads: VirtualReads) -> None:
        super().__init__(alpaca)
        self.reads = reads

    @override
    def clock(self) -> MarketClock:
        self.reads.take("clock")
        return super().clock()

    @override
    def account(self) -> Account:
        self.reads.take("account")
        return super().account()

    @override
    def open_orders(self) -> tuple[OpenOrder, ...]:
        self.reads.take("open orders")
        return super().open_orders()

    @override
    def positions(self) -> Mapping[str, Position]:
        self.reads.take("positions")
        return super().positions()

    @override
    def latest_prices_usd(self, symbols: object) -> Mapping[str, float]:
        self.reads.take("prices")
        return super().latest_prices_usd(symbols)  # type: ignore[arg-type]

    @override
    def submit(self, order: Order) -> Order:
        self.reads.use()
        return super().submit(order)
