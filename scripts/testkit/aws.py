"""moto's server in this process: AWS over real HTTP on loopback, reached through the environment alone."""

import atexit
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch
from urllib.request import Request, urlopen

import boto3
from moto.server import ThreadedMotoServer

from scripts.testkit import insights, moto_gaps

OTHERS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE")
"""Variables that would lead boto3 to an account of the user's, or keep it from a server without TLS."""


def environment(port: int) -> dict[str, str]:
    """Name what makes boto3 (and Terraform) talk to the server on `port`, with keys that open nothing."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@cache
def server_port() -> int:
    """Give the port of this process's server, started when first asked for and stopped when the process ends."""
    moto_gaps.fill()
    insights.install()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    _, port = server.get_host_and_port()
    return port


def open_account() -> dict[str, str]:
    """Empty this process's one account, and give the environment that leads to it."""
    variables = environment(server_port())
    reset = Request(f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")  # noqa: S310 http, made above
    urlopen(reset).close()  # noqa: S310 as above
    return variables


@contextmanager
def account() -> Iterator[dict[str, str]]:
    """Hold an empty account for as long as the block lasts; boto3 in this process uses it."""
    variables = open_account()
    with patch.dict(os.environ, variables):
        for name in OTHERS:
            os.environ.pop(name, None)
        yield variables


def client(service: str, variables: Mapping[str, str]) -> Any:  # noqa: ANN401 boto3 makes its clients at run time
    """Make a client for the account that `variables` lead to, whatever this process's own environment says."""
    make: Callable[..., Any] = boto3.session.Session().client
    return make(
        service,
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
