"""Measurement of a cold run's duration at a given memory, in AWS's runtime interface and from the finished zips.

Lambda gives a function a share of a processor in proportion to its memory, and a whole one at 1,769 MB. Here the
function has one processor to itself. It computes for a time that the kernel measures, and waits for the rest. With a
share of a processor, computing takes 1 / share times as long, and waiting takes as long as here. The result errs on the
high side: computing that overlaps a wait is counted as if it came after it.

Yahoo, Alpaca and AWS are stand-ins on this machine; Yahoo and Alpaca answer after a delay.
"""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from math import inf
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from scripts.layer.emulator import prepare_function
from scripts.layer.package import ZIP, package
from scripts.layer.target import LayerError, Target, shorten_path
from scripts.layer.verify import unpack_zips
from scripts.testkit.lambda_runtime import TIMEOUT_S, Function, RuntimeInterface, running
from trader.codec import decode_time, encode
from trader.digest.run import AT
from trader.digest.text import BENCHMARK
from trader.model import NEW_YORK
from trader.progress import Progress
from trader.schedule import sessions
from trader.schedule.base import slot_id
from trader.stages.universe import sp500

if TYPE_CHECKING:
    from scripts.testkit.services import Services

LATENCY_S = 0.15
BARS, CHOSEN, HELD, SOLD = 250, 20, 20, 5
BRACKETS_USD = 100_000
"""More than the holdings in brackets cost."""

SLOTS = 26
"""Slots of a session, and records of its runs."""

DIP, RISE = -0.05, 0.05
MB_PER_PROCESSOR = 1_769
SYSTEM_BYTES = 700
"""Bytes of the lines that Lambda itself logs for an invocation."""

EVENT_DELAYS_MIN = (3, 2, 1, 0)
"""How late the event of a measured run may be, in minutes; each run has a slot of its own."""

KINDS = {
    "first": f"the first run of a day: ranks the S&P 500, forecasts {CHOSEN}, buys {CHOSEN}",
    "later": f"a later run: {CHOSEN} candidates, {HELD} other positions, {SOLD} of these sold",
    "closed": "a run while the market is closed, or an event that is not due",
    "digest": f"a digest: decides the {SLOTS} slots of the day again",
}

DONE = {
    "first": ("TRADED", CHOSEN, 0, True),
    "later": ("TRADED", 0, SOLD, False),
    "closed": ("MARKET_CLOSED", 0, 0, False),
    "digest": ("NOT_SENT", 0, 0, False),
}
"""The required result of each kind of run: status, buys, sales, and whether it requested the S&P 500's prices.

A digest is not sent because nobody's address is set.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A cold run: what Lambda would bill for it, and what it logged and kept."""

    billed_s: float  # init and run
    init_s: float
    peak_mb: float
    log_bytes: int
    kept_bytes: int  # in the bucket
    waited_s: float = 0.0
    computed_s: float = 0.0  # on a whole processor, init included
    computed_init_s: float = 0.0
    max_s: float = inf  # it stops by itself then

    def at(self, memory_mb: int) -> Self:
        """Return what Lambda would bill for the same run with another memory."""
        share = share_of(memory_mb)
        billed_s = min(self.waited_s + self.computed_s / share, self.max_s)
        return replace(self, billed_s=round(billed_s, 3), init_s=round(self.computed_init_s / share, 3))


def measure(target: Target, memory_mb: int, progress: Progress, engine: str = "") -> Mapping[str, Measured]:
    """Measure one run of each kind, with the function as it is now. Raises LayerError if the layer is missing."""
    with measuring(target, memory_mb, engine) as under_measure:
        return under_measure.run_all(progress)


@contextmanager
def measuring(target: Target, memory_mb: int, engine: str = "") -> Iterator["FunctionUnderMeasure"]:
    """Yield the function as it is now, on a market of its own; `engine` is the value of ENGINE."""
    check(target)
    package()
    with unpack_zips(target.zip, ZIP) as folder, market() as services:
        function = prepare_function(target, folder / "task", [folder / "layer" / "python"])
        yield FunctionUnderMeasure(function=function, memory_mb=memory_mb, services=services, engine=engine)


