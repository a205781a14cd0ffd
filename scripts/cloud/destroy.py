"""`make destroy`: delete everything that make deploy and make secrets have created, including the journal.

It asks for the project's name first; without a terminal, set CONFIRM=name in the environment.
KEEP_JOURNAL=folder copies the journal there before it is deleted.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from scripts import console
from scripts.cloud.aws import CONFIG, AwsError, Cloud, DeniedError, MissingError, connect, translate_errors
from scripts.cloud.terraform import Terraform, has_bucket
from scripts.console import CommandError, format_count
from trader.logs import one_line
from trader.progress import Progress

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

JOURNAL = ("runs/", "universe/", "equity/", "digests/", "accounts/")
KEYS = ("alpacauser", "alpacapw", "message_url")

_NAME = r"/[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
JOURNAL_KEY = re.compile(rf"(runs|universe|equity|digests)({_NAME}){{2,3}}|accounts{_NAME}", re.ASCII)
"""The keys of the journal that may become files here. A function's role can write keys with any other name as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Existing resources that would be destroyed."""

    resources: int  # in Terraform's state
    bucket: str | None
    strategies: Sequence[str]
    records: int  # of runs, in the journal
    keys: Sequence[str]  # names of the parameters that make secrets has written

    @property
    def anything(self) -> bool:
        """True if anything exists."""
        return bool(self.resources or self.bucket or self.keys)


def main() -> None:
    """Find what exists, show it, ask, and destroy it: the bucket, Terraform's resources, the keys and the logs."""
    with (
        console.plain_errors(
            interrupted="interrupted; some resources may be deleted, and make destroy deletes the rest"
        ),
        TemporaryDirectory() as name,
    ):
        folder = Path(name)
        root = Terraform(connect(), variables_set=stand_ins(folder))
        root.init()
        found = look(root)
        if found.anything:
            show(root.cloud, found)
            confirm(root.cloud)
            take_down(root, found, folder / "plan")
        if console.wants_json():
            console.print_json(as_json(root.cloud, found))
        else:
            tell(root, found)


def stand_ins(folder: Path) -> dict[str, str]:
    """Write an empty zip and return variables that name it: Terraform needs zips to plan, even if it only destroys."""
    zip_file = folder / "stand-in.zip"
    zip_file.write_bytes(b"")
    paper = {"sha256": hashlib.sha256(b"").hexdigest(), "unpacked_bytes": 0}
    zip_file.with_suffix(".json").write_text(json.dumps(paper))
    return {"layer_zip": str(zip_file), "function_zip": str(zip_file)}


def look(root: Terraform) -> Found:
    """Find what exists. Raises CommandError if the project is deployed but Terraform's state is elsewhere."""
    cloud = root.cloud
    managed = [resource for resource in root.state() if resource["mode"] == "managed"]
    named = [
        instance["attributes"]["bucket"]
        for resource in managed
        if resource["type"] == "aws_s3_bucket"
        for instance in resource["instances"]
    ]
    bucket = next(iter(named), cloud.artifact_bucket)
    is_there = ours(cloud, bucket)
    keys = keys_of(cloud)
    if (is_there or cloud.strategies) and not managed:
        raise CommandError(
            f"{cloud.project} is deployed in account {cloud.account}, region {cloud.region}, but Terraform's state is "
            "not here: it was deployed from another folder or computer. Run make destroy there; or run make bootstrap "
            "and make plan there, which move the state into a bucket that this folder can use too"
        )
    names = {name.split("/")[2] for name in keys} | set(cloud.strategies)
    return Found(
        resources=sum(len(resource["instances"]) for resource in managed),
        bucket=bucket if is_there else None,
        strategies=sorted(names),
        records=sum(name.endswith(".json") for name, _ in objects(cloud, bucket, "runs/")) if is_there else 0,
        keys=keys,
    )


def ours(cloud: Cloud, bucket: str) -> bool:
    """Check whether the bucket exists and belongs to this account."""
    try:
        return has_bucket(cloud, bucket)
    except DeniedError:
        return False


