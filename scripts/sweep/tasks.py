"""The tasks of a sweep, which run in any process: forecasts that settings share, and backtests of one setting.

Tasks name the prices and the forecasts that they share: see sharing. A worker keeps what it unpacked last.
"""

import base64
import hashlib
import pickle
import platform
import threading
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import trader
from scripts import backtest as home
from scripts.backtest import compute, statistics
from scripts.backtest.engine import backtest
from scripts.backtest.model import Options
from scripts.backtest.uncertainty import Numbers
from scripts.sweep import panels, requests
from scripts.sweep.panels import PartPanel
from scripts.sweep.requests import Request
from scripts.sweep.sharing import Shared
from trader.alpha import own
from trader.alpha.confinement import Sources

type Figures = dict[str, Any]
"""The key figures of one backtest, float or None, and its RETURNS."""

RETURNS = "returns"
"""The name of the returns of a backtest's bars among its figures, packed: see pack_returns."""

PACKAGES = ("backtrader", "cmdstanpy", "empyrical-reloaded", "holidays", "numpy", "pandas", "prophet")
"""Packages that results depend on, in addition to our own code."""

ONE_AT_A_TIME = threading.Lock()
"""Held by each task: Prophet draws from NumPy's global state, so tasks in several threads would disturb each other."""

UNPACKED = 2
"""Number of unpacked forecast tables that a worker keeps: that of the setting before and of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastJob:
    """Forecasts of some symbols at some bars of a part."""

    panel: PartPanel
    bar_interval: str
    key: compute.Key
    requests: tuple[Request, ...]

    def make_task(self) -> compute.Task:
        """Return the computation, with its closes cut from the part's."""
        return requests.to_task(self.requests, self.key, self.panel.fitted(self.bar_interval))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The backtest of one setting on one part, whose days are the span of the options."""

    options: Options
    panel: PartPanel
    table: Shared[tuple[bytes, ...]]  # results of `forecast`
    rule: Sources = ()  # the files of an own rule, because a worker may have another folder, or another machine


def forecast(job: ForecastJob) -> bytes:
    """Compute the table of forecasts of one task; return it pickled and compressed."""
    with ONE_AT_A_TIME:
        return pack_forecasts(compute.compute(job.make_task()))


def pack_forecasts(made: compute.Table) -> bytes:
    """Return a table of forecasts, pickled and compressed."""
    return zlib.compress(pickle.dumps(made, protocol=pickle.HIGHEST_PROTOCOL), level=1)


def figures(job: Job) -> Figures:
    """Compute the key figures of one backtest."""
    with ONE_AT_A_TIME, lend(job):
        result = backtest(job.panel.take(), job.options, table=_unpack_shared(job.table))
        return {**statistics.key_figures(result), RETURNS: pack_returns(statistics.excess_returns(result))}


def lend(job: Job) -> AbstractContextManager[None]:
    """Let the rule of a job stand for what this process's folder may have under its path."""
    if not job.rule:
        return nullcontext()
    return own.recorded(job.options.settings.signal, {path: source.decode() for path, source in job.rule})


def pack_returns(made: Numbers) -> str:
    """Return the returns of the bars as text, in single precision: the sixteenth digit of a return means nothing."""
    return base64.b64encode(made.astype("<f4").tobytes()).decode()


def unpack_returns(packed: str) -> Numbers:
    """Return the returns of pack_returns."""
    return np.frombuffer(base64.b64decode(packed), "<f4").astype(np.float64)


def unpack_table(packed: Iterable[bytes]) -> compute.Table:
    """Unpack results of `forecast`."""
    table: compute.Table = {}
    for each in packed:
        table |= pickle.loads(zlib.decompress(each))  # noqa: S301 - our own bytes
    return table


@lru_cache(maxsize=UNPACKED)
def _unpack_shared(packed: Shared[tuple[bytes, ...]]) -> compute.Table:
    return unpack_table(packed.value)


class OtherVersionError(Exception):
    """This process has other versions than the one that sent the task, so its results could differ."""


def run_guarded[T, R](function: Callable[[T], R], asking: dict[str, str], argument: T) -> R:
    """Run a task in a worker that may have joined at any time. Raises OtherVersionError if its versions differ."""
    if others := differences(asking, fingerprint()):
        raise OtherVersionError(others)
    return function(argument)


def differences(here: dict[str, str], there: dict[str, str]) -> str:
    """Describe how another process's fingerprint differs; empty if it does not."""
    return ", ".join(f"{name} {there.get(name)} (here {here[name]})" for name in here if there.get(name) != here[name])


def fingerprint() -> dict[str, str]:
    """Return the versions of everything that results depend on: Python, packages, and our own sources."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), "sources": sources(), **packages()}


@lru_cache(maxsize=1)
def packages() -> dict[str, str]:
    """Return the installed versions of PACKAGES."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "is not installed"
    return found


@lru_cache(maxsize=1)
def sources() -> str:
    """Return a hash of the sources that results depend on: the bot's modules and data, and the backtest's modules."""
    bot, here = Path(trader.__file__).parent, Path(home.__file__).parent
    digest = hashlib.sha256()
    own_files = [Path(module.__file__ or "") for module in (panels, requests)]
    bots = (*sorted(bot.rglob("*.py")), *sorted(bot.rglob("*.csv")))
    for path in (*bots, *sorted(here.glob("*.py")), Path(__file__), *own_files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
