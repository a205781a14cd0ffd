"""What is done for one task of a sweep, in whichever process: forecasts to be shared, or the backtest of one setting.

Tasks carry what they need as bytes, which cost little to hand over, and a worker that has unpacked them once keeps it.
"""

import hashlib
import pickle
import platform
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import trader
from scripts import backtest as home
from scripts.backtest import compute, statistics
from scripts.backtest.engine import backtest
from scripts.backtest.model import Options, Panel

type Figures = dict[str, float | None]
"""The key figures of one backtest."""

PACKAGES = ("backtrader", "cmdstanpy", "empyrical-reloaded", "holidays", "numpy", "pandas", "prophet")
"""Packages that results depend on, in addition to our own code."""

ONE_AT_A_TIME = threading.Lock()
"""Prophet draws from NumPy's global state: in a worker with several threads, tasks would disturb each other."""

UNPACKED = 4
"""Panels, and tables of forecasts, that a worker keeps."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A value as bytes. Two are equal if their digests are."""

    digest: str
    data: bytes = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One setting on one part: its options have the part's days for a span."""

    options: Options
    panel: Packed
    table: Packed  # a list of what `forecast` gave


def pack(value: object) -> Packed:
    """Wrap a value that is handed to many tasks."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return Packed(hashlib.sha256(data).hexdigest(), data)


def forecast(task: compute.Task) -> bytes:
    """Compute the table of forecasts of one task, pickled and compressed."""
    with ONE_AT_A_TIME:
        return zlib.compress(pickle.dumps(compute.compute(task), protocol=pickle.HIGHEST_PROTOCOL), level=1)


def figures(job: Job) -> Figures:
    """Compute the key figures of one backtest."""
    with ONE_AT_A_TIME:
        return statistics.key_figures(backtest(unpack_panel(job.panel), job.options, table=unpack_table(job.table)))


@lru_cache(maxsize=UNPACKED)
def unpack_panel(packed: Packed) -> Panel:
    """Unpack the panel of a job."""
    panel: Panel = pickle.loads(packed.data)  # noqa: S301 - our own bytes
    return panel


@lru_cache(maxsize=UNPACKED)
def unpack_table(packed: Packed) -> compute.Table:
    """Unpack the forecasts of a job."""
    table: compute.Table = {}
    for each in pickle.loads(packed.data):  # noqa: S301 - our own bytes
        table |= pickle.loads(zlib.decompress(each))  # noqa: S301 - our own bytes
    return table


class OtherVersionError(Exception):
    """This process would come to other results than the one that asked."""


def run_guarded[T, R](function: Callable[[T], R], asking: dict[str, str], argument: T) -> R:
    """Do a task in a process that may have joined at any time. Raises OtherVersionError."""
    if others := differences(asking, fingerprint()):
        raise OtherVersionError(others)
    return function(argument)


def differences(here: dict[str, str], there: dict[str, str]) -> str:
    """In words, how another process's fingerprint differs; empty if it does not."""
    return ", ".join(f"{name} {there.get(name)} (here {here[name]})" for name in here if there.get(name) != here[name])


def fingerprint() -> dict[str, str]:
    """Return the versions of all that results depend on: Python, packages, and our own sources."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), "sources": sources(), **packages()}


@lru_cache(maxsize=1)
def packages() -> dict[str, str]:
    """Return the installed versions of the packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "is not installed"
    return found


@lru_cache(maxsize=1)
def sources() -> str:
    """Hash what results depend on: the bot's modules and data, and the backtest's own modules."""
    bot, here = Path(trader.__file__).parent, Path(home.__file__).parent
    digest = hashlib.sha256()
    for path in (*sorted(bot.rglob("*.py")), *sorted(bot.rglob("*.csv")), *sorted(here.glob("*.py")), Path(__file__)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
