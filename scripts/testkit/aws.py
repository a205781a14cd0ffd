"""moto's server in the tests' own process: AWS over real HTTP on loopback, reached through the environment alone."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from scripts.testkit import insights, moto_gaps


def environment(port: int) -> dict[str, str]:
    """What makes boto3 (and Terraform) talk to the server on `port`, with keys that open nothing."""
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
    """The port of this process's server, started when first asked for. It is stopped when the process ends."""
    moto_gaps.fill()
    insights.install()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    _, port = server.get_host_and_port()
    return port


@contextmanager
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An empty AWS account for as long as the block lasts; boto3 in this process uses it."""
    variables = environment(server_port())
    urlopen(Request(f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")).close()  # of an earlier test
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield variables


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An empty AWS account; boto3 in this process uses it."""
    with account(monkeypatch) as variables:
        yield variables