def keys_of(cloud: Cloud) -> Sequence[str]:
    """Return the parameters that make secrets has written for any strategy, deployed or not."""
    prefix = f"/{cloud.project}/"
    with translate_errors("the keys in SSM"):
        pages = cloud.session.client("ssm", config=CONFIG).get_paginator("describe_parameters")
        found = pages.paginate(ParameterFilters=[{"Key": "Name", "Option": "BeginsWith", "Values": [prefix]}])
        names = [item["Name"] for page in found for item in page["Parameters"]]
    return sorted(name for name in names if name.count("/") == 3 and name.rsplit("/")[-1] in KEYS)


def objects(cloud: Cloud, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield the name and the size in bytes of each object below a prefix."""
    with translate_errors(f"the bucket {bucket}"):
        pages = cloud.session.client("s3", config=CONFIG).get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                yield item["Key"], item["Size"]


def show(cloud: Cloud, found: Found) -> None:
    """Print what would be lost."""
    rows = {
        "strategies": ", ".join(found.strategies) or "none",
        "Terraform resources": f"{found.resources}",
        f"bucket {found.bucket}" if found.bucket else "bucket": (
            f"{format_count(found.records, 'record')} of runs, and everything else in it" if found.bucket else "none"
        ),
        "keys in SSM": ", ".join(found.keys) or "none",
    }
    say = console.ERR.print
    where = f"account {cloud.account}, region {cloud.region}"
    say(f"This will be permanently destroyed in {where}:", style="bold red", markup=False)
    for what, there in rows.items():
        say(f"  {what}: {there}", markup=False, soft_wrap=True)
    say("Positions and open orders at Alpaca stay, and nothing manages them any more.", style="bold", markup=False)


def confirm(cloud: Cloud) -> None:
    """Ask the user to type the project's name. Raises CommandError if the answer differs or there is no terminal."""
    answer = os.environ.get("CONFIRM")
    if answer is None:
        if not sys.stdin.isatty():
            raise CommandError(f"nothing was destroyed: there is no terminal to ask on; set CONFIRM={cloud.project}")
        console.ERR.print(f"Type {cloud.project} to destroy it: ", end="", markup=False)
        answer = sys.stdin.readline().strip()
    if answer != cloud.project:
        raise CommandError(
            f"nothing was destroyed: {answer!r} is not {cloud.project}; type the project's name, or set "
            f"CONFIRM={cloud.project}"
        )


def take_down(root: Terraform, found: Found, plan: Path) -> None:
    """Destroy everything, in an order that lets make destroy continue after an error or interruption."""
    cloud = root.cloud
    with console.progress() as progress:
        if found.bucket and (folder := os.environ.get("KEEP_JOURNAL")):
            download(cloud, found.bucket, Path(folder), progress)
    if found.resources:  # a lock or a missing permission stops it here, before anything is deleted
        root.plan(plan, destroy=True)
    with console.progress() as progress:
        if found.bucket:
            empty(cloud, found.bucket, progress)
    if found.resources:
        root.apply(plan, found.resources)
    delete_keys(cloud, found.keys)
    delete_logs(cloud, found.strategies)


def download(cloud: Cloud, bucket: str, folder: Path, progress: Progress) -> None:
    """Copy the journal to a folder that JOURNAL=folder:... can read. Raises CommandError if that fails."""
    # A key that ends in a slash and holds nothing is how S3's console draws a folder.
    listed = [(key, size) for prefix in JOURNAL for key, size in objects(cloud, bucket, prefix)]
    wanted = [(key, size) for key, size in listed if size or not key.endswith("/")]
    check_journal_keys(bucket, [key for key, _ in wanted])
    s3 = cloud.session.client("s3", config=CONFIG)
    for done, (key, size) in enumerate(wanted, start=1):
        file = folder / key
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not (file.is_file() and file.stat().st_size == size):
                with translate_errors(f"s3://{bucket}/{key}"):
                    s3.download_file(bucket, key, str(file))
        except OSError as error:
            raise CommandError(f"nothing was destroyed: KEEP_JOURNAL: {file}: {error.strerror}") from error
        progress("copying the journal", done, len(wanted))
    console.note(f"the copy of the journal is in {folder}: {format_count(len(wanted), 'file')}")


def check_journal_keys(bucket: str, keys: Sequence[str]) -> None:
    """Raise CommandError unless every key can become a file of its own inside the folder, on any file system."""
    for key in keys:
        if not JOURNAL_KEY.fullmatch(key):
            raise _unkeepable(bucket, key, "is not a name that the bot gives")
    folders = {str(parent).casefold() for key in keys for parent in PurePosixPath(key).parents}
    seen: set[str] = set()
    for key in keys:
        if key.casefold() in folders:
            raise _unkeepable(bucket, key, "would be a file and a folder at once")
        if key.casefold() in seen:
            raise _unkeepable(bucket, key, "differs from another key only in capital letters")
        seen.add(key.casefold())


def _unkeepable(bucket: str, key: str, why: str) -> CommandError:
    return CommandError(
        f"nothing was destroyed: KEEP_JOURNAL: s3://{bucket}/{one_line(key)} {why}. Look at this object, delete or "
        "rename it in S3's console, and run make destroy again; without KEEP_JOURNAL it is destroyed with the rest"
    )


def empty(cloud: Cloud, bucket: str, progress: Progress) -> None:
    """Delete all objects, all their versions, and all delete markers."""
    s3 = cloud.session.client("s3", config=CONFIG)
    with translate_errors(f"the bucket {bucket}"):
        versions: list[ObjectIdentifierTypeDef] = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        ]
        done = 0
        for some in batched(versions, 1_000, strict=False):
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": list(some), "Quiet": True})
            if errors := answer.get("Errors"):
                raise AwsError(f"s3://{bucket}/{one_line(errors[0]['Key'])} cannot be deleted: {errors[0]['Message']}")
            done += len(some)
            progress("emptying the bucket", done, len(versions))


