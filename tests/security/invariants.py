"""The property that holds for every input: it leads to a documented error that names its cause, or to a sound run.

A run is sound if its report is JSON with finite numbers and its orders keep every cap.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from hypothesis import currently_in_test_context, event, settings

from lambda_function import run
from trader.journal.base import JournalError
from trader.model import BrokerError, Report
from trader.prices.base import PriceSourceError
from trader.prices.series import MAX_PRICE_USD, MIN_PRICE_USD
from trader.schedule.base import EventError
from trader.settings import Settings, SettingsError, variables

NAMES: Mapping[type[Exception], Sequence[str]] = {
    SettingsError: tuple(variables()),
    EventError: ("the event's time",),
    PriceSourceError: ("price file", "PRICE_FILE"),
    BrokerError: ("ACCOUNT_FILE=",),
    JournalError: ("JOURNAL=",),
}
"""The errors that may end a run, and the names of which each message must contain one."""

MAX_S = 20.0
"""Seconds after which a run of a few symbols counts as hung."""

MAX_CHARACTERS = 20_000
"""The maximum length of an error message."""

CENT = 0.01


def examples(count: int) -> settings:
    """Return settings for `count` examples, scaled by the variable EXAMPLES in percent (100 by default)."""
    return settings(max_examples=max(1, count * int(os.environ.get("EXAMPLES") or 100) // 100))


@contextmanager
def in_time() -> Iterator[None]:
    """Fail if the block takes longer than MAX_S."""
    begun = perf_counter()
    yield
    took_s = perf_counter() - begun
    assert took_s < MAX_S, f"it took {took_s:.1f} s"


def run_soundly(env: Mapping[str, str], its_event: object = None) -> Report | None:
    """Run and check the property; return the report, None after an error."""
    try:
        with in_time():
            report = run(its_event, env=env)
    except tuple(NAMES) as error:
        check_names_cause(error)
        note_ending(type(error).__name__)
        return None
    note_ending(report["status"])
    json.dumps(report, allow_nan=False)
    keeps_caps(report, Settings.from_env(env, lambda _: {}))
    return report


def note_ending(ending: str) -> None:
    """Count how runs end; --hypothesis-show-statistics shows whether enough of them reach orders."""
    if currently_in_test_context():
        event(ending)


def check_names_cause(error: Exception) -> None:
    """Check that an error names the variable or file that caused it, and is not too long."""
    (names,) = [names for kind, names in NAMES.items() if isinstance(error, kind)]
    assert any(name in str(error) for name in names), f"the error names no cause: {error}"
    assert len(str(error)) <= MAX_CHARACTERS, f"an error of {len(str(error)):,} characters"


def keeps_caps(report: Report, its: Settings) -> None:
    """Check that every order keeps every cap, given the account at the start of the run."""
    if not report["orders"]:
        return
    account: Any = report["account"]["before"]
    buys = [order for order in report["orders"] if order["side"] == "buy"]
    for order in report["orders"]:
        assert MIN_PRICE_USD <= order["price_usd"] <= MAX_PRICE_USD
        assert math.isfinite(order["quantity"])
        assert order["quantity"] > 0
    for order in buys:
        cost_usd = order["quantity"] * order["price_usd"]
        assert cost_usd <= its.max_order_usd + CENT
        assert cost_usd <= its.max_position_fraction * account["equity_usd"] + CENT
        assert its.universe == ("sp500",) or order["symbol"] in its.universe
        if its.stop_loss_fraction:
            assert order["stop_loss_usd"] < order["price_usd"] < order["take_profit_usd"]
            assert float(order["quantity"]).is_integer()
    spent_usd = sum(order["quantity"] * order["price_usd"] for order in buys)
    assert spent_usd <= account["cash_usd"] - its.cash_buffer_fraction * account["equity_usd"] + CENT
    assert len(report["orders"]) <= its.max_orders_per_run
