"""What goes wrong otherwise than at one call: deliveries, clocks, the market, the owner, the account, the machine."""

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
    Cell,
    Story,
    Told,
    begun,
    event,
    healthy,
    one_fault,
    slot,
)
from tests.fault_injection.faults import Fault, Kind
from tests.fault_injection.harness import TARGET, TIMEOUT_S, Event, Harness
from tests.fault_injection.invariants import Audit

DELIVERY, CLOCK, MARKET, OWNER = "delivery", "clock", "market", "owner"
ACCOUNT, ORDER, MACHINE, EVERYBODY = "account", "order", "machine", "everybody"
MINUTE = timedelta(minutes=1)


def delivered(*events: Event, at_once: bool = False, expected: str = "") -> Story:
    """Events in that order, or all at once."""

    def story(arena: Harness) -> Told:
        told, audit = Told(), begun(arena)
        told.answers = slot(arena, audit, told, *events, at_once=at_once)
        told.met = not expected or expected in {answer.status for answer in told.answers}
        return finished(arena, audit, told)

    return story


def finished(arena: Harness, audit: Audit, told: Told) -> Told:
    """Count what the story placed, and let the next slot come."""
    told.orders = len(arena.alpaca.accepted)
    put_right(arena)
    return healthy(arena, audit, told)


def put_right(arena: Harness) -> None:
    """Let the market, the switch and the account be as on any other day."""
    arena.halt(False)
    arena.alpaca.is_open = None
    arena.alpaca.account_overrides.clear()
    arena.alpaca.fills, arena.alpaca.rejected_later, arena.alpaca.rejected_at_once = "immediate", set(), set()


def happening(name: str, what: Callable[[Harness], object]) -> Story:
    """Something happens when a call of that name arrives, or after it: "after POST /orders"."""

    def story(arena: Harness) -> Told:
        told, audit = Told(met=False), begun(arena)

        def happen() -> None:
            with arena.alpaca.lock:
                what(arena)
            told.met = True

        arena.alpaca.hooks = {name: [happen]}
        told.answers = slot(arena, audit, told, event(MORNING))
        return finished(arena, audit, told)

    return story


def given(
    what: Callable[[Harness], object], undo: Callable[[Harness], object] = lambda _: None, *, is_warm: bool = False
) -> Story:
    """Something is so before the run begins, and is over before the next; the process may have read its keys before."""

    def story(arena: Harness) -> Told:
        told, audit = Told(), begun(arena)
        if is_warm:
            warm(arena, audit, told)
        what(arena)
        told.answers = slot(arena, audit, told, event(MORNING))
        told.orders = len(arena.alpaca.accepted)
        undo(arena)
        put_right(arena)
        return healthy(arena, audit, told)

    return story


def wishing(gaps: Mapping[str, float], cash_usd: float = 100_000) -> Story:
    """Many symbols are to be bought, by an account that holds nothing; and the slot after it."""

    def story(arena: Harness) -> Told:
        told = Told()
        arena.reset(gaps, MORNING - QUARTER)
        arena.alpaca.cash = arena.alpaca.last_equity = Decimal(cash_usd)
        arena.at(MORNING, gaps)
        audit = Audit(arena)
        told.answers = slot(arena, audit, told, event(MORNING))
        told.orders = len(arena.alpaca.accepted)
        arena.at(MORNING + QUARTER, gaps)
        slot(arena, audit, told, event(MORNING + QUARTER))
        return told

    return story


def later(fills: str, what: Callable[[Harness], object]) -> Story:
    """Orders are filled so; between the runs something becomes of them."""

    def story(arena: Harness) -> Told:
        told, audit = Told(), begun(arena)
        arena.alpaca.fills = fills  # type: ignore[assignment]  # one of the books' words
        told.answers = slot(arena, audit, told, event(MORNING))
        told.orders = len(arena.alpaca.accepted)
        with arena.alpaca.lock:
            what(arena)
        healthy(arena, audit, told)
        arena.alpaca.fills = "immediate"
        return healthy(arena, audit, told, MORNING + 2 * QUARTER)

    return story


# --- what happens ---


def sell_by_hand(arena: Harness) -> None:
    arena.alpaca.sell_by_hand("AAA")


def stop(arena: Harness) -> None:
    arena.alpaca.trigger_stop("AAA")


def cancel_all(arena: Harness) -> None:
    """The broker cancels what is not filled."""
    with arena.alpaca.lock:
        for order in [order for order in arena.alpaca.open_orders() if not order.parent]:
            arena.alpaca._end(order, "canceled")


