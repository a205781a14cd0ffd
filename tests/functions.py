"""Lambda functions in the stand-in for AWS, for tests that run none of their code."""

import io
import zipfile
from collections.abc import Mapping

import boto3


def zipped(code: str = "") -> bytes:
    """A function's zip with this code; the same code gives the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("lambda_function.py"), code)
    return file.getvalue()


def create_function(name: str, variables: Mapping[str, str], *, code: str = "", publish: bool = True) -> None:
    """A function with these variables; with `publish` as version 1."""
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    boto3.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=role,
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": zipped(code)},
        Environment={"Variables": variables},
        Publish=publish,
    )
