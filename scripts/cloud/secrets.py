"""`make secrets`: store each strategy's Alpaca keys and addresses of messages in AWS as SecureStrings.

It asks for them on the terminal, or reads the environment variables ALPACAUSER, ALPACAPW and MESSAGE_URL; the secret
key and the addresses are never shown. Before it stores a
pair, it asks Alpaca once which account it belongs to; CHECK=0 leaves that out. Keys of an account that another strategy
uses are refused: their parameters name the account, and the journal names the strategy that trades it.
"""

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from getpass import GetPassWarning, getpass
from itertools import batched
from typing import Final
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from scripts import console
from scripts.cloud import alpaca_account, message_addresses
from scripts.cloud.alpaca_account import LIVE_KEY, PAPER_KEY, Keys, KeysRefusedError
from scripts.cloud.aws import CONFIG, AwsError, Cloud, DeniedError, UsageError, connect, translate_errors
from scripts.cloud.tables import TableRow, show_table
from scripts.console import CommandError
from trader.journal.accounts import name_entry
from trader.logs import one_line
from trader.settings import STRATEGY_NAME, STRATEGY_NAME_IN_WORDS

VARIABLES = ("alpacauser", "alpacapw")
KEY = "alias/aws/ssm"
"""The key that AWS manages for an account's SecureStrings; it costs nothing."""

ACCOUNT = re.compile(r", account ([A-Za-z0-9-]+), ")
"""How the description of a parameter names the account that its key is for."""

SECURE: Final = "SecureString"
ALLOWED = r"[A-Za-z0-9/+=_.-]{10,128}"
"""Alpaca's keys are 20 to 44 letters and digits (key id 20 or 26, secret key 40 or 44); this pattern leaves room."""


def find_problem(keys: Keys) -> str:
    """Return why keys are unusable, without quoting them; empty if they are usable."""
    for what, value in (("key id", keys.alpacauser), ("secret key", keys.alpacapw)):
        if value.startswith("ssm:"):
            return f"the {what} is a reference to a parameter (ssm:...); give the key itself"
        if not re.fullmatch(ALLOWED, value):
            return f"this is not an Alpaca {what}: it must be 10 to 128 characters (letters, digits, /+=_.-)"
    return "the key id and the secret key are the same" if keys.alpacauser == keys.alpacapw else ""


def remark_on(keys: Keys) -> str:
    """Return a remark on keys for the user; empty if there is none."""
    if keys.alpacauser.startswith(LIVE_KEY):
        return f"this key id belongs to a live account ({LIVE_KEY}...): with MODE=live it trades REAL MONEY"
    if not keys.alpacauser.startswith(PAPER_KEY):
        return f"key ids of paper accounts begin with {PAPER_KEY}: is this really the key id, and not the secret key?"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the other strategies use: the strategy of each key id, and of each account, as far as they can be read."""

    users: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)


class AccountTakenError(CommandError):
    """The keys are of an account that another strategy uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter in AWS: `version` is 0 if it does not exist, `value` None if it does not exist or may not be read."""

    name: str
    version: int = 0
    changed: datetime | None = None
    value: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """The outcome for one parameter; `result` is written, unchanged or deleted."""

    strategy: str
    variable: str
    parameter: str
    version: int
    changed: datetime | None
    result: str


def main() -> None:
    """Check the parameters, ask for what each strategy needs, write what is new, and show names and versions."""
    rows: list[SecretRow] = []
    with console.plain_errors(
        interrupted="interrupted; the parameters written so far are shown; run make secrets again"
    ):
        cloud = connect()
        names = choose_strategies(os.environ)
        given = from_environment(os.environ, names)
        addresses = message_addresses.read_environment(os.environ)
        there = {name: parameters(cloud, name) for name in names}
        is_asking = given is None and sys.stdin.isatty()
        if given is None and not is_asking and not (addresses and all(map(has_keys, there.values()))):
            raise CommandError(
                "there is no terminal to ask for the keys on; set ALPACAUSER (the key id) and ALPACAPW (the secret "
                "key) in the environment, with STRATEGY=... if there are several strategies"
            )
        known = read_known(cloud)
        try:
            for name in names:
                if given and (problem := find_other_owner(cloud, given, name, known)):
                    raise CommandError(f"ALPACAUSER: {problem}")
                keys, account = given, ""
                if given:
                    account = check(cloud, name, given, known)
                elif is_asking:
                    keys, account = ask(cloud, name, there[name], known)
                if keys:
                    known.users[keys.alpacauser] = name
                    known.accounts.update({account: name} if account else {})
                write(cloud, name, there[name], keys, rows, account)
                place = there[name][message_addresses.VARIABLE]
                wanted = ask_addresses(name, place) if is_asking and addresses is None else addresses
                write_addresses(cloud, name, place, wanted, rows)
        finally:  # show what was done even after an error or interruption
            if console.wants_json():
                console.print_json(rows)
            elif rows:
                show(rows)


def choose_strategies(env: Mapping[str, str]) -> Sequence[str]:
    """Return STRATEGY or, without it, all of Terraform's `strategies`. Raises UsageError if the name is invalid."""
    if strategy := env.get("STRATEGY"):
        if not re.fullmatch(STRATEGY_NAME, strategy):
            raise UsageError(f"STRATEGY={strategy}: must be {STRATEGY_NAME_IN_WORDS}")
        return [strategy]
    from scripts.cloud.terraform import strategies  # not at the top: STRATEGY=... works without Terraform

    return strategies()