def close_market(arena: Harness) -> None:
    arena.alpaca.is_open = False


def inactive(arena: Harness) -> None:
    """Not active any more, though Alpaca has not begun to refuse its orders yet."""
    arena.alpaca.account_overrides = {"status": "ACCOUNT_CLOSED"}


def block(arena: Harness) -> None:
    arena.alpaca.account_overrides = {"trading_blocked": True}


def near_the_close(arena: Harness) -> None:
    arena.alpaca.now = MORNING.replace(hour=20, minute=58, second=40)


def shut_since(arena: Harness) -> Told:
    """The market has closed since Alpaca's clock was asked, and the answer of then is given again."""
    told, audit = Told(), begun(arena)
    close = MORNING.replace(hour=21, minute=0)
    arena.at(close - 10 * MINUTE, GAPS)
    arena.at(close, GAPS)
    told.answers = slot(arena, audit, told, event(close), faults=[Fault("alpaca GET /clock", Kind.STALE)])
    told.met, told.orders = bool(arena.met), len(arena.alpaca.accepted)
    return healthy(arena, audit, told, MORNING + timedelta(days=1))


def fall(arena: Harness) -> None:
    arena.alpaca.last_equity = arena.alpaca.equity * 2


def recover(arena: Harness) -> None:
    arena.alpaca.last_equity = arena.alpaca.equity


def rotate(arena: Harness) -> None:
    """New keys, at Alpaca and in SSM, while the function's process has the old ones."""
    arena.alpaca.secret = uuid4().hex
    arena.put("alpacapw", arena.alpaca.secret)


def revoke(arena: Harness) -> None:
    arena.alpaca.secret = "nobody's"


def rejecting(symbol: str, *, at_once: bool) -> Callable[[Harness], None]:
    """Alpaca will reject orders for a symbol."""

    def reject(arena: Harness) -> None:
        (arena.alpaca.rejected_at_once if at_once else arena.alpaca.rejected_later).add(symbol)

    return reject


def bar(symbol: str, factor: float) -> Callable[[Harness], None]:
    """Yahoo's last bar of a symbol is off by a factor; what it costs at Alpaca stays as it was."""

    def spoil(arena: Harness) -> None:
        listing = arena.yahoo.listings[symbol]
        closes = [*listing.closes[:-1], (listing.closes[-1] or 0) * factor]
        arena.yahoo.listings[symbol] = Listing(closes, listing.last)

    return spoil


def warm(arena: Harness, audit: Audit, told: Told) -> None:
    """A slot before the opening: the keys are read, and nothing else is done."""
    arena.at(MORNING - 8 * QUARTER, GAPS)
    slot(arena, audit, told, event(MORNING - 8 * QUARTER))
    arena.at(MORNING, GAPS)


def hanging(*parties: str, is_cold: bool = False) -> Story:
    """These parties do not answer at all: the slot must end by itself, inside of the function's timeout."""

    def story(arena: Harness) -> Told:
        told, audit = Told(), begun(arena)
        if is_cold:
            arena.restart()
        else:
            warm(arena, audit, told)
        began = monotonic()
        faults = [Fault(party, Kind.HANG) for party in parties]
        told.answers = slot(arena, audit, told, event(MORNING), faults=faults)
        in_time(told, monotonic() - began)
        if "s3" not in parties and arena.record(MORNING) is None:
            told.violations.append("silent: no record says that nobody answered")
        if '"message": "failed"' not in arena.log and "HALTED" not in {a.status for a in told.answers}:
            told.violations.append("silent: the log does not say why")
        return finished(arena, audit, told)

    return story


def hanging_midway(arena: Harness) -> Told:
    """Everybody answers until the first order is placed, and then nobody."""
    told, audit = Told(met=False), begun(arena)

    def hang() -> None:
        arena.faults.plan([Fault(party, Kind.HANG) for party in ("alpaca", "yahoo", "s3", "ssm")])
        told.met = True

    arena.alpaca.hooks = {"after POST /orders": [hang]}
    began = monotonic()
    told.answers = slot(arena, audit, told, event(MORNING))
    in_time(told, monotonic() - began)
    return finished(arena, audit, told)


