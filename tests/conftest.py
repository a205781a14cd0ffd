"""Fixtures for all tests."""

import os

import pytest
from hypothesis import settings

from tests.aws import aws
from trader.settings import variables

__all__ = ["aws"]

settings.register_profile("tests", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a good part of the time is waiting, for Terraform and for servers."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test begins from the defaults, whatever the person who runs it has set; no key of theirs is in reach."""
    for name in [*variables(), "APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "APCA_API_TOKEN"]:
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            monkeypatch.delenv(name)
