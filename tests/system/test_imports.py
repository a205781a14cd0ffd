"""What the commands import that a person runs most, and the function at its cold start: nothing more than they need.

Each package takes from milliseconds to seconds, on a laptop and, billed, on Lambda. One that is imported at the top of
a module is imported by every command; so a new one must be added here, or be imported where it is used.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripts import ROOT

TELL = """
import atexit, json, os, sys
def tell():
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    with open(os.environ["TOLD"], "w", encoding="utf-8") as file:
        json.dump([name for name, path in files.items() if "site-packages" in path], file)
atexit.register(tell)
"""
COMMAND = "sys.argv = ['prophet-trader', {name!r}]\nfrom scripts.__main__ import main\nmain()\n"

PANDAS = {"bottleneck", "cloudpickle", "dateutil", "numpy", "pandas", "pyarrow", "pytz", "six"}
"""pandas, and what it imports of what is installed."""

RETRIES = {"tenacity", "tornado"}
"""tenacity, which imports tornado where this is installed: here, but not in the layer."""

TERMINAL_AND_PAGE = {"click", "jinja2", "markupsafe", "rich"}

PACKAGES: Mapping[str, set[str]] = {
    "the cold start": PANDAS | RETRIES,
    "run": PANDAS | RETRIES | TERMINAL_AND_PAGE | {"filelock", "holidays", "prophet"},
    "backtest": PANDAS | TERMINAL_AND_PAGE | {"backtrader", "empyrical", "holidays"},
}
"""What each imports. The backtest has ENGINE=map."""

HEAVY = {
    *("holidays.countries", "holidays.financial", "numpy.f2py", "numpy.testing"),
    *("pandas.plotting._matplotlib", "scipy", "statsmodels"),
}
"""Modules of these packages that take long, and that nothing here needs."""


@cache
def imported(name: str) -> frozenset[str]:
    """Return the modules of packages that a command has imported in its own process when it ends."""
    script = "import lambda_function\n" if name == "the cold start" else COMMAND.format(name=name)
    with TemporaryDirectory() as folder:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "function"), str(ROOT)]),
            "TOLD": f"{folder}/told.json",
            **({"ENGINE": "map", "START": "2022-12-01"} if name == "backtest" else {}),
        }
        command = [sys.executable, "-c", f"{TELL}{script}"]
        subprocess.run(command, check=True, cwd=folder, env=env, capture_output=True, text=True)
        return frozenset(json.loads(Path(env["TOLD"]).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PACKAGES)
def test_it_imports_these_packages_and_no_other(name: str) -> None:
    packages = {module.partition(".")[0] for module in imported(name)}
    assert {each for each in packages if not each.startswith("_")} == PACKAGES[name]


@pytest.mark.parametrize("name", PACKAGES)
def test_it_imports_no_module_that_takes_long_for_nothing(name: str) -> None:
    assert imported(name) & HEAVY == set()
