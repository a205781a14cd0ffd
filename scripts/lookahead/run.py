"""`make lookahead`: check that no decision of a backtest uses later prices, then plant leaks that must be caught."""

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime

from scripts import console
from scripts.backtest import options, prices
from scripts.backtest.cutting import cuttable
from scripts.backtest.model import BacktestError, Options
from scripts.backtest.workers import processes
from scripts.console import format_count
from scripts.lookahead import sweeps
from scripts.lookahead.check import Cut, check, choose_cuts, run_whole
from scripts.lookahead.leaks import LATE, LEAKS, OF_SWEEPS, Leak
from scripts.lookahead.proofs import Honest, Proof, prove
from scripts.lookahead.sweeps import PartCheck
from trader.codec import encode
from trader.model import BARS_PER_SESSION, NEW_YORK, Engine
from trader.progress import Progress
from trader.settings import Integer, SettingsError

BARS = 300
"""The number of bars traded if START is not set: more than LATE, so that a leak that begins late is seen."""

CUTS = 12

BARS_WITH_LEAK, BARS_WITH_LATE_LEAK = 40, LATE + 30
"""The bars traded with a planted leak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the result: what was run, what was found, and whether it is as it must be."""

    where: str
    what: str
    found: str
    verdict: str
    is_passed: bool = True


def main() -> None:
    """Check the backtest, then the check itself; exit with 0 only if both pass."""
    with console.plain_errors("interrupted; there is no result"):
        count, seed = numbers(os.environ)
        chosen = options.from_env(os.environ)
        # Processes with each engine: a leak is planted in the modules of its process.
        with console.progress() as progress, processes(chosen.settings.engine) as executor:
            lines = check_all(chosen, count, seed, executor, progress)
    if console.wants_json():
        console.print_json([encode(each) for each in lines])
    else:
        show(lines)
    sys.exit(console.USABLE if all(each.is_passed for each in lines) else console.FAILED)


def numbers(env: Mapping[str, str]) -> tuple[int | None, int]:
    """Return the number of cuts (None: as many as are usual) and their random seed. Raises SettingsError."""
    values, problems = options.read(env, {"CUTS": Integer(1, 10_000), "SEED": Integer(0, 999_999_999)})
    if problems:
        raise SettingsError(problems)
    return values.get("CUTS"), values.get("SEED", 1)


def check_all(given: Options, count: int | None, seed: int, executor: Executor, progress: Progress) -> list[Line]:
    """Check the backtest, plant all leaks, and check the choice of settings. Raises BacktestError."""
    lines = [check_backtest(given, count, seed, executor, progress)]
    # A leak is not the engine's, and the map engine is fast. Some need a longer span than the one to check.
    fast = replace(given, start=None, settings=replace(given.settings, engine=Engine.MAP))
    lines += _prove_all(fast, executor, progress)
    lines += _check_sweeps(fast, executor, progress)
    return lines


def check_backtest(given: Options, count: int | None, seed: int, executor: Executor, progress: Progress) -> Line:
    """Check the backtest. Raises BacktestError if it cannot be run, or cut."""
    panel = prices.load(given, progress)
    chosen = given if given.start else prices.starting(panel, given, BARS)
    times = prices.span(panel, chosen)
    cuts = choose_cuts(times, count or min(CUTS, len(times) - 1), seed, cuttable(chosen).find_gaps())
    whole = run_whole(chosen, executor, lambda _, *steps: progress("the backtest", *steps))
    return describe_check(check(chosen, whole, cuts, executor, progress))


