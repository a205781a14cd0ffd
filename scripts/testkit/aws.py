"""moto's server in this process: AWS over real HTTP on loopback, reached through environment variables only."""

import atexit
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch
from urllib.request import Request, urlopen

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer

from scripts.testkit import insights, moto_gaps

OTHERS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE")
"""Variables of the user's own AWS setup, which must not affect boto3 here."""


def environment(port: int) -> dict[str, str]:
    """Return the variables that point boto3 and Terraform at the server on `port`, with keys that open nothing."""
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
    """Return the port of this process's server, which starts on the first call and stops when the process ends."""
    moto_gaps.fill()
    insights.install()
    # For each request, moto would list its own folder and try hundreds of patterns, and Werkzeug would write a line.
    DomainDispatcherApplication.get_backend_for_host = cache(DomainDispatcherApplication.get_backend_for_host)  # type: ignore[method-assign]
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    _, port = server.get_host_and_port()
    return port


def open_account() -> dict[str, str]:
    """Empty this process's only AWS account, and return the environment variables that point to it."""
    variables = environment(server_port())
    reset = Request(f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")  # noqa: S310 http, made above
    urlopen(reset).close()  # noqa: S310 as above
    return variables


def _client(service: str, **options: Any) -> Any:  # noqa: ANN401 boto3 makes its clients at run time
    """Do what boto3.client does, but make no client twice: each takes milliseconds, and a connection of its own."""
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    session: Any = boto3.DEFAULT_SESSION
    if options:
        return session.client(service, **options)
    return _made_once(session, service, tuple(item for item in os.environ.items() if item[0].startswith("AWS_")))


@cache
def _made_once(session: Any, service: str, _variables: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401 as above
    """Return a client that was made while the environment had these variables."""
    return session.client(service)


@contextmanager
def account() -> Iterator[dict[str, str]]:
    """Make boto3 in this process use an empty account inside the block; yield the account's variables."""
    variables = open_account()
    with patch.dict(os.environ, variables), patch.object(boto3, "client", _client):
        for name in OTHERS:
            os.environ.pop(name, None)
        yield variables


def client(service: str, variables: Mapping[str, str]) -> Any:  # noqa: ANN401 boto3 makes its clients at run time
    """Return a boto3 client for the account that `variables` point to, regardless of this process's environment."""
    make: Callable[..., Any] = boto3.session.Session().client
    return make(
        service,
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
