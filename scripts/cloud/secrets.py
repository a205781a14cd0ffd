"""`make secrets`: put each strategy's Alpaca keys into AWS as SecureStrings, and never show them.

The keys are asked for on the terminal, without echo, or taken from the environment variables ALPACAUSER and ALPACAPW.
"""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from getpass import GetPassWarning, getpass
from typing import Final

from scripts import console
from scripts.cloud.aws import CONFIG, AwsError, Cloud, DeniedError, connect, translate_errors
from scripts.console import CommandError
from trader.settings import STRATEGY_NAME, STRATEGY_NAME_IN_WORDS

VARIABLES = ("alpacauser", "alpacapw")
KEY = "alias/aws/ssm"
"""The key that AWS manages for an account's SecureStrings; it costs nothing."""

SECURE: Final = "SecureString"
ALLOWED = r"[A-Za-z0-9/+=_.-]{10,128}"
"""Alpaca's keys are letters and digits, the key id 20 or 26 of them, the secret key 40 or 44; so much leaves room."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A key id and its secret key. Their text stays out of every repr."""

    alpacauser: str = field(repr=False)
    alpacapw: str = field(repr=False)

    def problem(self) -> str:
        """What makes them unusable, without quoting them; empty if nothing does."""
        for what, value in (("key id", self.alpacauser), ("secret key", self.alpacapw)):
            if value.startswith("ssm:"):
                return f"the {what} is a reference to a parameter (ssm:...); give the key itself"
            if not re.fullmatch(ALLOWED, value):
                return f"that is no {what} of Alpaca's: 10 to 128 letters and digits without a blank are expected"
        return "the key id and the secret key are the same" if self.alpacauser == self.alpacapw else ""

    def remark(self) -> str:
        """What a person may want to know of them; empty if nothing."""
        if self.alpacauser.startswith("AK"):
            return "this key id is of a live account (AK...): with MODE=live it trades REAL MONEY"
        if not self.alpacauser.startswith("PK"):
            return "key ids of paper accounts begin with PK: is this the key id, and not the secret key?"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter as AWS has it: version 0 if there is none. `value` is None too if it may not be read."""

    name: str
    version: int = 0
    changed: datetime | None = None
    value: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """What became of one parameter; `result` is written or unchanged."""

    strategy: str
    variable: str
    parameter: str
    version: int
    changed: datetime | None
    result: str


def main() -> None:
    """Check what is there, ask for each strategy's keys, write what is new, and show names and versions."""
    arguments = console.parser("make secrets", __doc__).parse_args()
    rows: list[SecretRow] = []
    with console.plain_errors(interrupted="interrupted; what had been written is shown, and running again is safe"):
        cloud = connect()
        names = choose_strategies(os.environ)
        given = from_environment(os.environ, names)
        there = {name: parameters(cloud, name) for name in names}
        if given is None and not sys.stdin.isatty():
            raise CommandError(
                "there is no terminal to ask for the keys on; set ALPACAUSER (the key id) and ALPACAPW (the secret "
                "key) in the environment, with STRATEGY=... if there are several strategies"
            )
        users = {name: there[name]["alpacauser"].value for name in names}
        try:
            for name in names:
                others = {user: other for other, user in users.items() if user and other != name}
                keys = given or ask(name, there[name], others)
                users[name] = keys.alpacauser if keys else users[name]
                write(cloud, name, there[name], keys, rows)
        finally:  # of a run that ends half-way, what was done
            if arguments.json:
                console.print_json([as_json(row) for row in rows])
            elif rows:
                show(rows)


def choose_strategies(env: Mapping[str, str]) -> Sequence[str]:
    """STRATEGY, or all of Terraform's variable `strategies`. Raises CommandError if the name cannot be one."""
    if strategy := env.get("STRATEGY"):
        if not re.fullmatch(STRATEGY_NAME, strategy):
            raise CommandError(f"STRATEGY={strategy}: must be {STRATEGY_NAME_IN_WORDS}")
        return [strategy]
    from scripts.cloud.terraform import strategies  # with STRATEGY=... Terraform is not needed

    return strategies()


