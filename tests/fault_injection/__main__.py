"""`make gauntlet`: run the deployed function through faults at every boundary, random weeks, and weeks without a fault.

LONG=1 runs ten thousand random slots and 24 weeks; SEED=n starts the random part with that seed.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.markup import escape
from rich.table import Table

from scripts import console
from scripts.console import CommandError
from tests.fault_injection import fault_matrix, scenarios
from tests.fault_injection.harness import TARGET, share
from tests.fault_injection.invariants import INVARIANTS
from tests.fault_injection.runner import SLOTS_A_DAY, Result, run


def rows(outcomes: Sequence[fault_matrix.Outcome]) -> Iterator[tuple[str, str, str, bool, list[str]]]:
    """Yield where, what, outcome, whether all held, and violations; faults with the same outcome share a row."""
    for where, group in groupby(outcomes, key=lambda each: each.where):
        by_outcome: dict[tuple[str, bool], list[fault_matrix.Outcome]] = {}
        for each in group:
            by_outcome.setdefault((each.outcome, each.holds), []).append(each)
        for (outcome, holds), same in by_outcome.items():
            violations = [f"{each.what}: {words}" for each in same for words in each.violations]
            yield where, ", ".join(str(each.what) for each in same), outcome, holds, violations


def show(result: Result) -> None:
    """Print the table of faults, and the results of the other parts."""
    shown = Table(title="One fault at a time: where, what, and its outcome", title_justify="left")
    for name in ("Where", "What", "Outcome of the slot", "Invariants"):
        shown.add_column(name, overflow="fold")
    last = ""
    for where, what, outcome, holds, violations in rows(result.outcomes):
        if where != last:
            shown.add_section()
        verdict = "[green]hold[/]" if holds else f"[bold red]{escape('; '.join(violations))}[/]"
        shown.add_row("" if where == last else where, f"[{'green' if holds else 'red'}]{what}[/]", outcome, verdict)
        last = where
    console.OUT.print(shown)
    good = sum(each.holds for each in result.outcomes)
    say(good == len(result.outcomes), f"{len(result.outcomes)} faults, one at a time: {good} with every invariant held")
    orders = sum(tally.orders for tally in result.tallies)
    faults = sum(sum(tally.faults.values()) for tally in result.tallies)
    rate = f"{result.slots:,} random slots from seed {result.seed} on: {faults:,} faults, {orders:,} orders"
    say(not result.failures, f"{rate}, {len(result.failures) or 'no'} violation{'s' * (len(result.failures) > 1)}")
    growth = result.growth
    say(
        growth.holds,
        f"{growth.slots:,} slots of {growth.slots // SLOTS_A_DAY} days in one process: {growth.orders:,} orders, "
        f"memory {growth.settled_mb:.1f} MB after the second day and {growth.end_mb:.1f} MB at the end, open files "
        f"{growth.settled_files} and {growth.end_files}",
    )
    for words in growth.violations[:5]:
        console.OUT.print(f"   {words}", style="red", markup=False)
    for seed, words in result.failures:
        console.OUT.print(
            f"\n The shortest failing sequence of seed {seed}; to repeat it: make gauntlet SEED={seed}",
            style="bold red",
        )
        console.OUT.print(words, markup=False)
    console.OUT.print(f" {result.seconds:,.0f} s on {os.cpu_count()} processors", style="dim")


def as_markdown(outcomes: Sequence[fault_matrix.Outcome]) -> str:
    """Return the table in Markdown, as in docs/reliability.md."""
    lines = ["| where | what | outcome of the slot |", "|---|---|---|"]
    last = ""
    for where, what, outcome, holds, _ in rows(outcomes):
        lines.append(f"| {'' if where == last else where} | {what} | {outcome if holds else f'**BROKEN** {outcome}'} |")
        last = where
    return "\n".join(lines)


def say(holds: bool, words: str) -> None:
    """Print a line with its verdict."""
    console.OUT.print(f" {'[green]holds[/]' if holds else '[bold red]BROKEN[/]'}  {escape(words)}", soft_wrap=True)


def as_json(result: Result) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "holds": result.holds,
        "seed": result.seed,
        "seconds": round(result.seconds),
        "invariants": dict(INVARIANTS),
        "cells": [{**asdict(each), "holds": each.holds} for each in result.outcomes],
        "random": {
            "slots": result.slots,
            "orders": sum(tally.orders for tally in result.tallies),
            "faults": dict(sum((Counter(tally.faults) for tally in result.tallies), Counter())),
            "statuses": dict(sum((Counter(tally.statuses) for tally in result.tallies), Counter())),
            "failures": [{"seed": seed, "sequence": words} for seed, words in result.failures],
        },
        "weeks": {
            **asdict(result.growth),
            "growth_mb": round(result.growth.growth_mb, 3),
            "holds": result.growth.holds,
        },
    }


def main() -> None:
    """Run the gauntlet, and print the result; exit with code 1 if an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="make gauntlet", description=__doc__)
    parser.add_argument("--json", action="store_true", default=console.flag("JSON"), help="print the result as JSON")
    arguments = parser.parse_args()
    with console.plain_errors(interrupted="interrupted"):
        if not TARGET.runs_here:
            raise CommandError("left out: AWS's runtime interface runs only on Linux x86_64")
        if (gap := scenarios.left_out()) and console.flag("CI"):
            raise CommandError(f"left out: {gap}")
        share()
        with console.progress() as progress:
            result = run(seed(), is_long=console.flag("LONG"), report=progress)
        if console.flag("MARKDOWN"):
            sys.stdout.write(as_markdown(result.outcomes) + "\n")
        elif arguments.json:
            sys.stdout.write(json.dumps(as_json(result)) + "\n")
        else:
            show(result)
            if gap:
                console.note(f" left out: {gap}")
    sys.exit(console.USABLE if result.holds else console.FAILED)


def seed() -> int:
    """Return SEED, 1 by default. Raises CommandError if it is not a whole number."""
    text = os.environ.get("SEED") or "1"
    if not text.isdigit():
        raise CommandError(f"SEED={text}: must be a whole number, such as 7")
    return int(text)


if __name__ == "__main__":
    main()
