"""empyrical without SciPy: it is imported only when one of its functions is called."""

import subprocess

import pytest

from scripts import ROOT
from tests.warm.python import python_after

IMPORT = "import sys\nfrom scripts.backtest.ratios import empyrical\n"
CALL = "empyrical.stability_of_timeseries([0.01, 0.02, -0.01, 0.03])"


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*python_after("pandas", "requests"), "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "function:."},
        cwd=ROOT,
    )


def test_scipy_and_yfinance_are_not_imported() -> None:
    done = run(f"{IMPORT}print(*{{'scipy', 'yfinance'}} & set(sys.modules))")
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_figure_that_needs_scipy_is_that_of_empyrical_alone() -> None:
    ours, theirs = run(f"{IMPORT}print({CALL})"), run(f"import empyrical\nprint({CALL})")
    assert ours.stdout == theirs.stdout != ""


def test_a_module_that_is_imported_already_stays_the_same() -> None:
    done = run(f"import scipy.stats as before\n{IMPORT}import scipy.stats as after\nprint(before is after)")
    assert done.stdout == "True\n"


@pytest.mark.parametrize("name", ["scipy", "scipy.stats"])
def test_where_scipy_is_not_installed_such_a_figure_is_an_error(name: str) -> None:
    done = run(f"{IMPORT}sys.modules[{name!r}] = None  # its import fails\n{CALL}")
    assert "ModuleNotFoundError" in done.stderr
