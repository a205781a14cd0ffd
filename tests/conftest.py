"""Fixtures for all tests."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from scripts.testkit.aws import account
from trader.settings import variables

settings.register_profile("tests", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("fuzz", deadline=None, print_blob=True)  # make fuzz: other inputs each time
settings.load_profile("tests")


SLOWEST = (
    *(
        "test_planted_bugs.py",
        "test_terraform.py",
        "test_layer.py",
        "test_commands.py",
        "test_deploy_commands.py",
        "test_backtest.py",
    ),
    *("test_terraform_rules.py", "test_sweep.py", "test_terraform_bootstrap.py", "test_engines.py"),
)
"""Files that take half a minute and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no worker is left with one when the others are done."""
    items.sort(key=lambda item: SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are processors: a good part of the time is waiting, for Terraform and for servers."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture
def aws() -> Iterator[dict[str, str]]:
    """An empty AWS account; boto3 in this process uses it."""
    with account() as variables:
        yield variables


@pytest.fixture(autouse=True)
def _log_of_its_own() -> None:
    """A command that was called in this process has sent the log to its own place, and a test would see none of it."""
    log = logging.getLogger("trader")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test begins from the defaults, whatever the person who runs it has set; no key of theirs is in reach."""
    for name in [*variables(), "APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "APCA_API_TOKEN"]:
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            monkeypatch.delenv(name)
