"""`make rollback STRATEGY=... [VERSION=...]`: let runs use an earlier version of the function, at once.

The default VERSION is the newest one below the version in use. Only the alias is moved from which every run starts; it
is called `live` in every MODE.
"""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from scripts import console
from scripts.cloud.aws import ALIAS, CONFIG, AwsError, Cloud, UsageError, connect, translate_errors
from scripts.cloud.tables import TableRow, show_paragraphs, show_table
from scripts.console import CommandError
from scripts.report.formatting import MODES

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
    """The version that runs use, by the alias, and the alias's revision when it was read."""

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
            raise UsageError(
                f"version {target.number} of {strategy} trades real money (MODE=live), and version {live.version}, "
                "which runs use now, does not; nothing was changed. If that is what you want: "
                f"make rollback STRATEGY={strategy} VERSION={target.number} LIVE=1"
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
        raise UsageError(f"VERSION={text}: must be the number of a published version, such as 3")
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
    """Choose the version to roll back to.

    Raises UsageError if VERSION does not exist, CommandError if there is no older version.
    """
    numbers = ", ".join(str(version.number) for version in there) or "none"
    if wanted is not None:
        for version in there:
            if version.number == wanted:
                return version
        raise UsageError(f"VERSION={wanted}: no such version; the published versions are {numbers}")
    older = [version for version in there if not live.version.isdigit() or version.number < int(live.version)]
    if not older:
        raise CommandError(
            f"runs use version {live.version}, and there is no older one to go back to; published versions: {numbers}"
        )
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
    """Print the versions, which one runs used, which one they use now, and what to do next."""
    rows = []
    for version in there:
        is_now, is_before = version.number == target.number, str(version.number) == live.version
        cells = (
            str(version.number),
            f"{version.published:%Y-%m-%d %H:%M:%S}",
            version.sha256[:DIGEST_CHARACTERS],
            version.mode,
            "now" if is_now else "before" if is_before else "",
        )
        rows.append(TableRow(cells=cells, style="bold" if is_now else "" if is_before else "dim"))
    show_table(("Version", "Published (UTC)", "Code (sha256)", "Mode", "In use"), rows, numbers={"Version"})
    console.OUT.print()
    now = in_words(str(target.number), there)
    if live.version == str(target.number):
        show_paragraphs(f"Runs of {strategy} use {now} already; nothing was changed.", style="")
        return
    before = in_words(live.version, there)
    style = "bold red" if target.mode == "live" else "bold"
    show_paragraphs(f"Runs of {strategy} now use {now}; before, they used {before}.", style=style)
    words = (
        "The next run starts with it, with the layer, the memory and the variables that it was published with; a run "
        "that is under way ends on the version that it started with.\n"
        f"To return to version {live.version}: make rollback STRATEGY={strategy} VERSION={live.version}\n"
        "make deploy does not undo this: it refuses until the code has changed, or UNDO_ROLLBACK=1 is set."
    )
    show_paragraphs(words)


def in_words(number: str, there: Sequence[Version]) -> str:
    """Return a version with its mode in words: `version 3 (MODE=paper: paper money)`."""
    modes = [version.mode for version in there if str(version.number) == number and version.mode]
    return f"version {number}" + "".join(f" (MODE={mode}: {MODES.get(mode, mode)})" for mode in modes)
