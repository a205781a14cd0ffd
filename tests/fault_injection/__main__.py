"""`make gauntlet`: run the deployed function through faults at every boundary, stories, random weeks and whole weeks.

It fails if an invariant does not hold, or if a table in docs/explanation/reliability.md is not what happened.
LONG=1 runs ten thousand random slots and 24 weeks; SEED=n starts the random part with that seed.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from scripts import ROOT, console
from scripts.console import CommandError
from tests.fault_injection import fault_matrix, scenarios, tables
from tests.fault_injection.harness import TARGET, share
from tests.fault_injection.invariants import INVARIANTS
from tests.fault_injection.runner import SLOTS_A_DAY, Result, run


def show_table(title: str, heading: str, outcomes: Sequence[fault_matrix.Outcome]) -> None:
    """Print a table of outcomes."""
    shown = Table(title=title, title_justify="left")
    for name in ("Where", "What", heading.capitalize(), "Invariants"):
        shown.add_column(name, overflow="fold")
    last = ""
    for where, what, outcome, holds, violations in tables.rows(outcomes):
        if where != last:
            shown.add_section()
        verdict = Text("hold", "green") if holds else Text("; ".join(violations), "bold red")
        shown.add_row("" if where == last else where, Text(what, "green" if holds else "red"), outcome, verdict)
        last = where
    console.OUT.print(shown)


def show(result: Result) -> None:
    """Print the tables of faults and stories, and the results of the other parts."""
    show_table("One fault at a time: where, what, and its outcome", tables.FAULTS, result.outcomes)
    show_table("Stories over several slots and days, and their outcome", tables.STORIES, result.told)
    for outcomes, words in ((result.outcomes, "faults, one at a time"), (result.told, "stories over several slots")):
        good = sum(each.holds for each in outcomes)
        say(good == len(outcomes), f"{len(outcomes)} {words}: {good} with every invariant held")
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


def say(holds: bool, words: str) -> None:
    """Print a line with its verdict."""
    verdict = Text(" holds", "green") if holds else Text(" BROKEN", "bold red")
    console.OUT.print(Text.assemble(verdict, f"  {words}"), soft_wrap=True)


def as_json(result: Result) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "holds": result.holds,
        "seed": result.seed,
        "seconds": round(result.seconds),
        "invariants": dict(INVARIANTS),
        "cells": [{**asdict(each), "holds": each.holds} for each in result.outcomes],
        "stories": [{**asdict(each), "holds": each.holds} for each in result.told],
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
    with console.plain_errors(interrupted="interrupted"):
        if not TARGET.runs_here:
            raise CommandError("left out: AWS's runtime interface runs only on Linux x86_64")
        if (gap := scenarios.left_out()) and console.flag("CI"):
            raise CommandError(f"left out: {gap}")
        share()
        with console.progress() as progress:
            result = run(seed(), is_long=console.flag("LONG"), report=progress)
        outcomes = {tables.FAULTS: result.outcomes, tables.STORIES: result.told}
        is_for_page = console.flag("MARKDOWN")
        differences = [] if is_for_page else tables.find_differences(outcomes, gap)
        if is_for_page:
            for heading, each in outcomes.items():
                sys.stdout.write("\n".join([*tables.as_markdown(each, heading), "", ""]))
        elif console.wants_json():
            sys.stdout.write(json.dumps(as_json(result)) + "\n")
        else:
            show(result)
            if gap:
                console.note(f" left out: {gap}")
        if differences:
            page = tables.PAGE.relative_to(ROOT)
            console.note(f" {page} differs from the run; make gauntlet MARKDOWN=1 prints its tables anew:")
            for row in differences:
                console.note(f"   {row}")
    sys.exit(console.USABLE if result.holds and not differences else console.FAILED)


def seed() -> int:
    """Return SEED, 1 by default. Raises CommandError if it is not a whole number."""
    text = os.environ.get("SEED") or "1"
    if not text.isdigit():
        raise CommandError(f"SEED={text}: must be a whole number, such as 7")
    return int(text)


if __name__ == "__main__":
    main()
