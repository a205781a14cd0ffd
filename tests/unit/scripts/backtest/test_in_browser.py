"""The backtest in a browser: it runs without what a browser does not have."""

import subprocess
import sys

import pytest

from scripts import ROOT

LACKING = (
    "alpaca_trade_api",
    "boto3",
    "filelock",
    "multiprocessing.pool",
    "prophet",
    "requests",
    "scipy",
    "tenacity",
    "yfinance",
)
"""Packages that the page does not serve, or that a browser cannot run."""

IMPORT = f"""
import sys
sys.modules.update(dict.fromkeys({LACKING}))  # None: an import fails
from scripts.backtest import in_browser
in_browser.do_without_scipy()
in_browser.do_without_scipy()  # as in the second run of a page
from scripts.backtest import report, statistics
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "function:.", "MPLBACKEND": "agg"},
        cwd=ROOT,
    )


def test_its_imports_need_no_package_that_a_browser_lacks() -> None:
    done = run(IMPORT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("call", ["optimize.minimize(1)", "stats.linregress([1])"])
def test_a_function_of_scipy_is_an_error_instead_of_a_wrong_figure(call: str) -> None:
    done = run(f"{IMPORT}import scipy\nscipy.{call}")
    assert "is not part of this page" in done.stderr


def test_where_scipy_is_installed_it_is_used() -> None:
    done = run(
        "from scripts.backtest import in_browser\nin_browser.do_without_scipy()\nimport scipy\nprint(scipy.__version__)"
    )
    assert done.stdout.count(".") == 2
