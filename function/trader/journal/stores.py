"""The stores in which a journal keeps its texts: a local folder, and an S3 bucket."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from trader.journal.base import JournalError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Folder:
    """A store in a local folder, which is created when first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, name: str, text: str) -> bool:
        """See Store. The file system refuses to create the same file twice."""
        try:
            with self._make_path(name).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        return True

    def write(self, name: str, text: str) -> None:
        """See Store. The text is written to a partial file, which is renamed when it is complete."""
        try:
            path = self._make_path(name)
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise self._unusable(error) from error

    def read(self, name: str) -> str | None:
        """See Store."""
        try:
            return (self._path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from error

    def names(self, prefix: str, after: str = "") -> list[str]:
        """See Store."""
        files = (self._path / prefix).rglob("*")
        return sorted(name for file in files if (name := str(file.relative_to(self._path))) > after and file.is_file())

    def _make_path(self, name: str) -> Path:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _unusable(self, error: Exception) -> JournalError:
        return JournalError(f"JOURNAL=folder:{self._path} cannot be used: {error}")


class Bucket:
    """A store under a prefix of an S3 bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._cached_client: S3Client | None = None

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
            return self.read(name) == text
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
            raise JournalError(
                f"{name} in JOURNAL=s3://{self._bucket}/{self._prefix} is not UTF-8 text: {error}"
            ) from error

    def names(self, prefix: str, after: str = "") -> list[str]:
        """See Store."""
        with self._translate_errors():
            paginator = self._client().get_paginator("list_objects_v2")
            pages = paginator.paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}", StartAfter=f"{self._prefix}{after}"
            )
            return sorted(item["Key"].removeprefix(self._prefix) for page in pages for item in page.get("Contents", []))

    def _put(self, name: str, text: str, **condition: Any) -> None:  # noqa: ANN401 boto3's own arguments
        with self._translate_errors():
            answer = self._client().put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}{name}",
                Body=text.encode("utf-8"),
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
        if self._cached_client is None:
            import boto3
            from botocore.config import Config

            config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})
            self._cached_client = boto3.client("s3", config=config)
        return self._cached_client


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
