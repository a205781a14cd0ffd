"""Fixtures of the system tests."""

from pathlib import Path

import pytest

from scripts.rules.run import SEEDS
from tests.pages import browse, opened
from tests.warm.python import write_program

__all__ = ["browse", "opened"]


@pytest.fixture(scope="session")
def python_of_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python that has imported what make check-rule imports before a rule, which takes most of its time."""
    own = ("kinds", "report", "surroundings", "views", "watch")
    modules = ("numpy", "pandas", *(f"scripts.rules.{each}" for each in own))
    return write_program(tmp_path_factory.mktemp("python"), (*{*SEEDS.values()},), *modules)
