"""The backtest in a browser: it runs without what a browser does not have."""

import subprocess
import sys

from scripts import ROOT

LACKING = (
    "alpaca_trade_api",
    "boto3",
    "filelock",
    "matplotlib",
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
from scripts.backtest import in_browser, report, statistics
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "function:."},
        cwd=ROOT,
    )


def test_its_imports_need_no_package_that_a_browser_lacks() -> None:
    done = run(IMPORT)
    assert (done.returncode, done.stderr) == (0, "")
