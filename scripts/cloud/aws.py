"""Shared parts of the AWS commands: account and region, names of resources, and AWS's errors in plain words."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from scripts.cloud.usage import UsageError as UsageError
from scripts.console import CommandError
from trader.settings import REFERENCE

PROJECT = "prophet-trader"
PROJECT_NAME = r"(?!aws|ssm)[a-z][a-z0-9-]{1,19}"
"""The default of Terraform's variable `project`, and the pattern of its values."""

ALIAS = "live"
CONFIG = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 4})


class AwsError(CommandError):
    """AWS refused a request or could not be reached; the message says what failed and what to do."""


class DeniedError(AwsError):
    """The credentials do not allow the request."""


class MissingError(AwsError):
    """The resource does not exist in AWS."""


@dataclass(frozen=True)
class Cloud:
    """An account and a region, and the names of the project's resources there."""

    project: str
    account: str
    session: boto3.Session

    @property
    def region(self) -> str:
        """The region of all resources."""
        return self.session.region_name

    @property
    def artifact_bucket(self) -> str:
        """The name of the bucket for the zips and the journal, unless Terraform's `bucket_name` overrides it."""
        return f"{self.project}-{self.account}-{self.region}"

    @property
    def state_bucket(self) -> str:
        """The name of the bucket for Terraform's state, which may not exist."""
        return f"{self.project}-state-{self.account}-{self.region}"

    @cached_property
    def strategies(self) -> Sequence[str]:
        """The strategies deployed here, in alphabetical order, found by their halt switches."""
        prefix = f"/{self.project}/"
        with translate_errors("the deployed strategies"):
            pages = self.session.client("ssm", config=CONFIG).get_paginator("describe_parameters")
            found = pages.paginate(ParameterFilters=[{"Key": "Name", "Option": "BeginsWith", "Values": [prefix]}])
            names = [item["Name"] for page in found for item in page["Parameters"]]
        return sorted(name.removeprefix(prefix).removesuffix("/halt") for name in names if name.endswith("/halt"))

    def function(self, strategy: str) -> str:
        """Return the name that a strategy's function, role and rule share."""
        return f"{self.project}-{strategy}"

    def log_group(self, strategy: str) -> str:
        """Return the name of a strategy's log group."""
        return f"/aws/lambda/{self.function(strategy)}"

    def parameter(self, strategy: str, name: str) -> str:
        """Return the full name of a strategy's parameter: alpacauser, alpacapw or halt."""
        return f"/{self.project}/{strategy}/{name}"

    def environment(self, strategy: str) -> Mapping[str, str]:
        """Return the variables of a strategy's function that are no references to parameters.

        It is empty if the function does not exist, or if these credentials may not read it.
        """
        name = self.function(strategy)
        try:
            with translate_errors(name):
                client = self.session.client("lambda", config=CONFIG)
                answer = client.get_function_configuration(FunctionName=name, Qualifier=ALIAS)
        except AwsError:
            return {}
        found = answer.get("Environment", {}).get("Variables", {})
        return {variable: value for variable, value in found.items() if not value.startswith(REFERENCE)}

    def require_deployed(self, strategy: str) -> str:
        """Return the strategy if it is deployed here.

        Otherwise raises a UsageError that names the deployed ones, or an AwsError if there are none.
        """
        if strategy in self.strategies:
            return strategy
        if not self.strategies:
            raise AwsError(
                f"nothing of {self.project} is deployed in account {self.account}, region {self.region}; "
                "deploy with: make deploy (or choose another region with AWS_REGION=...)"
            )
        there = ", ".join(self.strategies)
        raise UsageError(f"STRATEGY={strategy} is not deployed in {self.region}; choose one of {there}")

    def choose_strategy(self, strategy: str | None) -> str:
        """Return STRATEGY, or the only deployed strategy. Raises UsageError if there are several, AwsError if none."""
        if strategy:
            return self.require_deployed(strategy)
        if len(self.strategies) > 1:
            raise UsageError(f"which strategy? Set STRATEGY to one of {', '.join(self.strategies)}")
        return self.require_deployed(self.strategies[0] if self.strategies else "")


def connect(env: Mapping[str, str] = os.environ) -> Cloud:
    """Connect to the account of the credentials.

    Raises AwsError if credentials or region are missing or refused, UsageError if PROJECT or AWS_REGION is invalid.
    """
    project = env.get("PROJECT") or PROJECT
    if not re.fullmatch(PROJECT_NAME, project):
        raise UsageError(
            f"PROJECT={project}: must be 2 to 20 lower-case letters, digits and hyphens, begin with a letter, and not "
            "begin with aws or ssm"
        )
    with translate_errors("your AWS account"):
        session = boto3.Session(region_name=env.get("AWS_REGION") or None)
        check_region(session)
        account = session.client("sts", config=CONFIG).get_caller_identity()["Account"]
    return Cloud(project=project, account=account, session=session)


def check_region(session: boto3.Session) -> None:
    """Raise AwsError if no region is set, UsageError if the region is unknown."""
    region = session.region_name
    if not region:
        raise AwsError("no AWS region is set; choose one, such as: export AWS_REGION=us-east-1")
    known = [
        name for part in session.get_available_partitions() for name in session.get_available_regions("lambda", part)
    ]
    if region not in known:
        near = difflib.get_close_matches(region, known, n=1, cutoff=0)
        raise UsageError(f"AWS_REGION={region} is not a region with Lambda; did you mean {near[0]}?")


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Raise AWS's errors about `what` as AwsErrors that say what to do."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise AwsError(
            "no AWS credentials found; log in (aws configure, or aws sso login), or set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except NoRegionError as error:
        raise AwsError("no AWS region is set; choose one, such as: export AWS_REGION=us-east-1") from error
    except (ProfileNotFound, ConfigNotFound) as error:
        raise AwsError(f"{error}; check AWS_PROFILE and ~/.aws/config") from error
    except EndpointConnectionError as error:
        raise AwsError(f"{what}: {error}; check the network connection and AWS_REGION") from error
    except ClientError as error:
        raise explain(what, error) from error
    except BotoCoreError as error:
        raise AwsError(f"{what}: {error}") from error


def explain(what: str, error: ClientError) -> AwsError:
    """Convert an AWS error response into an AwsError in plain words."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}:
        return AwsError("the AWS credentials have expired; log in again (such as: aws sso login)")
    if code in {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure"}:
        return AwsError(f"AWS does not accept these credentials ({code}); log in again, or check AWS_PROFILE")
    if code in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}:
        return DeniedError(f"{what}: these credentials do not allow {error.operation_name}: {message}")
    if code in {"ResourceNotFoundException", "ParameterNotFound", "NoSuchBucket", "NoSuchKey", "NoSuchEntity", "404"}:
        return MissingError(f"{what}: not found in AWS ({error.operation_name}): {message}")
    return AwsError(f"{what}: AWS answered {code} to {error.operation_name}: {message}")
