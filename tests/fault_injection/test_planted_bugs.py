"""A test of the gauntlet itself: each bug planted in the function breaks its invariant."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.layer import manifest
from tests.fault_injection import fault_matrix, scenarios
from tests.fault_injection.harness import TARGET, Harness, unpack_function

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TARGET.runs_here, reason="left out: the emulator runs only on Linux x86_64"),
]


@dataclass(frozen=True, slots=True)
class Bug:
    """A change to the function's source, the cases to try, and the invariants; it must break at least one of them."""

    file: str
    right: str
    wrong: str
    cases: Sequence[str]
    broken: frozenset[str]


BUGS = {
    "the claim is skipped": Bug(
        "trader/journal/entry.py",
        'return self.store.create(f"{self.path}.claim", text)',
        "return True",
        ["delivery: the event twice in a row"],
        frozenset({"twice"}),
    ),
    "the client order id is random": Bug(
        "trader/broker/base.py",
        'return f"{self.strategy}-{slot_id(self.slot)}-{self.symbol}-{self.side}"',
        "return __import__('uuid').uuid4().hex",
        ["alpaca POST /orders: killed after"],
        frozenset({"lost"}),
    ),
    "each attempt has a new client order id": Bug(
        "trader/broker/alpaca.py",
        '"client_order_id": order.client_order_id,\n    }',
        '"client_order_id": __import__("uuid").uuid4().hex,\n    }',
        ["alpaca POST /orders: accepted, answer lost"],
        frozenset({"doubled"}),
    ),
    "the lookup after a 504 is skipped": Bug(
        "trader/stages/execution.py",
        "if (found := self._look_up(order, reason)) is not None:",
        "if (found := None) is not None:",
        ["alpaca POST /orders: accepted, answer lost"],
        frozenset({"guessed"}),
    ),
    "a lost answer is taken for a refusal": Bug(
        "trader/stages/execution.py",
        "reason, is_final = str(unclear), unclear.is_taken or unclear.is_refused",
        "raise OrderRejectedError(str(unclear)) from unclear",
        ["alpaca POST /orders: accepted, answer lost"],
        frozenset({"lost"}),
    ),
    "the cap on orders is off by one": Bug(
        "trader/stages/risk.py",
        "if orders >= settings.max_orders_per_run:",
        "if orders > settings.max_orders_per_run:",
        ["order: six buys wanted, five allowed"],
        frozenset({"count", "cap"}),
    ),
    "the cash buffer is spent": Bug(
        "trader/model.py",
        "- cash_buffer_fraction * self.equity_usd",
        "- 0.0",
        ["order: more buys wanted than the cash allows"],
        frozenset({"cap"}),
    ),
    "the halt switch is not read again before each order": Bug(
        "trader/stages/execution.py",
        "            if order.side is Side.BUY:\n                self._may_go_on()\n",
        "",
        ["owner: halts after the first order"],
        frozenset({"halted"}),
    ),
    "a sale may open a short position": Bug(
        "trader/broker/alpaca.py",
        'body["position_intent"] = "sell_to_close"',
        "pass",
        ["owner: sells by hand just before the sale arrives"],
        frozenset({"short", "oversold"}),
    ),
    "a stale answer from the market's clock is believed": Bug(
        "trader/broker/alpaca.py",
        'max(clock.time("timestamp"), self._present())',
        'clock.time("timestamp")',
        ["market: has closed, but the clock's answer is stale"],
        frozenset({"closed"}),
    ),
    "a blocked account is not noticed": Bug(
        "trader/stages/pipeline.py",
        "if account.blocked:",
        "if not account:",
        ["account: no longer active"],
        frozenset({"blocked"}),
    ),
    "the daily loss is not checked": Bug(
        "trader/stages/risk.py",
        "if loss_fraction >= settings.max_daily_loss_fraction:",
        "if loss_fraction > 1:",
        ["account: beyond the daily loss limit"],
        frozenset({"loss"}),
    ),
    "the record is not saved": Bug(
        "trader/app.py",
        "        entry.save(run, report)\n    except BaseException as error:\n        try:\n            entry",
        "    except BaseException as error:\n        try:\n            entry",
        ["alpaca GET /account: slow"],
        frozenset({"silent"}),
    ),
    "a missing answer is taken for an accepted order": Bug(
        "trader/broker/alpaca.py",
        'raise OrderStateUnknownError(f"{error}; order {order.client_order_id} may have been accepted") from error',
        "return replace(order, status=OrderStatus.ACCEPTED)",
        ["alpaca POST /orders: 5xx"],
        frozenset({"disagree"}),
    ),
    "an order without an answer is taken for a refusal": Bug(
        "trader/stages/execution.py",
        'raise BrokerError(f"{order.client_order_id}: {reason}; a lookup did not find it, but it may yet be accepted")',
        "self.sent = None\n        raise OrderRejectedError(reason)",
        ["order: a buy without an answer is accepted after the run"],
        frozenset({"lost"}),
    ),
    "planned orders are not looked up by id": Bug(
        "trader/journal/recovery.py",
        "for order in missing[:MAX_LOOKED_UP]:",
        "for order in missing[:0]:",
        ["recovery: alpaca GET /orders?status=all: stale"],
        frozenset({"lost"}),
    ),
    "a run that was cut off is not recovered": Bug(
        "trader/journal/recovery.py",
        "for done, claim in enumerate(over):",
        "for done, claim in enumerate(over[:0]):",
        ["alpaca POST /orders: killed after"],
        frozenset({"lost"}),
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _layer() -> None:
    """Require the finished layer, with which the function runs."""
    if reason := manifest.reason_to_build(TARGET):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; CI must have run make layer")
        pytest.skip(f"left out: the layer is not up to date: {reason}; run make layer")


def plant(bug: Bug, folder: Path) -> Path:
    """Copy the function with the bug; return its folder."""
    shutil.copytree(unpack_function(), folder / "task")
    file = folder / "task" / bug.file
    source = file.read_text(encoding="utf-8")
    assert source.count(bug.right) == 1, f"{bug.file} must contain {bug.right!r} exactly once: plant the bug elsewhere"
    file.write_text(source.replace(bug.right, bug.wrong), encoding="utf-8")
    return folder / "task"


def choose(names: Sequence[str]) -> list[fault_matrix.Case]:
    cases = {str(case): case for case in [*fault_matrix.cases(), *scenarios.cases()]}
    return [cases[name] for name in names]


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    bug = BUGS[name]
    with Harness(task=plant(bug, tmp_path)) as harness:
        outcomes = [fault_matrix.outcome(case, harness) for case in choose(bug.cases)]
    broken = {violation.partition(":")[0] for outcome in outcomes for violation in outcome.violations}
    assert broken & bug.broken, [outcome.violations for outcome in outcomes]


def test_the_same_cases_hold_without_a_bug() -> None:
    names = sorted({name for bug in BUGS.values() for name in bug.cases})
    with Harness(task=unpack_function()) as harness:
        outcomes = [fault_matrix.outcome(case, harness) for case in choose(names)]
    assert [outcome for outcome in outcomes if not outcome.holds] == []
