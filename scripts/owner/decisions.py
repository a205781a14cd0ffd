"""Whether today's code decides as it is on record, from the same record, and what settings have changed. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from scripts.cloud.rhythms import NOT_COMPARED
from scripts.owner.shadow import Choice, Decider, UndecidableError, observe_again
from scripts.owner.slots import Fit
from scripts.owner.tape import Step
from trader.model import Order
from trader.progress import Progress, no_progress
from trader.settings import Settings

SHAPING = frozenset(
    {
        *("universe", "universe_size", "universe_lookback_bars", "bar_interval", "history_bars"),
        *("engine", "signal", "horizon_bars", "rule_sha256"),
    }
)
"""Settings that shape what a record holds of prices and forecasts: what others would have shown is on no record."""

TOLERANCE = 1e-6
"""Relative tolerance of a trend line that is fitted again, perhaps on another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A decision that is not the one recorded. `setting` names the settings that have changed since the first record.

    Without one, today's code decides otherwise from the same record.
    """

    slot: datetime
    symbol: str
    recorded: str
    again: str
    setting: str = ""


@dataclass(slots=True, kw_only=True)
class Checked:
    """What a check has found. `settings` are those of each step, `tested` those that the test keeps from the first."""

    settings: list[Settings | None] = field(default_factory=list)
    tested: list[Settings | None] = field(default_factory=list)
    recorded: dict[int, Mapping[str, Order | None]] = field(default_factory=dict)  # orders that differ, at a step
    differences: list[Difference] = field(default_factory=list)
    undecided: dict[datetime, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check(steps: Sequence[Step], decider: Decider, refit: Fit | None, progress: Progress = no_progress) -> Checked:
    """Decide again at each step from its own record. With `refit`, each forecast is fitted again, too."""
    found = Checked()
    first = steps[0]
    for number, step in enumerate(steps):
        progress("decisions", number + 1, len(steps))
        fixed = find_changed(first, step)
        for name in sorted(first.settings.keys() & step.settings.keys() & SHAPING):
            words = f"{name.upper()} has changed: no record shows what it was before, so the test changes it too"
            if first.settings[name] != step.settings[name] and words not in found.notes:
                found.notes.append(words)
        try:
            found.settings.append(decider.read_settings(number))
            found.tested.append(decider.read_settings(number, fixed) if fixed else found.settings[-1])
            if step.decided is not None and not step.missed:
                _check_step(number, step, decider, found, fixed)
        except UndecidableError as error:
            found.settings[number:], found.tested[number:] = [None], [None]
            found.undecided[step.slot] = str(error)
        if refit and step.decided is not None and not step.missed:
            found.differences += _check_forecasts(step, refit(step))
    return found


def decide_again(steps: Sequence[Step], *, trusts_rule: bool = False) -> dict[datetime, Choice]:
    """Return what today's code decides from each record; nothing where it cannot decide."""
    decider = Decider(steps, trusts_rule=trusts_rule)
    found = {}
    for number, step in enumerate(steps):
        if step.decided is None:
            continue
        with suppress(UndecidableError):  # the check meets it again, and says so
            found[step.slot] = decider.decide_again(number, decider.read_settings(number))
    return found


def find_changed(first: Step, step: Step) -> Mapping[str, object]:
    """Return the settings of the first step that a later one has otherwise, of those that decide with equal prices."""
    names = first.settings.keys() & step.settings.keys() - SHAPING - NOT_COMPARED
    return {name: first.settings[name] for name in sorted(names) if first.settings[name] != step.settings[name]}


def _check_step(number: int, step: Step, decider: Decider, found: Checked, fixed: Mapping[str, object]) -> None:
    settings, tested = found.settings[number], found.tested[number]
    assert settings is not None, "they have been read"
    assert tested is not None, "they have been read"
    again = decider.decide_again(number, settings)
    orders = {each.symbol: each for each in again.orders}
    was = {each.symbol: each for each in step.decided or ()}
    differing = {symbol for symbol in was.keys() | orders.keys() if was.get(symbol) != orders.get(symbol)}
    if differing:
        found.recorded[number] = {symbol: was.get(symbol) for symbol in differing}
    found.differences += _compare(step, again, differing)
    if tested is settings:
        return
    kept = {each.symbol: each for each in decider.decide(number, tested, observe_again(step)).orders}
    words = ", ".join(f"{name.upper()} {before} → {step.settings[name]}" for name, before in fixed.items())
    for symbol in sorted(orders.keys() | kept.keys()):
        if (one := _describe(orders.get(symbol))) != (other := _describe(kept.get(symbol))):
            found.differences.append(
                Difference(slot=step.slot, symbol=symbol, recorded=one, again=other, setting=words)
            )


def _compare(step: Step, again: Choice, differing: set[str]) -> Iterator[Difference]:
    """Yield the orders, directions and refusals of a decision that are not those recorded, one a symbol."""
    orders = {each.symbol: each for each in again.orders}
    was = {each.symbol: each for each in step.decided or ()}
    refused, directions = again.refused, again.directions
    turned = {
        each for each in directions.keys() | step.directions.keys() if directions.get(each) != step.directions.get(each)
    }
    for symbol in sorted(differing | turned):
        yield Difference(
            slot=step.slot,
            symbol=symbol,
            recorded=_describe(was.get(symbol), step.directions.get(symbol)),
            again=_describe(orders.get(symbol), directions.get(symbol)),
        )
    missing = {each for each in step.refused - refused if each[0] in step.forecasts and each[0] in step.bars}
    for symbol in sorted({symbol for symbol, _ in (refused - step.refused) | missing} - differing - turned):
        codes = [", ".join(code for each, code in sorted(some) if each == symbol) for some in (step.refused, refused)]
        yield Difference(slot=step.slot, symbol=symbol, recorded=codes[0] or "allowed", again=codes[1] or "allowed")


def _check_forecasts(step: Step, fitted: Step) -> Iterator[Difference]:
    """Yield the trend lines that are others when they are fitted again."""
    for symbol, each in step.forecasts.items():
        again = fitted.forecasts.get(symbol)
        if again is None or not math.isclose(each.trend_usd, again.trend_usd, rel_tol=TOLERANCE):
            yield Difference(
                slot=step.slot,
                symbol=symbol,
                recorded=f"trend line at {each.trend_usd:,.4f}",
                again="no forecast" if again is None else f"trend line at {again.trend_usd:,.4f}",
            )


def _describe(order: Order | None, direction: str | None = None) -> str:
    """Describe a decision on one symbol: `UP: buy 95 at 104.50, stop 101.37`."""
    words = "no order"
    if order is not None:
        stop = f", stop {order.stop_loss_usd:,.2f}" if order.stop_loss_usd is not None else ""
        words = f"{order.side} {order.quantity:g} at {order.price_usd:,.2f}{stop}"
    return f"{direction}: {words}" if direction else words
