"""AWS Systems Manager parameters: the secrets behind ssm: references, and the halt switch."""

from collections.abc import Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

MAX_PER_CALL = 10  # GetParameters takes no more


class ParametersError(Exception):
    """SSM answered, but not what was asked for."""


class Parameters:
    """Parameters by name, decrypted, each fetched once for as long as the process lives."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def fetch(self, names: Sequence[str]) -> Mapping[str, str]:
        """The values of those that exist and may be read. Raises botocore's errors when AWS cannot be asked."""
        unknown = [name for name in names if name not in self._known]
        for batch in batched(unknown, MAX_PER_CALL, strict=False):
            self._known |= self._read(batch)
        return {name: self._known[name] for name in names if name in self._known}

    def forget(self) -> None:
        """Fetch everything again when next asked: the broker has refused what is known."""
        self._known.clear()

    def read_halt_reason(self, name: str) -> str:
        """Why trading is halted, or an empty text. Read afresh each time; only a clear `false` lets the run go on."""
        if not name:
            return ""
        try:
            value = self._read([name]).get(name)
        except Exception as error:  # whatever the reason: a switch that cannot be read is a halt
            return f"the halt switch {name} cannot be read: {type(error).__name__}: {error}"
        if value is None:
            return f"the halt switch {name} does not exist or may not be read"
        if value.strip().lower() == "false":
            return ""
        said = "true" if value.strip().lower() == "true" else "neither true nor false"  # by mistake it may be a secret
        return f"the halt switch {name} is {said}; set it to false to go on"

    def _read(self, names: Sequence[str]) -> dict[str, str]:
        answer = _client().get_parameters(Names=list(names), WithDecryption=True)
        if "Parameters" not in answer:
            raise ParametersError(f"SSM answered without parameters when asked for {', '.join(names)}")
        return {parameter["Name"]: parameter["Value"] for parameter in answer["Parameters"]}


def _client() -> "SSMClient":
    import boto3  # a laptop without AWS never pays for it
    from botocore.config import Config

    return boto3.client("ssm", config=Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 3}))
