"""A deployment cut off while updating a function: AWS lacks part of the update, and Terraform does not notice."""

import base64
import hashlib
from typing import Any

import boto3
import pytest

from scripts.cloud.aws import connect
from scripts.cloud.plan import find_unfinished
from tests.aws_setup import zip_code

FUNCTION = "prophet-trader-trend"
ADDRESS = 'module.function["trend"].aws_lambda_function.this'
CODE = 'module.function["trend"].aws_s3_object.code'


def plan(code: str, *, action: str = "no-op") -> dict[str, Any]:
    """Return Terraform's plan for a function whose state has this code."""
    sha256 = base64.b64encode(hashlib.sha256(zip_code(code)).digest()).decode()
    after = {"function_name": FUNCTION, "source_code_hash": sha256}
    change = {"actions": [action], "before": after, "after": after}
    return {
        "resource_changes": [{"address": ADDRESS, "mode": "managed", "type": "aws_lambda_function", "change": change}]
    }


@pytest.fixture(autouse=True)
def _first_version(aws: dict[str, str]) -> None:
    """Create version 1 of the function, with the code `old`."""
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    boto3.client("lambda").create_function(
        FunctionName=FUNCTION,
        Runtime="python3.13",
        Role=role,
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": zip_code("old")},
        Environment={"Variables": {"MODE": "paper"}},
        Publish=True,
    )


def test_a_function_that_matches_the_state_is_left_alone() -> None:
    assert find_unfinished(connect(), plan("old")) == []


def test_code_that_never_reached_aws_is_sent_again() -> None:
    assert find_unfinished(connect(), plan("new")) == [CODE]


def test_code_that_was_never_published_is_published() -> None:
    boto3.client("lambda").update_function_code(FunctionName=FUNCTION, ZipFile=zip_code("new"))
    assert find_unfinished(connect(), plan("new")) == [CODE]


def test_settings_that_were_never_published_are_published() -> None:
    boto3.client("lambda").update_function_configuration(
        FunctionName=FUNCTION, Environment={"Variables": {"MODE": "dry-run"}}
    )
    assert find_unfinished(connect(), plan("old")) == [CODE]


def test_a_change_that_terraform_sees_is_left_to_terraform() -> None:
    assert find_unfinished(connect(), plan("new", action="update")) == []
