"""Parameters in AWS Systems Manager: the secrets behind ssm: references, and the halt switch."""

import threading
from collections.abc import Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

MAX_PER_CALL = 10  # the limit of GetParameters


class ParametersError(Exception):
    """SSM gave an unexpected answer."""


class Parameters:
    """Decrypted parameters by name; each is fetched once per process, and one that is missing is asked for once, too.

    The halt switch is read before each order. Threads may share it.
    """

    def __init__(self) -> None:
        self._making_client = threading.Lock()
        self._known: dict[str, str | None] = {}  # None: it does not exist, or may not be read
        self._cached_client: SSMClient | None = None

    def fetch(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the values of parameters that exist and may be read. Raises botocore's errors if the call fails."""
        unknown = [name for name in names if name not in self._known]
        for batch in batched(unknown, MAX_PER_CALL, strict=False):
            self._known |= dict.fromkeys(batch) | self._read(batch)
        return {name: value for name in names if (value := self._known.get(name)) is not None}

    def forget(self) -> None:
        """Forget all values and what is missing, so that the next call asks again; used where one has ended a run."""
        self._known.clear()
        with self._making_client:  # another thread may be about to return it
            self._cached_client = None

    def read_halt_reason(self, name: str) -> str:
        """Return why trading is halted, or an empty string.

        The switch is read again at every call; the run continues only if its value is `false`.
        """
        if not name:
            return ""
        try:
            value = self._read([name]).get(name)
        except Exception as error:  # a switch that cannot be read halts trading, whatever the reason
            return f"the halt switch {name} cannot be read: {type(error).__name__}: {error}"
        if value is None:
            return f"the halt switch {name} does not exist or may not be read"
        if value.strip().lower() == "false":
            return ""
        said = "true" if value.strip().lower() == "true" else "neither true nor false"  # the value may be a secret
        return f"the halt switch {name} is {said}; make resume sets it to false"

    def _read(self, names: Sequence[str]) -> dict[str, str]:
        answer = self._client().get_parameters(Names=list(names), WithDecryption=True)
        if "Parameters" not in answer:
            raise ParametersError(f"SSM returned no parameters for {', '.join(names)}")
        return {parameter["Name"]: parameter["Value"] for parameter in answer["Parameters"]}

    def _client(self) -> "SSMClient":
        with self._making_client:
            if self._cached_client is None:
                import boto3  # imported here because a run without AWS does not need it
                from botocore.config import Config

                config = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 3})
                self._cached_client = boto3.client("ssm", config=config)
            return self._cached_client