def from_environment(env: Mapping[str, str], names: Sequence[str]) -> Keys | None:
    """The keys in the environment, if they are there. Raises CommandError if they cannot be meant so."""
    values = {name: env.get(name, "").strip() for name in ("ALPACAUSER", "ALPACAPW")}
    missing = [name for name, value in values.items() if not value]
    if len(missing) == len(values):
        return None
    if missing:
        raise CommandError(f"{missing[0]} is not set, but the other one is; set both, or unset both to be asked")
    if len(names) > 1:
        raise CommandError(
            f"ALPACAUSER and ALPACAPW are set, but there are {len(names)} strategies, and no two may share an account: "
            f"say which one they are for with STRATEGY= one of {', '.join(names)}, or unset them to be asked for each"
        )
    keys = Keys(values["ALPACAUSER"], values["ALPACAPW"])
    if problem := keys.problem():
        raise CommandError(f"ALPACAUSER, ALPACAPW: {problem}")
    console.note("the keys are those of ALPACAUSER and ALPACAPW; unset them to be asked")
    if remark := keys.remark():
        console.note(f"ALPACAUSER: {remark}")
    return keys


def parameters(cloud: Cloud, strategy: str) -> dict[str, Parameter]:
    """The strategy's two parameters by variable. Raises CommandError if one is there that does not keep a secret."""
    names = {cloud.parameter(strategy, variable): variable for variable in VARIABLES}
    ssm = cloud.session.client("ssm", config=CONFIG)
    with translate_errors(f"the parameters of {strategy}"):
        described = ssm.describe_parameters(
            ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": list(names)}]
        )["Parameters"]
    for item in described:
        if item["Type"] != SECURE:
            raise CommandError(
                f"{item['Name']} is there, but as a {item['Type']}, which is no place for a secret, and AWS cannot "
                f"change that; delete it and come back: aws ssm delete-parameter --name {item['Name']}"
            )
    values = read(cloud, [item["Name"] for item in described])
    there = {
        names[item["Name"]]: Parameter(
            name=item["Name"],
            version=item["Version"],
            changed=item["LastModifiedDate"],
            value=values.get(item["Name"]),
        )
        for item in described
    }
    return {variable: there.get(variable, Parameter(name=name)) for name, variable in names.items()}


def read(cloud: Cloud, names: Sequence[str]) -> Mapping[str, str]:
    """The values by name; none if these credentials may write them only."""
    if not names:
        return {}
    try:
        with translate_errors("the keys that are there"):
            answer = cloud.session.client("ssm", config=CONFIG).get_parameters(Names=names, WithDecryption=True)
    except DeniedError:
        return {}
    return {item["Name"]: item["Value"] for item in answer["Parameters"]}


def ask(strategy: str, mine: Mapping[str, Parameter], others: Mapping[str, str]) -> Keys | None:
    """The strategy's keys from the terminal, asked for until they can be used; None to keep those that are there.

    `others` has the key ids of the other strategies, with whose they are.
    """
    can_keep = all(parameter.version for parameter in mine.values())
    while True:
        keys = prompt(strategy, mine, can_keep=can_keep)
        if keys is None and can_keep:
            return None
        problem = keys.problem() if keys else "something has to be entered: the keys are not there yet"
        if keys and keys.alpacauser in others:
            problem = f"these are the keys of {others[keys.alpacauser]}; each strategy needs an account of its own"
        if keys and not problem:
            if remark := keys.remark():
                console.note(remark)
            return keys
        console.note(f"{problem}; once more (Ctrl-C ends)")


def prompt(strategy: str, mine: Mapping[str, Parameter], *, can_keep: bool) -> Keys | None:
    """What is typed: both keys at once, or one after the other; None for nothing."""
    keep = "; Enter keeps what is there" if can_keep else ""
    words = ask_hidden(f"Alpaca key id and secret key of {strategy}, or the key id alone (not shown{keep}): ").split()
    if not words:
        return None
    if len(words) == 1:
        is_same = words[0] == mine["alpacauser"].value and mine["alpacapw"].value is not None
        entered = ask_hidden(f"Secret key of {strategy} (not shown{keep if is_same else ''}): ").split()
        words += entered or ([mine["alpacapw"].value or ""] if is_same else [""])
    return Keys(words[0], " ".join(words[1:]))


