"""The stores in which a journal keeps its texts, without secrets: a local folder, and an S3 bucket."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from trader.journal.base import DamagedError, JournalError
from trader.logs import redact

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


PARTIAL = ".partial"
"""The ending of a file that is being written. One that is left was cut off, and is never read."""


RECORD = ".json"

MAX_CONNECTIONS = 32
"""How many connections to S3 are kept open. More threads than these would open one for each request."""


class Folder:
    """A store in a local folder, which is created when first needed. `setting` names the setting that chose it."""

    def __init__(self, path: Path, setting: str = "") -> None:
        self._path = path
        self._setting = setting or f"JOURNAL=folder:{path}"

    def create(self, name: str, text: str) -> bool:
        """See Store. The name is a hard link to a complete file; the file system refuses a second one."""
        try:
            with self._partial_file(name, text) as (partial, path):
                os.link(partial, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        return True

    def write(self, name: str, text: str) -> None:
        """See Store. A complete file gets the name, so that a full disk or a power failure leaves the previous text."""
        try:
            with self._partial_file(name, text) as (partial, path):
                partial.replace(path)
        except OSError as error:
            raise self._unusable(error) from error

    def read(self, name: str) -> str | None:
        """See Store."""
        try:
            return (self._path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise DamagedError(f"{name} in {self._setting} is not UTF-8 text: {error}") from error
        except OSError as error:
            raise self._unusable(error) from error

    def remove(self, name: str) -> None:
        """See Store."""
        path = self._path / name
        try:
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            raise self._unusable(error) from error

    def names(self, prefix: str, after: str = "") -> list[str]:
        """See Store. A folder that cannot be read is an error, because the orders of its runs would go unnoticed."""
        found: list[str] = []
        try:
            for folder, _, files in os.walk(self._path / prefix, onerror=_raise_unless_missing):
                paths = [path for file in files if not _is_empty_record(path := Path(folder, file))]
                found += (str(path.relative_to(self._path)) for path in paths)
        except OSError as error:
            raise self._unusable(error) from error
        return sorted(name for name in found if name > after and not name.endswith(PARTIAL))

    @contextmanager
    def _partial_file(self, name: str, text: str) -> Iterator[tuple[Path, Path]]:
        """Write a text to the disk under a temporary name. Yield it and the path that the caller gives it instead."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{uuid4().hex}{PARTIAL}")
        try:
            with partial.open("x", encoding="utf-8") as file:
                file.write(redact(text))
                file.flush()
                os.fsync(file.fileno())
            yield partial, path
            _sync_folder(path.parent)
        finally:
            with suppress(OSError):  # the error that stopped the write may also stop this
                partial.unlink(missing_ok=True)

    def _unusable(self, error: Exception) -> JournalError:
        return JournalError(f"{self._setting} cannot be used: {error}")


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync_folder(folder: Path) -> None:
    """Write a folder's new names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Bucket:
    """A store under a prefix of an S3 bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def create(self, name: str, text: str) -> bool:
        """See Store. S3 refuses the second of two conditional writes.

        boto3 retries a write whose answer was lost, and S3 then refuses it because the first attempt succeeded. So a
        refusal is checked against the stored text. On a conflict, another write is under way, and this one is retried.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(_ConflictError),
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=0.1, max=1),
            reraise=True,
        )
        try:
            retrying(self._put, name, text, IfNoneMatch="*")
        except _TakenError:
            return self.read(name) == redact(text)
        return True

    def write(self, name: str, text: str) -> None:
        """See Store."""
        self._put(name, text)

    def read(self, name: str) -> str | None:
        """See Store."""
        try:
            with self._translate_errors():
                body = self._client().get_object(Bucket=self._bucket, Key=f"{self._prefix}{name}")["Body"]
                return body.read().decode("utf-8")
        except _MissingError:
            return None
        except UnicodeDecodeError as error:
            raise DamagedError(
                f"{name} in JOURNAL=s3://{self._bucket}/{self._prefix} is not UTF-8 text: {error}"
            ) from error

    def remove(self, name: str) -> None:
        """See Store. A request is sent again if its answer was lost, and would then remove what came after."""
        raise JournalError(f"JOURNAL=s3://{self._bucket}/{self._prefix} keeps everything: {name} is not removed")

    def names(self, prefix: str, after: str = "") -> list[str]:
        """See Store."""
        with self._translate_errors():
            paginator = self._client().get_paginator("list_objects_v2")
            pages = paginator.paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}", StartAfter=f"{self._prefix}{after}"
            )
            found = (item for page in pages for item in page.get("Contents", []))
            items = [item for item in found if item["Size"] or not item["Key"].endswith(RECORD)]
            return sorted(item["Key"].removeprefix(self._prefix) for item in items)

    def _put(self, name: str, text: str, **condition: Any) -> None:  # noqa: ANN401 boto3's own arguments
        with self._translate_errors():
            answer = self._client().put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}{name}",
                Body=redact(text).encode("utf-8"),
                ContentType="application/json",
                **condition,
            )
        if "ETag" not in answer:  # S3 always returns it: an answer without it is not from S3, whatever its status
            raise JournalError(f"JOURNAL=s3://{self._bucket}/{self._prefix} cannot be used: {name} was not confirmed")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise AWS's errors as JournalErrors."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            kind = _ERRORS.get(code, JournalError)
            raise kind(f"JOURNAL=s3://{self._bucket}/{self._prefix} cannot be used: {error}") from error

    def _client(self) -> "S3Client":
        return _make_client(frozenset((name, text) for name, text in os.environ.items() if name.startswith("AWS_")))


@cache
def _make_client(_variables: frozenset[tuple[str, str]]) -> "S3Client":
    """Return the client for these variables of AWS. Later runs of a process use it again, with its connections."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=3,
        read_timeout=10,
        retries={"total_max_attempts": 3, "mode": "standard"},
        max_pool_connections=MAX_CONNECTIONS,
    )
    return boto3.client("s3", config=config)


class _TakenError(JournalError):
    """A conditional write found that its name was taken."""


class _ConflictError(JournalError):
    """Two conditional writes collided; S3 asks for a retry."""


class _MissingError(JournalError):
    """The name does not exist."""


_ERRORS = {
    "PreconditionFailed": _TakenError,
    "412": _TakenError,  # without a body, the status is the code
    "ConditionalRequestConflict": _ConflictError,
    "409": _ConflictError,
    "NoSuchKey": _MissingError,
}


def _is_empty_record(path: Path) -> bool:
    return path.suffix == RECORD and not path.stat().st_size
