"""`make halt` and `make resume`: turn the halt switch of one strategy, or of all, on and off.

A switch is an SSM parameter that every run reads before it does anything, and again before each order.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.padding import Padding
from rich.text import Text

from scripts import console
from scripts.cloud.aws import CONFIG, AwsError, Cloud, DeniedError, connect, translate_errors
from scripts.console import CommandError

VALUES = {"halt": "true", "resume": "false"}
WORDS = {"true": "halted", "false": "trading"}
ALL = "all"

HALTED = (
    "No run of {them} trades any more. One that is under way sends no further buy and begins no further sale; a sale "
    "already begun is finished.\n"
    "What is held stays, with its stop losses and take profits at Alpaca, and so do open orders: sell or cancel them "
    "in Alpaca's dashboard.\n"
    "To go on: make resume STRATEGY={which}"
)
RESUMED = "The next scheduled run of {them} trades again; to run now: make invoke STRATEGY=NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A strategy's switch before and now, each in words, and why it could not be turned."""

    strategy: str
    before: str
    now: str
    changed: datetime | None = None
    error: str = ""


def main() -> None:
    """Turn the switches, all that can be turned, and show them; the exit code is 1 if one could not be."""
    parser = console.parser("make halt, make resume", __doc__)
    parser.add_argument("action", choices=VALUES, help="halt: of STRATEGY, or of all; resume: of STRATEGY, or all")
    arguments = parser.parse_args()
    again = f"make {arguments.action}"
    with console.plain_errors(interrupted=f"interrupted; what is not shown is not turned: {again} again is safe"):
        cloud = connect()
        switches: list[Switch] = []
        names = choose_strategies(cloud, arguments.action, os.environ)
        try:
            for name in names:
                switches.append(turn_switch(cloud, name, VALUES[arguments.action]))  # noqa: PERF401 an interruption shows them
        finally:
            if arguments.json:
                console.print_json([as_json(switch) for switch in switches])
            elif switches:
                show(arguments.action, switches)
        if failed := [f"{each.strategy}: {each.error}" for each in switches if each.error]:
            raise CommandError("\n".join([f"not every switch could be turned; {again} again is safe", *failed]))


def choose_strategies(cloud: Cloud, action: str, env: Mapping[str, str]) -> Sequence[str]:
    """The strategies that are meant. To halt all nothing has to be said; to resume all, STRATEGY=all."""
    strategy = env.get("STRATEGY")
    if strategy and strategy != ALL:
        try:
            there = cloud.strategies
        except AwsError:
            return [strategy]  # a list that cannot be had keeps nobody from the switch itself
        return [strategy if strategy in there else cloud.deployed(strategy)]
    if action == "resume" and not strategy:
        there = cloud.strategies or [cloud.deployed("")]
        raise CommandError(f"resume which strategy? Say STRATEGY= one of {', '.join(there)}, or STRATEGY={ALL}")
    return cloud.strategies or [cloud.deployed("")]


def turn_switch(cloud: Cloud, strategy: str, wanted: str) -> Switch:
    """The strategy's switch after it has been turned and read back, or why it could not be."""
    before, now, changed, problem = "", "", None, ""
    try:
        before, changed = read(cloud, strategy)
    except DeniedError:
        pass  # whoever may only write can halt, too
    except AwsError as error:
        return Switch(strategy=strategy, before=in_words(""), now=in_words(""), error=str(error))
    try:
        if before != wanted:
            write(cloud, strategy, wanted)
        now, changed = read(cloud, strategy) if before else (wanted, datetime.now(UTC))
        problem = "" if now == wanted else "somebody else has turned it at the same moment"
    except AwsError as error:
        problem = str(error)
    return Switch(strategy=strategy, before=in_words(before), now=in_words(now), changed=changed, error=problem)


def read(cloud: Cloud, strategy: str) -> tuple[str, datetime]:
    """The switch's value as a run reads it, and when it was written."""
    with translate_errors(f"the halt switch of {strategy}"):
        ssm = cloud.session.client("ssm", config=CONFIG)
        parameter = ssm.get_parameter(Name=cloud.parameter(strategy, "halt"), WithDecryption=True)["Parameter"]
    return parameter["Value"].strip().lower(), parameter["LastModifiedDate"]


def write(cloud: Cloud, strategy: str, value: str) -> None:
    """Overwrite the switch. Without a type AWS refuses to create one that is not there."""
    with translate_errors(f"the halt switch of {strategy}"):
        ssm = cloud.session.client("ssm", config=CONFIG)
        ssm.put_parameter(Name=cloud.parameter(strategy, "halt"), Value=value, Overwrite=True)


def in_words(value: str) -> str:
    """What a value of the switch means to a run. Other values are not quoted: by mistake one may be a secret."""
    return WORDS.get(value, "halted (neither true nor false)" if value else "not known")


def as_json(switch: Switch) -> dict[str, object]:
    """The switch in JSON's types."""
    changed = switch.changed and switch.changed.astimezone(UTC).isoformat(timespec="seconds")
    return {**asdict(switch), "changed": changed}


def show(action: str, switches: Sequence[Switch]) -> None:
    """The switches, and what that does and does not do."""
    table = console.table("Strategy", "Before", "Now", "Last changed (UTC)")
    for each in switches:
        changed = f"{each.changed.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if each.changed else ""
        now = "NOT TURNED" if each.error else each.now
        table.add_row(each.strategy, each.before, now, changed, style="bold red" if each.error else "")
    console.OUT.print(table)
    names = [each.strategy for each in switches if not each.error]
    if not names:
        return
    which = names[0] if len(names) == 1 else ALL
    words = (HALTED if action == "halt" else RESUMED).format(them=", ".join(names), which=which)
    console.OUT.print(Padding(Text(f"\n{words}", style="dim"), (0, 1)))


if __name__ == "__main__":
    main()
