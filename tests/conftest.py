"""Fixtures for all tests."""

import gc
import logging
import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from typing import Any, override

import botocore.session
import pytest
from botocore.hooks import EventAliaser
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.warm.python import python_of_workers
from trader.settings import variables

settings.register_profile("tests", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("fuzz", deadline=None, print_blob=True)  # make fuzz draws new inputs each time
settings.load_profile("tests")

# Otherwise each worker, and each command that a test starts, would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# readline, which pytest has imported, sets it for child processes, and with it copies import ours anew (tests/warm).
if "LINES" not in os.environ:
    os.unsetenv("LINES")

# Each session of boto3 would read the descriptions of AWS's services again, a tenth of a second for each client.
botocore.session.create_loader = cache(botocore.session.create_loader)


def _share_names(emitter: EventAliaser, *args: Any, _init: Callable[..., None] = EventAliaser.__init__) -> None:
    """Let all sessions know the names of events that one has worked out, hundreds for each of them."""
    _init(emitter, *args)
    vars(emitter)["_alias_name_cache"] = EVENTS


EVENTS: dict[str, str] = {}
EventAliaser.__init__ = _share_names  # type: ignore[assignment, method-assign]


SPLIT = ("test_planted_bugs.py", "test_check_rule_faults.py")
"""Files whose tests share nothing that takes long, and mostly wait."""

SLOWEST = (
    *("test_pages.py", "test_terraform.py", "test_notebook.py", "test_terraform_rules.py", "test_commands.py"),
    *("test_backtest.py", "test_plain_terraform.py", "test_deploy_commands.py", "test_check_rule.py"),
    *("test_lookahead.py", "test_secrets.py", "test_sweep.py", "test_model.py", "test_fuzz.py", "test_engines.py"),
    *("test_alpaca_broker.py", "test_example_rules.py", "test_run.py", "test_layer.py", "test_cloud_secrets.py"),
    *("test_ohlcv_rule.py", "test_backtest_page.py", "test_cloud_logs.py", "test_alarms.py", "test_recovery.py"),
    *("test_terraform_bootstrap.py", "test_site.py", "test_backtest_in_browser.py", "test_table_round_trip.py"),
    *("test_wheel.py", "test_rhythm.py", "test_build.py", "test_worst_day.py", "test_equity.py"),
    *("test_build_chain.py", "test_pause.py", "test_terraform_halt.py", "test_consoles.py"),
    *SPLIT,
)
"""Files that take ten seconds or more, the slowest first; the tests of SPLIT fill what is left at the end."""

NOT_FAST = (
    *("test_model.py", "test_forecasts.py", "test_preflight.py", "test_embedded_restated.py", "test_embedded.py"),
    "test_table_round_trip.py",
)
"""Files of unit tests that take five seconds or more; all others are marked as fast."""


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast tests, and run the slowest files first, so that no worker is left busy with one at the end."""
    places = {name: place for place, name in enumerate(SLOWEST)}
    for item in items:
        folder, name = split_path(item)
        if "unit" in folder.split("/") and name not in NOT_FAST:
            item.add_marker(pytest.mark.fast)
    items.sort(key=lambda item: places.get(split_path(item)[1], len(SLOWEST)))


def split_path(item: pytest.Item) -> tuple[str, str]:
    """Return the folder and the name of a test's file: from its id, as thousands of paths would take half a second."""
    folder, _, name = item.nodeid.partition("::")[0].rpartition("/")
    return folder, name


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what the imports make, half a million objects, while they make it and afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """The tests of a file run in one worker, because they share fixtures, except those of SPLIT."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return nodeid if file.endswith(SPLIT) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    """Return the scheduler in place of xdist's own for files."""
    return FileScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return two more workers than processors for what waits for Terraform and servers, which fast tests do not."""
    return (os.cpu_count() or 1) + (0 if config.option.markexpr == "fast" else 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Let the workers be copies of one Python that has imported the packages, each of which would take seconds to."""
    if len(specs) > 1 and sys.platform == "linux":
        program = shlex.join(python_of_workers())
        for spec in specs:
            if spec.popen and not spec.python:
                spec.python = program


@pytest.fixture
def aws() -> Iterator[dict[str, str]]:
    """Provide an empty AWS account that boto3 in this process uses."""
    from scripts.testkit.aws import account  # takes seconds, which fast tests need not wait

    with account() as variables:
        yield variables


@pytest.fixture(autouse=True)
def _log_of_its_own() -> None:
    """Reset the log: a command called in this process may have redirected it, so that a test would see no messages."""
    log = logging.getLogger("trader")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings, API keys and proxies of whoever runs the tests; every test starts from the defaults."""
    for name in [*variables(), "APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "APCA_API_TOKEN"]:
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            monkeypatch.delenv(name)
