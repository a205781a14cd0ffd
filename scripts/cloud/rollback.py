"""`make rollback STRATEGY=... [VERSION=...]`: let an earlier version of the function trade, at once.

Without VERSION it is the newest one below the version that is live. Only the alias `live` is moved.
"""

import base64
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    """A published version. `sha256` is of its code's zip, in hexadecimal; `mode` is its MODE: paper, live, dry-run."""

    number: int
    published: datetime
    sha256: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Where the alias points, and the revision that it was seen at."""

    version: str
    revision: str


def main() -> None:
    """Move the alias, and show the versions, what was live and what is now."""
    parser = console.parser("make rollback", __doc__)
    parser.add_argument("--version", default=os.environ.get("VERSION"), metavar="N", help="the version to go back to")
    arguments = parser.parse_args()
    with console.plain_errors(interrupted="interrupted; to see which version is live, run it again with VERSION=..."):
        wanted = number(arguments.version)
        cloud = connect()
        strategy = cloud.chosen(os.environ.get("STRATEGY"))
        there = versions(cloud, strategy)
        live = alias(cloud, strategy)
        target = choose_version(there, live, wanted)
        modes = {str(version.number): version.mode for version in there}
        if target.mode == "live" and modes.get(live.version) != "live" and not console.flag("LIVE"):
            raise CommandError(
                f"version {target.number} has MODE=live and would trade real money, which version {live.version} does "
                f"not; if you mean it: make rollback STRATEGY={strategy} VERSION={target.number} LIVE=1"
            )
        if live.version != str(target.number):
            move(cloud, strategy, live, target)
        if arguments.json:
            result = {
                "strategy": strategy,
                "before": live.version,
                "now": str(target.number),
                "versions": [
                    {**asdict(each), "published": each.published.isoformat(timespec="seconds")} for each in there
                ],
            }
            console.print_json(result)
        else:
            show(strategy, there, live, target)


def number(text: str | None) -> int | None:
    """VERSION as a number; None if it is not given."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not int(text):
        raise CommandError(f"VERSION={text}: must be the number of a published version, such as 3")
    return int(text)


def versions(cloud: Cloud, strategy: str) -> Sequence[Version]:
    """The function's published versions, the newest first."""
    with translate_errors(f"the versions of {cloud.function(strategy)}"):
        pages = cloud.session.client("lambda", config=CONFIG).get_paginator("list_versions_by_function")
        found = [
            item
            for page in pages.paginate(FunctionName=cloud.function(strategy))
            for item in page["Versions"]
            if item["Version"].isdigit()  # and not $LATEST
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
    """Where the alias points now."""
    with translate_errors(f"the alias {ALIAS} of {cloud.function(strategy)}"):
        answer = cloud.session.client("lambda", config=CONFIG).get_alias(
            FunctionName=cloud.function(strategy), Name=ALIAS
        )
    return Live(version=answer["FunctionVersion"], revision=answer["RevisionId"])


def choose_version(there: Sequence[Version], live: Live, wanted: int | None) -> Version:
    """The version to go to. Raises CommandError if there is none such."""
    numbers = ", ".join(str(version.number) for version in there) or "none"
    if wanted is not None:
        for version in there:
            if version.number == wanted:
                return version
        raise CommandError(f"VERSION={wanted}: there is no such version; there is {numbers}")
    older = [version for version in there if not live.version.isdigit() or version.number < int(live.version)]
    if not older:
        raise CommandError(f"version {live.version} is live and nothing older is left; there is {numbers}")
    return older[0]


def move(cloud: Cloud, strategy: str, live: Live, target: Version) -> None:
    """Point the alias at the version, unless somebody has moved it since it was looked at."""
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
                f"somebody else, perhaps make deploy, has changed the alias {ALIAS} of {function} at the same moment; "
                "nothing is moved: look again with make rollback"
            ) from error


def show(strategy: str, there: Sequence[Version], live: Live, target: Version) -> None:
    """The versions, what was live and what is, and what comes next."""
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
        console.OUT.print(f" Version {target.number} of {strategy} is live already; nothing is changed.")
        return
    console.OUT.print(f" {strategy}: version {live.version} was live, version {target.number} is now.", style="bold")
    if target.mode == "live":
        console.OUT.print(f" Version {target.number} has MODE=live: it trades REAL MONEY.", style="bold red")
    words = (
        "The next run uses it, with the layer, the memory and the variables that it was published with; a run that is "
        "under way ends on the version that it began with.\n"
        f"To have version {live.version} back: make rollback STRATEGY={strategy} VERSION={live.version}\n"
        "make deploy does not undo this: it refuses until the code has changed, or UNDO_ROLLBACK=1 is set."
    )
    console.OUT.print(Padding(Text(words, style="dim"), (0, 1)))


if __name__ == "__main__":
    main()