def in_time(told: Told, seconds: float) -> None:
    """Note how long the slot took in which nobody answered; that it ended by itself has to be true."""
    told.note = next((f"ended within {limit} s" for limit in (60, 120) if seconds < limit), f"took {seconds:.0f} s")
    was_ended = any("timed out after" in answer.error or answer.status == "timed out" for answer in told.answers)
    if seconds > TIMEOUT_S - 10 or was_ended:
        told.violations.append(f"late: it took {seconds:.0f} s, and the function has {TIMEOUT_S}")


def timed_out(call: str, skip: int = 0) -> Story:
    """Lambda ends the function while it waits for an answer; what it was told of its time was wrong."""

    def story(arena: Harness) -> Told:
        told, audit = Told(), begun(arena)
        warm(arena, audit, told)
        told.answers = slot(
            arena,
            audit,
            told,
            replace(event(MORNING), promised_s=TIMEOUT_S),
            faults=[Fault(call, Kind.HANG, skip=skip)],
        )
        told.met = bool(arena.met) and all(answer.error for answer in told.answers)
        told.orders = len(arena.alpaca.accepted)
        return healthy(arena, audit, told, promised_s=TIMEOUT_S)

    return story


def full_disk() -> Path:
    """A program that starts the emulator where the folder `tmp` beside it has 4,096 bytes."""
    program = Path(mkdtemp(prefix="gauntlet-full-")) / "emulator"
    _, interface = fetch_emulator(TARGET)
    (program.parent / "tmp").mkdir()
    program.write_text(
        f'#!/bin/sh\nexec bwrap --dev-bind / / --size 4096 --tmpfs {program.parent}/tmp -- {interface} "$@"\n'
    )
    program.chmod(0o755)
    return program


def on_a_full_disk(arena: Harness) -> Told:
    told, audit = Told(), begun(arena)
    told.answers = slot(arena, audit, told, event(MORNING))
    told.met = any(words in arena.log for words in ("No space left", "database or disk is full"))
    told.orders = len(arena.alpaca.accepted)
    arena.at(MORNING + QUARTER, GAPS)
    slot(arena, audit, told, event(MORNING + QUARTER))  # the disk stays full
    return told


def left_out() -> str:
    """What cannot be tried on this machine, and why; empty if nothing is left out."""
    return f"machine: /tmp is full: {why}" if (why := sandbox.missing()) else ""


