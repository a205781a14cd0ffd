"""Faults other than in a single call: deliveries, clocks, the market, the owner, the account, orders, the machine."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import Any
from uuid import uuid4

from scripts.layer import sandbox
from scripts.layer.emulator import fetch_emulator
from scripts.testkit.yahoo import Listing
from tests.fault_injection import market
from tests.fault_injection.fault_matrix import (
    GAPS,
    MORNING,
    QUARTER,
    SECOND,
    Case,
    Scenario,
    ScenarioResult,
    begin,
    check_next_slot,
    event,
    slot,
    with_one_fault,
)
from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.harness import TARGET, TIMEOUT_S, Event, Harness
from tests.fault_injection.invariants import Audit

DELIVERY, CLOCK, MARKET, OWNER = "delivery", "clock", "market", "owner"
ACCOUNT, ORDER, MACHINE, EVERYBODY = "account", "order", "machine", "every service"
MINUTE = timedelta(minutes=1)

SHORT_TIMEOUT_S = 18
"""A timeout that the function runs into: above a cold start, and below the clients' own timeouts."""


def deliver(*events: Event, at_once: bool = False, expected: str = "", words: str = "") -> Scenario:
    """Return a scenario that delivers events in this order, or all at once.

    `words` are the outcome if it depends on which of them comes first.
    """

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        result.answers = slot(harness, audit, result, *events, at_once=at_once)
        if at_once:  # whichever came first
            result.answers.sort(key=lambda answer: answer.status != "TRADED")
        result.met = not expected or expected in {answer.status for answer in result.answers}
        result.words, result.is_race = words, bool(words)
        return finish(harness, audit, result)

    return scenario


def finish(harness: Harness, audit: Audit, result: ScenarioResult) -> ScenarioResult:
    """Count the orders that the scenario placed, and run the next slot."""
    result.orders = len(harness.alpaca.accepted)
    restore(harness)
    return check_next_slot(harness, audit, result)


def restore(harness: Harness) -> None:
    """Return the market, the switch and the account to normal."""
    harness.halt(False)
    harness.alpaca.is_open = None
    harness.alpaca.account_overrides.clear()
    harness.alpaca.fills, harness.alpaca.rejected_later, harness.alpaca.rejected_at_once = "immediate", set(), set()


def interrupt(name: str, what: Callable[[Harness], object]) -> Scenario:
    """Return a scenario in which something happens when a call arrives, or after it ("after POST /orders")."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(met=False), begin(harness)

        def happen() -> None:
            with harness.alpaca.lock:
                what(harness)
            result.met = True

        harness.alpaca.hooks = {name: [happen]}
        result.answers = slot(harness, audit, result, event(MORNING))
        return finish(harness, audit, result)

    return scenario


def start_from(
    what: Callable[[Harness], object], undo: Callable[[Harness], object] = lambda _: None, *, is_warm: bool = False
) -> Scenario:
    """Return a scenario with a change that lasts for one run; a warm process read its keys before the change."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        if is_warm:
            warm_up(harness, audit, result)
        what(harness)
        result.answers = slot(harness, audit, result, event(MORNING))
        result.orders = len(harness.alpaca.accepted)
        undo(harness)
        restore(harness)
        return check_next_slot(harness, audit, result)

    return scenario


def want_many(gaps: Mapping[str, float], cash_usd: float = 100_000) -> Scenario:
    """Return a scenario in which an account without holdings wants to buy these symbols, followed by a normal slot."""

    def scenario(harness: Harness) -> ScenarioResult:
        result = ScenarioResult()
        harness.reset(gaps, MORNING - QUARTER)
        harness.alpaca.cash = harness.alpaca.last_equity = Decimal(cash_usd)
        harness.at(MORNING, gaps)
        audit = Audit(harness)
        result.answers = slot(harness, audit, result, event(MORNING))
        result.orders = len(harness.alpaca.accepted)
        harness.at(MORNING + QUARTER, gaps)
        slot(harness, audit, result, event(MORNING + QUARTER))
        return result

    return scenario


