"""`make halt` and `make resume`: turn the halt switch of one strategy or of all strategies on or off.

A switch is an SSM parameter that every run reads at its start, and again before each order.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from scripts import console
from scripts.cloud.aws import CONFIG, AwsError, Cloud, DeniedError, UsageError, connect, translate_errors
from scripts.cloud.tables import TableRow, show_paragraphs, show_table
from scripts.console import CommandError

VALUES = {"halt": "true", "resume": "false"}
WORDS = {"true": "halted", "false": "trading"}
ALL = "all"

HALTED = (
    "No run of {them} trades any more. A run that is under way sends no more buys and starts no more sales; it "
    "finishes a sale that it has started, and gives what it has bought its stop.\n"
    "Positions stay, with their stop losses and take profits at Alpaca, and so do open orders: sell or cancel them in "
    "Alpaca's dashboard.\n"
    "No stop is placed while it is halted. The stops of parts of a share (SHARES=fractional) end with the day and are "
    "not renewed: from the next opening on, these holdings have none, and each run names them.\n"
    "To trade again: make resume STRATEGY={which}"
)
RESUMED = "The next scheduled run of {them} trades again; to run {now} now: {commands}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A strategy's switch before and now, in words, and the error if it could not be set."""

    strategy: str
    before: str
    now: str
    changed: datetime | None = None
    error: str = ""


def halt() -> None:
    """Stop trading."""
    main("halt")


def resume() -> None:
    """Let strategies trade again."""
    main("resume")


def main(action: str) -> None:
    """Set all switches that can be set, and show them; exit with 3 if one could not be set."""
    again = f"make {action}"
    with console.plain_errors(interrupted=f"interrupted; switches not shown may not be set: {again} can be repeated"):
        cloud = connect()
        switches: list[Switch] = []
        names = choose_strategies(cloud, action, os.environ)
        try:
            for name in names:
                switches.append(turn_switch(cloud, name, VALUES[action]))  # noqa: PERF401 shown after an interruption
        finally:
            if console.wants_json():
                console.print_json(switches)
            elif switches:
                show(action, switches)
        if failed := [f"{each.strategy}: {each.error}" for each in switches if each.error]:
            raise CommandError("\n".join([f"not every switch could be set; {again} can be repeated safely", *failed]))


def choose_strategies(cloud: Cloud, action: str, env: Mapping[str, str]) -> Sequence[str]:
    """Return the strategies to switch. Halting all needs no STRATEGY; resuming all needs STRATEGY=all."""
    strategy = env.get("STRATEGY")
    if strategy and strategy != ALL:
        try:
            there = cloud.strategies
        except AwsError:
            return [strategy]  # the switch may work even if the strategies cannot be listed
        return [strategy if strategy in there else cloud.require_deployed(strategy)]
    if action == "resume" and not strategy:
        there = cloud.strategies or [cloud.require_deployed("")]
        raise UsageError(f"resume which strategy? Set STRATEGY to one of {', '.join(there)}, or {ALL}")
    return cloud.strategies or [cloud.require_deployed("")]


def turn_switch(cloud: Cloud, strategy: str, wanted: str) -> Switch:
    """Set the strategy's switch and read it back; return its state, or why it could not be set."""
    before, now, changed, problem = "", "", None, ""
    try:
        before, changed = read(cloud, strategy)
    except DeniedError:
        pass  # credentials that may only write can still halt
    except AwsError as error:
        return Switch(strategy=strategy, before=in_words(""), now=in_words(""), error=str(error))
    try:
        if before != wanted:
            write(cloud, strategy, wanted)
        now, changed = read(cloud, strategy) if before else (wanted, datetime.now(UTC))
        problem = "" if now == wanted else "another user changed it at the same time"
    except AwsError as error:
        problem = str(error)
    return Switch(strategy=strategy, before=in_words(before), now=in_words(now), changed=changed, error=problem)


def read(cloud: Cloud, strategy: str) -> tuple[str, datetime]:
    """Return the switch's value as a run reads it, and when it was written."""
    with translate_errors(f"the halt switch of {strategy}"):
        ssm = cloud.session.client("ssm", config=CONFIG)
        parameter = ssm.get_parameter(Name=cloud.parameter(strategy, "halt"), WithDecryption=True)["Parameter"]
    return parameter["Value"].strip().lower(), parameter["LastModifiedDate"]


def write(cloud: Cloud, strategy: str, value: str) -> None:
    """Overwrite the switch. AWS refuses to create a missing one, because no type is given."""
    with translate_errors(f"the halt switch of {strategy}"):
        ssm = cloud.session.client("ssm", config=CONFIG)
        ssm.put_parameter(Name=cloud.parameter(strategy, "halt"), Value=value, Overwrite=True)


def in_words(value: str) -> str:
    """Say what a value of the switch means to a run. Other values are not quoted: they may be secrets by mistake."""
    return WORDS.get(value, "halted (neither true nor false)" if value else "unknown")


def show(action: str, switches: Sequence[Switch]) -> None:
    """Print the switches, and what they mean for runs, positions and orders."""
    rows = []
    for each in switches:
        changed = f"{each.changed.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if each.changed else ""
        now = "NOT SET" if each.error else each.now
        rows.append(TableRow(cells=(each.strategy, each.before, now, changed), style="bold red" if each.error else ""))
    show_table(("Strategy", "Before", "Now", "Last changed (UTC)"), rows)
    names = [each.strategy for each in switches if not each.error]
    if not names:
        return
    which = names[0] if len(names) == 1 else ALL
    commands = ", or ".join(f"make invoke STRATEGY={name}" for name in names)
    words = (HALTED if action == "halt" else RESUMED).format(
        them=" and ".join(names), which=which, now="it" if len(names) == 1 else "one of them", commands=commands
    )
    show_paragraphs(f"\n{words}")