def cells() -> Iterator[Cell]:
    """One cell for each story."""
    at = event(MORNING)

    def cell(where: str, what: str, story: Story, **options: Any) -> Cell:
        return Cell(where, what, story, tuple(options.items()))

    yield cell(DELIVERY, "the event twice at once", delivered(at, at, at_once=True, expected="ALREADY_RAN"))
    yield cell(DELIVERY, "the event three times at once", delivered(at, at, at, at_once=True, expected="ALREADY_RAN"))
    yield cell(DELIVERY, "the event twice in a row", delivered(at, at, expected="ALREADY_RAN"))
    late = Event(slot=MORNING - 4 * QUARTER, clock=MORNING + SECOND)
    yield cell(DELIVERY, "an hour late", delivered(late, expected="EventError"))
    yield cell(DELIVERY, "an hour late, after the present one", delivered(at, late, expected="EventError"))
    four = Event(slot=MORNING, clock=MORNING + 4 * MINUTE)
    yield cell(DELIVERY, "four minutes late", delivered(four, expected="TRADED"))
    older = Event(slot=MORNING - 2 * MINUTE, clock=MORNING + 2 * SECOND)
    yield cell(DELIVERY, "out of order", delivered(at, older))
    yield cell(DELIVERY, "two slots at once", delivered(at, older, at_once=True))
    hand = Event(slot=MORNING + MINUTE, clock=MORNING + MINUTE)
    yield cell(DELIVERY, "one by hand a minute later", delivered(at, hand))
    yield cell(CLOCK, "50 s slow", delivered(Event(slot=MORNING, clock=MORNING - 50 * SECOND), expected="TRADED"))
    slow = Event(slot=MORNING, clock=MORNING - 2 * MINUTE)
    yield cell(CLOCK, "2 min slow", delivered(slow, expected="EventError"))
    yield cell(CLOCK, "6 min fast", delivered(replace(slow, clock=MORNING + 6 * MINUTE), expected="EventError"))

    yield cell(MARKET, "closes before the first order", happening("GET /positions", close_market))
    yield cell(MARKET, "closes after the first order", happening("after POST /orders", close_market))
    yield cell(MARKET, "is about to close", happening("after POST /orders", near_the_close))
    yield cell(MARKET, "has closed, and the clock's answer is an old one", shut_since)
    for symbol, held in {"CCC": "not held", "AAA": "held"}.items():
        for factor in (1000, 0.001):
            yield cell(MARKET, f"a bar of {factor:g} times the price, {held}", given(bar(symbol, factor)))

    yield cell(OWNER, "halts before the run", given(lambda arena: arena.halt(True)))
    yield cell(OWNER, "halts before the first order", happening("GET /positions", lambda arena: arena.halt(True)))
    yield cell(OWNER, "halts after the first order", happening("after POST /orders", lambda arena: arena.halt(True)))
    yield cell(
        OWNER, "sells by hand between two runs", later("immediate", lambda arena: arena.alpaca.sell_by_hand("CCC"))
    )
    yield cell(OWNER, "sells by hand after the look at positions", happening("after GET /positions", sell_by_hand))
    yield cell(OWNER, "sells by hand while the bracket is cancelled", happening("after DELETE /orders", sell_by_hand))
    yield cell(OWNER, "sells by hand right before the sale arrives", happening("POST /orders", sell_by_hand))
    yield cell(OWNER, "rotates the keys", given(rotate, is_warm=True))
    yield cell(OWNER, "revokes the keys", given(revoke, undo=rotate, is_warm=True))

    yield cell(ACCOUNT, "blocked before the run", given(block))
    yield cell(ACCOUNT, "not active any more", given(inactive))
    yield cell(ACCOUNT, "blocked before the first order", happening("GET /positions", block))
    yield cell(ACCOUNT, "blocked after the first order", happening("after POST /orders", block))
    yield cell(ACCOUNT, "beyond the daily loss", given(fall, undo=recover))

    many = dict.fromkeys(market.SYMBOLS, -0.05)
    yield cell(ORDER, "six wishes, of which five are allowed", wishing(many))
    yield cell(ORDER, "wishes for more than the cash allows", wishing(many, cash_usd=45_000))
    yield cell(ORDER, "wishes for dear shares", wishing({"FF.B": -0.05}, cash_usd=3_000))
    yield cell(ORDER, "filled in part", later("partial", lambda _: None))
    yield cell(ORDER, "filled in part, then cancelled", later("partial", cancel_all))
    yield cell(ORDER, "not filled", later("never", lambda _: None))
    yield cell(ORDER, "not filled, then cancelled", later("never", cancel_all))
    for symbol in ("AAA", "CCC"):
        side = "the sale" if symbol == "AAA" else "a buy"
        yield cell(ORDER, f"{side} is rejected at once", given(rejecting(symbol, at_once=True)))
        yield cell(ORDER, f"{side} is rejected later", given(rejecting(symbol, at_once=False)))
    late_buy = Fault("alpaca POST /orders", Kind.LATE, skip=1)
    yield cell(ORDER, "a buy without an answer is accepted after the run", one_fault(late_buy))
    yield cell(ORDER, "a leg is filled after the look at orders", happening("after GET /orders", stop))
    yield cell(ORDER, "a leg is filled as it is cancelled", happening("DELETE /orders", stop))
    yield cell(
        ORDER, "a leg is filled between two runs", later("immediate", lambda arena: arena.alpaca.trigger_stop("BBB"))
    )

    for call, name in {
        "POST /orders": "an order",
        "DELETE /orders": "a cancellation",
        "GET /clock": "the clock",
    }.items():
        yield cell(MACHINE, f"the timeout while {name} is under way", timed_out(f"alpaca {call}"), timeout_s=12)
    yield cell(
        MACHINE, "the timeout while the second order is under way", timed_out("alpaca POST /orders", 1), timeout_s=12
    )
    yield cell(MACHINE, "the timeout while the record is written", timed_out("s3 PUT record"), timeout_s=12)
    if not left_out():
        yield cell(MACHINE, "/tmp is full", on_a_full_disk, wrapper=full_disk, engine="prophet")

    yield cell(EVERYBODY, "hangs, the process new", hanging("alpaca", "yahoo", "s3", "ssm", is_cold=True))
    yield cell(EVERYBODY, "hangs, the process warm", hanging("alpaca", "yahoo", "s3", "ssm"))
    yield cell(EVERYBODY, "hangs after the first order", hanging_midway)
    yield cell(EVERYBODY, "hangs but S3", hanging("alpaca", "yahoo", "ssm"))
    yield cell(EVERYBODY, "hangs but AWS", hanging("alpaca", "yahoo"))