def fill_later(fills: str, what: Callable[[Harness], object]) -> Scenario:
    """Return a scenario with this way of filling orders, and an event between two runs."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        harness.alpaca.fills = fills  # type: ignore[assignment]  # one of the words that the books know
        result.answers = slot(harness, audit, result, event(MORNING))
        result.orders = len(harness.alpaca.accepted)
        with harness.alpaca.lock:
            what(harness)
        harness.at(MORNING + QUARTER, GAPS)
        slot(harness, audit, result, event(MORNING + QUARTER))
        harness.alpaca.fills = "immediate"
        return check_next_slot(harness, audit, result, MORNING + 2 * QUARTER)

    return scenario


# --- the events ---


def sell_by_hand(harness: Harness) -> None:
    harness.alpaca.sell_by_hand("AAA")


def stop(harness: Harness) -> None:
    harness.alpaca.trigger_stop("AAA")


def cancel_all(harness: Harness) -> None:
    """Cancel every unfilled order other than a leg, as the broker would."""
    with harness.alpaca.lock:
        for order in [order for order in harness.alpaca.open_orders() if not order.parent]:
            harness.alpaca.end(order, "canceled")


def close_market(harness: Harness) -> None:
    harness.alpaca.is_open = False


def deactivate(harness: Harness) -> None:
    """Close the account, although Alpaca does not refuse its orders yet."""
    harness.alpaca.account_overrides = {"status": "ACCOUNT_CLOSED"}


def block(harness: Harness) -> None:
    harness.alpaca.account_overrides = {"trading_blocked": True}


def run_into_the_close(harness: Harness) -> ScenarioResult:
    """Run when the market is so near its close that after the first order there is no time for another."""
    result, audit = ScenarioResult(met=False), begin(harness)
    close = MORNING.replace(hour=21, minute=0)
    harness.at(close - 3 * MINUTE, GAPS)

    def wait() -> None:
        harness.alpaca.now, result.met = close - 80 * SECOND, True

    harness.alpaca.hooks = {"after POST /orders": [wait]}
    result.answers = slot(harness, audit, result, event(close - 3 * MINUTE, 45 * SECOND))
    result.orders = len(harness.alpaca.accepted)
    return check_next_slot(harness, audit, result, MORNING + timedelta(days=1))


def close_behind_stale_clock(harness: Harness) -> ScenarioResult:
    """Run at the close, when Alpaca's clock repeats an answer from before it."""
    result, audit = ScenarioResult(), begin(harness)
    close = MORNING.replace(hour=21, minute=0)
    harness.at(close - 10 * MINUTE, GAPS)
    harness.at(close, GAPS)
    result.answers = slot(harness, audit, result, event(close), faults=[Fault("alpaca GET /clock", Kind.STALE)])
    result.met, result.orders = bool(harness.met), len(harness.alpaca.accepted)
    return check_next_slot(harness, audit, result, MORNING + timedelta(days=1))


def fall(harness: Harness) -> None:
    harness.alpaca.last_equity = harness.alpaca.equity * 2


def recover(harness: Harness) -> None:
    harness.alpaca.last_equity = harness.alpaca.equity


def rotate(harness: Harness) -> None:
    """Change the keys at Alpaca and in SSM while the function's process has the old ones."""
    harness.alpaca.secret = uuid4().hex
    harness.put("alpacapw", harness.alpaca.secret)


def revoke(harness: Harness) -> None:
    harness.alpaca.secret = "nobody's"


def reject_orders(symbol: str, *, at_once: bool) -> Callable[[Harness], None]:
    """Return a change that makes Alpaca reject orders for a symbol."""

    def reject(harness: Harness) -> None:
        (harness.alpaca.rejected_at_once if at_once else harness.alpaca.rejected_later).add(symbol)

    return reject


