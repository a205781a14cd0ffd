"""A test of the gauntlet itself: each bug planted in the function breaks its invariant."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.layer import manifest
from tests.fault_injection import fault_matrix, runner, stories
from tests.fault_injection.fault_matrix import AGAIN
from tests.fault_injection.harness import TARGET, Harness, unpack_function
from tests.fault_injection.invariants import INVARIANTS

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
        'return f"{self.strategy}-{slot_id(self.slot)}-{self.symbol}-{what}"',
        "return __import__('uuid').uuid4().hex",
        ["alpaca POST /orders buy: killed after"],
        frozenset({"lost"}),
    ),
    "each attempt has a new client order id": Bug(
        "trader/broker/alpaca.py",
        '"client_order_id": order.client_order_id,\n    }',
        '"client_order_id": __import__("uuid").uuid4().hex,\n    }',
        [f"{AGAIN}: accepted, answer lost"],
        frozenset({"doubled"}),
    ),
    "the lookup after a 504 is skipped": Bug(
        "trader/broker/sending.py",
        "if (found := self._look_up(order, reason)) is not None:",
        "if (found := None) is not None:",
        [f"{AGAIN}: accepted, answer lost"],
        frozenset({"guessed"}),
    ),
    "a lost answer is taken for a refusal": Bug(
        "trader/broker/sending.py",
        "reason, is_final = str(unclear), unclear.is_taken or unclear.is_refused",
        "self.in_doubt = None\n                raise OrderRejectedError(str(unclear)) from unclear",
        [f"{AGAIN}: accepted, answer lost"],
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
        "return self._sender.send(order, lambda: next(checks)())",
        "return self._sender.send(order)",
        ["owner: halts after the first order"],
        frozenset({"halted"}),
    ),
    "an answer that has waited for another one is not read again": Bug(
        "trader/reading.py",
        "if time.monotonic() - self._ended_at > ROUND_TRIP_S:",
        "if self._ended_at > time.monotonic():",
        ["side by side, before a buy: the owner halts during the wait for the open orders"],
        frozenset({"halted"}),
    ),
    "a sale may open a short position": Bug(
        "trader/broker/alpaca.py",
        'body["position_intent"] = "sell_to_close"',
        "pass",
        ["owner: sells by hand just before the sale arrives"],
        frozenset({"short", "oversold"}),
    ),
    "the market's hours are not checked": Bug(
        "trader/stages/pipeline.py",
        "    if not clock.is_open:\n",
        "    if not clock:\n",
        ["market: closes before the first order"],
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
        "if base_usd <= 0 or is_lost or loss_usd + at_risk_usd > max_usd * (1 + ROUNDING):",
        "if base_usd <= 0:",
        ["account: beyond the daily loss limit"],
        frozenset({"loss"}),
    ),
    "the record is not saved": Bug(
        "trader/app.py",
        "        entry.save(run, report)\n        if run.has_plan",
        "        if run.has_plan",
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
        "trader/broker/sending.py",
        'raise BrokerError(f"{order.client_order_id}: {reason}; a lookup did not find it, but it may yet be accepted")',
        "self.in_doubt = None\n        raise OrderRejectedError(reason)",
        ["order: a buy without an answer is accepted after the run"],
        frozenset({"lost"}),
    ),
    "planned orders are not looked up by id": Bug(
        "trader/journal/recovery.py",
        "for order in missing[:MAX_LOOKED_UP]:",
        "for order in missing[:0]:",
        ["recovery: alpaca GET /orders?status=all: empty"],
        frozenset({"lost"}),
    ),
    "a run that was cut off is not recovered": Bug(
        "trader/journal/recovery.py",
        "for done, claim in enumerate(over):",
        "for done, claim in enumerate(over[:0]):",
        ["alpaca POST /orders buy: killed after"],
        frozenset({"lost"}),
    ),
    "a stop is at twice its distance": Bug(
        "trader/stages/execution.py",
        "for factor in (1 - stop_loss_fraction,",
        "for factor in (1 - 2 * stop_loss_fraction,",
        ["alpaca GET /clock: slow"],
        frozenset({"stop"}),
    ),
    "the legs are good for the day": Bug(
        "trader/broker/alpaca.py",
        '"time_in_force": "gtc",\n            "order_class"',
        '"time_in_force": "day",\n            "order_class"',
        ["alpaca GET /clock: slow"],
        frozenset({"stop"}),
    ),
    "a protective stop is good for the day": Bug(
        "trader/broker/alpaca.py",
        'lasting = "gtc" if order.is_whole else "day"',
        'lasting = "day"',
        ["a stop is missing: and the market is closed"],
        frozenset({"stop"}),
    ),
    "brackets are left out": Bug(
        "trader/broker/alpaca.py",
        "elif order.stop_loss_usd is not None and order.take_profit_usd is not None:",
        "elif order.stop_loss_usd is not None and order.take_profit_usd is None:",
        ["alpaca GET /clock: slow"],
        frozenset({"stop"}),
    ),
    "what is FLAT is sold": Bug(
        "trader/stages/portfolio.py",
        "each.direction is Direction.DOWN and held",
        "each.direction is not Direction.UP and held",
        ["late end: a buy is filled as it is canceled"],
        frozenset({"unwanted"}),
    ),
    "a holding that is not shown any more is forgotten": Bug(
        "trader/stages/protection.py",
        "vanished = run.held.keys() - positions.keys() - (fault.faults.keys() if fault else set())",
        "vanished: set[str] = set()",
        ["late end: a stop is rejected, and its holding is not shown any more"],
        frozenset({"cap", "story"}),
    ),
    "a sale that may still be open is taken for done": Bug(
        "trader/journal/record.py",
        "        return order.status is not OrderStatus.FILLED\n",
        "        return order.status is OrderStatus.UNKNOWN\n",
        ["request limit: 429 on canceling orders that are not filled, until nothing can be read"],
        frozenset({"fewer", "story"}),
    ),
    "an entry that is not filled is not canceled": Bug(
        "trader/stages/execution.py",
        "        now = cancel(now, broker)\n",
        "        pass\n",
        ["suspended stock: bought on Friday, traded again on Monday"],
        frozenset({"story"}),
    ),
    "no request to cancel is sent": Bug(
        "trader/broker/alpaca.py",
        'self._client.delete(f"/orders/{order.order_id}")',
        "pass",
        ["suspended stock: bought on Friday, never canceled, traded again on Monday"],
        frozenset({"outlived"}),
    ),
    "earlier orders are not settled": Bug(
        "trader/stages/pipeline.py",
        "if services.history is not None and services.orders is not None and run.unsettled and not run.is_dry:",
        "if services.history is not None and services.orders is not None and run.unsettled and run.is_dry:",
        ["late end: a buy is filled after its run"],
        frozenset({"story"}),
    ),
    "a leg that waits for its entry is taken for a working stop": Bug(
        "trader/stages/protection.py",
        "    return not any(order.parent_id in",
        "    return True or any(order.parent_id in",
        ["filled in part: the entry, the request to cancel it is refused"],
        frozenset({"bare"}),
    ),
    "any sale is taken for a stop": Bug(
        "trader/stages/protection.py",
        "if order.side is not Side.SELL or not order.type.is_stop or order.status not in WORKING:",
        "if order.side is not Side.SELL or order.status not in WORKING:",
        ["filled in part: the take profit, which ends the stop"],
        frozenset({"bare"}),
    ),
    "a bracket is canceled before the first try of a sale": Bug(
        "trader/stages/execution.py",
        "            sold = self._sender.send(sale, has_exits=bool(exits))\n",
        "            if exits:\n                raise SharesReservedError('')\n"
        "            sold = self._sender.send(sale)\n",
        ["request limit: 429 on every order, two slots"],
        frozenset({"story"}),
    ),
    "no stop is put back after a sale that failed": Bug(
        "trader/stages/pipeline.py",
        "                protect(services, run, ended if isinstance(ended, RunStopped) else None, books)\n",
        "                pass\n",
        ["late end: a sale is rejected after its answer, three slots running"],
        frozenset({"fewer"}),
    ),
    "the id of a protective stop is random": Bug(
        "trader/stages/protection.py",
        "client_order_id=str(OrderId(self._settings.strategy, self._run.slot, symbol, Side.SELL, number)),",
        "client_order_id=__import__('uuid').uuid4().hex,",
        ["a stop is missing: and the market is closed"],
        frozenset({"lost"}),
    ),
    "nothing is protected while the market is closed": Bug(
        "trader/stages/pipeline.py",
        "            holdings = protect(services, run, closed, books)\n",
        "            holdings = holdings if closed else protect(services, run, closed, books)\n",
        ["a stop is missing: and the market is closed"],
        frozenset({"bare"}),
    ),
    "nothing is protected while the journal fails": Bug(
        "trader/app.py",
        "guard(run, invocation, adapters, journal)  # a fault",
        "pass  # a fault",
        ["a stop is missing: and the journal cannot be written"],
        frozenset({"bare"}),
    ),
    "a holding that may not be protected is not named": Bug(
        "trader/stages/protection.py",
        "            self._name(symbol, reason, is_ours=is_ours)\n            return\n",
        "            return\n",
        ["a stop is missing: and trading is halted"],
        frozenset({"bare"}),
    ),
    "a decision has no age": Bug(
        "trader/stages/pipeline.py",
        "    if age > MAX_AGE:\n",
        "    if age < -MAX_AGE:\n",
        ["time: the machine sleeps for 20 minutes between two orders"],
        frozenset({"story"}),
    ),
    "two clocks are not compared": Bug(
        "trader/stages/pipeline.py",
        "> MAX_CLOCK_DIFFERENCE_S:",
        "< -MAX_CLOCK_DIFFERENCE_S:",
        ["time: this machine's clock is 3 hours slow", "time: this machine's clock is 2 hours fast"],
        frozenset({"story"}),
    ),
    "the latest trade is not compared with the decision": Bug(
        "trader/stages/execution.py",
        "if abs(price_usd / order.price_usd - 1) > self._max_drift_fraction:",
        "if abs(price_usd / order.price_usd - 1) < -self._max_drift_fraction:",
        ["prices: every source is frozen since the morning"],
        frozenset({"story"}),
    ),
    "a stop that was filled is forgotten": Bug(
        "trader/stages/risk.py",
        "if bars is not None and bars < settings.pause_after_stop_bars:",
        "if bars is not None and bars < -settings.pause_after_stop_bars:",
        ["gap through a stop: the stop is filled, nothing is bought again that day"],
        frozenset({"story"}),
    ),
    "a deposit hides a loss": Bug(
        "trader/stages/risk.py",
        "base_usd = account.last_equity_usd + account.flows_usd",
        "base_usd = account.last_equity_usd",
        ["deposit or withdrawal: 5,000 paid in on a day down 6 %"],
        frozenset({"loss"}),
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
    (bytecode,) = (file.parent / "__pycache__").glob(f"{file.stem}.*")
    bytecode.unlink()
    return folder / "task"


def choose(names: Sequence[str]) -> list[fault_matrix.Case]:
    cases = {str(case): case for case in [*runner.cases(), *stories.cases()]}
    return [cases[name] for name in names]


def test_the_same_cases_hold_without_a_bug() -> None:
    names = sorted({name for bug in BUGS.values() for name in bug.cases})
    with Harness(task=unpack_function()) as harness:
        outcomes = [fault_matrix.outcome(case, harness) for case in choose(names)]
    assert [outcome for outcome in outcomes if not outcome.holds] == []


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    bug = BUGS[name]
    with Harness(task=plant(bug, tmp_path)) as harness:
        outcomes = [fault_matrix.outcome(case, harness) for case in choose(bug.cases)]
    broken = {violation.partition(":")[0] for outcome in outcomes for violation in outcome.violations}
    assert broken & bug.broken, [outcome.violations for outcome in outcomes]


def test_each_invariant_has_its_bug() -> None:
    broken = set().union(*(bug.broken for bug in BUGS.values()))
    assert set(INVARIANTS) - broken == set()
