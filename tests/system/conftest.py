"""Fixtures of the system tests."""

from pathlib import Path

import pytest

from scripts.rules.run import SEEDS
from tests.pages import browse, opened
from tests.warm.python import write_program

__all__ = ["browse", "opened"]


@pytest.fixture(scope="session")
def python_of_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python that has imported what make check-rule imports before a rule, which takes most of its time.

    It has also imported what the first lines of the faulty rules in test_check_rule_faults.py do.
    """
    own = ("kinds", "report", "surroundings", "views", "watch")
    faulty = ("platform", "socket", "subprocess", "urllib.request", "uuid", "trader.prices.file")
    modules = ("numpy", "pandas", "pyarrow.pandas_compat", *(f"scripts.rules.{each}" for each in own), *faulty)
    return write_program(tmp_path_factory.mktemp("python"), (*{*SEEDS.values()},), *modules)