def _prove_all(given: Options, executor: Executor, progress: Progress) -> list[Line]:
    """Plant each leak in a span long enough for it."""
    panel = prices.load(given)
    short, long = (prices.starting(panel, given, bars) for bars in (BARS_WITH_LEAK, BARS_WITH_LATE_LEAK))
    honest = {each: Honest.of(run_whole(each, executor)) for each in (short, long)}
    leaks = {number: leak for number, leak in enumerate(LEAKS) if leak.is_of(given)}
    works = [long if leak.is_late else short for leak in leaks.values()]
    proofs = executor.map(prove, leaks, works, (honest[each] for each in works))
    lines = []
    for leak, proof in zip(leaks.values(), proofs, strict=True):
        lines.append(describe_proof(leak, proof))
        progress("planted leaks", len(lines), len(leaks))
    return lines


def _check_sweeps(given: Options, executor: Executor, progress: Progress) -> list[Line]:
    """Check the choice of settings in a sweep, then plant its leak; a span that is too short has no sweep."""
    chosen = prices.starting(prices.load(given), given, sweeps.BARS * BARS_PER_SESSION[given.settings.bar_interval])
    try:
        whole, cut = sweeps.run_sweeps(chosen, executor)
    except BacktestError as error:
        console.note(f"the choice of settings in a sweep was not checked: {error}")
        return []
    progress("sweeps", 1, 1)
    return [describe_sweep(sweeps.check_choices(whole, cut, leak), leak) for leak in (None, OF_SWEEPS)]


def describe_check(cuts: Sequence[Cut]) -> Line:
    """Return the line of a backtest that must be the same at all cuts."""
    differing = [cut for cut in cuts if cut.difference]
    unread = [cut for cut in cuts if cut.unread]
    if differing and (found := differing[0].difference):
        at = format_count(len(differing), "bar")
        text = f"differs at {at}, first in the {found.what} of {moment(found.time)}"
    elif unread:
        text = f"the same, but {format_count(len(unread), 'cut')} cannot be read: {unread[0].unread}"
    else:
        text = "the same to the bit"
    is_passed = not differing and len(unread) < len(cuts)
    return Line(
        where="the backtest",
        what=f"prices end at {format_count(len(cuts), 'bar')} from {moment(cuts[0].at)} to {moment(cuts[-1].at)}",
        found=text,
        verdict="no look-ahead" if is_passed else "WRONG",
        is_passed=is_passed,
    )


def describe_proof(leak: Leak, proof: Proof) -> Line:
    """Return the line of a planted leak."""
    if proof.unseen:
        return Line(where=leak.where, what=leak.what, found=proof.unseen, verdict="not planted")
    if proof.cut is None or proof.cut.difference is None:
        return Line(where=leak.where, what=leak.what, found="the same to the bit", verdict="WRONG", is_passed=False)
    found = proof.cut.difference
    text = f"the {found.what} of {moment(found.time)} differ if prices end on {moment(proof.cut.at)}"
    return Line(where=leak.where, what=leak.what, found=text, verdict="caught")


def describe_sweep(parts: Sequence[PartCheck], leak: Leak | None) -> Line:
    """Return the line of a sweep, honest or with a planted leak."""
    differing = [each.part for each in parts if not each.is_same]
    is_passed = bool(differing) == bool(leak)
    return Line(
        where="sweep",
        what=leak.what if leak else f"prices end with each of {len(parts)} parts",
        found=f"part {differing[0]} differs" if differing else "the same figures and choices",
        verdict=("caught" if leak else "no look-ahead") if is_passed else "WRONG",
        is_passed=is_passed,
    )


def show(lines: Sequence[Line]) -> None:
    """Print a line for each check."""
    table = console.table("Where", "What was done, and what it changed", "Verdict", whole=["Where", "Verdict"])
    for each in lines:
        words = f"{each.what[0].upper()}{each.what[1:]}: {each.found}"
        table.add_row(each.where, words, each.verdict, style="" if each.is_passed else "red")
    console.OUT.print(table)


def moment(time: datetime) -> str:
    """Format a bar's time in New York; for a daily bar, only its date."""
    local = time.astimezone(NEW_YORK)
    return f"{local:%Y-%m-%d %H:%M}" if local.hour else f"{local:%Y-%m-%d}"
