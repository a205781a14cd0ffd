"""What a rule is caught at: which events and calls are not allowed, and what it leaves behind."""

import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
import yfinance

from scripts.rules import watch
from tests.builders import SLOT, daily
from trader.alpha.base import View
from trader.model import SAMPLE_PRICES

NOTHING = sys.monitoring.MISSING
FILES = {"rules/mine.py"}


def kind(found: tuple[str, str] | None) -> str:
    return found[0] if found else ""


@pytest.mark.parametrize(
    ("called", "first", "expected"),
    [
        (time.time, NOTHING, watch.CLOCK),
        (time.perf_counter_ns, NOTHING, watch.CLOCK),
        (time.localtime, NOTHING, watch.CLOCK),
        (time.localtime, 0, ""),
        (datetime.now, NOTHING, watch.CLOCK),
        (date.today, NOTHING, watch.CLOCK),
        (pd.Timestamp.now, NOTHING, watch.CLOCK),
        (pd.Timestamp, "now", watch.CLOCK),
        (pd.Timestamp, "2022-12-01", ""),
        (pd.to_datetime, "today", watch.CLOCK),
        (datetime, 2022, ""),
        (random.random, NOTHING, watch.CHANCE),
        (random.Random, NOTHING, watch.CHANCE),
        (random.Random, 7, ""),
        (np.random.normal, NOTHING, watch.CHANCE),
        (np.random.seed, 1, watch.CHANCE),
        (np.random.default_rng, NOTHING, watch.CHANCE),
        (np.random.default_rng, 7, ""),
        (np.random.default_rng(7).normal, NOTHING, ""),
        (os.urandom, 8, watch.CHANCE),
        (uuid.uuid4, NOTHING, watch.CHANCE),
        (secrets.randbelow, 5, watch.CHANCE),
        (hash, "AAPL", watch.CHANCE),
        (hash, 5, ""),
        (id, "AAPL", watch.CHANCE),
        (os.stat, "x", watch.FILE),
        (os.path.exists, "x", watch.FILE),
        (Path("x").exists, NOTHING, watch.FILE),
        (pd.read_csv, "x.csv", watch.FILE),
        (requests.get, "http://127.0.0.1", watch.NETWORK),
        (yfinance.download, "KO", watch.NETWORK),
        (os._exit, 0, watch.PROCESS),
        (sum, [1], ""),
        (np.mean, [1], ""),
    ],
)
def test_calls(called: Callable[..., Any], first: object, expected: str) -> None:
    assert kind(watch.describe_call(called, first)) == expected


@pytest.mark.parametrize(
    ("event", "arguments", "expected"),
    [
        ("open", ("prices.csv", "r", os.O_RDONLY), watch.FILE),
        ("open", (str(SAMPLE_PRICES), "r", os.O_RDONLY), watch.FILE),
        ("open", (np.__file__, "r", os.O_RDONLY), ""),
        ("open", (np.__file__, "w", os.O_WRONLY), watch.FILE),
        ("open", ("rules/mine.py", "r", os.O_RDONLY), ""),
        ("open", ("rules/mine.py", "w", os.O_WRONLY), watch.FILE),
        ("open", (3, "r", 0), ""),
        ("os.listdir", (".",), watch.FILE),
        ("sqlite3.connect", ("x.db",), watch.FILE),
        ("socket.connect", (None, ("127.0.0.1", 80)), watch.NETWORK),
        ("subprocess.Popen", ("true", ["true"], None, None), watch.PROCESS),
        ("os.fork", (), watch.PROCESS),
        ("os.putenv", (b"A", b"b"), watch.ENVIRONMENT),
        ("import", ("numpy", None, None, None, None), ""),
    ],
)
def test_events(event: str, arguments: tuple[Any, ...], expected: str) -> None:
    assert kind(watch.describe_event(event, arguments, FILES)) == expected


# --- what is left behind ---------------------------------------------------------------------------------------------

STATEFUL = """
import functools

COUNT = 0
NAMES = []

class Mine:
    seen = {}

def add(value, kept=[]):
    kept.append(value)

@functools.cache
def double(value):
    return value * 2
"""


def find_change(change: str) -> tuple[str, str] | None:
    """Return what a statement in a rule's module changes."""
    module = ModuleType("mine")
    exec(STATEFUL, vars(module))
    view = View(slot=SLOT, closes={"KO": daily([1.0, 2.0], symbol="KO")}, forecasts={}, positions={})
    before = watch.take_traces(watch.list_names(module), view)
    exec(change, vars(module) | {"view": view, "module": module, "random": random, "np": np})
    return before.find_change(watch.take_traces(watch.list_names(module), view))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("pass", None),
        ("double(5)", None),
        ("module.COUNT += 1", ("state", "COUNT")),
        ("NAMES.append(1)", ("state", "NAMES")),
        ("Mine.seen['KO'] = 1", ("state", "Mine.seen")),
        ("add(1)", ("state", "add()")),
        ("view.closes['KO'].iloc[0] = 5.0", ("view", "view.closes['KO']")),
        ("view.closes.pop('KO')", ("view", "view.closes['KO']")),
        ("random.random()", ("chance", "")),
        ("np.random.rand()", ("chance", "")),
    ],
)
def test_what_a_decision_changes(change: str, expected: tuple[str, str] | None) -> None:
    assert find_change(change) == expected
