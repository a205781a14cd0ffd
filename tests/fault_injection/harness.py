"""The harness: the deployed function in AWS's runtime interface, with every outside service behind a real socket."""

import atexit
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import create_loader

from scripts.layer import manifest
from scripts.layer.archive import unpack
from scripts.layer.bytecode import compile_tree
from scripts.layer.emulator import prepare_function
from scripts.layer.package import package
from scripts.layer.target import LayerError, Target
from scripts.testkit import aws, lambda_runtime
from scripts.testkit.lambda_runtime import FunctionError, RuntimeInterface
from tests.fault_injection import market
from tests.fault_injection.faults import Fault, Faults
from tests.fault_injection.faulty_services import (
    OWN,
    FaultyAlpaca,
    FaultyAws,
    FaultyYahoo,
    bars,
    listings,
)
from trader.codec import encode
from trader.model import NEW_YORK
from trader.schedule.base import slot_id

# Each session of boto3 would read the descriptions of AWS's services again; every harness has two.
botocore.session.create_loader = cache(create_loader)

HANDLER = Path(__file__).with_name("function")
TARGET = Target("3.13", "x86_64")
STRATEGY = "trend"
BUCKET = "journal"
TIMEOUT_S = 300
"""The function's timeout in Terraform."""

LIMITS: Mapping[str, float] = {
    "MAX_ORDERS_PER_RUN": 5,
    "MAX_ORDER_USD": 9_000,
    "MAX_POSITION_FRACTION": 0.08,
    "CASH_BUFFER_FRACTION": 0.6,
    "MAX_DAILY_LOSS_FRACTION": 0.03,
}
STOP_LOSS_FRACTION, MAX_PRICE_DRIFT_FRACTION = 0.03, 0.01
SETTINGS = {
    "BAR_INTERVAL": "1d",
    "HISTORY_BARS": "60",
    "MAX_PRICE_AGE_S": "86400",
    "MODE": "paper",
    "PRICE_SOURCES": "yahoo,alpaca",
    "STOP_LOSS_FRACTION": f"{STOP_LOSS_FRACTION:g}",
    "MAX_PRICE_DRIFT_FRACTION": f"{MAX_PRICE_DRIFT_FRACTION:g}",
    "STRATEGY": STRATEGY,
    "UNIVERSE": ",".join(market.SYMBOLS),
    "UNIVERSE_LOOKBACK_BARS": "20",
    **{name: f"{value:g}" for name, value in LIMITS.items()},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The delivery of an event: its slot, the function's clock on arrival, and anything unusual."""

    slot: datetime
    clock: datetime
    promised_s: float | None = None  # the time left according to the context, if wrong
    forgets_keys: bool = False  # read the keys again, as a new process does
    is_clock_wrong: bool = False  # the function's clock is not Alpaca's

    def payload(self, env: Mapping[str, str], sleep_file: Path) -> dict[str, object]:
        """Return the payload for the gauntlet's handler."""
        told = {"promised_s": self.promised_s, "forgets_keys": self.forgets_keys, "sleep_file": str(sleep_file)}
        return {"time": encode(self.slot), "clock": encode(self.clock), "env": dict(env), **told}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of an event: a report, or the error that raises the alarm."""

    event: Event
    report: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def status(self) -> str:
        """The report's status, or a word for the error."""
        if self.report:
            return str(self.report["status"])
        ends = {"exited with error: signal": "killed", "gave no answer": "timed out"}
        return next((word for words, word in ends.items() if words in self.error), self.error.partition(":")[0])

    @property
    def words(self) -> str:
        """The status, marked if an alarm is raised."""
        return self.status if self.report else f"alarm: {self.status}"


@dataclass
class Harness:
    """One account, one journal, and the function between them. `task` is the unpacked function."""

    task: Path
    engine: str = "map"
    timeout_s: int = TIMEOUT_S
    wrapper: Path | None = None  # a program that starts the emulator; `tmp` next to it becomes TMPDIR
    variables: Mapping[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    now: datetime = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    halted: bool = False
    prefix: str = ""
    interfaces: list[RuntimeInterface] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)  # settings for later deliveries
    met: Mapping[str, int] = field(default_factory=dict)  # faults that occurred in the last delivery
    symbols: Sequence[str] = market.SYMBOLS
    limits: Mapping[str, float] = field(default_factory=lambda: LIMITS)  # in force, for the invariants
    log_from: int = 0  # where the log of the last delivery begins

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.alpaca = self._stack.enter_context(FaultyAlpaca(self.faults, self.kill, lambda: self.halted))
        self.yahoo = self._stack.enter_context(FaultyYahoo.of(self.faults, self.kill))
        self.aws = self._stack.enter_context(FaultyAws(self.faults, self.kill))
        self.alpaca.holidays, self.alpaca.early_closes = set(market.HOLIDAYS), set(market.EARLY_CLOSES)
        self.name = f"harness{next(_NUMBERS)}"
        self._s3, self._ssm = (self._client(service) for service in ("s3", "ssm"))
        with suppress(self._s3.exceptions.BucketAlreadyOwnedByYou):
            self._s3.create_bucket(Bucket=BUCKET)
        for name, value in {"alpacauser": self.alpaca.key_id, "alpacapw": self.alpaca.secret}.items():
            self.put(name, value)
        folder = self._stack.enter_context(TemporaryDirectory(prefix="gauntlet-clock-"))
        self.sleep_file = Path(folder) / "sleep"
        self._emulators = ExitStack()
        self._stack.callback(lambda: self._emulators.close())
        self.restart()
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _client(self, service: str) -> Any:
        """Return a client for the gauntlet's own calls, which get no faults."""
        env = aws.environment(self.aws.port)
        client: Callable[..., Any] = boto3.session.Session().client
        return client(
            service,
            endpoint_url=env["AWS_ENDPOINT_URL"],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            config=Config(user_agent_extra=OWN),
        )

    # --- the function's processes ---

    def restart(self) -> None:
        """Replace all processes with a new one."""
        self._emulators.close()
        self.interfaces.clear()
        self.process(0)

    def process(self, number: int) -> RuntimeInterface:
        """Return the function's process with this number, from 0 on; start it if necessary."""
        while len(self.interfaces) <= number:
            function = prepare_function(TARGET, self.task, [HANDLER, unpack_layer()], "gauntlet_handler.handler")
            if self.wrapper:
                function = replace(function, emulator=self.wrapper)
            env = {
                **aws.environment(self.aws.port),
                **self.yahoo.environment,
                **SETTINGS,
                "ENGINE": self.engine,
                **self.alpaca.environment,
                "ALPACAUSER": f"ssm:/{self.name}/alpacauser",
                "ALPACAPW": f"ssm:/{self.name}/alpacapw",
                "HALT_PARAMETER": f"/{self.name}/halt",
                "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout_s),
                **({"TMPDIR": str(self.wrapper.parent / "tmp")} if self.wrapper else {}),
                **self.variables,
            }
            self.interfaces.append(self._emulators.enter_context(lambda_runtime.running(function, env)))
        return self.interfaces[number]

    def kill(self) -> None:
        """Kill the function's processes without warning, as a failing machine would."""
        for pid in [pid for each in self.interfaces for pid in function_pids(each.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- the services ---

    def reset(self, gaps: Mapping[str, float] | None = None, now: datetime | None = None) -> None:
        """Start a new account and a new journal, but keep the function's process."""
        self.faults.plan([])
        self.prefix = f"{self.name}-{next(_NUMBERS)}"
        self.alpaca.reset()
        self.env = {}
        self.sleep_file.write_text("0")
        self.now = now or datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
        self.halt(False)
        self.at(self.now, gaps or {})

    def halt(self, is_on: bool) -> None:
        """Turn the halt switch on or off."""
        self.put("halt", "true" if is_on else "false")
        self.halted = is_on

    def put(self, name: str, value: str) -> None:
        """Set one of the function's parameters."""
        self._ssm.put_parameter(Name=f"/{self.name}/{name}", Value=value, Type="SecureString", Overwrite=True)

    def sleep(self, hours: float) -> None:
        """Let the time go on by some hours, for Alpaca and for a run under way, as when its machine is suspended."""
        self.alpaca.now += timedelta(hours=hours)
        self.sleep_file.write_text(f"{hours * 3600:g}")

    @property
    def log(self) -> str:
        """The log of all processes."""
        return "".join(interface.log for interface in self.interfaces)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log records of the last delivery."""
        return [read_line(line) for line in self.log[self.log_from :].splitlines() if line.startswith("{")]

    def endow(self, **quantities: float) -> None:
        """Add holdings that the function bought in an earlier slot, in brackets."""
        for symbol, quantity in quantities.items():
            name = f"{STRATEGY}-{slot_id(self.now - timedelta(days=1))}-{symbol}-buy"
            self.alpaca.hold_in_bracket(symbol, quantity, stop_fraction=STOP_LOSS_FRACTION, client_order_id=name)
        self.alpaca.accepted.clear()
        self.alpaca.last_equity = self.alpaca.equity
        self.alpaca.remember()

    def at(self, moment: datetime, gaps: Mapping[str, float], *, trade: bool = True) -> None:
        """Advance the market to a moment, with each price off its line by a fraction.

        Waiting orders are filled then, and stops whose price is reached; not without `trade`.
        """
        if self.alpaca.prices:
            self.alpaca.remember()
        with self.alpaca.lock:
            if moment.date() > self.now.date():
                self.alpaca.close_day()
            self.now = self.alpaca.now = moment
            prices = market.closes(gaps, self.symbols)
            self.alpaca.prices = {symbol: series[-1] for symbol, series in prices.items()}
            self.alpaca.bars = bars(prices, moment)
            if trade:
                self.alpaca.trade()
        self.yahoo.listings = {
            symbol.replace(".", "-"): listing for symbol, listing in listings(prices, moment).items()
        }
        if not self.alpaca.yesterday:
            self.alpaca.remember()

    def deliver(self, *events: Event, faults: Sequence[Fault] = (), at_once: bool = False) -> list[Answer]:
        """Invoke the function for each event, one after another, or at once in separate processes."""
        self.faults.plan(faults)
        self.alpaca.begin_slot()
        self.log_from = len(self.log)
        try:
            if not at_once:
                return [self._invoke(0, event) for event in events]
            for number in range(len(events)):
                self.process(number)
            with ThreadPoolExecutor(len(events)) as pool:
                return list(pool.map(self._invoke, range(len(events)), events))
        finally:
            self.alpaca.arrive()
            self.met = dict(self.faults.met)
            self.faults.plan([])
            self.sleep_file.write_text("0")

    def _invoke(self, number: int, event: Event) -> Answer:
        env = self._settings()
        if not event.is_clock_wrong:
            self.alpaca.now = max(self.alpaca.now, event.clock)  # Alpaca's clock stays right if the event's is slow
        try:
            return Answer(event=event, report=self.process(number).invoke(event.payload(env, self.sleep_file)))
        except FunctionError as error:
            return Answer(event=event, error=" ".join(str(error).split())[:400])

    def tell(self, moment: datetime) -> Mapping[str, Any]:
        """Hand the function the event of the digest's rule, and return what became of it."""
        payload = Event(slot=moment, clock=moment).payload(self._settings(), self.sleep_file)
        answer: Mapping[str, Any] = self.process(0).invoke({**payload, "do": "digest"})
        return answer

    def _settings(self) -> Mapping[str, str]:
        return {"JOURNAL": f"s3://{BUCKET}/{self.prefix}", **self.env}

    # --- inspection ---

    def record(self, slot: datetime) -> dict[str, Any] | None:
        """Return the record of a slot's run; None if there is none."""
        text = self._text(slot, "json")
        found: dict[str, Any] | None = None if text is None else json.loads(text)
        return found

    def plan(self, slot: datetime) -> dict[str, Any] | None:
        """Return the plan of a slot's run; None if there is none."""
        text = self._text(slot, "started")
        found: dict[str, Any] | None = None if text is None else json.loads(text)
        return found

    def damage(self, name: str, content: bytes) -> None:
        """Replace an object of the journal; `name` is its place in the journal."""
        self._s3.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}", Body=content)

    def objects(self) -> list[str]:
        """Return the places of all objects of the journal."""
        listing = self._s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return [each["Key"].removeprefix(f"{self.prefix}/") for each in listing.get("Contents", [])]

    def is_claimed(self, slot: datetime) -> bool:
        """Tell whether a run has claimed the slot."""
        return self._text(slot, "claim") is not None

    def _text(self, slot: datetime, kind: str) -> str | None:
        day = slot.astimezone(NEW_YORK).date()
        name = f"{self.prefix}/runs/{STRATEGY}/{day}/{slot_id(slot)}.{kind}"
        try:
            return str(self._s3.get_object(Bucket=BUCKET, Key=name)["Body"].read().decode())
        except self._s3.exceptions.NoSuchKey:
            return None

    def memory_bytes(self) -> int:
        """Return the resident memory of the function's process."""
        (pid,) = function_pids(self.interfaces[0].pid)
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        """Return the number of files and sockets that the function's process has open."""
        (pid,) = function_pids(self.interfaces[0].pid)
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


_NUMBERS = count()


def read_line(line: str) -> dict[str, Any]:
    """Return the fields of a line of the log; none if it is not JSON, such as a line that was cut off."""
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def function_pids(leader: int) -> list[int]:
    """Return the processes of the function's Python in an emulator's session."""
    members = [pid for pid in lambda_runtime.processes() if lambda_runtime.session(pid) == leader]
    found = []
    for pid in members:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"awslambdaric" in words and Path(words[0].decode()).name.startswith("python"):
                found.append(pid)
    return found


UNPACKED = "GAUNTLET_UNPACKED"
"""The variable that tells child processes where the unpacked function and layer are."""


@cache
def _folder() -> Path:
    if UNPACKED in os.environ:
        return Path(os.environ[UNPACKED])
    folder = TemporaryDirectory(prefix="gauntlet-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def share() -> None:
    """Unpack the function and the layer once for this process and its children. Raises LayerError."""
    unpack_layer()
    unpack_function()
    os.environ[UNPACKED] = str(_folder())


_LOCK = threading.Lock()


@cache
def unpack_layer() -> Path:
    """Unpack the finished layer, and return its folder. Raises LayerError if it is missing or out of date."""
    with _LOCK:
        if UNPACKED in os.environ:
            return _folder() / "layer" / "python"
        if reason := manifest.reason_to_build(TARGET):
            raise LayerError(f"{reason}; {TARGET.make('layer')} builds it")
        unpack(TARGET.zip, _folder() / "layer")
        return _folder() / "layer" / "python"


@cache
def unpack_function() -> Path:
    """Unpack the function as `make package` zips it, compile it for all processes, and return its folder.

    Python takes the bytecode without looking at the source: whoever changes a file in a copy must remove its bytecode.
    """
    with _LOCK:
        if UNPACKED in os.environ:
            return _folder() / "task"
        unpack(package(zip_file=_folder() / "function.zip"), _folder() / "task")
        compile_tree(TARGET.interpreter(), _folder() / "task")
        return _folder() / "task"


@contextmanager
def start_harness(**options: Any) -> Iterator[Harness]:
    """Start a harness for the deployed function, unless `task` names another."""
    with Harness(**{"task": unpack_function(), **options}) as made:
        yield made