def ask_hidden(question: str) -> str:
    """A line from the terminal without echo. Raises CommandError if that is not possible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", GetPassWarning)  # getpass would go on, and show what is typed
            return getpass(question)
    except GetPassWarning:
        raise CommandError(
            "this terminal cannot hide what is typed; set ALPACAUSER and ALPACAPW in the environment"
        ) from None
    except KeyboardInterrupt:
        console.ERR.print()  # ends the line of the question
        raise
    except EOFError:
        console.ERR.print()
        raise CommandError("nothing was entered, and nothing is changed; run make secrets again") from None


def write(
    cloud: Cloud, strategy: str, there: Mapping[str, Parameter], keys: Keys | None, rows: list[SecretRow]
) -> None:
    """Write what differs, and note each in `rows`. Raises AwsError that says in which state it leaves the pair."""
    for variable in VARIABLES:
        before = after = there[variable]
        if keys is not None and (value := getattr(keys, variable)) != before.value:
            try:
                after = put(cloud, strategy, before, value)
            except AwsError as error:
                raise AwsError(f"{error}\n{state(strategy, variable, rows)}") from None
        rows.append(
            SecretRow(
                strategy=strategy,
                variable=variable.upper(),
                parameter=after.name,
                version=after.version,
                changed=after.changed,
                result="unchanged" if after is before else "written",
            )
        )


def state(strategy: str, variable: str, rows: Sequence[SecretRow]) -> str:
    """What a write that failed leaves behind, and what to do."""
    again = f"running it again is safe: make secrets STRATEGY={strategy}"
    before = [row.variable for row in rows if row.strategy == strategy and row.result == "written"]
    if before:
        return (
            f"{before[0]} of {strategy} IS written, {variable.upper()} is NOT: until it is, the two do not belong "
            f"together and Alpaca refuses them; {again}"
        )
    return f"nothing of {strategy} is changed; {again}"


def put(cloud: Cloud, strategy: str, before: Parameter, value: str) -> Parameter:
    """Write a value. Raises AwsError without the value in it."""
    ssm = cloud.session.client("ssm", config=CONFIG)
    with hide_value(before.name, value):
        if before.version:
            answer = ssm.put_parameter(Name=before.name, Value=value, Type=SECURE, KeyId=KEY, Overwrite=True)
        else:  # tags can be given to a new one only
            tags = {"project": cloud.project, "strategy": strategy}
            answer = ssm.put_parameter(
                Name=before.name,
                Value=value,
                Type=SECURE,
                KeyId=KEY,
                Description=f"Alpaca key of {cloud.function(strategy)}, written by make secrets",
                Tags=[{"Key": key, "Value": text} for key, text in tags.items()],
            )
    return replace(before, version=answer["Version"], changed=datetime.now(UTC))


@contextmanager
def hide_value(what: str, value: str) -> Iterator[None]:
    """AWS's errors in plain words, without the value that AWS or its SDK may quote."""
    try:
        with translate_errors(what):
            yield
    except AwsError as error:
        raise type(error)(str(error).replace(value, "(secret)")) from None


def as_json(row: SecretRow) -> dict[str, object]:
    """The row in JSON's types."""
    return {**asdict(row), "changed": row.changed and row.changed.astimezone(UTC).isoformat(timespec="seconds")}


def show(rows: Sequence[SecretRow]) -> None:
    """Names and versions, and what comes next."""
    headings = ("Strategy", "Variable", "Parameter", "Version", "Changed (UTC)", "Result")
    table = console.table(*headings, whole={*headings} - {"Parameter"}, padding=(0, 1, 0, 0))
    for row in rows:
        changed = f"{row.changed.astimezone(UTC):%Y-%m-%d %H:%M}" if row.changed else ""
        style = "bold" if row.result == "written" else "dim"
        table.add_row(row.strategy, row.variable, row.parameter, str(row.version), changed, row.result, style=style)
    console.OUT.print(table)
    if any(row.result == "written" for row in rows):
        console.OUT.print(
            "\n Next: make deploy. A function that is deployed takes new keys when it next starts cold, or as soon as "
            "Alpaca refuses the old ones.",
            style="dim",
        )


if __name__ == "__main__":
    main()