def check(target: Target) -> None:
    """Raise LayerError unless the finished layer exists and can run here."""
    if not target.zip.is_file():
        raise LayerError(f"there is no {shorten_path(target.zip)} to measure; build it with {target.make('layer')}")
    if not target.runs_here:
        raise LayerError(f"a layer for {target.machine} can be measured only on a Linux machine of that kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUnderMeasure:
    """A function to measure, and the memory, the services and the engine that it runs with."""

    function: Function
    memory_mb: int
    services: "Services"
    engine: str = ""  # the default one
    slots: set[datetime] = field(default_factory=set)  # of the runs so far

    def run_all(self, progress: Progress) -> Mapping[str, Measured]:
        """Measure one run of each kind."""
        measured: dict[str, Measured] = {}
        for number, kind in enumerate(("closed", "first", "later")):
            progress("measuring", number, len(KINDS))
            measured[kind] = self.run(kind)
        progress("measuring", len(measured), len(KINDS))
        measured["digest"] = self.make_digest()
        progress("measuring", len(KINDS), len(KINDS))
        return {kind: measured[kind] for kind in KINDS}

    def run(self, kind: str) -> Measured:
        """Measure a cold run. Raises LayerError if it did not do its kind's work, which makes its time meaningless."""
        alpaca = self.services.alpaca
        alpaca.is_open = kind != "closed"
        if kind == "later":
            for symbol in sp500()[CHOSEN : CHOSEN + HELD]:
                alpaca.hold(symbol, 10, 100)
        return self._invoke(kind, self._next_event(), DONE[kind])[1]

    def run_in_brackets(self, sold: int) -> Measured:
        """Measure a later run that sells so many of its holdings, each of which is in a bracket. Raises LayerError."""
        from scripts.testkit.yahoo import Listing

        services, alpaca = self.services, self.services.alpaca
        alpaca.cash += BRACKETS_USD
        for number in range(CHOSEN, CHOSEN + HELD):
            symbol = sp500()[number]
            closes = make_closes(number, sold)
            services.yahoo.listings[symbol.replace(".", "-")] = Listing(closes, datetime.now(UTC))
            alpaca.prices[symbol] = closes[-1]
            alpaca.positions.pop(symbol, None)
            alpaca.orders[:] = [order for order in alpaca.orders if order.symbol != symbol]
            alpaca.hold_in_bracket(symbol, 10, client_order_id=f"of-a-day-before-{sold}-{symbol}")
        return self._invoke("later", self._next_event(), ("TRADED", 0, sold, False))[1]

    def _next_event(self) -> Mapping[str, str]:
        """Return the event of a slot that no run has had; wait for the next minute if there is none."""
        while True:
            minute = datetime.now(UTC).replace(second=0, microsecond=0)
            for delay_min in EVENT_DELAYS_MIN:
                if (slot := minute - timedelta(minutes=delay_min)) not in self.slots:
                    self.slots.add(slot)
                    return {"time": f"{slot:%Y-%m-%dT%H:%M:00Z}"}
            time.sleep(1)

    def make_digest(self) -> Measured:
        """Measure the digest of a session of which every slot has a record. Raises LayerError if it is not that."""
        day = datetime.now(NEW_YORK).date()
        while sessions.session(day) is None or len(list_slots(day)) < SLOTS:
            day -= timedelta(days=1)
        self._keep_records(day)
        event = {"do": "digest", "time": datetime.combine(day, AT, NEW_YORK).isoformat()}
        answer, measured = self._invoke("digest", event, DONE["digest"])
        if f"{SLOTS} slots decided again, the same" not in answer["message"]["text"]:
            raise LayerError(f"the measured digest did not decide a day again:\n{answer['message']['text']}")
        # A digest stops in time, and leaves out the slots that it has no time for.
        return replace(measured, max_s=float(TIMEOUT_S)).at(self.memory_mb)

    def _keep_records(self, day: date) -> None:
        """Give each slot of a session the record of one of the measured runs, as if it had been its own."""
        measured = sorted(key for key in self.services.list_objects() if "/runs/" in key and key.endswith("Z.json"))
        first, later = (self.services.read_object(key) for key in measured[-2:])
        folder = f"{measured[-1].rpartition('/runs/')[0]}/runs/{measured[-1].split('/')[-3]}/{day}"
        for number, slot in enumerate(list_slots(day)):
            record = json.loads(later if number else first)
            record["chain"]["previous"] = {}
            text, measured_slot = json.dumps(record), decode_time(record["report"]["slot"])
            for spell in (encode, slot_id):
                text = text.replace(str(spell(measured_slot)), str(spell(slot)))
            self.services.write_object(f"{folder}/{slot_id(slot)}.json", text.encode())

    def _invoke(self, kind: str, event: Mapping[str, str], done: tuple[str, int, int, bool]) -> tuple[Any, Measured]:
        """Return the function's answer to an event, cold, and what it took; `done` is what it must have done."""
        alpaca, yahoo = self.services.alpaca, self.services.yahoo
        placed, charts, kept = len(alpaca.orders), len(yahoo.requests), self.count_kept_bytes()
        env = {
            **self.services.environment,
            "UNIVERSE": "sp500",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            **({"ENGINE": self.engine} if self.engine else {}),
        }
        with (
            TemporaryDirectory() as tmp,
            run_on_one_processor(self.function, {**env, "TMPDIR": tmp}) as interface,
        ):
            begun = time.perf_counter()
            answer = interface.invoke(event, timeout_s=2 * TIMEOUT_S)
            took_s = time.perf_counter() - begun
            computed_s = interface.processor_s
            measured = Measured(
                billed_s=took_s,
                init_s=interface.init_ms / 1000,
                peak_mb=round(interface.peak_mb, 1),
                log_bytes=log_bytes(interface),
                kept_bytes=self.count_kept_bytes() - kept,
                waited_s=max(took_s - computed_s, 0.0),
                computed_s=computed_s,
                computed_init_s=interface.init_ms / 1000,  # imports: nothing but computing
            ).at(self.memory_mb)
        sides = Counter(order.side for order in alpaca.orders[placed:] if order.type == "market")
        found = (answer["status"], sides["buy"], sides["sell"], len(yahoo.requests) - charts > len(sp500()))
        if found != done:
            raise LayerError(
                f"the measured run was not {KINDS[kind]}: (status, buys, sales, S&P 500 requested) is "
                f"{found}, not {done}; its first denials: {answer.get('denials', [])[:2]}"
            )
        return answer, measured

    def count_kept_bytes(self) -> int:
        """Return the size in bytes of all objects in the journal's bucket."""
        return sum(self.services.list_objects().values())


def list_slots(day: date) -> Sequence[datetime]:
    """Return the slots of a session, one each quarter of an hour."""
    midnight = datetime.combine(day, datetime.min.time(), NEW_YORK)
    slots = [midnight + number * timedelta(minutes=15) for number in range(96)]
    return [slot.astimezone(UTC) for slot in slots if sessions.is_open(slot)]


def share_of(memory_mb: int) -> float:
    """Return the share of a processor that Lambda gives one thread of a function with this much memory: at most all."""
    return min(memory_mb / MB_PER_PROCESSOR, 1.0)


@contextmanager
def run_on_one_processor(function: Function, env: Mapping[str, str]) -> Iterator[RuntimeInterface]:
    """Run the function and its child processes on one processor, so that they never compute at the same time."""
    allowed = os.sched_getaffinity(0)
    with ExitStack() as stack:
        os.sched_setaffinity(0, {max(allowed)})  # child processes inherit it
        try:
            interface = stack.enter_context(running(function, env))
        finally:
            os.sched_setaffinity(0, allowed)
        yield interface


def log_bytes(interface: RuntimeInterface) -> int:
    """Return the bytes that the function's JSON lines and Lambda's own lines take in CloudWatch."""
    return SYSTEM_BYTES + sum(len(line.encode()) for line in interface.log.splitlines() if line.startswith("{"))


@contextmanager
def market() -> Iterator["Services"]:
    """Start the stand-ins with the S&P 500: the best 20 stocks are below their trend lines, and 5 others above."""
    from scripts.testkit import services

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # moto logs every request
    closes = {symbol: make_closes(number) for number, symbol in enumerate((*sp500(), BENCHMARK))}
    with services.start(closes, latency_s=LATENCY_S) as there:
        yield there


def make_closes(number: int, sold: int = SOLD) -> Sequence[float]:
    """Make the closes of the `number`th symbol: a slightly noisy line that ends in a jump if it will be traded."""
    import numpy as np

    growth = 3.0 if number < CHOSEN else 0.1
    jump = DIP if number < CHOSEN else RISE if number < CHOSEN + sold else 0.0
    noise = np.random.default_rng(number).normal(0, 0.002, BARS)
    closes: list[float] = (np.linspace(100, 100 * (1 + growth), BARS) * np.exp(noise)).tolist()
    return [*closes[:-1], closes[-1] * (1 + jump)]