def delete_keys(cloud: Cloud, names: Sequence[str]) -> None:
    """Delete the parameters that make secrets has written."""
    for some in batched(names, 10, strict=False):
        with translate_errors("the keys in SSM"):
            cloud.session.client("ssm", config=CONFIG).delete_parameters(Names=list(some))


def delete_logs(cloud: Cloud, strategies: Sequence[str]) -> None:
    """Delete log groups that a last run recreated after Terraform had deleted them."""
    for name in strategies:
        try:
            with translate_errors(f"the logs of {name}"):
                logs = cloud.session.client("logs", config=CONFIG)
                logs.delete_log_group(logGroupName=cloud.log_group(name))
        except MissingError:
            continue


def as_json(cloud: Cloud, found: Found) -> Mapping[str, object]:
    """Return what was destroyed, as JSON's types."""
    return {
        "project": cloud.project,
        "account": cloud.account,
        "region": cloud.region,
        "destroyed": found.anything,
        "strategies": list(found.strategies),
        "resources": found.resources,
        "bucket": found.bucket,
        "records": found.records,
        "keys": list(found.keys),
    }


def tell(root: Terraform, found: Found) -> None:
    """Print what was destroyed, and what stays."""
    cloud = root.cloud
    if not found.anything:
        console.OUT.print(
            f"Nothing of {cloud.project} exists in account {cloud.account}, region {cloud.region}.", markup=False
        )
    else:
        console.OUT.print(
            f"Destroyed: {format_count(found.resources, 'resource')}, "
            f"{format_count(found.records, 'record')}, {format_count(len(found.keys), 'key')}.",
            style="green",
            markup=False,
        )
        console.OUT.print("Positions at Alpaca are still held: see https://app.alpaca.markets", markup=False)
    if root.has_state_bucket:
        console.OUT.print(
            f"What make bootstrap created stays: the bucket {cloud.state_bucket} and GitHub's roles; "
            "docs/how-to/take-down.md says how to remove them.",
            style="dim",
            markup=False,
        )