def spoil_bar(symbol: str, factor: float) -> Callable[[Harness], None]:
    """Return a change that multiplies Yahoo's last bar of a symbol; the price at Alpaca stays the same."""

    def spoil(harness: Harness) -> None:
        listing = harness.yahoo.listings[symbol]
        closes = [*listing.closes[:-1], (listing.closes[-1] or 0) * factor]
        harness.yahoo.listings[symbol] = Listing(closes, listing.last)

    return spoil


def warm_up(harness: Harness, audit: Audit, result: ScenarioResult) -> None:
    """Run a slot before the opening, so that the keys are read but nothing is traded."""
    harness.at(MORNING - 8 * QUARTER, GAPS)
    slot(harness, audit, result, event(MORNING - 8 * QUARTER))
    harness.at(MORNING, GAPS)


def hang_services(*services: str, is_cold: bool = False) -> Scenario:
    """Return a scenario in which services do not answer; the slot must end by itself within the function's timeout."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        if is_cold:
            harness.restart()
        else:
            warm_up(harness, audit, result)
        began = monotonic()
        faults = [Fault(service, Kind.HANG) for service in services]
        result.answers = slot(harness, audit, result, event(MORNING), faults=faults)
        check_duration(result, monotonic() - began)
        if "s3" not in services and harness.record(MORNING) is None:
            result.violations.append("silent: no record says that the services did not answer")
        if '"message": "failed"' not in harness.log and "HALTED" not in {a.status for a in result.answers}:
            result.violations.append("silent: the log does not say why")
        return finish(harness, audit, result)

    return scenario


def hang_after_first_order(harness: Harness) -> ScenarioResult:
    """Run with services that all stop answering after the first order."""
    result, audit = ScenarioResult(met=False), begin(harness)

    def hang() -> None:
        harness.faults.plan([Fault(service, Kind.HANG) for service in ("alpaca", "yahoo", "s3", "ssm")])
        result.met = True

    harness.alpaca.hooks = {"after POST /orders": [hang]}
    began = monotonic()
    result.answers = slot(harness, audit, result, event(MORNING))
    check_duration(result, monotonic() - began)
    return finish(harness, audit, result)


def check_duration(result: ScenarioResult, seconds: float) -> None:
    """Note how long a slot without answers took, and check that it ended by itself in time."""
    result.note = next((f"ended within {limit} s" for limit in (120, 240) if seconds < limit), f"took {seconds:.0f} s")
    was_ended = any("timed out after" in answer.error or answer.status == "timed out" for answer in result.answers)
    if seconds > TIMEOUT_S - 10 or was_ended:
        result.violations.append(f"late: it took {seconds:.0f} s, but the function has {TIMEOUT_S}")


def time_out(call: str, skip: int = 0) -> Scenario:
    """Return a scenario in which Lambda promises too much time, and ends the function while it awaits an answer."""

    def scenario(harness: Harness) -> ScenarioResult:
        result, audit = ScenarioResult(), begin(harness)
        warm_up(harness, audit, result)
        result.answers = slot(
            harness,
            audit,
            result,
            replace(event(MORNING), promised_s=TIMEOUT_S),
            faults=[Fault(call, Kind.HANG, skip=skip)],
        )
        result.met = bool(harness.met) and all(answer.error for answer in result.answers)
        result.orders = len(harness.alpaca.accepted)
        harness.timeout_s = TIMEOUT_S  # the next slot must not run into the short timeout on a busy machine
        harness.restart()
        return check_next_slot(harness, audit, result, promised_s=TIMEOUT_S)

    return scenario


def make_full_disk() -> Path:
    """Return a program that starts the emulator with a `tmp` folder, next to the program, of only 4,096 bytes."""
    program = Path(mkdtemp(prefix="gauntlet-full-")) / "emulator"
    _, interface = fetch_emulator(TARGET)
    (program.parent / "tmp").mkdir()
    program.write_text(
        f'#!/bin/sh\nexec bwrap --dev-bind / / --size 4096 --tmpfs {program.parent}/tmp -- {interface} "$@"\n'
    )
    program.chmod(0o755)
    return program


def run_on_full_disk(harness: Harness) -> ScenarioResult:
    result, audit = ScenarioResult(), begin(harness)
    result.answers = slot(harness, audit, result, event(MORNING))
    result.met = any(words in harness.log for words in ("No space left", "database or disk is full"))
    result.orders = len(harness.alpaca.accepted)
    harness.at(MORNING + QUARTER, GAPS)
    slot(harness, audit, result, event(MORNING + QUARTER))  # the disk is still full
    return result


def left_out() -> str:
    """Return the case that cannot run on this machine, with the reason; an empty string if all can."""
    return f"machine: /tmp is full: {why}" if (why := sandbox.missing()) else ""


def halt(harness: Harness) -> None:
    """Turn the halt switch on."""
    harness.halt(True)


def cases() -> Iterator[Case]:
    """Yield one case for each scenario."""
    at = event(MORNING)

    def case(where: str, what: str, scenario: Scenario, **options: Any) -> Case:
        return Case(where, what, scenario, tuple(options.items()))

    yield case(DELIVERY, "the event twice at once", deliver(at, at, at_once=True, expected="ALREADY_RAN"))
    yield case(DELIVERY, "the event three times at once", deliver(at, at, at, at_once=True, expected="ALREADY_RAN"))
    yield case(DELIVERY, "the event twice in a row", deliver(at, at, expected="ALREADY_RAN"))
    late = Event(slot=MORNING - 4 * QUARTER, clock=MORNING + SECOND)
    yield case(DELIVERY, "an hour late", deliver(late, expected="EventError"))
    yield case(DELIVERY, "an hour late, after the current event", deliver(at, late, expected="EventError"))
    four = Event(slot=MORNING, clock=MORNING + 4 * MINUTE)
    yield case(DELIVERY, "four minutes late", deliver(four, expected="TRADED"))
    older = Event(slot=MORNING - 2 * MINUTE, clock=MORNING + 2 * SECOND)
    yield case(DELIVERY, "out of order", deliver(at, older))
    race = "one TRADED, or each gave way to the other"
    yield case(DELIVERY, "two slots at once", deliver(at, older, at_once=True, words=race))
    hand = Event(slot=MORNING + MINUTE, clock=MORNING + MINUTE)
    yield case(DELIVERY, "a manual run a minute later", deliver(at, hand))
    yield case(CLOCK, "50 s slow", deliver(Event(slot=MORNING, clock=MORNING - 50 * SECOND), expected="TRADED"))
    slow = Event(slot=MORNING, clock=MORNING - 2 * MINUTE)
    yield case(CLOCK, "2 min slow", deliver(slow, expected="EventError"))
    yield case(CLOCK, "6 min fast", deliver(replace(slow, clock=MORNING + 6 * MINUTE), expected="EventError"))

    yield case(MARKET, "closes before the first order", interrupt("GET /positions", close_market))
    yield case(MARKET, "closes after the first order", interrupt("after POST /orders", close_market))
    yield case(MARKET, "is about to close", run_into_the_close)
    yield case(MARKET, "has closed, but the clock's answer is stale", close_behind_stale_clock)
    for symbol, held in {"CCC": "not held", "AAA": "held"}.items():
        for factor in (1000, 0.001):
            yield case(MARKET, f"a bar at {factor:g} times the price, {held}", start_from(spoil_bar(symbol, factor)))

    yield case(OWNER, "halts before the run", start_from(halt))
    yield case(OWNER, "halts before the first order", interrupt("GET /positions", halt))
    yield case(OWNER, "halts after the first order", interrupt("after POST /orders", halt))
    yield case(
        OWNER,
        "sells by hand between two runs",
        fill_later("immediate", lambda at: at.alpaca.sell_by_hand("CCC")),
    )
    yield case(OWNER, "sells by hand after positions were read", interrupt("after GET /positions", sell_by_hand))
    yield case(OWNER, "sells by hand while the bracket is canceled", interrupt("after DELETE /orders", sell_by_hand))
    yield case(OWNER, "sells by hand just before the sale arrives", interrupt("POST /orders", sell_by_hand))
    yield case(OWNER, "rotates the keys", start_from(rotate, is_warm=True))
    yield case(OWNER, "revokes the keys", start_from(revoke, undo=rotate, is_warm=True))

    yield case(ACCOUNT, "blocked before the run", start_from(block))
    yield case(ACCOUNT, "no longer active", start_from(deactivate))
    yield case(ACCOUNT, "blocked before the first order", interrupt("GET /account", block))
    yield case(ACCOUNT, "blocked after the first order", interrupt("after POST /orders", block))
    yield case(ACCOUNT, "beyond the daily loss limit", start_from(fall, undo=recover))

    many = dict.fromkeys(market.SYMBOLS, -0.05)
    yield case(ORDER, "six buys wanted, five allowed", want_many(many))
    yield case(ORDER, "more buys wanted than the cash allows", want_many(many, cash_usd=45_000))
    yield case(ORDER, "expensive shares wanted", want_many({"FF.B": -0.05}, cash_usd=3_000))
    yield case(ORDER, "partially filled", fill_later("partial", lambda _: None))
    yield case(ORDER, "partially filled, then canceled", fill_later("partial", cancel_all))
    yield case(ORDER, "not filled", fill_later("never", lambda _: None))
    yield case(ORDER, "not filled, then canceled", fill_later("never", cancel_all))
    for symbol in ("AAA", "CCC"):
        side = "the sale" if symbol == "AAA" else "a buy"
        yield case(ORDER, f"{side} is rejected at once", start_from(reject_orders(symbol, at_once=True)))
        yield case(ORDER, f"{side} is rejected later", start_from(reject_orders(symbol, at_once=False)))
    late_buy = Fault("alpaca POST /orders", Kind.LATE, skip=1)
    yield case(ORDER, "a buy without an answer is accepted after the run", with_one_fault(late_buy))
    yield case(ORDER, "a leg is filled after orders were read", interrupt("after GET /orders", stop))
    yield case(ORDER, "a leg is filled as it is canceled", interrupt("DELETE /orders", stop))
    yield case(
        ORDER,
        "a leg is filled between two runs",
        fill_later("immediate", lambda at: at.alpaca.trigger_stop("BBB")),
    )

    for call, name in {
        "POST /orders": "an order",
        "DELETE /orders": "a cancellation",
        "GET /clock": "the clock request",
    }.items():
        yield case(MACHINE, f"timeout while {name} is pending", time_out(f"alpaca {call}"), timeout_s=SHORT_TIMEOUT_S)
    yield case(
        MACHINE,
        "timeout while the second order is pending",
        time_out("alpaca POST /orders", 1),
        timeout_s=SHORT_TIMEOUT_S,
    )
    yield case(MACHINE, "timeout while the record is written", time_out("s3 PUT record"), timeout_s=SHORT_TIMEOUT_S)
    if not left_out():
        yield case(MACHINE, "/tmp is full", run_on_full_disk, wrapper=make_full_disk, engine="prophet")

    everything = ("alpaca", "yahoo", "s3", "ssm")
    for what, scenario in {
        "hangs, cold start": hang_services(*everything, is_cold=True),
        "hangs, warm process": hang_services(*everything),
        "hangs after the first order": hang_after_first_order,
        "hangs, except S3": hang_services("alpaca", "yahoo", "ssm"),
        "hangs, except AWS": hang_services("alpaca", "yahoo"),
    }.items():
        yield Case(EVERYBODY, what, scenario, is_slow=True)