def from_environment(env: Mapping[str, str], names: Sequence[str]) -> Keys | None:
    """Read the keys from the environment; None if they are not set. Raises UsageError if they cannot be used."""
    values = {name: env.get(name, "").strip() for name in ("ALPACAUSER", "ALPACAPW")}
    missing = [name for name, value in values.items() if not value]
    if len(missing) == len(values):
        return None
    if missing:
        raise UsageError(f"{missing[0]} is not set, but the other one is; set both, or unset both to be asked")
    if len(names) > 1:
        raise UsageError(
            f"ALPACAUSER and ALPACAPW are set, but there are {len(names)} strategies, and no two may share an account: "
            f"set STRATEGY to the one they are for ({', '.join(names)}), or unset them to be asked for each"
        )
    keys = Keys(values["ALPACAUSER"], values["ALPACAPW"])
    if problem := find_problem(keys):
        raise UsageError(f"ALPACAUSER, ALPACAPW: {problem}")
    console.note("using the keys in ALPACAUSER and ALPACAPW; unset them to be asked instead")
    if remark := remark_on(keys):
        console.note(f"ALPACAUSER: {remark}")
    return keys


def parameters(cloud: Cloud, strategy: str) -> dict[str, Parameter]:
    """Return the strategy's parameters by variable. Raises CommandError if one exists but is not secret."""
    names = {cloud.parameter(strategy, variable): variable for variable in (*VARIABLES, message_addresses.VARIABLE)}
    ssm = cloud.session.client("ssm", config=CONFIG)
    with translate_errors(f"the parameters of {strategy}"):
        described = ssm.describe_parameters(
            ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": list(names)}]
        )["Parameters"]
    for item in described:
        if item["Type"] != SECURE:
            raise CommandError(
                f"{item['Name']} exists, but as a {item['Type']}, which is not secret, and AWS cannot change its type; "
                f"delete it and run this again: aws ssm delete-parameter --name {item['Name']}"
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
    """Return the values by name; empty if these credentials may only write them."""
    if not names:
        return {}
    try:
        with translate_errors("the existing keys"):
            answer = cloud.session.client("ssm", config=CONFIG).get_parameters(Names=names, WithDecryption=True)
    except DeniedError:
        return {}
    return {item["Name"]: item["Value"] for item in answer["Parameters"]}


def read_known(cloud: Cloud) -> Known:
    """Return what is stored for the strategies, deployed or not, as far as these credentials may read it."""
    prefix, suffix = f"/{cloud.project}/", "/alpacauser"
    described: dict[str, str] = {}
    try:
        with translate_errors("the stored keys"):
            pages = cloud.session.client("ssm", config=CONFIG).get_paginator("describe_parameters")
            found = pages.paginate(ParameterFilters=[{"Key": "Name", "Option": "BeginsWith", "Values": [prefix]}])
            items = [item for page in found for item in page["Parameters"] if item["Name"].endswith(suffix)]
        described = {item["Name"]: item.get("Description", "") for item in items}
        values = {
            name: value for some in batched(described, 10, strict=False) for name, value in read(cloud, some).items()
        }
        is_complete = len(values) == len(described)
    except DeniedError:
        values, is_complete = {}, False
    if not is_complete:
        console.note("not compared with the keys of other strategies, which these credentials may not read")
    strategies = {name: name.removeprefix(prefix).removesuffix(suffix) for name in described}
    return Known(
        users={value: strategies[name] for name, value in values.items()},
        accounts={
            named[1]: strategies[name]
            for name, words in described.items()
            if (named := ACCOUNT.search(words)) is not None
        },
    )


def find_other_owner(cloud: Cloud, keys: Keys, strategy: str, known: Known) -> str:
    """Return why keys are refused: each strategy would sell what the other buys; empty if no other one has them."""
    owner = known.users.get(keys.alpacauser, strategy)
    return "" if owner == strategy else f"this key id is already {_say_stored(cloud, owner, strategy)}"


def _say_stored(cloud: Cloud, owner: str, strategy: str) -> str:
    stored = " ".join(cloud.parameter(owner, variable) for variable in VARIABLES)
    return (
        f"stored for {owner}, and two strategies must not share an account; give {strategy} the "
        f"keys of another account. If {owner} is not used any more: aws ssm delete-parameters --names {stored}"
    )


def check(cloud: Cloud, strategy: str, keys: Keys, known: Known) -> str:
    """Ask Alpaca about the keys, say what was found, and return the account's number; '' with CHECK=0.

    Raises KeysRefusedError if Alpaca refuses them, AccountTakenError if their account is another strategy's, and
    CommandError if Alpaca cannot be asked.
    """
    if not console.flag("CHECK", default=True):
        console.note(f"the keys of {strategy} are stored without asking Alpaca, because of CHECK={os.environ['CHECK']}")
        return ""
    deployed = cloud.environment(strategy)
    mode = deployed.get("MODE", "")
    url = alpaca_account.choose_url(keys, mode, deployed | os.environ)
    with console.ERR.status("asking Alpaca about these keys"):
        account = alpaca_account.look_up(keys, url)
    refuse_taken(cloud, strategy, account, known, deployed.get("JOURNAL", ""))
    console.note(f"{strategy}: {account}; no other strategy is known to use it")
    if mismatch := alpaca_account.explain_mismatch(strategy, keys, mode):
        console.note(mismatch)
    return account.number


def refuse_taken(cloud: Cloud, strategy: str, account: alpaca_account.Account, known: Known, location: str) -> None:
    """Raise AccountTakenError if another strategy's parameters or the journal at `location` name the account."""
    owner = known.accounts.get(account.number, strategy)
    if owner != strategy:
        raise AccountTakenError(
            f"these keys are of {account}, whose keys are already {_say_stored(cloud, owner, strategy)}"
        )
    journal = location if location.startswith("s3://") else f"s3://{cloud.artifact_bucket}"
    owner = read_trader(cloud, account.number, journal) or strategy
    if owner != strategy:
        place = f"{journal.rstrip('/')}/{name_entry(account.number)}"
        raise AccountTakenError(
            f"these keys are of {account}, which {owner} trades, as {place} says, and two strategies must not share an "
            f"account; give {strategy} the keys of another account. To hand it over: aws s3 rm {place}"
        )


def read_trader(cloud: Cloud, number: str, journal: str) -> str:
    """Return the strategy that trades an account, as a journal says; empty if none does, or nobody may ask."""
    parts = urlsplit(journal)
    key = "/".join(filter(None, (parts.path.strip("/"), name_entry(number))))
    try:
        text = cloud.session.client("s3", config=CONFIG).get_object(Bucket=parts.netloc, Key=key)["Body"].read()
    except (BotoCoreError, ClientError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
        if code not in {"NoSuchKey", "NoSuchBucket"}:
            console.note(f"not compared with the journal in {journal}: {one_line(error, 200)}")
        return ""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(text)["strategy"])
    return "a strategy that cannot be read"


def ask(cloud: Cloud, strategy: str, mine: Mapping[str, Parameter], known: Known) -> tuple[Keys | None, str]:
    """Ask for the strategy's keys on the terminal until Alpaca accepts them; return them and their account's number.

    The keys are None to keep the existing ones.
    """
    can_keep = has_keys(mine)
    console.ERR.print(f"Alpaca keys of {strategy}{', or Enter to keep the current ones' if can_keep else ''}")
    while True:
        keys = prompt(mine, can_keep=can_keep)
        if keys is None and can_keep:
            return None, ""
        problem = find_problem(keys) if keys else "a key id is required: none is stored yet"
        if keys and not problem:
            problem = find_other_owner(cloud, keys, strategy, known)
        if keys and not problem:
            if remark := remark_on(keys):
                console.note(remark)
            try:
                return keys, check(cloud, strategy, keys, known)
            except (KeysRefusedError, AccountTakenError) as error:
                problem = str(error)
        console.note(f"{problem}; try again (Ctrl-C to stop)")


def has_keys(mine: Mapping[str, Parameter]) -> bool:
    """Return whether both keys are stored."""
    return all(mine[variable].version for variable in VARIABLES)


def ask_addresses(strategy: str, mine: Parameter) -> str | None:
    """Ask for the strategy's addresses of messages until Apprise knows each; None for none or to keep the stored ones.

    `none` is the answer that deletes the stored ones.
    """
    kept = f" ({message_addresses.name_kinds(mine.value)})" if mine.value else ""
    choice = f"Enter keeps the current ones{kept}, none deletes them" if mine.version else "Enter for none"
    console.ERR.print(f"Addresses of messages of {strategy}, such as ntfy://ntfy.sh/topic, separated by blanks")
    while True:
        text = message_addresses.tidy(ask_hidden(f"Addresses (not shown; {choice}): "))
        problem = "" if text in ("", message_addresses.NONE) else message_addresses.find_problem(text)
        if not problem:
            return text or None
        console.note(f"{problem}; try again (Ctrl-C to stop)")


def prompt(mine: Mapping[str, Parameter], *, can_keep: bool) -> Keys | None:
    """Read the key id and then the secret key; return None if no key id is entered."""
    key_id = ask_shown("Key id: ")
    if not key_id:
        return None
    stored = mine["alpacapw"].value if key_id == mine["alpacauser"].value else None
    keep = "; Enter keeps the current one" if stored and can_keep else ""
    return Keys(key_id, ask_hidden(f"Secret key (not shown{keep}): ").strip() or stored or "")


def ask_shown(question: str) -> str:
    """Read a line from the terminal. Raises CommandError at the end of the input."""
    console.ERR.print(question, end="")
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        console.ERR.print()  # ends the line of the question
        raise
    if not line:
        console.ERR.print()
        raise CommandError("nothing was entered, so what is stored is unchanged; run make secrets again")
    return line.strip()


def ask_hidden(question: str) -> str:
    """Read a line from the terminal without showing it. Raises CommandError if that is not possible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", GetPassWarning)  # otherwise getpass would echo the input
            return getpass(question)
    except GetPassWarning:
        raise CommandError(
            "this terminal cannot hide what is typed; set ALPACAUSER, ALPACAPW and MESSAGE_URL in the environment"
        ) from None
    except KeyboardInterrupt:
        console.ERR.print()  # ends the line of the question
        raise
    except EOFError:
        console.ERR.print()
        raise CommandError("nothing was entered, so what is stored is unchanged; run make secrets again") from None


def write(
    cloud: Cloud,
    strategy: str,
    there: Mapping[str, Parameter],
    keys: Keys | None,
    rows: list[SecretRow],
    account: str = "",
) -> None:
    """Write the keys that differ, with their account's number, and add each outcome to `rows`.

    Raises an AwsError that says what was written.
    """
    for variable in VARIABLES:
        before = after = there[variable]
        if keys is not None and (value := getattr(keys, variable)) != before.value:
            try:
                of_account = f"account {account}, " if account else ""
                after = put(cloud, strategy, before, value, f"Alpaca key of {cloud.function(strategy)}, {of_account}")
            except AwsError as error:
                raise AwsError(f"{error}\n{state(strategy, variable, rows)}") from None
        rows.append(report_on(strategy, variable, after, "unchanged" if after is before else "written"))


def write_addresses(cloud: Cloud, strategy: str, before: Parameter, wanted: str | None, rows: list[SecretRow]) -> None:
    """Write addresses of messages that differ, delete them if `none` are wanted, and add the outcome to `rows`.

    Raises an AwsError that says what is stored.
    """
    after, result = before, "unchanged"
    try:
        if wanted == message_addresses.NONE and before.version:
            with translate_errors(before.name):
                cloud.session.client("ssm", config=CONFIG).delete_parameter(Name=before.name)
            after, result = replace(before, version=0, changed=None), "deleted"
        elif wanted not in (None, message_addresses.NONE, before.value):
            about = f"Addresses of messages of {cloud.function(strategy)}, "
            after, result = put(cloud, strategy, before, wanted, about), "written"
            console.note(f"{strategy}: messages go by {message_addresses.name_kinds(wanted)}")
    except AwsError as error:
        raise AwsError(
            f"{error}\nthe addresses of messages of {strategy} are unchanged, and its keys are as shown; it is safe to "
            f"run it again: make secrets STRATEGY={strategy}"
        ) from None
    if after.version or result == "deleted":
        rows.append(report_on(strategy, message_addresses.VARIABLE, after, result))


def report_on(strategy: str, variable: str, after: Parameter, result: str) -> SecretRow:
    """Return the row for a parameter as it is now."""
    return SecretRow(
        strategy=strategy,
        variable=variable.upper(),
        parameter=after.name,
        version=after.version,
        changed=after.changed,
        result=result,
    )


def state(strategy: str, variable: str, rows: Sequence[SecretRow]) -> str:
    """Say how a failed write leaves the two keys, and what to do."""
    again = f"it is safe to run it again: make secrets STRATEGY={strategy}"
    before = [row.variable for row in rows if row.strategy == strategy and row.result == "written"]
    if before:
        return (
            f"{before[0]} of {strategy} WAS written, but {variable.upper()} was NOT: until it is, the two keys do not "
            f"match and Alpaca refuses them; {again}"
        )
    return f"the keys of {strategy} are unchanged; {again}"


def put(cloud: Cloud, strategy: str, before: Parameter, value: str, about: str) -> Parameter:
    """Write a value, and in the description what it is. Raises an AwsError that does not contain the value."""
    ssm = cloud.session.client("ssm", config=CONFIG)
    words = f"{about}written by make secrets"
    with hide_value(before.name, value):
        if before.version:
            answer = ssm.put_parameter(
                Name=before.name, Value=value, Type=SECURE, KeyId=KEY, Description=words, Overwrite=True
            )
        else:  # AWS accepts tags only for a new parameter
            tags = {"project": cloud.project, "strategy": strategy}
            answer = ssm.put_parameter(
                Name=before.name,
                Value=value,
                Type=SECURE,
                KeyId=KEY,
                Description=words,
                Tags=[{"Key": key, "Value": text} for key, text in tags.items()],
            )
    return replace(before, version=answer["Version"], changed=datetime.now(UTC))


@contextmanager
def hide_value(what: str, value: str) -> Iterator[None]:
    """Raise AWS's errors in plain words, without the value that AWS or its SDK may quote."""
    try:
        with translate_errors(what):
            yield
    except AwsError as error:
        raise type(error)(str(error).replace(value, "(secret)")) from None


def show(rows: Sequence[SecretRow]) -> None:
    """Print names and versions, and what to do next."""
    headings = ("Strategy", "Variable", "Result", "Version", "Changed (UTC)", "Parameter")
    table = [
        TableRow(
            cells=(
                row.strategy,
                row.variable,
                row.result,
                str(row.version or ""),
                f"{row.changed.astimezone(UTC):%Y-%m-%d %H:%M}" if row.changed else "",
                row.parameter,
            ),
            style="dim" if row.result == "unchanged" else "bold",
        )
        for row in rows
    ]
    show_table(headings, table, numbers={"Version"})
    if any(row.result == "written" for row in rows):
        console.OUT.print(
            "\n Next: make deploy. A deployed function uses new values from its next cold start, and new keys as soon "
            "as Alpaca refuses the old ones.",
            style="dim",
        )
