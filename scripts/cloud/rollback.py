"""`make rollback STRATEGY=... [VERSION=...]`: make an earlier version of the function live at once.

The default VERSION is the newest one below the live version. Only the alias `live` is moved.
"""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from botocore.exceptions import ClientError
from rich.padding import Padding
from rich.text import Text

from scripts import console
from scripts.cloud.aws import ALIAS, CONFIG, AwsError, Cloud, connect, translate_errors
from scripts.console import CommandError

DIGEST_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A published version: the SHA-256 of its code's zip, in hexadecimal, and its MODE: paper, live or dry-run."""

    number: int
    published: datetime
    sha256: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The version that the alias points to, and the alias's revision when it was read."""

    version: str
    revision: str


def main() -> None:
    """Move the alias, and show the versions: which one was live, and which one is now."""
    with console.plain_errors(
        interrupted="interrupted; the alias may have moved: run it again with VERSION=... to be sure"
    ):
        wanted = number(os.environ.get("VERSION"))
        cloud = connect()
        strategy = cloud.choose_strategy(os.environ.get("STRATEGY"))
        there = versions(cloud, strategy)
        live = alias(cloud, strategy)
        target = choose_version(there, live, wanted)
        modes = {str(version.number): version.mode for version in there}
        if target.mode == "live" and modes.get(live.version) != "live" and not console.flag("LIVE"):
            raise CommandError(
                f"version {target.number} has MODE=live and would trade real money, but version {live.version} does "
                f"not; to confirm: make rollback STRATEGY={strategy} VERSION={target.number} LIVE=1"
            )
        if live.version != str(target.number):
            move(cloud, strategy, live, target)
        if console.wants_json():
            now = str(target.number)
            console.print_json({"strategy": strategy, "before": live.version, "now": now, "versions": there})
        else:
            show(strategy, there, live, target)


def number(text: str | None) -> int | None:
    """Parse VERSION; return None if it is not given."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise CommandError(f"VERSION={text}: must be the number of a published version, such as 3")
    return int(text)


def versions(cloud: Cloud, strategy: str) -> Sequence[Version]:
    """Return the function's published versions, the newest first."""
    with translate_errors(f"the versions of {cloud.function(strategy)}"):
        pages = cloud.session.client("lambda", config=CONFIG).get_paginator("list_versions_by_function")
        found = [
            item
            for page in pages.paginate(FunctionName=cloud.function(strategy))
            for item in page["Versions"]
            if item["Version"].isdigit()  # leaves out $LATEST
        ]
    published = [
        Version(
            number=int(item["Version"]),
            published=datetime.fromisoformat(item["LastModified"]).astimezone(UTC),
            sha256=base64.b64decode(item["CodeSha256"]).hex(),
            mode=item.get("Environment", {}).get("Variables", {}).get("MODE", ""),
        )
        for item in found
    ]
    return sorted(published, key=lambda version: -version.number)


def alias(cloud: Cloud, strategy: str) -> Live:
    """Return the version that the alias points to now."""
    with translate_errors(f"the alias {ALIAS} of {cloud.function(strategy)}"):
        answer = cloud.session.client("lambda", config=CONFIG).get_alias(
            FunctionName=cloud.function(strategy), Name=ALIAS
        )
    return Live(version=answer["FunctionVersion"], revision=answer["RevisionId"])


def choose_version(there: Sequence[Version], live: Live, wanted: int | None) -> Version:
    """Choose the version to roll back to. Raises CommandError if it does not exist."""
    numbers = ", ".join(str(version.number) for version in there) or "none"
    if wanted is not None:
        for version in there:
            if version.number == wanted:
                return version
        raise CommandError(f"VERSION={wanted}: no such version; the published versions are {numbers}")
    older = [version for version in there if not live.version.isdigit() or version.number < int(live.version)]
    if not older:
        raise CommandError(f"version {live.version} is live and no older one is left; published versions: {numbers}")
    return older[0]


def move(cloud: Cloud, strategy: str, live: Live, target: Version) -> None:
    """Point the alias at the version, unless the alias has changed since it was read."""
    function = cloud.function(strategy)
    with translate_errors(f"the alias {ALIAS} of {function}"):
        try:
            cloud.session.client("lambda", config=CONFIG).update_alias(
                FunctionName=function, Name=ALIAS, FunctionVersion=str(target.number), RevisionId=live.revision
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailedException":
                raise
            raise AwsError(
                f"the alias {ALIAS} of {function} was changed at the same time, perhaps by make deploy; nothing was "
                "moved: run make rollback again"
            ) from error


def show(strategy: str, there: Sequence[Version], live: Live, target: Version) -> None:
    """Print the versions, which one was live, which one is now, and what to do next."""
    table = console.table("Version", "Published (UTC)", "Code (sha256)", "Mode", "", numbers=["Version"])
    for version in there:
        is_live, was_live = version.number == target.number, str(version.number) == live.version
        table.add_row(
            str(version.number),
            f"{version.published:%Y-%m-%d %H:%M:%S}",
            version.sha256[:DIGEST_CHARACTERS],
            version.mode,
            "live" if is_live else "was live" if was_live else "",
            style="bold" if is_live else "" if was_live else "dim",
        )
    console.OUT.print(table)
    console.OUT.print()
    if live.version == str(target.number):
        console.OUT.print(f" Version {target.number} of {strategy} is already live; nothing was changed.")
        return
    console.OUT.print(f" {strategy}: version {live.version} was live; now version {target.number} is.", style="bold")
    if target.mode == "live":
        console.OUT.print(f" Version {target.number} has MODE=live: it trades REAL MONEY.", style="bold red")
    words = (
        "The next run uses it, with the layer, the memory and the variables that it was published with; a run that is "
        "under way ends on the version that it started with.\n"
        f"To return to version {live.version}: make rollback STRATEGY={strategy} VERSION={live.version}\n"
        "make deploy does not undo this: it refuses until the code has changed, or UNDO_ROLLBACK=1 is set."
    )
    console.OUT.print(Padding(Text(words, style="dim"), (0, 1)))


if __name__ == "__main__":
    main()
